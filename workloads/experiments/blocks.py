"""Where and how a block's cells were made: what is compared must have been made alike.

A sweep that was interrupted may go on elsewhere, on another machine or on other CPUs of one, or
otherwise: by a newer checkout, more cells at a time. A block begun at one place and in one way is
finished so, or set aside and run again whole: its cells would be in no ratio with the others.
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

    "" is the id in runs of before, which do not say it.
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
            said = read_manifest(cell.folder)
            cpus = said.conduct.cpus if said.conduct.way == "dask" else ()
            places.add(Place(said.machine.id, cpus))
    return places


def start_over(experiment: Experiment, block: int) -> None:
    """Have a block run again whole: what it has is set aside."""
    cells = [cell for cell in experiment.cells.values() if cell.block == block]
    for cell in cells:
        set_aside(experiment.folder, cell)
        del experiment.cells[block, cell.arm]


def only_ours(experiment: Experiment, *, jobs: int = 0, cpus: int = 0, way: str = "") -> list[int]:
    """Have this machine run those half-done blocks again, whole, that were begun elsewhere, by
    other code, or otherwise than they would go on.

    jobs : cells at a time. cpus : CPUs of each. way : as in a manifest's `conduct`. What is not
    given is not looked at; nor is what an older manifest does not say.
    Returns which those are.
    """
    if jobs == 1 and not cpus:
        cpus = len(os.sched_getaffinity(0))  # a cell alone may use all of them
    here = {Place(identity()), Place("")}
    begun = sorted({block for block, _ in experiment.left()})
    others = {block for block in begun if not home_of(experiment, block) <= here}
    others |= _otherwise(experiment, {"jobs": jobs, "cpus": cpus, "way": way} | _code())
    for block in others:
        start_over(experiment, block)
    return sorted(others)


def only_by_this_code(experiment: Experiment) -> list[int]:
    """Have those half-done blocks run again, whole, that other code began, on whatever machine.

    Returns which those are.
    """
    others = sorted(_otherwise(experiment, _code()))
    for block in others:
        start_over(experiment, block)
    return others


def _code() -> dict[str, Any]:
    return {"commit": commit(), "source": source()}


def _otherwise(experiment: Experiment, wanted: Mapping[str, Any]) -> set[int]:
    """Half-done blocks with a cell of which something wanted is known to be otherwise."""
    left = {block for block, _ in experiment.left()}
    found = set()
    for (block, _), cell in experiment.cells.items():
        if block in left and cell.folder is not None:
            said = _conditions(read_manifest(cell.folder))
            if any(said[name] and value and said[name] != value for name, value in wanted.items()):
                found.add(block)
    return found


def _conditions(manifest: Manifest) -> dict[str, Any]:
    """How a cell was made; what the manifest does not say is None, 0 or ""."""
    conduct = manifest.conduct
    return {
        "commit": manifest.machine.cwkit_commit,
        "source": manifest.machine.cwkit_source,
        "jobs": conduct.jobs,
        "cpus": len(conduct.cpus),
        "way": conduct.way,
    }
