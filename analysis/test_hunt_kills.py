"""One of the kills of `make kills`, of a hunt: whole findings, and nothing left."""

from pathlib import Path

import pytest

from tools.fuzz.hunt_kills import SCRIPTED, VICTIMS, planned, run_hunt_kills

QUICK = SCRIPTED._replace(programs=16)


def test_a_hunt_whose_command_is_killed_leaves_nothing(tmp_path: Path) -> None:
    (kill,) = run_hunt_kills(1, 0, 1, keep=tmp_path, plan=[("command by SIGTERM", QUICK, 1)])
    assert not kill.missed
    assert kill.faults == []
    assert kill.status == 130


@pytest.mark.slow
@pytest.mark.parametrize("victim", VICTIMS)
def test_whatever_of_a_hunt_is_killed_the_rest_goes_on(victim: str, tmp_path: Path) -> None:
    (kill,) = run_hunt_kills(2, 0, 1, keep=tmp_path, plan=[(victim, SCRIPTED, 2)])
    assert kill.faults == []


def test_every_kind_of_process_is_killed() -> None:
    assert {victim for victim, *_ in planned(60, 1)} == set(VICTIMS)
