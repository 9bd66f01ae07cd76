"""The places and settings of a block's cells, which must be the same for all of them.

All cells of a block must come from one machine, one checkout and one setting. A sweep that was
interrupted may go on elsewhere: on another machine or other CPUs, with a newer checkout, or with
more cells at a time. A half-done block is then set aside and run again whole.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from workloads.experiments.experiment import Experiment, set_aside
from workloads.records import Manifest, read_manifest
from workloads.runs import commit, identity, source


@dataclass(frozen=True)
class Place:
    """A machine's id, and the CPUs that a machine of a cluster gives to a cell (() elsewhere).

    Older runs have no id: theirs is "".
    """

    id: str
    cpus: tuple[int, ...] = ()

    def shares(self, other: Place) -> tuple[int, ...]:
        """CPUs that both would use."""
        return tuple(sorted(set(self.cpus) & set(other.cpus))) if self.id == other.id else ()


def home_of(experiment: Experiment, block: int) -> set[Place]:
    """Where the block's finished cells were made; empty where none was measured. RunError."""
    places = set()
    for arm in experiment.order[block]:
        cell = experiment.cells.get((block, arm))
        if cell is not None and cell.folder is not None:
            manifest = read_manifest(cell.folder)
            cpus = manifest.conduct.cpus if manifest.conduct.started_by == "dask" else ()
            places.add(Place(manifest.machine.id, cpus))
    return places


def start_over(experiment: Experiment, block: int) -> None:
    """Have a block run again whole: its cells are set aside."""
    cells = [cell for cell in experiment.cells.values() if cell.block == block]
    for cell in cells:
        set_aside(experiment.folder, cell)
        del experiment.cells[block, cell.arm]


def only_ours(
    experiment: Experiment, *, jobs: int = 0, cpus: int = 0, started_by: str = ""
) -> list[int]:
    """Half-done blocks that cannot go on here are set aside, to be run again whole on this machine.

    Those are the blocks that another machine, other code or other settings began.
    jobs : cells at a time. cpus : CPUs of each. started_by : "sweep", "report", …, as in a
    manifest's `conduct.way`. A setting that is not given is not compared, nor one that an older
    manifest lacks.
    Returns the numbers of those blocks.
    """
    if jobs == 1 and not cpus:
        cpus = len(os.sched_getaffinity(0))  # a cell alone may use all of them
    here = {Place(identity()), Place("")}
    begun = sorted({block for block, _ in experiment.left()})
    others = {block for block in begun if not home_of(experiment, block) <= here}
    others |= _otherwise(
        experiment, {"jobs": jobs, "cpus": cpus, "started_by": started_by} | _code()
    )
    for block in others:
        start_over(experiment, block)
    return sorted(others)


def only_by_this_code(experiment: Experiment) -> list[int]:
    """Half-done blocks that other code began are set aside, whatever machine began them.

    Returns the numbers of those blocks.
    """
    others = sorted(_otherwise(experiment, _code()))
    for block in others:
        start_over(experiment, block)
    return others


def _code() -> dict[str, Any]:
    return {"commit": commit(), "source": source()}


def _otherwise(experiment: Experiment, wanted: Mapping[str, Any]) -> set[int]:
    """Half-done blocks with a cell whose manifest contradicts something wanted."""
    left = {block for block, _ in experiment.left()}
    found = set()
    for (block, _), cell in experiment.cells.items():
        if block in left and cell.folder is not None:
            made = _conditions(read_manifest(cell.folder))
            if any(made[name] and value and made[name] != value for name, value in wanted.items()):
                found.add(block)
    return found


def _conditions(manifest: Manifest) -> dict[str, Any]:
    """The conditions of a cell; a key that the manifest lacks is None, 0 or ""."""
    conduct = manifest.conduct
    return {
        "commit": manifest.machine.cwkit_commit,
        "source": manifest.machine.cwkit_source,
        "jobs": conduct.jobs,
        "cpus": len(conduct.cpus),
        "started_by": conduct.started_by,
    }
