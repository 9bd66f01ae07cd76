"""bank, counter, acked and the README's example: sound runs pass, and every harm is named.

The runs here are made in this process on real engines, one session for all places, so that records
and rows can be harmed one at a time. Free-running processes are in runs/test_conduct.py; the race
itself is the slow test at the end.
"""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from workloads.engines import Settings, find_engine, trust
from workloads.records import WorkerEntry
from workloads.records import attempts as rec
from workloads.runs import make_plan, run
from workloads.runs.control import LINE
from workloads.scenarios.acked import Acked, AckedShape
from workloads.scenarios.bank import explained_by
from workloads.scenarios.scenario import InvariantBroken, RunLog, WorkerContext, find_scenario

WALLET = f"{Path(__file__).parents[2] / 'examples' / 'scenario_wallet.py'}:Wallet"
trust(WALLET)
SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "bank": ("bank", {"rows": 20, "record_bytes": 5}),
    "bank long": ("bank", {"rows": 20, "record_bytes": 5, "operations": 3, "keys": "zipfian"}),
    "counter": ("counter", {"rows": 5, "record_bytes": 5}),
    "counter long": ("counter", {"rows": 5, "record_bytes": 5, "operations": 3}),
    "acked": ("acked", {"rows": 20, "record_bytes": 50, "frames": 4, "wait_ms": 0}),
    "acked index": ("acked", {"rows": 20, "frames": 4, "index": True}),
    "request": ("request", {"rows": 20, "queries": 4}),
    "request in one statement": (
        "request",
        {"rows": 5, "queries": 4, "how": "one-statement"},
    ),
    "wallet": (WALLET, {"rows": 5}),
}


def blank_board(workers: int) -> Any:
    slots: Any = np.zeros(LINE * workers, "<i8")
    return memoryview(slots)


class SmallRun:
    """A run of two writers and a reader in turn on one session, with their records."""

    def __init__(self, shape, path, engine="sqlite", transactions=60, checked=True):
        name, params = SHAPES[shape]
        made = find_scenario(name)
        self.scenario = made(made.Params(**params))
        self.session = find_engine(engine).connect(str(path), settings=Settings())
        self.ran = []
        places = (("writer", 0), ("writer", 1), ("reader", 0))
        board = blank_board(len(places))
        self.places = [
            WorkerContext(role, number, 2 if role == "writer" else 1, worker, (5, worker),
            self.session,
                 board, clock=time.monotonic_ns, places=places, checked=checked)
            for worker, (role, number) in enumerate(places)
        ]  # fmt: skip
        for statement in self.scenario.schema():
            self.session.run(statement)
        self.scenario.load(self.session, np.random.default_rng(1))
        self.workers = self._run(transactions)

    def _run(self, transactions):
        scenario, session = self.scenario, self.session
        at_work: list[Any] = [
            (
                context,
                scenario.draw(context),
                scenario.bodies(context),
                scenario.acknowledged(context),
                [],
            )
            for context in self.places
        ]
        for txn in range(transactions):
            for context, draw, bodies, acknowledged, rows in at_work:
                drawn = draw()
                if context.role == "writer":
                    self.ran.append((context.worker, txn, drawn))
                start = time.monotonic_ns()
                session.begin()
                result = bodies[drawn.kind](drawn.args) or 0
                session.commit()
                if acknowledged:
                    acknowledged(drawn, result)
                end = time.monotonic_ns()
                rows.append((start, start, txn, 1, drawn.kind, 0, start, end, end, result, 0,
                             rec.COMMITTED, 0, 0, b""))  # fmt: skip
        return [
            rec.WorkerRecord(
                **(entry := {"worker": context.worker, "role": context.role,
                            "number": context.number, "engine": "", "begin": ""}),
                rows=rec.Rows(np.array(rows, dtype=rec.ATTEMPT)), messages=(),
                entry=WorkerEntry(**entry),
            )
            for context, _, _, _, rows in at_work
        ]  # fmt: skip

    def change(self, worker, txn, outcome):
        """Change a worker's record of one transaction."""
        attempts = self.workers[worker].attempts.copy()
        attempts["outcome"][txn] = outcome
        self.workers[worker] = replace(self.workers[worker], rows=rec.Rows(attempts))

    def drawn(self, worker, txn):
        return next(draw for w, t, draw in self.ran if (w, t) == (worker, txn))

    def log(self):
        places = self.places
        return RunLog(
            self.scenario,
            self.workers,
            lambda w: WorkerContext(
                w.role,
                w.number,
                places[w.worker].of,
                w.worker,
                (5, w.worker),
                places=places[0].places,
            ),
        )

    def findings(self):
        return {f.check: f for f in self.scenario.check(self.session, self.log())}

    def broken(self):
        """Sentences of the findings that are not ok, by check."""
        return {name: f.sentence for name, f in self.findings().items() if not f.ok}


@pytest.fixture
def small_run(tmp_path):
    opened: list[SmallRun] = []

    def start(shape, engine="sqlite", **more):
        opened.append(SmallRun(shape, tmp_path / f"{len(opened)}.db", engine, **more))
        return opened[-1]

    yield start
    for small in opened:
        small.session.close()


@pytest.mark.parametrize("engine", ["sqlite", "libsql"])
@pytest.mark.parametrize("shape", list(SHAPES))
def test_a_sound_run_holds_every_invariant(small_run, shape, engine):
    found = small_run(shape, engine).findings()
    assert found
    assert all(finding.ok for finding in found.values()), found


@pytest.mark.parametrize("shape", list(SHAPES))
def test_a_replay_draws_what_was_run(small_run, shape):
    small = small_run(shape)
    log = small.log()
    replayed = [
        (worker.worker, int(row["txn"]), draw)
        for worker in small.workers
        if worker.role == "writer"
        for draw, row in log.replay(worker)
    ]
    assert sorted(replayed) == sorted(small.ran)
    assert len(replayed) == 120


@pytest.mark.parametrize("shape", list(SHAPES))
def test_no_scenario_finds_fault_with_an_engine_that_stores_nothing(small_run, shape):
    # Its answers are all zeros; the runner says so by `checked`, and checks nothing afterwards.
    small_run(shape, "null", checked=False)


# --- request ----------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["request", "request in one statement"])
def test_a_request_that_got_other_rows_is_found(small_run, shape):
    request = small_run(shape)
    request.workers[2].attempts["result"][11] += 1
    assert "1 of 60 requests got other rows" in request.broken()["answers"]


def test_an_update_that_is_lost_or_made_twice_is_found(small_run):
    request = small_run("request")
    (key,) = request.drawn(0, 7).args
    for step in (-1, 2):
        request.session.run("UPDATE request SET n = n + ? WHERE id = ?", (step, key))
        assert f"row {key} counts" in request.broken()["updates"]


def test_an_unknown_update_may_have_happened_or_not(small_run):
    request = small_run("request")
    (key,) = request.drawn(0, 7).args
    request.change(0, 7, rec.UNKNOWN)
    assert not request.broken()
    request.session.run("UPDATE request SET n = n - 1 WHERE id = ?", (key,))
    assert not request.broken()
    request.session.run("UPDATE request SET n = n - 1 WHERE id = ?", (key,))
    assert "(and 1 unknown)" in request.broken()["updates"]


def test_a_row_that_is_gone_ends_the_run(small_run):
    request = small_run("request")
    request.session.run("DELETE FROM request WHERE id = 3")
    ask = request.scenario.bodies(request.places[2])[1]
    with pytest.raises(InvariantBroken, match="Row 3 is gone"):
        ask((1, 3))


# --- bank -------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["bank", "bank long"])
def test_money_from_nowhere_changes_the_total_and_its_account(small_run, shape):
    bank = small_run(shape)
    held = bank.session.rows("SELECT balance FROM account WHERE id = 7")[0][0]
    bank.session.run("UPDATE account SET balance = balance + 13 WHERE id = 7")
    broken = bank.broken()
    assert "20,013" in broken["total"] and "20,000" in broken["total"]
    assert f"account 7 holds {held + 13:,} where {held:,} is right" in broken["balances"]


def test_money_moved_by_nobody_keeps_the_total_and_breaks_two_balances(small_run):
    bank = small_run("bank")
    bank.session.run("UPDATE account SET balance = balance + 5 WHERE id = 3")
    bank.session.run("UPDATE account SET balance = balance - 5 WHERE id = 4")
    broken = bank.broken()
    assert list(broken) == ["balances"]
    assert "2 of 20 balances" in broken["balances"]


def test_an_acknowledged_transfer_that_is_lost_is_found(small_run):
    bank = small_run("bank")
    source, target, amount = bank.drawn(0, 30).args
    undo(bank, source, target, amount)
    assert "2 of 20 balances" in bank.broken()["balances"]


def test_a_missing_account_is_found_by_the_check_and_by_a_transfer(small_run):
    bank = small_run("bank")
    bank.session.run("DELETE FROM account WHERE id = 3")
    assert "19 accounts" in bank.broken()["total"]
    transfer = bank.scenario.bodies(bank.places[0])[0]
    with pytest.raises(InvariantBroken, match=r"no account \[3\]"):
        transfer((3, 4, 1))


def test_an_audit_that_sees_another_total_ends_the_run(small_run):
    bank = small_run("bank")
    bank.session.run("UPDATE account SET balance = balance - 1 WHERE id = 19")
    audit = bank.scenario.bodies(bank.places[2])[1]
    with pytest.raises(InvariantBroken, match=r"19,999 in 20 accounts.*20,000") as broken:
        audit(())
    assert broken.value.evidence == {"seen": 19_999, "expected": 20_000, "accounts": 20}


def test_an_audit_told_of_another_total_is_found_afterwards(small_run):
    bank = small_run("bank")
    bank.workers[2].attempts["result"][11] = 19_000
    assert "59 of 60 audits saw 20,000; others saw 19,000" in bank.broken()["audits"]


@pytest.mark.parametrize("happened", [True, False])
def test_an_unknown_transfer_may_have_happened_or_not(small_run, happened):
    bank = small_run("bank")
    bank.change(0, 59, rec.UNKNOWN)
    if not happened:
        undo(bank, *bank.drawn(0, 59).args)
    found = bank.findings()
    assert all(finding.ok for finding in found.values())
    assert f"{int(happened)} of 1 of unknown outcome" in found["balances"].sentence


def test_an_unknown_transfer_does_not_excuse_another_balance(small_run):
    bank = small_run("bank")
    bank.change(0, 59, rec.UNKNOWN)
    undo(bank, 1, 2, 1_000)
    assert "balances" in bank.broken()


def test_with_many_unknown_transfers_untouched_accounts_are_still_exact(small_run):
    bank = small_run("bank long", transactions=200)
    for txn in range(0, 200, 10):
        bank.change(0, txn, rec.UNKNOWN)
    found = bank.findings()["balances"]
    assert found.ok and "20 transactions of unknown outcome" in found.sentence


def test_a_conflict_told_for_a_transfer_that_happened_is_found(small_run):
    bank = small_run("bank")
    bank.change(1, 20, rec.CONFLICT)
    assert "119 committed transactions" in bank.broken()["balances"]


def test_unknown_transfers_are_searched_for_the_subset_that_fits():
    unknown = [{1: -5, 2: 5}, {2: -5, 3: 5}, {1: -2, 3: 2}]
    assert explained_by({1: -5, 3: 5}, unknown) == (0, 1)
    assert explained_by({}, unknown) == ()
    assert explained_by({1: -1}, unknown) is None


def undo(bank, source, target, amount):
    bank.session.run("UPDATE account SET balance = balance + ? WHERE id = ?", (amount, source))
    bank.session.run("UPDATE account SET balance = balance - ? WHERE id = ?", (amount, target))


# --- counter ----------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["counter", "counter long"])
@pytest.mark.parametrize("change", [-1, 1])
def test_a_counter_that_lost_or_won_an_increment_is_named(small_run, shape, change):
    counter = small_run(shape)
    n = counter.session.rows("SELECT n FROM counter WHERE id = 2")[0][0]
    counter.session.run("UPDATE counter SET n = ? WHERE id = 2", (n + change,))
    broken = counter.broken()["counters"]
    assert f"counter 2 holds {n + change} after {n} committed" in broken


def test_a_counter_that_is_gone_is_named(small_run):
    counter = small_run("counter")
    counter.session.run("DELETE FROM counter WHERE id = 2")
    assert "counter 2 is missing" in counter.broken()["counters"]
    with pytest.raises(InvariantBroken, match="Counter 2 is gone"):
        counter.scenario.bodies(counter.places[0])[0]((2,))


def test_two_increments_to_one_value_are_a_lost_update_by_name(small_run):
    counter = small_run("counter")
    key = counter.drawn(0, 10).args
    other = next(t for w, t, draw in counter.ran if w == 1 and draw.args == key and t > 10)
    value = counter.workers[0].attempts["result"][10]
    counter.workers[1].attempts["result"][other] = value
    broken = counter.broken()["lost updates"]
    assert f"counter {key[0]} was set to {value} by transaction 10 of worker 0" in broken
    assert f"transaction {other} of worker 1" in broken


def test_a_counter_that_goes_back_ends_the_run(small_run):
    counter = small_run("counter")
    look = counter.scenario.bodies(counter.places[2])[1]
    before = look((2,))
    counter.session.run("UPDATE counter SET n = n - 1 WHERE id = 2")
    with pytest.raises(InvariantBroken, match=f"Counter 2 was {before} .* {before - 1}"):
        look((2,))


@pytest.mark.parametrize("happened", [True, False])
def test_an_unknown_increment_may_have_happened_or_not(small_run, happened):
    counter = small_run("counter")
    counter.change(0, 59, rec.UNKNOWN)
    key = counter.drawn(0, 59).args
    if not happened:
        counter.session.run("UPDATE counter SET n = n - 1 WHERE id = ?", key)
    found = counter.findings()["counters"]
    assert found.ok and "1 of unknown outcome" in found.sentence
    counter.session.run("UPDATE counter SET n = n - 2 WHERE id = ?", key)
    assert f"counter {key[0]} holds" in counter.broken()["counters"]


# --- acked ------------------------------------------------------------------------------------


def test_a_lost_acknowledged_value_is_seen_by_the_next_look_and_by_the_check(small_run):
    acked = small_run("acked")
    acked.session.run("DELETE FROM item WHERE id = ?", (1 << 24 | 58,))
    assert "lost: transaction 58 of writer 1" in acked.broken()["acknowledged values"]
    reader = acked.places[2]
    draw = acked.scenario.draw(reader)()
    with pytest.raises(InvariantBroken) as broken:
        acked.scenario.bodies(reader)[draw.kind](draw.args)
    assert "Writer 1 was told that its transactions 0 to 59" in broken.value.sentence
    assert "found 59 of 60 values: 58 is not there" in broken.value.sentence
    assert broken.value.evidence["missing"] == [58]


def test_a_value_that_no_writer_was_told_of_is_found(small_run):
    acked = small_run("acked")
    acked.change(0, 7, rec.CONFLICT)
    assert "transaction 7 of writer 0" in acked.broken()["only told values"]


@pytest.mark.parametrize("happened", [True, False])
def test_an_unknown_value_may_be_there_or_not(small_run, happened):
    acked = small_run("acked")
    acked.change(0, 59, rec.UNKNOWN)
    if not happened:
        acked.session.run("DELETE FROM item WHERE id = 59")
    found = acked.findings()
    assert all(finding.ok for finding in found.values())
    assert "1 of unknown outcome" in found["acknowledged values"].sentence


def test_a_reader_does_not_look_for_a_value_that_was_given_up(small_run):
    acked = small_run("acked")
    writer, reader = acked.places[0], acked.places[2]
    publish = acked.scenario.acknowledged(writer)
    large = acked.scenario.bodies(writer)[0]
    for n in (100, 101, 103):  # 102 was refused and its writer went on
        acked.session.begin()
        large(n)
        acked.session.commit()
        publish(acked.drawn(0, 0)._replace(args=n), n)
    draw = acked.scenario.draw(reader)()
    assert [(one.low, one.newest) for one in draw.args] == [(103, 103), (0, 59)]
    assert acked.scenario.bodies(reader)[draw.kind](draw.args) == 61


def test_a_small_commit_waits_for_the_checkpointers_but_not_for_ever(tmp_path):
    scenario = Acked(AckedShape(wait_ms=30))
    places = (("writer", 0), ("checkpointer", 0))
    board = blank_board(2)
    session = find_engine("null").connect("")
    writer, checkpointer = (
        WorkerContext(role, 0, 1, n, (1,), session, board, clock=time.monotonic_ns, places=places)
        for n, (role, _) in enumerate(places)
    )
    draw, report = scenario.draw(writer), scenario.checkpointed(checkpointer)

    def waited_ns():
        draw()  # a large one, without a wait
        begun = time.monotonic_ns()
        draw()
        return time.monotonic_ns() - begun

    assert waited_ns() >= 30e6  # nobody has reported
    report(0, 80, 79)
    assert waited_ns() >= 30e6  # a frame is missing
    report(0, 80, 80)
    assert min(waited_ns() for _ in range(5)) < 30e6


def racing(engine, begin, folder, seed, seconds, **more):
    usual = {"writers": 1, "readers": 1, "checkpointers": 3, "synchronous": "off", "warmup_s": 0}
    plan = make_plan(
        scenario="acked",
        database=engine,
        begin=begin,
        duration_s=seconds,
        seed=seed,
        **usual | more,
    )
    return run(plan, folder).manifest


@pytest.mark.slow
def test_libsql_loses_an_acknowledged_commit_to_a_checkpoint(tmp_path, seed):
    manifest = racing("libsql", "immediate", tmp_path, seed, 60)
    assert manifest.ended == "invariant broken", manifest.findings
    assert any("not there" in f.sentence for f in manifest.findings if not f.ok)


@pytest.mark.slow
def test_a_single_process_that_checkpoints_is_enough_for_libsql_to_lose_one(tmp_path, seed):
    alone = {"checkpointers": 1, "wal_autocheckpoint": 0}
    manifest = racing("libsql", "immediate", tmp_path, seed, 120, **alone)
    assert manifest.ended == "invariant broken", manifest.findings


@pytest.mark.slow
def test_full_checkpoints_alone_lose_nothing_on_libsql(tmp_path, seed):
    locked = {"checkpoint": "full", "wal_autocheckpoint": 0}
    manifest = racing("libsql", "immediate", tmp_path, seed, 30, **locked)
    assert manifest.ok, manifest.findings


@pytest.mark.slow
@pytest.mark.parametrize(
    ("engine", "begin"),
    [
        ("sqlite-concurrent", "immediate"),
        ("sqlite-concurrent", "concurrent"),
        ("sqlite-latest", "immediate"),
    ],
)
def test_a_fixed_sqlite_loses_nothing_in_the_same_race(tmp_path, seed, engine, begin):
    if why := find_engine(engine).missing():
        pytest.skip(why)
    manifest = racing(engine, begin, tmp_path, seed, 30)
    assert manifest.ok, manifest.findings


# --- a scenario of the user's own -------------------------------------------------------------


def test_the_examples_rule_breaks_where_a_withdrawal_saw_an_old_balance(small_run):
    wallet = small_run("wallet")
    wallet.session.run("UPDATE wallet SET balance = -150 WHERE id IN (4, 5)")
    broken = wallet.broken()
    assert "1 customers have less than nothing: [(2, -300)]" in broken["no customer below zero"]
    assert "money" in broken
