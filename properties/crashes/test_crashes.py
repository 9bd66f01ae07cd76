"""Crash campaigns on real engines: sound ones stay silent, each broken one is caught by name."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from properties.crashes import MODELS, Asked, Crashed, crash, look_again, read_kept, resume
from properties.crashes.campaign import draw_states
from properties.crashes.in_folder import must_be_judged
from properties.crashes.judging import told_by, until
from properties.crashes.keeping import REPRO, told_of
from workloads.errors import EngineMissing, PlanError, RunError
from workloads.files import LOCK_FILE, locked
from workloads.processes import fault_library
from workloads.runs import Plan, make_plan

try:
    fault_library()
except EngineMissing as reason:
    pytestmark = pytest.mark.skip(reason=str(reason))


def crashed(folder: Path, states: int = 10, reduce: bool = False, **asked: Any) -> Crashed:
    """A small campaign: two writers of 12 postings."""
    values = {
        "scenario": "ledger", "database": "sqlite", "begin": "immediate", "synchronous": "full",
        "writers": 2, "readers": 0, "transactions": 12, "duration_s": 60, "warmup_s": 0,
        "wal_autocheckpoint": 20,
    }  # fmt: skip
    how = Asked(many=states, reduce=reduce, models=asked.pop("models", MODELS))
    return crash(make_plan(**values | asked), folder, how)


def kinds(found: Crashed) -> set[str]:
    return {fault.kind for one in found.campaign.broken() for fault in one.promised}


def test_a_sound_engine_keeps_what_it_acknowledged_in_every_state(tmp_path: Path) -> None:
    found = crashed(tmp_path / "c", states=20)
    assert not found.unexplained and not found.campaign.broken() and not found.kept
    assert {one.state.model for one in found.campaign.judged} == set(found.asked.models)
    assert max(one.acked for one in found.campaign.judged) > 0


@pytest.mark.parametrize("begin", ["deferred", "exclusive"])
def test_writers_of_other_modes_are_judged_too(tmp_path: Path, begin: str) -> None:
    found = crashed(tmp_path / "c", begin=begin, transactions=3)
    assert not found.campaign.broken() and found.data()["begin"] == begin


@pytest.mark.parametrize("models", [MODELS, ("kill",), ("kill", "strict"), MODELS[1:]])
def test_few_states_are_of_every_model_and_many_of_every_kind_of_moment(
    tmp_path: Path, models: tuple[str, ...]
) -> None:
    recording = crashed(tmp_path / "c", states=1, models=("kill",), writers=1).recording
    acked = set(told_by(recording.changes).acked.values())

    def drawn(many: int) -> list[tuple[int, str]]:
        every = draw_states(recording, many=many, seed=3, models=models)
        return [(state.point, state.model) for _, state in every]

    assert {model for _, model in drawn(len(models))} == set(models)
    assert all(point in acked for point, _ in drawn(len(models)))
    rare = {one.number for one in recording.changes if one.what in ("truncate", "unlink")}
    rare |= {o.number for o in recording.changes if o.what == "sync" and o.name == "database.db"}
    points = [point for point, _ in drawn(40 * len(models))]
    assert rare and rare & set(points) and not set(points) <= acked | rare


def test_off_may_lose_and_a_kill_may_not(tmp_path: Path) -> None:
    found = crashed(tmp_path / "c", states=20, synchronous="off")
    models = found.campaign.by_model()
    assert not found.campaign.broken()
    assert any(one.lost for one in models["strict"]) and not any(o.lost for o in models["kill"])


def test_a_sync_that_lies_is_caught_with_a_script_and_can_be_looked_at_again(
    tmp_path: Path,
) -> None:
    found = crashed(
        tmp_path / "c", states=6, fault="sync:*:1+:lie", models=("strict",), reduce=True
    )
    assert kinds(found) == {"lost"}
    place = found.kept[0]
    kept = read_kept(place)
    assert any(one.kind == "lost" for one in look_again(kept, tmp_path))
    # The order in which they were told is kept too: without it no gap would be seen again.
    assert told_of(kept) == until(told_by(found.recording.changes), kept.told["state"]["point"])
    done = subprocess.run(
        [sys.executable, str(place / REPRO)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1 and "STILL SO" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("engine", "models", "kind"),
    [
        ("faulty-forgets", ("kill",), "lost"),
        ("faulty-torn-read", ("kill",), "torn"),
        ("faulty-early-ack", ("kill",), "lost"),
        ("faulty-lost-commit", ("kill",), "lost"),
    ],
)
def test_a_broken_engine_is_caught_by_name(
    tmp_path: Path, engine: str, models: tuple[str, ...], kind: str
) -> None:
    # Half a transaction is there between two acknowledgements alone.
    states = 40 if kind == "torn" else 10
    found = crashed(tmp_path / "c", states, database=engine, models=models, writers=1)
    assert kind in kinds(found)


@pytest.mark.parametrize(("level", "loses"), [("full", True), ("extra", False)])
def test_a_journal_that_a_commit_removes_needs_extra_to_keep_the_last_one(
    tmp_path: Path, level: str, loses: bool
) -> None:
    found = crashed(
        tmp_path / "c", 24, journal_mode="delete", synchronous=level, models=("strict", "prefix")
    )
    assert not found.campaign.broken() and not found.unexplained
    assert max(one.lost or 0 for one in found.campaign.judged) == (1 if loses else 0)
    assert found.data()["journal_mode"] == "delete"


def test_a_campaign_goes_on_where_it_was(tmp_path: Path) -> None:
    whole = crashed(tmp_path / "c", states=8)
    lines = (tmp_path / "c" / "states.jsonl").read_text().splitlines()
    (tmp_path / "c" / "states.jsonl").write_text("\n".join(lines[:5]) + '\n{"key": "cut')
    again = resume(tmp_path / "c")
    assert again.data()["models"] == whole.data()["models"]
    told = (tmp_path / "c" / "states.jsonl").read_text().splitlines()
    added = [line for line in told if line]
    assert len(added) - 6 == len(lines) - 5  # the cut line stays, and nothing is judged twice


def test_a_folder_is_worked_on_by_one_process_alone(tmp_path: Path) -> None:
    folder = tmp_path / "c"
    folder.mkdir()
    asked = {"many": 1, "seed": 0, "models": ["kill"], "limit_s": 1, "reduce": False}
    design = {"cwkit": 1, "document": "crash design", "command": "", "asked": asked}
    (folder / "crash.json").write_text(json.dumps(design))
    with locked(folder):
        with pytest.raises(RunError, match="another process goes on with this crash campaign"):
            resume(folder)
        (folder / "crash.json").unlink()
        with pytest.raises(RunError, match="another process goes on with this crash campaign"):
            crashed(folder)
    assert [path.name for path in folder.iterdir()] == [LOCK_FILE]


def test_what_cannot_be_judged_or_read_is_one_sentence(tmp_path: Path) -> None:
    for engine, why in (("null", "writes no file"), ("postgres", "its files in a server")):
        with pytest.raises(PlanError, match=f"--engine {engine}: .*{why}"):
            must_be_judged(Plan(scenario="ledger", database=engine, write_engine=engine))
    for mode in ("memory", "off"):
        with pytest.raises(PlanError, match=f"--journal-mode {mode}: no journal is on the disk"):
            crashed(tmp_path / "c", journal_mode=mode)
    own = Plan(scenario="ledger", database="turso", write_engine="turso", journal_mode="delete")
    with pytest.raises(PlanError, match="--journal-mode delete: turso has a log of its own"):
        must_be_judged(own)
    assert not (tmp_path / "c").exists()
    with pytest.raises(RunError, match="no crash campaign to go on with"):
        resume(tmp_path)
    (tmp_path / "state.json").write_text(json.dumps({"document": "crash state", "plan": {}}))
    with pytest.raises(RunError, match="no kept crash state"):
        read_kept(tmp_path)
