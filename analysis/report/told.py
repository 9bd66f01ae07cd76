"""The one rule: what a report may tell as a difference, decided for everything it tells at once.

`family` declares the comparisons that a report makes, in one place. They are judged together, as
`cwkit compare` judges its own: a claim needs an interval without 1, a p-value that holds in the
family, and an effect outside of the A/A band. Findings, tables and charts ask here and word it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

import numpy as np

from analysis.compare import CLAIMED, Comparison, Side, aa_band, compare, judged
from analysis.counting import Arm, Measured, NotComparable, theta
from analysis.report.load_facts import Pair
from analysis.wording import percent, times

Experiments = Mapping[str, Measured]

BAND_OF = "headline"
"""The experiment whose A/A control stands in for those of experiments that have none."""

LONG_WINDOWS = "long-windows"
"""The shipped sweep that has the windows of `fairness` in more blocks than a report."""

WITH_MORE = {
    "headline": ("cpu", "p50", "p99", "abort-rate"),
    "offered": ("p50", "p99", "abort-rate"),
    "fairness": ("fairness",),
    LONG_WINDOWS: ("fairness",),
    "read-mostly": ("cpu",),
    "skew": ("abort-rate", "first-tries"),
}
"""Measures beside throughput that a report tells of an experiment's pairs."""

NOT_TOLD = ("acked", "mission")
"""Experiments that are shaped to break, not to be fast: no ratio of theirs is told."""


def family(experiments: Experiments) -> Iterator[tuple[Pair, str]]:
    """Every comparison that a report tells, with its measure.

    Of each experiment: any two systems that do the same work; one system at the fewest and at the
    most writers; one system at the least and at the greatest skew. A/A twins are controls and no
    members.
    """
    for measured in experiments.values():
        if measured.name in NOT_TOLD:
            continue
        measures = ("throughput", *WITH_MORE.get(measured.name, ()))
        for pair in _pairs(measured):
            for measure in measures:
                yield pair, measure


def _pairs(measured: Measured) -> Iterator[Pair]:
    arms = [
        arm
        for arm in measured.arms.values()
        if arm.usable and arm.engine != "null" and arm.name not in measured.repeated
    ]
    for one, other in combinations(arms, 2):
        if one.role == other.role and one.system != other.system and one.alike(other):
            yield Pair(other, one)
    for axis in ("writers", "keys"):
        yield from _ends(arms, axis)


def _ends(arms: Sequence[Arm], axis: str) -> Iterator[Pair]:
    """Each system's arms at both ends of an axis, where only that differs."""
    for system in dict.fromkeys(arm.system for arm in arms):
        mine = [arm for arm in arms if arm.system == system and _place(arm, axis) is not None]
        mine.sort(key=lambda arm: _place(arm, axis) or 0.0)
        unlike = len(mine) > 1 and _place(mine[0], axis) != _place(mine[-1], axis)
        if unlike and mine[0].alike(mine[-1], axis):
            yield Pair(mine[-1], mine[0])


def _place(arm: Arm, axis: str) -> float | None:
    return float(arm.writers) if axis == "writers" else theta(str(arm.field("keys")))


def key_of(pair: Pair) -> tuple[int, str, str]:
    """Equal for equal pairs."""
    return id(pair.measured), pair.candidate.name, pair.baseline.name


@dataclass(frozen=True)
class Telling:
    """The comparisons of a report, judged as one family."""

    found: Mapping[tuple[tuple[int, str, str], str], Comparison] = field(default_factory=dict)

    def told(self, pair: Pair, measure: str = "throughput") -> Comparison:
        """The comparison of a pair, whichever of both the caller calls the candidate.

        Raises KeyError for one that `family` does not declare: what is told without being counted
        makes the others' p-values wrong.
        """
        if (known := self.found.get((key_of(pair), measure))) is not None:
            return known
        turned = self.found.get((key_of(Pair(pair.baseline, pair.candidate)), measure))
        if turned is None:
            raise KeyError(
                f"{measure} of {pair.candidate} against {pair.baseline} in {pair.measured.name} is "
                "no member of the report's family: declare it in analysis.report.told.family."
            )
        return inverse(turned)

    def __iter__(self) -> Iterator[Comparison]:
        return iter(self.found.values())


def telling(experiments: Experiments) -> Telling:
    """Compare and judge everything that a report of these experiments tells."""
    default = {}
    for measure in {measure for _, measure in family(experiments)}:
        control = experiments.get(BAND_OF)
        default[measure] = math.nan if control is None else aa_band(control, measure)
    keys, each = [], []
    for pair, measure in family(experiments):
        try:
            one = compare(_side(pair.baseline), _side(pair.candidate), measure)
        except NotComparable:
            continue
        if math.isnan(one.band):
            one = replace(one, band=default[measure])
        keys.append((key_of(pair), measure))
        each.append(one)
    return Telling(dict(zip(keys, judged(each), strict=True)))


def _side(arm: Arm) -> Side:
    return Side(arm.name, {cell.block: cell for cell in arm.cells}, arm)


def inverse(found: Comparison) -> Comparison:
    """A against B, of B against A: the same verdict."""
    ratio = found.ratio

    def turned(value: float) -> float:
        return math.inf if value == 0 else 1 / value

    by_block = {block: turned(value) for block, value in ratio.by_block.items()}
    other = replace(
        ratio,
        value=turned(ratio.value),
        low=turned(ratio.high),
        high=turned(ratio.low),
        each=np.array(list(by_block.values())),
        candidate=ratio.baseline,
        baseline=ratio.candidate,
        by_block=by_block,
    )
    return replace(
        found,
        a=found.b,
        b=found.a,
        ratio=other,
        values={block: (b, a) for block, (a, b) in found.values.items()},
        variables={fact: (b, a) for fact, (a, b) in found.variables.items()},
        kinds=found.kinds[::-1],
    )


def claimed(found: Comparison) -> str:
    """The rule's answer: "more" or "less" where a difference may be told as one, "none" where not.

    It is "unknown" where there are too few blocks or nothing is comparable: such a gain or loss is
    told by `too_few`, never dropped.
    """
    if found.verdict == CLAIMED:
        return "more" if found.ratio.value > 1 else "less"
    return "none" if found.decided else "unknown"


def too_few(found: Comparison) -> str:
    """A difference with too few blocks, as a clause: "more in 4 of 4 blocks, too few to claim it".

    "" where there are blocks enough or none.
    """
    blocks = found.ratio.blocks
    if claimed(found) != "unknown" or not blocks:
        return ""
    more = int((found.ratio.each > 1).sum())
    less = int((found.ratio.each < 1).sum())
    word, many = ("more", more) if more >= less else ("less", less)
    return f"{word} in {many} of {times(blocks, 'block')}, too few to claim it"


def smallest_clause(smallest: Iterable[float]) -> str:
    """The smallest effect that comparisons could have found, as a clause for below their table."""
    known = [each for each in smallest if not math.isnan(each)]
    if not known:
        return "no effect of any size could have been claimed"
    ends = list(dict.fromkeys(percent(end) for end in (min(known), max(known))))
    if len(ends) == 1:
        return f"the smallest effect that could have been claimed is {ends[0]}"
    return (
        "the smallest effect that could have been claimed is, by comparison, "
        f"{ends[0]} to {ends[1]}"
    )
