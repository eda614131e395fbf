"""`--log-opt`: how large a container's log may become."""
from __future__ import annotations

from mydocker.base.errors import InvalidRequest
from mydocker.base.units import parse_size

from .request import whole_number, words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def judge_log_options(value: Any) -> dict[str, int]:
    """Return fields of ContainerConfig. Raises InvalidRequest."""
    values: dict[str, int] = {}
    items = value.items() if hasattr(value, "items") else (word.partition("=")[::2] for word in words(value, "log_opt"))
    for key, text in items:
        if key == "max-size":
            size = parse_size(str(text), what="log_opt max-size") if str(text) != "-1" else 0
            if 0 < size < 4096:
                raise InvalidRequest("log_opt max-size: at least 4k is needed")
            values["log_max_bytes"] = size
        elif key == "max-file":
            values["log_files"] = whole_number(1, 1000)(text, "log_opt max-file")
        else:
            raise InvalidRequest(f"log_opt {key!r} is not known", hint="max-size and max-file are")
    return values
