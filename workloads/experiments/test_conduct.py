"""An experiment runs each arm once in each block, keeps what failed, and goes on where it was."""

import json
import os
import signal
import sys
from typing import Any

import pytest

from workloads.engines import trust
from workloads.errors import PlanError
from workloads.experiments import cell
from workloads.experiments.cell import run_cell
from workloads.experiments.conduct import run_experiment
from workloads.experiments.experiment import Design, begin, cell_name, read_experiment
from workloads.files import Held, locked
from workloads.records import attempts as rec
from workloads.runs import conduct as processes

FAST = {"scenario": "counter", "writers": 1, "duration_s": 0.05, "warmup_s": 0, "retry": {},
        "params": {"think_us": 1000, "think": "sleep"}}  # fmt: skip
NULL = {"null": {"database": "null", **FAST}}
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
    made = run_experiment(design(), tmp_path / "e")
    assert made.complete
    seeds = [{made.cells[b, arm].read().manifest.seed for arm in ARMS} for b in range(3)]
    assert all(len(of_block) == 1 for of_block in seeds)
    assert len(set.union(*seeds)) == 3


def test_an_interrupted_experiment_goes_on_and_repeats_nothing(tmp_path):
    seen = []

    def stop_at_third(experiment, block, arm, state):
        seen.append((block, arm, state))
        if len([s for s in seen if s[2] == "running"]) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_experiment(design(), tmp_path / "e", on_cell=stop_at_third)
    before = read_experiment(tmp_path / "e")
    assert len(before.cells) == 2
    started = {key: cell.read().manifest.started for key, cell in before.cells.items()}
    # A cell cut short by a kill leaves no run behind, and is run again.
    block, arm, _ = seen[-1]
    (tmp_path / "e" / cell_name(block, arm)).mkdir()
    again = []

    def note(*event):
        again.append(event[1:])

    made = run_experiment(design(), tmp_path / "e", on_cell=note)
    assert made.complete
    assert len([event for event in again if event[2] == "running"]) == 4
    for key, when in started.items():
        assert made.cells[key].read().manifest.started == when
    run_experiment(
        design(), tmp_path / "e", on_cell=lambda *event: pytest.fail("ran a finished cell")
    )


def test_another_experiment_in_the_folder_is_refused(tmp_path):
    begin(design(blocks=1), tmp_path / "e")
    with pytest.raises(rec.RunError, match="seed"):
        run_experiment(design(blocks=1, seed=9), tmp_path / "e")


def files_of(folder):
    return {path.name: path.read_text() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("conducting", [run_experiment, begin], ids=["conduct", "begin"])
def test_a_folder_of_the_users_is_refused_and_left_as_it_was(tmp_path, conducting):
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "index.html").write_text("of a web application")
    (tmp_path / "app.py").write_text("mine")
    before = files_of(tmp_path)
    with pytest.raises(rec.RunError, match=r"holds 'app.py'.*new or an empty folder") as caught:
        conducting(design(blocks=1), tmp_path)
    assert "\n" not in str(caught.value)
    assert files_of(tmp_path) == before


def test_templates_beside_an_experiment_that_are_not_the_kits_are_left_alone(tmp_path):
    begin(design(blocks=1), tmp_path)
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "index.html").write_text("put there later")
    assert run_experiment(design(blocks=1), tmp_path).complete
    assert (tmp_path / "templates" / "index.html").read_text() == "put there later"


def test_a_folder_whose_command_was_killed_at_its_beginning_goes_on(tmp_path):
    (tmp_path / ".lock").touch()
    (tmp_path / "experiment.json.4711.new").write_text("{")
    (tmp_path / ".cwkit-templates" / "of a killed one").mkdir(parents=True)
    assert run_experiment(design(blocks=1, arms=NULL), tmp_path).complete
    assert not (tmp_path / ".cwkit-templates").exists()


def test_refused_missing_and_failed_arms_are_kept_and_the_rest_goes_on(tmp_path):
    broken = tmp_path / "engine.py"
    broken.write_text(
        "from workloads.engines.sqlite import Sqlite\n"
        "class Gone(Sqlite):\n"
        "    def missing(self):\n"
        "        return 'it went away'\n",
        encoding="utf-8",
    )
    trust(broken)
    arms = {
        "refused": {"database": "sqlite", "begin": "concurrent", **FAST},
        "missing": {"database": f"{broken}:Gone", **FAST},
        "broken": {**FAST, "database": "faulty-lost-commit", "transactions": 300, "duration_s": 30},
        "sound": ARMS["sqlite"],
    }
    made = run_experiment(design(arms=arms, blocks=1), tmp_path / "e")
    states = {arm: cell.state for (_, arm), cell in made.cells.items()}
    assert states == {
        "refused": "refused",
        "missing": "missing",
        "broken": "failed",
        "sound": "done",
    }
    assert "syntax error" in made.cells[0, "refused"].reason
    assert "went away" in made.cells[0, "missing"].reason
    assert "committed increments" in made.cells[0, "broken"].reason
    assert read_experiment(tmp_path / "e").cells == made.cells


DAMAGE = {
    "cut": lambda path: path.write_text(path.read_text()[:50]),
    "not an experiment": lambda path: path.unlink(),
    "of a later version": lambda path: path.write_text(json.dumps({"cwkit": 99})),
    "keys missing": lambda path: path.write_text(json.dumps({"cwkit": 1, "cells": [{}]})),
}


@pytest.mark.parametrize("damage", list(DAMAGE))
def test_a_damaged_experiment_is_one_sentence(tmp_path, damage):
    begin(design(), tmp_path / "e")
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
    monkeypatch.setattr("workloads.experiments.cell.prepare", counted)
    made = run_experiment(design(arms=arms, blocks=2), tmp_path / "e")
    assert len(loads) == 1
    assert [cell.state for cell in made.cells.values()] == ["done"] * 4
    assert not (tmp_path / "e" / ".cwkit-templates").exists()


def test_two_commands_do_not_run_one_folder(tmp_path):
    begin(design(), tmp_path / "e")
    with locked(tmp_path / "e"), pytest.raises(rec.RunError, match="another command is running it"):
        run_experiment(design(), tmp_path / "e")
    with locked(tmp_path / "e"), pytest.raises(Held), locked(tmp_path / "e"):
        pass
    with locked(tmp_path / "e", 1), locked(tmp_path / "e", 2):
        pass  # other cells of one folder


def test_a_cell_run_by_hand_is_kept_and_not_run_again(tmp_path):
    asked = design(blocks=1, arms=NULL | {"other": ARMS["null"]})
    begin(asked, tmp_path / "e")
    made = run_cell(tmp_path / "e", 0, "null", how={"way": "pytest", "command": "by hand"})
    assert made.state == "done" and made.took_s > 0
    manifest = made.read().manifest
    assert manifest.conduct.started_by == "pytest" and manifest.command == "by hand"
    assert len(manifest.machine.id) == 12
    assert run_cell(tmp_path / "e", 0, "null") == made
    seen = []
    run_experiment(asked, tmp_path / "e", on_cell=lambda *event: seen.append(event[1:]))
    assert seen == [(0, "other", "running"), (0, "other", "done")]
    with pytest.raises(rec.RunError, match="no cell of block 7"):
        run_cell(tmp_path / "e", 7, "null")


def test_an_older_folder_is_read_and_goes_on(tmp_path):
    folder = tmp_path / "e"
    run_experiment(design(blocks=1, arms=NULL), folder)
    data = json.loads((folder / "experiment.json").read_text())
    data = {key: data[key] for key in data if key not in ("axes", "points")}
    made = read_experiment(folder)
    data["cells"] = [
        {
            "block": cell.block,
            "arm": cell.arm,
            "state": cell.state,
            "words": "",
            "run": cell_name(cell.block, cell.arm),
        }
        for cell in made.cells.values()
    ]
    (folder / "experiment.json").write_text(json.dumps(data))
    for path in folder.glob("*.cell.json"):
        path.unlink()
    assert read_experiment(folder).cells.keys() == made.cells.keys()
    run_experiment(
        design(blocks=1, arms=NULL),
        folder,
        on_cell=lambda *event: pytest.fail("ran a finished cell"),
    )
    rerun = []
    run_experiment(
        design(blocks=1, arms=NULL),
        folder,
        again=lambda cell: cell.arm == "null",
        on_cell=lambda *event: rerun.append(event[2]),
    )
    assert rerun == ["null", "null"]


def test_a_cell_run_again_keeps_the_earlier_one(tmp_path):
    folder = tmp_path / "e"
    first = (
        run_experiment(design(blocks=1, arms=NULL), folder).cells[0, "null"].read().manifest.started
    )
    for _ in range(2):
        run_experiment(design(blocks=1, arms=NULL), folder, again=lambda cell: cell.arm == "null")
    kept = sorted(path.name for path in (folder / "earlier").iterdir())
    assert kept == ["b00-null.1", "b00-null.1.cell.json", "b00-null.2", "b00-null.2.cell.json"]
    assert rec.read_run(folder / "earlier" / "b00-null.1").manifest.started == first
    assert read_experiment(folder).complete


def test_arms_that_would_share_their_files_are_refused(tmp_path):
    with pytest.raises(PlanError, match="'a:1' and 'a 1'"):
        begin(design(arms={"a:1": ARMS["null"], "a 1": ARMS["null"]}), tmp_path / "e")
    long = "x" * 300
    assert len(cell_name(0, long + "y")) < 120 and cell_name(0, long) != cell_name(0, long + "y")


def test_a_damaged_cell_is_one_sentence(tmp_path):
    begin(design(arms=NULL), tmp_path / "e")
    (tmp_path / "e" / "b00-null.cell.json").write_text('{"block"')
    with pytest.raises(rec.RunError, match=r"b00-null.cell.json: .*cut or edited.*Remove it"):
        read_experiment(tmp_path / "e")


def test_the_axes_of_a_grid_are_kept(tmp_path):
    asked = design(
        axes={"database": ["sqlite", "null"]},
        points={arm: {"database": arm} for arm in ARMS},
        blocks=1,
    )
    begin(asked, tmp_path / "e")
    read = read_experiment(tmp_path / "e")
    assert read.design.axes == asked.axes and read.design.points == asked.points
    assert read.left() == [(0, arm) for arm in asked.order()[0]]


def test_a_cell_whose_conductor_is_gone_is_asked_to_end_once(monkeypatch):
    """The pipe that nobody reads and SIGTERM both tell it: the second would cut its clearing up."""
    monkeypatch.setattr(cell, "_asked_to_end", False)
    with open(os.devnull, encoding="utf-8") as nobody_reads:  # to write there is an OSError
        monkeypatch.setattr(sys, "stdout", nobody_reads)
        with pytest.raises(KeyboardInterrupt):
            cell.report({})
        cell.report({})
        monkeypatch.undo()
    cell._asked_to_end = True
    cell._interrupted(signal.SIGTERM, None)
    with pytest.raises(KeyboardInterrupt):  # a user's Ctrl-C is heard however often
        cell._interrupted(signal.SIGINT, None)
    cell._asked_to_end = False
