"""A class found by its name: one of a registry of ours, or one of a user's file, "path.py:Class".

A user's file is executed once in a process, whoever asks for it and by whichever path. So all
connections and workers share what lies in the module or in its class. The file is executed anew
only where its content has changed.

The file is executed only where the user named it: on the command line, or in a sweep file that is
given there (`trust`). A run folder, a report or a search may come from anybody. A file that only
such a folder names is never loaded; the user gets a sentence instead.

The file is a module of a package that stands for its folder. Its neighbours are imported
relatively, by `from .helper import x` or `from . import helper`. So the helpers of two folders
cannot be mixed up, and no file beside it (a `queue.py`) can take the place of a library's.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import os
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from workloads.errors import NotTrusted, UnknownName, nearest, shortened
from workloads.files import resolved

HANDED_ON = "CWKIT_USER_FILES"
"""Environment variable with the trusted files, for the processes that this one starts."""


def trust(*names: str | Path) -> None:
    """Let the files of these names be loaded, here and in the processes that are started from here.

    names : as the command line or a sweep file given on it has them: "path.py:Class", "path.py";
        names of a registry are no files and are ignored. Never call it with names from a folder.
    """
    there = dict.fromkeys(_trusted())
    for name in map(str, names):
        if (path := path_of(name)) is not None:
            there[str(path)] = None
    os.environ[HANDED_ON] = json.dumps(list(there))


def _trusted() -> list[str]:
    return list(json.loads(os.environ.get(HANDED_ON, "[]")))


def path_of(name: str) -> Path | None:
    """The file of "path.py:Class" or "path.py", None of a registry's name."""
    text = name.rpartition(":")[0] if ".py:" in name else name if name.endswith(".py") else ""
    try:
        return resolved(text) if text else None
    except (OSError, ValueError):  # a NUL in it
        return None


def found(name: str, registry: Mapping[str, str], what: str, way_out: str) -> Any:
    """The class behind a registry name or a "path.py:Class". Raises UnknownName."""
    if ".py:" in name:
        return from_file(name, what)
    if name.endswith(".py"):
        raise UnknownName(f"{name!r} is a file: name the {what}'s class too, as {name}:Name.")
    if name not in registry:
        near = nearest(name, registry)
        hint = f" Did you mean {near!r}?" if near else ""
        raise UnknownName(
            f"There is no {what} {shortened(name)}.{hint} {way_out[0].upper()}{way_out[1:]}."
        )
    module, _, attribute = registry[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def from_file(name: str, what: str) -> Any:
    """The class `Name` of "path.py:Name". Raises UnknownName with the reason."""
    path_text, _, attribute = name.rpartition(":")
    path = path_of(name)
    if path is None or str(path) not in _trusted():
        raise NotTrusted(
            f"The {what} {name!r} is a file, and a file is loaded only where the command line "
            "names it: with the option that chooses it, in a sweep file, or by --load FILE.py."
        )
    if not path.is_file():
        raise UnknownName(f"There is no file {path_text!r} to take the {what} {attribute!r} from.")
    try:
        module = _module(path)
    except (Exception, SystemExit) as error:
        hint = _neighbours_hint(path, error)
        raise UnknownName(
            f"{path_text!r} cannot be imported: {type(error).__name__}: {error}.{hint}"
        ) from error
    if not hasattr(module, attribute):
        public = [n for n in vars(module) if isinstance(vars(module)[n], type)]
        near = nearest(attribute, public, 0.3)
        hint = f" Did you mean {near!r}?" if near else ""
        raise UnknownName(f"{path_text!r} has no class {attribute!r}.{hint}")
    return getattr(module, attribute)


@dataclass(frozen=True)
class _Loaded:
    content: bytes
    module: ModuleType


_loaded: dict[Path, _Loaded] = {}
_lock = threading.RLock()  # workers that are threads of one process ask at the same time


def _module(path: Path) -> ModuleType:
    """The module of a file, executed where that was not done yet with this content."""
    with _lock:
        content = path.read_bytes()
        there = _loaded.get(path)
        if there is not None and there.content == content:
            return there.module
        name = f"{_package(path.parent)}.{_stem(path)}"
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        module = importlib.util.module_from_spec(spec)
        # Before it is executed, as Python's own import does: it may ask for a class of itself.
        before = sys.modules.get(name)
        sys.modules[name], _loaded[path] = module, _Loaded(content, module)
        try:
            # Not by the loader: it takes a compiled file for the source's if that has the same
            # size and the same second.
            exec(compile(content, str(path), "exec"), module.__dict__)
        except BaseException:
            del sys.modules[name], _loaded[path]
            if before is not None:
                sys.modules[name] = before
            raise
        return module


def _package(folder: Path) -> str:
    """The name of the package that stands for a folder: its own, and the same in each process."""
    name = f"cwkit_user_{_short(str(folder))}"
    if name not in sys.modules:
        package = ModuleType(name)
        package.__path__ = [str(folder)]
        sys.modules[name] = package
    return name


def _stem(path: Path) -> str:
    # "a.b.py" would be a module of a package `a`.
    return path.stem if path.stem.isidentifier() else f"file_{_short(path.name)}"


def _short(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:12]


def _neighbours_hint(path: Path, error: BaseException) -> str:
    """The way out for a file that imports its neighbour as if that were installed."""
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return ""
    neighbour = error.name.partition(".")[0]
    beside = path.parent / neighbour
    if not (beside.with_suffix(".py").is_file() or beside.is_dir()):
        return ""
    return f" A file beside it is imported relatively: from . import {neighbour}."


__all__ = ["found", "from_file", "path_of", "trust"]
