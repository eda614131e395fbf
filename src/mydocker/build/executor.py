"""One stage of a build, instruction by instruction.

What an instruction comes to is known by its key: what the cache has under it is taken, and only what is new is made
(making.py). A build in which nothing is new therefore imports nothing that makes layers: that is half of its time.
"""
from __future__ import annotations

import os

from mydocker.base.errors import InvalidRequest, MydockerError
from mydocker.base.undo import Undo
from mydocker.linux.inroot import clean

from . import instructions
from .dockerfile import Node, is_heredoc, parse_instruction
from .ignore import IgnoreRules
from .modes import Ownership, parse_mode
from .request import RunStep
from .stages import find_stage
from .state import Layer, StageState
from .substitute import substitute, substitute_words
from .taking import Taking

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .job import Job
    from .runmounts import Preparation
    from .stages import Stage

_NO_RULES = IgnoreRules([])


class StageBuilder:
    """Builds one stage on a state that the job gives: that of its base."""

    def __init__(self, job: Job, stage: Stage, state: StageState) -> None:
        self._job = job
        self._stage = stage
        self.state = state
        self._step = 0
        self._total = 0
        self._escape = job.plan.escape

    def run(self) -> StageState:
        """Do all instructions. Raises what they raise, with line and step."""
        triggers = self.state.config.pop("OnBuild", None) or []
        nodes = [parse_instruction(text, self._stage.origin.line) for text in triggers] + list(self._stage.nodes)
        self._total = len(nodes)
        for node in nodes[:len(triggers)]:
            instructions.check(node)
        for node in nodes:
            self._step += 1
            self._job.check_cancelled()
            progress = self._job.progress.begin(f"{self._stage.shown} {self._step}/{self._total}", node.text)
            try:
                is_cached = self._do(node, progress.write)
            except MydockerError as error:
                progress.end(error=error.message)
                instructions.at_line(error, node, f"{self._stage.shown} {self._step}/{self._total}")
                raise
            except OSError as error:
                progress.end(error=str(error))
                place = f"{error.filename}: " if isinstance(error.filename, str) else ""
                raise instructions.at_line(
                    MydockerError(f"{place}{(error.strerror or str(error)).lower()}"), node,
                    f"{self._stage.shown} {self._step}/{self._total}") from error
            progress.end(cached=is_cached)
        return self.state

    def _do(self, node: Node, write: Callable[[str, bytes], None]) -> bool:
        """Do one instruction; tells whether its result was in the cache."""
        if node.keyword == "RUN":
            return self._run(node, write)
        if node.keyword in ("COPY", "ADD"):
            return self._copy(node)
        if node.keyword == "WORKDIR":
            return self._workdir(node)
        self._configure(node)
        key = self.state.key(node.text)
        hit = self._job.find_cached(key, self.state.layers)
        created = hit.created if hit else self._job.now()
        if hit is None:
            self._job.remember(key, created, self.state.layers, None)
        self.state.add_history(created, node.text, is_empty=True)
        return hit is not None

    # --- instructions that change no file ----------------------------------------------------------------

    def _configure(self, node: Node) -> None:
        handle = getattr(self, f"_do_{node.keyword.lower()}")
        handle(node)

    def substitute(self, word: str) -> str:
        """Return a word with the stage's variables in it replaced."""
        return substitute(word, self.state.variables, self._escape)

    def _do_arg(self, node: Node) -> None:
        for name, default in instructions.build_args_of(node, self._escape):
            name = self.substitute(name)
            value = self._job.build_args.get(name)
            if value is None and default is not None:
                value = self.substitute(default)
            if value is None:
                value = self._job.plan.global_args.get(name)
            self._job.used_args.add(name)
            if value is not None:
                self.state.args[name] = value

    def _do_env(self, node: Node) -> None:
        # All of one ENV see what was before it.
        found = [(self.substitute(name), self.substitute(value)) for name, value in instructions.pairs_of(node, self._escape)]
        if not all(name for name, _ in found):
            raise InvalidRequest("ENV names can not be blank")
        for name, value in found:
            self.state.set_env(name, value)

    def _do_label(self, node: Node) -> None:
        found = {self.substitute(name): self.substitute(value) for name, value in instructions.pairs_of(node, self._escape)}
        self.state.config["Labels"] = {**(self.state.config.get("Labels") or {}), **found}

    def _do_maintainer(self, node: Node) -> None:
        self.state.author = node.rest

    def _do_user(self, node: Node) -> None:
        self.state.config["User"] = self.substitute(node.rest)

    def _do_cmd(self, node: Node) -> None:
        self.state.config["Cmd"] = instructions.command_of(node, self.state.shell)
        self.state.has_command = True

    def _do_entrypoint(self, node: Node) -> None:
        self.state.config["Entrypoint"] = instructions.command_of(node, self.state.shell)
        if not self.state.has_command:  # the base's CMD was for the base's entrypoint
            self.state.config.pop("Cmd", None)

    def _do_shell(self, node: Node) -> None:
        self.state.config["Shell"] = list(node.json_words or ())

    def _do_stopsignal(self, node: Node) -> None:
        signal = self.substitute(node.rest)
        self._job.judge_signal(signal)
        self.state.config["StopSignal"] = signal

    def _do_expose(self, node: Node) -> None:
        ports = instructions.ports_of(substitute_words(node.rest, self.state.variables, self._escape))
        self.state.config["ExposedPorts"] = {**(self.state.config.get("ExposedPorts") or {}), **ports}

    def _do_volume(self, node: Node) -> None:
        volumes = dict(self.state.config.get("Volumes") or {})
        for word in instructions.sources_of(node):
            path = self.substitute(word)
            if not path:
                raise InvalidRequest("VOLUME specified can not be an empty string")
            volumes[path] = {}
        self.state.config["Volumes"] = volumes

    def _do_healthcheck(self, node: Node) -> None:
        self.state.config["Healthcheck"] = instructions.healthcheck_of(node)

    def _do_onbuild(self, node: Node) -> None:
        instructions.trigger_of(node)
        self.state.config["OnBuild"] = [*(self.state.config.get("OnBuild") or ()), node.rest]

    # --- instructions that change files ------------------------------------------------------------------

    def _workdir(self, node: Node) -> bool:
        word = self.substitute(node.rest)
        path = word if word.startswith("/") else f"{self.state.workdir}/{word}"
        path = "/" + "/".join(clean(path))
        self.state.config["WorkingDir"] = path

        def change(root_fd: int) -> None:
            from .tree import make_directories  # cold

            os.close(make_directories(root_fd, path))

        return self._commit(self.state.key(node.text), node.text, change)

    def _copy(self, node: Node) -> bool:
        *words, destination = [self.substitute(word) for word in self._words_of(node)]
        if not destination.startswith("/"):
            destination = f"{self.state.workdir}/{destination}"
        if destination.endswith(("/.", "/..")):
            destination += "/"
        with Undo() as undo:
            taking = Taking(self, self._job, node, undo)
            for word in words:
                taking.add(word)
            taking.require()
            ownership = self._ownership(node, keep=bool(instructions.flag_of(node, "from")))
            # A linked layer is made on nothing, so that nothing below is part of what it is.
            is_linked = instructions.is_set(node, "link")
            state = StageState() if is_linked else self.state
            key = state.key(node.text, destination, taking.digest(), repr(ownership))
            return self._commit(
                key, node.text, lambda root_fd: taking.copy(root_fd, destination, ownership), is_linked=is_linked)

    def _words_of(self, node: Node) -> list[str]:
        return instructions.sources_of(node)

    def _ownership(self, node: Node, *, keep: bool) -> Ownership:
        mode = self.substitute(instructions.flag_of(node, "chmod"))
        owner = self.substitute(instructions.flag_of(node, "chown"))
        return Ownership(
            owner=self._find_owner(owner) if owner else None if keep else (0, 0), mode=parse_mode(mode) if mode else None)

    def _find_owner(self, text: str) -> tuple[int, int]:
        """Return the ids of --chown, names by the stage's own passwd and group. Raises NotFound, InvalidRequest."""
        from mydocker.runtime.users import parse_id, resolve_user  # cold

        user, _, group = text.partition(":")
        uid, gid = parse_id(user, what="user id"), parse_id(group or user, what="group id")
        if uid is not None and gid is not None:
            return uid, gid
        root_fd = self.open_root()
        try:
            found = resolve_user(root_fd, f"{user}:{group}" if group else user)
        finally:
            os.close(root_fd)
        return found.uid, found.gid

    def open_root(self) -> int:
        """Return a descriptor of the stage's root file system as it is now, to be closed. Nothing can be written there."""
        from .view import open_view  # cold

        return open_view(self._job.lower_dirs(self.state))

    def open_origin(self, word: str) -> tuple[int, IgnoreRules]:
        """Return the root of a --from=WORD, the context when there is none, with the rules that hold there."""
        if not word:
            if self._job.context is None:
                raise InvalidRequest("there is no build context")
            return os.dup(self._job.context.root_fd), self._job.context.rules
        from .view import open_view  # cold

        word = self.substitute(word)
        index = find_stage(self._job.plan.stages, word, self._stage.index)
        state = self._job.wait_stage(index) if index >= 0 else self._job.open_image(word, "")
        return open_view(self._job.lower_dirs(state) or [self._job.empty_dir()]), _NO_RULES

    def _commit(self, key: str, text: str, change: Callable[[int], None], *, is_linked: bool = False) -> bool:
        """Make a layer of what `change` does below the root; it is given a descriptor that can be written below."""
        hit = self._job.find_cached(key, self.state.layers)
        if hit is not None:
            return self._take_hit(hit.created, hit.layer, text)
        from .making import change_files, move_linked  # cold

        if is_linked and move_linked(self._job, self.state, key, text):
            return True
        change_files(self._job, self.state, key, text, change, is_linked=is_linked)
        return False

    def _take_hit(self, created: str, layer: Layer | None, text: str) -> bool:
        if layer is not None:
            self.state.layers = (*self.state.layers, layer)
        self.state.add_history(created, text, is_empty=layer is None)
        return True

    # --- RUN -----------------------------------------------------------------------------------------------

    def _run(self, node: Node, write: Callable[[str, bytes], None]) -> bool:
        argv = self._argv_of(node)
        network = self.substitute(instructions.flag_of(node, "network")) or self._job.options.network
        # ENV wins over ARG; proxies are passed without being part of anything (docker's predefined arguments).
        args = {name: value for name, value in self.state.args.items() if name not in self.state.env}
        proxies = {name: self._job.build_args[name] for name in instructions.PROXY_ARGS if name in self._job.build_args}
        with Undo() as undo:
            preparing = self._prepare_mounts(node, undo)
            visible = {name: value for name, value in args.items() if name not in instructions.PROXY_ARGS}
            key = self.state.key(node.text, argv, [heredoc.content for heredoc in node.heredocs], visible, network,
                                 preparing.digest() if preparing else "", self._job.options.add_hosts)
            hit = self._job.find_cached(key, self.state.layers)
            if hit is not None:
                return self._take_hit(hit.created, hit.layer, _history_of(node, visible))
            from .making import run_command  # cold

            step = RunStep(
                layers=tuple(layer.name for layer in self.state.layers), config=self.state.config, argv=tuple(argv),
                env={**args, **proxies}, user=self.state.config.get("User") or "", workdir=self.state.workdir, network=network,
                script=node.heredocs[0].content if argv[0].startswith("/dev/pipes/") and node.heredocs else "")
            run_command(self._job, self.state, key, _history_of(node, visible), step, preparing, write)
        return False

    def _prepare_mounts(self, node: Node, undo: Undo) -> Preparation | None:
        if not instructions.flags_of(node, "mount"):
            return None
        from .runmounts import Preparation, judge  # cold

        mounts = judge(node, self.state.variables, self.state.workdir, self._escape)
        return Preparation(mounts, self._job.layout, self._job.options.secrets, undo, self.open_origin)

    def _argv_of(self, node: Node) -> list[str]:
        words = node.json_words
        if words is not None:
            if not words:
                raise InvalidRequest("RUN requires at least one argument")
            return list(words)
        if not node.heredocs:
            return [*self.state.shell, node.rest]
        first = node.heredocs[0]
        opening = node.rest.strip()
        if len(node.heredocs) == 1 and is_heredoc(opening) == first.name:
            content = first.content
            if content.startswith("#!"):
                # A script of its own interpreter: mounted where docker mounts it. A name is not more than one.
                return [f"/dev/pipes/{first.name.replace('/', '_').lstrip('.') or 'script'}"]
            return [*self.state.shell, content]
        documents = "".join(f"{heredoc.content}{heredoc.name}\n" for heredoc in node.heredocs)
        return [*self.state.shell, f"{node.rest}\n{documents}"]


def _history_of(node: Node, args: dict[str, str]) -> str:
    """Return what history shows of a RUN: with the arguments that were set, as docker shows them."""
    shown = " ".join(f"{name}={value}" for name, value in sorted(args.items()))
    return f"RUN |{len(args)} {shown} {node.rest}" if args else node.text
