"""Builds the hot path in C into .build/hot-path by one compiler call.

Run by tools/setup/install.py with the Python of .venv. The file's name has a hash of its source, so
that workloads/engines/hot_path.py never loads a build of an older one. What goes wrong ends as one
sentence in why-missing.txt and on the screen; runs then use the Python loop.
"""

from __future__ import annotations

import sys
from pathlib import Path

from build_module import build_module

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "workloads" / "runs" / "hot_path.c"
TARGET = ROOT / ".build" / "hot-path"
MODULE_NAME = "cwkit_hot_path"

# Run by a process of its own: what does not load must not be put in its place.
PROOF = 'module.as_they_are({"?": 1}, "?", (1,)) and module.Tries'


def main() -> int:
    """Return the exit status: 1 where there is no build; why-missing.txt then says why."""
    return build_module(SOURCE, TARGET, MODULE_NAME, PROOF)


if __name__ == "__main__":
    sys.exit(main())
