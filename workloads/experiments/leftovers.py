"""Leftovers of killed processes: all of them are found, finished and cleared.

Runs that are not over are found by their temporary folders and in the folders that hold runs: after
a restart of the machine the temporary ones may be gone. A folder is touched only where it is
provably ours and nobody uses it.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from workloads.errors import RunError, RunFailed
from workloads.experiments.experiment import TEMPLATES
from workloads.files import LOCK_FILE, Held, LeftOver, clear, left_over, locked, read_bytes, remove
from workloads.records import MANIFEST, read_manifest
from workloads.runs import OnProgress, Recovered, has_ended, recover, run_of

DEEPEST = 4
"""Folders below the one that holds runs: REPORT/SWEEP/earlier/RUN."""

SIGNS = (b'"under_way"', b'"ended": "running"')
"""In the manifest of a run that is not over: most are, and need not be read whole."""

HALF_A_MANIFEST = re.compile(rf"{re.escape(MANIFEST)}\.[0-9]+\.new")

DYING_S = 5.0
"""How long the children of a process that was killed just now are waited for, s."""

Notify = Callable[[str], None]


@dataclass
class Cleared:
    """The result of clearing leftovers. runs : those that were finished or removed. folders : the
    temporary ones that were removed. failed : a sentence for each leftover that is still there.
    """

    runs: list[Recovered] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


def recover_all(
    runs: Sequence[Path],
    places: Sequence[Path],
    *,
    notify: Notify = lambda sentence: None,
    on_progress: OnProgress | None = None,
) -> Cleared:
    """Finish every run that was left, and clear the temporary folders of killed processes.

    runs : folders that hold runs, sweeps, searches and reports. places : where temporary folders
    may lie. notify : called with a sentence for each.
    """
    done = Cleared()
    for left in left_over(*places, wait_s=DYING_S):
        if (folder := _run_of(left, done)) is not None:
            _finish(folder, notify, on_progress, done)
        if left.path.exists() and not _needed(left) and clear(left):
            done.folders.append(left.path)
            notify(f"{left.path}: cleared.")
    for place in runs:
        for folder in interrupted(place, wait_s=DYING_S):
            _finish(folder, notify, on_progress, done)
        for folder in _with_templates(place):
            notify(f"{folder}: cleared of loaded databases.")
            done.folders.append(folder / TEMPLATES)
    return done


def _finish(folder: Path, notify: Notify, on_progress: OnProgress | None, done: Cleared) -> None:
    try:
        made = recover(folder, on_progress=on_progress)
    except (RunError, RunFailed) as error:
        if str(error) not in done.failed:
            done.failed.append(str(error))
        return
    if made.what == "whole":
        return
    done.runs.append(made)
    notify(f"{folder}: {sentence(made)}")


def sentence(made: Recovered) -> str:
    """The result for one run, as the rest of a sentence."""
    if made.run is None:
        return "removed, for nothing had been measured."
    manifest = made.run.manifest
    if manifest.broken:
        return f"finished; BROKEN: {manifest.broken[0].check}: {manifest.broken[0].sentence}"
    if manifest.unmade:
        return f"finished; {manifest.unmade[0].check} {manifest.unmade[0].sentence}."
    return "finished, and its checks hold." if manifest.findings else "finished."


def _run_of(left: LeftOver, done: Cleared) -> Path | None:
    """The run that a temporary folder serves, if it is there to be finished."""
    owner = left.owner
    if owner is None or owner.kind != "run" or not owner.run:
        return None
    folder = Path(owner.run)
    with contextlib.suppress(OSError):
        there = list(folder.iterdir()) if not folder.is_symlink() else []
        if all(HALF_A_MANIFEST.fullmatch(path.name) for path in there):
            for path in there:
                path.unlink()
            folder.rmdir()  # killed before there was a manifest in it
    return run_of(owner)


def _needed(left: LeftOver) -> bool:
    """Whether a run that could not be finished now still needs its temporary folder."""
    if left.owner is None or not left.owner.run:
        return False
    folder = Path(left.owner.run)
    if not (folder / MANIFEST).exists():
        return False
    try:
        manifest = read_manifest(folder)
    except RunError:
        return True  # a damaged manifest: nobody can tell whose database it is
    return manifest.id == left.owner.run_id and manifest.under_way is not None


def interrupted(place: Path, *, wait_s: float = 0.0) -> Iterator[Path]:
    """Runs below a folder that are not over, and on which nobody works.

    wait_s : how long the children of a killed process are waited for, s.
    """
    for folder, names in _walked(place):
        if MANIFEST not in names:
            continue
        with contextlib.suppress(RunError, OSError):
            data = read_bytes(folder / MANIFEST)
            if any(sign in data for sign in SIGNS):
                manifest = read_manifest(folder)
                over = manifest.under_way is None and manifest.ended != "running"
                if not over and has_ended(folder, manifest, wait_s):
                    yield folder


def _with_templates(place: Path) -> Iterator[Path]:
    """Folders of experiments and searches that held loaded databases, which are removed now."""
    for folder, names in _walked(place):
        if TEMPLATES not in names or LOCK_FILE not in names:
            continue
        with contextlib.suppress(Held, RunError, RunFailed, OSError), locked(folder):
            remove(folder, TEMPLATES)
            yield folder


def _walked(place: Path) -> Iterator[tuple[Path, set[str]]]:
    """Folders below one, with what is in them; not those within a run, and no link's end."""
    place = Path(place)
    for root, folders, files in os.walk(place):
        here = Path(root)
        yield here, {*folders, *files}
        if MANIFEST in files or len(here.relative_to(place).parts) >= DEEPEST:
            folders.clear()
        folders[:] = sorted(name for name in folders if name != TEMPLATES)
