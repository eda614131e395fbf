"""`--filter KEY=VALUE` in general: words and the tests of a kind of thing -> one test.

The same key several times means any of them, labels all of them; different keys mean all.
"""
from __future__ import annotations

from mydocker.base.errors import InvalidRequest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import TypeVar

    T = TypeVar("T")


def join_tests(
    words: Iterable[str], tests: Mapping[str, Callable[[T, str], bool]], judge: Callable[[str, str], None]
) -> Callable[[T], bool]:
    """Return the test that the words describe; `judge` raises for values that a key does not take. Raises InvalidRequest."""
    wanted: dict[str, list[str]] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or key not in tests:
            raise InvalidRequest(f"filter {word!r} is not known", hint=f"filters are {'=, '.join(tests)}=")
        judge(key, value)
        wanted.setdefault(key, []).append(value)

    def matches(thing: T) -> bool:
        return all((all if key.startswith("label") else any)(tests[key](thing, value) for value in values)
                   for key, values in wanted.items())
    return matches


def label_matches(labels: Mapping[str, str], value: str) -> bool:
    """Tell whether a label is there, `KEY`, and says that, `KEY=VALUE`."""
    key, equals, wanted = value.partition("=")
    return key in labels and (not equals or labels[key] == wanted)
