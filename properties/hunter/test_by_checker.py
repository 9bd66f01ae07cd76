"""The checker on the hunter's programs: what it reads of them, what it catches, and its silence."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from properties.hunter.by_checker import history_of, judge_history
from properties.hunter.hunt import Hunter
from workloads.engines import trust
from workloads.schedules import Played, Program, Result, parse_program

BROKEN = Path(__file__).with_name("broken.py")
TABLES = (
    "CREATE TABLE t0(id INTEGER PRIMARY KEY, v INTEGER, w TEXT)\n"
    "INSERT INTO t0(id, v, w) VALUES (1, 7, 'a')\n"
    "INSERT INTO t0(id, v, w) VALUES (2, 8, 'b')\n---\n"
)
WRITE_SKEW = parse_program(
    f"{TABLES}A begin concurrent\nB begin concurrent\n"
    "A sql SELECT id, v, w FROM t0 WHERE id = 1\nB sql SELECT id, v, w FROM t0 WHERE id = 2\n"
    "A sql UPDATE t0 SET v = 101 WHERE id = 2\nB sql UPDATE t0 SET v = 102 WHERE id = 1\n"
    "A commit\nB commit"
)


def played_on(name: str, program: Program, *modes: str) -> Played:
    engine = f"{BROKEN}:{name}"
    trust(engine)
    with contextlib.closing(Hunter(engine, modes, 1)) as hunter:
        played = hunter.stage.play(program)
        hunter.stage.close()
        return played


def test_a_program_is_read_as_a_history() -> None:
    played = played_on("ClaimsTooMuch", WRITE_SKEW, "concurrent")
    end = {"SELECT id, v, w FROM t0": Result("ok", [(1, 102, "a"), (2, 101, "b")])}
    history = history_of(played, end)
    assert history is not None
    assert [history.ops(at) for at in range(len(history))] == [
        [("w", "t0 1", 7), ("w", "t0 2", 8)],
        [("r", "t0 1", 7), ("w", "t0 2", 101)],
        [("r", "t0 2", 8), ("w", "t0 1", 102)],
        [("r", "t0 1", 102), ("r", "t0 2", 101)],
    ]


def test_write_skew_is_what_serializable_forbids_and_snapshot_isolation_does_not() -> None:
    played = played_on("ClaimsTooMuch", WRITE_SKEW, "concurrent")
    wrong = judge_history(played, {}, serializable=True)
    assert wrong is not None
    assert wrong.judge == "isolation"
    assert "G2" in wrong.seen
    assert judge_history(played, {}, serializable=False) is None


def test_a_read_of_what_was_rolled_back_is_caught() -> None:
    steps = (
        "A begin immediate\nA sql UPDATE t0 SET v = 101 WHERE id = 1\n"
        "B sql SELECT id, v, w FROM t0\nA rollback"
    )
    program = parse_program(TABLES + steps)
    wrong = judge_history(played_on("NoTransactions", program, "immediate"), {}, serializable=True)
    assert wrong is not None
    assert "G1a" in wrong.seen
    assert judge_history(played_on("Sound", program, "immediate"), {}, serializable=True) is None


def test_it_is_silent_on_a_sound_engine_where_it_reads() -> None:
    engine = f"{BROKEN}:Sound"
    trust(engine)
    with contextlib.closing(Hunter(engine, ("deferred", "immediate"), 1)) as hunter:
        read = 0
        for index in range(60):
            assert hunter.judged(hunter.program(index)) is None
            read += bool(hunter.last and history_of(hunter.last, {}))
        assert read


@pytest.mark.parametrize(
    "step",
    [
        "A sql UPDATE t0 SET v = v + 1 WHERE id = 1",
        "A sql UPDATE t0 SET v = 9 WHERE v > 1",
        "A sql UPDATE t0 SET v = 7 WHERE id = 1",  # the value that it had at first
        "A sql DELETE FROM t0 WHERE id = 1",
        "A sql INSERT INTO t0(id, v, w) VALUES (3, 9, 'c')",
    ],
)
def test_a_write_that_it_cannot_read_leaves_the_program_to_the_reference(step: str) -> None:
    played = played_on("Sound", parse_program(f"{TABLES}{step}\n"), "immediate")
    assert played.results[0].status == "ok"
    assert history_of(played, {}) is None
