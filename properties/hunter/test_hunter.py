"""The hunter finds what is broken on purpose, each by its judge, and nothing on sound engines."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from random import Random

import psutil
import pytest

from properties.hunter.drawing import FEATURES, WAYS, Grammar, draw
from properties.hunter.folder import tried
from properties.hunter.hunt import Hunter
from properties.hunter.judges import Found
from properties.hunter.script import script
from workloads.engines import Script, find_engine, trust
from workloads.schedules import Played, kind_of, parse_program, stage

BROKEN = Path(__file__).with_name("broken.py")
ONE_WRITER = ("deferred", "immediate")


@contextlib.contextmanager
def hunting(engine: str, *modes: str, seed: int = 1) -> Iterator[Hunter]:
    trust(engine)
    if why := find_engine(engine).missing():
        pytest.skip(why)
    with contextlib.closing(Hunter(engine, modes, seed)) as hunter:
        yield hunter


def first(hunter: Hunter, most: int, judges: tuple[str, ...]) -> tuple[int, Found, Played] | None:
    """The first program that one of these judges has something against."""
    for index in range(most):
        made = hunter.judged(hunter.program(index))
        if made and made[0].wrong.judge in judges:
            return index, *made
    return None


@pytest.mark.parametrize(
    ("name", "judges"),
    [
        ("ForgetsCommits", ("rows", "rows kept")),
        ("ActsThenRaises", ("rows", "rows kept")),
        ("IgnoresUnique", ("error",)),
        ("IgnoresForeignKeys", ("error",)),
        ("SpoilsIndexes", ("integrity",)),
        ("FailsToClose", ("connection",)),
        ("Panics", ("panic",)),
        ("Aborts", ("abort",)),
        ("RefusesForNobody", ("needless refusal",)),
        ("LosesItsPlace", ("transaction state",)),
        ("NoTransactions", ("rows", "rows kept")),
        ("LiesAboutRows", ("rows",)),
    ],
)
def test_each_judge_catches_the_engine_that_is_broken_so(
    name: str, judges: tuple[str, ...]
) -> None:
    with hunting(f"{BROKEN}:{name}", *ONE_WRITER) as hunter:
        assert first(hunter, 200, judges)


def test_what_is_lost_by_opening_once_more_is_found() -> None:
    with hunting(f"{BROKEN}:ForgetsWhatWasRead", *ONE_WRITER) as hunter:
        made = hunter.judged(parse_program("CREATE TABLE t0(v)\nINSERT INTO t0 VALUES (1)\n---\n"))
        assert made
        assert (made[0].wrong.judge, made[0].when) == ("rows kept", "after it was opened once more")


def test_what_nobody_can_know_is_no_finding_and_is_counted() -> None:
    with hunting(f"{BROKEN}:LosesTheAnswer", *ONE_WRITER) as hunter:
        for index in range(90):
            assert hunter.judged(hunter.program(index)) is None
            if index >= 30 and hunter.tally.unsure < hunter.tally.programs:
                break
        assert hunter.tally.statuses["unknown"] > 0
        assert 0 < hunter.tally.unsure < hunter.tally.programs


def test_every_process_is_reaped_whatever_the_engine_does() -> None:
    def zombies() -> set[int]:
        children = psutil.Process().children(recursive=True)
        return {one.pid for one in children if one.status() == psutil.STATUS_ZOMBIE}

    before = zombies()
    for name in ("FailsToClose", "Aborts"):
        with hunting(f"{BROKEN}:{name}", *ONE_WRITER) as hunter:
            for index in range(12):
                hunter.judged(hunter.program(index))
    assert zombies() <= before


def test_a_file_that_one_connection_has_to_itself_is_refused_rightly() -> None:
    program = parse_program(
        "OPEN locking_mode = exclusive\nOPEN cache_size = 1\n"
        "CREATE TABLE t0(id INTEGER PRIMARY KEY, v INTEGER)\n---\n"
        "A sql INSERT INTO t0(id, v) VALUES (3, 8)\nB close"
    )
    with hunting("sqlite", *ONE_WRITER) as hunter:
        assert hunter.judged(program) is None


def test_processes_that_somebody_kills_are_no_finding() -> None:
    three = parse_program("--- apart\nA sql SELECT 1\nB sql SELECT 1\nC sql SELECT 1")
    with hunting(f"{BROKEN}:Sound", *ONE_WRITER) as hunter:
        assert hunter.looked_at(three, 0) is None
        copies = [
            one for one in psutil.Process().children(recursive=True)
            if one.parent() not in (None, psutil.Process())
        ]  # fmt: skip
        copies[0].parent().kill()  # of which all three are copies, and they end with it
        psutil.wait_procs(copies, timeout=20)
        assert hunter.looked_at(parse_program("---\nA sql SELECT 1"), 0) is None
        assert hunter.last is not None
        assert hunter.last.results[0].rows == [(1,)]


def test_an_engine_that_never_comes_back_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "LIMIT_S", 0.5)
    with hunting(f"{BROKEN}:Hangs", *ONE_WRITER) as hunter:
        made = first(hunter, 100, ("hang",))
        assert made
        assert made[2].program.steps[made[1].at].text.startswith("DELETE")


def test_an_open_cursor_keeps_its_snapshot_for_a_transaction_that_begins() -> None:
    program = parse_program(
        "CREATE TABLE t0(id INTEGER PRIMARY KEY, v INTEGER)\nINSERT INTO t0 VALUES (1, 7)\n---\n"
        "A half SELECT v FROM t0\nC sql INSERT INTO t0(id, v) VALUES (5, 0)\nA begin\n"
        "A sql SELECT v FROM t0\nA commit"
    )
    with hunting(f"{BROKEN}:Sound", *ONE_WRITER) as hunter:
        assert hunter.judged(program) is None


def test_a_statement_about_another_file_takes_no_snapshot_of_this_one() -> None:
    program = parse_program(
        "CREATE TABLE t0(id INTEGER PRIMARY KEY, v INTEGER)\n---\nA sql ATTACH ':memory:' AS side\n"
        "A begin\nA sql CREATE TABLE IF NOT EXISTS side.s(v INTEGER)\n"
        "B sql INSERT INTO t0(id, v) VALUES (4, 2)\nA sql SELECT v FROM t0\nA commit"
    )
    with hunting(f"{BROKEN}:Sound", *ONE_WRITER) as hunter:
        assert hunter.judged(program) is None


def test_snapshot_isolation_is_not_serializable() -> None:
    with hunting(f"{BROKEN}:ClaimsTooMuch", "concurrent") as hunter:
        program = parse_program(
            "CREATE TABLE t0(id INTEGER PRIMARY KEY, v INTEGER)\n"
            "INSERT INTO t0(id, v) VALUES (1, 1)\nINSERT INTO t0(id, v) VALUES (2, 1)\n---\n"
            "A begin concurrent\nB begin concurrent\nA sql SELECT v FROM t0 WHERE id = 1\n"
            "B sql SELECT v FROM t0 WHERE id = 2\nA sql UPDATE t0 SET v = 0 WHERE id = 2\n"
            "B sql UPDATE t0 SET v = 0 WHERE id = 1\nA commit\nB commit"
        )
        made = hunter.judged(program)
        assert made
        assert made[0].wrong.judge == "serializable"
        assert made[0].at == len(program.steps) - 1


@pytest.mark.parametrize(
    ("engine", "modes"),
    [
        (f"{BROKEN}:Sound", ONE_WRITER),
        ("libsql", ONE_WRITER),
        ("sqlite-latest", (*ONE_WRITER, "exclusive")),
        ("sqlite-concurrent", ("concurrent", "immediate")),
    ],
    ids=lambda value: str(value).rpartition(":")[2],
)
def test_sound_engines_show_nothing(
    engine: str, modes: tuple[str, ...], request: pytest.FixtureRequest
) -> None:
    most = 2_000 if request.config.getoption("--slow") else 40
    with hunting(engine, *modes) as hunter:
        for index in range(most):
            made = hunter.judged(hunter.program(index))
            assert made is None, f"{made[0] if made else ''}\n{hunter.program(index)}"
        statuses = hunter.tally.statuses
        assert hunter.tally.programs == most
        assert statuses["ok"] > 5 * most
        assert statuses["failed"] > 0
        assert statuses["conflict"] > 0


def test_a_program_prints_and_pastes_back() -> None:
    for index in range(200):
        program = draw(Random(index), Grammar(("concurrent", "immediate")))
        assert parse_program(str(program)) == program


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("A commit", "one line '---'"),
        ("---\nA vanish", "'vanish' is none of"),
        ("---\nA reopen", "are of '*'"),
        ("---\nA commit now", "is no step"),
        ("---\nA sql", "is no step"),
    ],
)
def test_what_is_no_program_is_refused_by_its_line(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=r".") as refused:
        parse_program(text)
    assert why in str(refused.value)


def test_a_feature_that_is_off_is_never_drawn() -> None:
    marks = {
        "savepoint": "savepoint",
        "upsert": "on conflict",
        "returning": "returning",
        "checkpoint": "pragma wal_checkpoint",
        "vacuum": "vacuum",
        "half-read": "half-read",
        "kill": "kill",
        "reopen": "reopen",
    }
    every = frozenset({*FEATURES, *WAYS})
    for feature, mark in marks.items():
        without = Grammar(("immediate",), frozenset({feature}))
        kinds = {kind_of(step) for seed in range(60) for step in draw(Random(seed), without).steps}
        assert not [kind for kind in kinds if mark in kind], feature
    bare = draw(Random(1), Grammar(("immediate",), every))
    assert {kind_of(step) for step in bare.steps} <= {
        "begin immediate", "insert", "update", "delete", "select", "select aggregate",
            "select ordered", "commit",
    }  # fmt: skip


@pytest.mark.slow
def test_the_script_of_a_hang_shows_it_and_ends(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("properties.hunter.script.LIMIT_S", 1)
    monkeypatch.setattr(stage, "LIMIT_S", 0.5)
    name = f"{BROKEN}:Hangs"
    trust(name)
    hunter = Hunter(name, ("deferred",), 0)
    made = hunter.judged(parse_program("CREATE TABLE t0(v)\n---\nA sql DELETE FROM t0"))
    hunter.close()
    assert made is not None
    assert made[0].wrong.judge == "hang"
    lines = (
        "import sqlite3, time\n\n\nclass Hangs(sqlite3.Connection):\n"
        "    def execute(self, sql):\n        while sql.startswith('DELETE'):\n"
        "            time.sleep(1)\n        return super().execute(sql)\n\n\n"
        "def connect(path):\n    return sqlite3.connect(path, factory=Hangs)\n"
    )
    path = tmp_path / "repro.py"
    path.write_text(script(*made, version="", driver=lines))
    assert tried(path, Script(lines), 1) == 1
