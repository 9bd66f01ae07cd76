"""Some of the hundred kills of `make kills`: nothing is lost, and nothing left."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tools.fuzz.kills import PLAN, Killing, planned, run_kills, table, why_not

SOME = {
    "a run": ("run", "parent", 3.0),
    "a run's checker": ("run", "checker", 1.0),
    "a run's loader": ("run", "loader", 0.1),
    "what forks a run's processes": ("run", "preloaded", 1.0),
    "a sweep": ("sweep", "parent", 8.0),
    "a search": ("search", "parent", 8.0),
    "pytest": ("pytest", "parent", 8.0),
    "libSQL's server": ("run on sqld", "server", 3.0),
    "a run on libSQL's server": ("run on sqld", "parent", 3.0),
}
"""The command that is killed, and the latest moment, s: about its length on an idle machine."""


SLOW = (
    *("a run's checker", "what forks a run's processes", "a sweep", "a search", "pytest"),
    *list(SOME)[-2:],
)
"""Quick are a command of which everything goes and a part of one."""


@pytest.mark.parametrize(
    "what", [pytest.param(what, marks=[pytest.mark.slow] * (what in SLOW)) for what in SOME]
)
def test_nothing_is_lost_and_nothing_left(what: str, seed: int, tmp_path: Path) -> None:
    command, victim, longest_s = SOME[what]
    number = list(SOME).index(what)
    if why := why_not(command):
        pytest.skip(why)
    (kill,) = run_kills(
        [(number, command, victim)], seed, longest={command: longest_s}, keep=tmp_path / "kept"
    )
    assert not kill.faults, "\n".join(kill.faults)
    assert not kill.missed


@pytest.mark.slow
@pytest.mark.parametrize("part", range(6))
def test_nothing_is_lost_in_thirty_kills(part: int, seed: int, tmp_path: Path) -> None:
    numbered = [(n, *kill) for n, kill in enumerate(planned(30, seed)) if n % 6 == part]
    told = run_kills(numbered, seed, keep=tmp_path / "kept")
    faults = [fault for kill in told for fault in kill.faults]
    assert not faults, "\n".join([*faults, *table(told)])


def test_a_hundred_kills_are_planned_alike_for_a_seed_and_of_every_kind() -> None:
    assert planned(100, 1) == planned(100, 1) != planned(100, 2)
    assert Counter(planned(100, 1)) == {(c, victim): often for c, victim, often in PLAN}
    assert sum(often for _, _, often in PLAN) == 100


def test_a_process_that_is_left_running_is_found_by_its_mark_and_ended(tmp_path: Path) -> None:
    """The negative control: a kill after which something stays would be seen."""
    killing = Killing(0, "run", "parent", 1, tmp_path)
    killing.folder.mkdir(exist_ok=True)
    process = killing._start(["sleep", "1000"])
    assert [one.pid for one in killing._marked()] == [process.pid]
    killing._end_all()
    assert process.wait(20) == -9
    assert killing._marked() == []


def test_what_stays_in_a_temporary_folder_is_a_fault(tmp_path: Path) -> None:
    killing = Killing(0, "run", "parent", 1, tmp_path)
    (killing.temporary / "cwkit-run-abcd0123").mkdir(parents=True)
    killing._nothing_left()
    assert killing.kill.faults == ["left in temporary folders: cwkit-run-abcd0123"]
