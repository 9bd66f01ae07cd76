"""Builds the hot path in C into .build/hot-path by one compiler call.

Run by tools/setup/install.py with the Python of .venv. The file's name has a hash of its source, so
that workloads/engines/hot_path.py never loads a build of an older one. What goes wrong ends as one
sentence in why-missing.txt and on the screen; runs then use the Python loop.
"""

from __future__ import annotations

import hashlib
import os
import sys
import sysconfig
import tempfile
from pathlib import Path

from build_begin_concurrent import find_compiler
from fetching import CannotBuild, run, show_step

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "workloads" / "runs" / "hot_path.c"
TARGET = ROOT / ".build" / "hot-path"
MODULE_NAME = "cwkit_hot_path"

# Run by a process of its own: what does not load must not be put in its place.
PROOF = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location(sys.argv[2], sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
assert module.as_they_are({"?": 1}, "?", (1,)) and module.Tries
"""


def main() -> int:
    """Return the exit status: 1 where there is no build; why-missing.txt then says why."""
    why_missing = TARGET / "why-missing.txt"
    TARGET.mkdir(parents=True, exist_ok=True)
    why_missing.unlink(missing_ok=True)
    try:
        build(find_compiler())
    except CannotBuild as reason:
        why_missing.write_text(f"{reason}.\n", encoding="utf-8")
        print(reason)
        return 1
    return 0


def build(compiler: list[str]) -> None:
    """Compile the module, prove that it loads, put it in its place and remove older ones."""
    digest = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]
    name = f"{MODULE_NAME}-{digest}{sysconfig.get_config_var('EXT_SUFFIX')}"
    with tempfile.TemporaryDirectory(dir=TARGET) as temporary:
        module = Path(temporary, name)
        show_step("compiling")
        run(
            [*compiler, "-shared", "-fPIC", "-O2", "-fwrapv", "-fvisibility=hidden", "-DNDEBUG"]
            + [f"-I{sysconfig.get_path('include')}", str(SOURCE), "-o", str(module)],
            f"{compiler[0]} could not compile it",
        )
        show_step("proving that it loads")
        run(
            [sys.executable, "-c", PROOF, str(module), MODULE_NAME],
            "the compiled module does not load",
        )
        os.replace(module, TARGET / name)
    for old in TARGET.glob(f"{MODULE_NAME}-*"):
        if old.name != name:
            old.unlink()


if __name__ == "__main__":
    sys.exit(main())
