"""Temporary files that engines leave are removed with the run, the question or the runner.

Turso makes a temporary database for each connection. One that is killed does not remove it.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import psutil
import pytest

from workloads.engines import probe, trust
from workloads.engines.testing import usable
from workloads.runs import Progress, make_plan, run
from workloads.schedules import sessions
from workloads.schedules.runner import ScheduleRunner
from workloads.schedules.schedule import Schedule

DATABASE = "**/.tmp*/tursodb-temp.db"


@pytest.fixture
def temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this process and those that it starts make temporary files."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_a_killed_worker_s_engine_leaves_nothing(tmp_path: Path, temporary_folder: Path) -> None:
    usable("turso")
    seen: list[Path] = []

    def kill(progress: Progress) -> None:
        if progress.phase == "measuring" and not seen:
            seen.extend(temporary_folder.glob(DATABASE))
            for child in psutil.Process().children():
                if "workloads.runs.worker" in child.cmdline():
                    child.kill()

    plan = make_plan(
        scenario="counter",
        database="turso",
        begin="concurrent",
        writers=2,
        duration_s=60,
        warmup_s=0,
    )
    made = run(plan, tmp_path / "runs", on_progress=kill)
    assert made.manifest.ended != "duration"
    assert seen, "Turso makes its temporary databases elsewhere now"
    assert not list(temporary_folder.iterdir())


DIES = """
import os
from workloads.engines.turso import Turso

class Mine(Turso):
    def connect(self, path, *, begin="deferred", settings=None):
        session = super().connect(path, begin=begin, settings=settings)
        if begin == "exclusive":
            session.run("CREATE TABLE t(a)")
            for sql in ("BEGIN CONCURRENT", "INSERT INTO t VALUES (1)", "COMMIT"):
                session.run(sql)
            os._exit(1)
        return session
"""


def test_an_engine_that_dies_of_a_question_leaves_nothing(
    tmp_path: Path, temporary_folder: Path
) -> None:
    usable("turso")
    file = tmp_path / "mine.py"
    file.write_text(DIES)
    trust(file)
    assert probe(f"{file}:Mine").modes["concurrent"].accepted
    assert not list(temporary_folder.iterdir())


def test_a_stage_s_engine_leaves_its_files_in_the_stage_s_folder() -> None:
    usable("turso")
    with ScheduleRunner("turso", ("concurrent",)) as runner:
        runner.run(Schedule(("begin; append 0 1; commit",)))
        assert list(sessions.room().glob(DATABASE)), "Turso makes them elsewhere now"
