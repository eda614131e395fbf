"""The part of Go's text/template that `--format` is used with, over plain Python values.

    {{.Field}} {{.A.B}} {{.}} {{$x}} {{$x := PIPELINE}}     {{PIPELINE | function}}  {{(PIPELINE).Field}}
    {{if P}}..{{else if P}}..{{else}}..{{end}}  {{range P}}..{{else}}..{{end}}  {{range $k, $v := P}}  {{with P}}
    {{/* comment */}}  {{- trimmed -}}  functions: see govalues.FUNCTIONS

`parse` compiles text to a tree once, `Template.render` walks it for each item. Fields are looked up as spelled, then
without regard to case and underscores: `{{.State.ExitCode}}` finds `exit_code`, since people type Docker's spelling.
Imported only when a format holds `{{`. Every error, in text or data, is InvalidRequest. Source: https://pkg.go.dev/text/template
"""
from __future__ import annotations

from .govalues import FUNCTIONS, find_field, format_value, is_true, template_error, walk_pairs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    Token = tuple[str, str]
    Scope = dict[str, Any]
    Expression = Callable[[Any, Scope], Any]
    Node = Callable[[Any, Scope], Iterator[str]]

_BLANKS = " \t\r\n"
_CHAINABLE = (")", "variable", "chain", "field")
_SYMBOLS = ("|", "(", ")", ",", "=")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", '"': '"', "'": "'", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}


class Template:
    """A compiled template."""

    __slots__ = ("_nodes",)

    def __init__(self, nodes: list[Node]) -> None:
        self._nodes = nodes

    def render(self, data: Any) -> str:
        """Return the text for one item. Raises InvalidRequest when the item lacks what is asked for."""
        try:
            return "".join(_render(self._nodes, data, {"$": data}))
        except (TypeError, ValueError, ZeroDivisionError, OverflowError) as error:
            raise template_error(str(error)) from error
        except RecursionError:
            raise template_error("nested too deeply") from None


def parse(text: str) -> Template:
    """Compile a template; `\\t` and `\\n` in its text mean tab and line end, as with docker. Raises InvalidRequest."""
    parser = _Parser(text)
    try:
        nodes, stop = parser.block(())
    except RecursionError:
        raise template_error("nested too deeply") from None
    assert stop == ""
    return Template(nodes)


def _render(nodes: list[Node], data: Any, scope: Scope) -> Iterator[str]:
    for node in nodes:
        yield from node(data, scope)


# Text -> pieces -> tokens.


def _split(text: str) -> Iterator[tuple[bool, str]]:
    """Yield (is action, text) pieces, with `{{-` and `-}}` applied."""
    at = 0
    trim = False
    while True:
        start = text.find("{{", at)
        piece = text[at:] if start < 0 else text[at:start]
        piece = piece.replace("\\t", "\t").replace("\\n", "\n")
        piece = piece.lstrip(_BLANKS) if trim else piece
        if start < 0:
            if piece:
                yield False, piece
            return
        end = _find_close(text, start + 2)
        action = text[start + 2:end]
        if action[:1] == "-" and action[1:2] and action[1] in _BLANKS:
            piece = piece.rstrip(_BLANKS)
            action = action[2:]
        trim = len(action) > 1 and action[-1] == "-" and action[-2] in _BLANKS
        if piece:
            yield False, piece
        yield True, action[:-1].strip(_BLANKS) if trim else action.strip(_BLANKS)
        at = end + 2


def _find_close(text: str, at: int) -> int:
    """Return where the action's `}}` is, outside quotes."""
    quote = ""
    while at < len(text):
        char = text[at]
        if quote:
            if char == "\\" and quote != "`":
                at += 1
            elif char == quote:
                quote = ""
        elif char in "\"'`":
            quote = char
        elif text.startswith("}}", at):
            return at
        at += 1
    raise template_error("unclosed {{")


def _tokens(action: str) -> list[Token]:
    """Return (kind, text) tokens: str, number, field (`.A.B`), dot, variable (`$x`), word, and the symbols.

    A field that follows a closing parenthesis or a variable without a blank is `chain`.
    """
    found: list[Token] = []
    at = 0
    while at < len(action):
        char = action[at]
        if char in _BLANKS:
            at += 1
        elif char in "\"'`":
            value, at = _quoted(action, at)
            found.append(("str", value))
        elif action.startswith(":=", at):
            found.append((":=", ":="))
            at += 2
        elif char in _SYMBOLS:
            found.append((char, char))
            at += 1
        elif char == ".":
            end = _word_end(action, at + 1)
            if end == at + 1:
                found.append(("dot", "."))
            else:
                chained = bool(found) and action[at - 1] not in _BLANKS and found[-1][0] in _CHAINABLE
                found.append(("chain" if chained else "field", action[at + 1:end]))
            at = end
        elif char == "$":
            end = _word_end(action, at + 1)
            found.append(("variable", action[at:end]))
            at = end
        elif char.isdigit() or (char in "+-" and action[at + 1:at + 2].isdigit()):
            end = at + 1
            while end < len(action) and (action[end].isalnum() or action[end] == "."):
                end += 1
            found.append(("number", action[at:end]))
            at = end
        elif char.isalpha() or char == "_":
            end = _word_end(action, at)
            found.append(("word", action[at:end]))
            at = end
        else:
            raise template_error(f"unexpected {char!r} in {{{{{action}}}}}")
    return found


def _word_end(text: str, at: int) -> int:
    while at < len(text) and (text[at].isalnum() or text[at] == "_"):
        at += 1
    return at


def _quoted(text: str, at: int) -> tuple[str, int]:
    quote = text[at]
    at += 1
    out: list[str] = []
    while at < len(text):
        char = text[at]
        if char == quote:
            return "".join(out), at + 1
        if char == "\\" and quote != "`":
            at += 1
            char = _ESCAPES.get(text[at:at + 1], "\\" + text[at:at + 1])
        out.append(char)
        at += 1
    raise template_error("unclosed string")


# Tokens -> tree of closures.


class _Parser:
    def __init__(self, text: str) -> None:
        self._pieces = _split(text)

    def block(self, stops: tuple[str, ...]) -> tuple[list[Node], str]:
        """Return the nodes up to an action that starts with one of `stops`, and that action (`""` at the end)."""
        nodes: list[Node] = []
        for is_action, text in self._pieces:
            if not is_action:
                nodes.append(_literal(text))
                continue
            if text.startswith("/*"):
                continue
            keyword = text.split(None, 1)[0] if text else ""
            if keyword in ("end", "else"):
                if keyword not in stops:
                    raise template_error(f"unexpected {{{{{keyword}}}}}")
                return nodes, text
            if keyword == "if":
                nodes.append(self._if(text[2:]))
            elif keyword == "with":
                nodes.append(self._with(text[4:]))
            elif keyword == "range":
                nodes.append(self._range(text[5:]))
            else:
                nodes.append(_action(_tokens(text), text))
        if stops:
            raise template_error("missing {{end}}")
        return nodes, ""

    def _branches(self, on_else_if: Callable[[str], Node] | None) -> tuple[list[Node], list[Node]]:
        body, stop = self.block(("end", "else"))
        if stop == "end":
            return body, []
        rest = stop[4:].strip(_BLANKS)
        if not rest:
            otherwise, _ = self.block(("end",))
            return body, otherwise
        keyword, _, condition = rest.partition(" ")
        if on_else_if is None or keyword not in ("if", "with"):
            raise template_error(f"unexpected {{{{{stop}}}}}")
        return body, [on_else_if(condition)]

    def _if(self, condition: str) -> Node:
        test = _pipeline(_tokens(condition), condition)
        body, otherwise = self._branches(self._if)

        def node(data: Any, scope: Scope) -> Iterator[str]:
            inner = dict(scope)
            return _render(body if is_true(test(data, inner)) else otherwise, data, inner)
        return node

    def _with(self, subject: str) -> Node:
        value_of = _pipeline(_tokens(subject), subject)
        body, otherwise = self._branches(self._with)

        def node(data: Any, scope: Scope) -> Iterator[str]:
            inner = dict(scope)
            value = value_of(data, inner)
            return _render(body, value, inner) if is_true(value) else _render(otherwise, data, inner)
        return node

    def _range(self, subject: str) -> Node:
        tokens = _tokens(subject)
        names: list[str] = []
        if (":=", ":=") in tokens:
            at = tokens.index((":=", ":="))
            names = [text for kind, text in tokens[:at] if kind == "variable"]
            tokens = tokens[at + 1:]
            if len(names) not in (1, 2):
                raise template_error(f"range takes one or two variables: {{{{range{subject}}}}}")
        value_of = _pipeline(tokens, subject)
        body, otherwise = self._branches(None)

        def node(data: Any, scope: Scope) -> Iterator[str]:
            pairs = walk_pairs(value_of(data, scope))
            if not pairs:
                yield from _render(otherwise, data, scope)
            for key, value in pairs:
                inner = dict(scope)
                if len(names) == 2:
                    inner[names[0]] = key
                if names:
                    inner[names[-1]] = value
                yield from _render(body, value, inner)
        return node


def _literal(text: str) -> Node:
    def node(data: Any, scope: Scope) -> Iterator[str]:
        yield text
    return node


def _action(tokens: list[Token], text: str) -> Node:
    if len(tokens) > 2 and tokens[0][0] == "variable" and tokens[1][0] in (":=", "="):
        name = tokens[0][1]
        assigned = _pipeline(tokens[2:], text)

        def assignment(data: Any, scope: Scope) -> Iterator[str]:
            scope[name] = assigned(data, scope)
            return iter(())
        return assignment
    value_of = _pipeline(tokens, text)

    def node(data: Any, scope: Scope) -> Iterator[str]:
        yield format_value(value_of(data, scope))
    return node


def _pipeline(tokens: list[Token], text: str) -> Expression:
    """Compile `command | command ...`; each later command gets the value before it as its last argument."""
    commands: list[list[Token]] = [[]]
    depth = 0
    for token in tokens:
        depth += (token[0] == "(") - (token[0] == ")")
        if token[0] == "|" and depth == 0:
            commands.append([])
        else:
            commands[-1].append(token)
    if depth or not all(commands):
        raise template_error(f"cannot read {{{{{text.strip(_BLANKS)}}}}}" if any(commands) else "empty {{}}")
    calls = [_command(command, text) for command in commands]

    def evaluate(data: Any, scope: Scope) -> Any:
        value = calls[0](data, scope, ())
        for call in calls[1:]:
            value = call(data, scope, (value,))
        return value
    return evaluate


def _command(tokens: list[Token], text: str) -> Callable[[Any, Scope, tuple[Any, ...]], Any]:
    if tokens[0][0] == "word" and tokens[0][1] not in _CONSTANTS:
        name = tokens[0][1]
        if name not in FUNCTIONS:
            raise template_error(f"function {name!r} not defined; there are {', '.join(sorted(FUNCTIONS))}")
        function = FUNCTIONS[name]
        operands = _operands(tokens[1:], text)

        def call(data: Any, scope: Scope, piped: tuple[Any, ...]) -> Any:
            values = [operand(data, scope) for operand in operands]
            try:
                return function(*values, *piped)
            except TypeError as error:
                raise template_error(f"{name}: {error}") from error
        return call
    first, *rest = _operands(tokens, text)

    def apply(data: Any, scope: Scope, piped: tuple[Any, ...]) -> Any:
        value = first(data, scope)
        given = [operand(data, scope) for operand in rest] + list(piped)
        if callable(value):
            return value(*given)
        if given:
            raise template_error(f"{{{{{text.strip(_BLANKS)}}}}}: only functions take arguments")
        return value
    return apply


_CONSTANTS: dict[str, object] = {"true": True, "false": False, "nil": None}


def _operands(tokens: list[Token], text: str) -> list[Expression]:
    found: list[Expression] = []
    at = 0
    while at < len(tokens):
        kind, value = tokens[at]
        if kind == "(":
            end = _matching(tokens, at)
            found.append(_pipeline(tokens[at + 1:end], text))
            at = end
        elif kind == "chain":
            found[-1] = _field_of(found[-1], value)
        else:
            found.append(_operand(kind, value, text))
        at += 1
    return found


def _matching(tokens: list[Token], at: int) -> int:
    depth = 0
    for index in range(at, len(tokens)):
        depth += (tokens[index][0] == "(") - (tokens[index][0] == ")")
        if depth == 0:
            return index
    raise template_error("unclosed (")


def _operand(kind: str, value: str, text: str) -> Expression:
    if kind == "dot":
        return lambda data, scope: data
    if kind == "field":
        return _field_of(lambda data, scope: data, value)
    if kind == "variable":
        return lambda data, scope: _variable(scope, value)
    if kind == "str":
        return lambda data, scope: value
    if kind == "number":
        number = _number(value)
        return lambda data, scope: number
    if kind == "word":
        if value in _CONSTANTS:
            return lambda data, scope: _CONSTANTS[value]
        if value in FUNCTIONS:
            return lambda data, scope: FUNCTIONS[value]()
    raise template_error(f"unexpected {value!r} in {{{{{text.strip(_BLANKS)}}}}}")


def _number(text: str) -> int | float:
    try:
        return int(text, 0)
    except ValueError:
        try:
            return float(text)
        except ValueError:
            raise template_error(f"{text!r} is not a number") from None


def _variable(scope: Scope, name: str) -> Any:
    if name not in scope:
        raise template_error(f"undefined variable {name}")
    return scope[name]


def _field_of(subject: Expression, name: str) -> Expression:
    return lambda data, scope: find_field(subject(data, scope), name)
