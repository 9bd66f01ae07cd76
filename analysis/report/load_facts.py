"""Facts of load: who gets to write, who waits, who is refused, and whose CPU time it was.

A window says nothing of waits that are longer than itself. So fairness comes from long windows
only (`LONG`), and from an open loop, where those who wait are counted as due.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from analysis.counting import Arm, Measure, Measured, Tally, cache_clause
from analysis.statistics import FEWEST_BLOCKS, Estimate, Ratio
from analysis.wording import times
from workloads.experiments import Design
from workloads.records import UPGRADE

LONG = 5
"""Fairness needs windows of so many busy timeouts: within one, nobody is refused for waiting."""

CPU_BOUND = 0.9
"""Share of its cores' CPU time from which on an arm is bound by it."""

NEARLY_ALL = 0.95
"""A wait of so much of its window may have been cut by its end."""

System = tuple[str, str]


class Undecided(NamedTuple):
    """A question that these runs cannot decide, and why."""

    experiment: str
    question: str
    why: str


class Pair(NamedTuple):
    """Two arms of one experiment that differ only in how they write."""

    candidate: Arm
    baseline: Arm

    @property
    def measured(self) -> Measured:
        """The experiment of both."""
        return self.candidate.measured

    def ratio(self, measure: Measure | None = None) -> Ratio:
        """Candidate / baseline (default: of the writers' throughput)."""
        return self.measured.ratio(self.candidate, self.baseline, measure)

    @property
    def cpu(self) -> Ratio:
        """Candidate / baseline, of the writers' CPU time a commit."""
        return self.ratio(of_writers(lambda tally: tally.cpu_us))

    @property
    def cpu_bound(self) -> bool:
        """Both used nearly all the CPU time there was: the ratio of their throughputs is then that
        of the CPU time that a commit costs.
        """
        return all(cpu_used(arm).value >= CPU_BOUND for arm in self)


def of_writers(number: Callable[[Tally], float]) -> Measure:
    """A number of the writers' Tally, of one run; nan where the run has no writer."""
    return lambda counted: (
        float(number(counted.roles["writer"])) if "writer" in counted.roles else float("nan")
    )


def cpu_used(arm: Arm) -> Estimate:
    """Share of the CPU time of its cores that an arm's run used in its window."""
    return arm.estimate(lambda counted: counted.cpu_share)


@dataclass(frozen=True)
class FairnessRow:
    """How evenly an arm's writers were served, in windows long enough to say so.

    seconds : the shortest of its windows. fairness : Jain's index, an estimate over blocks;
    worst_share : of all commits, that the worst-served writer got. longest_ns : the longest that a
    transaction lasted, unfinished ones among them; cut : it filled its window, so it is at least
    that. open_at_end : transactions that were open when the window closed. wasted, in_begin :
    shares of the writers' time in attempts that did not commit, and in BEGIN.
    """

    arm: Arm
    seconds: float
    fairness: Estimate
    worst_share: Estimate
    longest_ns: int
    cut: bool
    open_at_end: int
    wasted: float
    in_begin: float


@dataclass(frozen=True)
class OfferedRow:
    """An arm of an open loop: what it was asked for, and what became of those who were due.

    rate : transactions a second asked for. share : of what the headline's BEGIN IMMEDIATE did, nan
    where that is not known. served : share of those due served by their window's end, over blocks.
    percentiles : as of `Arm.percentiles`, over all who were due. fairness : Jain's index of the
    writers' commits. refused : share of finished attempts. unserved : due and not served.
    longest_ns, cut : as of FairnessRow. met : in every block the rate was met.
    """

    arm: Arm
    rate: float
    share: float
    served: Estimate
    percentiles: np.ndarray
    fairness: Estimate
    refused: Estimate
    due: int
    unserved: int
    longest_ns: int
    cut: bool
    met: bool


@dataclass(frozen=True)
class PlainRow:
    """A BEGIN that reads first and then writes, against the same engine's BEGIN IMMEDIATE.

    refused : share of first tries refused as an upgrade, over blocks. waited_ns : how long each
    refused upgrade can have waited at most, of all tries; the busy timeout stands beside it.
    """

    pair: Pair
    refused: Estimate
    waited_ns: np.ndarray
    timeout_ns: float

    @property
    def median_ns(self) -> float:
        """A time in ns, nan where nothing was refused."""
        return float(np.median(self.waited_ns)) if self.waited_ns.size else float("nan")

    @property
    def longest_ns(self) -> float:
        """A time in ns, nan where nothing was refused."""
        return float(self.waited_ns.max()) if self.waited_ns.size else float("nan")


class Split(NamedTuple):
    """What the mode does on one library, and what the library does in one mode.

    both : the two together, which mixes them. mode.cpu_bound says whether the CPU decided.
    """

    mode: Pair
    library: Pair
    both: Pair


class CacheRow(NamedTuple):
    """The mode alone, by where the data are: "fits", "cold" (dropped from memory before the run)
    or "larger" than SQLite's own cache. warm : why a cold run was not, "" where it was.
    """

    place: str
    pair: Pair
    warm: str


def cannot_decide(
    experiments: Mapping[str, Measured], designs: Iterable[Design]
) -> tuple[Undecided, ...]:
    """The experiments of a whole report that are missing here, or have too few blocks for what is
    claimed of them.

    designs : those of a whole report. One with fewer blocks than a claim needs claims nothing.
    """
    found = []
    for design in designs:
        name, measured = design.name, experiments.get(design.name)
        blocks = (
            max((len(arm.usable) for arm in measured.arms.values()), default=0) if (measured) else 0
        )
        if not blocks:
            found.append(Undecided(name, design.question, "it was not run"))
        elif design.blocks >= FEWEST_BLOCKS > blocks:
            why = f"it has {times(blocks, 'block')}, and a claim needs {FEWEST_BLOCKS}"
            found.append(Undecided(name, design.question, why))
    return tuple(found)


def fairness_rows(experiments: Iterable[Measured]) -> tuple[FairnessRow, ...]:
    """Every arm of several writers in a closed loop whose windows are long enough; no A/A twin."""
    found = []
    for arm in _writing(experiments):
        if arm.name in arm.measured.repeated:
            continue
        tally, parts = arm.tally(), [cell.counted for cell in arm.usable if cell.counted]
        if tally is None or arm.writers < 2 or arm.plan["rate"]:
            continue
        seconds = min(counted.seconds for counted in parts)
        if seconds < LONG * arm.plan["busy_timeout_ms"] / 1e3:
            continue
        found.append(
            FairnessRow(
                arm=arm,
                seconds=seconds,
                fairness=arm.estimate(of_writers(lambda t: t.fairness)),
                worst_share=arm.estimate(of_writers(lambda t: t.worst_share)),
                longest_ns=tally.longest_ns,
                cut=tally.longest_ns >= NEARLY_ALL * seconds * 1e9,
                open_at_end=tally.unfinished,
                wasted=tally.wasted_ns / tally.worker_ns,
                in_begin=tally.begin_ns / tally.worker_ns,
            )
        )
    return tuple(found)


def offered_rows(
    experiments: Iterable[Measured], most_per_s: float | None
) -> tuple[OfferedRow, ...]:
    """Every arm of an open loop, the lowest rate first.

    most_per_s : what the rates are shares of.
    """
    found = []
    for arm in _writing(experiments):
        tally, rate = arm.tally(), float(arm.plan["rate"])
        if tally is None or not rate or (due := tally.due) is None:
            continue
        parts = [cell.counted.roles["writer"].due for cell in arm.usable if cell.counted]
        seconds = min(cell.counted.seconds for cell in arm.usable if cell.counted)
        found.append(
            OfferedRow(
                arm=arm,
                rate=rate,
                share=rate / most_per_s if most_per_s else float("nan"),
                served=arm.estimate(of_writers(_served)),
                percentiles=arm.percentiles(),
                fairness=arm.estimate(of_writers(lambda t: t.fairness)),
                refused=arm.estimate(of_writers(lambda t: t.abort_rate[1])),
                due=due.many,
                unserved=due.many - due.served,
                longest_ns=tally.longest_ns,
                cut=tally.longest_ns >= NEARLY_ALL * seconds * 1e9,
                met=all(part is not None and part.met for part in parts),
            )
        )
    return tuple(sorted(found, key=lambda row: row.rate))


def _served(tally: Tally) -> float:
    return tally.due.share if tally.due is not None else float("nan")


def plain_rows(experiments: Iterable[Measured]) -> tuple[PlainRow, ...]:
    """Every deferred arm that reads before it writes, beside its immediate one."""
    found = []
    for top in _writing(experiments):
        if top.begin != "deferred" or "read-modify-write" not in str(top.field("mix")):
            continue
        for bottom in top.measured.arms_of(top.engine, "immediate"):
            tally = top.tally()
            if tally is None or not top.alike(bottom) or not bottom.usable:
                continue
            waits = [w for (_, kind, _), w in tally.waits_ns.items() if kind == "upgrade"]
            found.append(
                PlainRow(
                    pair=Pair(top, bottom),
                    refused=top.estimate(of_writers(lambda t: t.first_refused(UPGRADE))),
                    waited_ns=np.concatenate(waits) if waits else np.zeros(0, np.int64),
                    timeout_ns=float(top.plan["busy_timeout_ms"]) * 1e6,
                )
            )
    return tuple(found)


def splits(experiments: Iterable[Measured], studied: System, control: System) -> tuple[Split, ...]:
    """Every arm of the studied system beside its library's other mode, and beside that mode of the
    control's library, with everything else alike.
    """
    found = []
    for measured in experiments:
        for top in measured.arms_of(*studied):
            for alone in measured.arms_of(studied[0]):
                if alone.begin == studied[1] or not _usable_alike(top, alone):
                    continue
                for other in measured.arms_of(control[0], alone.begin):
                    if _usable_alike(top, other):
                        found.append(Split(Pair(top, alone), Pair(alone, other), Pair(top, other)))
                        break
                else:
                    continue
                break
    return tuple(found)


def cache_rows(
    experiments: Iterable[Measured], studied: System, alone: System
) -> tuple[CacheRow, ...]:
    """The mode alone in experiments whose arms differ in where their data are."""
    found = []
    for measured in experiments:
        asked = {(arm.plan["cache"], arm.plan["cache_size"]) for arm in measured.arms.values()}
        if len(asked) < 2:
            continue
        for top in measured.arms_of(*studied):
            for bottom in measured.arms_of(*alone):
                if _usable_alike(top, bottom):
                    cells = [cell for arm in (top, bottom) for cell in arm.usable if cell.manifest]
                    clauses = [cache_clause(cell.manifest) for cell in cells if cell.manifest]
                    warm = next(filter(None, clauses), "")
                    found.append(CacheRow(_place(top), Pair(top, bottom), warm))
    return tuple(found)


def _place(arm: Arm) -> str:
    """Where an arm's data are, by its plan and the pages that were loaded."""
    if arm.plan["cache"] == "cold":
        return "cold"
    size = arm.plan["cache_size"]
    cached = size * arm.plan["page_bytes"] if size >= 0 else -size * 1024
    loaded = next((c.manifest.layout.loaded for c in arm.usable if c.manifest), None)
    trees = [tree for tree in (loaded or {}).values() if not isinstance(tree, str)]
    pages = sum(tree.leaves + tree.interior for tree in trees)
    return "larger" if pages * arm.plan["page_bytes"] > cached else "fits"


def _usable_alike(top: Arm, bottom: Arm) -> bool:
    return bool(top.writers and bottom.writers and top.usable and bottom.usable) and top.alike(
        bottom
    )


def _writing(experiments: Iterable[Measured]) -> Iterator[Arm]:
    """The arms with writers of an engine that writes; `acked` is shaped to break."""
    for measured in experiments:
        for arm in measured.arms.values():
            if arm.writers and arm.engine != "null" and arm.plan["scenario"] != "acked":
                yield arm
