"""Modes: an engine declares its own, and a plan, a probe and a run ask it for no others."""

from __future__ import annotations

from pathlib import Path

import pytest

from workloads.engines import probe, trust
from workloads.errors import ModeRefused, PlanError, UnknownName
from workloads.runs import make_plan, run

WITH_MODES = """
from workloads.engines.sqlite import SERIALIZABLE, Sqlite

class Levels(Sqlite):
    name = "levels"
    modes = ("read-only", "read-write")
    usual = {"writer": "read-write", "reader": "read-only"}
    promises = dict.fromkeys(modes, SERIALIZABLE)

    def connect(self, path, *, begin="read-only", settings=None):
        words = {"read-only": "deferred", "read-write": "immediate"}
        return super().connect(path, begin=words[begin], settings=settings)
"""


@pytest.fixture
def levels(tmp_path: Path) -> str:
    (tmp_path / "levels.py").write_text(WITH_MODES)
    trust(tmp_path / "levels.py")
    return f"{tmp_path / 'levels.py'}:Levels"


def test_an_engine_declares_its_modes_and_nobody_asks_it_for_others(levels: str) -> None:
    plan = make_plan(database=levels, writers=1, readers=1)
    assert (plan.begin, plan.read_begin) == ("read-write", "read-only")
    with pytest.raises(
        UnknownName, match=r"no mode 'immediate' \(--begin\)\. .*Modes: read-only, "
    ):
        make_plan(database=levels, begin="immediate")
    with pytest.raises(UnknownName, match=r"no mode 'read-only' \(--begin\)\. Modes: deferred, "):
        make_plan(database="sqlite", begin="read-only")
    found = probe(levels)
    assert list(found.modes) == ["read-only", "read-write"]
    assert all(answer.accepted and answer.overlaps is False for answer in found.modes.values())
    assert found.several_processes is True and found.pragmas["journal_mode"] == "wal"


def test_a_run_on_an_engine_with_modes_of_its_own_is_as_any_other(
    levels: str, tmp_path: Path
) -> None:
    asked = {"writers": 1, "readers": 1, "transactions": 20, "warmup_s": 0, "duration_s": 60}
    made = run(make_plan(database=levels, scenario="bank", **asked), tmp_path / "runs")
    assert made.manifest.ok, made.manifest.findings
    assert [worker.begin for worker in made.workers] == ["read-write", "read-only"]


@pytest.mark.parametrize("text", ["0:concurrent", "1.5", "x", "", "0:immediate,2:deferred"])
def test_writers_that_are_neither_a_number_nor_modes_are_one_sentence(text: str) -> None:
    with pytest.raises(PlanError, match="give how many processes write, such as 4, or how many in"):
        make_plan(scenario="counter", database="sqlite", writers=text)


def test_an_engine_s_sentence_is_not_ended_twice() -> None:
    said = str(ModeRefused("mine", "concurrent", "it has none. Take another."))
    assert said.startswith("mine refuses BEGIN CONCURRENT: it has none. Take another. `cwkit")
