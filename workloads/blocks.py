"""Where a block's cells were made: what is compared must have been made at one place.

A sweep that was interrupted may go on elsewhere: on another machine, or on other CPUs of one. A
block begun at one place is finished there, or set aside and run again whole.
"""

from __future__ import annotations

from dataclasses import dataclass

from workloads import machine
from workloads import recording as rec
from workloads.design import Experiment, set_aside


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
            said = rec.read_manifest(cell.folder)
            conduct = said.get("conduct", {})
            cpus = tuple(conduct.get("cpus", ())) if conduct.get("way") == "dask" else ()
            places.add(Place(str(said.get("machine", {}).get("id", "")), cpus))
    return places


def start_over(experiment: Experiment, block: int) -> None:
    """Have a block run again whole: what it has is set aside."""
    cells = [cell for cell in experiment.cells.values() if cell.block == block]
    for cell in cells:
        set_aside(experiment.folder, cell)
        del experiment.cells[block, cell.arm]


def only_ours(experiment: Experiment) -> list[int]:
    """Have this machine run those half-done blocks again, whole, that were begun elsewhere.

    Returns which those are.
    """
    here = {Place(machine.identity()), Place("")}
    begun = sorted({block for block, _ in experiment.left()})
    others = [block for block in begun if not home_of(experiment, block) <= here]
    for block in others:
        start_over(experiment, block)
    return others
