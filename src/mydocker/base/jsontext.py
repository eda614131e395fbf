"""JSON text without the cost of importing `json` (about 7 ms, most of it `re` and `enum`).

The standard library's C scanner and encoder in `_json` do the work; this module gives them what
`json.decoder` and `json.encoder` would. Where an interpreter has no `_json`, `json` itself serves.
Documents that other programs wrote may hold anything, so `loads` raises `Corrupt`, not ValueError.
"""
from __future__ import annotations

from .errors import Corrupt

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_WHITESPACE = " \t\n\r"


def _nan(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


class _ScannerContext:
    """The attributes that `_json.make_scanner` reads from its argument (json.decoder.JSONDecoder)."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = staticmethod(_nan)
    memo: dict[str, str] = {}


def _refuse(value: object) -> Any:
    raise TypeError(f"{type(value).__name__} is not JSON serializable")


try:
    from _json import encode_basestring, make_encoder, make_scanner
except ImportError:  # an interpreter without the accelerator: correct, slower to start
    import json

    def _scan(text: str) -> Any:
        return json.loads(text, parse_constant=_nan)

    def _encode(value: Any, sort_keys: bool) -> str:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=sort_keys, allow_nan=False)
else:
    _scan_once = make_scanner(_ScannerContext())  # type: ignore[arg-type]

    def _scan(text: str) -> Any:
        start = len(text) - len(text.lstrip(_WHITESPACE))
        try:
            value, end = _scan_once(text, start)
        except (StopIteration, SystemError):
            # The C scanner takes the class of its error from an imported json.decoder, and
            # without one raises SystemError or nothing useful: let json say what is wrong.
            import json  # cold

            return json.loads(text, parse_constant=_nan)
        if text[end:].strip(_WHITESPACE):
            raise ValueError(f"more text after the value at character {end}")
        return value

    def _encode(value: Any, sort_keys: bool) -> str:
        encoder = make_encoder({}, _refuse, encode_basestring, None, ":", ",", sort_keys, False, False)
        return "".join(encoder(value, 0))


def loads(text: str | bytes, *, source: str = "JSON text") -> Any:
    """Return the value of a JSON document; `source` names it in errors.

    Raises Corrupt when the text is not UTF-8, not JSON, or nested beyond reason.
    """
    try:
        return _scan(text.decode() if isinstance(text, bytes) else text)
    except (ValueError, RecursionError) as error:
        raise Corrupt(f"read {source}: not a JSON document: {error}") from error


def without_nulls(value: Any) -> Any:
    """Return a document without its nulls: in what Go writes, a field that is null is one that is not there."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


def dumps(value: Any, *, sort_keys: bool = False) -> str:
    """Return compact JSON text (non-ASCII kept). Raises TypeError, ValueError for what JSON lacks."""
    # A byte of an argument that is not UTF-8, "\udcff" in Python, cannot be encoded: it becomes JSON's escape of that name.
    return _encode(value, sort_keys).encode("utf-8", "backslashreplace").decode()
