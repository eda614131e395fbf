"""What a stage has become so far: its layers, its image config, its history; and the key under which the next step is cached."""
from __future__ import annotations

from mydocker.base import jsontext
from mydocker.base.record import Record
from mydocker.oci import platform as platforms
from mydocker.oci.digest import digest_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from mydocker.oci.image_spec import Descriptor

#: Changes when equal instructions come to mean something else.
CACHE_VERSION = 3
DEFAULT_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEFAULT_SHELL = ("/bin/sh", "-c")


class Layer(Record):
    """A layer of a stage: `name` is its directory in layer/ now, a chain id or, until all is published, a temporary name."""

    name: str
    diff_id: str
    blob: Descriptor


class StageState:
    """Changes as a stage is built; `fork` for the stage that stands on it."""

    def __init__(self, platform: str = "") -> None:
        self.layers: tuple[Layer, ...] = ()
        self.config: dict[str, Any] = {}
        self.history: list[dict[str, Any]] = []
        self.author = ""
        self.created = ""
        self.platform: dict[str, str] = {**(platforms.parse(platform) if platform else platforms.host())}  # type: ignore[dict-item]
        self.args: dict[str, str] = {}
        self.has_command = False

    def fork(self) -> StageState:
        """Return a state that begins where this one is: arguments are left behind, as each stage declares its own."""
        other = StageState()
        other.layers, other.history, other.author = self.layers, list(self.history), self.author
        other.created, other.platform = self.created, dict(self.platform)
        other.config = jsontext.loads(jsontext.dumps(self.config), source="image config")
        return other

    # --- the environment ---------------------------------------------------------------------------------

    @property
    def env(self) -> dict[str, str]:
        """The environment of the image config."""
        return dict(_pair(item) for item in self.config.get("Env") or ())

    @property
    def variables(self) -> dict[str, str]:
        """What can be substituted: ENV before ARG of the same name."""
        return self.args | self.env

    def set_env(self, name: str, value: str) -> None:
        """Set a variable in its place."""
        self.config["Env"] = [f"{key}={text}" for key, text in (self.env | {name: value}).items()]

    @property
    def shell(self) -> list[str]:
        """What runs the shell form of commands."""
        return list(self.config.get("Shell") or DEFAULT_SHELL)

    @property
    def workdir(self) -> str:
        """The directory that relative paths begin at."""
        return self.config.get("WorkingDir") or "/"

    # --- what became of it -------------------------------------------------------------------------------

    def key(self, *words: object) -> str:
        """Return the cache key of a step: everything its result depends on goes in.

        The whole config of the parent is part of it: a parent with the same files and another config is another
        parent (CVE-2024-24557). So is its length: of two equal steps in a row that change nothing, each is a step of its own,
        with its own time.
        """
        return digest_of(jsontext.dumps([
            CACHE_VERSION, len(self.history), [layer.diff_id for layer in self.layers], self.config, self.author, self.platform,
            list(words),
        ], sort_keys=True).encode())

    def add_history(self, created: str, text: str, *, is_empty: bool) -> None:
        """Note a step."""
        entry: dict[str, Any] = {"created": created, "created_by": text}
        if self.author:
            entry["author"] = self.author
        if is_empty:
            entry["empty_layer"] = True
        self.history.append(entry)
        self.created = created

    def to_image_config(self) -> dict[str, Any]:
        """Return the image config document."""
        document: dict[str, Any] = {
            "created": self.created, **self.platform, "config": self.config, "history": self.history,
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in self.layers]},
        }
        if self.author:
            document["author"] = self.author
        return document


def _pair(item: str) -> tuple[str, str]:
    name, _, value = item.partition("=")
    return name, value
