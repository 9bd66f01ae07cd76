"""How much memory a large run needs, in ratios: `tools/bench/bench_memory.py`, three minutes.

Things that `cwkit show` and the check after a run do with all rows, each in a process of its
own, in pieces and with whole arrays in turn: looking at the rows; counting them, where the other
side holds all rows and columns; who was due in an open loop, where it holds all arrivals with what
became of each; the replay of a check's draws, beside rows of numpy on the other side; the check
of `append`, with the draws on the other side; the rows behind refusals under BEGIN CONCURRENT, of
half as many attempts; and the check of `queue`. Memory is what a process had resident at most,
above what it had before it read anything; time is CPU time.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

ROWS = 2_400_000
ROUNDS = 3

TARGETS = {
    "reading": (0.2, 1.2),
    "counting": (0.3, 1.3),
    "due": (0.3, 2.5),
    "replay": (0.2, 0.65),
    "appends": (1.5, 0.4),
    "blamed": (0.3, 1.2),
    "queue": (0.15, 0.6),
}
"""Of the whole arrays' memory, and of their time, at most so much.

Measured at 2.4 million rows on two shared cores: 0.06 and 0.64, 0.12 and 0.78, 0.05 and 0.39. A
check that replayed beside rows of numpy took 2.3 us a transaction; 1.5 of them are the target.
Appends that are counted without their draws need 0.2 us, 0.13 to 0.17 of the time with them.
"""


def reading(folder: Path, whole: bool) -> None:
    """Look at all rows, and at one column of them."""
    from workloads.records import read_run

    for worker in read_run(folder).workers:
        pieces = [worker.attempts] if whole else worker.rows.pieces()
        assert sum(int(rows["end_ns"].max()) for rows in pieces)


def counting(folder: Path, whole: bool) -> None:
    """Count the run and take the percentiles of each stage, as `show` does."""
    from dataclasses import replace

    import numpy as np

    from analysis.counting import STAGES, count
    from analysis.statistics import percentiles
    from workloads.records import Rows, read_run

    run = read_run(folder)
    if whole:
        workers = tuple(replace(each, rows=Rows(each.attempts)) for each in run.workers)
        run = replace(run, workers=workers)
    tally = count(run).roles["writer"]
    if not whole:
        assert len(tally.latency()) == len(STAGES)
        return
    columns = {stage: tally.latency_ns[stage] for stage in STAGES}
    ends = np.sort(tally.ends_ns)
    assert len(ends) and all(percentiles(column).size for column in columns.values())


def due(folder: Path, whole: bool) -> None:
    """The latencies of all who were due in an open loop, and how many of them were served."""
    import numpy as np

    from analysis.counting import arrivals_of, count
    from analysis.statistics import percentiles
    from workloads.records import COMMITTED, read_run

    run = read_run(folder.with_name(f"{folder.name}-open"))
    if not whole:
        found = count(run, run.window_ns).roles["writer"]
        assert found.due is not None and found.due.served and found.whole().size
        return
    for worker in run.workers:
        due, rows = arrivals_of(run, worker).whole(), worker.attempts
        rows = rows[np.append(rows["txn"][1:] != rows["txn"][:-1], True)]
        rows = rows[rows["txn"] < len(due)]
        done, least = np.zeros(len(due), np.int64), np.zeros(len(due))
        begun, given_up, unknown = (np.zeros(len(due), bool) for _ in range(3))
        begun[rows["txn"]] = True
        rows = rows[rows["outcome"] == COMMITTED]
        done[rows["txn"]] = rows["end_ns"]
        least[rows["txn"]] = rows["end_ns"] - due[rows["txn"]]
        known = (due < run.window_ns[1]) & ~((done == 0) & ~given_up & ~unknown)
        times = np.where(done > 0, least, np.inf)[known]
        assert percentiles(times).size + percentiles(least[known]).size


def replay(folder: Path, whole: bool) -> None:
    """Add up what the transfers of `bank` moved, from draws beside rows or beside plain numbers."""
    from collections import Counter

    from workloads.records import COMMITTED, read_run
    from workloads.runs import context_of, make_plan
    from workloads.scenarios import find_scenario
    from workloads.scenarios.scenario import RunLog

    run = read_run(folder)
    plan = make_plan(scenario="bank", database="sqlite", writers=len(run.workers))
    bank = find_scenario("bank")(plan.shape())
    log = RunLog(bank, run.workers, lambda worker: context_of(plan, worker.worker))
    if whole:
        expected: Counter[int] = Counter()
        for worker in run.workers:
            assert len(worker.attempts)
            for draw, row in log.replay(worker):
                if row["outcome"] == COMMITTED:
                    source, target, amount = draw.args
                    expected[source] -= amount
                    expected[target] += amount
        return

    class Nothing:
        def rows(self, sql: str, params: Any = ()) -> list[Any]:
            return []

    assert bank.check(Nothing(), log)  # type: ignore[arg-type]


def appends(folder: Path, whole: bool) -> None:
    """Count what the transactions of `append` wrote, from their draws or from counts alone."""
    from workloads.records import COMMITTED, read_run
    from workloads.runs import context_of, make_plan
    from workloads.scenarios import find_scenario
    from workloads.scenarios.scenario import RunLog

    run = read_run(folder)
    plan = make_plan(scenario="append", database="sqlite", writers=len(run.workers))
    append = find_scenario("append")(plan.shape())
    log = RunLog(append, run.workers, lambda worker: context_of(plan, worker.worker))
    if whole:
        written = 0
        for worker in run.workers:
            for outcome, (_, args) in log.answers(worker):
                if outcome == COMMITTED:
                    for _, only_read in args:
                        written += not only_read
        assert written
        return

    class Nothing:
        def rows(self, sql: str, params: Any = ()) -> list[Any]:
            return []

    assert append.check(Nothing(), log)  # type: ignore[arg-type]


def blamed(folder: Path, whole: bool) -> None:
    """The rows behind the refusals of a run under BEGIN CONCURRENT."""
    from analysis.models import blame
    from analysis.models.test_windows import whole_blame
    from workloads.records import read_run

    run = read_run(folder.with_name(f"{folder.name}-concurrent"))
    found = whole_blame(run)[1] if whole else blame(run)
    assert found.refused and found.committed


def queue(folder: Path, whole: bool) -> None:
    """Hold the claims of `queue` against a table, which has none of them."""
    from workloads.records import read_run
    from workloads.runs import context_of, make_plan
    from workloads.scenarios import find_scenario
    from workloads.scenarios.scenario import RunLog
    from workloads.scenarios.test_told import whole_queue

    run = read_run(folder)
    plan = make_plan(scenario="queue", database="sqlite", writers=len(run.workers))
    scenario: Any = find_scenario("queue")(plan.shape())
    log = RunLog(scenario, run.workers, lambda worker: context_of(plan, worker.worker))

    class Nothing:
        def rows(self, sql: str, params: Any = ()) -> list[Any]:
            return []

    if whole:
        assert whole_queue(scenario.params, Nothing(), log)
    else:
        assert scenario.check(Nothing(), log)


TASKS = {
    "reading": reading,
    "counting": counting,
    "due": due,
    "replay": replay,
    "appends": appends,
    "blamed": blamed,
    "queue": queue,
}


def peak_bytes() -> int:
    # Not ru_maxrss: across fork and exec it keeps the parent's peak.
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def measure(task: str, folder: str, whole: str) -> None:
    """In the child: print the peak bytes above those of the imports, and the CPU seconds."""
    import analysis.counting  # noqa: F401
    import workloads.runs  # noqa: F401

    TASKS[task](Path(folder) / "tiny", whole == "whole")
    before, started = peak_bytes(), time.process_time()
    TASKS[task](Path(folder) / "run", whole == "whole")
    print(json.dumps([peak_bytes() - before, time.process_time() - started]))


def main() -> int:
    """Make a run, measure both sides in turn, print a table; 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("tasks", nargs="*", choices=[[], *TARGETS], help="these; all otherwise")
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        measure(*args.measure)
        return 0
    from analysis.synthetic import (
        write_long_concurrent_run,
        write_long_open_loop,
        write_long_run,
    )

    missed = 0
    print(f"{'':>10} {'MB':>6} {'whole':>6} {'ratio':>6} {'target':>6} "
          f"{'CPU s':>6} {'whole':>6} {'ratio':>6} {'target':>6}")  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        write_long_run(Path(folder) / "tiny", 1)
        write_long_run(Path(folder) / "run", args.rows, writers=1)
        write_long_open_loop(Path(folder) / "tiny-open", 1000)
        write_long_open_loop(Path(folder) / "run-open", args.rows, writers=1)
        write_long_concurrent_run(Path(folder) / "tiny-concurrent", 1000)
        write_long_concurrent_run(Path(folder) / "run-concurrent", args.rows // 2)
        for task in args.tasks or TARGETS:
            memory, cpu = TARGETS[task]
            best: dict[str, list[float]] = {}
            for _ in range(ROUNDS):
                for side in ("pieces", "whole"):
                    command = [sys.executable, __file__, "--measure", task, folder, side]
                    answer = subprocess.run(command, check=True, capture_output=True, text=True)
                    found = json.loads(answer.stdout)
                    best[side] = [min(pair) for pair in zip(best.get(side, found), found,
                                                            strict=True)]  # fmt: skip
            (peak, spent), (most, took) = best["pieces"], best["whole"]
            missed += peak / most > memory or spent / took > cpu
            print(
                f"{task:>10} {peak / 1e6:6.0f} {most / 1e6:6.0f} {peak / most:6.2f} {memory:6} "
                f"{spent:6.2f} {took:6.2f} {spent / took:6.2f} {cpu:6}",
                flush=True,
            )
    print(f"{missed} missed" if missed else "every target met")
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
