"""Spare cells: a run that something came between is made again at once, in its block.

Two lost cells of an arm can turn a loss in four of four blocks into "nothing was found". What came
between is judged from above, by a rule that is the same for every arm and asks nothing of how good
a result is. The earlier run is kept in the experiment's folder `earlier`, with the reason, and
counted. A cell that did not end well is a result, and never run again here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from workloads.errors import RunError
from workloads.experiments.experiment import (
    DONE,
    EARLIER,
    STATE_OF_A_CELL,
    Cell,
    Experiment,
    read_earlier,
    set_aside,
    write_cell,
)

Odd = Callable[[Cell], str]
"""What came between a finished cell, as a sentence without its full stop; "" for nothing."""


@dataclass
class Spares:
    """The rule, and how often a cell is run again at most."""

    odd: Odd = lambda cell: ""
    most: int = 0

    def again(self, experiment: Experiment, cell: Cell) -> str:
        """Have a cell run again that something came between: it is set aside, and no cell of the
        experiment any more. Returns a sentence about it, "" where the cell stays.

        Raises FolderUnwritable, RunError where a file would lead out of the folder.
        """
        if not self.most or cell.state != DONE:
            return ""
        if not (why := cell.again or self._why(experiment, cell)):
            return ""
        # The reason first: if we are killed between the two, the next command goes on from here.
        write_cell(experiment.folder, replace(cell, again=why))
        set_aside(experiment.folder, cell)
        del experiment.cells[cell.block, cell.arm]
        return f"b{cell.block:02d}, {cell.arm}: run again at once: {why}"

    def _why(self, experiment: Experiment, cell: Cell) -> str:
        why = self.odd(cell)
        if not why:
            return ""
        mine = [e for e in spared(experiment.folder) if (e.block, e.arm) == (cell.block, cell.arm)]
        return why if len(mine) < self.most else ""


def spared(folder: Path) -> list[Cell]:
    """The cells that were run again because something came between, each with the reason, by block
    and arm. One that cannot be read is left out: it is in no number.
    """
    found = []
    for path in sorted((Path(folder) / EARLIER).glob(f"*{STATE_OF_A_CELL}")):
        with contextlib.suppress(RunError):
            cell = read_earlier(path)
            if cell is not None and cell.again:
                found.append(cell)
    return sorted(found, key=lambda cell: (cell.block, cell.arm))
