"""Every call of a commit fails once: which it was is looked up, and what was not struck is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from properties.crashes import Change
from properties.faults import Case, StoryResult, campaign, find_stories
from properties.faults.calls import Part, Place, places
from properties.faults.each_call import Aim, alone, fail_each, of_commits, struck, together
from workloads.engines import find_engine
from workloads.errors import EngineMissing
from workloads.processes import fault_library

try:
    fault_library()
except EngineMissing as reason:
    pytestmark = pytest.mark.skip(reason=str(reason))

WRITE, SYNC, BACK = ("write", "-wal"), ("sync", "-wal"), ("write", "")


def part(
    *kinds: tuple[str, str], failed: int | None = None, error: int = 5, earlier: int = 0
) -> Part:
    """A commit of these calls, of which one was made to fail, after as many others like it."""
    calls = []
    for at, (call, file) in enumerate(kinds):
        flags = 4 if at == failed else 0
        code = {"write": 2, "sync": 3}[call]
        name = f"database.db{file}"
        calls.append(
            Change(at + 1, 0, 1, 0, code, flags, error if flags else 0, 1, 0, 0, name, 0, 0,
                   memoryview(b""))
        )  # fmt: skip
    numbers = tuple(
        earlier * kinds.count(kind) + kinds[: at + 1].count(kind) for at, kind in enumerate(kinds)
    )
    return Part(tuple(calls), numbers)


def test_the_last_sync_has_one_place_however_many_pages_a_commit_writes() -> None:
    short, long = places([WRITE, WRITE, SYNC]), places([WRITE, WRITE, WRITE, SYNC])
    assert short[-1] == long[-1] and long[2] not in short
    assert places([WRITE, SYNC, WRITE])[1] != short[-1]  # the sync of a log that begins anew


def test_of_a_commit_the_first_call_that_failed_is_the_one_that_was_struck() -> None:
    sync = places([WRITE, WRITE, SYNC])[-1]
    assert struck([part(WRITE, WRITE, SYNC, failed=2), part(WRITE, SYNC)]) == [(sync, "EIO")]
    assert struck([part(WRITE, WRITE, failed=1, error=28)])[0][1] == "ENOSPC"


def test_faults_of_one_run_are_in_commits_of_their_own_and_count_what_was_not_called() -> None:
    parts = [part(WRITE, WRITE, SYNC, earlier=number) for number in range(9)]
    aim = Aim(parts, dict.fromkeys(parts[0].places), lambda made: [], {})
    groups = together(aim, aim.missing(["EIO"]))
    # Two commits are left alone first, and one between any two; the first fault saves a write and
    # a sync, the second one a sync.
    assert groups == [["write:*-wal:5:EIO", "write:*-wal:9:EIO", "sync:*-wal:5:EIO"]], groups
    assert alone(aim, (Place((), "rename", "-wal", 0), "EIO"), 0) is None


@pytest.mark.slow
def test_a_call_that_no_fault_strikes_is_named(tmp_path: Path) -> None:
    case = Case("sqlite", "immediate", 0, tmp_path)
    aim = of_commits(case)
    never = Place((), "rename", "-wal", 0)
    aim.wanted = {next(iter(aim.wanted)): None, never: None}
    result = StoryResult("commit-calls", "sqlite", "immediate", 0)
    fail_each(case, result, aim, "a commit")
    assert (result.calls, result.calls_failed) == (2, 1) and result.verdict == "cannot tell"
    assert "rename wal by EIO 1, rename wal by ENOSPC 1" in result.untold[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("engine", "begin"), [("sqlite", "immediate"), ("turso", "concurrent")]
)  # fmt: skip
@pytest.mark.parametrize("story", ["commit-calls", "checkpoint-calls"])
def test_every_call_fails_once_by_each_error(
    tmp_path: Path, engine: str, begin: str, story: str
) -> None:
    if why := find_engine(engine).missing():
        pytest.skip(why)
    (result,) = campaign(tmp_path / "f", [(engine, begin)], find_stories([story]))
    assert result.calls == result.calls_failed > 1 and not result.untold, result
    assert "each failed by EIO and by ENOSPC" in result.told[0]
    assert engine == "turso" or result.verdict == "sound", result


@pytest.mark.slow
def test_who_keeps_the_lock_after_an_error_keeps_the_others_from_going_on(tmp_path: Path) -> None:
    engine = "faulty-keeps-its-lock"
    (result,) = campaign(
        tmp_path / "f", [(engine, "immediate")], find_stories(["commit-calls"]), quick=True
    )
    assert any(one.startswith("going on:") for one in result.found), result
