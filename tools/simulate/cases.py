"""The cases: what is tried, and what a try comes to. A case of `make simulate` is an entry here."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from analysis.compare import CLAIMED, Comparison, deviation, judged
from analysis.statistics import (
    batched_rate,
    median_of_blocks,
    percentile_intervals,
    percentiles,
    ratio_over_blocks,
)
from tools.simulate.draws import NOISES, latencies, logs, refusals

COVERAGE, TOLD, FALSE, POWER = (
    "the interval holds the truth",
    "the interval within one run holds the truth",
    "a report without any difference claims one",
    "a difference is claimed",
)
"""What a case counts. Intervals within one run are told with what they cover, and claim nothing."""


class Row(NamedTuple):
    """One case's result. observed : share of the tries; low, high : its 95 % interval (Wilson).

    nominal : the share that it should be, nan where there is none. tries : those with an answer.
    """

    case: str
    what: str
    nominal: float
    observed: float
    low: float
    high: float
    tries: int


Attempt = Callable[[np.random.Generator], bool | None]


@dataclass(frozen=True)
class Case:
    """Something that is tried many times.

    attempt : one try; whether what is counted happened, None where the procedure gives no answer.
    """

    name: str
    what: str
    nominal: float
    tries: int
    attempt: Attempt


def _cases() -> Iterator[Case]:
    for blocks in (6, 7, 10, 20):
        for noise in NOISES:
            name = f"ratio, {blocks} blocks, {noise}"
            yield Case(name, COVERAGE, 0.95, 4000, _ratio(noise, blocks))
    for blocks in (6, 10):
        for noise in ("even", "heavy tails", "drift"):
            name = f"level (tx/s), {blocks} blocks, {noise}"
            yield Case(name, COVERAGE, 0.95, 4000, _level(noise, blocks))
        for near in (1, 50):
            name = f"abort rate, {blocks} blocks, {_cluster(near)}"
            yield Case(name, COVERAGE, 0.95, 4000, _abort_rate(blocks, near))
        for at, percentile in ((0, "p50"), (2, "p99")):
            name = f"{percentile}, {blocks} blocks of 2,000 alike in time"
            yield Case(name, COVERAGE, 0.95, 1500, _percentile(blocks, at))
    for near in (1, 50, 200):
        name = f"abort rate, 20 batches of one run, {_cluster(near)}"
        yield Case(name, TOLD, 0.95, 4000, _within_run(near))
    within = (
        (0, "p50", 0.8),
        (2, "p99", 0.8),
        (0, "p50", 0.95),
        (2, "p99", 0.95),
        (0, "p50", 0.99),
    )
    for at, percentile, likeness in within:
        name = f"{percentile}, one run of 20,000, neighbours alike by {likeness}"
        yield Case(name, TOLD, 0.95, 400, _percentile_within(at, likeness))
    for blocks in (6, 10):
        for many, tries in ((5, 3000), (20, 2000), (72, 1000)):
            for noise in NOISES:
                name = f"{many} comparisons, {blocks} blocks, {noise}"
                yield Case(name, FALSE, 0.05, tries, _report([many], blocks, noise))
    name = "40 comparisons in 10 experiments, 10 blocks, even"
    yield Case(name, FALSE, 0.05, 1000, _report([4] * 10, 10, "even"))
    name = "20 comparisons, 10 blocks, even, without an A/A control"
    yield Case(name, FALSE, 0.05, 2000, _report([20], 10, "even", band=False))
    for effect in (0.05, 0.10, 0.20):
        for many in (1, 20):
            for blocks in (6, 10):
                of = f"{effect:.0%} more, 1 of {many}, {blocks} blocks"
                yield Case(f"{of}, even", POWER, math.nan, 600, _found(effect, many, blocks))
    for stalled in ("none stalled", "one run of ten stalled"):
        name = f"10% more, 1 of 5, 10 blocks, {stalled}"
        attempt = _found(0.10, 5, 10, stall=stalled.startswith("one"))
        yield Case(name, POWER, math.nan, 1500, attempt)


def _cluster(near: int) -> str:
    return "refused one by one" if near == 1 else f"refused in clusters of {near}"


# --- coverage ---------------------------------------------------------------------------------


def _ratio(noise: str, blocks: int) -> Attempt:
    truth = 1.2

    def attempt(rng: np.random.Generator) -> bool:
        base, top = np.exp(logs(rng, noise, 2, blocks))
        tops, bottoms = dict(enumerate(top * truth)), dict(enumerate(base))
        return ratio_over_blocks(tops, bottoms, candidate="b", baseline="a").holds(truth)

    return attempt


def _level(noise: str, blocks: int) -> Attempt:
    """The truth is that of very many blocks of the same hours."""

    @cache
    def truth() -> float:
        rng = np.random.default_rng(5)
        many = [np.exp(logs(rng, noise, 1, blocks)[0]) for _ in range(3000 // blocks)]
        return median_of_blocks(np.concatenate(many)).value

    def attempt(rng: np.random.Generator) -> bool:
        return median_of_blocks(np.exp(logs(rng, noise, 1, blocks)[0])).holds(truth())

    return attempt


def _abort_rate(blocks: int, near: int) -> Attempt:
    """A tenth is refused, a little more in some runs than in others."""

    def attempt(rng: np.random.Generator) -> bool:
        rates = 0.1 * (1 + rng.normal(0, 0.1, blocks))
        each = [refusals(rng, rate, 1, 4000, near).sum() / 4000 for rate in rates]
        return median_of_blocks(each).holds(0.1)

    return attempt


def _within_run(near: int) -> Attempt:
    def attempt(rng: np.random.Generator) -> bool:
        refused = refusals(rng, 0.05, 20, 1000, near)
        low, _, high = batched_rate(refused, np.full(20, 1000))
        return low <= 0.05 <= high

    return attempt


def _percentile(blocks: int, at: int) -> Attempt:
    """Each run is slower or faster as a whole, by a tenth."""

    def one(rng: np.random.Generator) -> float:
        return float(percentiles(latencies(rng, 2000, 0.8))[at]) * math.exp(rng.normal(0, 0.1))

    @cache
    def truth() -> float:
        rng = np.random.default_rng(6)
        return median_of_blocks([one(rng) for _ in range(3000)]).value

    def attempt(rng: np.random.Generator) -> bool:
        return median_of_blocks([one(rng) for _ in range(blocks)]).holds(truth())

    return attempt


def _percentile_within(at: int, likeness: float) -> Attempt:
    truth = math.exp(NormalDist().inv_cdf((0.5, 0.9, 0.99)[at]))

    def attempt(rng: np.random.Generator) -> bool | None:
        low, _, high = percentile_intervals(latencies(rng, 20_000, likeness))[at]
        return None if math.isnan(low) else bool(low <= truth <= high)

    return attempt


# --- claims -----------------------------------------------------------------------------------


def compared(rates: np.ndarray, experiment: int, *, band: bool = True) -> list[Comparison]:
    """Arms against the first one, as a report compares them. rates : shape (arms, blocks); the
    second arm is the first one again, and gives the A/A band.
    """
    base, again, *others = (dict(enumerate(row)) for row in rates)
    twin = ratio_over_blocks(again, base, candidate="again", baseline="base")
    reach = max(deviation(twin.low), deviation(twin.high)) if band else math.nan
    return [
        Comparison(
            a="base",
            b=str(number),
            kind="arms",
            measure="throughput",
            role="writer",
            ratio=ratio_over_blocks(other, base, candidate=str(number), baseline="base"),
            values={},
            variables={},
            band=reach,
            pool=experiment,
        )
        for number, other in enumerate(others)
    ]


def _report(experiments: list[int], blocks: int, noise: str, *, band: bool = True) -> Attempt:
    def attempt(rng: np.random.Generator) -> bool:
        found = [
            one
            for number, many in enumerate(experiments)
            for one in compared(np.exp(logs(rng, noise, many + 2, blocks)), number, band=band)
        ]
        return any(one.verdict == CLAIMED for one in judged(found))

    return attempt


def _found(effect: float, many: int, blocks: int, *, stall: bool = False) -> Attempt:
    """Whether an effect in one of several comparisons is claimed, as what it is."""

    def attempt(rng: np.random.Generator) -> bool:
        rates = np.exp(logs(rng, "even", many + 2, blocks))
        rates[2] *= 1 + effect
        if stall:
            rates[rng.choice([0, 2]), rng.integers(blocks)] /= 2
        one = judged(compared(rates, 0))[0]
        return one.verdict == CLAIMED and one.ratio.value > 1

    return attempt


CASES = tuple(_cases())
"""Every case, in the order of the table."""
