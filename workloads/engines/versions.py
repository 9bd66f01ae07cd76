"""Several versions of one engine: `turso@0.7.2` is the engine `turso` on that version's package.

`make engine ENGINE=turso@0.7.2` installs it beside the locked one, in a folder of its own below
.build/versions. A process has one version of a package, because Python knows a module by its name
and two copies of SQLite spoil each other's locks: asked for a second one it says so.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

from workloads.errors import EngineMissing, UnknownName, shortened
from workloads.files import ROOT

PLACE = ROOT / ".build" / "versions"
FORM = re.compile(r"[0-9][0-9A-Za-z]*(\.[0-9A-Za-z]+)*")


def parted(name: str) -> tuple[str, str]:
    """An engine's name and the version that it asks for, "" for the one that set-up installs.

    Raises UnknownName where the version cannot be one.

    >>> parted("turso@0.7.2"), parted("libsql"), parted("my@home/engine.py:Mine")
    (('turso', '0.7.2'), ('libsql', ''), ('my@home/engine.py:Mine', ''))
    """
    if ".py" in name or "@" not in name:
        return name, ""
    engine, _, version = name.partition("@")
    if len(version) > 40 or not FORM.fullmatch(version):
        raise UnknownName(f"{shortened(name)}: a version has the form {engine}@0.7.2.")
    return engine, version


def folder_of(package: str, version: str) -> Path:
    """Where this version of a package lies, or would lie."""
    return PLACE / f"{package}-{version}"


def why_missing(name: str, package: str, module: str, version: str) -> str | None:
    """Why an engine's package cannot be used in this process, in a sentence; None if it can."""
    if not version:
        if importlib.util.find_spec(module) is None:
            return f"{package} is not installed. Get it with: make setup"
    elif not folder_of(package, version).is_dir():
        return f"{package} {version} is not installed. Get it with: make engine ENGINE={name}"
    there = _of_module(module)
    if there is not None and there != version:
        return (
            f"this process has {package} {there or installed(package)} in use, and has one version "
            "of a package. Ask for each version in a command of its own."
        )
    return None


def _of_module(module: str) -> str | None:
    """The version that a module in use was chosen by, "" for the locked one, None for no module."""
    there = sys.modules.get(module)
    if there is None:
        return None
    path = Path(there.__file__ or "")
    return path.relative_to(PLACE).parts[0].rpartition("-")[2] if PLACE in path.parents else ""


def driver(name: str, package: str, module: str, version: str) -> ModuleType:
    """An engine's module in the version asked for. Raises EngineMissing with the way out."""
    if why := why_missing(name, package, module, version):
        raise EngineMissing(why)
    if not version or module in sys.modules:
        return importlib.import_module(module)
    place = str(folder_of(package, version))
    sys.path.insert(0, place)
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise EngineMissing(f"{package} {version} does not load here: {error}") from error
    finally:
        sys.path.remove(place)


def installed(package: str, version: str = "") -> str:
    """The version that the package itself names."""
    if not version:
        return importlib.metadata.version(package)
    found = importlib.metadata.Distribution.discover(
        name=package, path=[str(folder_of(package, version))]
    )
    return next((one.version for one in found), version)


def search_path(package: str, version: str) -> dict[str, str]:
    """The variable by which another program finds this version, {} for the locked one."""
    return {"PYTHONPATH": str(folder_of(package, version))} if version else {}
