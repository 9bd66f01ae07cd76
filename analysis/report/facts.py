"""The facts of a report, computed once from its experiments and sweeps.

Findings, tables, charts and claims only word these facts; none of them searches or computes again.
Runs are looked up by what they were asked to do (engine, BEGIN mode, writers, work), never by
an arm's name, so that a renamed arm or a grid of another size still finds its place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from analysis.compare import Comparison
from analysis.counting import Arm, Measured, Tally, theta
from analysis.models import Scaling, scalings
from analysis.report.acked import Acked, acked_of, is_acked
from analysis.report.load_facts import (
    CacheRow,
    FairnessRow,
    OfferedRow,
    PlainRow,
    Split,
    Undecided,
    cache_rows,
    cannot_decide,
    fairness_rows,
    offered_rows,
    plain_rows,
    splits,
)
from analysis.report.load_facts import Pair as Pair
from analysis.report.sweep_verdicts import Judged, judged
from analysis.report.told import (
    LONG_WINDOWS,
    Experiments,
    Telling,
    claimed,
    smallest_clause,
    telling,
    too_few,
)
from analysis.statistics import Estimate, Ratio
from workloads.experiments import Design

System = tuple[str, str]
"""(engine, BEGIN mode) of the writers."""

STUDIED: System = ("sqlite-concurrent", "concurrent")
"""The system that the report is about."""

CONTROL: System = ("libsql", "immediate")
"""The system that it is compared with: what a libSQL user does today."""

MODE_ALONE: System = ("sqlite-concurrent", "immediate")
"""The studied library and binding without BEGIN CONCURRENT: only the mode differs."""


@dataclass(frozen=True)
class HeadlineArm:
    """One arm of the headline. percentiles : as `Arm.percentiles` gives the writers'."""

    arm: Arm
    tally: Tally
    throughput: Estimate
    percentiles: np.ndarray


@dataclass(frozen=True)
class Headline:
    """The comparison that the report is about.

    unlike : why the two must not be compared, "" if they may. cpu : ratio of the CPU time that a
    commit took. control : ratio of the same arm run twice, None where there is no A/A control.
    floor : the generator alone at the candidate's work, None where it was not measured.
    """

    pair: Pair
    candidate: HeadlineArm
    baseline: HeadlineArm
    incomparable: str
    ratio: Ratio
    cpu: Ratio
    control: Ratio | None
    floor: Arm | None


class WorkRow(NamedTuple):
    """Two systems at one amount of work inside the transaction, µs."""

    work_us: float
    pair: Pair
    ratio: Ratio


class PageRow(NamedTuple):
    """The mode alone where all writers meet on one page."""

    pair: Pair
    ratio: Ratio
    tally: Tally


class SkewRow(NamedTuple):
    """An arm whose keys' skew is studied. theta : 0 for uniform keys."""

    arm: Arm
    theta: float
    tally: Tally


class GrowthRow(NamedTuple):
    """A system at the fewest and at the most writers. ratio : many / few."""

    system: System
    few: Arm
    many: Arm
    ratio: Ratio


class Fit(NamedTuple):
    """A scaling law fitted to a family of arms of an experiment or a sweep."""

    measured: Measured
    scaling: Scaling


@dataclass(frozen=True)
class ReportFacts:
    """Everything that a report says of its experiments and sweeps, computed once.

    work : (candidate, baseline) -> rows by work inside. one_page : experiments in which all writers
    meet on one page. skew : by experiment, theta and arm. growth : from the first experiment with
    several numbers of writers. fits : scaling laws, without the generator's. sweeps : name -> its
    arms against their rivals, judged as one family; () for a sweep of `acked`. fairness : arms in
    windows long enough. cache : the mode alone by where the data are. offered : arms of open loops.
    plain : BEGIN that reads first. splits : the mode and the library apart, in the order of the
    experiments. acked : the search for lost commits, of experiments and sweeps. telling : what may
    be told as a difference. cannot_decide : questions of a whole report that these runs leave open.
    """

    headline: Headline | None = None
    work: Mapping[tuple[System, System], tuple[WorkRow, ...]] = field(default_factory=dict)
    one_page: tuple[PageRow, ...] = ()
    skew: tuple[SkewRow, ...] = ()
    growth: tuple[GrowthRow, ...] = ()
    fits: tuple[Fit, ...] = ()
    sweeps: Mapping[str, tuple[Judged, ...]] = field(default_factory=dict)
    fairness: tuple[FairnessRow, ...] = ()
    offered: tuple[OfferedRow, ...] = ()
    plain: tuple[PlainRow, ...] = ()
    splits: tuple[Split, ...] = ()
    acked: Acked = field(default_factory=Acked)
    cache: tuple[CacheRow, ...] = ()
    cannot_decide: tuple[Undecided, ...] = ()
    telling: Telling = field(default_factory=Telling)

    def told(self, pair: Pair, measure: str = "throughput") -> Comparison:
        """A pair's comparison by a measure of analysis.compare, judged among all that is told.

        `claimed` says what may be made of it. Raises KeyError for what the family leaves out.
        """
        return self.telling.told(pair, measure)

    def verdict(self, pair: Pair, measure: str = "throughput") -> str:
        """What may be told of a pair: "more", "less", "none" or "unknown" (`claimed`).

        A pair that may not be compared is in no family: nothing is told of it.
        """
        try:
            return claimed(self.told(pair, measure))
        except KeyError:
            return "unknown"

    def smallest(self, measured: Measured, measure: str = "throughput") -> str:
        """The smallest effects that an experiment's comparisons could have shown, as a clause; ""
        where it has none.
        """
        found = [
            one.smallest
            for (pair, of), one in self.telling.found.items()
            if of == measure and pair[0] == id(measured)
        ]
        return smallest_clause(found) if found else ""

    def work_rows(
        self, candidate: System = STUDIED, baseline: System = CONTROL
    ) -> tuple[WorkRow, ...]:
        """The rows of two systems, () where they did not meet."""
        return self.work.get((candidate, baseline), ())


def facts_of(
    experiments: Experiments,
    sweeps: Experiments,
    offered_per_s: float | None = None,
    whole: Sequence[Design] = (),
) -> ReportFacts:
    """Compute everything that a report says of these experiments and sweeps, by name.

    offered_per_s : what the rates of the open loop are shares of, None where that was not kept.
    whole : the experiments of a whole report, () where these are none of a report's.
    """
    pair = headline_pair(experiments)
    # A sweep with blocks enough for a claim on fairness is told like an experiment.
    told = {**experiments, **{n: one for n, one in sweeps.items() if n == LONG_WINDOWS}}
    return ReportFacts(
        headline=_headline(experiments, pair) if pair else None,
        work=_work(experiments, pair.candidate) if pair else {},
        one_page=tuple(_one_page(experiments)),
        skew=_skew(experiments),
        growth=_growth(experiments),
        fits=tuple(_fits(experiments, sweeps)),
        sweeps={
            name: () if is_acked(measured) else tuple(judged(measured))
            for name, measured in sweeps.items()
        },
        fairness=fairness_rows(told.values()),
        offered=offered_rows(experiments.values(), offered_per_s),
        plain=plain_rows(experiments.values()),
        splits=splits(experiments.values(), STUDIED, CONTROL),
        cannot_decide=cannot_decide(experiments, whole),
        cache=cache_rows(experiments.values(), STUDIED, MODE_ALONE),
        telling=telling(told),
        acked=acked_of([*experiments.values(), *sweeps.values()]),
    )


# --- looked for -------------------------------------------------------------------------------


def find_pair(
    experiments: Experiments, candidate: System = STUDIED, baseline: System = CONTROL, **want: Any
) -> Pair | None:
    """The first experiment where two systems meet with everything else alike.

    want : fields of the plan or of its params that both must have (writers=4, think_us=200).
    """
    for measured in experiments.values():
        if measured.name == "acked":
            continue  # shaped to break, not to be fast
        for top in measured.arms_of(*candidate, **want):
            for bottom in measured.arms_of(*baseline, **want):
                if top.alike(bottom) and top.usable and bottom.usable:
                    return Pair(top, bottom)
    return None


def find_floor(experiments: Experiments, arm: Arm) -> Arm | None:
    """The `null` arm that does what an arm does: the generator alone.

    The arm's own experiment is searched first.
    """
    if arm.engine == "null":
        return None
    for measured in dict.fromkeys([arm.measured, *experiments.values()]):
        for null in measured.arms_of("null"):
            same = all(
                null.plan[key] == arm.plan[key]
                for key in ("writers", "readers", "scenario", "params")
            )
            if same and null.usable:
                return null
    return None


def headline_pair(experiments: Experiments) -> Pair | None:
    """The comparison that the report is about: the first one, which has the most blocks."""
    return find_pair(experiments, writers=4) or find_pair(experiments)


# --- computed ---------------------------------------------------------------------------------


def _headline(experiments: Experiments, pair: Pair) -> Headline:
    measured = pair.measured
    control = None
    if measured.twins:
        first, again = measured.twins[0]
        control = measured.ratio(again, first)
    return Headline(
        pair=pair,
        candidate=_headline_arm(pair.candidate),
        baseline=_headline_arm(pair.baseline),
        incomparable=measured.not_compared(*pair),
        ratio=pair.ratio(),
        cpu=pair.ratio(lambda counted: counted.roles["writer"].cpu_us),
        control=control,
        floor=find_floor(experiments, pair.candidate),
    )


def _headline_arm(arm: Arm) -> HeadlineArm:
    tally = arm.tally()
    assert tally is not None  # `find_pair` takes usable arms with writers only
    return HeadlineArm(
        arm=arm,
        tally=tally,
        throughput=arm.estimate(),
        percentiles=arm.percentiles(),
    )


def _work(
    experiments: Experiments, headline: Arm
) -> dict[tuple[System, System], tuple[WorkRow, ...]]:
    """Every system against today's, and the studied one against the mode alone."""
    systems = dict.fromkeys(
        arm.system
        for measured in experiments.values()
        for arm in measured.arms.values()
        if arm.engine != "null" and arm.writers and arm.system != CONTROL
    )
    pairs = [(STUDIED, MODE_ALONE), *((system, CONTROL) for system in systems)]
    return {two: rows for two in pairs if (rows := _work_rows(experiments, headline, *two))}


def _work_rows(
    experiments: Experiments, headline: Arm, candidate: System, baseline: System
) -> tuple[WorkRow, ...]:
    """A row wherever two systems meet and only the work inside differs from the headline's.

    Each amount of work has one row, that of the most blocks.
    """
    best: dict[float, WorkRow] = {}
    like = _work_shape(headline)
    for measured in experiments.values():
        for top in measured.arms_of(*candidate):
            for bottom in measured.arms_of(*baseline):
                if not top.alike(bottom) or _work_shape(top) != like:
                    continue
                ratio = measured.ratio(top, bottom)
                work_us = float(top.field("think_us") or 0)
                if ratio.blocks and (
                    work_us not in best or ratio.blocks > best[work_us].ratio.blocks
                ):
                    best[work_us] = WorkRow(work_us, Pair(top, bottom), ratio)
    return tuple(best[work_us] for work_us in sorted(best))


def _work_shape(arm: Arm) -> tuple[Any, ...]:
    """An arm's plan without its system and the work inside its transactions."""
    plan = arm.plan
    params = {k: v for k, v in plan["params"].items() if k != "think_us"}
    asked = ("writers", "readers", "scenario", "rate", "cache_size", "cache", "page_bytes")
    return *(plan.get(key) for key in asked), sorted((k, str(v)) for k, v in params.items())


def _one_page(experiments: Experiments) -> Iterator[PageRow]:
    for measured in experiments.values():
        for candidate in measured.arms_of(*STUDIED):
            for baseline in measured.arms_of(*MODE_ALONE):
                if not candidate.alike(baseline) or candidate.plan["scenario"] != "counter":
                    continue
                pair, tally = Pair(candidate, baseline), candidate.tally()
                if tally is not None:
                    yield PageRow(pair, pair.ratio(), tally)


def _skew(experiments: Experiments) -> tuple[SkewRow, ...]:
    rows = []
    for measured in experiments.values():
        arms = [
            (arm, theta(str(arm.field("keys"))))
            for arm in measured.arms.values()
            if arm.engine != "null"
        ]
        if len({skew for _, skew in arms if skew is not None}) < 2:
            continue
        for arm, skew in arms:
            tally = arm.tally()
            if skew is not None and tally is not None:
                rows.append(SkewRow(arm, skew, tally))
    return tuple(sorted(rows, key=lambda row: (row.arm.measured.name, row.theta, row.arm.name)))


def _growth(experiments: Experiments) -> tuple[GrowthRow, ...]:
    for measured in experiments.values():
        rows = []
        for system in (CONTROL, STUDIED):
            arms = sorted(measured.arms_of(*system), key=lambda arm: arm.writers)
            if len(arms) < 2 or not arms[0].alike(arms[-1], "writers"):
                continue
            ratio = measured.ratio(arms[-1], arms[0])
            if arms[0].writers != arms[-1].writers and ratio.blocks:
                rows.append(GrowthRow(system, arms[0], arms[-1], ratio))
        if rows:
            return tuple(rows)
    return ()


def _fits(experiments: Experiments, sweeps: Experiments) -> Iterator[Fit]:
    for measured in (*experiments.values(), *sweeps.values()):
        for fitted in scalings(measured):
            if fitted.look[0] != "null":
                yield Fit(measured, fitted)


__all__ = [
    "CONTROL",
    "MODE_ALONE",
    "STUDIED",
    "Pair",
    "ReportFacts",
    "claimed",
    "facts_of",
    "find_floor",
    "find_pair",
    "headline_pair",
    "too_few",
]
