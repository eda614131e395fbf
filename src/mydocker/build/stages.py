"""The stages of a Dockerfile: who is built from whom, and which are needed for the target. Pure."""
from __future__ import annotations

from mydocker.base.errors import InvalidRequest
from mydocker.base.record import Record
from mydocker.oci import platform as platforms

from . import instructions
from .dockerfile import Dockerfile, Node
from .substitute import substitute

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_NAME_FIRST = frozenset("abcdefghijklmnopqrstuvwxyz")
_NAME_REST = _NAME_FIRST | frozenset("0123456789-_.")


class Stage(Record):
    """One FROM and what follows it. `base_stage` is the index of the stage it stands on, -1 for an image."""

    index: int
    name: str
    base: str
    base_stage: int
    platform: str
    origin: Node
    nodes: tuple[Node, ...]
    needs: tuple[int, ...] = ()

    @property
    def shown(self) -> str:
        """How progress calls it."""
        return self.name or f"stage-{self.index}"


class Plan(Record):
    """What is to be built: the stages in order, the target, and the global ARGs with their values."""

    stages: tuple[Stage, ...]
    target: int
    global_args: Mapping[str, str]
    escape: str

    def needed(self) -> list[int]:
        """Return the indexes of the stages that the target needs, itself last, each after what it needs."""
        found: list[int] = []

        def visit(index: int) -> None:
            if index in found:
                return
            for other in self.stages[index].needs:
                visit(other)
            found.append(index)

        visit(self.target)
        return found


def platform_args(target: str = "") -> dict[str, str]:
    """Return the predefined arguments of platforms: what is built on, this machine's, and what is built for (--platform)."""
    found: dict[str, str] = {}
    for side, platform in (("BUILD", platforms.host()), ("TARGET", platforms.parse(target) if target else platforms.host())):
        if platform["architecture"] == "arm64" and platform.get("variant") == "v8":
            del platform["variant"]  # the only one there is: docker leaves it out
        found |= {
            f"{side}PLATFORM": platforms.shown(platform), f"{side}OS": platform["os"], f"{side}ARCH": platform["architecture"],
            f"{side}VARIANT": platform.get("variant", ""),
        }
    return found


def plan(parsed: Dockerfile, build_args: Mapping[str, str], target: str = "", platform: str = "") -> Plan:
    """Cut a Dockerfile into stages and find the target, to be built for a platform. Raises InvalidRequest, Unsupported."""
    for node in parsed.nodes:
        instructions.check(node)
    global_args: dict[str, str] = {}
    variables = platform_args(platform)
    stages: list[Stage] = []
    body: list[Node] = []
    for node in parsed.nodes:
        if node.keyword == "FROM":
            if stages:
                stages[-1] = stages[-1].replace(nodes=tuple(body))
            body = []
            stages.append(_begin(node, stages, variables | global_args, parsed.escape))
        elif stages:
            body.append(node)
        elif node.keyword == "ARG":
            for name, default in instructions.build_args_of(node, parsed.escape):
                value = build_args.get(name)
                if value is None and default is not None:
                    value = substitute(default, variables | global_args, parsed.escape)
                if value is None:
                    value = variables.get(name)
                if value is not None:
                    global_args[name] = value
        else:
            raise InvalidRequest(f"Dockerfile line {node.line}: no build stage in current context: begin with FROM")
    if not stages:
        raise InvalidRequest("Dockerfile: no build stage: it has no FROM")
    stages[-1] = stages[-1].replace(nodes=tuple(body))
    stages = [stage.replace(needs=_needs_of(stage, stages)) for stage in stages]
    return Plan(
        stages=tuple(stages), target=_find_target(stages, target), global_args=variables | global_args, escape=parsed.escape)


def _begin(node: Node, stages: list[Stage], variables: Mapping[str, str], escape: str) -> Stage:
    words = node.rest.split()
    if len(words) not in (1, 3) or (len(words) == 3 and words[1].upper() != "AS"):
        raise InvalidRequest(f"Dockerfile line {node.line}: FROM requires either one or three arguments")
    name = words[2].lower() if len(words) == 3 else ""
    if name and not (name[0] in _NAME_FIRST and _NAME_REST.issuperset(name)):
        raise InvalidRequest(
            f"Dockerfile line {node.line}: invalid name for build stage: {name!r}, "
            "name can't start with a number or contain symbols")
    base = substitute(words[0], variables, escape)
    if not base:
        raise InvalidRequest(f"Dockerfile line {node.line}: base name ({words[0]}) should not be blank")
    below = next((stage.index for stage in reversed(stages) if stage.name and stage.name == base.lower()), -1)
    platform = substitute(instructions.flag_of(node, "platform"), variables, escape)
    return Stage(index=len(stages), name=name, base=base, base_stage=below, platform=platform, origin=node, nodes=())


def find_stage(stages: list[Stage] | tuple[Stage, ...], word: str, before: int) -> int:
    """Return the index of the stage that --from=WORD means in stage `before`; -1 when it is an image. Raises InvalidRequest."""
    for stage in reversed(stages[:before]):
        if stage.name and stage.name == word.lower():
            return stage.index
    if word.isdigit():
        if int(word) >= before:
            raise InvalidRequest(f"--from={word}: there is no stage {word} before this one")
        return int(word)
    return -1


def _needs_of(stage: Stage, stages: list[Stage]) -> tuple[int, ...]:
    found = [stage.base_stage] if stage.base_stage >= 0 else []
    for node in stage.nodes:
        try:
            for word in origins_of(node):
                if "$" in word:
                    continue  # only the stage itself knows its variables: it waits for all that stand before
                index = find_stage(stages, word, stage.index)
                if index >= 0:
                    found.append(index)
        except InvalidRequest as error:
            instructions.at_line(error, node)
            raise
        if any("$" in word for word in origins_of(node)):
            found += range(stage.index)
    return tuple(dict.fromkeys(found))


def origins_of(node: Node) -> list[str]:
    """Return the words of --from= and --mount=...,from= in an instruction."""
    found = instructions.flags_of(node, "from") if node.keyword == "COPY" else []
    for mount in instructions.flags_of(node, "mount") if node.keyword == "RUN" else []:
        found += [word.partition("=")[2] for word in mount.split(",") if word.partition("=")[0].strip().lower() == "from"]
    return [word for word in found if word]


def _find_target(stages: list[Stage], target: str) -> int:
    if not target:
        return len(stages) - 1
    for stage in stages:
        if stage.name and stage.name == target.lower():
            return stage.index
    if target.isdigit() and int(target) < len(stages):
        return int(target)
    names = ", ".join(stage.name for stage in stages if stage.name)
    raise InvalidRequest(f"target stage {target!r} could not be found", hint=f"stages are: {names}" if names else "")


