"""A context from a git repository: `URL.git#ref:subdirectory`.

What the URL says goes to git as operands only: nothing that begins with `-` (CVE-2019-13139), no transport that
runs a command (`ext::`), no submodule, no hook, no configuration but ours. The subdirectory is opened beneath the
clone: `..` and links out of it are refused.
"""
from __future__ import annotations

import os
import re

from mydocker.base.errors import InvalidRequest, NotFound, Unavailable
from mydocker.linux import beneath

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mydocker.storage.layers import NewLayer

_SCHEMES = ("git://", "ssh://", "git@", "github.com/")
_REF = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9_./+-]*$")


def is_git(word: str) -> bool:
    """Tell whether a context is a git URL, as docker tells it."""
    place = word.partition("#")[0]
    if word.startswith(_SCHEMES):
        return True
    return word.startswith(("http://", "https://", "file://")) and (place.endswith(".git") or word.startswith("file://"))


def split(word: str) -> tuple[str, str, str]:
    """Return (repository, ref, subdirectory). Raises InvalidRequest."""
    place, _, fragment = word.partition("#")
    ref, _, directory = fragment.partition(":")
    if place.startswith("github.com/"):
        place = f"https://{place}"
    if place.startswith("-") or "\0" in word or "\n" in word:
        raise InvalidRequest(f"build: git URL {word!r}: it is none")
    if ref and (not _REF.match(ref) or ".." in ref):
        raise InvalidRequest(f"build: git URL {word!r}: {ref!r} is no branch, tag or commit")
    if ".." in directory.split("/"):
        raise InvalidRequest(f"build: git URL {word!r}: the directory leads out of the repository")
    return place, ref, directory.strip("/")


def clone(word: str, new: NewLayer) -> int:
    """Fetch a repository into a temporary layer; returns a descriptor of its directory. Raises Unavailable, NotFound."""
    place, ref, directory = split(word)
    target = f"{new.path}/diff"
    _git(target, "init", "--quiet")
    _git(target, "fetch", "--quiet", "--depth=1", "--no-tags", "--end-of-options", place, ref or "HEAD")
    _git(target, "checkout", "--quiet", "--detach", "FETCH_HEAD")
    try:
        return beneath.open_in_root(new.diff_fd, directory, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise NotFound(f"build: git URL {word!r}: there is no directory {directory!r} in it") from error


def _git(directory: str, *words: str) -> None:
    import subprocess  # cold

    environment = {
        "PATH": os.environ.get("PATH", os.defpath), "HOME": os.environ.get("HOME", "/"), "GIT_TERMINAL_PROMPT": "0",
        "GIT_ALLOW_PROTOCOL": "http:https:git:ssh:file", "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null",
        **{name: os.environ[name] for name in ("SSH_AUTH_SOCK", "https_proxy", "http_proxy", "no_proxy") if name in os.environ},
    }
    settings = ("core.hooksPath=/dev/null", "core.symlinks=true", "protocol.ext.allow=never", "core.fsmonitor=false",
                "safe.directory=*")
    command = ["git", *(word for setting in settings for word in ("-c", setting)), "-C", directory, *words]
    try:
        done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    except FileNotFoundError:
        raise Unavailable("build: git is not installed", hint="apt-get install git, or give a directory") from None
    if done.returncode:
        text = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise Unavailable(f"build: git {words[0]}: {text[-1] if text else f'exit code {done.returncode}'}")
