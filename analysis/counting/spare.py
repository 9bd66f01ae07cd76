"""The rule by which a cell is run again at once: something came between, whatever its result was.

Others used the machine's CPU time, or nobody committed for a noticeable part of the window. The
rule is the same for every arm, and a run that was merely slow stays: that is a result. An engine
that stands still by itself does so again, and then that stays. Each run that was made again is
kept, counted and told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from analysis import wording
from analysis.counting.foreign import FOREIGN_LIMIT, contamination
from analysis.counting.measured import Measured
from analysis.counting.slumps import standstill_clause
from analysis.counting.tally import Count, count
from workloads.errors import RunError
from workloads.experiments import Cell, spared

STILL_S = 0.2
"""So long nobody has to have committed, s. An engine's busy handler may sleep for half of that
(SQLite's at most 0.1 s): such a pause is its own, and stays."""

RACING = "acked"
"""The scenario that is made to break, and not to be fast: no rate of it is used."""


@dataclass
class SpareRule:
    """Why a finished cell is run again at once, "" where it is not.

    foreign_limit : share of the machine's CPU time that others may use. left_s : how much more
    time may be spent on runs that are made again. When it is gone, for any arm, no more are.
    """

    foreign_limit: float = FOREIGN_LIMIT
    left_s: float = float("inf")

    def __call__(self, cell: Cell) -> str:
        try:
            run = cell.read()
        except RunError:
            return ""
        if run.manifest.plan.scenario == RACING or cell.took_s > self.left_s:
            return ""
        why = contamination(run.manifest, self.foreign_limit) or _stood_still(count(run))
        if why:
            self.left_s -= cell.took_s
        return why


def _stood_still(counted: Count) -> str:
    found = counted.standstill
    return standstill_clause(counted) if found is not None and found.lasted_s > STILL_S else ""


def spares_clause(every: Iterable[Measured], total: int) -> str:
    """How many of a report's runs were made again and in which experiments, "" for none.

    total : of its runs.
    """
    found = [(one.name, cell) for one in every for cell in spared(one.experiment.folder)]
    if not found:
        return ""
    each = Counter(name for name, _ in found)
    names = wording.listed([f"{name} {many}" for name, many in each.items()])
    name, first = found[0]
    return (
        f"{len(found)} of {wording.times(total, 'run')} {'was' if len(found) == 1 else 'were'} "
        f"made again at once, because something came between ({names}; the first {name}/"
        f"b{first.block:02d}, {first.arm}: {first.again}); the earlier ones are kept, and in no "
        "number."
    )


def spare_clause(measured: Measured) -> str:
    """How many runs of an experiment were made again and of which arms, "" for none."""
    found = spared(measured.experiment.folder)
    if not found:
        return ""
    each = Counter(cell.arm for cell in found)
    arms = wording.listed([f"{arm} {many}" for arm, many in sorted(each.items())])
    first = found[0]
    return (
        f"{wording.times(len(found), 'run')} {'was' if len(found) == 1 else 'were'} made again at "
        f"once ({arms}; the first b{first.block:02d}, {first.arm}: {first.again}); the earlier "
        "ones are kept, and in no number."
    )
