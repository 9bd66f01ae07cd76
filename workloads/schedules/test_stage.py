"""The stage knows the step at which a process ended, looks at a database, and leaves nothing."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator

import psutil
import pytest

from workloads.engines import trust
from workloads.files import ROOT
from workloads.schedules import Played, Stage, parse_program

BROKEN = ROOT / "properties" / "hunter" / "broken.py"

TABLE = "CREATE TABLE t0(id INTEGER PRIMARY KEY, v INTEGER)\nINSERT INTO t0 VALUES (1, 1)\n---\n"


@contextlib.contextmanager
def staged(engine: str) -> Iterator[Stage]:
    trust(engine)
    stage = Stage(engine)
    try:
        yield stage
    finally:
        stage.end()


def played(stage: Stage, *steps: str) -> Played:
    return stage.play(parse_program(TABLE + "\n".join(steps)))


def playing() -> list[psutil.Process]:
    """The processes of sessions: children of a child of ours."""
    return [one for child in psutil.Process().children() for one in child.children()]


def test_what_ends_a_process_is_told_to_the_step_also_after_sessions_were_opened_again() -> None:
    steps = "A sql SELECT 1", "* reopen", "B begin", "B sql DELETE FROM t0", "A sql SELECT 2"
    with staged(f"{BROKEN}:Aborts") as stage:
        found = played(stage, *steps)
        assert found.death
        assert found.death.how == f"signal {int(signal.SIGABRT)} (SIGABRT)"
        assert (found.death.at, len(found.results)) == (3, 3)
        assert "broken.py" in found.death.stderr
    with staged(f"{BROKEN}:FailsToClose") as stage:
        found = played(
            stage, "A sql DELETE FROM t0", "A sql SELECT 1", "* reopen", "A sql SELECT 2"
        )
        assert found.raised == "OperationalError: it does not close"
        assert len(found.results) == 2


def test_a_look_says_whether_to_open_once_more_could_tell_anything_else() -> None:
    with staged("sqlite") as stage:
        for steps, same in ((["A sql UPDATE t0 SET v = 2"], True),
                            (["A sql UPDATE t0 SET v = 2", "* kill"], False)):  # fmt: skip
            assert not played(stage, *steps).over
            stage.drop() if not same else None  # what was written is in the WAL alone
            looked = stage.look(["SELECT v FROM t0"])
            assert (looked.results[0].rows, looked.same, looked.raised) == ([(2,)], same, "")
        assert stage.look(["SELECT v FROM t0"]).same


def test_a_stage_goes_on_after_the_end_of_the_process_that_makes_the_others() -> None:
    with staged("sqlite") as stage:
        assert not played(stage, "A sql SELECT 1").over
        stage.close()
        [copy] = playing()
        copy.parent().kill()
        psutil.wait_procs([copy], timeout=20)
        assert not copy.is_running()
        assert played(stage, "A sql SELECT 1").over
        found = played(stage, "A sql SELECT 1")
        assert not found.over
        assert found.results[0].rows == [(1,)]


def test_nothing_is_left_of_a_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CWKIT_START", "exec")  # the other way to start, for once
    with staged("turso") as stage:
        assert played(stage, "A sql SELECT 1", "* kill", "B sql SELECT 2").results[2].rows == [(2,)]
        there = playing()
        assert there
    psutil.wait_procs(there, timeout=20)
    assert not playing()
    assert not stage.folder.exists()
