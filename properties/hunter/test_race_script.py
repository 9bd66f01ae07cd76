"""A race's finding as a script, and a race that could not be run."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from properties.hunter.crew import Progress
from properties.hunter.hunt import Hunter
from properties.hunter.hunting import tallied
from properties.hunter.judges import Found
from properties.hunter.reference import Wrong
from properties.hunter.script import can_tell, script
from workloads.engines import find_engine, trust
from workloads.schedules import Played, parse_program

BROKEN = Path(__file__).with_name("broken.py")
IN_PROCESSES, IN_THREADS = 1, 4
"""Seeds of such races."""

BREAKS = """

class Broken(sqlite3.Connection):
    def execute(self, sql):
        if sql == "COMMIT":
            {breaks}
        return super().execute(sql)


def connect(path, **journal_mode):
    connection = sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, factory=Broken, timeout=0
    )
    connection.execute("PRAGMA journal_mode = wal")
    return connection
"""
FORGETS = BREAKS.format(breaks='sql = "ROLLBACK"')
ABORTS = BREAKS.format(breaks="os.abort()")
HANGS = BREAKS.format(breaks="time.sleep(60)")
RAISES = "def connect(path):\n    raise ValueError(path)\n"


@pytest.fixture
def played(tmp_path: Path) -> Callable[[int, str], tuple[int, str]]:
    """The status and words of the script of a race with this seed, with these lines of a driver."""

    def of(seed: int, driver: str) -> tuple[int, str]:
        race = f"* race immediate+autocommit 2 0.05 {seed}"
        program = parse_program(f"CREATE TABLE t0(v)\n---\n{race}")
        found = Found(Wrong("acknowledged", "2 rows are not as they were", "(1, 2)", "no row"), 1)
        assert can_tell(found, Played(program))
        path = tmp_path / "repro.py"
        text = script(found, Played(program), version="any", driver=driver)
        path.write_text(text.replace("NOT_OPENED = 5, 10.0", "NOT_OPENED = 2, 0.5"))
        done = subprocess.run(
            [sys.executable, str(path)], check=False, capture_output=True, text=True, timeout=60
        )
        return done.returncode, done.stdout + done.stderr

    return of


@pytest.mark.parametrize("seed", [IN_PROCESSES, pytest.param(IN_THREADS, marks=pytest.mark.slow)])
def test_it_shows_a_commit_that_is_forgotten_and_is_silent_without(
    seed: int, played: Callable[[int, str], tuple[int, str]]
) -> None:
    status, words = played(seed, f"import sqlite3\n{FORGETS}")
    assert status == 1, words
    assert "THE BUG IS THERE" in words
    sound = find_engine("sqlite").script().lines  # type: ignore[attr-defined]
    sound = sound.replace("isolation_level=None", "isolation_level=None, timeout=0")
    status, words = played(seed, sound)
    assert status == 0, words
    assert "transactions acknowledged" in words
    assert "the bug did not show" in words


@pytest.mark.parametrize(
    ("driver", "status", "said"),
    [
        (ABORTS, 1, "ended by signal 6"),
        (HANGS, 1, "never came back"),
        (RAISES, 2, "ValueError"),
    ],
    ids=["aborts", "hangs", "raises"],
)
def test_it_has_an_end_and_says_which(
    driver: str, status: int, said: str, played: Callable[[int, str], tuple[int, str]]
) -> None:
    made, words = played(IN_PROCESSES, f"import sqlite3\n{driver}")
    assert made == status, words
    assert said in words


@pytest.fixture
def refusing() -> Iterator[Hunter]:
    engine = f"{BROKEN}:RefusesRaces"
    trust(engine)
    hunter = Hunter(engine, ("immediate",), 1)
    yield hunter
    hunter.close()


def test_a_race_whose_tables_are_refused_is_counted(refusing: Hunter) -> None:
    program = parse_program("---\n* race immediate 2 0.05 1\nA sql SELECT 1")
    for _ in range(2):
        assert refusing.judged(program) is None
    assert refusing.tally.races == 0
    progress = Progress()
    progress.add(tallied(refusing))
    assert progress.not_raced == {"no race here": 2}
    assert progress.races == 0
