"""When a worker acts: arrivals of an open loop, waits between tries, work inside a transaction."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import numpy as np

BLOCK = 4096


def arrivals(rate: float, start_ns: int, rng: np.random.Generator) -> Callable[[], int]:
    """Intended starts of a Poisson process, ns on the run's clock, one for each call.

    rate : arrivals a second of this one worker; the sum over workers is again Poisson.
    A worker that falls behind gets starts that lie in the past: its latency counts from them, so
    that a stall is charged to every transaction it delayed (no coordinated omission).
    """
    if rate <= 0:
        raise ValueError(f"an open loop needs a rate above 0, got {rate}")
    block: list[int] = []
    last = start_ns

    def next_arrival() -> int:
        nonlocal block, last
        if not block:
            gaps = rng.exponential(1e9 / rate, BLOCK)
            # Summed as int64 from the last whole start: a float sum of a long run would lose ns.
            block = (last + np.cumsum(np.rint(gaps).astype(np.int64)))[::-1].tolist()
            last = block[0]
        return block.pop()

    return next_arrival


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
    think_us: float, how: str, stopping: Callable[[], bool] = lambda: False
) -> Callable[[], None]:
    """The work inside a transaction.

    `spin` burns that much CPU time of the calling thread, not wall time: two processes that share
    a core then take twice as long, as real work would. `sleep` waits without the CPU; a long one
    ends with the run.
    """
    if think_us <= 0:
        return _nothing
    work_ns = int(think_us * 1000)
    if how == "sleep":
        seconds = think_us * 1e-6
        if seconds > LONG_S:
            return lambda: wait_until(time.monotonic_ns() + work_ns, stopping)
        return lambda: time.sleep(seconds)
    cpu = time.thread_time_ns

    def spin() -> None:
        until = cpu() + work_ns
        while cpu() < until:
            pass

    return spin


def _nothing() -> None:
    return None
