"""Made-up runs are made of what real runs are made of: a key that no real one has tests nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from analysis.synthetic.optimistic import optimistic_run
from analysis.synthetic.runs import drawn_run, made_report_folder
from workloads.records import Manifest, read_manifest


def unknown_keys(part: BaseModel) -> Iterator[str]:
    yield from part.model_extra or {}
    for name in type(part).model_fields:
        value = getattr(part, name)
        inner = value.values() if isinstance(value, dict) else value
        for one in inner if isinstance(value, (dict, list, tuple)) else [value]:
            if isinstance(one, BaseModel):
                yield from unknown_keys(one)


@pytest.fixture
def made(tmp_path: Path) -> list[Manifest]:
    made_report_folder(tmp_path)
    found = [read_manifest(path.parent) for path in sorted(tmp_path.glob("*/*/manifest.json"))]
    return [drawn_run(1, readers=1).manifest, optimistic_run(seconds=0.1).manifest, *found]


def test_a_made_up_manifest_has_no_key_that_no_real_one_has(made: list[Manifest]) -> None:
    assert len(made) > 50
    assert [key for manifest in made for key in unknown_keys(manifest)] == []
    assert made[0].machine.file_system == "ext4"


def test_a_key_that_no_real_one_has_is_seen() -> None:
    entries = drawn_run(1).manifest.data()
    entries["machine"]["filesystem"] = "ext4"
    assert list(unknown_keys(Manifest.model_validate(entries))) == ["filesystem"]
