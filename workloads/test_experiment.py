"""An experiment runs each arm once in each block, keeps what failed, and goes on where it was."""

import json
from typing import Any

import pytest

from workloads import processes
from workloads import recording as rec
from workloads.experiment import Design, cell_name, conduct, read_experiment

FAST = {"scenario": "counter", "writers": 1, "duration_s": 0.05, "warmup_s": 0, "retry": {}}
ARMS = {
    "sqlite": {"database": "sqlite", **FAST},
    "null": {"database": "null", **FAST},
}


def design(**changes: Any) -> Design:
    values: dict[str, Any] = {"name": "t", "question": "?", "arms": ARMS, "blocks": 3, "seed": 4}
    return Design(**values | changes)


def test_each_arm_is_once_in_each_block_and_the_order_changes():
    arms: dict[str, dict[str, object]] = {name: {} for name in "abcdef"}
    order = design(arms=arms, blocks=20).order()
    assert all(sorted(block) == sorted(arms) for block in order)
    assert len({tuple(block) for block in order}) > 10
    assert order == design(arms=arms, blocks=20).order()
    assert order != design(arms=arms, blocks=20, seed=5).order()


def test_the_arms_of_a_block_share_a_seed_and_blocks_do_not(tmp_path):
    made = conduct(design(), tmp_path / "e")
    assert made.complete
    seeds = [{made.cells[b, arm].read().manifest["seed"] for arm in ARMS} for b in range(3)]
    assert all(len(of_block) == 1 for of_block in seeds)
    assert len(set.union(*seeds)) == 3


def test_an_interrupted_experiment_goes_on_and_repeats_nothing(tmp_path):
    seen = []

    def stop_at_third(experiment, block, arm, state):
        seen.append((block, arm, state))
        if len([s for s in seen if s[2] == "running"]) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        conduct(design(), tmp_path / "e", on_cell=stop_at_third)
    before = read_experiment(tmp_path / "e")
    assert len(before.cells) == 2
    started = {key: cell.read().manifest["started"] for key, cell in before.cells.items()}
    # What a cell cut short by a kill leaves behind is no run, and is made again.
    block, arm, _ = seen[-1]
    (tmp_path / "e" / cell_name(block, arm)).mkdir()
    again = []

    def note(*words):
        again.append(words[1:])

    made = conduct(design(), tmp_path / "e", on_cell=note)
    assert made.complete
    assert len([words for words in again if words[2] == "running"]) == 4
    for key, when in started.items():
        assert made.cells[key].read().manifest["started"] == when
    conduct(design(), tmp_path / "e", on_cell=lambda *words: pytest.fail("ran a finished cell"))


def test_another_experiment_in_the_folder_is_refused(tmp_path):
    conduct(design(blocks=1), tmp_path / "e")
    with pytest.raises(rec.RunError, match="seed"):
        conduct(design(blocks=1, seed=9), tmp_path / "e")


def test_refused_missing_and_failed_arms_are_kept_and_the_rest_goes_on(tmp_path):
    broken = tmp_path / "engine.py"
    broken.write_text(
        "from workloads.engines.sqlite import Sqlite\n"
        "class Gone(Sqlite):\n"
        "    def missing(self):\n"
        "        return 'it went away'\n",
        encoding="utf-8",
    )
    arms = {
        "refused": {"database": "sqlite", "begin": "concurrent", **FAST},
        "missing": {"database": f"{broken}:Gone", **FAST},
        "broken": {**FAST, "database": "faulty-lost-commit", "transactions": 300, "duration_s": 30},
        "sound": ARMS["sqlite"],
    }
    made = conduct(design(arms=arms, blocks=1), tmp_path / "e")
    states = {arm: cell.state for (_, arm), cell in made.cells.items()}
    assert states == {
        "refused": "refused",
        "missing": "missing",
        "broken": "failed",
        "sound": "done",
    }
    assert "syntax error" in made.cells[0, "refused"].words
    assert "went away" in made.cells[0, "missing"].words
    assert "committed increments" in made.cells[0, "broken"].words
    assert read_experiment(tmp_path / "e").cells == made.cells


DAMAGE = {
    "cut": lambda path: path.write_text(path.read_text()[:50]),
    "not an experiment": lambda path: path.unlink(),
    "of a later version": lambda path: path.write_text(json.dumps({"cwkit": 99})),
    "keys missing": lambda path: path.write_text(json.dumps({"cwkit": 1, "cells": [{}]})),
}


@pytest.mark.parametrize("damage", list(DAMAGE))
def test_a_damaged_experiment_is_one_sentence(tmp_path, damage):
    conduct(design(blocks=1, arms={"null": ARMS["null"]}), tmp_path / "e")
    DAMAGE[damage](tmp_path / "e" / "experiment.json")
    with pytest.raises(rec.RunError) as caught:
        read_experiment(tmp_path / "e")
    assert "\n" not in str(caught.value)


def test_arms_with_other_work_start_from_one_loaded_database(tmp_path, monkeypatch):
    loads = []

    def counted(plan, folder):
        loads.append(plan)
        return processes.prepare(plan, folder)

    arms = {
        f"think {us}": {
            **FAST,
            "database": "sqlite",
            "scenario": "register",
            "params": {"rows": 50, "think_us": us, "mix": "A"},
        }
        for us in (0, 5)
    }
    monkeypatch.setattr("workloads.experiment.prepare", counted)
    made = conduct(design(arms=arms, blocks=2), tmp_path / "e")
    assert len(loads) == 1
    assert [cell.state for cell in made.cells.values()] == ["done"] * 4
    assert not (tmp_path / "e" / "templates").exists()
