"""The stories of faults: sound engines are silent in each, broken ones are caught by name."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from properties.faults import (
    STORIES,
    Case,
    Story,
    StoryResult,
    campaign,
    cases_of,
    find_stories,
    read_results,
)
from properties.faults.campaign import tell
from properties.faults.flips import judged
from workloads.engines import find_engine
from workloads.errors import EngineMissing, PlanError, RunError
from workloads.files import locked
from workloads.processes import fault_library

try:
    fault_library()
except EngineMissing as reason:
    pytestmark = pytest.mark.skip(reason=str(reason))


def told(folder: Path, engine: str, begin: str, *names: str, **more: Any) -> list[StoryResult]:
    if why := find_engine(engine).missing():
        pytest.skip(why)
    return campaign(folder, [(engine, begin)], find_stories(names), quick=True, **more)


def test_a_story_of_a_sound_engine_is_silent_and_is_not_told_again(tmp_path: Path) -> None:
    (result,) = told(tmp_path / "f", "sqlite", "immediate", "flip-log")
    assert result.verdict == "sound" and result.fired == 4 and result.acknowledged == 40, result
    again: list[str] = []
    cut = (tmp_path / "f" / "results.jsonl").read_text() + '{"story": "cut'
    (tmp_path / "f" / "results.jsonl").write_text(cut)
    asked = ("sqlite", "immediate", "flip-log")
    told(tmp_path / "f", *asked, on_begun=lambda *of: again.append(of[0]))
    assert not again and read_results(tmp_path / "f") == [result]


def test_lines_that_make_no_sense_are_no_results(tmp_path: Path) -> None:
    sound = '{"story": "s", "engine": "e", "begin": "b", "seed": 0, "later": 1}'
    odd = [sound[:-1], "[]", '{"story": 1}', sound.replace("0,", '"x",'), "[" * 100_000, "\0"]
    (tmp_path / "results.jsonl").write_text("\n".join([*odd, sound, ""]))
    assert read_results(tmp_path) == [StoryResult("s", "e", "b", 0)]
    (tmp_path / "faults.json").write_text('{"document": "faults design", "asked": {"seed": 9}}')
    with pytest.raises(PlanError, match="was begun with"):
        campaign(tmp_path, [("sqlite", "immediate")], [])
    (tmp_path / "faults.json").write_text("[]")
    with pytest.raises(RunError, match="no campaign of faults to go on with"):
        campaign(tmp_path, [("sqlite", "immediate")], [])


def test_what_cannot_be_told_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"--story kill-won: there is none\. Did you mean 'kill-o"):
        find_stories(["kill-won"])
    with pytest.raises(PlanError, match="no library can be put before them"):
        cases_of(["null"], [])
    with pytest.raises(PlanError, match="none of sqlite promises it"):
        cases_of(["sqlite"], ["concurrent"])
    folder = tmp_path / "held"
    folder.mkdir()
    with locked(folder), pytest.raises(RunError, match="goes on with this campaign of faults"):
        campaign(folder, [("sqlite", "immediate")], [])
    (tmp_path / "mine").write_text("x")
    with pytest.raises(RunError, match="holds something else"):
        campaign(tmp_path, [("sqlite", "immediate")], [])


def test_a_result_without_a_fault_that_fired_has_tested_nothing() -> None:
    result = StoryResult("s", "e", "b", 0)
    assert result.verdict == "cannot tell"
    result.fired = 1
    assert result.verdict == "sound"
    result.found.append("lost")
    assert result.verdict == "finding"


WHOLE = {"first": {"integrity": [], "whole": [[0, 1], [0, 2]], "wrong": []}}


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (WHOLE, "harmless"),
        ({"first": {"integrity": [], "whole": [[0, 1]], "wrong": []}}, "fewer transactions"),
        ({"first": {"integrity": [], "whole": [[0, 1]], "wrong": ["torn"]}}, "other contents"),
        (
            {
                "first": {
                    "integrity": [],
                    "whole": [],
                    "wrong": ["0 accounts are there, and 64 were loaded"],
                }
            },
            "fewer transactions",
        ),
        ({"first": {"integrity": ["row 3"], "whole": [], "wrong": []}}, "detected"),
        ({"failed": ["first", "malformed"]}, "detected"),
        ({"died": "SIGSEGV"}, "took its process down"),
        ({"hung": 20.0}, "hung"),
    ],
)
def test_what_a_flip_did_is_told_beside_the_whole_copy(answer: dict[str, Any], kind: str) -> None:
    assert judged(answer, WHOLE)[0] == kind


# --- every story, and an engine that it catches -----------------------------------------------


@pytest.fixture(scope="module")
def sound_case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """As in a campaign, stories of a case share the recording of its calls, and nothing else."""
    return Case("sqlite", "immediate", 0, tmp_path_factory.mktemp("faults"), quick=True)


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name)
def test_a_sound_engine_is_silent_in_each_story(sound_case: Case, story: Story) -> None:
    result = tell(story, sound_case)
    if story.name == "full-disk" and not result.fired:
        assert "no tmpfs can be mounted here" in result.untold[0], result
        return
    assert result.verdict == "sound" and result.fired > 0, result


CAUGHT = {
    "kill-often": ("faulty-early-ack", "acknowledged postings"),
    "kill-one": ("faulty-early-ack", "acknowledged postings"),
    "kill-all": ("faulty-lost-commit", "acknowledged postings"),
    "kill-in-commit": ("faulty-early-ack", "acknowledged postings"),
    "kill-in-checkpoint": ("faulty-lost-commit", "acknowledged postings"),
    "stop-holder": ("faulty-lost-commit", "acknowledged postings"),
    "commit-calls": ("faulty-refuses-and-keeps", "refused postings"),
    "checkpoint-calls": ("faulty-refuses-and-keeps", "refused postings"),
    "long-reader": ("faulty-lost-commit", "acknowledged postings"),
    "two-checkpointers": ("faulty-lost-commit", "acknowledged postings"),
    "slow-sync": ("faulty-lost-commit", "acknowledged postings"),
    "ddl": ("faulty-lost-commit", "acknowledged postings"),
    "vacuum": ("faulty-lost-commit", "acknowledged postings"),
    "attach": ("faulty-lost-commit", "acknowledged postings"),
    "second-copy": ("faulty-never-locks", "another process began to write"),
    "full-disk": ("faulty-keeps-its-lock", "nothing was committed"),
    "file-limit": ("faulty-keeps-its-lock", "nothing was committed"),
    "clock-back": ("faulty-lost-commit", "acknowledged postings"),
}


@pytest.mark.slow
@pytest.mark.parametrize("story", CAUGHT)
def test_a_broken_engine_is_caught_by_name(tmp_path: Path, story: str) -> None:
    engine, words = CAUGHT[story]
    (result,) = told(tmp_path / "f", engine, "immediate", story)
    assert result.verdict == "finding" and any(words in one for one in result.found), result


FLIPS = {
    "flip-database": ("faulty-dies-of-damage", "took its process down"),
    "flip-log": ("faulty-trusts-its-log", "other contents"),
    "flip-shared-memory": ("faulty-throws-its-log-away", "fewer transactions"),
}


@pytest.mark.slow
@pytest.mark.parametrize("story", FLIPS)
def test_an_engine_that_a_bit_harms_is_caught_by_name(tmp_path: Path, story: str) -> None:
    """Most bits of a file do no harm: up to 160 are flipped."""
    engine, words = FLIPS[story]
    found: list[str] = []
    for seed in range(4):
        asked = find_stories([story])
        (result,) = campaign(tmp_path / f"{seed}", [(engine, "immediate")], asked, seed=seed)
        if found := result.found:
            break
    assert any(words in one for one in found), found


def test_every_story_has_an_engine_that_it_catches() -> None:
    assert {story.name for story in STORIES} == CAUGHT.keys() | FLIPS.keys()


@pytest.mark.slow
def test_a_campaign_that_is_ended_leaves_no_process_and_no_mount(tmp_path: Path) -> None:
    argv = [sys.executable, "-P", "-m", "analysis.cli", "faults", "--engine", "sqlite", "--quick"]
    argv += ["--into", str(tmp_path / "f"), "--story", "stop-holder", "--story", "full-disk"]
    for wait_s in (1.0, 2.5, 4.5):
        child = subprocess.Popen(argv, env=os.environ | {"TMPDIR": str(tmp_path)},
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
        time.sleep(wait_s)
        child.send_signal(signal.SIGKILL)
        child.wait(30)
        until = time.monotonic() + 20
        while (left := _tagged(str(tmp_path))) and time.monotonic() < until:
            time.sleep(0.1)
        assert not left, left
        assert "cwkit" not in Path("/proc/mounts").read_text()


@pytest.mark.slow
def test_an_interrupted_campaign_keeps_what_it_has_and_goes_on(tmp_path: Path) -> None:
    argv = [sys.executable, "-P", "-m", "analysis.cli", "faults", "--engine", "sqlite", "--quick"]
    argv += ["--into", str(tmp_path / "f"), "--story", "kill-all", "--story", "stop-holder"]
    child = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stderr is not None
    for line in child.stderr:
        if "stop-holder" in line:
            break
    child.send_signal(signal.SIGINT)
    out, _ = child.communicate(timeout=60)
    assert child.returncode == 130 and "It goes on with" in out, out
    assert [one.story for one in read_results(tmp_path / "f")] == ["kill-all"]
    again = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
    assert again.returncode == 0 and "2 of 2 sound" in again.stdout, again.stdout


def _tagged(tag: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if tag.encode() in (path / "environ").read_bytes():
                found.append((path / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found
