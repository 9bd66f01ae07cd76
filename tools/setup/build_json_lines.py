"""Builds the reader of JSON lines in C into .build/json-lines by one compiler call.

Run by tools/setup/install.py with the Python of .venv. The file's name has a hash of its source, so
that workloads/records/elle_scanned.py never loads a build of an older one. What goes wrong ends as
one sentence in why-missing.txt and on the screen; histories are then read in Python.
"""

from __future__ import annotations

import sys
from pathlib import Path

from build_module import build_module

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "workloads" / "records" / "json_lines.c"
TARGET = ROOT / ".build" / "json-lines"
MODULE_NAME = "cwkit_json_lines"

# Run by a process of its own: what does not load must not be put in its place.
PROOF = 'module.lines(b\'{"type": "ok"}\', 1, {}, lambda process: 0) and module.operations'


def main() -> int:
    """Return the exit status: 1 where there is no build; why-missing.txt then says why."""
    return build_module(SOURCE, TARGET, MODULE_NAME, PROOF)


if __name__ == "__main__":
    sys.exit(main())
