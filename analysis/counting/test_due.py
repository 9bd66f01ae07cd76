"""Who was due in an open loop counts, also who was never begun: on queues whose truth is known."""

from __future__ import annotations

import csv
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.cli import entry as cli
from analysis.cli.run_summary import doubts, rate_line, summary_lines
from analysis.counting import due as due_module
from analysis.counting.cells_table import cells_table
from analysis.counting.due import MOST_DRAWN, NotDrawn, arrivals_of
from analysis.counting.latency import latency_intervals, whole_in_order
from analysis.counting.measured import gather
from analysis.counting.steady import steady_state
from analysis.counting.tables_out import export
from analysis.counting.tally import Tally, count, pooled
from analysis.counting.transactions import given_up, transactions
from analysis.report import arms_table, doubt_lines
from analysis.report.tables import attempts_table, latency_table
from analysis.search import parse_objectives
from analysis.search.objective import judge, load_of
from analysis.statistics import percentile_intervals, percentiles
from analysis.synthetic import (
    START_NS,
    made_experiment,
    made_run,
    made_worker,
    open_loop,
    write_folder,
)
from workloads.errors import RunError
from workloads.experiments import read_experiment
from workloads.records import (
    ATTEMPT,
    COMMITTED,
    CONFLICT,
    FAILED,
    UNKNOWN,
    Recent,
    Rows,
    Run,
    read_run,
    segment_path,
)
from workloads.runs import ARRIVALS, ROLES, due_before, make_plan, pacing, run
from workloads.runs.pacing import arrivals


def tally_of(made: Run) -> Tally:
    return count(made, made.window_ns).roles["writer"]


def all_due(made: Run) -> np.ndarray:
    """The arrivals within the window, drawn one by one as a worker does."""
    first, stop = made.window_ns
    plan, start = made.manifest.plan, made.manifest.window.start_ns
    found = []
    for worker in made.role("writer"):
        rng = np.random.default_rng([plan.seed, 0, worker.number, ARRIVALS])
        draw = arrivals(plan.rate / plan.writers, start, rng)
        while (when := draw()) < stop:
            found.append(when)
    due = np.array(found)
    return due[due >= first]


# --- the truth ---------------------------------------------------------------------------------


def test_who_was_never_served_is_in_every_percentile_as_longer_than_all_others() -> None:
    made = open_loop(1000, 430, seconds=2.0)
    tally, due = tally_of(made), all_due(made)
    assert tally.due is not None
    stop = made.window_ns[1]
    done = sum(int((w.attempts["end_ns"] <= stop).sum()) for w in made.workers)
    assert tally.due.many == len(due) == pytest.approx(2000, rel=0.1)
    assert tally.due.served == done == tally.committed
    assert tally.due.share == pytest.approx(0.43, abs=0.03)
    assert not tally.due.met
    served = percentiles(tally.latency_ns["whole"])
    value, least = tally.whole().T
    assert np.isfinite(served[:2]).all()  # as if all were well, were it not said
    assert np.isinf(value[[0, 1, 4]]).all()
    # Half of all lasted at least as long as the half of them had when the window closed.
    latest = np.concatenate([tally.latency_ns["whole"], stop - np.sort(due)[done:]])
    assert least[0] == pytest.approx(np.median(latest), rel=0.02)
    assert (least[[0, 1, 4]] > 0).all() and np.isfinite(least[[0, 1, 4]]).all()


def test_it_is_said_in_one_line_and_never_as_a_number_of_those_served() -> None:
    made = open_loop(1000, 430, seconds=4.0)
    tally = tally_of(made)
    lines = summary_lines(made, 300)
    (text,) = (line for line in lines if "Rate not met" in line)
    assert tally.due is not None
    assert (
        f"In the window {tally.due.many:,} transactions were due and {tally.due.served:,}" in text
    )
    assert "1,000 a second were due" in text and "never begun, the oldest for 2." in text
    (whole,) = (line for line in lines if line.split()[:1] == ["whole"])
    assert whole.count("≥ ") == 4  # p50, p90, p99 and the maximum; p99.9 has too few
    workers = [line for line in lines if line.split()[:1] in (["0"], ["1"])]
    assert len(workers) == 2 and all("≥ " in line for line in workers)
    assert "worst p99 ≥ " in "".join(lines)


@given(st.integers(0, 10**6), st.sampled_from([20.0, 90.0, 300.0]), st.sampled_from([0.0, 0.5]))
def test_far_below_what_the_store_can_do_nothing_changes(
    seed: int, per_s: float, warmup_s: float
) -> None:
    made = open_loop(per_s, 60_000, seconds=2.0, warmup_s=warmup_s, seed=seed)
    tally = tally_of(made)
    assert tally.due is not None and tally.due.met and rate_line(tally) == ""
    assert len(tally.due.due_ns) in (tally.due.many, tally.due.many - 1)
    # All but whoever was under way when the window opened or closed.
    served, due = sorted(tally.latency_ns["whole"].tolist()), sorted(tally.due.whole_ns.tolist())
    assert abs(len(served) - len(due)) <= 2 and max(due, default=0) < np.inf
    assert tally.whole()[:, 0] == pytest.approx(tally.latency()["whole"], nan_ok=True)
    if due == served:
        assert np.array_equal(tally.whole()[:, 0], percentiles(served), equal_nan=True)


def test_the_rate_that_is_just_met_is_met() -> None:
    assert rate_line(tally_of(open_loop(400, 800, seconds=2.0))) == ""
    assert rate_line(tally_of(open_loop(1000, 950, seconds=4.0))) != ""


def test_arrivals_drawn_at_once_are_those_drawn_one_by_one() -> None:
    one = arrivals(50_000, 10**9, np.random.default_rng(3))
    each = [one() for _ in range(10_000)]
    for stop in (each[0], each[1], each[4095], each[4096], each[9_999], each[9_998] + 1):
        found = due_before(stop, 50_000, 10**9, np.random.default_rng(3))
        assert found.tolist() == [when for when in each if when < stop]
    assert due_before(each[99], 5e4, 10**9, np.random.default_rng(3), 7).tolist() == each[:7]


def test_what_was_given_up_or_failed_was_never_served_and_what_is_unknown_is_not_known() -> None:
    made = open_loop(200, 60_000, seconds=2.0, writers=1, plan={"retry": {"policy": "none"}})
    rows = made.workers[0].attempts
    outcomes = np.full(len(rows), COMMITTED)
    outcomes[::10], outcomes[1::10], outcomes[2::10] = FAILED, CONFLICT, UNKNOWN
    rows["outcome"] = outcomes
    tally = tally_of(made)
    assert tally.due is not None
    ends = (rows["end_ns"] <= made.window_ns[1]).sum()
    assert tally.due.served == (outcomes == COMMITTED).sum() == tally.committed
    assert tally.due.given_up == len(outcomes[::10]) + len(outcomes[1::10])
    assert tally.due.begun == ends == tally.due.many
    assert np.isinf(tally.due.least_ns).sum() == tally.due.given_up
    assert np.isinf(tally.due.whole_ns).sum() == tally.due.many - tally.due.served
    assert f"of the others {tally.due.given_up} failed or given up, " in rate_line(tally)
    assert np.isinf(tally.whole()[1]).all()  # p90: never


def test_a_killed_writers_arrivals_are_due_all_the_same() -> None:
    made = open_loop(400, 60_000, seconds=2.0)
    first = made.workers[0]
    kept = first.attempts[: len(first.attempts) // 4]
    made = dataclasses.replace(
        made, workers=(dataclasses.replace(first, rows=Rows(kept)), *made.workers[1:])
    )
    counted = count(made, made.window_ns)
    dead, alive = (w.tally.due for w in counted.of("writer"))
    assert dead is not None and alive is not None
    assert alive.met and not dead.met
    assert dead.many == len(first.attempts) and dead.share == pytest.approx(0.25, abs=0.01)
    assert dead.oldest_ns > 1.3e9
    assert counted.roles["writer"].longest_ns == dead.oldest_ns


def test_transactions_counted_are_all_that_are_due() -> None:
    made = open_loop(1000, 400, seconds=2.0, plan={"transactions": 50})
    for worker in made.workers:
        assert len(arrivals_of(made, worker)) == 50


def test_runs_pooled_have_everybody_of_each() -> None:
    parts = [tally_of(open_loop(1000, 430, seed=seed)) for seed in (1, 2)]
    both = pooled(parts)
    assert both.due is not None and all(part.due is not None for part in parts)
    assert both.due.many == sum(part.due.many for part in parts if part.due)
    assert both.due.asked_per_s == pytest.approx(1000)
    assert np.isinf(both.whole()[0, 0])


def test_what_cannot_be_drawn_again_is_said_and_is_no_error() -> None:
    made = open_loop(1000, 430)
    made.workers[1].attempts["intended_ns"] += 1
    text = "\n".join(doubts(made, count(made)))
    done = count(made).roles["writer"].committed
    assert (
        f"latencies of writers are those of {done} commits alone, not of all due: worker 1's"
        in (text)
    )
    cut = open_loop(1000, 430)
    cut.manifest.window.model_fields_set.discard("start_ns")
    assert "its manifest does not say when it began" in "\n".join(doubts(cut, count(cut)))
    huge = open_loop(1000, 430)
    huge.manifest.plan.rate = 1e7
    huge.manifest.window.stop_ns += 10**9
    assert f"more than the {MOST_DRAWN:,}" in "\n".join(doubts(huge, count(huge)))
    assert count(huge).roles["writer"].due is None
    with pytest.raises(NotDrawn, match="drawn again at most"):
        load_of(huge)


def test_a_long_run_that_kept_up_is_drawn_however_many_were_due(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(due_module, "MOST_DRAWN", 100)
    kept_up = open_loop(1000, 60_000)
    assert count(kept_up).roles["writer"].due is not None
    (first, _) = kept_up.workers
    alone = dataclasses.replace(kept_up, workers=())  # as an export reads it: worker by worker
    assert len(arrivals_of(alone, first)) == len(first.attempts)
    assert count(open_loop(1000, 100)).roles["writer"].due is None


def test_search_and_show_judge_the_same_people() -> None:
    made = open_loop(1000, 430, seconds=4.0)
    found = judge(load_of(made), parse_objectives("p50 < 10ms"))
    tally = count(made).roles["writer"]
    assert found.met is False and not tally.due.met if tally.due else False
    assert found.figures["p50 < 10ms"].value == tally.whole()[0, 0] == np.inf


# --- where it is told --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three arms of an open loop, of which one keeps up, in six blocks."""
    arms = {
        arm: {"database": "libsql", "rate": 1000, "busy_timeout_ms": 2000 + at, "writers": 2}
        for at, arm in enumerate(("keeps up", "does not", "nor does this"))
    }
    return made_experiment(
        tmp_path_factory.mktemp("open") / "open",
        arms,
        lambda arm, block: open_loop(
            1000,
            30_000 if arm == "keeps up" else 430,
            seed=block,
            plan={"busy_timeout_ms": arms[arm]["busy_timeout_ms"]},
        ),
        blocks=6,
        baseline="keeps up",
    )


def test_a_sweeps_tables_tell_who_was_not_served(sweep: Path) -> None:
    measured = gather(read_experiment(sweep))
    table = arms_table(measured)
    p99 = {row[0]: row[table.head.index("p99")] for row in table.rows}
    assert p99["does not"].startswith("≥ ") and not p99["keeps up"].startswith("≥")
    (text,) = (line for line in doubt_lines(measured) if "did not meet the rate" in line)
    assert text.startswith("12 cells did not meet the rate that was asked for, the first b00, does")
    cells = cells_table(measured)
    rows = [dict(zip(cells.head, row, strict=True)) for row in cells.rows]
    slow = [row for row in rows if row["arm"] == "does not"]
    assert {row["p99_us"] for row in slow} == {"inf"}
    assert all(float(row["served"]) < 0.5 and float(row["due_per_s"]) > 900 for row in slow)


def test_the_reports_tables_tell_who_was_not_served(sweep: Path) -> None:
    measured = gather(read_experiment(sweep))
    latency = {row[0]: row for row in latency_table(measured).rows}
    assert latency["does not"][2].startswith("≥ ") and "≥" not in latency["keeps up"][2]
    attempts = attempts_table(measured)
    at = attempts.head.index("served in time (tx)")
    (slow,) = (row for row in attempts.rows if row[0] == "does not")
    assert slow[at].endswith("(43 %)") or slow[at].endswith("(42 %)")


def test_compare_takes_the_percentiles_over_all_due(
    sweep: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["cwkit", "compare", f"{sweep}:keeps up", f"{sweep}:does not", "--measure", "p99"]
    monkeypatch.setattr(sys, "argv", [*argv, "--json", "--fail-if", "p99 > 2"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    (found,) = json.loads(capsys.readouterr().out)["comparisons"]
    assert found["ratio"] == "infinite" and found["verdict"] == "claimed"
    assert "6 of 6 runs of does not did not meet the rate" in "".join(found["notes"])
    back = [*argv[:2], f"{sweep}:does not", f"{sweep}:nor does this", "--measure", "p99"]
    monkeypatch.setattr(sys, "argv", back)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 3
    assert "it lies among those never served" in capsys.readouterr().out


def test_everybody_who_was_due_can_be_exported(sweep: Path, tmp_path: Path) -> None:
    made = open_loop(1000, 430)
    folder = write_folder(made, tmp_path / "run")
    rows = export(folder, "parquet", "due", tmp_path / "due.parquet")
    table = pyarrow.parquet.read_table(tmp_path / "due.parquet").to_pydict()
    tally = tally_of(made)
    assert tally.due is not None
    assert rows == tally.due.many == sum(table["measured"])
    assert sum(table["served"]) == tally.due.served
    assert sum(table["begun"]) == tally.due.begun
    assert sum(done is None for done in table["done_ns"]) == rows - tally.due.begun
    assert max(table["waited_ns"]) == max(tally.due.least_ns)
    assert export(sweep, "csv", "due", tmp_path / "due.csv") > 6 * rows
    with (tmp_path / "due.csv").open(newline="") as file:
        assert {row["arm"] for row in csv.DictReader(file)} == {
            "keeps up",
            "does not",
            "nor does this",
        }
    closed = write_folder(open_loop(1000, 430, plan={"rate": 0}), tmp_path / "closed")
    with pytest.raises(RunError, match="closed loop"):
        export(closed, "csv", "due", tmp_path / "x.csv")


# --- real runs ---------------------------------------------------------------------------------

SLOW = {
    "scenario": "counter", "database": "null", "writers": 2, "think_us": 5_000, "think": "sleep",
}  # fmt: skip


def real(tmp_path: Path, rate: float, **more: object) -> Run:
    values = dict(SLOW)
    params = {name: values.pop(name) for name in ("think_us", "think")}
    plan = make_plan(**values, params=params, rate=rate, duration_s=1.0, warmup_s=0.2, **more)
    return run(plan, tmp_path)


def test_a_real_run_above_what_it_can_do_says_so(tmp_path: Path) -> None:
    """Two writers that sleep 5 ms in each transaction serve less than 400 a second."""
    made = real(tmp_path, 2000, seed=3)
    tally = tally_of(made)
    assert tally.due is not None
    assert tally.due.many == len(all_due(made))
    assert tally.due.share < 0.3 and not tally.due.met
    assert np.isinf(tally.whole()[:3, 0]).all()
    assert "Rate not met: 2,000 a second were due" in " ".join(summary_lines(made))


def test_a_real_run_far_below_what_it_can_do_is_as_it_was(tmp_path: Path) -> None:
    made = real(tmp_path, 40, seed=4)
    first, stop = made.window_ns
    tally = tally_of(made)
    rows = np.concatenate([w.attempts for w in made.workers])
    rows = rows[(rows["intended_ns"] >= first) & (rows["intended_ns"] < stop)]
    took = np.sort(rows["end_ns"] - rows["intended_ns"])
    assert tally.due is not None
    known = np.sort(tally.due.whole_ns[np.isfinite(tally.due.whole_ns)])
    assert known.tolist() == took.tolist() and len(took) > 20
    if tally.due.served == tally.due.many:  # the machine did not stand still just at its end
        text = "\n".join(summary_lines(made))
        assert "Rate not met" not in text and "≥" not in text


def test_of_a_killed_writer_all_that_were_due_are_known(tmp_path: Path) -> None:
    killed: list[int] = []

    def kill(progress: object) -> None:
        if getattr(progress, "committed", 0) > 10 and not killed:
            (folder,) = tmp_path.iterdir()
            assert (folder / "worker-000.account.json").exists()
            (mine,) = (
                child
                for child in psutil.Process().children()
                if child.cmdline()[-2:] == ["work", "0"] and folder.exists()
            )
            killed.append(mine.pid)
            mine.kill()

    plan = make_plan(
        scenario="counter", database="null", writers=2, rate=400, duration_s=3.0, warmup_s=0, seed=5
    )
    made = run(plan, tmp_path, on_progress=kill)
    assert killed and made.manifest.ended == "worker died"
    tally = tally_of(made)
    assert tally.due is not None and tally.due.many == len(all_due(made))


# --- as it was, with all rows and all arrivals at hand -----------------------------------------


def odd_open_loop(seed: int, folder: Path) -> tuple[Run, Run]:
    """An open loop of odd rows, read from files of some rows each, and the same in memory."""
    rng = np.random.default_rng([11, seed])
    writers, rate, warmup_s = int(rng.integers(1, 4)), float(rng.choice([20, 300, 900])), 0.2
    seconds = float(rng.choice([0.5, 8.0]))  # so that some waited longer than four seconds
    stop = START_NS + int((warmup_s + seconds) * 1e9)
    retry = {"policy": str(rng.choice(["none", "exponential"])), "base_us": 1, "cap_us": 1,
             "most_tries": int(rng.integers(0, 4))}  # fmt: skip
    workers = []
    for number in range(writers):
        own = np.random.default_rng([412, ROLES.index("writer"), number, ARRIVALS])
        due = due_before(stop + 10**8, rate / writers, START_NS, own)
        made = int(rng.integers(0, len(due) + 1))
        tries = rng.integers(1, 4, made)
        txn = np.repeat(np.arange(made), tries)
        if made and rng.random() < 0.3:  # some are missing, or not in order: nobody of ours
            kept = np.flatnonzero(rng.random(made) < 0.9)
            if rng.random() < 0.5:
                rng.shuffle(kept)
            txn = np.concatenate([np.flatnonzero(txn == one) for one in kept] or [txn[:0]])
            txn = np.repeat(np.arange(made), tries)[txn]
        rows = np.zeros(len(txn), ATTEMPT)
        new = np.append(True, txn[1:] != txn[:-1])[: len(txn)]
        place = np.arange(len(txn))
        rows["txn"] = txn
        rows["attempt"] = place - np.maximum.accumulate(np.where(new, place, 0)) + 1
        rows["intended_ns"] = due[txn]
        steps = np.cumsum(rng.integers(0, int(2e9 / rate), (len(txn), 4)), axis=1)
        late = int(rng.choice([0, 10**9, 5 * 10**9]))
        for name, column in zip(("start_ns", "begun_ns", "worked_ns", "end_ns"), steps.T,
                                strict=True):  # fmt: skip
            rows[name] = due[txn] + late + column
        last = np.append(txn[1:] != txn[:-1], True)[: len(txn)]
        some = rng.choice([COMMITTED, CONFLICT, FAILED, UNKNOWN], len(txn), p=[0.7, 0.1, 0.1, 0.1])
        rows["outcome"] = np.where(last, some, CONFLICT)
        if len(rows) and rng.random() < 0.5:
            rows["end_ns"][-1] = rows["outcome"][-1] = 0
        workers.append(made_worker(number, rows))
    plan = {"rate": rate, "seed": 412, "retry": retry}
    made_up = made_run(workers, seconds=seconds, warmup_s=warmup_s, plan=plan)
    write_folder(made_up, folder)
    for worker in workers:
        rows = worker.attempts
        size = max(int(rng.integers(5, 60)), len(rows) // 30)
        for segment, at in enumerate(range(0, max(len(rows), 1), size)):
            np.save(segment_path(folder, worker.worker, segment), rows[at : at + size])
    stored = read_run(folder)
    whole = tuple(dataclasses.replace(w, rows=Rows(w.attempts.copy())) for w in stored.workers)
    return dataclasses.replace(stored, workers=whole), stored


def due_as_it_was(made: Run, number: int, window_ns: tuple[int, int]) -> dict[str, Any]:
    """One worker's `Due`, with arrays of all its arrivals."""
    worker, (first, stop), plan = made.workers[number], window_ns, made.manifest.plan
    rng = np.random.default_rng([plan.seed, 0, number, ARRIVALS])
    began = made.manifest.window.start_ns
    due = due_before(made.window_ns[1], plan.rate / plan.writers, began, rng)
    rows = worker.attempts
    _, lasts, _ = transactions(rows)
    left = given_up(rows, lasts, plan.retry)
    done, least = np.zeros(due.size, np.int64), np.maximum(stop - due, 0).astype(float)
    begun, over, unknown = (np.zeros(due.size, bool) for _ in range(3))
    for row, gone in zip(rows[lasts], left, strict=True):
        at = int(row["txn"])
        if at >= due.size:
            continue
        begun[at] = True
        if row["outcome"] == COMMITTED:
            done[at] = row["end_ns"]
            least[at] = row["end_ns"] - due[at]
        elif row["outcome"] == UNKNOWN:
            unknown[at] = True
            seen = max(row["start_ns"], row["begun_ns"], row["worked_ns"])
            least[at] = max(seen - due[at], 0)
        elif row["outcome"] == FAILED or (row["outcome"] == CONFLICT and gone):
            over[at], least[at] = True, np.inf
    waiting = (done == 0) & ~over & ~unknown
    mine = (due >= first) & (due < stop)
    in_time = mine & (done > 0) & (done <= stop)
    known = mine & ~(waiting & (due >= stop - due_module.grace_ns(window_ns, 0.01)))
    judged = mine & (due < stop - due_module.grace_ns(window_ns, 0.1))
    return {
        "due_ns": due[known],
        "whole_ns": np.where(done > 0, least, np.inf)[known],
        "least_ns": least[known],
        "many": int(mine.sum()),
        "served": int(in_time.sum()),
        "begun": int((begun & mine).sum()),
        "given_up": int((over & mine).sum()),
        "judged": int(judged.sum()),
        "judged_served": int((judged & in_time).sum()),
        "unknown": int((unknown & mine).sum()),
        "oldest_ns": int(stop - due[waiting].min()) if waiting.any() else 0,
    }


def load_as_it_was(made: Run) -> tuple[np.ndarray, np.ndarray, int, int]:
    first, stop = steady_state(made).window_ns[0], made.window_ns[1]
    dues, dones, refused, finished = [], [], 0, 0
    for worker in made.role("writer"):
        due = arrivals_of(made, worker).whole()
        rows = worker.attempts[worker.attempts["txn"] < due.size]
        committed = rows[rows["outcome"] == COMMITTED]
        done = np.zeros(due.size, np.int64)
        done[committed["txn"]] = committed["end_ns"]
        dues.append(due)
        dones.append(done)
        inside = rows[(rows["end_ns"] >= first) & (rows["end_ns"] <= stop)]
        refused += int((inside["outcome"] == CONFLICT).sum())
        finished += int((inside["outcome"] != UNKNOWN).sum())
    due, done = np.concatenate(dues), np.concatenate(dones)
    order = np.argsort(due, kind="stable")
    return due[order], done[order], refused, finished


def assert_as_it_was(stored: Run, in_memory: Run, window: tuple[int, int]) -> Tally:
    """Every number of who was due, worker by worker and together."""
    counted = count(stored, window)
    each = [due_as_it_was(in_memory, at, window) for at in range(len(in_memory.workers))]
    for worker, expected in zip(counted.workers, each, strict=True):
        assert worker.tally.due is not None
        for name, value in expected.items():
            assert np.array_equal(getattr(worker.tally.due, name), value), name
    tally = counted.roles["writer"]
    due, whole, least = (
        np.concatenate([np.asarray(one[name]) for one in each])
        for name in ("due_ns", "whole_ns", "least_ns")
    )
    points = np.stack([percentiles(whole), percentiles(least)], axis=-1)
    assert np.array_equal(tally.whole(), points, equal_nan=True)
    in_time = whole[np.argsort(due, kind="stable")]
    series = whole_in_order(tally)
    assert np.concatenate([in_time[:0], *series.pieces()]).tolist() == in_time.tolist()
    intervals = latency_intervals(tally)
    assert np.array_equal(intervals, percentile_intervals(in_time), equal_nan=True)
    load, (dues, dones, refused, finished) = load_of(stored), load_as_it_was(in_memory)
    assert load.due.tolist() == dues.tolist() and load.done.tolist() == dones.tolist()
    assert (load.refused, load.finished) == (refused, finished)
    return tally


@pytest.mark.parametrize("small", [True, False], ids=["columns kept", "made again"])
def test_an_open_loop_in_pieces_has_the_numbers_of_the_whole(
    small: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("analysis.statistics.bootstrap.RESAMPLES", 300)
    monkeypatch.setattr(pacing, "BLOCK", 64)
    if not small:
        for module in ("due", "tally", "committed"):
            monkeypatch.setattr(f"analysis.counting.{module}.SMALL", -1)
        monkeypatch.setattr("analysis.search.objective.SMALL", -1)
        monkeypatch.setattr("workloads.records.rows.RECENT", Recent(0))
        monkeypatch.setattr("analysis.counting.committed.PIECE_ROWS", 64)
        monkeypatch.setattr("analysis.counting.committed.LEAST_ROWS", 3)
    seen = dict.fromkeys(("unknown", "given_up", "served", "late", "odd", "long"), 0)
    for case in range(30 if small else 16):
        in_memory, stored = odd_open_loop(case, tmp_path / f"{case}")
        tally = assert_as_it_was(stored, in_memory, in_memory.window_ns)
        if case < 2:
            assert summary_lines(stored) == summary_lines(in_memory)
        assert tally.due is not None
        for name in ("unknown", "given_up", "served"):
            seen[name] += getattr(tally.due, name)
        seen["late"] += tally.due.begun - tally.due.served
        seen["odd"] += not all(arrivals_of(stored, w).in_order for w in stored.workers)
        seen["long"] += bool((tally.whole_ns[np.isfinite(tally.whole_ns)] >= 1 << 32).any())
    assert all(seen.values()), seen


def all_as_they_were(folders: list[Path]) -> None:
    for case, folder in enumerate(folders):
        in_memory, stored = odd_open_loop(case, folder)
        assert_as_it_was(stored, in_memory, in_memory.window_ns)


def test_a_wrong_number_of_who_was_due_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upto = due_module._Taking.upto

    def forgetful(self: due_module._Taking, end: int) -> np.ndarray:
        found = upto(self, end)
        return found[:-1] if self.at > 100 else found

    for name, wrong in (
        ("_Taking.upto", forgetful),
        ("merged", lambda streams: (piece for stream in streams for piece in stream)),
        ("given_up", lambda rows, lasts, retry, more: given_up(rows, lasts, retry, not more)),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(f"analysis.counting.due.{name}", wrong)
            patch.setattr("analysis.counting.committed.KEPT", Recent(0))
            patch.setattr("analysis.counting.due.KEPT", Recent(0))
            folders = [tmp_path / f"{name}-{case}" for case in range(60)]
            with pytest.raises((AssertionError, NotDrawn)):
                all_as_they_were(folders)


def test_a_real_open_loop_in_pieces_has_the_numbers_of_the_whole(tmp_path: Path) -> None:
    for rate in (40, 900):
        made = real(tmp_path, rate, seed=6)
        assert_as_it_was(made, made, made.window_ns)


def test_a_percentile_just_below_those_never_served_is_known() -> None:
    """The rank of p90 is that of the greatest value known: the next one has no part in it."""
    assert percentiles([*range(1, 182), *[np.inf] * 20])[:2].tolist() == [101.0, 181.0]
