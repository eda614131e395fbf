"""The options of `volume ...`: rows as in options.py, read by these verbs only."""
from __future__ import annotations

from .options import Option

VOLUME_OPTIONS = (
    Option("volume-create", "driver", "d", "str", "Driver: local is the only one", value="DRIVER", lands="driver",
           default="local"),
    Option("volume-create", "label", "", "list", "Set a label: KEY=VALUE", value="LABEL", lands="label"),
    Option("volume-create", "opt", "o", "list",
           "Option of the driver: type=tmpfs, or type=none, o=bind and device=DIRECTORY; o= has the words of the mount",
           value="KEY=VALUE", lands="opt"),

    Option("volume-ls", "filter", "f", "list", "Only what matches: dangling=, name=, label=, driver= or scope=",
           value="KEY=VALUE"),
    Option("volume-ls", "format", "", "str", "Output as table, json, or a Go template such as '{{.Name}}'",
           value="FORMAT", default="table"),
    Option("volume-ls", "quiet", "q", "bool", "Only names"),

    Option("volume-inspect", "format", "f", "str", "Output as json or a Go template such as '{{.Mountpoint}}'",
           value="FORMAT", default="json"),

    Option("volume-rm", "force", "f", "bool", "No error for what does not exist"),
    Option("volume-prune", "all", "a", "bool", "Volumes with a name, too, not only anonymous ones"),
    Option("volume-prune", "filter", "", "list", "Only what matches: label=, label!= or all=true", value="KEY=VALUE"),
    Option("volume-prune", "force", "f", "bool", "Accepted for docker's sake: nothing is asked"),
)
