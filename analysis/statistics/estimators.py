"""Numbers from counts: rates with intervals, fairness, percentiles. Nothing here knows a run."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

QUANTILES = (0.5, 0.9, 0.99, 0.999)
PERCENTILES = ("p50", "p90", "p99", "p99.9", "max")
"""Names of what `percentiles` returns, in its order."""


def abort_rate(
    conflicts: int, finished: int, *, confidence: float = 0.95
) -> tuple[float, float, float]:
    """Share of finished attempts that the engine refused, where each is refused by itself.

    A run's are not (`batched_rate`). Returns low, rate and high of its Wilson interval, each in
    [0, 1]; all nan where nothing is finished. `unknown` attempts are in neither count. Raises
    ValueError where conflicts > finished.
    Source: Wilson 1927.

    >>> [round(each, 4) for each in abort_rate(5, 10)]
    [0.2366, 0.5, 0.7634]
    >>> [round(each, 4) for each in abort_rate(0, 1000)]
    [0.0, 0.0, 0.0038]
    """
    if not 0 <= conflicts <= finished:
        raise ValueError(
            f"{conflicts} conflicts in {finished} finished attempts: a conflict is a finished "
            "attempt, so count it in both."
        )
    if not 0 < confidence < 1:
        raise ValueError(f"A confidence of {confidence} is not between 0 and 1.")
    if not finished:
        return math.nan, math.nan, math.nan
    # scipy's binomtest gives the same interval and is held against this one by a test: to import
    # scipy.stats takes half a second of CPU, and `cwkit show` takes less than one with all it does.
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    return _wilson(conflicts / finished, float(finished), z)


def batched_rate(
    conflicts: ArrayLike, finished: ArrayLike, *, confidence: float = 0.95
) -> tuple[float, float, float]:
    """The same of one run, whose refusals come in clusters, from batches of its time.

    conflicts, finished : ints, shape (batches,), of stretches of equal length, each much longer
        than what makes refusals come together.

    How far the batches' rates scatter beyond independent attempts says how many attempts there
    really were. With that many, and Student's quantile for so many batches, it is Wilson's
    interval. Of several runs take the interval over runs.
    Sources: Kish 1965 (the design effect); Korn and Graubard 1998.

    >>> [round(each, 3) for each in batched_rate([0, 9, 1, 0], [25, 25, 25, 25])]
    [0.01, 0.1, 0.544]
    >>> [round(each, 3) for each in batched_rate([2, 3, 2, 3] * 5, [25] * 20)]
    [0.075, 0.1, 0.132]
    """
    refused, ended = np.asarray(conflicts, float), np.asarray(finished, float)
    many, total = refused.size, float(ended.sum())
    if not total or many < 2:
        return abort_rate(int(refused.sum()), int(total), confidence=confidence)
    rate = float(refused.sum()) / total
    scatter = float(((refused - rate * ended) ** 2).sum()) * many / (many - 1)
    independent = total * rate * (1 - rate)
    design = max(scatter / independent, 1.0) if independent else 1.0
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    return _wilson(rate, total / design, _student(z, many - 1))


def _student(z: float, free: int) -> float:
    """Student's quantile for the normal one, with so many degrees of freedom."""
    return z + (z**3 + z) / (4 * free) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * free**2)


def batch_means(
    amounts: ArrayLike, seconds: float, *, confidence: float = 0.95
) -> tuple[float, float]:
    """(low, high) of an amount a second within one run, from the means of batches of its time.

    amounts : numbers, shape (batches,), of stretches of `seconds` each, much longer than what makes
        neighbours alike. nan with fewer than 5 batches or without time.
    What changes from run to run is not in it. Source: Law and Kelton 1991 (batch means).

    >>> [round(each, 1) for each in batch_means([10, 12, 9, 11, 8, 10], 0.5)]
    [17.1, 22.9]
    """
    each = np.asarray(amounts, float)
    if each.size < 5 or seconds <= 0:
        return math.nan, math.nan
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    mean, spread = float(each.mean()), float(each.std(ddof=1))
    half = _student(z, each.size - 1) * spread / math.sqrt(each.size)
    return max(mean - half, 0.0) / seconds, (mean + half) / seconds


def _wilson(rate: float, n: float, z: float) -> tuple[float, float, float]:
    middle = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    # Rounding leaves 3e-18 where the bound is 0 in algebra (and 1 - 1e-16 where it is 1).
    low = 0.0 if rate == 0 else min(max(middle - half, 0.0), rate)
    high = 1.0 if rate == 1 else max(min(middle + half, 1.0), rate)
    return low, rate, high


def jain_index(amounts: ArrayLike) -> float:
    """Jain's fairness index of what each worker got: 1 all alike, 1/n one has everything.

    amounts : numbers >= 0, shape (workers,). Returns nan where all are 0 or there are none.
    Source: Jain, Chiu, Hawe 1984, DEC-TR-301.

    >>> jain_index([5, 5, 5, 5]), jain_index([20, 0, 0, 0])
    (1.0, 0.25)
    """
    got = np.asarray(amounts, dtype=float)
    if got.size == 0 or not got.any():
        return float("nan")
    got = got / got.max()  # squares of counts above 1e154 would not fit
    return float(got.sum() ** 2 / (got.size * (got**2).sum()))


def percentiles(values_ns: ArrayLike, *, in_place: bool = False) -> np.ndarray:
    """p50, p90, p99, p99.9 and the maximum, float array of shape (5,), in the unit given.

    A percentile p needs 10 / (1 - p) samples (p99 a thousand): with fewer it would be the story of
    one or two outliers, and is nan. The maximum needs one. Linear interpolation between samples.
    Infinite values are those of which only is known that they are greater than all others: a
    percentile that falls among them is infinite.
    in_place : whether the values' order may be lost for it, which saves a copy of them.

    >>> percentiles(range(1, 201)).tolist()
    [100.5, 180.1, nan, nan, 200.0]
    >>> percentiles([*range(1, 191), *[np.inf] * 10]).tolist()
    [100.5, 180.1, nan, nan, inf]
    """
    values = np.asarray(values_ns)
    out = np.full(len(QUANTILES) + 1, np.nan)
    if values.size == 0:
        return out
    # The + 1e-9 is for 1 - 0.9, which is 0.09999999999999998.
    enough = [q for q in QUANTILES if values.size * (1 - q) + 1e-9 >= 10]
    finite = values.size
    if values.dtype.kind == "f":
        finite = int(np.isfinite(values).sum())
    # Between two infinite values numpy's interpolation is nan, and so it is beside one.
    known = [q for q in enough if (values.size - 1) * q < finite - 1]
    out[: len(enough)] = np.inf
    out[-1] = values.max()
    for at, q in enumerate(enough):
        if (values.size - 1) * q == finite - 1:
            out[at] = values[np.isfinite(values)].max()
    if known:
        out[: len(known)] = np.quantile(values, known, overwrite_input=in_place)
    return out
