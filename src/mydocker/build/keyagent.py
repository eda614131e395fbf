"""An ssh-agent of a build's own, with the keys that `--ssh ID=KEYFILE` names: steps can use the keys and cannot read them.

The machine's ssh-agent is used, behind a relay (agentrelay.py). It ends with `close`, and within seconds when the build is
killed: it is the parent of nothing, but watches a process that reads a pipe of ours.
"""
from __future__ import annotations

import os
import signal

from mydocker.base.errors import InvalidRequest, Unavailable
from mydocker.base.ids import new_unique
from mydocker.linux.process import signal_pidfd, wait_pidfd

from .secrets import unlink_if_there

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

#: How its socket in the run directory is called: this, `-`, and what meets no other build's.
PREFIX = ".agent"
_HINT = "apt-get install openssh-client, or give an agent's socket"
#: It ends at once, unless somebody stopped it.
_END_S = 2.0


class KeyAgent:
    """A running agent; `socket` is its path. Close it."""

    def __init__(self, directory: str, identity: str, keys: Sequence[str]) -> None:
        """Start the agent and give it the keys. Raises Unavailable, InvalidRequest."""
        import subprocess  # cold

        self.socket = f"{directory}/{PREFIX}-{new_unique()}"
        self._pidfd = -1
        # ssh-agent forks, becomes the command it is given, and ends when that has gone. It loads no library for anybody.
        command = ["ssh-agent", "-P", "none", "-a", self.socket, "sh", "-c", "echo $SSH_AGENT_PID; exec cat"]
        try:
            self._watched = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
        except FileNotFoundError:
            raise Unavailable(f"ssh {identity}: ssh-agent is not installed", hint=_HINT) from None
        assert self._watched.stdout is not None and self._watched.stderr is not None
        told = self._watched.stdout.readline()
        try:
            if not told.strip().isdigit():
                why = self._watched.stderr.read().decode("utf-8", "replace").strip()
                raise Unavailable(f"ssh {identity}: ssh-agent did not start: {why}")
            self._pidfd = self._open_agent(identity, int(told))
            for key in keys:
                self._add(identity, key)
        except BaseException:
            self.close()
            raise

    def _add(self, identity: str, key: str) -> None:
        import subprocess  # cold

        try:
            with open(key, "rb") as stream:
                # Through a pipe: ssh-add refuses files that others may read, and that is not the build's to judge.
                done = subprocess.run(
                    ["ssh-add", "-q", "-"], input=stream.read(), env={**os.environ, "SSH_AUTH_SOCK": self.socket},
                    capture_output=True, check=False)
        except OSError as error:
            raise Unavailable(f"ssh {identity}: {error.filename or 'ssh-add'}: {(error.strerror or '').lower()}") from error
        if done.returncode:
            why = (done.stderr.decode("utf-8", "replace").strip().splitlines() or ["it failed"])[-1]
            raise InvalidRequest(
                f"ssh {identity}: {key}: ssh-add: {why}", hint="a key with a passphrase: add it to an agent, and give its socket")

    @staticmethod
    def _open_agent(identity: str, pid: int) -> int:
        try:
            return os.pidfd_open(pid)
        except ProcessLookupError:
            raise Unavailable(f"ssh {identity}: ssh-agent ended at once") from None

    def close(self) -> None:
        """End the agent, and wait until it has ended."""
        if self._pidfd >= 0:
            signal_pidfd(self._pidfd, signal.SIGTERM)  # it removes its socket
            if not wait_pidfd(self._pidfd, _END_S):
                signal_pidfd(self._pidfd, signal.SIGKILL)
                wait_pidfd(self._pidfd, _END_S)
            os.close(self._pidfd)
            self._pidfd = -1
        self._watched.communicate()
        unlink_if_there(self.socket)
