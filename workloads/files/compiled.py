"""Modules in C that `make setup` builds from one source each; without them Python does the same."""

from __future__ import annotations

import hashlib
import importlib.util
import sysconfig
from pathlib import Path
from types import ModuleType


def compiled_path(source: Path, build: Path, name: str) -> Path:
    """Where the build of this source for this Python lies, or would lie.

    The source is part of the name: one that was changed since is not run by its older build.
    """
    digest = hashlib.sha256(source.read_bytes()).hexdigest()[:16]
    return build / f"{name}-{digest}{sysconfig.get_config_var('EXT_SUFFIX')}"


def load_compiled(path: Path, name: str) -> ModuleType | None:
    """The module; None where there is none that loads."""
    if not path.is_file():
        return None
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        return None
    try:
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    except ImportError:  # a damaged file, or one for another machine
        return None
    return module
