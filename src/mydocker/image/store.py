"""The images of one state root: names in, what a container needs out. A facade; the verbs are beside it.

`resolve` is on the start path: three small files read, nothing heavy imported, no lock. Everything
else imports its module when it is called.
"""
from __future__ import annotations

import os

from mydocker.base import files
from mydocker.base.errors import Conflict, Corrupt, InvalidRequest, MydockerError, NotFound, Unsupported
from mydocker.base.record import Record
from mydocker.oci import reference as references
from mydocker.oci.digest import chain_ids, is_hex

from . import index

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any, BinaryIO

    from mydocker.base.paths import Layout
    from mydocker.oci.image_spec import Descriptor, ImageConfig, Manifest
    from mydocker.storage.layer_locks import LayerLocks

    from .describing import HistoryLine
    from .listing import ImageSummary
    from .load import LoadedImage
    from .progress import Progress
    from .pull import PulledImage
    from .push import PushedImage
    from .remove import RemovedImage
    from .verify import VerifiedImage

HOST = "host"
_MIN_ID_CHARS = 3


class ResolvedImage(Record):
    """What a container needs to know of its image.

    `reference` is familiar (`busybox:latest`; the id for a nameless image). `chain_ids` are the names
    of its layers, top last; for `base` = "host" the first is a hide layer. A container's record keeps
    `chain_ids` as `layers`, and `manifest_digest` as `image_id`.
    """

    reference: str
    manifest_digest: str
    config: ImageConfig
    chain_ids: tuple[str, ...]
    base: str = ""

    @property
    def id(self) -> str:
        """The image id of people: the manifest's digest, or `host`."""
        return self.manifest_digest or HOST


class HeldLayers:
    """Shared locks on layers for the time of a `with`; see `Images.hold`."""

    __slots__ = ("_locks", "lower_dirs")

    def __init__(self, locks: LayerLocks, lower_dirs: tuple[str, ...]) -> None:
        self._locks = locks
        self.lower_dirs = lower_dirs

    def __enter__(self) -> tuple[str, ...]:
        return self.lower_dirs

    def __exit__(self, *_: object) -> None:
        self._locks.close()


class Images:
    """The images below one layout."""

    __slots__ = ("layout", "open_progress")

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        #: Who shows, under a heading, the pull of an image that a new container lacks; the command line sets it.
        self.open_progress: Callable[[str], Progress] | None = None

    # --- reading ------------------------------------------------------------------------------------

    def resolve(self, name: str, show: Sequence[str] = ()) -> ResolvedImage:
        """Return what `name` means: a reference, a unique prefix of an id or digest, or `host`.

        Raises NotFound, Conflict (ambiguous prefix), InvalidRequest, Corrupt.
        """
        if name in (HOST, "host:latest"):
            return self._resolve_host(tuple(show))
        descriptor = self.find(name)
        base = index.base_of(descriptor)
        if show and not base:
            raise InvalidRequest(f"show: image {name} shows nothing of this machine", hint="--show is for the image host")
        manifest, config = self.documents(descriptor)
        chain = chain_ids(config["rootfs"].get("diff_ids") or [])
        if base:
            from . import hostimage  # cold: only images committed on host

            chain = (hostimage.ensure_hide_layer(self.layout, tuple(show)), *chain)
        canonical = index.name_of(descriptor)
        return ResolvedImage(
            reference=references.parse(canonical).familiar if canonical else manifest["config"]["digest"],
            manifest_digest=descriptor["digest"], config=config, chain_ids=chain, base=base,
        )

    def _resolve_host(self, show: tuple[str, ...]) -> ResolvedImage:
        from . import hostimage  # cold

        return ResolvedImage(
            reference=HOST, manifest_digest="", config=hostimage.config(),
            chain_ids=(hostimage.ensure_hide_layer(self.layout, show),), base=HOST,
        )

    def lower_dirs(self, image: ResolvedImage) -> tuple[str, ...]:
        """Return the lower directories of an image, top first; the last is `/` on `host`."""
        return self.lower_dirs_of(image.chain_ids, image.base)

    def lower_dirs_of(self, layers: Sequence[str], base: str) -> tuple[str, ...]:
        """The same from a container's record (`layers`, top last, and `base`)."""
        found = tuple(f"{self.layout.layer(chain_id)}/diff" for chain_id in reversed(layers))
        return (*found, "/") if base == HOST else found

    def hold(self, image: ResolvedImage) -> HeldLayers:
        """Return a context that keeps an image's layers from removal, and gives their lower directories.

        Left when the record that names the layers is written. Raises NotFound when one is gone already.
        """
        from mydocker.storage.layer_locks import lock_layers

        return HeldLayers(lock_layers(self.layout, image.chain_ids), self.lower_dirs(image))

    def prepare_write_layer(self, container_dir: str, lower_dirs: Sequence[str]) -> None:
        """Make a new container's own directories (see storage/snapshots.py)."""
        from mydocker.storage.snapshots import prepare

        prepare(container_dir, lower_dirs)

    def inspect(self, name: str) -> dict[str, Any]:
        """Return an image's documents: reference, references, digests, config, manifest, layers, base."""
        from . import listing  # cold

        return listing.inspect_image(self, name)

    def describe(self, name: str) -> dict[str, Any]:
        """Return docker's document of an image, with our own words in lower case behind (image/describing.py)."""
        from .describing import inspect_document  # cold

        return inspect_document(self.inspect(name), self.layout)

    def history(self, name: str) -> list[HistoryLine]:
        """Return the steps of an image's making, youngest first. Raises NotFound, Conflict, Corrupt."""
        from .describing import history_of  # cold

        return history_of(self.inspect(name), self.layout)

    def find(self, name: str, manifests: list[Descriptor] | None = None) -> Descriptor:
        """Return the descriptor of a reference, `name@digest`, or a unique prefix of an id or manifest digest."""
        manifests = index.load(self.layout) if manifests is None else manifests
        prefix = name.removeprefix("sha256:")
        is_id_only = name.startswith("sha256:") and is_hex(prefix)
        parsed = None if is_id_only else references.parse(name)
        if parsed is not None:
            wanted = parsed.canonical
            for descriptor in manifests:
                if index.name_of(descriptor) == wanted:
                    return descriptor
            if parsed.digest:
                found = [
                    entry for entry in manifests
                    if parsed.digest in (entry["digest"], index.known_digest(entry)) and _is_of(entry, parsed)]
                if found:
                    return found[0]
        if is_hex(prefix) and len(prefix) >= _MIN_ID_CHARS:
            return self._find_by_id(manifests, prefix, name)
        raise _unknown(name)

    def _find_by_id(self, manifests: Sequence[Descriptor], prefix: str, name: str) -> Descriptor:
        found: dict[str, Descriptor] = {}  # by image id: one image may have two manifests (pushed, and pulled again)
        for descriptor in manifests:
            try:
                manifest = files.load_json(self._blob(descriptor["digest"]))
            except FileNotFoundError:
                continue
            digests = (str(manifest.get("config", {}).get("digest", "")), descriptor["digest"])
            if any(digest.startswith(f"sha256:{prefix}") for digest in digests):
                found.setdefault(digests[0], descriptor)
        if len(found) > 1:
            raise Conflict(f"image {name}: {len(found)} images have such an id", hint="write more of it: mydocker images")
        if not found:
            raise _unknown(name)
        return next(iter(found.values()))

    def documents(self, descriptor: Descriptor) -> tuple[Manifest, ImageConfig]:
        """Return the manifest and the config of an image. Raises NotFound, Corrupt."""
        try:
            manifest: Manifest = files.load_json(self._blob(descriptor["digest"]))
            config: ImageConfig = files.load_json(self._blob(manifest["config"]["digest"]))
            config["rootfs"]  # a document of another kind has none
        except FileNotFoundError:
            raise NotFound(f"read image {descriptor['digest']}: a part of it is gone", hint="load or import it again") from None
        except (KeyError, TypeError) as error:
            raise Corrupt(f"read image {descriptor['digest']}: it is no image") from error
        return manifest, config

    def _blob(self, digest: str) -> str:
        # What index.json and manifests name was checked when it came in, but other tools write here too.
        hexadecimal = digest.removeprefix("sha256:")
        if len(hexadecimal) != 64 or not is_hex(hexadecimal):
            raise Corrupt(f"read blob: {digest[:100]!r} is not a sha256 digest")
        return f"{self.layout.image}/blobs/sha256/{hexadecimal}"

    # --- changing -----------------------------------------------------------------------------------

    def import_tar(
        self, source: str | os.PathLike[str] | BinaryIO, name: str = "", *, message: str = "",
        overrides: dict[str, Any] | None = None, change: Sequence[str] = (), platform: str = "",
    ) -> str:
        """Make an image of a root file system's tar (path, `-`, or binary file); returns the manifest's digest."""
        from . import importing  # cold

        reference = self.judged_name(name)
        try:
            return importing.import_tar(
                self.layout, source, reference, message=message, overrides=overrides, change=change, platform=platform)
        except (Corrupt, Unsupported) as error:
            hint = "a tar of a root file system is needed, plain or compressed with gzip, zstd, bzip2 or xz"
            raise _about(error, "import", source, hint=hint) from error

    def load(self, source: str | os.PathLike[str] | BinaryIO, *, platform: str = "") -> list[LoadedImage]:
        """Load the images of an archive or OCI layout directory that any tool saved.

        `platform` (such as `linux/arm64`) chooses among several; this machine's is the default.
        """
        from . import load  # cold

        try:
            return load.load(self.layout, source, platform)
        except (Corrupt, Unsupported) as error:
            raise _about(error, "load", source, hint="an archive by `docker save`, podman or skopeo is needed") from error

    def pull(
        self, name: str, *, platform: str = "", insecure: Sequence[str] = (), progress: Progress | None = None,
        sweeps: bool = True,
    ) -> PulledImage:
        """Bring in an image from its registry; see image/pull.py. `insecure` are registries that may do without TLS.

        Without `sweeps` beginnings of layers that a killed pull left stay, for pulls that follow this one.
        """
        from . import distribution  # cold: HTTP and TLS cost a start 100 ms

        return distribution.pull(self.layout, name, platform=platform, insecure=insecure, progress=progress, sweeps=sweeps)

    def push(
        self, name: str, others: Sequence[str] = (), *, insecure: Sequence[str] = (), progress: Progress | None = None
    ) -> PushedImage:
        """Push an image to the registry that its name says; with `others`, a manifest list of it and them.

        Raises NotFound, InvalidRequest, and what image/push.py raises.
        """
        from . import distribution  # cold

        descriptors = [self.find(image) for image in (name, *others)]
        wanted = references.parse(name)
        if not wanted.digest and index.name_of(descriptors[0]) != wanted.canonical:  # an id is nobody's name at a registry
            raise NotFound(f"push {name}: no image has this name", hint=f"name it: mydocker tag {name} REGISTRY/NAME[:TAG]")
        return distribution.push(self.layout, name, descriptors, insecure=insecure, progress=progress)

    def tag(self, name: str, target: str) -> str:
        """Give an image one more name; returns it, familiar. Raises NotFound, Conflict, InvalidRequest."""
        if name in (HOST, "host:latest"):
            raise Conflict("tag image host: it is built in", hint="commit a container of it")
        canonical = self.judged_name(target)
        if not canonical:
            raise InvalidRequest("tag: the new name is empty", hint="write NAME[:TAG]")

        def change(manifests: list[Descriptor]) -> None:
            # Looked up while the index is locked: what is named must not be removed at this moment.
            index.tag(manifests, self.find(name, manifests), canonical)

        index.update(self.layout, change)
        return references.parse(canonical).familiar

    def list_tags(self, name: str, *, insecure: Sequence[str] = ()) -> Iterator[str]:
        """Yield the familiar name of every tag that a repository has at its registry."""
        from . import distribution  # cold

        return distribution.list_tags(name, insecure=insecure)

    def save(
        self, names: Sequence[str], target: str | os.PathLike[str] | int | BinaryIO, *, format: str = "docker-archive",
        platform: str = "",
    ) -> None:
        """Save images to a path, a descriptor or a binary file: see image/save.py.

        A name without a tag means all tags of it; an id saves the image without a name. `format` is docker-archive
        (an OCI archive, too), oci-archive or oci-dir.
        """
        from . import save  # cold

        save.save_named(self, names, target, form=format, platform=platform)

    def commit(
        self, upper_dir: str, name: str = "", *, manifest_digest: str, base: str = "", author: str = "", message: str = "",
        command: str = "", overrides: dict[str, Any] | None = None, change: Sequence[str] = (),
    ) -> str:
        """Make an image of a container's changes; see image/commit.py. Returns the manifest's digest."""
        from . import commit  # cold

        return commit.commit(
            self.layout, upper_dir, manifest_digest=manifest_digest, base=base, reference=self.judged_name(name), author=author,
            message=message, command=command, overrides=overrides, change=change,
        )

    def remove(self, name: str, *, force: bool = False) -> RemovedImage:
        """Remove a name, and with the last one the image; by id, the image. Raises NotFound, Conflict."""
        from . import remove  # cold

        if name in (HOST, "host:latest"):
            raise Conflict("remove image host: it is built in")
        descriptor = self.find(name)
        canonical = "" if name.startswith("sha256:") else references.parse(name).canonical
        if index.name_of(descriptor) == canonical and canonical:
            return remove.remove(self.layout, (descriptor["digest"],), reference=canonical, force=force)
        return remove.remove(self.layout, remove.manifests_of(self.layout, descriptor["digest"]), reference="", force=force)

    def prune(self, *, all: bool = False, matches: Callable[[ImageSummary], bool] | None = None) -> list[RemovedImage]:
        """Remove the images without a name, or with `all` those that no container uses, if `matches` says so, too."""
        from . import remove  # cold

        return remove.prune(self.layout, self.list(), all=all, matches=matches or (lambda image: True))

    def collect(self) -> int:
        """Remove what no image and no container needs, and what crashes left behind; returns the bytes that held."""
        from . import remove  # cold

        self.layout.ensure()
        return remove.collect(self.layout)

    def verify(self, name: str = "") -> Iterator[VerifiedImage]:
        """Check every byte of an image, or of all: blobs against their digests, unpacked layers against their blobs."""
        from . import verify  # cold

        return verify.verify(self.layout, [self.find(name)] if name else index.load(self.layout))

    @staticmethod
    def judged_name(name: str) -> str:
        """Return the canonical reference of a new image's name (empty stays empty). Raises InvalidRequest."""
        if not name:
            return ""
        parsed = references.parse(name)
        if parsed.digest:
            raise InvalidRequest(f"image name {name!r}: a digest cannot be chosen", hint="write NAME[:TAG]")
        if parsed.familiar_name == HOST:
            raise InvalidRequest("image name 'host': it is the built-in view of this machine", hint="choose another name")
        return parsed.canonical

    def list(self) -> list[ImageSummary]:
        """Return every name of every image, newest first."""
        from . import listing  # cold

        return listing.list_images(self)


def _is_of(descriptor: Descriptor, wanted: references.Reference) -> bool:
    name = index.name_of(descriptor)
    parsed = references.parse(name) if name else None
    return parsed is not None and (parsed.domain, parsed.path) == (wanted.domain, wanted.path)


def _about(error: MydockerError, verb: str, source: object, *, hint: str) -> MydockerError:
    """Return an error about an archive's content that names the archive, too."""
    place = os.fspath(source) if isinstance(source, str | os.PathLike) and source != "-" else "standard input"
    return type(error)(f"{verb} {place}: {error.message.removeprefix(verb + ': ')}", hint=error.hint or hint)


def _unknown(name: str) -> NotFound:
    return NotFound(
        f"no image {name}",
        hint="list what there is with `mydocker images`; bring one in with `mydocker pull NAME` or `mydocker load -i FILE`")
