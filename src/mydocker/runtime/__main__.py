"""`python -m mydocker.runtime` is the program `mydocker-runtime`."""
from __future__ import annotations

from .cli import entry

if __name__ == "__main__":
    entry()
