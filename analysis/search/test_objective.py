"""Objectives are judged on a queue whose answer is known, and the search finds that answer.

M/M/1, first come first served: with arrivals at rate a and service at rate s the whole time is
exponential with rate s - a, so its p99 is ln(100) / (s - a) (Kleinrock 1975, section 3.2).
"""

import math
from dataclasses import replace

import numpy as np
import pytest

from analysis.search.bisect import highest_rate
from analysis.search.objective import Load, judge, load_of, parse_objectives, statistic
from workloads.errors import PlanError, RunError
from workloads.records import COMMITTED, read_run, segment_path
from workloads.runs import make_plan, run
from workloads.runs.pacing import arrivals

SERVICE = 1000.0


def queue(rate, seconds=20.0, seed=0, service=SERVICE, servers=1, lost=0.0):
    """M/M/1 as a run would have recorded it: what had not begun when the window closed is 0."""
    rng = np.random.default_rng([412, seed])
    stop = int((seconds + 1) * 1e9)
    due = np.cumsum(rng.exponential(1e9 / rate, int(rate * (seconds + 1) * 1.3) + 100))
    due = due[due < stop].astype(np.int64)
    took = rng.exponential(1e9 / service, due.size).astype(np.int64)
    # Lindley: begins when it is due and the one before is done.
    done = np.zeros(due.size, np.int64)
    free = 0
    for n in range(due.size):
        begun = max(free, due[n])
        if begun >= stop:
            break
        free = done[n] = begun + took[n]
    done[rng.random(due.size) < lost] = 0
    return Load.of(due, done, 10**9, stop, refused=5, finished=1000)


P99 = parse_objectives("p99 < 10ms")
TRUTH = SERVICE - math.log(100) / 0.010  # 539 a second


def met(rate, objectives=P99, **more):
    return judge(queue(rate, **more), objectives).met


def test_the_queues_percentiles_are_those_of_the_formula():
    found = judge(queue(500, seconds=60), P99)
    assert found.figures["p99 < 10ms"].value == pytest.approx(
        1e9 * math.log(100) / (SERVICE - 500), rel=0.1
    )
    assert found.due_per_s == pytest.approx(500, rel=0.03)
    assert found.served == pytest.approx(1, abs=0.001)


def test_the_search_finds_the_rate_of_the_formula_in_few_runs():
    asked = []

    def majority(rate):
        asked.append(rate)
        return sum(bool(met(rate, seed=n)) for n in range(3)) >= 2

    found = highest_rate(SERVICE, majority)
    assert found.rate is not None
    assert abs(found.rate / TRUTH - 1) < 0.08
    assert len(asked) == len(set(asked)) < 16
    below = [rate for rate, yes in found.tried.items() if rate < found.rate]
    assert len(below) >= 3  # the curve
    assert found.notes == ()


@pytest.mark.parametrize("truth", [0.7, 3.0, 47.0, 160.0, 699.0, 720.0, 1100.0, 1490.0])
def test_the_search_is_right_to_a_step_wherever_the_answer_lies(truth):
    found = highest_rate(1000, lambda rate: rate < truth)
    if truth < 1:
        assert found.rate is None
        assert "Not met at 1.03 a second" in found.notes[0] or "Not met at 1" in found.notes[0]
        return
    assert found.rate is not None and found.rate < truth
    assert found.rate >= truth / 1.06
    assert ("Met even at" in "".join(found.notes)) == (truth > 1450)


def test_a_rate_that_is_not_met_below_one_that_is_is_told_and_lowers_the_answer():
    found = highest_rate(1000, lambda rate: rate < 600 and not 280 < rate < 320)
    assert found.rate is not None and found.rate < 280
    assert "Not monotone" in found.notes[0]
    plain = highest_rate(1000, lambda rate: rate < 600 and not 280 < rate < 320, curve=())
    assert plain.rate is not None and plain.rate > 550  # without the curve nobody looked


def test_no_rate_below_the_floor_is_asked_for():
    found = highest_rate(1000, lambda rate: False, floor=100)
    assert found.rate is None
    assert min(found.tried) >= 100


# --- what counts as met -----------------------------------------------------------------------


def test_who_was_never_served_counts_as_beyond_every_limit():
    load = queue(700, lost=0.005)
    assert judge(load, parse_objectives("p99 < 40ms")).met
    found = judge(load, parse_objectives("p99.9 < 1s"))
    assert found.met is False
    assert "p99.9 was never" in found.why[0]
    assert judge(load, parse_objectives("mean < 20ms")).figures["mean < 20ms"].value == math.inf


def test_a_rate_that_is_not_reached_is_not_met_however_fast_the_rest_was():
    """Coordinated omission: those served were served at once, and one in ten never was."""
    load = queue(400, lost=0.1)
    found = judge(load, parse_objectives("p50 < 10ms"))
    assert found.figures["p50 < 10ms"].met
    assert found.met is False
    assert len(found.why) == 1
    assert "of the transactions due were served in time" in found.why[0]


def test_a_queue_that_grows_is_not_met_though_the_whole_window_would_pass():
    due = np.arange(0, 10_000) * 1_000_000 + 10**9  # 10 s of 1,000 a second
    slow = np.where(np.arange(10_000) > 9_100, 30_000_000, 1_000_000)
    load = Load.of(due, due + slow, 10**9, 11 * 10**9 + 10**8)
    assert judge(load, parse_objectives("p90 < 10ms")).figures["p90 < 10ms"].met
    found = judge(load, parse_objectives("p90 < 10ms"))
    assert found.met is False
    assert "p90 grew to 30 ms in the second half" in found.why


def test_overload_is_not_met_and_says_why():
    found = judge(queue(1200), P99)
    assert found.met is False
    assert any("of the transactions due were served in time" in why for why in found.why)
    assert found.served_per_s < 1050


@pytest.mark.parametrize("rate", [5, 40])
def test_too_few_transactions_are_no_answer(rate):
    assert met(rate, seconds=20) is None
    assert judge(Load.of(np.zeros(0, int), np.zeros(0, int), 0, 10**9), P99).met is None


def test_several_objectives_must_all_be_met():
    both = parse_objectives("p99 < 20ms and abort-rate < 1%")
    assert judge(queue(500), both).met
    strict = parse_objectives("p99 < 20ms and abort-rate < 0.4 %")
    found = judge(queue(500), strict)
    assert found.met is False
    assert found.why == ("abort-rate was 0.5 %",)


def test_an_abort_rate_of_fewer_than_a_hundred_attempts_is_no_answer():
    limit = parse_objectives("abort-rate < 1%")
    for finished, answer in ((99, None), (100, True)):
        load = replace(queue(500), refused=0, finished=finished)
        assert judge(load, limit).met is answer
    assert judge(replace(queue(500), refused=2, finished=100), limit).met is False


@pytest.mark.parametrize("name", ["p50", "p99.9", "max", "mean"])
def test_every_statistic_is_that_of_the_samples(name):
    values = np.random.default_rng(1).exponential(1e6, 20_000)
    by_hand = {"max": values.max(), "mean": values.mean()}
    quantile = {"p50": 0.5, "p99.9": 0.999}.get(name)
    expected = by_hand[name] if quantile is None else np.quantile(values, quantile)
    assert statistic(name, values) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize(
    "text",
    ["p99", "p98 < 1ms", "p99 < 10", "p99 < 10 min", "abort-rate < 5ms", "p99 > 1ms", "p99 < 0ms",
     "abort-rate < 200%", "", "p99 < 1ms or p50 < 1ms", "max < 90000 s",
     "p50 < " + "9" * 400 + "s"],
)  # fmt: skip
def test_an_objective_that_is_none_is_said(text):
    with pytest.raises(PlanError, match="--slo"):
        parse_objectives(text)


# --- a run ------------------------------------------------------------------------------------


def test_a_runs_arrivals_are_those_its_workers_had(tmp_path):
    plan = make_plan(
        scenario="counter", database="null", writers=2, rate=2000, duration_s=0.6, warmup_s=0.1,
        seed=5,
    )  # fmt: skip
    made = run(plan, tmp_path, name="open")
    load = load_of(made)
    _, stop = made.window_ns
    assert np.all(np.diff(load.due) >= 0)
    assert (load.due < stop).all()
    committed = sum(int((w.attempts["outcome"] == COMMITTED).sum()) for w in made.role("writer"))
    late = sum(
        int(((w.attempts["outcome"] == COMMITTED) & (w.attempts["intended_ns"] >= stop)).sum())
        for w in made.role("writer")
    )
    assert int((load.done > 0).sum()) == committed - late
    assert load.due.size == pytest.approx(1400, rel=0.2)
    # A worker that drew other arrivals is noticed.
    rows = np.load(segment_path(made.folder, 0, 0), mmap_mode="r+")
    rows["intended_ns"] += 1
    rows.flush()
    with pytest.raises(RunError, match="another version"):
        load_of(read_run(made.folder))
    closed = run(make_plan(**{**plan.model_dump(), "rate": 0}), tmp_path, name="closed")
    with pytest.raises(RunError, match="closed loop"):
        load_of(closed)


def test_arrivals_are_a_poisson_process_at_the_rate():
    draw = arrivals(500, 0, np.random.default_rng(1))
    due = np.array([draw() for _ in range(20_000)])
    assert due[-1] / 1e9 == pytest.approx(40, rel=0.03)
