"""A manifest says which code ran: the checkout's, changed or not, and each file of the user's."""

import shutil
from pathlib import Path

import pytest

from workloads import machine
from workloads.plan import make_plan
from workloads.processes import run


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A copy of the kit's running half, to be changed."""
    skip = shutil.ignore_patterns("__pycache__", "*.so")
    there = Path(shutil.copytree(machine.SOURCES, tmp_path / "workloads", ignore=skip))
    monkeypatch.setattr(machine, "SOURCES", there)
    return there


def test_any_change_of_the_code_that_runs_is_another_source_and_a_test_is_none(tree):
    before = machine.source()
    changed = tree / "engines" / "sqlite.py"
    text = changed.read_bytes()
    changed.write_bytes(text + b"# slower\n")
    after = machine.source()
    changed.write_bytes(text + b"# faster\n")
    assert len({before, after, machine.source()}) == 3
    changed.write_bytes(text)
    (tree / "test_machine.py").write_text("pass\n")
    assert machine.source() == before
    (tree / "engines" / "new.py").write_text("pass\n")
    assert machine.source() != before


def test_the_manifest_tells_the_source_and_each_file_that_the_plan_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("engine", "scenario"):
        place = "engines.sqlite" if name == "engine" else "scenarios.counter"
        kind = "Sqlite" if name == "engine" else "Counter"
        Path(f"{name}.py").write_text(f"from workloads.{place} import {kind} as Mine\n")
    plan = make_plan(
        scenario="scenario.py:Mine", database="engine.py:Mine", writers=1, transactions=3
    )
    assert plan.files() == ("engine.py", "scenario.py")
    said = run(plan, tmp_path / "runs").manifest["machine"]
    assert said["cwkit_source"] == machine.source()
    assert said["files"] == {name: machine.digest(Path(name)) for name in plan.files()}
    assert len(set(said["files"].values())) == 2 and all(said["files"].values())
    assert make_plan(database="sqlite").files() == ()
