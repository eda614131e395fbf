"""`checkpoint` and `restore`: refused, by name."""
from __future__ import annotations

from mydocker.base.errors import Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from mydocker.runtime.cli import Context


def run(context: Context) -> NoReturn:
    """Say so. Raises Unsupported."""
    raise Unsupported("checkpoint and restore are not supported: mydocker-runtime does not use CRIU")
