"""The checks of queue and acked read the table by pages, and say what they said of it whole.

The way with everything in memory is kept here, as the other side.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from workloads.records import ATTEMPT, COMMITTED, FAILED, UNKNOWN, Rows, WorkerEntry, WorkerRecord
from workloads.scenarios import told
from workloads.scenarios.acked import SHIFT, Acked, AckedShape
from workloads.scenarios.queue import (
    CLAIM,
    DONE,
    FINISH,
    NOTHING,
    READY,
    Queue,
    QueueShape,
    _Found,
)
from workloads.scenarios.scenario import Finding, RunLog
from workloads.scenarios.told import LAST_ID, Firsts, Told, pages


class Table:
    """A database of sqlite3's in memory, as a check asks it."""

    def __init__(self, schema: str, rows: list[tuple[int, ...]]) -> None:
        self._connection = sqlite3.connect(":memory:")
        self._connection.execute(f"CREATE TABLE {schema}")
        marks = ",".join("?" * (schema.count(",") + 1))
        name = schema.split("(", maxsplit=1)[0]
        self._connection.executemany(f"INSERT INTO {name} VALUES ({marks})", rows)

    def rows(self, sql: str, params: tuple[Any, ...] = ()) -> list[Any]:
        return self._connection.execute(sql, params).fetchall()


def writer(number: int, rows: np.ndarray, role: str = "writer") -> WorkerRecord:
    entry = WorkerEntry(worker=number + 3, role=role, number=number, engine="sqlite", begin="")
    return WorkerRecord(number + 3, role, number, "sqlite", "immediate", Rows(rows), (), entry)


def log_of(workers: list[WorkerRecord]) -> RunLog:
    made: Any = Queue(QueueShape())
    return RunLog(made, workers, lambda worker: None)


CASES = [700, pytest.param(3000, marks=pytest.mark.slow)]


@pytest.fixture
def finely(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(told, "PAGE", 3)


def drawn_queue(rng: np.random.Generator) -> tuple[Queue, Table, RunLog]:
    """A queue of a few jobs, sound or with faults of many kinds."""
    loaded, faulty = int(rng.integers(1, 12)), rng.random() < 0.7
    queue = Queue(QueueShape(rows=loaded, refill=bool(rng.random() < 0.7)))
    far = int(rng.choice([0, 0, 1 << 40, LAST_ID - 200]))
    jobs = {far + job: [READY, -1, 0] for job in range(1, loaded + 1)}
    workers = []
    for number in range(int(rng.integers(1, 4))):
        rows = np.zeros(int(rng.integers(0, 14)), ATTEMPT)
        held: list[int] = []
        for at, row in enumerate(rows):
            kind = at % 2
            row["txn"], row["kind"], row["start_ns"], row["outcome"] = at, kind, 1, COMMITTED
            row["result"] = NOTHING
            free = [job for job, (state, _, _) in jobs.items() if state == READY]
            if kind == CLAIM and free:
                job = free[0]
                jobs[job] = [1, number + 3, jobs[job][2] + 1]
                held.append(job)
                row["result"] = job
            elif kind == FINISH and held:
                row["result"] = job = held.pop()
                jobs[job][0] = DONE
                if queue.params.refill:
                    jobs[max(jobs) + 1] = [READY, -1, 0]
            if faulty and rng.random() < 0.15:
                row["outcome"] = rng.choice([UNKNOWN, FAILED, COMMITTED])
                row["result"] = rng.choice([far + rng.integers(1, 9), -7, NOTHING, row["result"]])
        workers.append(writer(number, rows, "writer" if rng.random() < 0.9 else "reader"))
    for job in list(jobs):
        if faulty and rng.random() < 0.1:
            jobs[job][int(rng.integers(0, 3))] = int(rng.integers(0, 4))
        if faulty and rng.random() < 0.05:
            del jobs[job]
    table = Table(
        "job(id INTEGER PRIMARY KEY, state, worker, claims)",
        [(job, *values) for job, values in jobs.items()],
    )
    return queue, table, log_of(workers)


def queue_differs(queue: Queue, table: Table, log: RunLog) -> bool:
    return queue.check(table, log) != whole_queue(queue.params, table, log)  # type: ignore[arg-type]


@pytest.mark.usefixtures("finely")
@pytest.mark.parametrize("cases", CASES)
def test_a_queue_read_by_pages_is_judged_as_a_whole_one(cases: int) -> None:
    rng = np.random.default_rng(41)
    broken: Counter[str] = Counter()
    for case in range(cases):
        queue, table, log = drawn_queue(rng)
        whole = whole_queue(queue.params, table, log)
        assert queue.check(table, log) == whole, f"case {case}"  # type: ignore[arg-type]
        broken.update(finding.check for finding in whole if not finding.ok)
        broken["sound"] += all(finding.ok for finding in whole)
    assert min(broken[name] for name in ("claimed once", "acknowledged changes", "counts",
                                         "sound")) > cases / 10  # fmt: skip


def drawn_acked(rng: np.random.Generator) -> tuple[Table, RunLog]:
    """Values of a few writers; some lost, some of unknown outcome, some that nobody wrote."""
    workers, there = [], []
    faulty = rng.random() < 0.7
    for number in range(int(rng.integers(1, 4))):
        rows = np.zeros(int(rng.integers(0, 20)), ATTEMPT)
        rows["txn"] = np.cumsum(rng.random(len(rows)) < 0.8)
        if faulty and rng.random() < 0.05:
            rows["txn"] += 1 << SHIFT  # among the next writer's
        odds = [0.8, 0.1, 0.1] if faulty else [1, 0, 0]
        rows["outcome"] = rng.choice([COMMITTED, UNKNOWN, FAILED], len(rows), p=odds)
        rows["start_ns"] = 1
        workers.append(writer(number, rows))
        for row in log_of(workers[-1:]).finals(workers[-1]):
            chance = {COMMITTED: 0.9 if faulty else 1, UNKNOWN: 0.5}.get(int(row["outcome"]), 0.05)
            if rng.random() < chance:
                there.append(number << SHIFT | int(row["txn"]))
    if faulty and rng.random() < 0.2:
        there += [int(value) for value in rng.choice([-5, 77, LAST_ID, -LAST_ID - 1], 2)]
    table = Table("item(id INTEGER PRIMARY KEY)", [(value,) for value in set(there)])
    return table, log_of(workers)


@pytest.mark.usefixtures("finely")
@pytest.mark.parametrize("cases", CASES)
def test_acked_values_read_by_pages_are_judged_as_whole_ones(cases: int) -> None:
    rng = np.random.default_rng(43)
    acked, broken = Acked(AckedShape()), Counter[str]()
    for case in range(cases):
        table, log = drawn_acked(rng)
        whole = whole_acked(table, log)
        assert acked.check(table, log) == whole, f"case {case}"  # type: ignore[arg-type]
        broken.update(finding.check for finding in whole if not finding.ok)
        broken["sound"] += all(finding.ok for finding in whole)
    assert min(broken[n] for n in ("acknowledged values", "only told values", "sound")) > cases / 10


def test_more_than_a_thousand_lost_values_are_counted_and_the_first_named() -> None:
    rows = np.zeros(3000, ATTEMPT)
    rows["txn"], rows["outcome"], rows["start_ns"] = np.arange(3000), COMMITTED, 1
    table = Table("item(id INTEGER PRIMARY KEY)", [(value,) for value in range(5000, 9000)])
    log = log_of([writer(0, rows)])
    found = Acked(AckedShape()).check(table, log)  # type: ignore[arg-type]
    assert found == whole_acked(table, log)
    assert len(found[0].evidence["lost"]) == len(found[1].evidence["extra"]) == 1000


WRONG: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "a page's last job is not looked at": lambda patch: patch.setattr(
        "workloads.scenarios.queue.pages",
        lambda *args: (page._replace(rows=page.rows[:-1]) for page in pages(*args)),
    ),
    "claims that end a page are left out": lambda patch: patch.setattr(
        Told, "within", lambda self, low, high, real=Told.within: real(self, low, high - 1)
    ),
    "the order in which jobs were claimed is lost": lambda patch: patch.setattr(
        Firsts, "add", lambda self, places, what, real=Firsts.add: real(self, -places, what)
    ),
    "a worker's claims are another's": lambda patch: patch.setattr(
        _Found, "__init__",
        lambda self, workers, ends, real=_Found.__init__: real(self, workers[::-1], ends),
    ),
}  # fmt: skip


@pytest.mark.usefixtures("finely")
@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_reading_by_pages_is_seen(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(47)
    cases = [drawn_queue(rng) for _ in range(150)]
    assert not any(queue_differs(*case) for case in cases)
    WRONG[wrong](monkeypatch)
    assert sum(queue_differs(*case) for case in cases) > 10


class Going:
    """A damaged table: its ids go back, or one is there twice."""

    def __init__(self, *found: list[tuple[int]]) -> None:
        self._found = list(found)

    def rows(self, sql: str, params: tuple[Any, ...] = ()) -> list[Any]:
        return self._found.pop(0)


@pytest.mark.usefixtures("finely")
def test_a_damaged_table_is_read_to_an_end() -> None:
    back = pages(Going([(5,), (6,), (9,)], [(10,), (11,), (4,)]), "", 1)  # type: ignore[arg-type]
    assert [page.rows[:, 0].tolist() for page in back] == [[5, 6, 9], [4, 10, 11]]
    twice = pages(Going([(5,), (5,)]), "", 1)  # type: ignore[arg-type]
    assert [page.rows[:, 0].tolist() for page in twice] == [[5]]


# --- the other side: the table and all that was told in memory --------------------------


def whole_queue(params: QueueShape, session: Any, log: RunLog) -> list[Finding]:
    claims: dict[int, list[int]] = {}  # job -> workers that were told it is theirs
    finished: Counter[int] = Counter()
    unknown: Counter[int] = Counter()
    for worker in log.workers:
        if worker.role != "writer":
            continue
        for rows in worker.rows.pieces():
            sure = rows[(rows["outcome"] == COMMITTED) & (rows["result"] != NOTHING)]
            for job in sure["result"][sure["kind"] == CLAIM].tolist():
                claims.setdefault(job, []).append(worker.worker)
            finished.update(sure["result"][sure["kind"] == FINISH].tolist())
            for kind in (CLAIM, FINISH):
                hit = (rows["outcome"] == UNKNOWN) & (rows["kind"] == kind)
                unknown[kind] += int(hit.sum())
    jobs = {
        int(job): (int(state), int(owner), int(times))
        for job, state, owner, times in session.rows("SELECT id, state, worker, claims FROM job")
    }
    return [
        _claimed_once(claims, jobs),
        _claims_are_kept(claims, finished, jobs),
        _counts(params, claims, finished, unknown, jobs),
    ]


def _counts(
    params: QueueShape,
    claims: dict[int, list[int]],
    finished: Counter[int],
    unknown: Counter[int],
    jobs: dict[int, tuple[int, int, int]],
) -> Finding:
    """The table's claims, finished jobs and new jobs against what was acknowledged."""
    new = finished.total() if params.refill else 0
    most = unknown[FINISH] if params.refill else 0
    sums = (
        ("claims", sum(j[2] for j in jobs.values()), sum(map(len, claims.values())), CLAIM),
        ("finished jobs", sum(j[0] == DONE for j in jobs.values()), len(finished), FINISH),
    )
    wrong = [
        f"{there:,} {what} where {least:,} were acknowledged"
        for what, there, least, kind in sums
        if not least <= there <= least + unknown[kind]
    ]
    least = params.rows + new
    if not least <= len(jobs) <= least + most:
        wrong.append(f"{len(jobs):,} jobs where {least:,} were put")
    counts = ", ".join(f"{there:,} {what}" for what, there, _, _ in sums)
    sentence = f"{len(jobs):,} jobs, {counts}: as acknowledged" if not wrong else "; ".join(wrong)
    return Finding("counts", not wrong, f"{sentence}.", {"unknown": unknown.total()})


def _claimed_once(claims: dict[int, list[int]], jobs: dict[int, tuple[int, int, int]]) -> Finding:
    twice = {job: workers for job, workers in claims.items() if len(workers) > 1}
    counted = {job: row[2] for job, row in jobs.items() if row[2] > 1}
    sentence = f"{len(claims):,} jobs were claimed, each once"
    if twice:
        job, workers = next(iter(twice.items()))
        sentence = (
            f"{len(twice):,} jobs were claimed more than once: job {job} was acknowledged to "
            f"workers {', '.join(map(str, workers))}"
        )
    elif counted:
        job, times = next(iter(counted.items()))
        sentence = f"{len(counted):,} jobs count more than one claim: job {job} counts {times}"
    evidence = {
        "twice": dict(list(twice.items())[:20]),
        "counted": dict(list(counted.items())[:20]),
    }
    return Finding("claimed once", not twice and not counted, f"{sentence}.", evidence)


def _claims_are_kept(
    claims: dict[int, list[int]],
    finished: Counter[int],
    jobs: dict[int, tuple[int, int, int]],
) -> Finding:
    """Each acknowledged claim and finish is in its job's row."""
    lost: list[str] = []
    for job, workers in claims.items():
        state, owner, _ = jobs.get(job, (READY, NOTHING, 0))
        if state == READY or owner not in workers:
            lost.append(f"job {job} was claimed by worker {workers[0]} and shows worker {owner}")
    for job in finished:
        if jobs.get(job, (READY,))[0] != DONE:
            lost.append(f"job {job} was finished and is not")
    sentence = f"all {len(claims):,} claims and {finished.total():,} finishes are in the table"
    if lost:
        sentence = f"{len(lost):,} acknowledged changes are lost: {lost[0]}"
    return Finding("acknowledged changes", not lost, f"{sentence}.", {"lost": lost[:20]})


def whole_acked(session: Any, log: RunLog) -> list[Finding]:
    found = np.array([row[0] for row in session.rows("SELECT id FROM item")], dtype=np.int64)
    acknowledged, unsure = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for worker in log.workers:
        if worker.role == "writer":
            for rows in log.finals_in_turn(worker):
                ids = (np.int64(worker.number) << SHIFT) | rows["txn"].astype(np.int64)
                acknowledged.append(ids[rows["outcome"] == COMMITTED])
                unsure.append(ids[rows["outcome"] == UNKNOWN])
    wanted, maybe = np.concatenate(acknowledged), np.concatenate(unsure)
    lost = np.setdiff1d(wanted, found)
    extra = np.setdiff1d(found, np.concatenate([wanted, maybe]))
    more = f", {len(maybe):,} of unknown outcome aside" if len(maybe) else ""
    sentence = f"{len(wanted) - len(lost):,} of {len(wanted):,} acknowledged values are there"
    if len(lost):
        sentence += f"; lost: {_named(lost)}"
    return [
        Finding(
            "acknowledged values",
            len(lost) == 0,
            f"{sentence}{more}.",
            {"acknowledged": len(wanted), "lost": _pairs(lost), "unknown": len(maybe)},
        ),
        Finding(
            "only told values",
            len(extra) == 0,
            f"{len(extra):,} values are there that no writer was told of"
            + (f": {_named(extra)}." if len(extra) else "."),
            {"extra": _pairs(extra)},
        ),
    ]


def _pairs(ids: np.ndarray) -> list[list[int]]:
    """[writer, transaction] of each id, the first thousand."""
    return [[int(i) >> SHIFT, int(i) & ((1 << SHIFT) - 1)] for i in ids[:1000]]


def _named(ids: np.ndarray) -> str:
    named = ", ".join(f"transaction {n} of writer {w}" for w, n in _pairs(ids)[:5])
    return f"{named}, …" if len(ids) > 5 else named
