"""An ssh-agent of a build's own, with the keys that `--ssh ID=KEYFILE` names: steps can use the keys and cannot read them.

The machine's ssh-agent is used. It ends with `close`, and within seconds when the build is killed: it is the parent of
nothing, but watches a process that reads a pipe of ours.
"""
from __future__ import annotations

import os
import signal

from mydocker.base.errors import InvalidRequest, Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

#: How its socket in the run directory is called: this, and the id of the watched process.
PREFIX = ".agent"
_HINT = "apt-get install openssh-client, or give an agent's socket"


class KeyAgent:
    """A running agent; `socket` is its path. Close it."""

    def __init__(self, directory: str, identity: str, keys: Sequence[str]) -> None:
        """Start the agent and give it the keys. Raises Unavailable, InvalidRequest."""
        import subprocess  # cold

        self.socket = f"{directory}/{PREFIX}-{os.getpid()}-{identity}"
        # ssh-agent forks, becomes the command it is given, and ends when that has gone.
        command = ["ssh-agent", "-a", self.socket, "sh", "-c", "echo $SSH_AGENT_PID; exec cat"]
        try:
            self._watched = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
        except FileNotFoundError:
            raise Unavailable(f"ssh {identity}: ssh-agent is not installed", hint=_HINT) from None
        assert self._watched.stdout is not None and self._watched.stderr is not None
        told = self._watched.stdout.readline()
        self._pid = int(told) if told.strip().isdigit() else 0
        try:
            if not self._pid:
                why = self._watched.stderr.read().decode("utf-8", "replace").strip()
                raise Unavailable(f"ssh {identity}: ssh-agent did not start: {why}")
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

    def close(self) -> None:
        """End the agent."""
        if self._pid:
            try:
                os.kill(self._pid, signal.SIGTERM)  # it removes its socket
            except ProcessLookupError:
                pass
        self._watched.communicate()
        try:
            os.unlink(self.socket)
        except FileNotFoundError:
            pass
