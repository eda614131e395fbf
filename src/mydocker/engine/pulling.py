"""The image of a new container that is not here, or whose platform is not: it comes from its registry."""
from __future__ import annotations

from mydocker.base.errors import NotFound, Unavailable
from mydocker.oci import platform
from mydocker.oci.digest import is_hex

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mydocker.image.progress import Progress
    from mydocker.image.store import Images, ResolvedImage

    from .request import ContainerConfig


def pulled(images: Images, config: ContainerConfig, progress: Progress | None = None) -> ResolvedImage:
    """Return the image that a configuration asks for, pulled as its `pull` says. Raises NotFound, Unavailable, ...

    Without `progress` a pull is shown as the images' own `open_progress` has it.
    """
    if config.image in ("host", "host:latest"):
        return images.resolve(config.image, config.show)
    if config.pull != "always":
        found = _find(images, config)
        if found is not None:
            return found
    name = config.image
    if name.startswith("sha256:") and is_hex(name[7:]):
        raise NotFound(f"no image {name}", hint="an id cannot be pulled: write the image's name")
    if config.pull == "never":
        raise NotFound(f"no image {name} for {config.platform}", hint="--pull missing brings it in")
    heading = f"Unable to find image '{name}' locally" if config.pull == "missing" else f"Pulling {name}"
    if progress is None and images.open_progress is not None:
        progress = images.open_progress(heading)
    try:
        images.pull(name, platform=config.platform, insecure=config.insecure_registries, progress=progress)
    except (NotFound, Unavailable) as error:
        if config.pull == "always":
            raise
        hint = "what is here: mydocker images"  # the name may be a slip
        raise NotFound(
            f"no image {name}, and it cannot be pulled: {error.message}", hint=f"{error.hint}; {hint}" if error.hint else hint
        ) from error
    return images.resolve(name, config.show)


def _find(images: Images, config: ContainerConfig) -> ResolvedImage | None:
    try:
        found = images.resolve(config.image, config.show)
    except NotFound:
        return None
    if not config.platform:
        return found
    wanted = platform.parse(config.platform)
    own = found.config
    fits = platform.fit({"os": own.get("os", "linux"), "architecture": own.get("architecture", "")}, wanted)
    return found if fits else None
