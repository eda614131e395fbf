"""`--format` of every list: table, json (one document a line), a Go template, or a table of one."""
from __future__ import annotations

from mydocker.base.errors import InvalidRequest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from .output import Output


def write_items(
    output: Output, form: str, columns: dict[str, str], items: Iterable[dict[str, Any]], headers: dict[str, str],
) -> None:
    """Write items (dicts by Docker's field names) as `form` says.

    `columns` is the plain table: header -> field, whose values are text; `headers` gives the header of a field in
    `table {{.Field}}`, for fields that are not spelled in upper case there. Raises InvalidRequest.
    """
    if form in ("", "table"):
        output.table(list(columns), ([item[field] for field in columns.values()] for item in items))
    elif form == "json":
        for item in items:
            output.json_line({key: value for key, value in item.items() if not callable(value)})
    elif "{{" in form:
        _write_template(output, form, items, headers)
    else:
        raise InvalidRequest(f"format: {form!r} is not known", hint="use table, json, or such as '{{.ID}}'")


def _write_template(
    output: Output, form: str, items: Iterable[dict[str, Any]], headers: dict[str, str],
) -> None:
    from .gotemplate import parse  # cold

    is_table = form.startswith(("table ", "table\\t"))
    template = parse(form[6:] if is_table else form)
    if not is_table:
        for item in items:
            output.line(template.render(item))
        return
    from .output import format_table, one_line  # cold

    items = list(items)
    fields = {field for item in items for field in item} | set(headers)
    named = {field: headers.get(field, field.upper()) for field in fields}
    named_with_calls = {field: (_call_as_header if field == "Label" else header) for field, header in named.items()}
    head = template.render(named_with_calls).split("\t")
    rows = [[one_line(cell) for cell in template.render(item).split("\t")] for item in items]
    width = max(len(row) for row in [head, *rows])
    for line in format_table(head + [""] * (width - len(head)), (row + [""] * (width - len(row)) for row in rows)):
        output.line(line)


def _call_as_header(name: str) -> str:
    """Return the header of `{{.Label "a.b.c"}}`: C, as docker has it."""
    return name.rpartition(".")[2].upper()


def write_document(output: Output, form: str, document: Any) -> None:
    """Write one document as indented JSON or by a Go template. Raises InvalidRequest."""
    if form in ("", "json"):
        output.json(document)
    elif "{{" in form:
        from .gotemplate import parse  # cold

        output.line(parse(form).render(document))
    else:
        raise InvalidRequest(f"format: {form!r} is not known", hint="use json, or a Go template such as '{{.ID}}'")
