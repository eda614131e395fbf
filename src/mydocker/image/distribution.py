"""Images to and from registries: names to servers, and the connections closed afterwards."""
from __future__ import annotations

from mydocker.oci import platform as platforms
from mydocker.oci import reference as references
from mydocker.registry import settings
from mydocker.registry.client import open_repositories
from mydocker.registry.transport import Transport

from . import pull as pulling
from .load import refuse_builtin
from .progress import Silent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mydocker.base.paths import Layout
    from mydocker.oci.reference import Reference
    from mydocker.registry.client import Repository

    from .progress import Progress


def pull(
    layout: Layout, name: str, *, platform: str = "", insecure: Sequence[str] = (), progress: Progress | None = None
) -> pulling.PulledImage:
    """Pull an image by name, tag or digest. Raises InvalidRequest, and what image/pull.py raises."""
    reference = judged(name)
    wanted = platforms.parse(platform) if platform else None
    transport, repositories = _connect(reference, insecure, with_mirrors=True)
    try:
        return pulling.pull(layout, reference, repositories, progress or Silent(), wanted)
    finally:
        transport.close()


def list_tags(name: str, *, insecure: Sequence[str] = ()) -> Iterator[str]:
    """Yield the tags of a repository as full names. Raises NotFound, Denied, Unavailable, InvalidRequest."""
    reference = judged(name)
    transport, repositories = _connect(reference, insecure, with_mirrors=False)
    try:
        for tag in repositories[-1].list_tags():
            yield references.parse(f"{reference.domain}/{reference.path}:{tag}").familiar
    finally:
        transport.close()


def judged(name: str) -> Reference:
    """Return the reference that can be asked of a registry. Raises InvalidRequest."""
    reference = references.parse(name)
    refuse_builtin(reference)
    # Docker's rule: a digest says it all, and the tag beside it is not looked at.
    return reference.replace(tag="") if reference.digest else reference


def _connect(reference: Reference, insecure: Sequence[str], *, with_mirrors: bool) -> tuple[Transport, list[Repository]]:
    machine = settings.load(insecure)
    transport = Transport(machine)
    return transport, open_repositories(reference.domain, reference.path, machine, transport, with_mirrors=with_mirrors)
