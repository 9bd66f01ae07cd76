"""A run by its name: its folder, its name below runs/, or a part of that.

Names are compared as they are typed. One with the signs of a shell's pattern, which the shell has
left alone because it matched nothing, is a name that no run has.
"""

from __future__ import annotations

import os
from pathlib import Path

from workloads.errors import RunError
from workloads.files import visible


def find_run(name: str, runs: Path) -> Path:
    """The folder of a run: a path, a name below `runs`, or an unambiguous part of one. RunError."""
    for folder in (Path(name), runs / name):
        if os.path.isdir(folder):
            return folder
    if "/" in name and (of_reports := in_reports(name, runs)):
        return of_reports[-1]
    matches = [folder for folder in folders_in(runs) if name in folder.name]
    if len(matches) == 1:
        return matches[0]
    shown = repr(visible(name))
    shown = shown if len(shown) <= 80 else f"{shown[:77]}…"
    if matches:
        named = ", ".join(match.name for match in matches[:3])
        raise RunError(f"{len(matches)} runs fit {shown}, {named}: say more.")
    raise RunError(f"There is no run {shown} in {runs}. `cwkit list` shows those there are.")


def in_reports(name: str, runs: Path) -> list[Path]:
    """Folders that a report names so, `headline` or `headline/b00-now`, the newest one's last."""
    found = (folder / name for folder in folders_in(runs)) if not os.path.isabs(name) else ()
    return [path for path in found if os.path.isdir(path)]


def folders_in(runs: Path) -> list[Path]:
    """The folders in a folder, by name; none where it cannot be read."""
    try:
        return sorted(path for path in runs.iterdir() if os.path.isdir(path))
    except OSError:
        return []
