"""Files of `--env-file` and `--label-file`: `K=V` or `K` lines."""
from __future__ import annotations

from mydocker.base.errors import InvalidRequest

from .request import judge_env, words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def read_env_files(value: Any) -> list[str]:
    """Return the items of env files, one path or several: `K=V` or `K` lines, `#` comments. Raises InvalidRequest."""
    return [item for path in words(value, "env_file") for item in judge_env(read_lines_file(path, "env file"))]


def read_lines_file(path: str, what: str) -> list[str]:
    """Return the `K=V` or `K` lines of a file without `#` comments and empty lines. Raises InvalidRequest."""
    try:
        with open(path, encoding="utf-8") as stream:
            lines = [line.rstrip("\r\n") for line in stream]
    except OSError as error:
        raise InvalidRequest(f"open {what} {path}: {(error.strerror or str(error)).lower()}") from error
    except ValueError as error:
        raise InvalidRequest(f"read {what} {path}: {error}") from error
    items = [line.lstrip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    for item in items:
        if any(letter.isspace() for letter in item.partition("=")[0]):
            raise InvalidRequest(f"{what} {path}: {item!r} has white space in its name")
    return items
