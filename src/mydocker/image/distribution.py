"""Images to and from registries: names to servers, and the connections closed afterwards."""
from __future__ import annotations

from mydocker.base.errors import Denied, InvalidRequest
from mydocker.oci import platform as platforms
from mydocker.oci import reference as references
from mydocker.registry import credentials, settings
from mydocker.registry.client import Server, open_repositories
from mydocker.registry.transport import Transport

from . import pull as pulling
from . import push as pushing
from .load import refuse_builtin
from .progress import Silent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mydocker.base.paths import Layout
    from mydocker.oci.image_spec import Descriptor
    from mydocker.oci.reference import Reference
    from mydocker.registry.client import Repository

    from .progress import Progress


def pull(
    layout: Layout, name: str, *, platform: str = "", insecure: Sequence[str] = (), progress: Progress | None = None,
    sweeps: bool = True,
) -> pulling.PulledImage:
    """Pull an image by name, tag or digest; see image/pull.py. Raises InvalidRequest, and what image/pull.py raises."""
    reference = judged(name)
    wanted = platforms.parse(platform) if platform else None
    transport, repositories = _connect(reference, insecure, with_mirrors=True)
    try:
        return pulling.pull(layout, reference, repositories, progress or Silent(), wanted, sweeps=sweeps)
    finally:
        transport.close()


def push(
    layout: Layout, name: str, descriptors: Sequence[Descriptor], *, insecure: Sequence[str] = (),
    progress: Progress | None = None,
) -> pushing.PushedImage:
    """Push images as `name`. Raises InvalidRequest, and what image/push.py raises."""
    reference = judged(name)
    if reference.digest:
        raise InvalidRequest(f"push {name}: a digest cannot be chosen", hint="write NAME[:TAG]")
    # Where something is stored is never a mirror's to say.
    transport, repositories = _connect(reference, insecure, with_mirrors=False)
    try:
        return pushing.push(layout, reference, repositories[-1], descriptors, progress or Silent())
    finally:
        transport.close()


def login(server: str, username: str, password: str, *, insecure: Sequence[str] = ()) -> str:
    """Try credentials at a registry and keep them; returns where. Raises Denied, InvalidRequest, Unavailable."""
    if not username or ":" in username:
        raise InvalidRequest(f"login: {username!r} is no user name")
    domain = judged_server(server)
    given = credentials.Credentials(username, password)
    _try_credentials(domain, given, insecure)
    return credentials.store(domain, given)


def login_again(server: str, *, insecure: Sequence[str] = ()) -> bool:
    """Try the credentials that are kept for a registry; tells whether there are some, and they are good. Raises Unavailable."""
    domain = judged_server(server)
    kept = credentials.find(domain)
    if kept is None:
        return False
    try:
        _try_credentials(domain, kept, insecure)
    except Denied:
        return False
    return True


def _try_credentials(domain: str, given: credentials.Credentials, insecure: Sequence[str]) -> None:
    machine = settings.load(insecure)
    transport = Transport(machine)
    try:
        found = Server(machine.endpoints(domain, with_mirrors=False)[-1], domain, transport)
        found.sign_in(given)
        found.ask("GET", found.base(), lambda _: None, scope="", what=f"log in to {domain}")
    except Denied as error:
        raise Denied(error.message, hint="is it the right user name and password?") from error
    finally:
        transport.close()


def logout(server: str) -> bool:
    """Forget the credentials for a registry; tells whether there were any. Raises InvalidRequest, Unavailable."""
    return credentials.erase(judged_server(server))


def judged_server(server: str) -> str:
    """Return the registry that a user's word means: `host[:port]`, a URL of it, or nothing for Docker Hub."""
    domain = credentials.host_of(server) if server else references.DEFAULT_DOMAIN
    if domain != references.DEFAULT_DOMAIN and not references.is_reference(f"{domain.lower()}/x"):
        raise InvalidRequest(f"registry {server[:100]!r}: it is no host name", hint="write HOST[:PORT]")
    return domain


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
