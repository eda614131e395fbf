"""The options of `build` and `builder prune`: rows as in options.py, read by these verbs only."""
from __future__ import annotations

from .options import Option

BUILD_OPTIONS = (
    Option("build", "tag", "t", "list", "Name of the image; may be repeated", value="NAME[:TAG]", lands="tag"),
    Option("build", "file", "f", "str", "The Dockerfile (default: CONTEXT/Dockerfile; -: standard input)",
           value="FILE", lands="file"),
    Option("build", "build-arg", "", "list", "Set an ARG: NAME=VALUE, or NAME to pass ours on", value="ARG", lands="build_arg"),
    Option("build", "target", "", "str", "The stage to build (default: the last)", value="STAGE", lands="target"),
    Option("build", "no-cache", "", "bool", "Do every step again", lands="no_cache"),
    Option("build", "pull", "", "bool", "Ask the registry for newer base images", lands="pull"),
    Option("build", "label", "", "list", "Set a label of the image: KEY=VALUE", value="LABEL", lands="label"),
    Option("build", "secret", "", "list", "A secret for RUN --mount=type=secret: id=NAME,src=FILE or id=NAME,env=VARIABLE",
           value="SPEC", lands="secret"),
    Option("build", "ssh", "", "list", "An ssh agent for RUN --mount=type=ssh: default, or ID=SOCKET", value="SPEC", lands="ssh"),
    Option("build", "network", "", "str", "Network of RUN steps (default: that of run)", value="NETWORK", lands="network"),
    Option("build", "platform", "", "str", "Platform of base images, such as linux/arm64", value="PLATFORM", lands="platform"),
    Option("build", "squash", "", "bool", "Make one layer of all that the build adds", lands="squash"),
    Option("build", "output", "o", "str", "Where the result goes: DIR, -, type=local|tar|oci|docker,dest=PATH, type=registry",
           value="SPEC", lands="output"),
    Option("build", "push", "", "bool", "Push the image to the registries of its names: --output type=registry"),
    Option("build", "load", "", "bool", "Accepted for docker's sake: the image is here when it is built"),
    Option("build", "rm", "", "bool", "Accepted for docker's sake: no container of a step is left"),
    Option("build", "force-rm", "", "bool", "Accepted for docker's sake: no container of a step is left"),
    Option("build", "iidfile", "", "str", "Write the image's id to a file", value="FILE"),
    Option("build", "progress", "", "str", "How progress is shown: auto, plain, tty or quiet", value="KIND", default="auto"),
    Option("build", "quiet", "q", "bool", "Print the image's id only"),
    Option("builder-prune", "all", "a", "bool", "Accepted for docker's sake"),
    Option("builder-prune", "force", "f", "bool", "Accepted for docker's sake: nothing is asked"),
)
