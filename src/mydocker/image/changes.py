"""`--change` of commit and import: one line of a Dockerfile each, applied to an image's inner config. Pure.

Source: docker's commit (validCommitCommands of moby builder/dockerfile) and the Dockerfile reference. Names of variables are
replaced as docker build does, with the environment that the image has by then.
"""
from __future__ import annotations

from mydocker.base import jsontext
from mydocker.base.errors import Corrupt, InvalidRequest
from mydocker.base.units import parse_duration

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    Inner = dict[str, Any]

_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")
_SHELL = ["/bin/sh", "-c"]
_PROTOCOLS = ("tcp", "udp", "sctp")


def apply_changes(inner: Inner, lines: Iterable[str]) -> Inner:
    """Return the inner config with the lines applied in order. Raises InvalidRequest."""
    changed = dict(inner)
    for line in lines:
        word, _, rest = line.strip().partition(" ")
        act = _ACTIONS.get(word.upper())
        if act is None:
            raise InvalidRequest(f"change {line[:80]!r}: {word[:20]} is not known", hint=f"known are {', '.join(_ACTIONS)}")
        rest = rest.strip()
        if not rest:
            raise InvalidRequest(f"change {line[:80]!r}: {word.upper()} needs something to say")
        act(changed, rest)
    return changed


# --- reading ----------------------------------------------------------------------------------------------


def _split(text: str, inner: Inner, *, what: str) -> list[str]:
    """Return the words of a line: quotes and backslashes as in a Dockerfile, variables replaced outside of '...'."""
    env = dict(item.partition("=")[::2] for item in inner.get("Env") or ())
    words: list[str] = []
    word, quote, position, is_word = "", "", 0, False
    while position < len(text):
        char = text[position]
        position += 1
        if quote == "'":
            quote = "" if char == "'" else quote
            word += "" if char == "'" else char
        elif char == "\\" and position < len(text):
            word += text[position] if not quote or text[position] in '"$\\' else char + text[position]
            position, is_word = position + 1, True
        elif char == "$":
            value, position = _variable(text, position, env)
            word, is_word = word + value, True
        elif quote:
            quote = "" if char == quote else quote
            word += "" if not quote else char
        elif char in "'\"":
            quote, is_word = char, True
        elif char.isspace():
            if is_word:
                words.append(word)
            word, is_word = "", False
        else:
            word, is_word = word + char, True
    if quote:
        raise InvalidRequest(f"change {what}: a quote is not closed in {text[:80]!r}")
    return [*words, word] if is_word else words


def _variable(text: str, position: int, env: dict[str, str]) -> tuple[str, int]:
    """Return the value of `$NAME`, `${NAME}`, `${NAME:-word}` or `${NAME:+word}` and where it ends."""
    if text[position : position + 1] == "{":
        end = text.find("}", position)
        name, mark, word = text[position + 1 : end].partition(":")
        if end < 0 or not name or not _NAME.issuperset(name) or (mark and word[:1] not in ("-", "+")):
            raise InvalidRequest(f"change: {text[position - 1 : position + 40]!r} is not a variable")
        value = env.get(name, "")
        if mark:
            is_set = bool(value)
            value = (word[1:] if is_set else "") if word[0] == "+" else value if is_set else word[1:]
        return value, end + 1
    end = position
    while end < len(text) and text[end] in _NAME:
        end += 1
    return (env.get(text[position:end], ""), end) if end > position else ("$", position)


def _one(text: str, inner: Inner, *, what: str) -> str:
    return " ".join(_split(text, inner, what=what))


def _json_words(text: str) -> list[str] | None:
    """Return the words of the exec form (`["a", "b"]`), None for the shell form."""
    if not text.startswith("["):
        return None
    try:
        words = jsontext.loads(text.encode(), source="change")
    except Corrupt:
        return None  # docker takes it for a shell's command then
    return words if isinstance(words, list) and all(isinstance(word, str) for word in words) else None


def _command(inner: Inner, text: str) -> list[str]:
    words = _json_words(text)
    return words if words is not None else [*(inner.get("Shell") or _SHELL), text]


def _pairs(text: str, inner: Inner, *, what: str) -> dict[str, str]:
    """Return `K=V K2="V 2"`, or the old form `K all the rest`."""
    first = text.split(None, 1)[0]
    if "=" not in first:
        if " " not in text:
            raise InvalidRequest(f"change {what} {text[:80]!r}: it is not NAME=VALUE")
        name, _, rest = text.partition(" ")
        return {name: _one(rest.strip(), inner, what=what)}
    found = {}
    for word in _split(text, inner, what=what):
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise InvalidRequest(f"change {what}: {word[:80]!r} is not NAME=VALUE")
        found[name] = value
    return found


# --- one a word -------------------------------------------------------------------------------------------


def _set_env(inner: Inner, text: str) -> None:
    items = dict(item.partition("=")[::2] for item in inner.get("Env") or ())
    items.update(_pairs(text, inner, what="ENV"))
    inner["Env"] = [f"{name}={value}" for name, value in items.items()]


def _set_labels(inner: Inner, text: str) -> None:
    inner["Labels"] = {**(inner.get("Labels") or {}), **_pairs(text, inner, what="LABEL")}


def _set_entrypoint(inner: Inner, text: str) -> None:
    inner["Entrypoint"] = _command(inner, text)


def _set_command(inner: Inner, text: str) -> None:
    inner["Cmd"] = _command(inner, text)


def _expose(inner: Inner, text: str) -> None:
    ports = dict(inner.get("ExposedPorts") or {})
    for word in _split(text, inner, what="EXPOSE"):
        numbers, _, protocol = word.partition("/")
        first, dash, last = numbers.partition("-")
        protocol = protocol.lower() or "tcp"
        is_range = first.isdigit() and (last.isdigit() if dash else True)
        low, high = (int(first), int(last or first)) if is_range else (0, 0)
        if not 1 <= low <= high <= 65535 or protocol not in _PROTOCOLS:
            raise InvalidRequest(f"change EXPOSE: {word[:40]!r} is not a port", hint="write such as 80, 53/udp or 8000-8010")
        ports.update((f"{port}/{protocol}", {}) for port in range(low, high + 1))
    inner["ExposedPorts"] = ports


def _add_volumes(inner: Inner, text: str) -> None:
    words = _json_words(text) or _split(text, inner, what="VOLUME")
    inner["Volumes"] = {**(inner.get("Volumes") or {}), **{word: {} for word in words}}


def _set_workdir(inner: Inner, text: str) -> None:
    import posixpath  # cold

    place = posixpath.normpath(posixpath.join("/", inner.get("WorkingDir") or "/", _one(text, inner, what="WORKDIR")))
    inner["WorkingDir"] = "/" + place.lstrip("/")


def _set_word(key: str, what: str) -> Callable[[Inner, str], None]:
    def act(inner: Inner, text: str) -> None:
        inner[key] = _one(text, inner, what=what)
    return act


def _add_on_build(inner: Inner, text: str) -> None:
    if text.split(None, 1)[0].upper() in ("ONBUILD", "FROM", "MAINTAINER"):
        raise InvalidRequest(f"change ONBUILD {text[:80]!r}: such a line cannot wait for a build")
    inner["OnBuild"] = [*(inner.get("OnBuild") or ()), text]


def _set_health_check(inner: Inner, text: str) -> None:
    durations = {
        "--interval": "Interval", "--timeout": "Timeout", "--start-period": "StartPeriod", "--start-interval": "StartInterval",
    }
    check: dict[str, Any] = {}
    while text.startswith("--"):
        option, _, text = text.partition(" ")
        name, _, value = option.partition("=")
        if name in durations:
            check[durations[name]] = int(parse_duration(value, what=f"change HEALTHCHECK {name}") * 1_000_000_000)
        elif name == "--retries" and value.isdigit():
            check["Retries"] = int(value)
        else:
            raise InvalidRequest(f"change HEALTHCHECK: {option[:40]!r} is not known")
        text = text.strip()
    word, _, rest = text.partition(" ")
    rest = rest.strip()
    if word.upper() == "NONE" and not rest and not check:
        inner["Healthcheck"] = {"Test": ["NONE"]}
    elif word.upper() == "CMD" and rest:
        words = _json_words(rest)
        inner["Healthcheck"] = {"Test": ["CMD-SHELL", rest] if words is None else ["CMD", *words], **check}
    else:
        raise InvalidRequest(f"change HEALTHCHECK {text[:80]!r}: it is neither NONE nor CMD ...")


_ACTIONS: dict[str, Callable[[Inner, str], None]] = {
    "CMD": _set_command, "ENTRYPOINT": _set_entrypoint, "ENV": _set_env, "EXPOSE": _expose, "HEALTHCHECK": _set_health_check,
    "LABEL": _set_labels, "ONBUILD": _add_on_build, "STOPSIGNAL": _set_word("StopSignal", "STOPSIGNAL"),
    "USER": _set_word("User", "USER"), "VOLUME": _add_volumes, "WORKDIR": _set_workdir,
}
