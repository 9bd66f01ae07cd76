"""The door to the hot path in C, one file of .build made by `make setup` from hot_path.c.

It has the loop of workloads.runs.hot_path and the parameter check of the libSQL adapter. Where it
is missing, both are done in Python.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Literal

from workloads.errors import PlanError, shortened
from workloads.files import ROOT, compiled_path, load_compiled

Loop = Literal["C", "Python"]

VARIABLE = "CWKIT_LOOP"
"""Environment variable with the loop of runs where no plan says it."""

SOURCE = ROOT / "workloads" / "runs" / "hot_path.c"
BUILD = ROOT / ".build" / "hot-path"
MODULE_NAME = "cwkit_hot_path"

_chosen: Loop | None = None


def module_path() -> Path:
    """Where the build of this source for this Python lies, or would lie."""
    return compiled_path(SOURCE, BUILD, MODULE_NAME)


@cache
def can_loop_in_c() -> bool:
    return module_path().is_file()


@cache
def load() -> ModuleType | None:
    """The module, imported once a process; None where there is none that loads."""
    return load_compiled(module_path(), MODULE_NAME)


def usual_loop() -> Loop:
    """The loop where no plan says it: in C where it is built and not unwished.

    Raises PlanError for a variable that says something else.
    """
    wished = os.environ.get(VARIABLE, "")
    if wished not in ("", "C", "Python"):
        raise PlanError(f"The environment has {VARIABLE}={shortened(wished)}: give C or Python.")
    return "Python" if wished == "Python" or not can_loop_in_c() else "C"


def choose_loop(loop: Loop) -> None:
    """Have this process use a loop, as its plan says."""
    global _chosen
    _chosen = loop


def c_hot_path() -> ModuleType | None:
    """The module where this process uses it, None where it uses Python."""
    return load() if (_chosen or usual_loop()) == "C" else None


def loop_in_use() -> Loop:
    return "Python" if c_hot_path() is None else "C"
