"""A hunt by several processes: whole findings in folders, played again, whatever ends it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest

from properties.hunter.crew import checked_modes, hunt_all
from properties.hunter.folder import FINDING, HUNT, PROGRAM, TIMELINE, findings_in, read_finding
from properties.hunter.replaying import replay
from workloads.engines import Script, find_engine, trust
from workloads.errors import PlanError, RunError
from workloads.files import ROOT, read_json

BROKEN = Path(__file__).with_name("broken.py")
FINDINGS = str(ROOT / "examples" / "findings")
Cwkit = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def hunted(made_once: Callable[..., Path]) -> Path:
    """The folder of a hunt on an engine that refuses DELETE for nobody."""
    engine = f"{BROKEN}:RefusesForNobody"
    trust(engine)
    how: dict[str, Any] = {
        "seed": 1,
        "minutes": 5,
        "programs": 24,
        "processes": 2,
        "contract": False,
    }
    return made_once("hunt", lambda folder: hunt_all(folder, engine, ("immediate",), **how))


def test_a_finding_is_a_folder_that_tells_all_of_it(hunted: Path) -> None:
    told = read_json(hunted / HUNT)
    assert told["ended"] == "done"
    assert told["programs"] >= 24
    assert datetime.fromisoformat(told["started"]).tzinfo == UTC
    assert told["machine"]["cores"] >= 1
    assert told["version"]
    findings = findings_in(hunted)
    assert findings
    for path in findings:
        kept, program = read_finding(path)
        assert kept.judge == "needless refusal"
        assert kept.steps == len(program.steps) <= 2
        assert kept.again == (10, 10)
        assert "database is locked" in (path / TIMELINE).read_text()


def test_it_shows_again_there_and_not_on_a_sound_engine(hunted: Path) -> None:
    for name, state in (("RefusesForNobody", "there"), ("Sound", "not there")):
        trust(f"{BROKEN}:{name}")
        states = {one.state for one in replay(hunted, f"{BROKEN}:{name}")}
        assert states == {state}


def test_an_engine_that_dies_when_it_is_asked_is_hunted_without_that(tmp_path: Path) -> None:
    engine = f"{BROKEN}:DiesWhenAsked"
    trust(engine)
    hunted = hunt_all(
        tmp_path,
        engine,
        ("immediate",),
        seed=1,
        minutes=5,
        programs=16,
        processes=1,
        contract=False,
    )
    assert hunted.progress.programs >= 16
    assert "it never came back" in hunted.progress.refused["savepoint"]
    findings = [read_finding(path) for path in findings_in(tmp_path)]
    assert [kept.judge for kept, _ in findings] == ["abort"]


def test_a_script_that_does_not_run_shows_nothing(tmp_path: Path) -> None:
    engine = f"{BROKEN}:WithoutItsDriver"
    trust(engine)
    modes = ("immediate",)
    hunt_all(tmp_path, engine, modes, seed=1, minutes=5, programs=8, processes=1, contract=False)
    kept = [read_finding(path)[0] for path in findings_in(tmp_path)]
    drawn = [one for one in kept if one.judge == "needless refusal"]
    assert drawn
    for one in drawn:
        assert (one.method, one.again) == ("program", (10, 10))
        assert one.no_script == "repro.py shows it in 0 of 10 tries, for it does not run"


def test_a_script_is_asked_for_before_the_hunt(tmp_path: Path) -> None:
    engine = f"{BROKEN}:WithWordsForAScript"
    trust(engine)
    with pytest.raises(PlanError, match=r"must return a workloads.engines.Script"):
        hunt_all(tmp_path / "hunt", engine, ("immediate",), seed=1, minutes=5, programs=8,
                 processes=1)  # fmt: skip
    assert not (tmp_path / "hunt").exists()


@pytest.mark.parametrize(
    ("name", "engine", "modes", "state", "text"),
    [
        ("upsert-breaks-a-foreign-key", "", (), "there", "foreign key"),
        ("begin-concurrent-leaks-a-page", "sqlite-latest", (), "cannot be played",
         'BEGIN CONCURRENT is refused: near "CONCURRENT"'),
        ("begin-concurrent-leaks-a-page", "sqlite-latest", ("immediate",), "not there", ""),
    ],
)  # fmt: skip
def test_a_finding_is_played_where_it_was_found_or_where_one_asks(
    name: str, engine: str, modes: tuple[str, ...], state: str, text: str
) -> None:
    if why := find_engine("sqlite-latest").missing():
        pytest.skip(why)
    [one] = replay(ROOT / "examples" / "findings" / name, engine, modes)
    assert (one.engine, one.state) == ("sqlite-latest", state)
    assert text in one.text


@pytest.mark.slow
def test_a_hunt_finds_the_same_again(hunted: Path, tmp_path: Path) -> None:
    engine, modes = f"{BROKEN}:RefusesForNobody", ("immediate",)
    hunt_all(tmp_path, engine, modes, seed=1, minutes=5, programs=24, processes=2, contract=False)
    assert [p.name for p in findings_in(tmp_path)] == [p.name for p in findings_in(hunted)]


def test_the_command_says_what_it_found_and_ends_with_1(hunted: Path, cwkit: Cwkit) -> None:
    done = cwkit("fuzz", "--replay", hunted, "--engine", f"{BROKEN}:RefusesForNobody")
    assert done.returncode == 1
    assert "there" in done.stdout
    done = cwkit("fuzz", "--replay", hunted, "--engine", f"{BROKEN}:Sound", "--json")
    assert done.returncode == 0
    assert {one["state"] for one in json.loads(done.stdout)["findings"]} == {"not there"}


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--minutes", "0"], "--minutes: above 0"),
        (["--programs", "0"], "--programs: at least 1"),
        (["-j", "0"], "-j: from 1 to 64"),
        (["--begin", "imediate"], "Did you mean 'immediate'?"),
        (["--engine", "null"], "cannot be hunted"),
        (["--engine", "turso@0.0.1"], "make engine ENGINE=turso@0.0.1"),
        (["--without", "savepiont"], "Did you mean 'savepoint'?"),
        (["--replay", "nowhere"], "has no finding"),
        (["--replay", "nowhere", "--minutes", "3"], "--minutes: is of a hunt, and --replay hunts"),
        (["--publish", "nowhere", "--engine", "sqlite"], "--engine: is of a hunt, and --publish"),
        (["--engine", "sqlite", "--begin", "concurrent"], "for which it promises anything"),
        (["--begin", ","], "names no mode"),
        (["--engine", f"{BROKEN}:HasNoName"], "its `identity` raised OSError: no name"),
        (["--engine", f"{BROKEN}:OpensNothing"], "opens no connection"),
        (["--replay", FINDINGS, "--engine", f"{BROKEN}:OpensNothing"], "opens no connection"),
        (["--replay", FINDINGS, "--engine", "null"], "cannot be hunted"),
    ],
)
def test_what_cannot_be_hunted_is_one_sentence(
    arguments: list[str], why: str, cwkit: Cwkit, tmp_path: Path
) -> None:
    done = cwkit("fuzz", *arguments, "--runs", tmp_path / "runs")
    assert done.returncode == 2
    assert why in done.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("file", "text", "why"),
    [
        (FINDING, "{}", "finding.json"),
        (FINDING, '{"cwkit": 1, "steps": -1}', "finding.json"),
        (PROGRAM, "A commit\n", "program.txt"),
        (PROGRAM, "---\nA race 99 99 99\n", "program.txt"),
    ],
)
def test_a_finding_that_was_edited_is_refused(
    hunted: Path, tmp_path: Path, file: str, text: str, why: str
) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in findings_in(hunted)[0].iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    (copy / file).write_text(text)
    with pytest.raises(RunError, match=why):
        read_finding(copy)


@pytest.mark.slow
def test_a_hunt_that_is_killed_leaves_its_findings_and_nothing_running(tmp_path: Path) -> None:
    engine = f"{BROKEN}:RefusesForNobody"
    command = [sys.executable, "-m", "analysis.cli", "fuzz", "--engine", engine, "--begin",
               "immediate", "-j", "1", "--minutes", "5", "--runs", str(tmp_path)]  # fmt: skip
    child = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 60
        while not (found := [p for f in tmp_path.glob("*-fuzz-*") for p in findings_in(f)]):
            assert child.poll() is None
            assert time.monotonic() < until
            time.sleep(0.1)
        below = psutil.Process(child.pid).children(recursive=True)
        assert below
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    _, alive = psutil.wait_procs(below, timeout=20)
    assert [one for one in alive if one.status() != psutil.STATUS_ZOMBIE] == []
    for path in found:
        read_finding(path)


def test_modes_are_those_that_the_engine_promises() -> None:
    assert checked_modes("libsql", ()) == ("deferred", "immediate", "exclusive")
    with pytest.raises(PlanError, match="has no mode"):
        checked_modes("libsql", ("sometimes",))


def test_the_example_of_an_engine_of_ones_own_is_sound_and_has_scripts(tmp_path: Path) -> None:
    engine = f"{ROOT / 'examples' / 'engine_yours.py'}:Yours"
    trust(engine)
    hunted = hunt_all(
        tmp_path, engine, ("deferred", "immediate"), seed=1, minutes=5, programs=40, processes=1,
        contract=False,
    )  # fmt: skip
    assert findings_in(tmp_path) == []
    assert hunted.progress.drawn == 40
    assert isinstance(find_engine(engine).script(), Script)  # type: ignore[attr-defined]
