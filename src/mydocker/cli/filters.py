"""`ps --filter`: words -> one test of containers."""
from __future__ import annotations

from mydocker.base.errors import InvalidRequest

from .filter_words import join_tests, label_matches

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, Protocol

    class Listed(Protocol):
        """What a filter looks at."""

        @property
        def id(self) -> str: ...
        @property
        def name(self) -> str: ...
        @property
        def image(self) -> str: ...
        @property
        def status(self) -> str: ...
        @property
        def exit_code(self) -> int | None: ...
        @property
        def record(self) -> dict[str, Any]: ...
        @property
        def labels(self) -> dict[str, str]: ...

    Test = Callable[[Listed, str], bool]

#: Letters that need no regular expression (`.` nearly so).
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.")
_STATUSES = ("created", "running", "paused", "exited", "stopped")


def parse_filters(words: Iterable[str]) -> Callable[[Listed], bool]:
    """Return the test that `KEY=VALUE` words describe. Raises InvalidRequest."""
    return join_tests(words, TESTS, _check)


def _check(key: str, value: str) -> None:
    if key == "status" and value not in _STATUSES:
        raise InvalidRequest(f"filter status: no status is {value!r}", hint=f"statuses are {', '.join(_STATUSES)}")
    if key == "name" and not _PLAIN.issuperset(value.strip("^$/")):
        import re  # cold

        try:
            re.compile(value)
        except re.error as error:
            raise InvalidRequest(f"filter name: {value!r} is not a regular expression: {error}") from None
    if key == "exited" and not value.isdecimal():
        raise InvalidRequest(f"filter exited: {value!r} is not an exit code")


def _name_matches(container: Listed, value: str) -> bool:
    """A regular expression found anywhere in the name, as docker has it; most are plain text, `^` and `$` anchor it."""
    if not _PLAIN.issuperset(value.strip("^$/")):
        import re  # cold

        return re.search(value, container.name) is not None
    core = value.removeprefix("^").removeprefix("/").removesuffix("$")
    if value[:1] == "^":
        return container.name == core if value[-1:] == "$" else container.name.startswith(core)
    return container.name.endswith(core) if value[-1:] == "$" else core in container.name


def _has_volume(container: Listed, value: str) -> bool:
    """By the name of a volume, or by where something is mounted."""
    mounts = container.record["config"].get("volumes", ())
    return any(value in (item.get("volume"), item["source"], item["target"]) for item in mounts)


def _image_matches(container: Listed, value: str) -> bool:
    """The name as it was given to run; a missing tag is `latest` on both sides."""
    return _with_tag(container.image) == _with_tag(value)


def _with_tag(image: str) -> str:
    return image if ":" in image.rpartition("/")[2] or "@" in image else f"{image}:latest"


TESTS: dict[str, Test] = {
    "status": lambda container, value: container.status == value,
    "name": _name_matches,
    "id": lambda container, value: container.id.startswith(value),
    "label": lambda container, value: label_matches(container.labels, value),
    "ancestor": _image_matches,
    "volume": _has_volume,
    "exited": lambda container, value: container.exit_code is not None and container.exit_code == int(value),
}
