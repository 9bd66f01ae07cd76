"""What a report claims, over its sittings: each one's estimate, and an interval over all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from analysis.compare import Comparison, Side, compare
from analysis.counting import Measured, NotComparable
from analysis.report.evidence import Evidence
from analysis.report.told import claimed
from analysis.statistics import FEWEST_SITTINGS, OverSittings, over_sittings
from analysis.wording import DASH, Table, interval, listed, number, percent, times

MOST_ROWS = 40


class Again(NamedTuple):
    """A claim of the report, measured again. first : the report's own comparison."""

    name: str
    first: Comparison
    over: OverSittings

    @property
    def stands(self) -> bool | None:
        """Whether the claim holds over sittings; None where they are too few to say."""
        if not self.over.known:
            return None
        low, high = self.over.low, self.over.high
        return low > 1 if claimed(self.first) == "more" else high < 1

    @property
    def turned(self) -> bool:
        """Some sitting's estimate lies on the other side of 1."""
        more = claimed(self.first) == "more"
        return any((value < 1) == more for value in self.over.each)


def again(evidence: Evidence) -> list[Again]:
    """Each claim of the report that was measured in more than one sitting."""
    if not evidence.sittings:
        return []
    every = [part for one in evidence.sittings for part in _by_machine(one.experiments)]
    places = {id(measured): name for name, measured in evidence.experiments.items()}
    found = []
    for ((place, candidate, baseline), measure), one in evidence.facts.telling.found.items():
        name = places.get(place, "")
        if claimed(one) not in ("more", "less"):
            continue
        each: list[Sequence[float] | np.ndarray] = [one.ratio.each]
        each += [_ratios(part.get(name), candidate, baseline, measure) for part in every]
        over = over_sittings(each)
        if over is not None and len(over.each) > 1:
            found.append(Again(f"{name}: {candidate} / {baseline}, {measure}", one, over))
    return found


def _by_machine(experiments: Mapping[str, Measured]) -> list[dict[str, Measured]]:
    """A sitting's runs, those of each machine as a sitting of their own."""
    places = {
        cell.place
        for measured in experiments.values()
        for cell in measured.cells.values()
        if cell.usable
    }
    return [
        {
            name: replace(
                measured,
                cells={key: cell for key, cell in measured.cells.items() if cell.place == place},
                _confounders={},
            )
            for name, measured in experiments.items()
        }
        for place in sorted(places)
    ]


def _ratios(
    measured: Measured | None, candidate: str, baseline: str, measure: str
) -> Sequence[float] | np.ndarray:
    """A sitting's ratios by block, () where it has none."""
    if measured is None or not {candidate, baseline} <= set(measured.arms):
        return ()
    sides = [
        Side(name, {cell.block: cell for cell in arm.cells}, arm)
        for name, arm in ((name, measured.arms[name]) for name in (baseline, candidate))
    ]
    try:
        return compare(sides[0], sides[1], measure).ratio.each
    except NotComparable:
        return ()


def table(found: Sequence[Again]) -> Table | None:
    """A row for each claim; None where nothing was measured again."""
    if not found:
        return None
    word = {True: "yes", False: "no", None: "too few sittings"}
    rows = [
        (
            one.name,
            one.first.ratio.text(),
            ", ".join(number(value) for value in one.over.each),
            _over(one.over),
            percent(np.expm1(one.over.between)) if one.over.known else DASH,
            word[one.stands],
        )
        for one in found[:MOST_ROWS]
    ]
    left = len(found) - MOST_ROWS
    note = f"{times(left, 'claim')} more are not shown." if left > 0 else ""
    head = ("claim", "first sitting", "each sitting", "over sittings", "between them", "stands")
    return Table(head, rows, note)


def _over(over: OverSittings) -> str:
    if over.known:
        return f"{number(over.value)} {interval(over.low, over.high)}"
    return f"{number(over.low)} to {number(over.high)}"


def sentence(evidence: Evidence, found: Sequence[Again]) -> str:
    """How many sittings there are, and what they come to; "" where there is one."""
    if not evidence.sittings:
        return ""
    many = len(evidence.sittings) + 1
    places = {c.place for _, c in evidence.cells() if c.usable}
    for one in evidence.sittings:
        for measured in one.experiments.values():
            places |= {cell.place for cell in measured.cells.values() if cell.usable}
    begun = [evidence.suite.started, *(one.started for one in evidence.sittings)]
    on = "one machine" if len(places) < 2 else f"{len(places)} machines"
    text = f"What is claimed was measured in {times(many, 'sitting')} on {on}"
    text += f", begun {listed([when for when in begun if when])}." if any(begun) else "."
    known = [one for one in found if one.over.known]
    if known:
        stand = sum(bool(one.stands) for one in known)
        text += (
            f" Over sittings {stand} of {times(len(known), 'claim')} stand, by the interval of "
            "Hartung and Knapp, which takes the sittings as drawn from all that there might be. "
            "Each machine of a sitting counts as one."
        )
    elif found:
        text += (
            f" {FEWEST_SITTINGS} sittings give an interval; of fewer the range of their "
            "estimates is told."
        )
    return text


def doubts(evidence: Evidence) -> list[str]:
    """Claims of the first sitting that do not stand over all of them."""
    lines = []
    for one in again(evidence):
        if one.turned or one.stands is False:
            each = ", ".join(number(value) for value in one.over.each)
            lines.append(
                f"Claimed in the first sitting, and not over {times(len(one.over.each), 'sitting')}"
                f": {one.name} ({each})."
            )
    return lines[:5] + ([f"and {len(lines) - 5} more claims."] if len(lines) > 5 else [])
