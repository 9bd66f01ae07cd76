"""One arm in one block, counted, and whether its numbers may be used."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from analysis import wording
from analysis.counting.foreign import FOREIGN_LIMIT, contamination
from analysis.counting.tally import Count
from workloads.records import FindingEntry, Machine, Manifest


@dataclass(frozen=True)
class CountedCell:
    """One arm in one block, counted. counted and manifest are None where there is no run.

    state   : "done", "failed", "refused" or "missing", as in the experiment's folder.
    failure : why it has no run, or what went wrong in it; "" where all is well.
    """

    block: int
    arm: str
    state: str
    failure: str
    counted: Count | None = None
    manifest: Manifest | None = field(default=None, repr=False)
    folder: Path | None = None
    foreign_limit: float = FOREIGN_LIMIT

    @property
    def run(self) -> str:
        """The run's name, "" without a run."""
        return self.manifest.run if self.manifest else ""

    @property
    def contaminated(self) -> str:
        """Why the cell's numbers are doubtful and in no claim, "" where they are not."""
        return contamination(self.manifest, self.foreign_limit) if self.manifest else ""

    @property
    def crowded(self) -> str:
        """Why the cell may be compared with no other, "" if it may."""
        if self.manifest and self.manifest.conduct.oversubscribed:
            return "made beside more work than the machine has CPUs for (oversubscribed)"
        return ""

    @property
    def place(self) -> tuple[str, int]:
        """The machine's id and how many of its CPUs the run could use; ("", 0) of older runs."""
        machine = self.manifest.machine if self.manifest else Machine()
        return (machine.id, machine.cores or 0) if machine.id else ("", 0)

    @property
    def steady(self) -> str:
        """Whether it was, or why its window is the plan's (analysis.counting.steady); ""
        without a run.
        """
        return self.counted.steady.state if self.counted and self.counted.steady else ""

    @property
    def unmet(self) -> str:
        """That the rate of an open loop was not met, "" where it was or where there was none."""
        for role, tally in (self.counted.roles if self.counted else {}).items():
            if (due := tally.due) is not None and not due.met:
                many = wording.times(due.many, "transaction")
                return (
                    f"of {many} of {role}s that were due {wording.whole(due.served)} "
                    f"({wording.percent(due.share)}) were served in the window"
                )
        return ""

    @property
    def broken(self) -> list[FindingEntry]:
        """Checks of this run that did not hold."""
        return self.manifest.broken if self.manifest else []

    @property
    def usable(self) -> bool:
        """For a rate: it ran to its end, its checks held, and nobody else used the machine."""
        return self.counted is not None and self.state == "done" and not self.contaminated


Measure = Callable[[Count], float]


def throughput(role: str = "writer") -> Measure:
    """Committed transactions a second of a role; 0 where the role committed nothing."""
    return lambda counted: counted.roles[role].per_s if role in counted.roles else math.nan
