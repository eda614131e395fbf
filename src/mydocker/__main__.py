"""`python -m mydocker` is the command `mydocker`."""
from __future__ import annotations

from .cli.main import entry

if __name__ == "__main__":
    entry()
