"""When a worker acts: arrivals of an open loop, waits between tries, work inside a transaction."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator

import numpy as np

BLOCK = 4096

LONGEST_NS = 10**14
"""The longest gap between two arrivals: more than a day, and no run is longer. Without it, a few
thousand gaps of a rate near 0 would not fit into an int64."""

ARRIVALS = 7
"""The stream of a worker's draws (`WorkerContext.rng`) that its arrivals come from."""


Warp = Callable[[np.ndarray], np.ndarray]
"""Moments of a process of one rate -> those of its stages, ns after the start: `runs.stages`."""


def arrivals(
    rate: float, start_ns: int, rng: np.random.Generator, warp: Warp | None = None
) -> Callable[[], int]:
    """Intended starts of a Poisson process, ns on the run's clock, one for each call.

    rate : arrivals a second of this one worker; the sum over workers is again Poisson.
    A worker that falls behind gets starts that lie in the past: its latency counts from them, so
    that a stall is charged to every transaction it delayed (no coordinated omission).
    """
    if rate <= 0:
        raise ValueError(f"an open loop needs a rate above 0, got {rate}")
    blocks = _blocks(rate, start_ns, rng, warp)
    block: list[int] = []

    def next_arrival() -> int:
        nonlocal block
        if not block:
            block = next(blocks)[::-1].tolist()
        return block.pop()

    return next_arrival


def due_before(
    stop_ns: int, rate: float, start_ns: int, rng: np.random.Generator, most: int = 1 << 62
) -> np.ndarray:
    """All arrivals before a moment, as `arrivals` gives them: int64 array, shape (arrivals,).

    most : no more than so many. Each takes 8 bytes, and there are about rate * seconds of them;
    the caller has made sure that they are few enough.

    >>> due_before(300_000, 5000, 0, np.random.default_rng(1)).tolist()
    [214606, 276297]
    """
    return np.concatenate([np.zeros(0, np.int64), *due_in_turn(stop_ns, rate, start_ns, rng, most)])


def due_in_turn(
    stop_ns: int,
    rate: float,
    start_ns: int,
    rng: np.random.Generator,
    most: int = 1 << 62,
    warp: Warp | None = None,
) -> Iterator[np.ndarray]:
    """The same, some thousands at a time."""
    many = 0
    for block in _blocks(rate, start_ns, rng, warp):
        part = block[: np.searchsorted(block, stop_ns, side="left")][: most - many]
        many += len(part)
        yield part
        if len(part) < len(block):
            break


def _blocks(
    rate: float, start_ns: int, rng: np.random.Generator, warp: Warp | None
) -> Iterator[np.ndarray]:
    last = start_ns
    while True:
        gaps = np.minimum(rng.exponential(min(1e9 / rate, 1e300), BLOCK), LONGEST_NS)
        # Summed as int64 from the last whole start: a float sum of a long run would lose ns.
        block = last + np.cumsum(np.rint(gaps).astype(np.int64))
        last = int(block[-1])
        yield block if warp is None else start_ns + warp(block - start_ns)


def wait_until(when_ns: int, stopping: Callable[[], bool]) -> None:
    """Sleep until a moment of the monotonic clock, or until the run stops.

    Sleeps in pieces of at most 50 ms, so that an idle worker sees the end of the run.
    """
    while (left := when_ns - time.monotonic_ns()) > 0 and not stopping():
        time.sleep(min(left, 50_000_000) / 1e9)


def retry_wait(
    policy: str, base_us: float, cap_us: float, seed: tuple[int, ...]
) -> Callable[[int], float]:
    """Seconds to wait before the next try, from the number of tries already made.

    `exponential` is full jitter: uniform(0, min(cap, base * 2**(tries - 1))). Source: Brooker,
    "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """
    if policy != "exponential":
        return lambda tries: 0.0
    generator = random.Random(repr(seed))

    def wait(tries: int) -> float:
        top_us = min(cap_us, base_us * 2.0 ** min(tries - 1, 40))
        return generator.random() * top_us * 1e-6

    return wait


LONG_S = 0.05
"""A sleep so long looks now and then whether the run is over."""


def thinker(
    think_us: float,
    how: str,
    stopping: Callable[[], bool] = lambda: False,
    thought: list[int] | None = None,
) -> Callable[[], None]:
    """The work inside a transaction.

    thought : its first item is set to the moment at which the work ended, monotonic ns, so that
        the work is not taken for a refused statement's waiting.

    `spin` burns that much CPU time of the calling thread, not wall time: two processes that share
    a core then take twice as long, as real work would. `sleep` waits without the CPU; a long one
    ends with the run.
    """
    if think_us <= 0:
        return _nothing
    work_ns = int(think_us * 1000)
    ended, now = [0] if thought is None else thought, time.monotonic_ns
    seconds, cpu = think_us * 1e-6, time.thread_time_ns

    def sleep() -> None:
        if seconds > LONG_S:
            wait_until(now() + work_ns, stopping)
        else:
            time.sleep(seconds)
        ended[0] = now()

    def spin() -> None:
        until = cpu() + work_ns
        while cpu() < until:
            pass
        ended[0] = now()

    return sleep if how == "sleep" else spin


def _nothing() -> None:
    return None
