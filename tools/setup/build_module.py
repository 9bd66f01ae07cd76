"""Builds a module in C from one source by one compiler call; its name has the source's hash."""

from __future__ import annotations

import hashlib
import os
import sys
import sysconfig
import tempfile
from pathlib import Path

from build_begin_concurrent import find_compiler
from fetching import CannotBuild, run, show_step

LOADED = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location(sys.argv[2], sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
assert eval(sys.argv[3])
"""


def build_module(source: Path, target: Path, name: str, proof: str) -> int:
    """Return the exit status: 1 where there is no build; why-missing.txt then says why.

    proof : an expression that is true of the `module`.
    """
    why_missing = target / "why-missing.txt"
    target.mkdir(parents=True, exist_ok=True)
    why_missing.unlink(missing_ok=True)
    try:
        _build(find_compiler(), source, target, name, proof)
    except CannotBuild as reason:
        why_missing.write_text(f"{reason}.\n", encoding="utf-8")
        print(reason)
        return 1
    return 0


def _build(compiler: list[str], source: Path, target: Path, name: str, proof: str) -> None:
    """Compile the module, prove that it loads, put it in its place and remove older ones."""
    digest = hashlib.sha256(source.read_bytes()).hexdigest()[:16]
    file = f"{name}-{digest}{sysconfig.get_config_var('EXT_SUFFIX')}"
    with tempfile.TemporaryDirectory(dir=target) as temporary:
        module = Path(temporary, file)
        show_step("compiling")
        run(
            [*compiler, "-shared", "-fPIC", "-O2", "-fwrapv", "-fvisibility=hidden", "-DNDEBUG"]
            + [f"-I{sysconfig.get_path('include')}", str(source), "-o", str(module)],
            f"{compiler[0]} could not compile it",
        )
        show_step("proving that it loads")
        run(
            [sys.executable, "-c", LOADED, str(module), name, proof],
            "the compiled module does not load",
        )
        os.replace(module, target / file)
    for old in target.glob(f"{name}-*"):
        if old.name != file:
            old.unlink()
