"""`--fail-if "throughput < 0.95"`: a comparison as a gate of a build, neither blind nor flaky.

A gate that looks at the point estimate alone fails every other build by chance; one that asks for
nothing passes whatever could not be measured. This one fails where the interval excludes the limit
on the failing side and the p-value against the limit holds beside all the other gates of the call,
passes where the interval does not, and says apart where nothing can be decided.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from analysis import wording
from analysis.compare.comparison import BAND, MEASURES, Comparison, in_pool
from analysis.statistics import LEVEL, family_p
from workloads.errors import PlanError

PASSED, FAILED, UNDECIDED = "passed", "failed", "cannot be decided"
FORM = re.compile(r"\s*([A-Za-z0-9.-]+)\s*(<=|>=|<|>)\s*([0-9]*\.?[0-9]+)\s*(%?)\s*")


class Condition(NamedTuple):
    """A limit for the ratio B / A of a measure; the gate fails where the ratio is beyond it."""

    measure: str
    sign: str  # "<" or ">"
    limit: float
    text: str

    def beyond(self, ratio: float) -> bool:
        """Whether a ratio is on the failing side."""
        return ratio < self.limit if self.sign == "<" else ratio > self.limit


class Gate(NamedTuple):
    """One condition on one comparison, and the answer as a sentence.

    p_family : of the ratio against the limit, in the family of the call's gates; nan outside of it.
    """

    condition: Condition
    found: Comparison
    outcome: str
    sentence: str
    p_family: float = math.nan

    def data(self) -> dict[str, Any]:
        """For a program."""
        p = None if math.isnan(self.p_family) else self.p_family
        return {
            "condition": self.condition.text,
            "a": self.found.a,
            "b": self.found.b,
            "outcome": self.outcome,
            "p_family": p,
            "p_holm": p,
            "sentence": self.sentence,
        }


def parse_condition(text: str) -> Condition:
    """A condition as it is typed. Raises PlanError that says what is wrong with it.

    >>> parse_condition("throughput < 0.95")[:3]
    ('throughput', '<', 0.95)
    >>> parse_condition("p99>110%")[:3]
    ('p99', '>', 1.1)
    """
    match = FORM.fullmatch(text)
    if match is None:
        raise PlanError(
            f"--fail-if {text!r}: give MEASURE < RATIO or MEASURE > RATIO, such as "
            '"throughput < 0.95" or "p99 > 1.1"; the ratio is B / A.'
        )
    measure, sign, number, percent = match.groups()
    if measure not in MEASURES:
        raise PlanError(
            f"--fail-if {text!r}: there is no measure {measure!r}. There are: "
            f"{', '.join(MEASURES)}."
        )
    limit = float(number) / (100 if percent else 1)
    if not limit > 0:
        raise PlanError(f"--fail-if {text!r}: a ratio is greater than 0 in any case.")
    return Condition(measure, sign[0], limit, text)


def ask(asked: Sequence[tuple[Condition, Comparison]], *, strict: bool = False) -> list[Gate]:
    """The answers of one call's gates, in the order they were asked.

    failed            : the whole 95 % interval is beyond the limit, and so is the ratio by a
        p-value that holds beside the other gates'. strict: the point estimate is beyond the limit.
    passed            : otherwise; it is said where the interval reaches beyond the limit.
    cannot be decided : no interval (too few blocks, single runs, nothing comparable); or the
        effect is beyond the limit but no greater than the A/A control's own, or its p-value does
        not hold.

    A gate is one decision about one side, announced before anything was measured. The
    comparison's own p-value and verdict are about a ratio of 1, and other measures may be in
    that family. So a gate has a p-value of its own, against its limit, and the family is all gates
    of the call: each condition with each arm. Where every true ratio is at its limit, any of them
    fails with a chance of at most about 2.5 %, however many were asked.
    """
    members = [
        not found.refused and found.kind == "arms" and found.ratio.known for _, found in asked
    ]
    chosen = [pair for pair, member in zip(asked, members, strict=True) if member]
    against = [
        in_pool(
            {b: ratio / condition.limit for b, ratio in found.ratio.by_block.items()}, found.pool
        )
        for condition, found in chosen
    ]
    adjusted = iter(family_p(against).adjusted)
    return [
        _answer(*pair, next(adjusted) if member else math.nan, len(chosen), strict)
        for pair, member in zip(asked, members, strict=True)
    ]


def _answer(condition: Condition, found: Comparison, p: float, family: int, strict: bool) -> Gate:
    def gate(outcome: str, why: str) -> Gate:
        return Gate(condition, found, outcome, f"{condition.text}: {outcome}, {why}.", p)

    ratio = found.ratio
    if found.refused or not ratio.blocks:
        return gate(UNDECIDED, (found.refused or found.sentence()).rstrip("."))
    text = f"{found.b} / {found.a} is {ratio.text()}"
    if strict and condition.beyond(ratio.value):
        return gate(FAILED, f"{text} (--strict: the estimate counts, not its interval)")
    if found.kind == "runs" or not ratio.known:
        return gate(UNDECIDED, f"{text}: {found._undecided()}")
    near, far = (ratio.high, ratio.low) if condition.sign == "<" else (ratio.low, ratio.high)
    if condition.beyond(near):
        if found.verdict == BAND:
            return gate(
                UNDECIDED,
                f"{text}, which is beyond the limit but within the A/A band of "
                f"±{wording.percent(found.band)}",
            )
        if not p <= LEVEL:
            return gate(
                UNDECIDED,
                f"{text}, all of the interval beyond the limit, but p against it is "
                f"{wording.number(p)} in a family of {wording.times(family, 'gate')}: more blocks "
                "would tell",
            )
        return gate(FAILED, f"{text}, all of the interval beyond the limit")
    if condition.beyond(far):
        return gate(PASSED, f"{text}: beyond the limit is not excluded, more blocks would tell")
    return gate(PASSED, text)


def status(gates: Sequence[Gate], broken: Sequence[str] = ()) -> int:
    """Exit status of a comparison: 1 a gate failed, a check of B did not hold or a run of B failed
    where A's did not (`broken`); 3 cannot be decided; 0 all passed or nothing was asked.
    """
    if not gates:
        return 0
    outcomes = {gate.outcome for gate in gates}
    if FAILED in outcomes or broken:
        return 1
    return 3 if UNDECIDED in outcomes else 0


__all__ = ["Condition", "Gate", "ask", "parse_condition", "status"]
