"""Verdicts on a sweep's arms, decided for the whole sweep at once.

A difference is claimed if its interval excludes 1, if its p-value holds in the family of all
comparisons of the sweep, and if it is greater than that between two runs of the same arm.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from analysis.compare import CLAIMED, NOT_COMPARABLE, Side, compare
from analysis.compare import UNKNOWN as NOT_DECIDED
from analysis.compare import judged as judged_arms
from analysis.counting import Arm, Measured
from analysis.report.sweep_layout import SYSTEM
from analysis.report.sweep_summary import rival
from analysis.statistics import Ratio

MORE, LESS, SAME, UNKNOWN = "more", "less", "not claimed", "unknown"


class Judged(NamedTuple):
    """An arm against its rival (the baseline's system at the same point), and the verdict.

    p : in the family, of `test`; nan where the pair is no member of the family.
    smallest : the smallest effect that the pair could have shown (analysis.compare).
    """

    candidate: Arm
    baseline: Arm
    ratio: Ratio
    p: float
    verdict: str
    test: str
    smallest: float = math.nan


def judged(measured: Measured) -> list[Judged]:
    """Every arm of a sweep against its rivals, judged as one family as `cwkit compare` judges it.

    Nothing is claimed from blocks too few for an interval. A/A twins are in no family. The rival is
    the baseline. In a sweep with systems, the rivals are arms at the same point: that of the
    baseline's system, and that of the first other system that the file names before the arm's.
    """
    role, arms, again = measured.role, measured.arms, measured.repeated
    sides = {
        name: Side(name, {cell.block: cell for cell in arm.cells}, arm)
        for name, arm in arms.items()
    }
    found = judged_arms(
        [
            compare(sides[other.name], sides[arm.name], "throughput", role)
            for arm in arms.values()
            if arm.name not in again
            for other in _rivals(arm)
            if all(each.plan[f"{role}s"] for each in (arm, other))
        ]
    )
    verdicts = {NOT_DECIDED: UNKNOWN, NOT_COMPARABLE: UNKNOWN}
    return [
        Judged(
            arms[one.b],
            arms[one.a],
            one.ratio,
            one.p_family,
            (MORE if one.ratio.value > 1 else LESS)
            if one.verdict == CLAIMED
            else verdicts.get(one.verdict, SAME),
            one.test,
            one.smallest,
        )
        for one in found
    ]


def _rivals(arm: Arm) -> list[Arm]:
    """An arm's rivals. The table shows the first one."""
    first = rival(arm)
    if first is None:
        return []
    measured, point = arm.measured, arm.point
    systems = list(measured.axes.get(SYSTEM, []))
    if SYSTEM not in point:
        return [first]
    mine = systems.index(point[SYSTEM])
    base = measured.baseline.point.get(SYSTEM) if measured.baseline else None
    others = [
        other
        for system in systems[:mine]
        for other in measured.arms.values()
        if system != base and other.point == {**point, SYSTEM: system}
    ]
    return [first, *others[:1]]
