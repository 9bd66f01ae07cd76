"""Names that a user gave to runs, such as `main` for a baseline: one small file each.

A name may be given anew, and then leads to the newer run. The run itself is not touched.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from workloads.errors import PlanError, RunError
from workloads.files import FORMAT_VERSION, inside, read_versioned, write_json

SAVED = ".saved"
"""The folder of the names, in that of the runs."""

LAST = "last"
"""The newest run, without being saved."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
MOST_BYTES = 4096


def check_name(name: str, runs: Path) -> None:
    """Raises PlanError where a run cannot be saved under this name."""
    if not _NAME.fullmatch(name) or name == LAST:
        raise PlanError(
            f"--save {name}: give a name of letters, digits, - and _, at most 64 of them; "
            f"{LAST!r} is the newest run as it is."
        )
    if os.path.lexists(runs / name):
        raise PlanError(f"--save {name}: {runs / name} has this name already. Give another one.")


def is_taken(name: str, runs: Path) -> bool:
    """Whether a folder of this name would stand before a run that the name leads to."""
    return name == LAST or os.path.lexists(runs / SAVED / f"{name}.json")


def save_as(name: str, folder: Path, runs: Path) -> None:
    """Have this name lead to a run of the folder `runs`. Raises PlanError for what is no name."""
    check_name(name, runs)
    (runs / SAVED).mkdir(parents=True, exist_ok=True)
    write_json(runs / SAVED / f"{name}.json", {"cwkit": FORMAT_VERSION, "run": folder.name})


def saved_as(name: str, runs: Path) -> Path | None:
    """The run that was saved under a name; None for none, RunError where it is gone."""
    if not _NAME.fullmatch(name) or not os.path.isdir(runs / SAVED):
        return None
    path = inside(runs / SAVED, f"{name}.json")
    try:
        data = read_versioned(path, dict, f"Save a run again: cwkit run --save {name}", MOST_BYTES)
    except FileNotFoundError:
        return None
    folder = inside(runs, data.get("run"))
    if not os.path.isdir(folder):
        raise RunError(
            f"{name}: the run that was saved so, {folder}, is gone. Save another one with "
            f"`cwkit run --save {name}`."
        )
    return folder


def names_of(runs: Path) -> dict[str, list[str]]:
    """Folder's name -> the names that it was saved under. What cannot be read is left out."""
    found: dict[str, list[str]] = {}
    for path in sorted((runs / SAVED).glob("*.json")):
        try:
            folder = saved_as(path.stem, runs)
        except (RunError, OSError):
            continue
        if folder is not None:
            found.setdefault(folder.name, []).append(path.stem)
    return found
