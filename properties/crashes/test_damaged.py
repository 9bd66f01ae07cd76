"""Folders of campaigns that were interrupted, cut or edited: gone on with, or refused in words."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from properties.crashes import Crashed, look_again, read_kept, resume
from properties.crashes.keeping import FILES, STATE
from properties.crashes.test_any_scenario import crashed, kinds
from workloads.errors import EngineMissing, RunError
from workloads.processes import fault_library

try:
    fault_library()
except EngineMissing as reason:
    pytestmark = pytest.mark.skip(reason=str(reason))

DEEP = "[" * 100_000


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One whose engine forgets commits: states are kept."""
    folder = tmp_path_factory.mktemp("campaign") / "c"
    found = crashed(folder, 6, ("kill",), database="faulty-forgets")
    assert len(found.kept) > 1
    return folder


@pytest.fixture
def copy(campaign: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(campaign, tmp_path / "c"))


def state_of(folder: Path) -> Path:
    return next(iter(sorted((folder / "states").iterdir()))) / STATE


def edit(path: Path, *keys: str, to: Any) -> None:
    whole = told = json.loads(path.read_text(encoding="utf-8"))
    for key in keys[:-1]:
        told = told[key]
    told[keys[-1]] = to
    path.write_text(json.dumps(whole), encoding="utf-8")


def edit_lines(path: Path, **values: Any) -> None:
    lines = path.read_text(encoding="utf-8").split("\n")
    edited = [json.dumps(json.loads(line) | values) for line in lines if line]
    path.write_text("\n".join(edited) + "\n", encoding="utf-8")


def what_is_kept(found: Crashed) -> list[tuple[Any, dict[str, bytes]]]:
    kept = [read_kept(path) for path in found.kept]
    return sorted(((one.told["drawn_as"]["point"], one.files) for one in kept), key=lambda k: k[0])


def _gone(folder: Path) -> None:
    shutil.rmtree(folder / "states")


def _one_of_them(folder: Path) -> None:
    shutil.rmtree(state_of(folder).parent)


def _half_of_one(folder: Path) -> None:
    path = state_of(folder).parent
    half = path.rename(path.with_name(f".{path.name}.new"))
    (half / STATE).unlink()


def _and_a_file_of_others(folder: Path) -> None:
    (folder / "states" / ".DS_Store").write_text("")


@pytest.mark.parametrize("lost", [_gone, _one_of_them, _half_of_one, _and_a_file_of_others])
def test_states_that_were_judged_and_not_kept_yet_are_kept_when_it_goes_on(
    campaign: Path, copy: Path, lost: Callable[[Path], None]
) -> None:
    before = what_is_kept(resume(campaign))
    lost(copy)
    found = resume(copy)
    assert what_is_kept(found) == before and kinds(found) == {"lost"}
    assert len({path.name for path in found.kept}) == len(before)


@pytest.mark.parametrize(
    ("keys", "to"),
    [
        (("plan",), "x"),
        (("plan", "synchronous"), "zzz"),
        (("plan", "nope"), 1),
        (("acked",), [["a", 1, 1]]),
        (("acked",), [[math.inf, 1, 1]]),
        (("drawn_as",), []),
        (("drawn_as", "model"), "zzz"),
        (("faults",), 5),
        (("missing",), "x"),
        (("expected", "contents"), []),
        (("expected", "contents"), [[{"account": 5}, [], []]]),
        (("expected", "records"), []),
        (("expected", "visible"), 1 << 40),
        (("expected", "claims"), [1 << 70]),
        (("expected", "least"), -1),
    ],
)
def test_a_kept_state_that_was_edited_is_refused_in_words(
    copy: Path, tmp_path: Path, keys: tuple[str, ...], to: Any
) -> None:
    state = state_of(copy)
    edit(state, *keys, to=to)
    with pytest.raises(RunError, match="cwkit crash"):
        look_again(read_kept(state.parent), tmp_path / "look")


def test_a_kept_state_of_endless_brackets_or_without_its_files_is_no_traceback(
    copy: Path, tmp_path: Path
) -> None:
    state = state_of(copy)
    shutil.rmtree(state.parent / FILES)
    (one,) = look_again(read_kept(state.parent), tmp_path)
    assert one.kind == "does not open"
    state.write_text(DEEP, encoding="utf-8")
    with pytest.raises(RunError, match="no kept crash state"):
        read_kept(state.parent)


@pytest.mark.parametrize(
    ("key", "to"),
    [("many", 3.5), ("many", 0), ("models", []), ("models", ["x"]), ("limit_s", "x"),
     ("limit_s", -1), ("limit_s", math.nan), ("seed", "abc"), ("reduce", "x")],
)  # fmt: skip
def test_a_design_that_makes_no_sense_is_refused(copy: Path, key: str, to: Any) -> None:
    edit(copy / "crash.json", "asked", key, to=to)
    with pytest.raises(RunError, match=r"crash\.json"):
        resume(copy)


def test_a_design_of_endless_brackets_is_refused(copy: Path) -> None:
    (copy / "crash.json").write_text(DEEP, encoding="utf-8")
    with pytest.raises(RunError, match="nested too deep"):
        resume(copy)


FIRST: tuple[dict[str, Any], ...] = (
    {},
    {"content": 5, "wrong": []},
    {"content": {"a": 5}, "wrong": []},
    {"content": {"a": ["x", "y"]}, "wrong": ["x"]},
)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("states.jsonl", {"lost": math.inf}),
        ("states.jsonl", {"acked": -1}),
        ("states.jsonl", {"seconds": "x"}),
        ("states.jsonl", {"faults": [["../../x", "it leads out", True]]}),
        ("states.jsonl", {"faults": [["\x1b[31m", "it is red", True]]}),
        *(("contents.jsonl", {"first": first}) for first in FIRST),
        ("contents.jsonl", {"record": -7}),
        ("contents.jsonl", {"record": 10**9}),
        ("contents.jsonl", {"record": math.inf}),
    ],
)
def test_lines_that_were_edited_are_judged_or_opened_again(
    copy: Path, name: str, values: dict[str, Any]
) -> None:
    (copy / ("contents.jsonl" if name == "states.jsonl" else "states.jsonl")).unlink()
    edit_lines(copy / name, **values)
    with (copy / name).open("a", encoding="utf-8") as lines:
        lines.write(DEEP)
    shutil.rmtree(copy / "states")
    around = {path.name for path in copy.parent.iterdir()}
    found = resume(copy)
    assert kinds(found) == {"lost"} and len(found.campaign.judged) + found.campaign.same == 6
    assert {path.name for path in copy.parent.iterdir()} == around
    assert all(path.name.endswith("-lost") for path in found.kept)


def test_a_recording_that_was_edited_is_refused(copy: Path) -> None:
    (copy / "recording" / "changes.log").write_bytes(b"")
    with pytest.raises(RunError, match="changed no file"):
        resume(copy)
    edit(copy / "recording" / "manifest.json", "plan", "write_engine", to="sqlite")
    with pytest.raises(RunError, match="does not tell of"):
        resume(copy)
    (copy / "recording" / "base.json").write_text(DEEP, encoding="utf-8")
    with pytest.raises(RunError, match="recording"):
        resume(copy)
