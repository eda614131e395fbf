"""Git repositories, as contexts and for ADD: `URL.git#ref:subdirectory`.

What the URL says goes to git as operands only: nothing that begins with `-` (CVE-2019-13139), no transport that
runs a command (`ext::`), no hook, no configuration but ours. The subdirectory is opened beneath the clone: `..` and
links out of it are refused. What the user did not type, a Dockerfile's ADD and a repository's submodules, reaches no
repository of this machine, and what ADD asks for is asked without the user's keys.
"""
from __future__ import annotations

import os

from mydocker.base.errors import Corrupt, InvalidRequest, NotFound, Unavailable, Unsupported
from mydocker.linux import beneath
from mydocker.oci.digest import is_hex

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mydocker.storage.layers import NewLayer

_SCHEMES = ("git://", "ssh://", "git@", "github.com/")
#: What a Dockerfile may fetch from, and what submodules may.
_FOR_ALL = ("https://", "http://", "git://")
_SERVERS = "http:https:git:ssh"
#: Whose names git reads in lower case; people write them in capitals.
_PROXIES = ("https_proxy", "http_proxy", "all_proxy", "no_proxy")
_SETTINGS = ("core.hooksPath=/dev/null", "core.symlinks=true", "protocol.ext.allow=never", "core.fsmonitor=false",
             "safe.directory=*")
_REF = r"[A-Za-z0-9_][A-Za-z0-9_./+-]*"


def is_git(word: str) -> bool:
    """Tell whether a context is a git URL, as docker tells it."""
    place = word.partition("#")[0]
    if word.startswith(_SCHEMES):
        return True
    return word.startswith(("http://", "https://", "file://")) and (place.endswith(".git") or word.startswith("file://"))


def split(word: str) -> tuple[str, str, str]:
    """Return (repository, ref, subdirectory). Raises InvalidRequest."""
    import re  # cold

    place, _, fragment = word.partition("#")
    ref, _, directory = fragment.partition(":")
    if place.startswith("github.com/"):
        place = f"https://{place}"
    if place.startswith("-") or "\0" in word or "\n" in word:
        raise InvalidRequest(f"build: git URL {word!r}: it is none")
    if ref and (not re.fullmatch(_REF, ref) or ".." in ref):
        raise InvalidRequest(f"build: git URL {word!r}: {ref!r} is no branch, tag or commit")
    if ".." in directory.split("/"):
        raise InvalidRequest(f"build: git URL {word!r}: the directory leads out of the repository")
    return place, ref, directory.strip("/")


def clone(word: str, new: NewLayer, *, is_typed: bool = True, checksum: str = "") -> int:
    """Fetch a repository into a temporary layer; returns a descriptor of its directory.

    `is_typed`: by the user, not by a Dockerfile. `checksum` is what the commit's id must begin with. Raises Unavailable,
    NotFound, Unsupported, Corrupt.
    """
    place, ref, directory = split(word)
    if not is_typed and not place.startswith(_FOR_ALL):
        raise Unsupported(f"ADD {word}: of git repositories only those on the web", hint="write https://HOST/PATH.git")
    git = _Git(f"{new.path}/diff", is_typed=is_typed)
    git.run("init", "--quiet")
    git.run("checkout", "--quiet", "--detach", _fetch(git, place, ref or "HEAD"))
    if checksum and not git.run("rev-parse", "HEAD").startswith(checksum):
        raise Corrupt(f"fetch {word}: its commit is {git.run('rev-parse', 'HEAD')}, not {checksum[:80]}")
    _fetch_submodules(git, new)
    try:
        return beneath.open_in_root(new.diff_fd, directory, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise NotFound(f"build: git URL {word!r}: there is no directory {directory!r} in it") from error


def _fetch(git: _Git, place: str, ref: str) -> str:
    """Fetch as little as the server lets us; returns what to check out."""
    try:
        git.run("fetch", "--quiet", "--depth=1", "--no-tags", "--end-of-options", place, ref)
        return "FETCH_HEAD"
    except Unavailable as error:
        # A server of mere files knows no depth, and some give no commit by its id: then all of it.
        failure = error
    try:
        if ref == "HEAD":
            git.run("fetch", "--quiet", "--no-tags", "--end-of-options", place, ref)
            return "FETCH_HEAD"
        everything = "+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"
        git.run("fetch", "--quiet", "--no-tags", "--end-of-options", place, *everything)
    except Unavailable:
        raise failure from None
    for name in (f"refs/remotes/origin/{ref}", f"refs/tags/{ref}", *([ref] if is_hex(ref) else [])):
        try:
            return git.run("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
        except Unavailable:
            continue
    raise failure


def _fetch_submodules(git: _Git, new: NewLayer) -> None:
    """Fetch what .gitmodules names, if there is one: from servers only, whoever typed the URL (CVE-2022-39253)."""
    try:
        os.stat(".gitmodules", dir_fd=new.diff_fd, follow_symlinks=False)
    except FileNotFoundError:
        return
    git.protocols = _SERVERS
    words = ("submodule", "--quiet", "update", "--init", "--recursive", "--force")
    try:
        git.run(*words, "--depth=1")
    except Unavailable:
        git.run(*words)


class _Git:
    """git in one directory, told nothing by the machine's configuration."""

    def __init__(self, directory: str, *, is_typed: bool) -> None:
        self._directory = directory
        self.protocols = f"{_SERVERS}:file" if is_typed else "http:https:git"
        names = ["PATH", *(["HOME", "SSH_AUTH_SOCK"] if is_typed else [])]
        proxies = {name: os.environ.get(name) or os.environ.get(name.upper(), "") for name in _PROXIES}
        self._environment = {
            "PATH": os.defpath, "HOME": "/nonexistent", **{name: os.environ[name] for name in names if name in os.environ},
            **{name: proxy for name, proxy in proxies.items() if proxy},
            "GIT_TERMINAL_PROMPT": "0", "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null",
        }

    def run(self, *words: str) -> str:
        """Run one command; returns what it says, stripped. Raises Unavailable."""
        import subprocess  # cold

        command = ["git", *(word for setting in _SETTINGS for word in ("-c", setting)), "-C", self._directory, *words]
        environment = {**self._environment, "GIT_ALLOW_PROTOCOL": self.protocols}
        try:
            done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        except FileNotFoundError:
            raise Unavailable("build: git is not installed", hint="apt-get install git, or give a directory") from None
        if done.returncode:
            # What ssh says comes before git's own line, and advice after it.
            told = "; ".join(done.stderr.decode("utf-8", "replace").strip().partition("\n\n")[0].splitlines()[-2:])
            raise Unavailable(f"build: git {words[0]}: {told or f'exit code {done.returncode}'}")
        return done.stdout.decode("utf-8", "replace").strip()
