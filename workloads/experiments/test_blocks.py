"""A half-done block goes on only as it was begun: on its machine, by its code, beside as much."""

import json
import os
import shutil

import pytest

from workloads.experiments.blocks import only_by_this_code, only_ours
from workloads.experiments.conduct import run_experiment
from workloads.experiments.experiment import Design, read_experiment
from workloads.runs import machine

CPUS = len(os.sched_getaffinity(0))
HOW = {"jobs": 1, "cpus": list(range(CPUS)), "way": "sweep"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    plan = {"scenario": "counter", "database": "null", "writers": 1, "transactions": 2,
            "warmup_s": 0, "duration_s": 9}  # fmt: skip
    folder = tmp_path_factory.mktemp("made") / "e"
    asked = Design("e", "?", {"one": plan, "other": plan | {"seed": 1}}, blocks=2)
    run_experiment(asked, folder, started_by="sweep")
    return folder


@pytest.fixture
def half_done(made, tmp_path):
    """Block 0 has one of its two cells, block 1 has both; `change` edits the manifests."""
    folder = tmp_path / "e"
    shutil.copytree(made, folder)
    (folder / "b00-other.cell.json").unlink()

    def change(part="conduct", **changes):
        for path in folder.glob("b*/manifest.json"):
            manifest = json.loads(path.read_text())
            manifest["conduct"] = HOW
            manifest[part] = manifest[part] | changes
            for name in [name for name, value in manifest[part].items() if value is None]:
                del manifest[part][name]
            path.write_text(json.dumps(manifest))
        return read_experiment(folder)

    return change


@pytest.mark.parametrize(
    ("part", "changes"),
    [
        ("conduct", {"jobs": 2}),
        ("conduct", {"cpus": list(range(CPUS + 1))}),
        ("conduct", {"way": "pytest"}),
        ("machine", {"cwkit_commit": "0" * 12}),
        ("machine", {"cwkit_source": "0" * 12}),
        ("machine", {"id": "0" * 12}),
    ],
)
def test_a_half_done_block_that_was_begun_otherwise_is_run_again_whole(half_done, part, changes):
    experiment = half_done(part, **changes)
    assert only_ours(experiment, jobs=1, started_by="sweep") == [0]
    assert sorted(experiment.left()) == [(0, "one"), (0, "other")]  # a finished block is kept
    assert (experiment.folder / "earlier" / "b00-one.1" / "manifest.json").exists()
    assert only_ours(read_experiment(experiment.folder), jobs=1, started_by="sweep") == []


@pytest.mark.parametrize(
    ("part", "changes"),
    [
        ("conduct", {}),
        ("conduct", {"cpus": list(range(7, 7 + CPUS))}),  # which ones is a free slot's chance
        ("conduct", {"jobs": None, "cpus": None, "way": None}),
        ("machine", {"cwkit_source": None}),
    ],
)
def test_one_that_was_begun_alike_or_does_not_say_goes_on(half_done, part, changes):
    experiment = half_done(part, **changes)
    assert only_ours(experiment, jobs=1, started_by="sweep") == []
    assert experiment.left() == [(0, "other")]


def test_of_a_cluster_only_the_code_is_looked_at(half_done):
    assert only_by_this_code(half_done(jobs=5, id="0" * 12)) == []
    assert only_by_this_code(half_done("machine", cwkit_source="0" * 12)) == [0]
    assert machine.source() != "0" * 12


def test_conditions_that_are_not_given_are_not_looked_at(half_done):
    assert only_ours(half_done(jobs=5, way="pytest")) == []
