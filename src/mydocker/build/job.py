"""One build from beginning to end: stages in their order or side by side, then everything published at once.

    Dockerfile -> Plan -> a StageBuilder for each needed stage -> layers named, cache written, image in the index

Layers have temporary names, and shared locks, until the end; one flush then brings all to the disk. A failed build
publishes what its finished steps made, so that the next one begins where it ended.
"""
from __future__ import annotations

import itertools
import os
from _thread import allocate_lock

from mydocker.base import clock
from mydocker.base.errors import InvalidRequest, MydockerError, Unsupported
from mydocker.image import config as image_config
from mydocker.image import index
from mydocker.image.publish import NewImage, Staging
from mydocker.image.store import HOST
from mydocker.oci import media_types
from mydocker.oci.digest import chain_ids
from mydocker.storage import blobs, trash

from . import dockerfile, instructions, stages
from .cache import Cache, Hit
from .context import Context, open_context
from .executor import StageBuilder
from .request import BuildOptions, Built
from .secrets import sweep_secrets
from .state import DEFAULT_PATH, Layer, StageState

TYPE_CHECKING = False
if TYPE_CHECKING:
    import threading
    from _thread import LockType
    from collections.abc import Callable, Mapping

    from mydocker.base.paths import Layout
    from mydocker.image.store import ResolvedImage
    from mydocker.storage.ingest import Ingested

    from .request import Progress, Runner, RunStep


class Cancelled(MydockerError):
    """Another stage failed; its error is the one that counts."""


class Job:
    """A build under way. Used once."""

    def __init__(self, layout: Layout, runner: Runner, options: BuildOptions, progress: Progress) -> None:
        self.layout = layout
        self.options = options
        self.progress = progress
        self.epoch_ns = options.epoch_ns
        self.build_args: Mapping[str, str] = options.build_args
        self.used_args: set[str] = set()
        self.plan: stages.Plan
        self.context: Context | None = None
        self._runner = runner
        self._cache = Cache(layout, is_enabled=not options.no_cache)
        self._lock = allocate_lock()
        self._is_cancelled = False
        self._ready: threading.Condition | None = None  # where stages run side by side
        self._states: dict[int, StageState] = {}
        self._failures: dict[int, BaseException] = {}
        self._images: dict[tuple[str, str], StageState] = {}
        self._opening: dict[tuple[str, str], LockType] = {}  # by image: who has it looks for it, or pulls it
        self._staging: Staging
        self._has_new = False
        self._scratch = -1
        self._empty = ""

    def run(self) -> Built:
        """Build. Raises MydockerError of any kind, with the line of the Dockerfile where there is one."""
        self.layout.ensure()
        blobs.ensure_layout(self.layout)
        os.makedirs(self.layout.build, mode=0o700, exist_ok=True)
        with Staging(self.layout) as self._staging:
            sweep_secrets(self.layout)
            try:
                with open_context(self.layout, self.options.context, dockerfile=self.options.dockerfile) as self.context:
                    state = self._run_stages()
                    return self._finish(state)
            finally:
                self._let_go()

    def _run_stages(self) -> StageState:
        assert self.context is not None
        parsed = dockerfile.parse(self.context.read_dockerfile(self.options.dockerfile))
        self.plan = stages.plan(parsed, self.build_args, self.options.target, self.options.platform)
        needed = self.plan.needed()
        try:
            if self._is_linear(needed):
                for number in needed:
                    self._states[number] = self._build_stage(number)
            else:
                self._run_parallel(needed)
        except BaseException:
            self._publish_finished()
            raise
        self._warn_unused()
        state = self._states[self.plan.target]
        if self.options.labels:
            state.config["Labels"] = {**(state.config.get("Labels") or {}), **self.options.labels}
        return state

    def _is_linear(self, needed: list[int]) -> bool:
        """Tell whether no two stages could ever run side by side."""
        return all(before in self._all_needs(after) for before, after in itertools.pairwise(needed))

    def _all_needs(self, index: int) -> set[int]:
        found: set[int] = set()
        for other in self.plan.stages[index].needs:
            found |= {other} | self._all_needs(other)
        return found

    def _run_parallel(self, needed: list[int]) -> None:
        import threading  # cold: with what it imports, as much as all of a build that is in the cache

        self._ready = threading.Condition()
        threads = [threading.Thread(target=self._run_thread, args=(index,), name=f"mydocker-stage-{index}") for index in needed]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                thread.join()
        except BaseException:  # Ctrl-C
            self._cancel()
            for thread in threads:
                thread.join()
            raise
        for number in needed:
            failure = self._failures.get(number)
            if failure is not None and not isinstance(failure, Cancelled):
                raise failure

    def _run_thread(self, index: int) -> None:
        try:
            for other in self.plan.stages[index].needs:
                self.wait_stage(other)
            self._states[index] = self._build_stage(index)
            self._notify()
        except BaseException as error:
            self._failures[index] = error
            self._cancel()

    def _cancel(self) -> None:
        self._is_cancelled = True
        self._notify()

    def _notify(self) -> None:
        """Have those who wait for a stage look again."""
        assert self._ready is not None
        with self._ready:
            self._ready.notify_all()

    def _build_stage(self, index: int) -> StageState:
        stage = self.plan.stages[index]
        try:
            if stage.base_stage >= 0:
                state = self._states[stage.base_stage].fork()
            elif stage.base == "scratch":
                state = StageState(stage.platform or self.options.platform)
            else:
                state = self.open_image(stage.base, stage.platform or self.options.platform).fork()
        except MydockerError as error:
            instructions.at_line(error, stage.origin, stage.shown)
            raise
        if "PATH" not in state.env:
            state.config["Env"] = [*(state.config.get("Env") or ()), DEFAULT_PATH]
        return StageBuilder(self, stage, state).run()

    # --- for the builders of stages ------------------------------------------------------------------------

    def check_cancelled(self) -> None:
        """Raise Cancelled when another stage failed."""
        if self._is_cancelled:
            raise Cancelled("build: another stage failed")

    def wait_stage(self, index: int) -> StageState:
        """Return the state of another stage when it is finished."""
        if self._ready is not None:
            with self._ready:
                self._ready.wait_for(lambda: index in self._states or self._is_cancelled)
        if index not in self._states:
            raise Cancelled("build: another stage failed")
        return self._states[index]

    def open_image(self, name: str, platform: str) -> StageState:
        """Return the state that an image is, its layers locked. Raises NotFound, Unsupported."""
        key = name, platform
        with self._lock:
            opening = self._opening.setdefault(key, allocate_lock())
        with opening:  # a pull takes its time, in which other stages go on
            if key not in self._images:
                resolved = self._resolve_image(name, platform)
                with self._lock:
                    self._images[key] = self._state_of(resolved)
            return self._images[key]

    def _resolve_image(self, name: str, platform: str) -> ResolvedImage:
        if name in (HOST, f"{HOST}:latest"):
            raise Unsupported("build from the image host: it has no layers of its own", hint="commit a container of it")
        resolved = self._runner.resolve(name, platform=platform, pull=self.options.pull)
        if resolved.base:
            raise Unsupported(f"build from {name}: it is based on the image host", hint="build from an image with its own files")
        return resolved

    def _state_of(self, resolved: ResolvedImage) -> StageState:
        document = resolved.config
        manifest = blobs.load_document(self.layout, resolved.manifest_digest)
        state = StageState()
        diff_ids = document["rootfs"].get("diff_ids") or []
        for chain_id in resolved.chain_ids:
            self._staging.held.add(self.layout, chain_id)
        state.layers = tuple(
            Layer(name=chain_id, diff_id=diff_id, blob=blob)
            for chain_id, diff_id, blob in zip(resolved.chain_ids, diff_ids, manifest["layers"], strict=True))
        state.config = dict(document.get("config") or {})
        state.history = list(document.get("history") or ())
        state.author, state.created = document.get("author") or "", document.get("created") or ""
        state.platform = {
            key: str(document[key]) for key in ("architecture", "os", "variant") if document.get(key)}
        return state

    def find_cached(self, key: str, below: tuple[Layer, ...]) -> Hit | None:
        """Return what a step made before, if it is still there."""
        with self._lock:
            return self._cache.find(key, below, self._staging.held)

    def find_linked(self, key: str) -> Hit | None:
        """Return what a step made before on whatever layers, if its blob is still there."""
        with self._lock:
            return self._cache.find_made(key)

    def remember(self, key: str, created: str, below: tuple[Layer, ...], layer: Layer | None) -> None:
        """Have a step's result written to the cache at the end."""
        with self._lock:
            self._has_new = True
            self._cache.add(key, created, below, layer)

    def stage_layer(self, layers: list[Layer], taken: Ingested) -> None:
        """Take over a new layer, the last of `layers`."""
        chain = chain_ids([layer.diff_id for layer in layers])
        with self._lock:
            self._has_new = True
            self._staging.add_layer(chain[-1], taken)

    def lower_dirs(self, state: StageState) -> list[str]:
        """Return the directories of a state's layers, top first."""
        return [f"{self.layout.layer(layer.name)}/diff" for layer in reversed(state.layers)]

    def run_step(self, step: RunStep, upper_dir: str, write: Callable[[str, bytes], None]) -> int:
        """Run a command and leave what it wrote in `upper_dir`; returns its exit code."""
        code = self._runner.run(step, upper_dir, write, lambda: self._is_cancelled)
        if code:
            self.check_cancelled()  # then it was killed, and its code is no error of its own
        return code

    def judge_signal(self, word: str) -> None:
        """Raise InvalidRequest for what is no signal."""
        self._runner.judge_signal(word)

    def now(self) -> str:
        """Return the time that a new step is given: SOURCE_DATE_EPOCH, where it is set."""
        return clock.format_rfc3339(clock.now_ns() if self.epoch_ns is None else self.epoch_ns)

    def scratch_fd(self) -> int:
        """Return a directory for nameless files."""
        if self._scratch < 0:
            self._scratch = os.open(self.layout.build, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        return self._scratch

    def empty_dir(self) -> str:
        """Return an empty directory, for a stage that has no layers yet."""
        if not self._empty:
            self._empty = f"{self.layout.build}/.empty"
            os.makedirs(self._empty, mode=0o755, exist_ok=True)
        return self._empty

    def throw_away(self, path: str) -> None:
        """Remove a directory of the build's own."""
        trash.discard(self.layout, path)

    # --- the end -------------------------------------------------------------------------------------------

    def _let_go(self) -> None:
        if self._scratch >= 0:
            os.close(self._scratch)

    def _publish_finished(self) -> None:
        """Give what finished steps made to the cache, for the next attempt."""
        self._staging.publish([])
        self._cache.save()

    def _warn_unused(self) -> None:
        predefined = {*instructions.PROXY_ARGS, *stages.platform_args(), "SOURCE_DATE_EPOCH"}
        unused = sorted(set(self.build_args) - self.used_args - set(self.plan.global_args) - predefined)
        if unused:
            self.progress.warn(f"one or more build-args were not consumed: {', '.join(unused)}")

    def _finish(self, state: StageState) -> Built:
        if not state.created:
            state.created = self.now()
        if not state.layers and not state.history and not state.config:
            raise InvalidRequest("build: no image was generated. Is your Dockerfile empty?")
        if self.options.squash:
            from .squash import squash  # cold

            squash(self, state, self._base_layers(self.plan.target))
        kind, destination = self.options.output
        if kind in ("local", "tar"):
            self._publish_finished()
            from .export import export_files  # cold

            export_files(self.lower_dirs(_named(state)) or [self.empty_dir()], kind, destination)
            return Built(manifest_digest="", image_id="")
        config_bytes = image_config.encode(state.to_image_config())
        manifest_bytes = image_config.encode(image_config.new_manifest(config_bytes, [layer.blob for layer in state.layers]))
        descriptor = image_config.describe(manifest_bytes, media_types.MEDIA_MANIFEST)
        image = NewImage(
            descriptor=descriptor, references=self.options.references, diff_ids=tuple(layer.diff_id for layer in state.layers),
            needs=tuple(layer.blob["digest"] for layer in state.layers))
        if not self._is_published(image):
            for document in (config_bytes, manifest_bytes):
                self._staging.add_document(document)
            self._staging.publish([image])
            self._cache.save()
        if kind:
            from .export import export_image  # cold

            export_image(self.layout, descriptor["digest"], kind, destination, self.options.references)
        return Built(manifest_digest=descriptor["digest"], image_id=image_config.describe(config_bytes, "")["digest"])

    def _base_layers(self, index: int) -> int:
        """Return how many layers the image has that a stage stands on in the end."""
        stage = self.plan.stages[index]
        if stage.base_stage >= 0:
            return self._base_layers(stage.base_stage)
        if stage.base == "scratch":
            return 0
        return len(self.open_image(stage.base, stage.platform or self.options.platform).layers)

    def _is_published(self, image: NewImage) -> bool:
        """Tell whether everything is as it would be afterwards: then nothing is written, and no disk waited for."""
        if self._has_new or not all(blobs.is_there(self.layout, digest) for digest in image.needs):
            return False
        digest = image.descriptor["digest"]
        known = {index.name_of(entry) for entry in index.load(self.layout) if entry["digest"] == digest}
        return bool(known) and known.issuperset(image.references)


def _named(state: StageState) -> StageState:
    """Return the state with the names that its layers have once they are published."""
    chain = chain_ids([layer.diff_id for layer in state.layers])
    state.layers = tuple(layer.replace(name=name) for layer, name in zip(state.layers, chain, strict=True))
    return state


