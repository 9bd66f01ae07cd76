"""A cell that was cut short: its run is finished as far as it can be, reported, and set aside.

The cell is run again. The measurements of the killed or interrupted command are not thrown away:
they are kept in the experiment's folder `earlier`.
"""

from __future__ import annotations

from pathlib import Path

from workloads.errors import RunError, RunFailed
from workloads.experiments.experiment import EARLIER, cell_name, unwritable
from workloads.files import inside, move_aside, remove
from workloads.processes import SUFFIX
from workloads.records import MANIFEST, read_manifest
from workloads.runs import OnProgress, recover


def finished(run: Path, on_progress: OnProgress | None = None) -> str:
    """Finish a cell's run if its process was killed. Returns why that is impossible, or ""."""
    try:
        if (run / MANIFEST).exists() and read_manifest(run).under_way is not None:
            recover(run, on_progress=on_progress)
    except (RunError, RunFailed) as error:
        return str(error)
    return ""


def finish_and_set_aside(
    folder: Path, block: int, arm: str, on_progress: OnProgress | None = None
) -> str:
    """Have a cell without a state be run again. Returns a sentence about its earlier run, or "".

    Called with the cell's lock held. Raises FolderUnwritable, RunError for a folder that leads out.
    """
    name = cell_name(block, arm)
    place, stderr_name = inside(folder, name), f"{name}{SUFFIX}"
    if not place.exists():
        remove(folder, stderr_name)
        return ""
    why = finished(place, on_progress)
    if not place.exists():
        remove(folder, stderr_name)
        return f"{name} was cut short before anything was measured, so nothing of it is kept."
    earlier = folder / EARLIER
    before = set(earlier.iterdir()) if earlier.is_dir() else set()
    try:
        move_aside(folder, EARLIER, name, {stderr_name: SUFFIX, name: ""})
    except OSError as error:
        raise unwritable(folder, error) from error
    (kept,) = [path for path in set(earlier.iterdir()) - before if path.is_dir()]
    sentence = f"{name} was cut short and is run again; what it had is in {kept}."
    return f"{sentence} It could not be finished: {why}" if why else sentence
