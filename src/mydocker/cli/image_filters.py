"""`--filter` of images and of prune: words -> one test. Source: docker's image ls and image prune."""
from __future__ import annotations

from mydocker.base.errors import InvalidRequest

from .filter_words import label_matches

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mydocker.image.listing import ImageSummary
    from mydocker.image.store import Images

    Test = Callable[[ImageSummary], bool]

LISTING = ("dangling", "label", "before", "since", "until", "reference")
PRUNING = ("until", "label", "label!", "dangling")
_TRUTH = {"true": True, "1": True, "false": False, "0": False}


def parse_filters(words: Iterable[str], images: Images, known: tuple[str, ...]) -> Test:
    """Return the test that `KEY=VALUE` words describe: all labels, of any other key one. Raises InvalidRequest, NotFound."""
    tests: dict[str, list[Test]] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or key not in known:
            raise InvalidRequest(f"filter {word!r} is not known", hint=f"filters are {'=, '.join(known)}=")
        tests.setdefault(key, []).append(_test(key, value, images))

    def matches(image: ImageSummary) -> bool:
        return all((all if key.startswith("label") else any)(test(image) for test in found) for key, found in tests.items())
    return matches


def _test(key: str, value: str, images: Images) -> Test:
    if key == "dangling":
        if value not in _TRUTH:
            raise InvalidRequest(f"filter dangling: {value!r} is neither true nor false")
        return lambda image: (not image.reference) == _TRUTH[value]
    if key == "reference":
        return lambda image: bool(image.reference) and matches_reference(image.reference, value)
    if key in ("before", "since"):
        from .ages import moment  # cold

        other = moment(images.inspect(value)["config"].get("created") or "") or 0.0
        if key == "before":
            return lambda image: (moment(image.created) or 0.0) < other
        return lambda image: (moment(image.created) or 0.0) > other
    if key == "until":
        return _until(value)
    return lambda image: label_matches(dict(image.labels), value) != (key == "label!")


def _until(value: str) -> Test:
    from mydocker.engine.logs import judge_time  # cold

    from .ages import moment

    limit = (judge_time(value, "filter until") or 0) / 1e9
    return lambda image: (moment(image.created) or 0.0) < limit


def matches_reference(reference: str, pattern: str) -> bool:
    """Tell whether a familiar reference, or its name alone, matches a shell pattern whose `*` stops at `/` (Go's path.Match)."""
    name = reference.partition("@")[0]
    head, colon, tag = name.rpartition(":")
    candidates = [reference, name]
    if colon and "/" not in tag:
        candidates.append(head)
    return any(_matches(candidate, pattern) for candidate in candidates)


def _matches(text: str, pattern: str) -> bool:
    from fnmatch import fnmatchcase  # cold

    parts, patterns = text.split("/"), pattern.split("/")
    return len(parts) == len(patterns) and all(fnmatchcase(part, each) for part, each in zip(parts, patterns, strict=True))
