"""`--cidfile`: a file that says which container a command line made."""
from __future__ import annotations

import os
from contextlib import contextmanager

from mydocker.base import files
from mydocker.base.errors import Conflict, InvalidRequest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def open_cidfile(path: str) -> Iterator[Callable[[str], None]]:
    """Make the file and give what writes the id to it. Nothing written: the file goes again.

    Raises Conflict when it is there already, InvalidRequest when it cannot be made.
    """
    try:
        # Made before the container: an id that cannot be written down would be lost.
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except FileExistsError:
        raise Conflict(
            f"container ID file {path} is there already",
            hint="make sure that the other container does not run, or delete the file") from None
    except OSError as error:
        raise InvalidRequest(f"make container ID file {path}: {(error.strerror or str(error)).lower()}") from error
    try:
        yield lambda container_id: files.write_all(fd, container_id.encode())
    finally:
        if os.fstat(fd).st_size == 0:
            os.unlink(path)
        os.close(fd)
