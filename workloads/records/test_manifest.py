"""A manifest is read as it was written, by whichever cwkit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from workloads.records.attempts import read_run
from workloads.records.manifest import (
    MANIFEST,
    Manifest,
    RecordedPlan,
    read_manifest,
    write_manifest,
)
from workloads.runs import Plan, make_plan, run

KEPT = sorted((Path(__file__).resolve().parents[2] / "tools" / "fuzz" / "folders").iterdir())
"""Real runs; those called `older-` were made before manifests had a type."""


@pytest.mark.parametrize("folder", KEPT, ids=lambda folder: folder.name)
def test_what_is_read_and_written_again_has_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    found = read_run(folder)
    assert found.workers and all(len(worker.attempts) for worker in found.role("writer"))
    write_manifest(tmp_path, found.manifest)
    assert (tmp_path / MANIFEST).read_bytes() == (folder / MANIFEST).read_bytes()


def test_an_older_manifest_lacks_what_was_not_kept_then() -> None:
    (older,) = (folder for folder in KEPT if folder.name == "older-bank")
    found = read_manifest(older)
    assert not found.has("wal") and not found.has("conduct")
    assert found.scenario.kinds == () and not found.engines["libsql"].has("unit")
    assert found.window.has("start_ns") and found.plan.scenario == "bank"


def test_a_manifest_has_what_a_reader_needs_of_a_scenario_and_an_engine(tmp_path: Path) -> None:
    plan = make_plan(scenario="counter", database="null", writers=1, transactions=2, duration_s=9)
    found = run(plan, tmp_path).manifest
    assert found.scenario.kinds == ("increment", "look")
    assert found.engines["null"].file_format == "none" and found.engines["null"].unit == ""
    assert Plan(**found.plan.data()) == plan


def test_a_plan_is_recorded_whole_and_read_with_the_defaults_of_then() -> None:
    plan = make_plan(scenario="counter", database="null", writers=3)
    assert set(plan.recorded().data()) == set(Plan.model_fields)
    data = json.loads(plan.recorded().model_dump_json())
    del data["mmap_bytes"], data["deadline_s"]
    assert RecordedPlan(**data).mmap_bytes == 0 and RecordedPlan(**data).engines() == ("null",)


def test_the_keys_stand_in_the_order_of_the_fields() -> None:
    for folder in KEPT:
        keys = list(json.loads((folder / MANIFEST).read_text(encoding="utf-8")))
        assert keys == [name for name in Manifest.model_fields if name in keys], folder
