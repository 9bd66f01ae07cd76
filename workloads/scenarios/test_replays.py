"""What a check replays quickly is what the plain replay gives, and the verdict is the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from workloads.engines import Settings, find_engine
from workloads.records import (
    ATTEMPT,
    COMMITTED,
    CONFLICT,
    FAILED,
    UNKNOWN,
    Rows,
    WorkerEntry,
    WorkerRecord,
)
from workloads.scenarios import Draw, Scenario, WorkerContext, find_scenario
from workloads.scenarios import scenario as scenarios
from workloads.scenarios.append import Append
from workloads.scenarios.bank import Bank
from workloads.scenarios.counter import Counter as CounterScenario
from workloads.scenarios.counter import written_twice
from workloads.scenarios.ingest import LOADED, Ingest
from workloads.scenarios.register import MIXED, Register, Written
from workloads.scenarios.register_history import INSERT as ADD
from workloads.scenarios.register_history import READ, RMW, SCAN, UPDATE
from workloads.scenarios.scenario import RunLog

SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "bank": ("bank", {"rows": 9}),
    "bank long": ("bank", {"rows": 9, "operations": 3}),
    "counter": ("counter", {"rows": 4}),
    "counter long": ("counter", {"rows": 4, "operations": 3}),
    "register": ("register", {"rows": 9, "mix": "read-modify-write=2,insert,update,read"}),
    "register long": ("register", {"rows": 9, "mix": "F", "operations": 4}),
    "ingest": ("ingest", {"rows": 5}),
    "ingest long": ("ingest", {"rows": 5, "operations": 3}),
    "append": ("append", {"rows": 9}),
    "append long": ("append", {"rows": 9, "operations": 30, "draws": 7, "keys": "zipfian"}),
    "append rows": ("append", {"rows": 9, "storage": "rows", "reads": 0.2}),
    "queue": ("queue", {"rows": 9}),
    "acked": ("acked", {"rows": 9}),
}
ROLES = (("writer", 0), ("writer", 1), ("reader", 0))


def places(of: Scenario) -> list[WorkerContext]:
    return [
        WorkerContext(role, number, 2 if role == "writer" else 1, worker, (5, worker), places=ROLES)
        for worker, (role, number) in enumerate(ROLES)
    ]


def drawn_rows(rng: np.random.Generator, transactions: int) -> np.ndarray:
    """Retried transactions of all outcomes; results repeat, some of them odd."""
    tries = rng.integers(1, 4, transactions)
    rows = np.zeros(int(tries.sum()), ATTEMPT)
    rows["txn"] = np.repeat(np.arange(transactions), tries)
    last = np.append(rows["txn"][1:] != rows["txn"][:-1], True)[: len(rows)]
    ends = rng.choice([COMMITTED, CONFLICT, FAILED, UNKNOWN], len(rows), p=[0.8, 0.1, 0.06, 0.04])
    rows["outcome"] = np.where(last, ends, CONFLICT)
    rows["start_ns"] = np.sort(rng.integers(1, 10**6, len(rows)))
    rows["end_ns"] = rows["start_ns"] + rng.integers(1, 9, len(rows))
    rows["result"] = rng.integers(0, 30, len(rows))
    odd = rng.random(len(rows)) < 0.02
    rows["result"][odd] = rng.choice([-1, 1 << 32, 1 << 40, -(1 << 63)], int(odd.sum()))
    return rows


def drawn_log(shape: str, seed: int, most: int = 120) -> tuple[Scenario, RunLog, list[int]]:
    name, params = SHAPES[shape]
    made = find_scenario(name)
    of = made(made.Params(**params))
    rng = np.random.default_rng([412, seed])
    workers = []
    for context in places(of):
        entry: dict[str, Any] = {"worker": context.worker, "role": context.role}
        entry |= {"number": context.number, "engine": "", "begin": ""}
        rows = Rows(drawn_rows(rng, int(rng.integers(0, most))))
        workers.append(WorkerRecord(**entry, rows=rows, messages=(), entry=WorkerEntry(**entry)))
    told: list[int] = []
    contexts = places(of)
    return of, RunLog(of, workers, lambda worker: contexts[worker.worker], told.append), told


def by_hand(log: RunLog, worker: WorkerRecord) -> Iterator[tuple[Draw, np.void]]:
    """Each draw beside its last attempt, with all rows at hand: the replay as it was."""
    rows = worker.attempts
    ends = np.flatnonzero(np.append(rows["txn"][1:] != rows["txn"][:-1], True)[: len(rows)])
    draw = log.scenario.draw(log._context_of(worker))
    for row in rows[ends]:
        yield draw(), row


def writers(log: RunLog) -> list[WorkerRecord]:
    return [worker for worker in log.workers if worker.role == "writer"]


@pytest.mark.parametrize("shape", SHAPES)
def test_answers_are_those_of_the_replay(shape: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenarios, "REPORT_EACH", 7)
    for seed in range(20):
        _, log, told = drawn_log(shape, seed)
        for worker in log.workers:
            expected = list(by_hand(log, worker))
            fields = ("outcome", "txn", "result", "start_ns")
            plain = [(*(int(row[name]) for name in fields), draw) for draw, row in expected]
            assert list(log.answers(worker, *fields[1:])) == plain
            assert [(d, r.tobytes()) for d, r in log.replay(worker)] == [
                (d, r.tobytes()) for d, r in expected
            ]
            assert log.finals(worker).tolist() == [row.tolist() for _, row in expected]
        assert told == list(range(7, 7 * len(told) + 1, 7)) and told[-1] > 40


class Table:
    """The answers of a database whose tables hold what a test says."""

    def __init__(self, path: Path, scenario: Scenario) -> None:
        self.session = find_engine("sqlite").connect(str(path), settings=Settings())
        for statement in scenario.schema():
            self.session.run(statement)

    def fill(self, sql: str, rows: list[tuple[Any, ...]]) -> None:
        self.session.begin()
        for row in rows:
            self.session.run(sql, row)
        self.session.commit()


@pytest.mark.parametrize("shape", ["ingest", "ingest long"])
def test_events_have_the_verdict_that_sets_of_them_give(
    shape: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workloads.scenarios.ingest.PAGE", 13)
    seen: Counter[str] = Counter()
    for seed in range(25):
        of, log, _ = drawn_log(shape, seed, 40)
        assert isinstance(of, Ingest)
        sure = {(LOADED, n) for n in range(of.params.rows)}
        maybe: set[tuple[int, int]] = set()
        unsure = []
        for worker in writers(log):
            for draw, row in by_hand(log, worker):
                events = [(worker.worker, n) for n, _, _ in draw.args]
                if row["outcome"] == COMMITTED:
                    sure |= set(events)
                elif row["outcome"] == UNKNOWN:
                    maybe |= set(events)
                    unsure.append(events)
        rng = np.random.default_rng(seed)
        damage = 0 if seed % 3 == 0 else 0.03
        there = [e for e in sorted(sure) if rng.random() >= damage]
        there += [e for events in unsure if rng.random() < 0.5
                  for e in events if rng.random() >= 3 * damage]  # fmt: skip
        if damage:
            there += [(0, 9_000), (-7, 3), (3, 1 << 50), (-7, 3), there[-1], there[0], there[0]]
        table = Table(tmp_path / f"{seed}", of)
        table.fill("INSERT INTO event(worker, n, tag, body) VALUES (?, ?, 0, '')", there)
        events_finding, whole = of.check(table.session, log)
        found = Counter(there)
        expected = {
            "lost": sorted(sure - found.keys()),
            "extra": sorted(found.keys() - sure - maybe),
            "twice": sorted(event for event, times in found.items() if times > 1),
        }
        assert events_finding.evidence == {name: each[:20] for name, each in expected.items()}
        assert events_finding.ok == (not any(expected.values()))
        told = f"{found.total():,} events, {len(sure):,} acknowledged or loaded"
        assert events_finding.sentence.startswith(told)
        assert (f"{len(maybe):,} of unknown outcome" in events_finding.sentence) == bool(maybe)
        torn = [each[0] for each in unsure
                if any(e in found for e in each) and not all(e in found for e in each)]  # fmt: skip
        torn = torn if of.params.operations > 1 else []
        assert whole.evidence == {"torn": torn[:20]} and whole.ok == (not torn)
        seen.update(name for name, each in expected.items() if each)
        seen.update(("torn",) * bool(torn) + ("well",) * events_finding.ok)
    assert {"lost", "extra", "twice", "well"} <= seen.keys()
    assert ("torn" in seen) == ("long" in shape)


@pytest.mark.parametrize("shape", ["bank", "bank long"])
def test_balances_have_the_verdict_of_the_plain_replay(shape: str, tmp_path: Path) -> None:
    well = 0
    for seed in range(20):
        of, log, _ = drawn_log(shape, seed)
        assert isinstance(of, Bank)
        moved: Counter[int] = Counter()
        committed = unknown = 0
        for worker in writers(log):
            for draw, row in by_hand(log, worker):
                sure = row["outcome"] == COMMITTED
                committed += bool(sure)
                unknown += row["outcome"] == UNKNOWN
                for source, target, amount in (draw.args,) if shape == "bank" else draw.args:
                    moved[source] -= amount * bool(sure)
                    moved[target] += amount * bool(sure)
        table = Table(tmp_path / f"{seed}", of)
        wrong = seed % 2
        start = of.params.start_balance
        accounts = [(a, start + moved[a] + (a < wrong), "") for a in range(of.params.rows)]
        table.fill("INSERT INTO account VALUES (?, ?, ?)", accounts)
        balances = of.check(table.session, log)[1]
        assert balances.evidence["committed"] == committed
        assert balances.evidence["unknown"] == unknown
        if unknown <= 4:
            assert balances.ok == (not wrong)
            well += balances.ok
            if wrong:
                (off,) = balances.evidence["accounts"]
                assert off == {
                    "account": 0,
                    "found": accounts[0][1],
                    "expected": accounts[0][1] - 1,
                }
    assert well


def test_values_that_were_written_twice_are_those_of_the_plain_replay(tmp_path: Path) -> None:
    several = 0
    for seed in range(40):
        of, log, _ = drawn_log("counter", seed)
        assert isinstance(of, CounterScenario)
        written: dict[tuple[int, int], tuple[int, int]] = {}
        increments: Counter[int] = Counter()
        twice = []
        for worker in writers(log):
            for draw, row in by_hand(log, worker):
                if row["outcome"] != COMMITTED:
                    continue
                increments.update(draw.args)
                value = (draw.args[0], int(row["result"]))
                who = (worker.worker, int(row["txn"]))
                first = written.setdefault(value, who)
                if first is not who:
                    twice.append({"counter": value[0], "n": value[1], "by": [first, who]})
        table = Table(tmp_path / f"{seed}", of)
        table.fill("INSERT INTO counter VALUES (?, ?, '')", [(k, increments[k]) for k in range(4)])
        counts, found = of.check(table.session, log)
        assert found == written_twice(twice, len(written))
        assert counts.ok and counts.evidence["committed"] == increments.total()
        several += len(twice) > 5
    assert several > 10


@pytest.mark.parametrize("shape", ["append", "append long", "append rows"])
def test_counts_of_appends_are_those_of_the_plain_replay(shape: str, tmp_path: Path) -> None:
    unsure = 0
    for seed in range(40):
        of, log, _ = drawn_log(shape, seed, 400)
        assert isinstance(of, Append)
        counts: Counter[int] = Counter()
        for worker in log.workers:
            for draw, row in by_hand(log, worker):
                counts[int(row["outcome"])] += sum(not only_read for _, only_read in draw.args)
        table = Table(tmp_path / f"{seed}", of)
        wrong = seed % 2
        found = counts[COMMITTED] + counts[UNKNOWN] + wrong
        if shape == "append rows":
            table.fill("INSERT INTO element VALUES (?, ?)", [(n, n) for n in range(found)])
        else:
            table.fill("INSERT INTO list VALUES (?, ?)", [(1, "1 " * found)])
        (elements,) = of.check(table.session, log)
        expected = {"committed": counts[COMMITTED], "unknown": counts[UNKNOWN]}
        assert elements.evidence == {"found": found, **expected}
        assert elements.ok == (not wrong)
        unsure += counts[UNKNOWN] > 0
    assert unsure > 20


@pytest.mark.parametrize("shape", ["register", "register long"])
def test_writes_of_rows_are_those_of_the_plain_replay(
    shape: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Written] = []

    class Kept(Written):
        def __init__(self) -> None:
            super().__init__()
            made.append(self)

    monkeypatch.setattr("workloads.scenarios.register.Written", Kept)
    for seed in range(20):
        of, log, _ = drawn_log(shape, seed)
        assert isinstance(of, Register)
        table = Table(tmp_path / f"{seed}", of)
        rows = [(key, 1, f"{key % 2}.{key * 3}|x") for key in range(9)]
        table.fill("INSERT INTO register VALUES (?, ?, ?)", rows)
        expected = Written()
        expected.ends = {(key % 2, key * 3): None for key in range(9)}
        for worker in writers(log):
            for draw, row in by_hand(log, worker):
                if row["outcome"] in (COMMITTED, UNKNOWN):
                    steps = draw.args if draw.kind == MIXED else (draw.args,)
                    add_as_it_was(expected, worker.worker, int(row["txn"]), steps, row)
        of.check(table.session, log)
        assert vars(made.pop()) == vars(expected)


def add_as_it_was(written: Written, worker: int, txn: int, steps: Any, row: np.void) -> None:
    sure = row["outcome"] == COMMITTED
    if (worker, txn) in written.ends:
        written.ends[worker, txn] = int(row["end_ns"]) if sure else None
        written.keys[worker, txn] = {s[1] for s in steps if s[0] in (UPDATE, ADD, RMW)}
    start = int(row["start_ns"])
    for operation, key, _, _ in steps:
        if operation in (READ, SCAN):
            continue
        if operation == RMW:
            (written.modified if sure else written.maybe_modified)[key] += 1
        if operation == ADD:
            if sure:
                written.inserted[key] = (worker, txn)
            else:
                written.maybe_inserted.add(key)
        if sure and start > written.newest_start.get(key, (0,))[0]:
            written.newest_start[key] = (start, worker, txn)
    written.committed += bool(sure)
    written.unknown += not sure
