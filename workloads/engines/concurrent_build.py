"""The door to the private build of SQLite's begin-concurrent branch, made by `make setup`.

It is apsw compiled around the branch's amalgamation, in one file of .build. `import apsw` never
finds it, and it never hides an apsw that somebody installs in the same venv: the two are different
modules with SQLite libraries of their own. Never let both, or this one and another SQLite, open
one file in one process: closing one drops the other's POSIX locks.
"""

from __future__ import annotations

import importlib.util
import sys
import sysconfig
from functools import cache
from pathlib import Path
from types import ModuleType

from workloads.files import ROOT

# From this file, not from the current directory: spawned workers may start anywhere.
BUILD = ROOT / ".build" / "begin-concurrent"
WHY_MISSING = BUILD / "why-missing.txt"

# The last part decides which C function is called (PyInit_apsw); the first keeps it apart from
# `apsw` in sys.modules.
MODULE_NAME = "cwkit_begin_concurrent.apsw"


class MissingBuild(RuntimeError):
    """A library of SQLite that set-up makes is not there; the text says why and how to get it."""


@cache
def load() -> ModuleType:
    """Return the private apsw module, imported once a process.

    Its API is apsw's own. A refused COMMIT is a BusyError whose `extendedresult` is 517,
    SQLITE_BUSY_SNAPSHOT. `execute` is lazy: of several statements it runs those up to the first
    that returns a row, and a row not fetched keeps its statement open, which COMMIT refuses as
    busy: fetch all, always. A cursor that is kept costs 10 % less a transaction than
    Connection.execute, which makes a new one each time.
    To learn the page that a commit stumbled over, call `module.config(module.SQLITE_CONFIG_LOG,
    callback)` before the first connection of the process: the callback gets
    (0, "cannot commit CONCURRENT transaction - conflict at page 3 (…)").
    Raises MissingBuild where there is no build for this Python, or it does not load.
    """
    path = module_path()
    if not path.is_file():
        why = why_missing(WHY_MISSING, "it was never built for this Python")
        raise MissingBuild(
            f"The begin-concurrent SQLite is missing: {why}. Get it with: make setup"
        )
    return imported(MODULE_NAME, path)


def module_path() -> Path:
    """Return where the build for this Python lies, or would lie."""
    return BUILD / f"apsw{sysconfig.get_config_var('EXT_SUFFIX')}"


def imported(name: str, path: Path) -> ModuleType:
    """The extension module of a file, kept in sys.modules by a name of its own.

    Raises MissingBuild where it does not load.
    """
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise MissingBuild(f"{path} is no extension module of this Python. Run: make clean setup")
    try:
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    except ImportError as error:
        raise MissingBuild(f"{path} does not load: {error}. Run: make clean setup") from error
    sys.modules[name] = module
    return module


def why_missing(file: Path, otherwise: str) -> str:
    """The reason that set-up has left in a file, without its full stop, or else another one."""
    return file.read_text(encoding="utf-8").strip().rstrip(".") if file.is_file() else otherwise
