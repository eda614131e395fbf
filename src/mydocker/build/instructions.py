"""What each instruction of a Dockerfile may say: the one judge of it, before anything is built. Pure.

Source: moby/buildkit frontend/dockerfile/instructions.
"""
from __future__ import annotations

from mydocker.base.errors import InvalidRequest, MydockerError, Unsupported
from mydocker.base.units import parse_duration

from .dockerfile import Node, is_heredoc, parse_instruction, split_words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

#: keyword -> flags that it takes
FLAGS: dict[str, frozenset[str]] = {
    "FROM": frozenset(("platform",)),
    "RUN": frozenset(("mount", "network", "security")),
    "COPY": frozenset(("from", "chown", "chmod", "link", "exclude", "parents")),
    "ADD": frozenset(("chown", "chmod", "link", "exclude", "checksum", "keep-git-dir", "unpack")),
    "HEALTHCHECK": frozenset(("interval", "timeout", "start-period", "start-interval", "retries")),
    **dict.fromkeys((
        "ARG", "CMD", "ENTRYPOINT", "ENV", "EXPOSE", "LABEL", "MAINTAINER", "ONBUILD", "SHELL", "STOPSIGNAL", "USER",
        "VOLUME", "WORKDIR"), frozenset()),
}
_REPEATED = ("mount", "exclude")
_BLANKS = str.maketrans("\t\v\f\r", "    ")
#: Docker's predefined arguments: usable without ARG, in neither history nor cache keys.
PROXY_ARGS = (
    "HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "FTP_PROXY", "ftp_proxy", "NO_PROXY", "no_proxy", "ALL_PROXY",
    "all_proxy",
)


def at_line(error: MydockerError, node: Node, step: str = "") -> MydockerError:
    """Put the line (and the step) of an instruction in front of an error's message, once; returns the error to be raised."""
    if not getattr(error, "is_placed", False):
        error.message = f"Dockerfile line {node.line}: {f'[{step}] ' if step else ''}{node.text[:160]!r}: {error.message}"
        error.args = (error.message,)
        error.is_placed = True  # type: ignore[attr-defined]
    return error


def check(node: Node) -> None:
    """Raise InvalidRequest or Unsupported for what an instruction can never mean."""
    allowed = FLAGS.get(node.keyword)
    if allowed is None:
        error = InvalidRequest(f"Dockerfile line {node.line}: unknown instruction: {node.keyword}")
        error.is_placed = True  # type: ignore[attr-defined]  # for ONBUILD, which would put its line in front once more
        raise error
    try:
        seen: set[str] = set()
        for name, _ in node.flags:
            if name not in allowed:
                raise InvalidRequest(f"unknown flag: --{name}")
            if name in seen and name not in _REPEATED:
                raise InvalidRequest(f"duplicate flag specified: --{name}")
            seen.add(name)
        if not node.rest and not (node.keyword == "RUN" and node.heredocs):
            raise InvalidRequest(f"{node.keyword} requires at least one argument")
        rule = _RULES.get(node.keyword)
        if rule is not None:
            rule(node)
    except MydockerError as error:
        at_line(error, node)
        raise


def flag_of(node: Node, name: str, default: str = "") -> str:
    """Return the value of a flag as written."""
    for key, value in node.flags:
        if key == name:
            return value or ""
    return default


def flags_of(node: Node, name: str) -> list[str]:
    """Return all values of a flag that may be repeated."""
    return [value or "" for key, value in node.flags if key == name]


def is_set(node: Node, name: str) -> bool:
    """Return a flag of yes and no. Raises InvalidRequest."""
    for key, value in node.flags:
        if key == name:
            if value in (None, "", "true", "1"):
                return True
            if value in ("false", "0"):
                return False
            raise InvalidRequest(f"expecting boolean value for flag {name}, not: {value}")
    return False


def pairs_of(node: Node, escape: str) -> list[tuple[str, str]]:
    """Return (name, value) of ENV and LABEL, unsubstituted; the old form `ENV name value...` too. Raises InvalidRequest."""
    words = split_words(node.rest, escape)
    if "=" not in words[0]:
        name, _, value = node.rest.partition(words[0])[2].partition(" ")
        value = node.rest[len(words[0]):].strip()
        if not value:
            raise InvalidRequest(f"{node.keyword} must have two arguments")
        return [(words[0], value)]
    pairs = []
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise InvalidRequest(
                f"Syntax error - can't find = in {word!r}. Must be of the form: name=value")
        if not name:
            raise InvalidRequest(f"{node.keyword} names can not be blank")
        pairs.append((name, value))
    return pairs


def sources_of(node: Node) -> list[str]:
    """Return the words of COPY, ADD (the last is where to), VOLUME: of the JSON form, or split at blanks.

    At every blank, as docker does it: a word with blanks needs the JSON form.
    """
    if node.json_words is not None:
        return list(node.json_words)
    return [word for word in node.rest.translate(_BLANKS).split(" ") if word]


def command_of(node: Node, shell: list[str]) -> list[str]:
    """Return the command of CMD, ENTRYPOINT: as given in JSON, else run by the shell."""
    words = node.json_words
    return list(words) if words is not None else [*shell, node.rest]


def healthcheck_of(node: Node) -> dict[str, Any]:
    """Return the image config's Healthcheck. Raises InvalidRequest."""
    kind, _, rest = node.rest.partition(" ")
    kind, rest = kind.upper(), rest.strip()
    if kind == "NONE":
        if rest:
            raise InvalidRequest("HEALTHCHECK NONE takes no arguments")
        return {"Test": ["NONE"]}
    if kind != "CMD":
        raise InvalidRequest(f"Unknown type {kind!r} in HEALTHCHECK (try CMD)")
    words = node.replace(rest=rest).json_words
    if not rest or words == ():
        raise InvalidRequest("Missing command after HEALTHCHECK CMD")
    document: dict[str, Any] = {"Test": ["CMD", *words] if words is not None else ["CMD-SHELL", rest]}
    for flag, key in (("interval", "Interval"), ("timeout", "Timeout"), ("start-period", "StartPeriod"),
                      ("start-interval", "StartInterval")):
        if text := flag_of(node, flag):
            if text.strip("0123456789.+-") == "" and text.strip("+-0."):
                raise InvalidRequest(f"--{flag}: missing unit in duration {text!r}")  # a number alone could mean anything
            value_ns = round(parse_duration(text, what=f"--{flag}") * 1_000_000_000)
            if 0 < value_ns < 1_000_000:
                raise InvalidRequest(f"Interval {flag!r} cannot be less than 1ms")
            if value_ns:
                document[key] = value_ns
    if text := flag_of(node, "retries"):
        if not text.isdigit():
            raise InvalidRequest(f"--retries must be a whole number, not {text}")
        if int(text):
            document["Retries"] = int(text)
    return document


def trigger_of(node: Node) -> Node:
    """Return the instruction that an ONBUILD holds. Raises InvalidRequest."""
    inner = parse_instruction(node.rest, node.line).replace(heredocs=node.heredocs)
    if inner.keyword in ("ONBUILD", "FROM", "MAINTAINER"):
        raise InvalidRequest(f"{inner.keyword} isn't allowed as an ONBUILD trigger"
                             if inner.keyword != "ONBUILD" else "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
    return inner


def build_args_of(node: Node, escape: str) -> Iterator[tuple[str, str | None]]:
    """Yield (name, default or None), unsubstituted, of an ARG."""
    for word in split_words(node.rest, escape):
        name, equals, value = word.partition("=")
        if not name:
            raise InvalidRequest("ARG names can not be blank")
        yield name, value if equals else None


def ports_of(words: list[str]) -> dict[str, dict[str, str]]:
    """Return ExposedPorts of EXPOSE's words: 80, 80/udp, 8000-8010/tcp. Raises InvalidRequest."""
    found: dict[str, dict[str, str]] = {}
    for word in words:
        ports, slash, protocol = word.rpartition(":")[2].partition("/")
        protocol = protocol.lower() if slash else "tcp"
        if protocol not in ("tcp", "udp", "sctp"):
            raise InvalidRequest(f"Invalid proto: {protocol}")
        low, dash, high = ports.partition("-")
        if not low.isdigit() or (dash and not high.isdigit()) or not 0 <= int(low) <= int(high or low) < 65536:
            raise InvalidRequest(f"Invalid containerPort: {ports}")
        for port in range(int(low), int(high or low) + 1):
            found[f"{port}/{protocol}"] = {}
    return found


def _check_run(node: Node) -> None:
    if flag_of(node, "security", "sandbox") != "sandbox":
        raise Unsupported(
            f"--security={flag_of(node, 'security')}: a build step has no more rights than a container",
            hint="leave it out; use `mydocker run --privileged` and commit, if it must be")
    if flag_of(node, "network", "default") not in ("default", "none", "host"):
        raise InvalidRequest(f"--network={flag_of(node, 'network')}: default, none and host are known")


def _check_copy(node: Node) -> None:
    if flag_of(node, "parents"):
        is_set(node, "parents")
    words = sources_of(node)
    if len(words) < 2:
        raise InvalidRequest(f"{node.keyword} requires at least two arguments, but only one was provided. "
                             "Destination could not be determined.")
    is_set(node, "link")
    if is_heredoc(words[-1]):
        raise InvalidRequest(f"{node.keyword} cannot accept a heredoc as a destination")


def _check_shell(node: Node) -> None:
    if not node.json_words:
        raise InvalidRequest("SHELL requires the arguments to be in JSON form")


def _check_pairs(node: Node) -> None:
    pairs_of(node, "\\")


def _check_onbuild(node: Node) -> None:
    check(trigger_of(node))


def _check_args(node: Node) -> None:
    list(build_args_of(node, "\\"))


def _check_one_word(node: Node) -> None:
    if len(split_words(node.rest)) != 1:
        raise InvalidRequest(f"{node.keyword} requires exactly one argument")


def _check_volume(node: Node) -> None:
    if not sources_of(node):
        raise InvalidRequest("VOLUME requires at least one argument")


def _check_command(node: Node) -> None:
    command_of(node, [])


def _check_healthcheck(node: Node) -> None:
    healthcheck_of(node)


_RULES: Mapping[str, Any] = {
    "RUN": _check_run, "COPY": _check_copy, "ADD": _check_copy, "SHELL": _check_shell, "ENV": _check_pairs,
    "LABEL": _check_pairs, "ONBUILD": _check_onbuild, "ARG": _check_args, "STOPSIGNAL": _check_one_word,
    "CMD": _check_command, "ENTRYPOINT": _check_command, "VOLUME": _check_volume, "HEALTHCHECK": _check_healthcheck,
}
