"""Builds the C program of the trial `nanoseconds` into .build/nanoseconds, once a library.

`branch` has the amalgamation of SQLite's branch begin-concurrent inside, fetched and configured as
for build_begin_concurrent.py; `system` is linked with the machine's libsqlite3. Run by
tools/setup/install.py with the Python of .venv. Where neither can be built, one sentence in
why-missing.txt and on the screen says why; where one can't, its own sentence is in NAME.why.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from build_begin_concurrent import CONFIG, fetch_amalgamation
from fetching import CannotBuild, run, show_step

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "workloads" / "trials" / "nanoseconds.c"
TARGET = ROOT / ".build" / "nanoseconds"
WHY_MISSING = TARGET / "why-missing.txt"
FLAGS = ["-O2", "-DNDEBUG", "-w"]


def main() -> int:
    """Return the exit status: 1 where neither program can be built."""
    TARGET.mkdir(parents=True, exist_ok=True)
    WHY_MISSING.unlink(missing_ok=True)
    reasons = [_made(name, build) for name, build in {"branch": branch, "system": system}.items()]
    if all(reasons):
        WHY_MISSING.write_text(f"{reasons[0]}.\n", encoding="utf-8")
        return 1
    return 0


def _made(name: str, build: Callable[[list[str], Path, Path], None]) -> str:
    """Build one, and put it in its place. Returns why it cannot be built, "" where it is."""
    why = TARGET / f"{name}.why"
    why.unlink(missing_ok=True)
    try:
        with tempfile.TemporaryDirectory(dir=TARGET.parent) as temporary:
            program = Path(temporary) / name
            build(compiler(), Path(temporary), program)
            os.replace(program, TARGET / name)
    except CannotBuild as reason:
        (TARGET / name).unlink(missing_ok=True)
        why.write_text(f"{reason}.\n", encoding="utf-8")
        print(f"{name}: {reason}")
        return str(reason)
    return ""


def compiler() -> list[str]:
    """The C compiler's command. Raises CannotBuild where there is none."""
    candidates = (
        [os.environ["CC"].split()] if os.environ.get("CC") else [["cc"], ["gcc"], ["clang"]]
    )
    for command in candidates:
        if shutil.which(command[0]):
            return command
    raise CannotBuild(
        "there is no C compiler on the PATH (on Debian: apt-get install gcc libc6-dev)"
    )


def branch(command: list[str], folder: Path, program: Path) -> None:
    amalgamation = fetch_amalgamation()
    (folder / "config.h").write_text(CONFIG)
    show_step("compiling the branch's library, up to a minute")
    run(
        [*command, *FLAGS, "-include", str(folder / "config.h"), f"-I{amalgamation}", str(SOURCE)]
        + [str(amalgamation / "sqlite3.c"), "-o", str(program), "-lpthread", "-ldl", "-lm"],
        f"{command[0]} could not compile it",
    )


def system(command: list[str], folder: Path, program: Path) -> None:
    show_step("linking with the machine's libsqlite3")
    run(
        [*command, *FLAGS, str(SOURCE), "-o", str(program), "-lsqlite3"],
        f"{command[0]} could not link it with the machine's libsqlite3 (on Debian: apt-get install "
        "libsqlite3-dev)",
    )


if __name__ == "__main__":
    sys.exit(main())
