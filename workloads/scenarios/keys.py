"""Key distributions, which choose the row that a transaction touches: uniform, zipfian, hotspot,
latest.

Every scenario draws its keys here before its transactions begin. `chooser` is for the hot loop (a
C-level iterator over blocks that numpy drew: about 30 ns a key), `probabilities` is the exact
distribution of the same draws, which is what a model of conflicts needs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import chain
from typing import NamedTuple

import numpy as np

from workloads.errors import nearest, shortened

BLOCK = 512
"""Keys drawn at once. Larger blocks are cheaper a key but stop the worker for longer at a time."""

FORMS = {
    "uniform": "uniform",
    "zipfian": "zipfian:THETA",
    "hotspot": "hotspot:X:Y",
    "latest": "latest",
}
YCSB_THETA = 0.99
GOLDEN = (math.sqrt(5) - 1) / 2


class Keys(NamedTuple):
    """A key distribution: its name and its numbers (theta; or x and y in percent)."""

    name: str
    numbers: tuple[float, ...] = ()


def parse(spec: str) -> Keys:
    """Read "uniform", "zipfian:0.99", "hotspot:90:10" or "latest".

    uniform       : each row alike.
    zipfian:THETA : the row of rank i (from 0) has weight 1 / (i + 1) ** THETA, exactly; THETA may
                    be 1 or more. Ranks are laid over the table by `spread`, so that hot rows lie
                    on different pages. "zipfian" alone is YCSB's 0.99.
    hotspot:X:Y   : X % of the operations on the first Y % of the rows: few, neighbouring pages.
    latest        : the newest row most, older ones by YCSB's zipfian 0.99 of their age.
    Raises ValueError with one sentence that names the nearest form.

    >>> parse("hotspot:90:10")
    Keys(name='hotspot', numbers=(90.0, 10.0))
    """
    name, *texts = spec.strip().split(":")
    if name not in FORMS:
        near = nearest(name, FORMS)
        hint = f"did you mean {FORMS[near]}?" if near else f"try one of {', '.join(FORMS)}."
        raise ValueError(f"There are no keys {shortened(spec)}: {hint}")
    if name == "zipfian" and not texts:
        return Keys(name, (YCSB_THETA,))
    wanted = FORMS[name].count(":")
    try:
        numbers = tuple(float(text) for text in texts)
    except ValueError:
        numbers = (math.nan,)
    if len(numbers) != wanted or not all(map(math.isfinite, numbers)):
        raise ValueError(f"Keys {spec!r} cannot be read: the form is {FORMS[name]}, with numbers.")
    if name == "zipfian" and not 0 <= numbers[0] <= 20:
        raise ValueError(f"Keys {spec!r}: THETA of {FORMS[name]} lies between 0 and 20.")
    if name == "hotspot" and not (0 <= numbers[0] <= 100 and 0 < numbers[1] <= 100):
        raise ValueError(f"Keys {spec!r}: X and Y of {FORMS[name]} are percents, Y above 0.")
    return Keys(name, numbers)


def sampler(spec: str, rows: int, rng: np.random.Generator) -> Callable[[int], np.ndarray]:
    """A function that draws `n` keys of [0, rows) at once: int64 array, shape (n,).

    For `latest` row rows - 1 is the newest one.
    """
    keys = parse(spec)
    if rows < 1:
        raise ValueError(f"Keys {spec!r} need at least one row, not {rows}.")
    if keys.name == "zipfian":
        ranks = _zipf(rows, keys.numbers[0], rng)
        return lambda n: spread(ranks(n), rows)
    if keys.name == "latest":
        ages = _zipf(rows, YCSB_THETA, rng)
        return lambda n: rows - 1 - ages(n)
    if keys.name == "hotspot":
        hot, share = _hot_rows(keys, rows), keys.numbers[0] / 100

        def hotspot(n: int) -> np.ndarray:
            in_hot = rng.random(n) < share
            return np.where(in_hot, rng.integers(0, hot, n), rng.integers(hot, rows, n))

        if hot < rows:
            return hotspot
    return lambda n: rng.integers(0, rows, n)


def chooser(
    spec: str,
    rows: int,
    rng: np.random.Generator,
    newest: Callable[[], int] | None = None,
) -> Callable[[], int]:
    """A function without arguments that draws the next key, an int.

    newest : for `latest` over a table that grows: the newest row now. Ages stay distributed over
        the last `rows` rows. Without it, and for the other distributions, keys are of [0, rows).
    The sequence depends on `rng` alone, never on how it is consumed.
    """
    draw = sampler(spec, rows, rng)
    following: Callable[[], int] = chain.from_iterable(_blocks(draw)).__next__
    if newest is None or parse(spec).name != "latest":
        return following
    top = rows - 1
    return lambda: following() + newest() - top


def _blocks(draw: Callable[[int], np.ndarray]) -> Iterator[list[int]]:
    while True:
        yield draw(BLOCK).tolist()


def probabilities(spec: str, rows: int) -> np.ndarray:
    """The chance of each row in one draw: float array, shape (rows,), sum 1.

    >>> probabilities("hotspot:80:25", 4).round(3).tolist()
    [0.8, 0.067, 0.067, 0.067]
    """
    keys = parse(spec)
    if keys.name in ("zipfian", "latest"):
        theta = keys.numbers[0] if keys.numbers else YCSB_THETA
        weights = np.arange(1, rows + 1, dtype=float) ** -theta
        weights /= weights.sum()
        if keys.name == "latest":
            return weights[::-1]
        by_key = np.empty(rows)
        by_key[spread(np.arange(rows), rows)] = weights
        return by_key
    if keys.name == "hotspot" and (hot := _hot_rows(keys, rows)) < rows:
        share = keys.numbers[0] / 100
        return np.where(np.arange(rows) < hot, share / hot, (1 - share) / (rows - hot))
    return np.full(rows, 1 / rows)


def spread(ranks: np.ndarray, rows: int) -> np.ndarray:
    """Where each rank lies in the table: a one-to-one map of [0, rows) onto itself.

    Multiples of the golden section keep the first k ranks about rows / k apart for every k, so no
    two hot rows share a page unless there are more of them than pages. YCSB hashes instead, and
    then several ranks fall on one row and some rows are never drawn.
    """
    step = max(1, round(rows * GOLDEN))
    while math.gcd(step, rows) != 1:
        step += 1
    return ranks * step % rows


def _hot_rows(keys: Keys, rows: int) -> int:
    return min(rows, max(1, round(rows * keys.numbers[1] / 100)))


def _zipf(rows: int, theta: float, rng: np.random.Generator) -> Callable[[int], np.ndarray]:
    """Ranks of [0, rows) with weight (i + 1) ** -theta, exact for every theta >= 0.

    Rejection-inversion (Hoermann and Derflinger 1996) needs no table, so 100,000,000 rows cost as
    much as ten. YCSB's own method (Gray et al. 1994) is approximate and fails at theta 1.
    """

    def integral(x: np.ndarray) -> np.ndarray:
        log_x = np.log(x)
        return _over(np.expm1, (1 - theta) * log_x) * log_x

    def inverse(area: np.ndarray) -> np.ndarray:
        return np.exp(_over(np.log1p, np.maximum(area * (1 - theta), -1 + 1e-15)) * area)

    low, high = integral(np.array([1.5, rows + 0.5])) - np.array([1.0, 0.0])
    sure = 2 - inverse(integral(np.array([2.5])) - 2.0**-theta)[0]

    def draw(n: int) -> np.ndarray:
        kept: list[np.ndarray] = []
        missing = n
        while missing > 0:
            area = high + rng.random(missing + missing // 4 + 8) * (low - high)
            x = inverse(area)
            rank = np.clip(np.floor(x + 0.5), 1, rows)
            good = (rank - x <= sure) | (area >= integral(rank + 0.5) - rank**-theta)
            kept.append(rank[good][:missing])
            missing -= len(kept[-1])
        return np.concatenate(kept).astype(np.int64) - 1

    return draw


def _over(function: Callable[[np.ndarray], np.ndarray], x: np.ndarray) -> np.ndarray:
    """function(x) / x for expm1 and log1p, 1 where x is 0."""
    safe = np.where(x == 0, 1.0, x)
    return np.where(x == 0, 1.0, function(safe) / safe)
