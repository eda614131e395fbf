"""docs/python.md names all that the Python API has."""
from __future__ import annotations

import os
import re

import pytest

import mydocker
from mydocker import Container, Engine, LiveSession
from mydocker.engine.builds import Builds
from mydocker.engine.containers import Containers
from mydocker.engine.networks import Networks
from mydocker.engine.volumes import Volumes
from mydocker.image.store import Images

_PAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "..", "docs", "python.md")
#: For the engine's own rooms, not for programs.
_INTERNAL = {
    "layout", "store", "lower_dirs", "lower_dirs_of", "hold", "prepare_write_layer", "judged_name", "open_progress", "own", "connect", "id",
}


@pytest.mark.parametrize("owner", [Engine, Containers, Container, Images, Networks, Builds, LiveSession, Volumes])
def test_every_public_name_is_on_the_page(owner: type) -> None:
    with open(_PAGE, encoding="utf-8") as stream:
        words = set(re.findall(r"\w+", stream.read()))
    names = {name for name in vars(owner) if not name.startswith("_")} - _INTERNAL
    assert names - words == set()


def test_every_error_is_on_the_page() -> None:
    with open(_PAGE, encoding="utf-8") as stream:
        text = stream.read()
    errors = [name for name in mydocker.__all__ if isinstance(getattr(mydocker, name), type)
              and issubclass(getattr(mydocker, name), mydocker.MydockerError) and name != "MydockerError"]
    assert errors and [name for name in errors if f"`{name}`" not in text] == []
