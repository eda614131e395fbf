"""What templates of gotemplate.py work on: looking up fields, printing values as Go does, and the functions.

Values are plain Python ones (dict, list, str, int, float, bool, None) and, for docker's `{{.Label "key"}}`, callables.
Errors are InvalidRequest. Source: https://pkg.go.dev/text/template and https://pkg.go.dev/fmt
"""
from __future__ import annotations

from mydocker.base import jsontext
from mydocker.base.errors import InvalidRequest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_MISSING = object()


def template_error(message: str) -> InvalidRequest:
    """Return the error for a wrong template or a template that does not fit its data."""
    return InvalidRequest(f"format: {message}", hint="formats are Go templates such as '{{.ID}} {{json .Labels}}'")


def find_field(value: Any, name: str) -> Any:
    """Return a field of a dict, by its exact name or without regard to case and underscores. Raises InvalidRequest."""
    if isinstance(value, dict):
        found = value.get(name, _MISSING)
        if found is not _MISSING:
            return found
        plain = _plain(name)
        for key, candidate in value.items():
            if isinstance(key, str) and _plain(key) == plain:
                return candidate
        raise template_error(f"no field .{name} here; there are {', '.join(sorted(map(str, value))) or 'none'}")
    if value is None:
        raise template_error(f"no field .{name}: the value before it is empty")
    raise template_error(f"no field .{name} in {format_value(value)!r}")


def _plain(name: str) -> str:
    return name.replace("_", "").replace("-", "").lower()


def is_true(value: Any) -> bool:
    """Tell whether Go's `if` takes a value for true (not zero, not empty)."""
    return bool(value)


def format_value(value: Any) -> str:
    """Return a value as Go's `%v` prints it."""
    if isinstance(value, str):
        return value
    if value is None:
        return "<no value>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return f"map[{' '.join(f'{key}:{format_value(value[key])}' for key in sorted(value, key=str))}]"
    if isinstance(value, (list, tuple)):
        return f"[{' '.join(map(format_value, value))}]"
    if callable(value):
        return format_value(value())
    return f"{value:g}" if isinstance(value, float) else str(value)


def walk_pairs(value: Any) -> list[tuple[Any, Any]]:
    """Return the (key or index, value) pairs that Go's `range` walks through. Raises InvalidRequest."""
    if value is None:
        return []
    if isinstance(value, dict):
        return sorted(value.items(), key=lambda pair: str(pair[0]))
    if isinstance(value, (list, tuple)):
        return list(enumerate(value))
    if isinstance(value, int) and not isinstance(value, bool):
        return [(number, number) for number in range(value)]
    raise template_error(f"range cannot walk through {format_value(value)!r}")


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if isinstance(value, dict):
            value = value.get(key, "")  # Go's zero value of a missing key
        elif isinstance(value, (list, tuple, str)) and isinstance(key, int) and 0 <= key < len(value):
            value = value[key]
        elif isinstance(value, (list, tuple, str)):
            raise template_error(f"index {key!r} is out of range")
        else:
            raise template_error(f"index: {format_value(value)!r} is no list or map")
    return value


def _json(value: Any) -> str:
    return jsontext.dumps(value() if callable(value) else value)


def _join(values: Any, separator: str = "") -> str:
    if not isinstance(values, (list, tuple)):
        raise template_error(f"join: {format_value(values)!r} is no list")
    return separator.join(map(format_value, values))


def _printf(text: str, *values: Any) -> str:
    """Format as Go's fmt.Sprintf does: flags `-+0# `, width, precision, verbs v s d q t x X f e g c %."""
    out = []
    rest = list(values)
    at = 0
    while at < len(text):
        if text[at] != "%":
            out.append(text[at])
            at += 1
            continue
        end = at + 1
        while end < len(text) and text[end] in "-+# 0123456789.":
            end += 1
        verb = text[end:end + 1]
        if verb == "%":
            out.append("%")
        elif not rest:
            out.append(f"%!{verb}(MISSING)")
        else:
            out.append(_printf_one(text[at + 1:end], verb, rest.pop(0)))
        at = end + 1
    if rest:
        out.append(f"%!(EXTRA {', '.join(map(format_value, rest))})")
    return "".join(out)


def _printf_one(flags: str, verb: str, value: Any) -> str:
    if verb in ("d", "f", "e", "g", "x", "X", "c", "o", "E", "G") and isinstance(value, (int, float)):
        return f"%{flags}{verb}" % (int(value) if verb in "dxXco" else value)
    if verb in ("x", "X") and isinstance(value, str):
        return value.encode("utf-8", "surrogateescape").hex() if verb == "x" else value.encode().hex().upper()
    if verb == "q":
        return f"%{flags}s" % jsontext.dumps(format_value(value))
    if verb in ("s", "v", "t"):
        return f"%{flags}s" % format_value(value)
    return f"%!{verb}({format_value(value)})"


def _compare(operation: Callable[[Any, Any], bool]) -> Callable[..., bool]:

    def compare(left: Any, *rights: Any) -> bool:
        return any(operation(left, right) for right in rights)
    return compare


def _slice(value: Any, *bounds: int) -> Any:
    return value[slice(*bounds)] if len(bounds) != 1 else value[bounds[0]:]


def _and(first: Any, *rest: Any) -> Any:
    for value in rest:
        if not is_true(first):
            break
        first = value
    return first


def _or(first: Any, *rest: Any) -> Any:
    for value in rest:
        if is_true(first):
            break
        first = value
    return first


def _truncate(text: str, width: int) -> str:
    return text[:width]


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "json": _json,
    "index": _index,
    "slice": _slice,
    "len": len,
    "join": _join,
    "split": lambda text, separator: text.split(separator) if separator else list(text),
    "upper": lambda text: format_value(text).upper(),
    "lower": lambda text: format_value(text).lower(),
    "title": lambda text: format_value(text).title(),
    "truncate": _truncate,
    "pad": lambda text, before, after: " " * before + text + " " * after if text else text,
    "print": lambda *values: "".join(map(format_value, values)),
    "println": lambda *values: " ".join(map(format_value, values)) + "\n",
    "printf": _printf,
    "eq": _compare(lambda left, right: left == right),
    "ne": lambda left, right: left != right,
    "lt": lambda left, right: left < right,
    "le": lambda left, right: left <= right,
    "gt": lambda left, right: left > right,
    "ge": lambda left, right: left >= right,
    "and": _and,
    "or": _or,
    "not": lambda value: not is_true(value),
}
