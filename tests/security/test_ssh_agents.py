"""What a RUN step tries with the agent that --ssh lends it: it lists keys, signs with them, and does nothing else."""
from __future__ import annotations

import base64
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import Mydocker, processes, until

from mydocker import Engine

pytestmark = [
    pytest.mark.needs("root", "overlay"),
    pytest.mark.skipif(not shutil.which("ssh-agent"), reason="openssh-client is not installed"),
]

_LIBRARY = "/usr/lib/mydocker-evil.so"


def string(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


#: Everything that an agent can be asked for, but for listing and signing; those of the first version of ssh first.
REFUSED = {
    1: b"", 9: b"",
    17: string(b"ssh-ed25519") + string(b"p" * 32) + string(b"s" * 64) + string(b""),  # ADD_IDENTITY
    18: string(b"key"), 19: b"",  # REMOVE_IDENTITY, REMOVE_ALL_IDENTITIES
    20: string(_LIBRARY.encode()) + string(b""), 21: string(_LIBRARY.encode()) + string(b""),  # ADD_, REMOVE_SMARTCARD_KEY
    22: string(b"locked"), 23: string(b"locked"), 25: string(b"ssh-ed25519"),  # LOCK, UNLOCK, ADD_ID_CONSTRAINED
    26: string(_LIBRARY.encode()) + string(b"") + b"\1\0\0\0\1",  # ADD_SMARTCARD_KEY_CONSTRAINED
    27: string(b"session-bind@openssh.com"), 255: b"",
}


def message(number: int, body: bytes = b"") -> str:
    return (bytes([number]) + body).hex()


@pytest.fixture
def key(scratch: str) -> str:
    """A key file without a passphrase."""
    path = f"{scratch}/key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return path


@pytest.fixture
def agent(scratch: str, key: str) -> Iterator[str]:
    """The socket of a user's own agent, which has the key and no scruples."""
    path = f"{scratch}/agent"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL)
    until(lambda: os.path.exists(path))
    subprocess.run(["ssh-add", "-q", key], env={**os.environ, "SSH_AUTH_SOCK": path}, check=True)
    yield path
    process.terminate()
    process.wait()


def ask(mydocker: Mydocker, base: str, ssh: str, attack: str, instructions: str, *messages: str, code: int = 0) -> str:
    """Build a step that asks the agent; returns what it printed."""
    context = Path(mydocker.root).parent / "context-of-agents"
    context.mkdir(exist_ok=True)
    shutil.copy(f"{attack}/attack", context / "attack")
    (context / "Dockerfile").write_text(
        f"FROM {base}\nCOPY attack /attack\n{instructions} /attack agent $SSH_AUTH_SOCK {' '.join(messages)}\n")
    try:
        return mydocker("build", "--no-cache", "--ssh", f"default={ssh}", str(context), code=code).err
    finally:
        shutil.rmtree(context)


def signing(key: str) -> str:
    public = base64.b64decode(Path(f"{key}.pub").read_text().split()[1])
    return message(13, string(public) + string(b"data") + bytes(4))


@pytest.mark.parametrize("lent", ["key", "agent"])
def test_step_can_list_and_sign_and_nothing_else(
    mydocker: Mydocker, busybox: str, attack_directory: str, key: str, agent: str, lent: str
) -> None:
    # CVE-2023-38408: message 20 has the agent load a library of the step's choice, on the host and as the host's root.
    refused = [message(number, body) for number, body in REFUSED.items()]
    told = ask(
        mydocker, busybox, key if lent == "key" else agent, attack_directory, "RUN --mount=type=ssh",
        message(11), *refused, message(11), signing(key))
    for number in REFUSED:
        assert f"{number} answered 5\n" in told
    assert told.count("11 answered 12\n") == 2 and "13 answered 14\n" in told
    assert not [argv for _, argv in processes() if any("ssh-pkcs11-helper" in word or _LIBRARY in word for word in argv)]
    # The user's own agent has its key still, and is what would have forgotten it.
    direct = [f"{attack_directory}/attack", "agent", agent, signing(key), message(19), signing(key)]
    answers = subprocess.run(direct, capture_output=True, text=True, check=True).stdout
    assert answers == "13 answered 14\n19 answered 6\n13 answered 5\n"


@pytest.mark.parametrize("lent", ["key", "agent"])
def test_agent_is_for_the_user_that_the_mount_names(
    mydocker: Mydocker, busybox: str, attack_directory: str, key: str, agent: str, lent: str
) -> None:
    ssh = key if lent == "key" else agent
    told = ask(
        mydocker, busybox, ssh, attack_directory,
        "USER 1000\nRUN --mount=type=ssh,uid=1000,gid=7,mode=0620 stat -c '%u %g %a' $SSH_AUTH_SOCK;", message(11), signing(key))
    assert "1000 7 620\n" in told and "11 answered 12\n" in told and "13 answered 14\n" in told
    told = ask(
        mydocker, busybox, ssh, attack_directory,
        "USER 1000\nRUN --mount=type=ssh stat -c '%u %g %a' $SSH_AUTH_SOCK;", message(11), signing(key))
    assert "0 0 600\n" in told and "11: EACCES\n" in told and "13: EACCES\n" in told


@pytest.mark.parametrize("key_of_mount", ["uid=-1", "uid=4294967295", "gid=99999999999", "mode=9"])
def test_owner_that_is_none_is_refused(
    mydocker: Mydocker, busybox: str, attack_directory: str, agent: str, key_of_mount: str
) -> None:
    told = ask(mydocker, busybox, agent, attack_directory, f"RUN --mount=type=ssh,{key_of_mount}", message(11), code=125)
    assert "is not a number" in told


def test_step_that_leaves_the_agent_waiting_does_not_keep_the_build(
    mydocker: Mydocker, busybox: str, attack_directory: str, agent: str
) -> None:
    # A message that is announced and does not come, from a process that stays: the step's end is the relay's, too.
    told = ask(
        mydocker, busybox, agent, attack_directory,
        "RUN --mount=type=ssh /attack agent $SSH_AUTH_SOCK - & /attack agent $SSH_AUTH_SOCK - & sleep 0.3;", message(11))
    assert told.count("waiting\n") == 2 and "11 answered 12\n" in told
    assert [name for name in os.listdir(f"{mydocker.root}/run") if name.startswith(".")] == []


def test_builds_side_by_side_in_one_program_keep_their_agents(
    engine: Engine, busybox: str, attack_directory: str, key: str, scratch: str
) -> None:
    failures: list[BaseException] = []

    def build(seconds: int) -> None:
        context = Path(scratch, f"context-{seconds}")
        context.mkdir()
        shutil.copy(f"{attack_directory}/attack", context / "attack")
        (context / "Dockerfile").write_text(
            f"FROM {busybox}\nCOPY attack /\n"
            f"RUN --mount=type=ssh sleep {seconds} && /attack agent $SSH_AUTH_SOCK {message(11)} | grep -qx '11 answered 12'\n")
        try:
            engine.builds.build(context, ssh=[f"default={key}"])
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=build, args=(seconds,)) for seconds in (0, 1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
