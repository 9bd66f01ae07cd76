"""A against B: a ratio with its interval, what it may be claimed to show, and what it may not.

Three things stand between a ratio and a claim: its interval over blocks must exclude 1, its p-value
must hold beside all the others that were looked at in the same call, and it must be greater than
what the same arm, run twice, differs by (the A/A band).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from analysis import wording
from analysis.compare.names import Side, broken
from analysis.compare.one_run import within_runs
from analysis.counting import (
    DOUBTFUL,
    NEVER,
    Count,
    CountedCell,
    Difference,
    Measured,
    NotComparable,
    Tally,
    asked_for,
    by_kind,
    confounders,
    differences,
    least,
    slumps,
    standstill_clause,
    to_vary,
)
from analysis.statistics import (
    FEWEST_BLOCKS,
    LEVEL,
    PERCENTILES,
    SIGNED_RANK,
    Ratio,
    family_p,
    ratio_over_blocks,
    seed_of,
    signed_rank_p,
)


def _percentile(name: str) -> Callable[[Tally], float]:
    at = PERCENTILES.index(name)
    return lambda tally: float(tally.whole()[at, 0])


MEASURES: dict[str, Callable[[Tally], float]] = {
    "throughput": lambda tally: tally.per_s,
    "abort-rate": lambda tally: tally.abort_rate[1],
    "first-tries": lambda tally: tally.first_refused(),
    "p50": _percentile("p50"),
    "p90": _percentile("p90"),
    "p99": _percentile("p99"),
    "fairness": lambda tally: tally.fairness,
    "cpu": lambda tally: tally.cpu_us,
}
"""Measures that may be compared: commits a second, share of refused attempts and of refused first
tries, latency from the intended start (ns; infinite where it lies among those that were never
served), Jain's index of the workers' commits, CPU us a commit. The value is nan where a run has too
few samples for it."""

TEXTS: dict[str, Callable[[float], str]] = {
    "throughput": lambda value: f"{wording.number(value)} tx/s",
    "abort-rate": wording.percent,
    "first-tries": wording.percent,
    "p50": wording.duration,
    "p90": wording.duration,
    "p99": wording.duration,
    "fairness": lambda value: f"Jain's index {wording.number(value)}",
    "cpu": lambda value: f"{wording.number(value)} µs of CPU time a transaction",
}

CLAIMED, NONE, BAND, CHANCE, CONTROL, UNKNOWN, NOT_COMPARABLE = (
    "claimed",
    "no difference seen",
    "within the A/A band",
    "not significant",
    "A/A control differs",
    "cannot be decided",
    "not comparable",
)
"""Verdicts of a comparison. Only the first claims that one side is more or less."""


@dataclass(frozen=True)
class Comparison:
    """B against A by one measure.

    ratio     : B / A, the Hodges-Lehmann estimate over blocks with its 95 % interval, and why
        blocks are missing.
    values    : block -> (A's value, B's value), as compared, in the measure's unit.
    variables : factor that differs -> (A's value, B's). kind: "arms" or "runs".
    p, p_family : of `test`, alone, and in its family (Westfall and Young); nan for single runs.
        The interval excludes 1 exactly where p is at most 0.05, and p_family is never less than p.
    smallest  : the smallest effect that these blocks could have claimed, as `deviation` (0.05 for
        1.05): outside their interval's half-width, the family's demand and the A/A band; nan where
        nothing can be claimed.
    pool      : what its blocks are of: comparisons with the same pool share their blocks.
    band      : the greatest relative deviation inside the A/A interval of the experiments, nan
        where they have no A/A control. family: how many ratios were looked at in the same call.
    kinds     : A's and B's attempts refused in the blocks compared, by kind of conflict.
    slumped   : how many runs of both sides stood still or made less than half of what their arm
        usually makes; they are in the ratio.
    doubtful  : the same of the runs that others disturbed, where no block has two others: shown,
        and no part of any verdict. why: the first reason for that.
    """

    a: str
    b: str
    kind: str
    measure: str
    role: str
    ratio: Ratio
    values: Mapping[int, tuple[float, float]]
    variables: Mapping[str, tuple[Any, Any]]
    p: float = math.nan
    p_family: float = math.nan
    smallest: float = math.nan
    band: float = math.nan
    family: int = 1
    test: str = SIGNED_RANK
    verdict: str = UNKNOWN
    control: bool = False
    refused: str = ""
    slumped: int = 0
    notes: tuple[str, ...] = ()
    broken: tuple[str, ...] = ()
    kinds: tuple[Mapping[str, int], Mapping[str, int]] = ({}, {})
    pool: Hashable = field(default=None, repr=False)
    doubtful: Comparison | None = None
    why: str = ""

    @property
    def p_holm(self) -> float:
        """`p_family`, by the name that it has in the JSON of `cwkit compare`."""
        return self.p_family

    @property
    def effect(self) -> float:
        """How far the ratio is from 1, the same for twice and for half as much."""
        return deviation(self.ratio.value)

    @property
    def decided(self) -> bool:
        """There is an answer, also that no difference was seen or may be claimed."""
        return self.verdict not in (UNKNOWN, NOT_COMPARABLE)

    def sentence(self) -> str:
        """The verdict as a sentence."""
        ratio, clause = self.ratio, _clause(self)
        if self.refused:
            return self.refused
        if self.verdict == CLAIMED:
            return f"{clause}."
        if self.verdict == NONE:
            why = "the interval holds 1" if ratio.holds(1.0) else f"p {wording.number(self.p)}"
            same = "A/A: both ask for the same, and n" if self.control else "N"
            return (
                f"{same}o difference in {self.measure} seen between {self.b} and {self.a} "
                f"(ratio {ratio.text()}, {why})."
            )
        if self.verdict == BAND:
            return (
                f"Not claimed: within the A/A band of ±{wording.percent(self.band)}, which is what "
                f"one arm run twice differs by here. {clause}."
            )
        if self.verdict == CONTROL:
            return (
                f"A/A: both ask for the same, and yet {clause}. Do not trust differences of that "
                "size here."
            )
        if self.verdict == CHANCE:
            return f"Not claimed: {self._too_weak()}. {clause}."
        return f"Cannot be decided: {self._undecided()}. {clause}."

    def _too_weak(self) -> str:
        return (
            f"p is {wording.number(self.p_family)} in a family of {self.family}, "
            f"and {LEVEL:g} is the limit"
        )

    def _undecided(self) -> str:
        if self.kind == "runs":
            return (
                "one run each gives no interval over blocks. What is in brackets is within these "
                "two runs alone; what changes from run to run is not in it"
            )
        if not self.ratio.blocks:
            return "in no block is the ratio known" if self.values else "no block has both"
        return (
            f"{wording.times(self.ratio.blocks, 'block')} "
            f"{'gives' if self.ratio.blocks == 1 else 'give'} no 95 % interval, "
            f"{FEWEST_BLOCKS} would"
        )

    def doubt(self) -> str:
        """The doubtful ratio as a sentence with its reason, "" where there is none."""
        if self.doubtful is None:
            return ""
        return f"{DOUBTFUL} doubtful, and no evidence ({self.why}): {_clause(self.doubtful)}."

    def data(self) -> dict[str, Any]:
        """For a program; the schema is in analysis.cli.compare."""
        return {
            "a": self.a,
            "b": self.b,
            "kind": self.kind,
            "measure": self.measure,
            "role": self.role,
            "blocks": self.ratio.blocks,
            "ratio": _plain(self.ratio.value),
            "low": _plain(self.ratio.low),
            "high": _plain(self.ratio.high),
            "p": _plain(self.p),
            "p_family": _plain(self.p_family),
            "p_holm": _plain(self.p_family),
            "smallest": _plain(self.smallest),
            "family": self.family,
            "test": self.test,
            "band": _plain(self.band),
            "verdict": self.verdict,
            "sentence": self.sentence(),
            "under_study": {name: list(pair) for name, pair in self.variables.items()},
            "values": [
                {"block": block, "a": _plain(a), "b": _plain(b)}
                for block, (a, b) in self.values.items()
            ],
            "dropped": list(self.ratio.dropped),
            "odd": self.slumped,
            "notes": list(self.notes),
            "broken": list(self.broken),
            "refused": dict(zip("ab", map(dict, self.kinds), strict=True)),
            "doubtful": self._doubtful_data(),
        }

    def _doubtful_data(self) -> dict[str, Any] | None:
        if self.doubtful is None:
            return None
        ratio = self.doubtful.ratio
        return {
            "reason": self.doubt(),
            "ratio": _plain(ratio.value),
            "blocks": ratio.blocks,
            "values": [
                {"block": block, "a": _plain(a), "b": _plain(b)}
                for block, (a, b) in self.doubtful.values.items()
            ],
        }


def _plain(value: float) -> float | str | None:
    """A number as JSON has it: null for what is unknown."""
    if math.isnan(value):
        return None
    return "infinite" if math.isinf(value) else value


def deviation(ratio: float) -> float:
    """How far a ratio is from 1: 0.25 for 1.25 and for 0.8; nan for nan.

    >>> deviation(1.25), deviation(0.8), deviation(1.0)
    (0.25, 0.25, 0.0)
    """
    if math.isnan(ratio):
        return math.nan
    return max(ratio, 1 / ratio if ratio else math.inf) - 1


def _clause(found: Comparison) -> str:
    """The ratio as a clause, with the values behind it."""
    ratio = found.ratio.text()
    subject = {
        "throughput": f"{found.b} commits {ratio} times as much as {found.a}",
        "abort-rate": f"the abort rate of {found.b} is {ratio} times that of {found.a}",
        "first-tries": f"{found.b} is refused at its first try {ratio} times as often as {found.a}",
        "cpu": f"{found.b} needs {ratio} times the CPU time of {found.a}",
    }.get(found.measure, f"the {found.measure} of {found.b} is {ratio} times that of {found.a}")
    if not subject.startswith(found.b):
        subject = subject[0].upper() + subject[1:]
    if not found.ratio.blocks:
        subject = subject.replace(f" {wording.DASH} times", " an unknown number of times")
    if not found.values:
        return subject
    a, b = np.median(np.array(list(found.values.values())), axis=0)
    show = TEXTS[found.measure]
    return f"{subject} ({show(b)} against {show(a)})"


# --- one comparison ---------------------------------------------------------------------------


def role_of(a: Side, b: Side, wanted: str) -> str:
    """The role that is compared: the writers', or the readers' where nobody writes.

    Raises NotComparable where one of them has no worker of that role.
    """
    counts = [next((c.counted for c in s.cells.values() if c.counted), None) for s in (a, b)]
    role = wanted or (
        "writer" if all(c is None or "writer" in c.roles for c in counts) else "reader"
    )
    for side, counted in zip((a, b), counts, strict=True):
        if counted is not None and role not in counted.roles:
            raise NotComparable(f"{side.label} has no {_workers(role)} to compare. Try --role.")
    return role


def compare(
    a: Side, b: Side, measure: str, role: str = "", factors: frozenset[str] | None = None
) -> Comparison:
    """B against A by one measure; not yet judged in its family (`judged`).

    factors : facts that may differ; None where the arms' plans say it (two arms of one experiment).
    A block counts if both its runs are usable and alike in everything else; why others are left
    out is in `ratio.dropped`. Where no two runs are alike the comparison is refused, with words.
    """
    found = _compared(a, b, measure, role_of(a, b, role), factors)
    dirty = [
        f"{side.label}: {cell.contaminated}"
        for side in (a, b)
        for cell in side.cells.values()
        if cell.contaminated
    ]
    if found.values or found.refused or not dirty:
        return found
    doubtful = _compared(_undoubted(a), _undoubted(b), measure, found.role, factors)
    return replace(found, doubtful=doubtful, why=dirty[0]) if doubtful.values else found


def _undoubted(side: Side) -> Side:
    """The side with its contaminated runs as if nobody had used the machine beside them."""
    cells = {block: replace(cell, foreign_limit=1.0) for block, cell in side.cells.items()}
    return replace(side, cells=cells)


def _compared(
    a: Side, b: Side, measure: str, role: str, factors: frozenset[str] | None
) -> Comparison:
    together = a.arm is not None and b.arm is not None and a.folder == b.folder
    if factors is None and not together:
        factors = frozenset()
    tops: dict[int, float] = {}
    bottoms: dict[int, float] = {}
    kinds: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
    dropped: list[str] = []
    studied: dict[str, tuple[Any, Any]] = {}
    refusal = ""
    for block in sorted({*a.cells, *b.cells}):
        where = "" if a.arm is None else f"block {block}: "
        one, other = a.cells.get(block), b.cells.get(block)
        why = _unusable(one, a) or _unusable(other, b)
        if not why and one and other and one.manifest and other.manifest:
            found = differences(one.manifest, other.manifest)
            under = asked_for(found) if factors is None else factors
            others = confounders(found, under)
            refusal = refusal or (_refusal(a, b, others, found) if others else "")
            studied |= {d.fact: (d.a, d.b) for d in found if d.fact in under}
            why = f"not alike in {wording.listed([d.text() for d in others])}" if others else ""
        if not why and one and other and one.counted and other.counted:
            values = [_value(cell.counted, measure, role) for cell in (one, other)]
            lacking = [s.label for s, v in zip((a, b), values, strict=True) if math.isnan(v)]
            few = f"too few transactions for {measure}"
            why = f"{wording.listed(lacking)}: {few}" if lacking else ""
            if not why:
                bottoms[block], tops[block] = values
                for met, counted in zip(kinds, (one.counted, other.counted), strict=True):
                    met.update(by_kind(counted.roles[role].conflicts))
        if why:
            dropped.append(f"{where}{why}")
    refused = refusal if not tops else ""
    single = a.arm is None and b.arm is None
    ratio = ratio_over_blocks(
        tops,
        bottoms,
        candidate=b.label,
        baseline=a.label,
        dropped=dropped,
        neither=_neither(measure),
    )
    if single and tops:
        seed = seed_of(a.label, b.label, measure, role)
        ratio = within_runs(a.cells[0], b.cells[0], measure, role, ratio, seed)
    return Comparison(
        a=a.label,
        b=b.label,
        kind="runs" if single else "arms",
        measure=measure,
        role=role,
        ratio=ratio,
        values={block: (bottoms[block], tops[block]) for block in tops},
        variables=studied,
        p=math.nan if single else signed_rank_p(ratio.each),
        band=math.nan if single else _band(a, b, measure, role),
        control=together and not refused and bool(tops) and not studied,
        refused=refused,
        slumped=len(_slumped(a)) + len(_slumped(b)),
        notes=tuple(_notes(a, b)),
        broken=tuple(broken(a, b)),
        kinds=kinds,
        pool=tuple(id(side.arm.measured) for side in (a, b) if side.arm is not None),
    )


def _unusable(cell: CountedCell | None, side: Side) -> str:
    """Why a cell is in no comparison, "" if it may be."""
    if cell is None:
        return f"{side.label} has no such block"
    why = cell.failure or cell.contaminated or cell.crowded
    if not why and not cell.usable:
        why = cell.state
    return f"{side.label}: {why}" if why else ""


def _workers(role: str) -> str:
    name, _, mode = role.partition(":")
    return f"{name}s that begin {mode}" if mode else f"{name}s"


def _value(counted: Count | None, measure: str, role: str) -> float:
    if counted is None or role not in counted.roles:
        return math.nan
    return MEASURES[measure](counted.roles[role])


def _neither(measure: str) -> float:
    """The value of 0 / 0: where nobody was refused the abort rates are alike."""
    return 1.0 if measure in ("abort-rate", "first-tries") else math.nan


def _refusal(a: Side, b: Side, foreign: Sequence[Difference], found: Sequence[Difference]) -> str:
    """Why two sides are not compared, from the differences of their first pair of runs."""
    never = [difference for difference in foreign if difference.fact in NEVER]
    shown = never or least(foreign, found)
    facts = wording.listed([difference.text() for difference in shown[:6]])
    more = f" and in {len(shown) - 6} more" if len(shown) > 6 else ""
    what = f"{a.label} and {b.label} are not comparable: they differ in {facts}{more}."
    if never:
        return f"{what} Runs of different machines are never compared with each other."
    names = ",".join(dict.fromkeys(to_vary(difference) for difference in shown))
    return f"{what} If that is what you study, say so: --vary {names}"


def _band(a: Side, b: Side, measure: str, role: str) -> float:
    """The A/A band of the experiments of both sides: the greater one; nan without a control."""
    both = {id(s.arm.measured): s.arm.measured for s in (a, b) if s.arm is not None}
    bands = [aa_band(measured, measure, role) for measured in both.values()]
    known = [band for band in bands if not math.isnan(band)]
    return max(known) if known else math.nan


def aa_band(measured: Measured, measure: str = "throughput", role: str = "writer") -> float:
    """The smallest effect that an experiment can claim: how far from 1 the interval of the ratio
    of the same arm run twice reaches (the blocks' range where they are too few); nan without an
    A/A control. With several controls it is the greatest.

    A `deviation`: 0.05 stands for anything between 1 / 1.05 and 1.05.
    """
    found = []
    for one, again in measured.twins:
        ratio = measured.ratio(
            again,
            one,
            lambda counted: _value(counted, measure, role),
            neither=_neither(measure),
        )
        if ratio.blocks:
            ends = (ratio.low, ratio.high) if ratio.known else (ratio.each.min(), ratio.each.max())
            found.append(max(deviation(float(end)) for end in ends))
    return max(found) if found else math.nan


def _slumped(side: Side) -> list[str]:
    """One sentence for each of a side's runs that stood still or slumped."""
    cells = [cell for _, cell in sorted(side.cells.items()) if cell.usable and cell.counted]
    if side.arm is None:
        whys = [standstill_clause(cell.counted) for cell in cells if cell.counted]
    else:
        slumped_cells = slumps(side.arm.measured, side.arm)
        whys = [slumped_cells.get((cell.block, cell.arm), "") for cell in cells]
    return [why for why in whys if why]


def _notes(a: Side, b: Side) -> list[str]:
    """Sentences that a reader must know beside the ratio."""
    notes = []
    for side in (a, b):
        cells = [cell for cell in side.cells.values() if cell.usable]
        unsteady = sum(cell.steady == "no steady state" for cell in cells)
        if unsteady:
            notes.append(
                f"{unsteady} of {wording.times(len(cells), 'run')} of {side.label} had no steady "
                "state (by MSER-5, or for a trend)."
            )
        if whys := _slumped(side):
            notes.append(
                f"{len(whys)} of {wording.times(len(cells), 'run')} of {side.label} stood still or "
                "made less than half of what it usually makes (†; kept in the ratio), the first "
                f"{whys[0]}."
            )
        if unmet := [cell.unmet for cell in cells if cell.unmet]:
            notes.append(
                f"{len(unmet)} of {wording.times(len(cells), 'run')} of {side.label} did not meet "
                f"the rate that was asked for, the first: {unmet[0]}. Percentiles are over all "
                "that were due."
            )
    if a.arm is not None and b.arm is not None and a.folder != b.folder:
        notes.append(
            "They are of different folders: blocks are paired by number and share their draws, "
            "but not the hour they ran in, and no A/A control covers the time between them."
        )
    return notes


# --- the family -------------------------------------------------------------------------------


def judged(found: Sequence[Comparison]) -> list[Comparison]:
    """The same comparisons with their verdicts, as one family.

    A/A controls are no members of the family, nor is what has too few blocks for an interval: of
    that nothing can be claimed whatever it came to.
    """
    members = [c.kind == "arms" and not c.control and c.ratio.known for c in found]
    chosen = [c for c, member in zip(found, members, strict=True) if member]
    seed = seed_of(*(c.a + c.b for c in found))
    family = family_p([in_pool(c.ratio.by_block, c.pool) for c in chosen], seed=seed)
    each = iter(zip(family.alone, family.adjusted, family.smallest, strict=True))
    out = []
    for one, member in zip(found, members, strict=True):
        one = replace(one, family=max(len(chosen), 1))
        if member:
            p, p_family, smallest = next(each)
            one = replace(one, p=p, p_family=p_family)
            one = replace(one, smallest=_smallest(one, smallest))
        out.append(replace(one, verdict=_verdict(one)))
    return out


def in_pool(by_block: Mapping[int, float], pool: Hashable) -> dict[Hashable, float]:
    """Ratios by a block that is not mistaken for another experiment's of the same number."""
    return {(pool, block): ratio for block, ratio in by_block.items()}


def _smallest(found: Comparison, demanded: float) -> float:
    """The smallest effect that could have been claimed. demanded : by the family, as log ratio."""
    ratio = found.ratio
    if not (ratio.known and ratio.low > 0 and ratio.high < math.inf):
        return math.nan
    half = max(math.log(ratio.high / ratio.value), math.log(ratio.value / ratio.low))
    least = max(half, demanded)
    effect = math.expm1(least) if least < 700 else math.inf
    return effect if math.isnan(found.band) else max(effect, found.band)


def _verdict(found: Comparison) -> str:
    ratio = found.ratio
    if found.refused:
        return NOT_COMPARABLE
    if found.kind == "runs" or not ratio.known:
        return UNKNOWN
    if ratio.holds(1.0):
        return NONE
    if found.control:
        return CONTROL if found.p <= LEVEL else NONE
    if found.effect <= found.band:
        return BAND
    return CLAIMED if found.p_family <= LEVEL else CHANCE


__all__ = [
    "MEASURES",
    "Comparison",
    "aa_band",
    "compare",
    "deviation",
    "judged",
]
