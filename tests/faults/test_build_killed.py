"""kill -9 in the middle of a build: what is stored is whole, the next build goes on, and gc leaves nothing of the dead one."""
from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from fault_rig import killed_at
from harness import Mydocker, processes, until

pytestmark = [pytest.mark.needs("root", "overlay"), pytest.mark.counts_links]

_DOCKERFILE = """\
FROM {base} AS one
RUN --mount=type=cache,target=/c --mount=type=secret,id=s head -c 300000 /dev/zero > /zeros && cp /zeros /c/
RUN rm /zeros && sleep 0.05 && touch /done
FROM {base} AS two
COPY file /file
RUN mkdir /d && ln /file /d/link
FROM {base}
COPY --from=one /done /one
COPY --from=two /d /two
WORKDIR /w
"""


@pytest.fixture
def words(busybox: str, scratch: str) -> tuple[str, ...]:
    """What builds something with everything in it."""
    context = Path(scratch) / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(_DOCKERFILE.format(base=busybox))
    (context / "file").write_text("x" * 100_000)
    (Path(scratch) / "secret").write_text("CANARY")
    return ("build", "-q", "--no-cache", "-t", "killed", "--secret", f"id=s,src={scratch}/secret", str(context))


def check(mydocker: Mydocker, words: tuple[str, ...]) -> None:
    """Nothing stored is broken, gc leaves only what is needed, and the build can be done."""
    mydocker("image", "verify")
    # Who runs a step takes it along, and its monitor removes it.
    until(lambda: mydocker("ps", "-q").out == "", what="for the step's container to go")
    mydocker("gc")
    assert [name for name in os.listdir(f"{mydocker.root}/layer") if name.startswith(".")] == []
    assert os.listdir(f"{mydocker.root}/trash") == []
    needed = set()
    for entry in json.loads(Path(mydocker.root, "image/index.json").read_text())["manifests"]:
        manifest = json.loads(Path(mydocker.root, "image/blobs/sha256", entry["digest"][7:]).read_text())
        needed |= {entry["digest"][7:], manifest["config"]["digest"][7:], *(layer["digest"][7:] for layer in manifest["layers"])}
    for path in Path(mydocker.root, "build").glob("*.json"):
        layer = json.loads(path.read_text())["layer"]
        needed |= {layer["blob"]["digest"][7:]} if layer else set()
    assert set(os.listdir(f"{mydocker.root}/image/blobs/sha256")) == needed


@pytest.mark.parametrize("point", ["image synced", "image layers named", "image blobs linked", "recorded creating"])
def test_killed_at_a_point(mydocker: Mydocker, words: tuple[str, ...], point: str) -> None:
    killed_at(mydocker, point, *words)
    check(mydocker, words)
    mydocker(*words)
    assert mydocker("run", "--rm", "killed", "ls", "/").code == 0
    check(mydocker, words)


@pytest.mark.slow
@pytest.mark.time_limit(180)
def test_killed_at_twenty_random_moments(mydocker: Mydocker, words: tuple[str, ...]) -> None:
    mydocker(*words)
    rolls = random.Random(4)
    for _ in range(20):
        process = subprocess.Popen([*mydocker.argv, *words], env=mydocker.environ(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(rolls.uniform(0.03, 0.9))
        process.send_signal(signal.SIGKILL)
        process.wait()
        check(mydocker, words)
    mydocker(*words)
    assert not [name for name in os.listdir(mydocker.run_dir) if name.startswith(".secret")]


def test_a_step_ends_with_the_build_that_was_killed(mydocker: Mydocker, busybox: str, scratch: str) -> None:
    Path(scratch, "Dockerfile").write_text(f"FROM {busybox}\nRUN trap '' TERM HUP INT; sleep 1000\n")
    process = subprocess.Popen([*mydocker.argv, "build", "-q", scratch], env=mydocker.environ(), stderr=subprocess.DEVNULL)
    until(lambda: mydocker("ps", "-q").out != "", what="for the step to run")
    process.kill()
    process.wait()
    until(lambda: mydocker("ps", "-aq").out == "", what="for the step's container to go")
    mydocker("gc")
    assert os.listdir(f"{mydocker.root}/trash") == []


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("ssh-agent"), reason="openssh-client is not installed")
def test_killed_while_a_step_has_an_agent_leaves_neither_agent_nor_socket(mydocker: Mydocker, busybox: str, scratch: str) -> None:
    key, context = f"{scratch}/key", Path(scratch, "context")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    context.mkdir()
    (context / "Dockerfile").write_text(f"FROM {busybox}\nRUN --mount=type=ssh sleep 3\n")
    build = [*mydocker.argv, "build", "--ssh", f"default={key}", str(context)]
    process = subprocess.Popen(build, env=mydocker.environ(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until(lambda: mydocker("ps", "-q").out)
    assert sorted(name.partition("-")[0] for name in hidden(f"{mydocker.root}/run")) == [".agent", ".secret.tmp"]
    process.kill()
    process.wait()
    # The agent looks every ten seconds whether the build is there still.
    until(lambda: not [argv for _, argv in processes() if any(f"{mydocker.root}/" in word for word in argv)], 20)
    until(lambda: mydocker("ps", "-q").out == "")
    (context / "Dockerfile").write_text(f"FROM {busybox}\nLABEL next=build\n")
    mydocker("build", str(context))
    assert hidden(f"{mydocker.root}/run") == []


def hidden(directory: str) -> list[str]:
    """Return the names in a directory that begin with a dot."""
    return [name for name in os.listdir(directory) if name.startswith(".")]
