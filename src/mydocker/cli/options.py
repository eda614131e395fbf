"""The verbs and options of the command line: one row each, and nothing else.

The parser, `--help`, docs/cli.md and the shape of every Engine call read these rows. A row says what may
be typed and where it lands; what a value *means* is judged once, in engine/request.py, so most values
travel as typed. Knows nothing of the engine but the keywords' names.
"""
from __future__ import annotations


class Option:
    """One option of one or more verbs.

    `kind` is `bool`, `str`, `list` (may be repeated), `int` or `seconds`. `aliases` are further long names,
    the seed's spellings among them. `lands` is the keyword of the Engine call, or empty for what the
    command line itself acts on. `default` is what the command line works with when nothing is typed;
    the engine's own defaults stay the engine's.
    """

    __slots__ = ("aliases", "default", "help", "kind", "lands", "name", "short", "value", "verbs")

    def __init__(
        self, verbs: str, name: str, short: str, kind: str, help: str, *,
        value: str = "", lands: str = "", aliases: tuple[str, ...] = (), default: object = None,
    ) -> None:
        self.verbs = verbs.split()
        self.name = name
        self.short = short
        self.kind = kind
        self.help = help
        self.value = value
        self.lands = lands
        self.aliases = aliases
        self.default = False if default is None and kind == "bool" else default

    @property
    def key(self) -> str:
        """The name under which `Arguments.values` holds it."""
        return self.name.replace("-", "_")


class Verb:
    """One command.

    `usage` is what follows the options; `least` and `most` count positionals (`most` -1: any number).
    A verb with `command` stops reading options at its first positional, because what follows is somebody
    else's command line.
    """

    __slots__ = ("command", "help", "hidden", "least", "module", "most", "name", "usage")

    def __init__(
        self, name: str, usage: str, help: str, least: int, most: int, *,
        module: str = "", command: bool = False, hidden: bool = False,
    ) -> None:
        self.name = name
        self.usage = usage
        self.help = help
        self.least = least
        self.most = most
        self.module = f"mydocker.cli.commands.{module or name}"
        self.command = command
        self.hidden = hidden

    @property
    def spelled(self) -> str:
        """How it is typed: verbs of a group are two words."""
        return self.name.replace("-", " ")


#: In the order of `mydocker help`.
VERBS = (
    Verb("run", "IMAGE [COMMAND [ARG...]]", "Create a container from an image and start it",
         1, -1, command=True),
    Verb("create", "IMAGE [COMMAND [ARG...]]", "Create a container without starting it",
         1, -1, command=True),
    Verb("start", "CONTAINER...", "Start containers that are not running", 1, -1),
    Verb("ps", "", "List containers, ended ones too", 0, 0),
    Verb("logs", "CONTAINER", "Show what a container wrote", 1, 1),
    Verb("exec", "CONTAINER COMMAND [ARG...]", "Run a command inside a running container",
         2, -1, command=True),
    Verb("attach", "CONTAINER", "Connect this terminal to a running container", 1, 1),
    Verb("stop", "CONTAINER...", "Stop containers: SIGTERM, then SIGKILL after the grace time", 1, -1),
    Verb("restart", "CONTAINER...", "Stop containers and start them again", 1, -1),
    Verb("kill", "CONTAINER...", "Send a signal to containers", 1, -1),
    Verb("pause", "CONTAINER...", "Freeze all processes of containers", 1, -1),
    Verb("unpause", "CONTAINER...", "Let frozen containers go on", 1, -1),
    Verb("wait", "CONTAINER...", "Wait until containers end and print their exit codes", 1, -1),
    Verb("rm", "CONTAINER...", "Remove containers that are not running", 1, -1),
    Verb("port", "CONTAINER [PORT[/PROTOCOL]]", "Show where the ports of a container are published", 1, 2),
    Verb("cp", "CONTAINER:PATH PATH|- or PATH|- CONTAINER:PATH", "Copy files between a container and the host, or a tar stream",
         2, 2),
    Verb("commit", "CONTAINER [IMAGE[:TAG]]", "Make an image of a container as it is now", 1, 2),
    Verb("export", "CONTAINER", "Write a container's file system as a tar", 1, 1),
    Verb("inspect", "NAME...", "Show everything known about containers, images or volumes, as JSON", 1, -1),
    Verb("images", "[IMAGE]", "List images", 0, 1),
    Verb("history", "IMAGE", "Show how an image was made", 1, 1),
    Verb("rmi", "IMAGE...", "Remove images", 1, -1),
    Verb("tag", "IMAGE NAME[:TAG]", "Give an image one more name", 2, 2),
    Verb("pull", "IMAGE[:TAG|@DIGEST]", "Bring in an image from its registry", 1, 1),
    Verb("push", "IMAGE[:TAG]", "Bring an image to the registry that its name says", 1, 1),
    Verb("login", "[REGISTRY]", "Keep a user name and password for a registry (default: Docker Hub)", 0, 1),
    Verb("logout", "[REGISTRY]", "Forget the password for a registry", 0, 1),
    Verb("build", "CONTEXT", "Make an image of a Dockerfile and the files it names", 1, 1),
    Verb("builder-prune", "", "Forget the build cache", 0, 0, module="build"),
    Verb("import", "TAR|URL|- [IMAGE[:TAG]]", "Make an image of a tar of a root file system", 1, 2, module="import_"),
    Verb("load", "", "Load images from an OCI or Docker archive", 0, 0),
    Verb("save", "IMAGE...", "Save images as an archive that docker, podman and load take", 1, -1),
    Verb("image-prune", "", "Remove the images that have no name, or that no container uses", 0, 0, module="tidying"),
    Verb("image-verify", "[IMAGE...]", "Check every stored byte of images against its digest", 0, -1, module="tidying"),
    Verb("system-df", "", "Show what images and containers take on the disk", 0, 0, module="tidying"),
    Verb("system-prune", "", "Remove ended containers, unused networks and images, and the build cache", 0, 0, module="tidying"),
    Verb("gc", "", "Remove what killed commands left behind", 0, 0, module="tidying"),
    *(Verb(f"network-{word}", usage, help, least, most, module="networks") for word, usage, help, least, most in (
        ("create", "NETWORK", "Make a network", 1, 1),
        ("ls", "", "List networks", 0, 0),
        ("inspect", "NETWORK...", "Show everything known about networks, as JSON", 1, -1),
        ("rm", "NETWORK...", "Remove networks that nobody is on", 1, -1),
        ("prune", "", "Remove the networks that no container uses", 0, 0),
        ("connect", "NETWORK CONTAINER", "Put a container on one more network", 2, 2),
        ("disconnect", "NETWORK CONTAINER", "Take a container off a network", 2, 2),
    )),
    *(Verb(f"volume-{word}", usage, help, least, most, module="volumes") for word, usage, help, least, most in (
        ("create", "[VOLUME]", "Make a volume", 0, 1),
        ("ls", "", "List volumes", 0, 0),
        ("inspect", "VOLUME...", "Show everything known about volumes, as JSON", 1, -1),
        ("rm", "VOLUME...", "Remove volumes that no container has", 1, -1),
        ("prune", "", "Remove the anonymous volumes that no container has", 0, 0),
    )),
    Verb("version", "", "Show the version", 0, 0),
    Verb("info", "", "Show what this machine offers to containers", 0, 0),
    Verb("help", "[COMMAND]", "Show this list, or the options of a command", 0, 2),
)

_RC = "run create"

#: Options before the verb.
GLOBAL_OPTIONS = (
    Option("", "debug", "D", "bool", "Show each step on standard error, and the traceback of an error"),
    Option("", "root", "", "str", "Directory of all state (default $MYDOCKER_ROOT or /var/lib/mydocker)", value="DIR"),
    Option("", "version", "v", "bool", "Print the version"),
)

#: In the order of each verb's `--help`.
OPTIONS = (
    Option("run", "detach", "d", "bool", "Leave the container running in the background and print its id"),
    Option(_RC, "interactive", "i", "bool", "Pass standard input on to the container", lands="interactive"),
    Option(_RC, "tty", "t", "bool", "Give the container a terminal", lands="tty"),
    Option(_RC, "rm", "", "bool", "Remove the container when it ends (with -ti in the foreground: the default)",
           lands="rm"),
    Option(_RC, "name", "", "str", "Name of the container (default: its id)", value="NAME", lands="name"),
    Option(_RC, "memory", "m", "str", "Memory limit, such as 512m", value="SIZE", lands="memory"),
    Option(_RC, "memory-swap", "", "str", "Limit of memory and swap together; -1 for no limit of swap",
           value="SIZE", lands="memory_swap"),
    Option(_RC, "cpu-shares", "c", "str", "Share of the CPU against other containers (1024 is usual)",
           value="N", lands="cpu_shares", aliases=("cpushare", "cpushares")),
    Option(_RC, "cpus", "", "str", "How many CPUs the container may use at most, such as 1.5", value="N", lands="cpus"),
    Option(_RC, "cpuset-cpus", "", "str", "The CPUs the container may run on, such as 0-2,4",
           value="LIST", lands="cpuset_cpus", aliases=("cpuset",)),
    Option(_RC, "cpuset-mems", "", "str", "The memory nodes the container may use", value="LIST", lands="cpuset_mems"),
    Option(_RC, "pids-limit", "", "str", "How many processes and threads may exist at once; -1 for no limit",
           value="N", lands="pids_limit"),
    Option(_RC, "volume", "v", "list", "Show a directory of the host, or a volume, inside: [HOST|NAME:]CONTAINER[:ro]",
           value="SPEC", lands="volume"),
    Option(_RC, "env", "e", "list", "Set an environment variable: NAME=VALUE, or NAME to pass ours on",
           value="VAR", lands="env"),
    Option(_RC, "env-file", "", "list", "Read environment variables from a file", value="FILE", lands="env_file"),
    Option(_RC, "workdir", "w", "str", "Working directory of the command", value="DIR", lands="workdir"),
    Option(_RC, "user", "u", "str", "User of the command: NAME|UID[:GROUP|GID]", value="USER", lands="user"),
    Option(_RC, "hostname", "h", "str", "Host name inside (default: the id)", value="NAME", lands="hostname"),
    Option(_RC, "network", "", "list", "Network (default bridge): none, host, container:NAME, or the name of one; repeatable",
           value="NETWORK", lands="network", aliases=("net",)),
    Option(_RC, "ip", "", "str", "Fixed IPv4 address on the (first) network", value="ADDRESS", lands="ip"),
    Option(_RC, "ip6", "", "str", "Fixed IPv6 address on the (first) network", value="ADDRESS", lands="ip6"),
    Option(_RC, "mac-address", "", "str", "Hardware address of the device on the (first) network",
           value="MAC", lands="mac_address"),
    Option(_RC, "network-alias", "", "list", "One more name of the container on the (first) network",
           value="NAME", lands="network_alias"),
    Option(_RC, "publish", "p", "list", "Publish a port: [ADDRESS:][HOST_PORT:]PORT[/udp]; without an address on 127.0.0.1",
           value="PORT", lands="publish"),
    Option(_RC, "publish-all", "P", "bool", "Publish every exposed port on a random port of the host", lands="publish_all"),
    Option(_RC, "expose", "", "list", "A port that the container serves, for -P", value="PORT", lands="expose"),
    Option(_RC, "label", "l", "list", "Set a label: KEY=VALUE", value="LABEL", lands="label"),
    Option(_RC, "entrypoint", "", "str", "Replace the image's entry point", value="COMMAND", lands="entrypoint"),
    Option(_RC, "read-only", "", "bool", "Make the container's root file system read-only", lands="read_only"),
    Option(_RC, "stop-signal", "", "str", "Signal that stop sends first (default SIGTERM)",
           value="SIGNAL", lands="stop_signal"),
    Option(_RC, "stop-timeout", "", "str", "Seconds that stop waits before SIGKILL (default 10)",
           value="N", lands="stop_timeout"),
    Option(_RC, "log-opt", "", "list", "Bounds of the log: max-size=10m, max-file=3",
           value="KEY=VALUE", lands="log_opt"),
    Option(_RC, "quiet", "q", "bool", "Show no progress of a pull"),
    Option(_RC, "show", "", "list", "Show a path that the image `host` hides, such as /root",
           value="PATH", lands="show"),

    Option("exec", "detach", "d", "bool", "Leave the command running in the background"),
    Option("exec", "interactive", "i", "bool", "Pass standard input on to the command"),
    Option("exec", "tty", "t", "bool", "Give the command a terminal", lands="tty"),
    Option("exec", "env", "e", "list", "Set an environment variable: NAME=VALUE, or NAME to pass ours on",
           value="VAR", lands="env"),
    Option("exec", "env-file", "", "list", "Read environment variables from a file", value="FILE", lands="env_file"),
    Option("exec", "workdir", "w", "str", "Working directory of the command", value="DIR", lands="workdir"),
    Option("exec", "privileged", "", "bool", "Give the command every capability", lands="privileged"),
    Option("exec", "user", "u", "str", "User of the command: NAME|UID[:GROUP|GID]", value="USER", lands="user"),

    Option("start", "attach", "a", "bool", "Show the container's output and pass its exit code on"),
    Option("start", "interactive", "i", "bool", "Attach, and pass standard input on too"),
    Option("attach", "no-stdin", "", "bool", "Do not pass standard input on"),
    Option("run exec start attach", "detach-keys", "", "str", "Keys that leave a terminal session without ending it",
           value="KEYS", default="ctrl-p,ctrl-q"),
    Option("run start attach", "sig-proxy", "", "bool", "Pass signals on to the container (without a terminal)",
           default=True),

    Option("ps", "all", "a", "bool", "Accepted for docker's sake: all containers are always listed"),
    Option("ps", "running", "", "bool", "Only running containers"),
    Option("ps", "filter", "f", "list", "Only what matches: status=, name=, id=, label=, ancestor=, volume= or exited=",
           value="KEY=VALUE"),
    Option("ps", "format", "", "str", "Output as table, json, or a Go template such as '{{.ID}}'",
           value="FORMAT", default="table"),
    Option("ps", "quiet", "q", "bool", "Only ids"),
    Option("ps", "last", "n", "int", "Only the N last created", value="N", default=-1),
    Option("ps", "latest", "l", "bool", "Only the last created"),
    Option("ps", "no-trunc", "", "bool", "Do not shorten columns"),

    Option("logs", "follow", "f", "bool", "Go on until the container ends", lands="follow"),
    Option("logs", "tail", "n", "str", "Only the last N lines", value="N", lands="tail"),
    Option("logs", "since", "", "str", "Only lines since a time (2026-01-02T15:04:05Z) or an age (10m)",
           value="TIME", lands="since"),
    Option("logs", "until", "", "str", "Only lines before a time or an age", value="TIME", lands="until"),
    Option("logs", "timestamps", "t", "bool", "Show the time of each line", lands="timestamps"),

    Option("stop restart", "timeout", "t", "seconds", "Seconds to wait before SIGKILL (default: the container's, 10)",
           value="N", lands="timeout", aliases=("time",)),
    Option("stop restart", "signal", "s", "str", "Signal to send first (default: the container's, SIGTERM)",
           value="SIGNAL", lands="signal"),
    Option("kill", "signal", "s", "str", "Signal to send", value="SIGNAL", lands="signal", default="KILL"),
    Option("rm", "force", "f", "bool", "Stop running containers first; no error for what does not exist"),
    Option("rm", "volumes", "v", "bool", "Remove the anonymous volumes that only this container has, too"),

    Option("inspect", "format", "f", "str", "Output as json or a Go template such as '{{.Status}}'",
           value="FORMAT", default="json"),
    Option("inspect", "type", "", "str", "Look only among these: container, image or volume", value="TYPE", default=""),

    Option("version info", "format", "f", "str", "Output as json or a Go template", value="FORMAT", default=""),
)

#: Names of the rows in rare_options.py: who types one of them has that file read.
RARE = frozenset((
    "annotation", "blkio-weight", "blkio-weight-device", "cap-add", "cap-drop", "cgroup-parent", "cgroupns", "cidfile",
    "add-host", "cpu-period", "cpu-quota", "cpu-rt-period", "cpu-rt-runtime", "device", "device-cgroup-rule", "device-read-bps",
    "device-read-iops", "device-write-bps", "device-write-iops", "dns", "dns-option", "dns-search",
    "disable-content-trust", "domainname", "group-add", "init", "insecure-registry", "ipc", "kernel-memory",
    "label-file", "link", "memory-reservation", "memory-swappiness", "mount", "oom-kill-disable", "oom-score-adj", "pid",
    "platform", "privileged", "pull", "runtime", "security-opt", "shm-size", "sysctl", "tmpfs", "ulimit", "userns", "uts",
    "volume-driver", "volumes-from",
))

#: Verbs whose rows are in image_options.py.
_IMAGE_VERBS = frozenset((
    "commit", "cp", "export", "images", "history", "rmi", "import", "load", "pull", "push", "login", "logout", "tag", "save",
    "image-prune", "image-verify", "system-df", "system-prune", "gc", "build", "builder-prune",
))

#: Docker's two-word spellings: group -> word -> (verb, options put before what was typed).
GROUPS: dict[str, dict[str, tuple[str, tuple[str, ...]]]] = {
    "container": {
        **{verb: (verb, ()) for verb in (
            "run", "create", "start", "ps", "logs", "exec", "attach", "stop", "restart", "kill", "pause", "unpause",
            "wait", "rm", "port", "commit", "export", "cp",
        )},
        "ls": ("ps", ()), "list": ("ps", ()), "remove": ("rm", ()), "inspect": ("inspect", ("--type=container",)),
    },
    "image": {
        "ls": ("images", ()), "list": ("images", ()), "rm": ("rmi", ()), "remove": ("rmi", ()),
        **{verb: (verb, ()) for verb in ("import", "load", "save", "history", "pull", "push", "tag", "build")},
        "inspect": ("inspect", ("--type=image",)), "prune": ("image-prune", ()), "verify": ("image-verify", ()),
    },
    "network": {
        **{word: (f"network-{word}", ()) for word in ("create", "ls", "inspect", "rm", "prune", "connect", "disconnect")},
        "list": ("network-ls", ()), "remove": ("network-rm", ()),
    },
    "volume": {
        **{word: (f"volume-{word}", ()) for word in ("create", "ls", "inspect", "rm", "prune")},
        "list": ("volume-ls", ()), "remove": ("volume-rm", ()),
    },
    "builder": {"prune": ("builder-prune", ()), "build": ("build", ())},
    "buildx": {"build": ("build", ())},
    "system": {"info": ("info", ()), "df": ("system-df", ()), "prune": ("system-prune", ())},
}


def find_verb(name: str) -> Verb | None:
    """Return the row of a verb, or None."""
    for verb in VERBS:
        if verb.name == name:
            return verb
    return None


def options_of(verb: str) -> list[Option]:
    """Return the rows that a verb accepts; verbs of networks, volumes and images have tables of their own."""
    if verb.startswith(("network-", "volume-")):
        from .network_options import GROUP_OPTIONS  # cold

        return [option for option in GROUP_OPTIONS if verb in option.verbs]
    if verb in _IMAGE_VERBS:
        from .image_options import IMAGE_OPTIONS  # cold

        return [option for option in IMAGE_OPTIONS if verb in option.verbs]
    return [option for option in OPTIONS if verb in option.verbs]


def rare_options_of(verb: str) -> list[Option]:
    """Return the rows of rare_options.py that a verb accepts."""
    from .rare_options import RARE_OPTIONS  # cold

    return [option for option in RARE_OPTIONS if verb in option.verbs]


def all_options_of(verb: str) -> list[Option]:
    """Return every row that a verb accepts, in the order of its help."""
    return options_of(verb) + rare_options_of(verb)
