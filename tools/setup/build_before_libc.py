"""Builds the library that stands before libc into .build/before-libc by one compiler call.

Run by tools/setup/install.py with the Python of .venv. The file's name has a hash of its source.
What goes wrong ends as one sentence in why-missing.txt and on the screen; then there are no faults
and no crash states, and everything else is there.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from pathlib import Path

from build_begin_concurrent import find_compiler
from fetching import CannotBuild, run, show_step

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "workloads" / "processes" / "before_libc.c"
TARGET = ROOT / ".build" / "before-libc"
NAME = "before_libc"

PROOF = (
    "import ctypes, sys; library = ctypes.CDLL(None); "
    "sys.exit(not (library.cwkit_faults_size() > 0 and library.cwkit_note(b'', 0) == -1))"
)


def main() -> int:
    """Return the exit status: 1 where there is no build; why-missing.txt then says why."""
    why_missing = TARGET / "why-missing.txt"
    TARGET.mkdir(parents=True, exist_ok=True)
    why_missing.unlink(missing_ok=True)
    try:
        _build()
    except CannotBuild as reason:
        why_missing.write_text(f"{reason}.\n", encoding="utf-8")
        print(reason)
        return 1
    return 0


def _build() -> None:
    if not sys.platform.startswith("linux"):
        raise CannotBuild("it needs Linux, whose loader puts a library before libc")
    compiler = find_compiler()
    digest = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]
    file = f"{NAME}-{digest}.so"
    with tempfile.TemporaryDirectory(dir=TARGET) as temporary:
        made = Path(temporary, file)
        show_step("compiling")
        run(
            [*compiler, "-shared", "-fPIC", "-O2", "-fvisibility=hidden"]
            + [str(SOURCE), "-o", str(made), "-ldl", "-lrt", "-lpthread"],
            f"{compiler[0]} could not compile it",
        )
        show_step("proving that it loads")
        run(
            ["env", f"LD_PRELOAD={made}", sys.executable, "-c", PROOF],
            "the compiled library does not load",
        )
        os.replace(made, TARGET / file)
    for old in TARGET.glob(f"{NAME}-*.so"):
        if old.name != file:
            old.unlink()


if __name__ == "__main__":
    sys.exit(main())
