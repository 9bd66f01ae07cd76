"""A run counted piece by piece has the numbers that it had when all its rows were in memory."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.cli.run_summary import summary_lines
from analysis.counting import committed as columns
from analysis.counting import latency_intervals
from analysis.counting.committed import ENDS, STAGES, merged
from analysis.counting.standstill import BY_CHANCE, Standstill, standstill
from analysis.counting.tally import Tally, count, ends_ns, time_in, within
from analysis.counting.transactions import given_up, transactions
from analysis.statistics import percentile_intervals, percentiles
from analysis.synthetic import START_NS, made_run, made_worker, write_folder
from workloads.records import (
    ATTEMPT,
    COMMITTED,
    CONFLICT,
    CONFLICTS,
    OUTCOMES,
    PHASES,
    Recent,
    Retry,
    Rows,
    Run,
    WorkerRecord,
    read_run,
    reason,
    segment_path,
    within_ns,
)

CASES = 8
OPEN = OUTCOMES.index("open")
SLOW_NS = 5_000_000_000  # more than 32 bits hold


def drawn_worker(rng: np.random.Generator, number: int, role: str) -> WorkerRecord:
    """A closed loop of odd rows: refused and given up, failed, unknown, open at the end."""
    n = int(rng.integers(0, 400))
    rows = np.zeros(n, ATTEMPT)
    again = rng.random(n) < rng.choice([0, 0.2, 0.7])
    rows["txn"] = np.maximum(np.cumsum(~again) - 1, 0) if n else 0
    first = np.flatnonzero(np.append(True, rows["txn"][1:] != rows["txn"][:-1])[:n])
    rows["attempt"] = np.arange(n) - np.repeat(first, np.diff(np.append(first, n))) + 1
    steps = rng.integers(0, 2_000_000, (n, 5))
    if rng.random() < 0.3:
        steps[rng.random(n) < 0.01, 3] = SLOW_NS
    times = np.cumsum(steps).reshape(n, 5) + START_NS
    stages = ("intended_ns", "start_ns", "begun_ns", "worked_ns", "end_ns")
    for name, column in zip(stages, times.T, strict=True):
        rows[name] = column
    rows["outcome"] = rng.choice([COMMITTED, CONFLICT, 3, 4], n, p=[0.8, 0.14, 0.03, 0.03])
    last = np.append(rows["txn"][1:] != rows["txn"][:-1], True)[:n]
    rows["outcome"] = np.where(last, rows["outcome"], CONFLICT)
    refused = rows["outcome"] == CONFLICT
    rows["phase"] = np.where(rows["outcome"] == COMMITTED, 0, rng.integers(1, len(PHASES), n))
    rows["conflict"] = np.where(refused, rng.integers(1, len(CONFLICTS), n), 0)
    rows["message"] = np.where(rows["outcome"] == COMMITTED, 0, rng.integers(0, 4, n))
    rows["worked_ns"] = np.where(rows["phase"] == 1, 0, rows["worked_ns"])
    if n and rng.random() < 0.5:
        for name in ("end_ns", "worked_ns", "message", "phase", "conflict", "outcome"):
            rows[name][-1] = 0
    return made_worker(number, rows, role=role, worker=number)


def drawn_case(seed: int, folder: Path) -> tuple[Run, Run]:
    """A run in memory, and the same in files of some rows each, as a kill leaves them."""
    rng = np.random.default_rng([412, seed])
    roles = ["writer"] * int(rng.integers(1, 4)) + ["reader"] * int(rng.integers(0, 3))
    workers = [drawn_worker(rng, n, role) for n, role in enumerate(roles)]
    retry = {"policy": str(rng.choice(["none", "exponential"])), "base_us": 1, "cap_us": 1,
             "most_tries": int(rng.integers(0, 4))}  # fmt: skip
    run = made_run(workers, seconds=float(rng.choice([0.2, 1.0, 30.0])), plan={"retry": retry},
                   troubles=[])  # fmt: skip
    write_folder(run, folder)
    for worker in workers:
        rows, size = worker.attempts, int(rng.integers(5, 60))
        for segment, at in enumerate(range(0, max(len(rows), 1), size)):
            part = rows[at : at + size]
            if at + size >= len(rows):
                part = np.append(part, np.zeros(int(rng.integers(0, 9)), ATTEMPT))
            np.save(segment_path(folder, worker.worker, segment), part)
    stored = read_run(folder)
    whole = tuple(replace(w, rows=Rows(w.attempts.copy())) for w in stored.workers)
    return replace(stored, workers=whole), stored


@pytest.mark.parametrize("small", [True, False], ids=["columns kept", "made again"])
def test_a_run_in_pieces_has_the_numbers_of_the_whole(
    small: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("analysis.statistics.bootstrap.RESAMPLES", 300)
    if not small:
        monkeypatch.setattr(columns, "SMALL", -1)
        monkeypatch.setattr("analysis.counting.tally.SMALL", -1)
        monkeypatch.setattr("workloads.records.rows.RECENT", Recent(0))
        monkeypatch.setattr(columns, "PIECE_ROWS", 64)
        monkeypatch.setattr(columns, "LEAST_ROWS", 3)
    seen = dict.fromkeys(("long", "open", "waits", "given_up", "intervals"), 0)
    for case in range(CASES):
        in_memory, stored = drawn_case(case, tmp_path / f"{case}")
        assert summary_lines(stored) == summary_lines(in_memory)
        window = in_memory.window_ns
        counted = count(stored, window)
        for role, tally in counted.roles.items():
            parts = [each.tally for each in counted.of(role)]
            retry = stored.manifest.plan.retry
            expected = [as_it_was(w, window, retry) for w in in_memory.role(role)]
            for part, values in zip(parts, expected, strict=True):
                assert_same(part, values)
            for stage in STAGES:
                each = np.concatenate([values["latency_ns"][stage] for values in expected])
                assert np.array_equal(tally.latency_ns[stage], each)
                assert np.array_equal(tally.percentiles(stage), percentiles(each), equal_nan=True)
                seen["long"] += bool(each.size) and each.max() >= 1 << 32
                ends = np.concatenate([values["ends_ns"] for values in expected])
                in_time = each[np.argsort(ends, kind="stable")]
                pieces = list(tally.times.in_order(stage))
                assert np.array_equal(np.concatenate([np.zeros(0, int), *pieces]), in_time)
                found = latency_intervals(tally, stage)
                assert np.array_equal(found, percentile_intervals(in_time), equal_nan=True)
                seen["intervals"] += bool(np.isfinite(found[:, 0]).any())
            seen["open"] += tally.unfinished
            seen["waits"] += len(tally.waits_ns)
            seen["given_up"] += tally.given_up
        both = [t.ends_ns for r, t in counted.roles.items() if r in ("writer", "reader")]
        assert counted.standstill == standstill_as_it_was(np.concatenate(both), window)
    assert all(seen.values()), seen


def assert_same(tally: Tally, expected: dict[str, Any]) -> None:
    for name, values in expected.items():
        found = getattr(tally, name)
        if name in ("latency_ns", "waits_ns"):
            assert list(found) == list(values)
            for key, each in values.items():
                assert found[key].tolist() == each.tolist()
        elif isinstance(values, np.ndarray):
            assert np.array_equal(found, values), name
        else:
            assert found == values, name


def as_it_was(worker: WorkerRecord, window_ns: tuple[int, int], retry: Retry) -> dict[str, Any]:
    """A worker counted with all its rows at hand, as it was done until runs were read in pieces."""
    first, stop = window_ns
    rows = worker.attempts
    end, inside = ends_ns(rows, stop), within(rows, window_ns)
    starts, lasts, which = transactions(rows)
    outcome, mine = rows["outcome"], rows[inside]
    spent, still_open, waited = time_in(rows, window_ns)
    lost = ~still_open & (outcome != COMMITTED)
    did = np.flatnonzero(inside & (outcome == COMMITTED))
    refused = mine[mine["outcome"] == CONFLICT]
    conflicts = np.zeros((len(CONFLICTS), len(PHASES)), int)
    np.add.at(conflicts, (refused["conflict"], refused["phase"]), 1)
    left = given_up(rows, lasts, retry)
    open_at_stop = (end[lasts] > stop) | ((rows["end_ns"][lasts] == 0) & (end[lasts] >= first))
    open_at_stop |= inside[lasts] & (outcome[lasts] == CONFLICT) & ~left
    since = rows["intended_ns"][starts][open_at_stop]
    since = since[since < stop]
    done, firsts = rows[did], starts[which[did]]
    intended = rows["intended_ns"][firsts]
    spoken = mine[mine["message"] > 0]
    waits: dict[tuple[str, ...], list[int]] = {}
    for row, took in sorted(
        zip(spoken, within_ns(spoken).tolist(), strict=True),
        key=lambda one: tuple(one[0][["outcome", "phase", "conflict", "message"]]),
    ):
        at = int(row["message"]) - 1
        text = worker.messages[at] if at < len(worker.messages) else "(words not kept)"
        why = reason(int(row["outcome"]), int(row["conflict"]))
        waits.setdefault((PHASES[row["phase"]], why, text), []).append(took)
    return {
        "outcomes": np.bincount(mine["outcome"], minlength=len(OUTCOMES)),
        "conflicts": conflicts,
        "tries": np.bincount(rows["attempt"][did], minlength=2),
        "given_up": int((left & inside[lasts]).sum()),
        "committed_ns": int(spent[~still_open & (outcome == COMMITTED)].sum()),
        "wasted_ns": int(spent[lost].sum() + (spent - waited)[still_open].sum()),
        "open_ns": int((spent - waited)[still_open].sum()),
        "waiting_ns": int(waited[still_open].sum()),
        "latency_ns": {
            "queueing": np.maximum(rows["start_ns"][firsts] - intended, 0),
            "begin": done["begun_ns"] - done["start_ns"],
            "work": done["worked_ns"] - done["begun_ns"],
            "commit": done["end_ns"] - done["worked_ns"],
            "service": done["end_ns"] - done["start_ns"],
            "whole": done["end_ns"] - intended,
        },
        "ends_ns": rows["end_ns"][did],
        "unfinished": len(since),
        "oldest_ns": int((stop - since).max()) if len(since) else 0,
        "cpu_transactions": int((outcome == COMMITTED).sum()),
        "waits_ns": {key: np.array(each) for key, each in waits.items()},
        "commits_each": np.array([len(did)]),
    }


def standstill_as_it_was(ends: np.ndarray, window_ns: tuple[int, int]) -> Standstill | None:
    first, stop = window_ns
    each = np.sort(ends)
    if not each.size or stop <= first:
        return None
    gaps = np.diff(np.concatenate([[first], each, [stop]])) / 1e9
    at, window_s = int(np.argmax(gaps)), (stop - first) / 1e9
    longest = float(gaps[at])
    noticeable = min(window_s / 4, max(1.0, window_s / 20))
    chance = math.log(each.size + 1) + each.size * np.log(max(1 - longest / window_s, 1e-300))
    if longest < noticeable or chance > math.log(BY_CHANCE):
        return None
    return Standstill(longest, float(gaps[:at].sum()))


def test_a_standstill_is_the_one_that_was_found_with_more_memory() -> None:
    found = 0
    for case in range(300):
        rng = np.random.default_rng([3, case])
        ends = rng.integers(0, 10**9, int(rng.integers(0, 100_000) if case % 50 == 0 else case))
        if rng.random() < 0.7:  # nobody commits for a third of the window
            ends = ends[(ends < 4 * 10**8) | (ends > 7 * 10**8)]
        expected = standstill_as_it_was(ends, (0, 10**9))
        assert standstill(np.pad(ends, 1), (0, 10**9)) == expected
        found += expected is not None
    assert 50 < found < 250


def cut(rng: np.random.Generator, *arrays: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
    at = 0
    while at < len(arrays[0]):
        size = int(rng.integers(0, 9))
        yield tuple(array[at : at + size] for array in arrays)
        at += size


def test_streams_are_merged_as_a_stable_sort_has_them() -> None:
    for case in range(500):
        rng = np.random.default_rng([5, case])
        keys = [
            np.sort(rng.integers(0, rng.choice([3, 50, 10**9]), int(rng.integers(0, 60))))
            for _ in range(int(rng.integers(0, 5)))
        ]
        whole = np.concatenate([np.zeros(0, int), *keys])
        places = np.split(np.arange(len(whole)), np.cumsum([len(k) for k in keys])[:-1])
        streams = [cut(rng, *pair) for pair in zip(keys, places, strict=False)]
        parts = list(merged(streams))
        order = np.concatenate([np.zeros(0, int), *(place for _, place in parts)])
        assert order.tolist() == np.argsort(whole, kind="stable").tolist()


def test_rows_that_no_clock_of_ours_made_are_put_in_order_all_the_same() -> None:
    rows = drawn_worker(np.random.default_rng(8), 0, "writer").attempts
    rows = rows[rows["outcome"] == COMMITTED]
    rows["txn"] = np.arange(len(rows))
    run = made_run([made_worker(0, rows), made_worker(1, rows[::-1].copy())], seconds=9)
    times = count(run, run.window_ns).roles["writer"].times
    ends = times.column(ENDS)
    assert not (np.diff(ends) >= 0).all()
    expected = times.column("whole")[np.argsort(ends, kind="stable")]
    assert np.concatenate(list(times.in_order("whole"))).tolist() == expected.tolist()
