"""As many kills as were asked, at the log and at the database; whoever stays goes on."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from properties.faults import Case, campaign, find_stories
from properties.faults.kills import ALL_EVERY, VICTIMS, for_processes
from workloads.engines import find_engine
from workloads.errors import EngineMissing, PlanError
from workloads.processes import fault_library, parse_rule

try:
    fault_library()
except EngineMissing as reason:
    pytestmark = pytest.mark.skip(reason=str(reason))

OFTEN = find_stories(["kill-often"])


def test_each_worker_has_a_kill_of_its_own_and_one_stays_but_in_some_runs(tmp_path: Path) -> None:
    case = Case("sqlite", "immediate", 0, tmp_path)
    stays = []
    for number in range(2 * ALL_EVERY):
        asked = for_processes(random.Random(number), case, number, 50, {"write": 11, "sync": 1})
        rules = [parse_rule(one) for one in asked["fault"]]
        assert [one.worker for one in rules] == list(range(VICTIMS))
        assert all(one.kills and one.first == one.last for one in rules)
        stays.append(asked["writers"] - VICTIMS)
    assert stays == [1, 1, 1, 0] * 2
    few = for_processes(random.Random(0), case, ALL_EVERY - 1, 2, {})
    assert (few["writers"], len(few["fault"])) == (3, 2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("engine", "kills"), [("sqlite", 20), ("turso", 4), ("sqlite-concurrent", 9)]
)
def test_a_sound_engine_is_killed_as_often_as_was_asked_and_keeps_everything(
    tmp_path: Path, engine: str, kills: int
) -> None:
    if why := find_engine(engine).missing():
        pytest.skip(why)
    (result,) = campaign(tmp_path / "f", [(engine, "immediate")], OFTEN, kills=kills)
    assert result.fired == kills and result.verdict == "sound", result
    assert result.command.endswith(f"--story kill-often --kills {kills} --seed 0")
    assert f"{result.runs - 1} runs went on with the database" in result.told[1]


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["faulty-early-ack", "faulty-lost-commit"])
def test_who_loses_what_it_acknowledged_is_caught(tmp_path: Path, engine: str) -> None:
    (result,) = campaign(tmp_path / "f", [(engine, "immediate")], OFTEN, kills=12)
    assert result.lost and any("acknowledged postings" in one for one in result.found), result


def test_a_campaign_goes_on_with_as_many_kills_as_it_was_begun_with(tmp_path: Path) -> None:
    def asked(folder: Path) -> int:
        return int(json.loads((folder / "faults.json").read_text())["asked"]["kills"])

    campaign(tmp_path / "f", [], OFTEN, kills=200)
    campaign(tmp_path / "f", [], OFTEN)
    assert asked(tmp_path / "f") == 200
    with pytest.raises(PlanError, match=r"'kills': 200}\", and .*'kills': 7} is asked now"):
        campaign(tmp_path / "f", [], OFTEN, kills=7)
    campaign(tmp_path / "quick", [], OFTEN, quick=True)
    campaign(tmp_path / "whole", [], OFTEN)
    assert (asked(tmp_path / "quick"), asked(tmp_path / "whole")) == (3, 20)
    older = {"document": "faults design", "asked": {"seed": 0, "quick": False}}
    (tmp_path / "whole" / "faults.json").write_text(json.dumps(older))
    campaign(tmp_path / "whole", [], OFTEN)
