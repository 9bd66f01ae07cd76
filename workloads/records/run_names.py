"""A run by its name: its folder, its name below runs/, or a part of that.

Names are compared as they are typed. One with the signs of a shell's pattern, which the shell has
left alone because it matched nothing, is a name that no run has.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from workloads.errors import RunError
from workloads.files import visible
from workloads.records.saved_names import LAST, saved_as

_DATED = re.compile(r"\d{8}-\d{6}-")


def find_run(name: str, runs: Path) -> Path:
    """The folder of a run: a path, a name below `runs`, a name that it was saved under, `last`, or
    an unambiguous part of a name. Raises RunError.
    """
    places = [folder for folder in (Path(name), runs / name) if os.path.isdir(folder)]
    if ours := [folder for folder in places if is_ours(folder)]:
        return ours[0]
    if name == LAST:
        return newest(runs)
    if (saved := saved_as(name, runs)) is not None:
        return saved
    if places:
        return places[0]
    if "/" in name and (of_reports := in_reports(name, runs)):
        return of_reports[-1]
    there = [folder for folder in folders_in(runs) if not folder.name.startswith(".")]
    matches = [folder for folder in there if name in folder.name]
    if len(matches) == 1:
        return matches[0]
    shown = repr(visible(name))
    shown = shown if len(shown) <= 80 else f"{shown[:77]}…"
    if matches:
        named = ", ".join(match.name for match in matches[:3])
        raise RunError(f"{len(matches)} runs fit {shown}, {named}: say more.")
    raise RunError(f"There is no run {shown} in {runs}. `cwkit list` shows those there are.")


NOTES = (
    *("manifest.json", "experiment.json", "campaign.json", "search.json", "hunt.json"),
    *("crash.json", "faults.json", "soak.json"),
)
"""The files that tell a folder of ours, whatever kind it is."""


def is_ours(folder: Path) -> bool:
    """Whether a folder is that of a run, a sweep, a search, a report, or of another command."""
    return any(os.path.isfile(folder / note) for note in NOTES)


def newest(runs: Path) -> Path:
    """The newest run, sweep, search or report. Raises RunError where there is none."""
    found = [folder for folder in folders_in(runs) if is_ours(folder)]
    dated = [folder for folder in found if _DATED.match(folder.name)]
    if not found:
        raise RunError(f"{runs}: holds no run, so there is no last one. `cwkit run` makes one.")
    # Names begin with the second in which the folder was made; what is copied here keeps its own.
    return max(dated or found, key=lambda folder: (folder.name[:15], folder.stat().st_mtime_ns))


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
