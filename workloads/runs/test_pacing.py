"""Arrivals, waits and work are what their names say."""

import time

import numpy as np
import pytest

from workloads.runs.pacing import arrivals, due_before, retry_wait, thinker, wait_until


def test_arrivals_are_a_poisson_process():
    due = arrivals(1000, 5_000, np.random.default_rng(1))
    gaps = np.diff([5_000, *(due() for _ in range(20_000))]) / 1e9
    assert (gaps >= 0).all()
    assert gaps.mean() == pytest.approx(1e-3, rel=0.03)
    # Exponential gaps have a deviation equal to their mean; evenly spaced ones would have 0.
    assert gaps.std() == pytest.approx(1e-3, rel=0.05)


def test_the_same_seed_arrives_at_the_same_times():
    first, second = (arrivals(50, 7, np.random.default_rng(3)) for _ in range(2))
    assert [first() for _ in range(9000)] == [second() for _ in range(9000)]


@pytest.mark.parametrize("rate", [1e-5, 1e-9, 1e-300, 5e-324])
def test_a_rate_near_0_lets_nobody_arrive_and_overflows_nothing(rate):
    """Thousands of gaps of centuries do not fit into an int64: they would lie in the past."""
    draw = arrivals(rate, 10**12, np.random.default_rng(1))
    due = [draw() for _ in range(5_000)]
    assert due == sorted(due) and due[1] - 10**12 > 10**12
    assert due_before(10**12 + 10**9, rate, 10**12, np.random.default_rng(1)).size == 0


@pytest.mark.parametrize("rate", [0, -1])
def test_no_rate_is_refused(rate):
    with pytest.raises(ValueError, match="rate above 0"):
        arrivals(rate, 0, np.random.default_rng(0))


def test_waits_grow_to_the_cap_and_are_jittered():
    wait = retry_wait("exponential", 100, 1000, (1, 2))
    for tries, top_us in ((1, 100), (2, 200), (3, 400), (20, 1000), (60_000, 1000)):
        waits = [wait(tries) for _ in range(300)]
        assert max(waits) <= top_us * 1e-6
        assert max(waits) > 0.9 * top_us * 1e-6
        assert min(waits) < 0.1 * top_us * 1e-6


@pytest.mark.parametrize("policy", ["none", "immediate"])
def test_other_policies_do_not_wait(policy):
    assert retry_wait(policy, 100, 1000, (1,))(5) == 0


def test_spinning_burns_the_cpu_time_it_promises():
    spin = thinker(2000, "spin")
    before = time.thread_time_ns()
    spin()
    assert time.thread_time_ns() - before >= 2_000_000


def test_sleeping_takes_the_time_without_the_cpu():
    sleep = thinker(20_000, "sleep")
    wall, cpu = time.monotonic_ns(), time.thread_time_ns()
    sleep()
    assert time.monotonic_ns() - wall >= 20_000_000
    assert time.thread_time_ns() - cpu < 10_000_000


def test_a_wait_ends_when_the_run_does():
    asked = []

    def stopping():
        asked.append(1)
        return len(asked) > 2

    begun = time.monotonic()
    wait_until(time.monotonic_ns() + 60_000_000_000, stopping)
    assert time.monotonic() - begun < 30


def test_long_work_ends_when_the_run_does():
    asked = []

    def stopping():
        asked.append(1)
        return len(asked) > 2

    begun = time.monotonic()
    thinker(60e6, "sleep", stopping)()
    assert time.monotonic() - begun < 30
