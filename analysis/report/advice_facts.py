"""The facts of an advice, computed once from its experiment; `analysis.report.advice` words them.

Comparisons are judged together by the rule of `cwkit compare`: each way against the application's
own engine in BEGIN IMMEDIATE, and each mode against BEGIN IMMEDIATE of its own library. A way whose
checks broke is in none: however fast, it is no advice.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np

from analysis.compare import MEASURES as COMPARED
from analysis.compare import Comparison, Side, compare, judged
from analysis.counting import Arm, Measured, NotComparable, gather
from analysis.models import refusal_account
from analysis.report.advice_asked import AdviseNote, must_be_advice
from analysis.report.told import claimed
from analysis.wording import begin_label
from workloads.errors import RunError
from workloads.experiments import DONE, FAILED, Experiment
from workloads.records import COMMITTED, CONFLICT, Run, read_run
from workloads.records import FAILED as ATTEMPT_FAILED

TAILS = ("p99", "p90", "p50")
SHARED = "immediate"
"""The mode that stands for a library without its other modes."""


class Of(NamedTuple):
    """Attempts of one script: those whose outcome is known, and of these the refused ones."""

    finished: int = 0
    refused: int = 0

    @property
    def share(self) -> float:
        return self.refused / self.finished if self.finished else float("nan")


def total(parts: Iterable[Of]) -> Of:
    """All of them together."""
    each = list(parts)
    return Of(sum(one.finished for one in each), sum(one.refused for one in each))


@dataclass
class Looked:
    """What all runs of an arm say of its attempts, warm-up and doubtful runs included: counts, no
    speed.

    scripts : (role, script) -> its attempts. met : table or index -> refused commits that met one
    of its pages, by the engine's own account; logged : how many such commits there were.
    """

    scripts: dict[tuple[str, str], Of] = field(default_factory=dict)
    met: Counter[str] = field(default_factory=Counter)
    logged: int = 0

    def take(self, run: Run) -> None:
        names = run.manifest.scenario.kinds
        for worker in run.workers:
            for rows in worker.rows.pieces():
                for kind, name in enumerate(names):
                    outcome = rows["outcome"][rows["kind"] == kind]
                    lost = int((outcome == CONFLICT).sum())
                    done = lost + int(np.isin(outcome, (COMMITTED, ATTEMPT_FAILED)).sum())
                    if done:
                        key = (worker.role, name)
                        self.scripts[key] = total([self.scripts.get(key, Of()), Of(done, lost)])
        account = refusal_account(run)
        if account is not None:
            self.logged += account.logged
            for (thing, _), many in account.things().items():
                self.met[thing] += many


class BrokenCheck(NamedTuple):
    """A check that did not hold: in which arm, in how many of its runs, with the first evidence."""

    arm: str
    check: str
    runs: int
    of: int
    sentence: str
    folder: str


class Group(NamedTuple):
    """The arms of one load: as many writers at one rate, 0 for a closed loop."""

    writers: int
    rate: float
    arms: Mapping[str, Arm]

    @property
    def base(self) -> Arm:
        """The application's own engine in BEGIN IMMEDIATE, which it begins with."""
        return next(iter(self.arms.values()))

    def of(self, engine: str, mode: str) -> Arm | None:
        return self.arms.get(f"{engine} {mode}")


def mode_text(mode: str) -> str:
    """A mode where others stand beside it: BEGIN alone would be taken for all of them."""
    return "plain BEGIN" if mode == "deferred" else begin_label(mode)


def way(arm: Arm) -> str:
    """How an arm writes."""
    return f"{arm.engine} {mode_text(arm.begin)}"


@dataclass(frozen=True)
class AdviceFacts:
    """An advice's experiment, counted, and its note."""

    measured: Measured
    note: AdviseNote

    @cached_property
    def groups(self) -> list[Group]:
        found: dict[tuple[int, float], dict[str, Arm]] = {}
        again = self.measured.repeated
        for arm in self.measured.arms.values():
            if arm.name not in again:
                point = arm.point
                key = (int(point["writers"]), float(point["rate"]))
                found.setdefault(key, {})[str(point["system"])] = arm
        return [Group(writers, rate, arms) for (writers, rate), arms in found.items()]

    @property
    def closed(self) -> list[Group]:
        return [group for group in self.groups if not group.rate]

    @property
    def main(self) -> Group:
        """The load that a script's row is about: the most writers, without pause."""
        return max(self.closed, key=lambda group: group.writers)

    @cached_property
    def looked(self) -> Mapping[str, Looked]:
        """Arm -> what its runs say of their attempts."""
        found = {}
        for arm in self.measured.arms.values():
            found[arm.name] = Looked()
            for cell in arm.cells:
                if cell.folder is not None and cell.state in (DONE, FAILED):
                    try:
                        found[arm.name].take(read_run(cell.folder))
                    except RunError:
                        continue  # `failures` tells it
        return found

    @cached_property
    def broken(self) -> list[BrokenCheck]:
        found: dict[tuple[str, str], list[tuple[str, str]]] = {}
        for arm in self.measured.arms.values():
            for cell in arm.cells:
                for one in cell.broken:
                    evidence = (one.sentence, str(cell.folder))
                    found.setdefault((arm.name, one.check), []).append(evidence)
        return [
            BrokenCheck(arm, check, len(each), len(self.measured.arms[arm].cells), *each[0])
            for (arm, check), each in found.items()
        ]

    def breaks(self, arm: Arm) -> bool:
        return any(one.arm == arm.name for one in self.broken)

    def sound(self, arm: Arm | None) -> bool:
        """Whether an arm may be advised: it ran, and no check of its broke."""
        return arm is not None and not self.breaks(arm) and any(
            cell.state == DONE for cell in arm.cells
        )  # fmt: skip

    # --- comparisons ---

    def tail(self, group: Group) -> str:
        """The greatest percentile that each run of the first way has transactions enough for: a p99
        needs a thousand, which a low rate does not give in seconds.
        """
        cells = [cell.counted for cell in group.base.shown.usable if cell.counted]
        for name in TAILS:
            values = [COMPARED[name](each.roles["writer"]) for each in cells
                      if "writer" in each.roles]  # fmt: skip
            if values and not any(map(math.isnan, values)):
                return name
        return TAILS[-1]

    def rivals(self, group: Group) -> list[tuple[Arm, Arm]]:
        """(candidate, baseline) of every pair of a group that is told."""
        pairs: dict[tuple[str, str], tuple[Arm, Arm]] = {}
        for arm in group.arms.values():
            alone = group.of(arm.engine, SHARED)
            for other in (group.base, alone):
                if other is not None and other is not arm:
                    pairs[arm.name, other.name] = (arm, other)
        return [pair for pair in pairs.values() if not any(self.breaks(arm) for arm in pair)]

    @cached_property
    def compared(self) -> Mapping[tuple[str, str, str], Comparison]:
        """(candidate, baseline, measure) -> the comparison, all judged as one family."""
        keys, found = [], []
        for group in self.groups:
            for candidate, baseline in self.rivals(group):
                for measure in ("throughput", self.tail(group)):
                    try:
                        one = compare(_side(baseline), _side(candidate), measure, "writer")
                    except NotComparable:
                        continue
                    keys.append((candidate.name, baseline.name, measure))
                    found.append(one)
        return dict(zip(keys, judged(found), strict=True))

    def told(self, candidate: Arm, baseline: Arm, measure: str = "throughput") -> Comparison | None:
        return self.compared.get((candidate.name, baseline.name, measure))

    def verdict(self, candidate: Arm, baseline: Arm, measure: str = "throughput") -> str:
        """What may be claimed: "more", "less", "none" or "unknown"."""
        found = self.told(candidate, baseline, measure)
        return "unknown" if found is None else claimed(found)


def count_advice(experiment: Experiment, note: AdviseNote) -> AdviceFacts:
    """Count an advice's experiment. Raises RunError for one that was edited."""
    must_be_advice(experiment)
    return AdviceFacts(gather(experiment, note.foreign_limit), note)


def _side(arm: Arm) -> Side:
    cells = {cell.block: cell for cell in arm.cells}
    return Side(way(arm), cells, arm)
