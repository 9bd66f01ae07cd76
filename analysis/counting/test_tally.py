"""Known truths of the counting: rows written by hand, numbers computed by hand."""

import doctest
import importlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from analysis.cli.run_summary import doubts, summary_lines
from analysis.counting.tally import count, count_worker, pooled, together
from analysis.counting.timelines import checkpoints, timeline
from analysis.statistics import abort_rate, batched_rate, jain_index, percentiles
from analysis.synthetic import START_NS, attempts, drawn_run, made_run, made_worker, write_folder
from analysis.synthetic.runs import BUSY_MESSAGE
from workloads.records import (
    BEGIN,
    BUSY,
    COMMIT,
    COMMITTED,
    CONFLICT,
    FAILED,
    OUTCOMES,
    STALE,
    STATEMENT,
    UNKNOWN,
    Foreign,
    read_run,
)

STALE_AT_COMMIT = {"outcome": CONFLICT, "conflict": STALE, "phase": COMMIT, "message": 2}
BUSY_AT_BEGIN = {"outcome": CONFLICT, "conflict": BUSY, "phase": BEGIN, "message": 1}


def one(rows, **more):
    run = made_run([made_worker(0, rows)], **more)
    return count(run, run.window_ns).roles["writer"]


@pytest.mark.parametrize("module", ["wording", "statistics.estimators", "statistics.blocks"])
def test_the_examples_in_the_docstrings_run(module):
    found = doctest.testmod(importlib.import_module(f"analysis.{module}"))
    assert found.attempted > 0
    assert found.failed == 0


def test_one_retried_transaction_is_timed_from_its_intended_start():
    tally = one(
        attempts(
            {"txn": 0, "intended": 100, "start": 150, "begun": 160, "worked": 200, "end": 230}
            | STALE_AT_COMMIT,
            {"txn": 0, "attempt": 2, "start": 300, "begun": 305, "worked": 350, "end": 360},
        )
    )
    took = {stage: (values / 1000).tolist() for stage, values in tally.latency_ns.items()}
    assert took == {
        "queueing": [50],  # 150 - 100
        "begin": [5],
        "work": [45],
        "commit": [10],
        "service": [60],  # the try that committed
        "whole": [260],  # 360 - 100: the refused try and the back-off are in it
    }
    assert tally.attempts == 2
    assert tally.committed == tally.conflicted == 1
    assert tally.tries.tolist() == [0, 0, 1]
    assert tally.wasted == pytest.approx(80 / 140)  # the back-off from 230 to 300 is in neither
    assert tally.conflict_table() == [("stale", "commit", 1)]


def test_each_attempt_is_in_exactly_one_term_of_the_equation():
    tally = one(
        attempts(
            {"start": 10, "end": 20},
            {"start": 30, "end": 40} | STALE_AT_COMMIT,
            {"start": 50, "end": 60} | BUSY_AT_BEGIN,
            {"start": 70, "end": 80, "outcome": FAILED, "phase": STATEMENT},
            {"start": 90, "end": None, "outcome": UNKNOWN},
        )
    )
    assert tally.outcomes.tolist() == [0, 1, 2, 1, 1]
    assert tally.attempts == 5
    assert tally.finished == 4
    assert tally.abort_rate[1] == 0.5  # `unknown` is in neither count
    assert tally.given_up == 2


@pytest.mark.parametrize(
    ("policy", "most_tries", "given_up"),
    [("exponential", 0, 0), ("none", 0, 1), ("immediate", 1, 1), ("immediate", 2, 0)],
)
def test_a_last_transaction_that_met_the_end_of_the_run_is_not_given_up(
    policy, most_tries, given_up
):
    plan = {"retry": {"policy": policy, "most_tries": most_tries}}
    tally = one(attempts({"start": 10, "end": 20} | BUSY_AT_BEGIN), plan=plan)
    assert tally.given_up == given_up
    assert tally.unfinished == 1 - given_up


def test_warm_up_and_stragglers_are_not_counted():
    rows = attempts(
        {"start": 0, "end": 999_999},  # warm-up: one second
        {"start": 999_999, "end": 1_000_000},
        {"start": 1_500_000, "end": 2_000_000},
        {"start": 1_900_000, "end": 2_000_001},  # ended after the window: a straggler
    )
    tally = one(rows, warmup_s=1.0)
    assert tally.committed == 2
    assert tally.per_s == 2.0
    assert tally.unfinished == 1
    assert tally.oldest_ns == 100_000_000


def test_a_writer_that_waits_for_the_whole_run_is_seen_though_it_has_no_latency():
    tally = one(attempts({"start": 0, "end": None, "outcome": UNKNOWN}))
    assert tally.committed == 0
    assert np.isnan(tally.latency()["whole"]).all()
    assert tally.longest_ns == 1_000_000_000


def test_cpu_time_is_shared_by_the_transactions_of_the_whole_run():
    rows = attempts({"start": 0, "end": 10}, {"start": 1_000_020, "end": 1_000_030})
    run = made_run([made_worker(0, rows, cpu_s=50e-6)], warmup_s=1.0)
    assert count(run).roles["writer"].cpu_us == pytest.approx(25)


def test_a_servers_cpu_time_is_shared_alike_by_all_who_committed_in_the_window():
    rows = attempts({"start": 0, "end": 10}, {"start": 20, "end": 30}, {"start": 40, "end": 50})
    workers = [
        made_worker(0, rows, cpu_s=30e-6),
        made_worker(1, rows[:1], role="reader", cpu_s=10e-6),
    ]
    run = made_run(workers)
    alone = count(run)
    run.manifest.foreign = Foreign(own_cpu_s=1.0, server_cpu_s=80e-6)
    beside = count(run)
    for role in ("writer", "reader"):
        assert alone.roles[role].cpu_us == pytest.approx(10)
        assert beside.roles[role].cpu_us == pytest.approx(30)
        assert alone.roles[role].server_us == 0
        assert beside.roles[role].server_us == pytest.approx(20)
    assert "30.0 µs a transaction, 20.0 of them the server's" in " ".join(summary_lines(run))


def test_the_engines_words_are_counted_by_phase_and_kind():
    rows = attempts(*({"start": 10 * i + 1, "end": 10 * i + 5} | BUSY_AT_BEGIN for i in range(3)))
    assert one(rows).messages == {("begin", "busy", BUSY_MESSAGE): 3}


def test_words_that_were_not_kept_do_not_stop_the_count():
    rows = attempts({"start": 10, "end": 20} | BUSY_AT_BEGIN | {"message": 65535})
    assert list(one(rows).messages) == [("begin", "busy", "(words not kept)")]


@pytest.mark.parametrize(("samples", "known"), [(19, 0), (20, 1), (100, 2), (999, 2), (1000, 3)])
def test_a_percentile_needs_ten_samples_beyond_it(samples, known):
    assert np.isfinite(percentiles(np.arange(samples))[:4]).sum() == known


def test_the_wilson_interval_is_the_one_of_the_textbook():
    # Newcombe 1998, table I: 81/263 and 0/20, 95 %.
    assert abort_rate(81, 263) == pytest.approx([0.2553, 0.308, 0.3662], abs=5e-5)
    assert abort_rate(0, 20) == pytest.approx([0, 0, 0.1611], abs=5e-5)


@pytest.mark.parametrize(("conflicts", "finished"), [(3, 2), (-1, 2), (0, -1)])
def test_impossible_counts_are_refused(conflicts, finished):
    with pytest.raises(ValueError, match="conflicts"):
        abort_rate(conflicts, finished)


@given(st.integers(0, 10**9), st.integers(1, 10**9), st.floats(0.5, 0.999))
def test_the_interval_holds_the_rate_and_lies_between_0_and_1(conflicts, more, confidence):
    low, rate, high = abort_rate(conflicts, conflicts + more, confidence=confidence)
    assert 0 <= low <= rate <= high <= 1
    theirs = binomtest(conflicts, conflicts + more).proportion_ci(confidence, method="wilson")
    assert (low, high) == pytest.approx(tuple(theirs), abs=1e-9)


def test_without_a_finished_attempt_there_is_no_rate():
    assert np.isnan(abort_rate(0, 0)).all()


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=64))
def test_jains_index_lies_between_one_in_n_and_1(amounts):
    index = jain_index(amounts)
    if not any(amounts):
        assert np.isnan(index)
    else:
        assert 1 / len(amounts) - 1e-9 <= index <= 1 + 1e-9


CLOSED = st.tuples(
    st.integers(0, 2_000_000),
    st.integers(0, 500_000),
    st.sampled_from([COMMITTED, CONFLICT, FAILED]),
    st.integers(1, 5),
    st.integers(1, 3),
)


@st.composite
def worker_rows(draw):
    rows = [
        {"start": start, "end": start + took, "outcome": outcome}
        | ({"conflict": kind, "phase": phase} if outcome == CONFLICT else {})
        for start, took, outcome, kind, phase in sorted(draw(st.lists(CLOSED, max_size=30)))
    ]
    if draw(st.booleans()):
        rows.append({"start": draw(st.integers(0, 3_000_000)), "end": None, "outcome": UNKNOWN})
    for index, row in enumerate(rows[1:], 1):
        if rows[index - 1]["outcome"] == CONFLICT and draw(st.booleans()):
            row["txn"], row["attempt"] = rows[index - 1].get("txn", index - 1), 2
    return attempts(*rows)


WINDOW = (START_NS + 500_000_000, START_NS + 1_500_000_000)


@given(st.lists(worker_rows(), min_size=1, max_size=4), st.randoms())
def test_attempts_are_conserved_and_the_order_of_workers_does_not_matter(parts, random):
    tallies = [count_worker(made_worker(n, rows), WINDOW) for n, rows in enumerate(parts)]
    tally = together(tallies)
    assert tally.attempts == tally.committed + tally.conflicted + tally.failed + tally.unknown
    assert tally.conflicts.sum() == tally.conflicted
    assert tally.tries.sum() == tally.committed == len(tally.latency_ns["whole"])
    assert tally.commits_each.sum() == tally.committed
    assert tally.outcomes.shape == (len(OUTCOMES),)
    assert 0 <= tally.wasted_ns <= tally.attempts_ns
    assert all((values >= 0).all() for values in tally.latency_ns.values())
    assert (tally.latency_ns["whole"] >= tally.latency_ns["service"]).all()
    random.shuffle(tallies)
    again = together(tallies)
    assert again.attempts == tally.attempts
    assert again.fairness == pytest.approx(tally.fairness, nan_ok=True)
    assert np.array_equal(again.latency()["whole"], tally.latency()["whole"], equal_nan=True)


def test_pooling_runs_adds_their_windows_up():
    parts = [count(drawn_run(seed, per_s=1000)).roles["writer"] for seed in (1, 2)]
    both = pooled(parts)
    assert both.committed == parts[0].committed + parts[1].committed
    assert both.per_s == pytest.approx((parts[0].per_s + parts[1].per_s) / 2)


def test_nothing_to_add_up_is_said():
    with pytest.raises(ValueError, match="no worker of that role"):
        together([])


def test_starvation_shows_in_the_parts_and_not_in_the_pool():
    run = drawn_run(3, per_s=[5599, 923, 1, 1])
    counted = count(run, run.window_ns)
    tally = counted.roles["writer"]
    assert tally.fairness == pytest.approx(6524**2 / 4 / (5599**2 + 923**2 + 2))
    assert tally.worst_share == pytest.approx(1 / 6524)
    assert np.isfinite(tally.latency()["whole"][2])
    assert np.isfinite(counted.worst_p99("writer")).all()


def test_the_timeline_holds_every_commit_of_the_window():
    run = drawn_run(4, per_s=2000)
    edges_s, per_s = timeline(run, bins=10)
    assert edges_s[[0, -1]].tolist() == [0, 1]
    assert per_s.sum() * 0.1 == pytest.approx(count(run, run.window_ns).roles["writer"].committed)


def test_checkpoints_come_in_the_order_of_time():
    rows = attempts(
        {"start": 500_000, "end": 510_000, "result": 80},
        {"start": 600_000, "end": 620_000, "result": 7},
    )
    both = [
        made_worker(0, rows[1:], role="checkpointer"),
        made_worker(1, rows[:1], role="checkpointer"),
    ]
    found = checkpoints(made_run(both))
    assert found["frames"].tolist() == [80, 7]
    assert found["took_s"].tolist() == pytest.approx([0.01, 0.02])


def test_a_run_folder_is_said_in_the_same_words_as_the_run(tmp_path):
    run = drawn_run(5, per_s=800, abort=0.02, readers=2)
    lines = summary_lines(run)
    assert summary_lines(read_run(write_folder(run, tmp_path / "run"))) == lines
    text = "\n".join(lines)
    for part in ("4 writers, libsql BEGIN IMMEDIATE", "2 readers", "abort rate", "p99.9", "Jain"):
        assert part in text


def test_a_worker_that_had_another_loop_than_planned_is_said():
    rows = drawn_run(5).workers[0].attempts
    workers = [made_worker(number, rows, loop=loop) for number, loop in enumerate(("C", "Python"))]
    run = made_run(workers)
    run.manifest.plan.loop = "C"
    (said,) = [line for line in doubts(run, count(run)) if "hot loop" in line]
    assert said.startswith("1 of 2 workers had the hot loop in Python")
    alike = made_run([made_worker(0, rows, loop="Python")])
    assert not [line for line in doubts(alike, count(alike)) if "hot loop" in line]


def test_a_run_without_a_single_attempt_is_said_and_not_an_error():
    text = "\n".join(summary_lines(made_run([made_worker(0, attempts())])))
    assert "0 tx/s committed" in text
    assert "nan" not in text


def test_what_makes_a_run_doubtful_is_said():
    dead = made_worker(0, attempts(), state="died", account="killed by signal 9")
    run = made_run([dead], foreign={"cpu_share": 0.2, "steal_share": 0.06}, ended="worker died")
    text = "\n".join(doubts(run, count(run)))
    for part in ("used 20 %", "took 6 %", "ended early: worker died", "Writer 0 died: killed by"):
        assert part in text
    clean = drawn_run(6)
    assert doubts(clean, count(clean)) == []


def test_a_broken_invariant_is_said_with_its_sentence():
    broken = {"check": "total", "ok": False, "sentence": "expected 100, found 99", "evidence": {}}
    text = "\n".join(summary_lines(drawn_run(7, findings=[broken], ok=False)))
    assert "BROKEN  total: expected 100, found 99" in text


def test_a_run_in_which_no_attempt_ended_says_so():
    rows = attempts({"start": 0, "end": 3_000_000})
    text = "\n".join(summary_lines(made_run([made_worker(0, rows)], seconds=1.0)))
    assert "No attempt of a writer ended in the measured window: 1 were open" in text
    assert "No attempt" not in "\n".join(summary_lines(drawn_run(3, per_s=2000)))


def test_an_interval_of_refusals_that_come_in_clusters_covers_where_wilsons_does_not():
    """Planted: the chance to be refused wanders through a run, and differs threefold within it."""
    rng = np.random.default_rng(412)
    held = {"batches": 0, "wilson": 0}
    for _ in range(300):
        steps = np.repeat(rng.gamma(2.0, 0.05, 200), 50)  # stretches of 50 attempts, mean 0.1
        refused = rng.random(steps.size) < steps
        each = refused.reshape(20, -1).sum(axis=1)
        low, _, high = batched_rate(each, np.full(20, refused.size // 20))
        held["batches"] += low <= 0.1 <= high
        low, _, high = abort_rate(int(refused.sum()), refused.size)
        held["wilson"] += low <= 0.1 <= high
    assert 0.92 <= held["batches"] / 300 <= 0.98
    assert held["wilson"] / 300 < 0.8


def test_a_run_where_nobody_was_refused_has_an_interval_from_nothing_up():
    low, rate, high = batched_rate([0] * 20, [50] * 20)
    assert (low, rate) == (0, 0) and 0 < high < 0.01
    assert np.isnan(batched_rate([0] * 20, [0] * 20)).all()
