"""A cell that something came between is run again at once, and its earlier run is kept."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from workloads.errors import FolderUnwritable
from workloads.experiments import conduct
from workloads.experiments.conduct import run_experiment
from workloads.experiments.experiment import (
    FAILED,
    Cell,
    Design,
    begin,
    read_experiment,
    set_aside,
    write_cell,
)
from workloads.experiments.spare import Spares, spared

FAST = {"scenario": "counter", "writers": 1, "duration_s": 0.05, "warmup_s": 0, "retry": {},
        "params": {"think_us": 1000, "think": "sleep"}}  # fmt: skip
ARMS = {name: {"database": "null", **FAST, "seed": n} for n, name in enumerate("ab")}
WHY = "other programs used 12 % of the machine's CPU time"


def design(**changes: Any) -> Design:
    values: dict[str, Any] = {"name": "t", "question": "?", "arms": ARMS, "blocks": 3, "seed": 4}
    return Design(**values | changes)


class Odd:
    """Judges the first so many runs of one cell odd."""

    def __init__(self, block: int, arm: str, times: int) -> None:
        self.key, self.left = (block, arm), times
        self.asked = Counter[tuple[int, str]]()

    def __call__(self, cell: Cell) -> str:
        self.asked[cell.block, cell.arm] += 1
        if (cell.block, cell.arm) == self.key and self.left:
            self.left -= 1
            return WHY
        return ""


@pytest.mark.parametrize("jobs", [1, 2])
def test_it_is_run_again_at_once_in_its_block_and_the_earlier_one_is_kept(tmp_path, jobs):
    events: list[tuple[int, str, str]] = []
    said: list[str] = []
    made = run_experiment(
        design(), tmp_path / "e", jobs=jobs, odd=Odd(1, "a", 1), spares=2, notify=said.append,
        oversubscribe=True, on_cell=lambda experiment, *event: events.append(event),
    )  # fmt: skip
    assert made.complete and all(cell.state == "done" for cell in made.cells.values())
    at = events.index((1, "a", "again"))
    after = [event for event in events[at + 1 :] if event[2] == "running"]
    assert after[0][:2] == (1, "a")
    assert said == [f"b01, a: run again at once: {WHY}"]
    (earlier,) = spared(tmp_path / "e")
    assert (earlier.block, earlier.arm, earlier.again) == (1, "a", WHY)
    assert earlier.read().manifest.id != made.cells[1, "a"].read().manifest.id
    assert read_experiment(tmp_path / "e").cells[1, "a"].again == ""


def test_at_most_so_often_and_then_it_stays(tmp_path):
    odd = Odd(0, "b", 9)
    made = run_experiment(design(blocks=1), tmp_path / "e", odd=odd, spares=2)
    assert made.complete
    assert odd.asked[0, "b"] == 3
    assert [cell.arm for cell in spared(tmp_path / "e")] == ["b", "b"]


def test_without_being_asked_for_nothing_is_run_again(tmp_path):
    odd = Odd(0, "b", 9)
    run_experiment(design(blocks=1), tmp_path / "e", odd=odd)
    assert not odd.asked and spared(tmp_path / "e") == []


def test_a_cell_that_did_not_end_well_is_a_result_and_never_run_again(tmp_path):
    """Such as one that lost a commit."""
    begin(design(), tmp_path / "e")
    experiment = read_experiment(tmp_path / "e")
    broken = Cell(0, "a", FAILED, "value 77 is not there", None)
    experiment.cells[0, "a"] = broken
    assert Spares(lambda cell: WHY, 2).again(experiment, broken) == ""
    assert experiment.cells == {(0, "a"): broken}


def test_a_command_that_was_killed_before_it_judged_leaves_that_to_the_next(tmp_path):
    class Killed(Exception):
        pass

    def killed(cell: Cell) -> str:
        raise Killed

    with pytest.raises(Killed):
        run_experiment(design(blocks=1), tmp_path / "e", odd=killed, spares=2)
    (first,) = read_experiment(tmp_path / "e").cells.values()
    made = run_experiment(
        design(blocks=1), tmp_path / "e", odd=Odd(first.block, first.arm, 1), spares=2
    )
    assert made.complete
    assert [(c.block, c.arm) for c in spared(tmp_path / "e")] == [(first.block, first.arm)]


def test_a_command_that_was_killed_before_it_set_aside_what_it_judged_is_gone_on_with(
    tmp_path, monkeypatch
):
    """The reason is in the cell's file already, its run has not been moved yet."""

    def cut(folder: Path, cell: Cell) -> None:
        raise FolderUnwritable("killed")

    monkeypatch.setattr("workloads.experiments.spare.set_aside", cut)
    with pytest.raises(FolderUnwritable):
        run_experiment(design(blocks=1), tmp_path / "e", odd=Odd(0, "a", 1), spares=2)
    monkeypatch.undo()
    there = read_experiment(tmp_path / "e")
    assert there.cells[0, "a"].again == WHY
    made = run_experiment(design(blocks=1), tmp_path / "e", spares=2)
    assert made.complete and made.cells[0, "a"].again == ""
    assert [cell.again for cell in spared(tmp_path / "e")] == [WHY]


def test_an_interrupted_spare_is_run_by_the_next_command_and_counts_as_one(tmp_path, monkeypatch):
    whole, runs = conduct.run_cell, Counter[tuple[int, str]]()

    def interrupted(folder: Path, block: int, arm: str, **how: Any) -> Cell:
        runs[block, arm] += 1
        if runs[block, arm] == 2:
            raise KeyboardInterrupt
        return whole(folder, block, arm, **how)

    monkeypatch.setattr(conduct, "run_cell", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_experiment(design(blocks=2), tmp_path / "e", odd=Odd(1, "a", 9), spares=2)
    monkeypatch.undo()
    odd = Odd(1, "a", 9)
    made = run_experiment(design(blocks=2), tmp_path / "e", odd=odd, spares=2)
    assert made.complete
    assert len(spared(tmp_path / "e")) == 2


def test_cells_that_a_user_had_run_again_are_no_spares(tmp_path):
    folder = tmp_path / "e"
    made = run_experiment(design(blocks=1), folder)
    set_aside(folder, made.cells[0, "a"])
    assert (folder / "earlier").is_dir() and spared(folder) == []


def test_a_damaged_file_among_the_earlier_ones_stops_nobody(tmp_path):
    folder = tmp_path / "e"
    made = run_experiment(design(blocks=1), folder)
    write_cell(folder, dataclasses.replace(made.cells[0, "a"], again=WHY))
    set_aside(folder, made.cells[0, "a"])
    (folder / "earlier" / "b00-b.1.cell.json").write_text("{")
    (folder / "earlier" / "b07-x.1.cell.json").write_text('{"block": 0}')
    assert [cell.arm for cell in spared(folder)] == ["a"]
