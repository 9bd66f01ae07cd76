"""Folders that somebody else made: whatever they name, what lies beside them is not touched.

Each forged folder lies beside a folder `precious`. A command that is given it may refuse it with
one sentence and status 2, or do what it would do without the forgery; `precious` stays as it was.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analysis.cli.entry import main
from analysis.search import Search
from analysis.search import begin as begin_search
from analysis.synthetic import drawn_run, made_report_folder, whole_report, write_folder
from workloads.experiments import Cell, begin, cell_name, note_sweep, read_sweep, write_cell
from workloads.records import Run
from workloads.runs import make_plan

SWEEP = """\
question = "Does it run?"
name = "tiny"
blocks = 1
control = false
[plan]
scenario = "counter"
database = "null"
transactions = 20
duration_s = 30
[grid]
writers = [1, 2]
"""
FIRST = "b00-writers-1"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: `precious`, a sweep's file, two finished sweeps and a report's folder."""
    monkeypatch.chdir(tmp_path)
    precious = tmp_path / "precious"
    write_folder(drawn_run(1, writers=1, engine="null"), precious / "run")
    (precious / "letter").write_text("dear", encoding="utf-8")
    (precious / "campaign.json").write_text('{"cwkit": 1}', encoding="utf-8")
    (tmp_path / "tiny.toml").write_text(SWEEP, encoding="utf-8")
    made_sweep(tmp_path / "runs" / "forged")
    made_sweep(tmp_path / "runs" / "sound", blocks=2)
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "campaign.json").write_text('{"cwkit": 1}', encoding="utf-8")
    return tmp_path


def made_sweep(folder: Path, blocks: int = 1) -> None:
    sweep = read_sweep(Path("tiny.toml"), blocks=blocks)
    begin(sweep.design, folder)
    note_sweep(folder, sweep)
    for block in range(blocks):
        for n, arm in enumerate(sweep.design.arms, 1):
            made = drawn(block, n)
            made.manifest.run = cell_name(block, arm)
            where = write_folder(made, folder / cell_name(block, arm))
            write_cell(folder, Cell(block, arm, "done", "", where, 1.0))


@functools.cache
def drawn(block: int, writers: int) -> Run:
    return drawn_run([block, writers], writers=writers, engine="null", abort=0.2)


def change(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes), encoding="utf-8")


def linked(name: str, to: str) -> Callable[[Path], None]:
    """The entry of that name becomes a symbolic link."""

    def forge(folder: Path) -> None:
        if (folder / name).is_dir():
            (folder / name).rename(folder.parent.parent / "moved")
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(to)

    return forge


def change_cell(**changes: Any) -> Callable[[Path], None]:
    return lambda folder: change(folder / f"{FIRST}.cell.json", **changes)


def change_sweep(**changes: Any) -> Callable[[Path], None]:
    return lambda folder: change(folder / "experiment.json", **changes)


def another_cell(folder: Path) -> None:
    (folder / f"{FIRST}.cell.json").rename(folder / "b00-writers-9.cell.json")


REFUSED: dict[str, tuple[Callable[[Path], None], str]] = {
    "a run elsewhere": (change_cell(run="../../precious"), "is not its name"),
    "a run by its path": (change_cell(run="/etc"), "is not its name"),
    "the sweep's own folder": (change_cell(run="."), "is not its name"),
    "another cell's run": (change_cell(run="b00-writers-2"), "is not its name"),
    "a run that is a link": (linked(FIRST, "../../precious/run"), "symbolic link"),
    "a cell's file of another name": (another_cell, "has the name of another cell"),
    "a cell of another arm": (change_cell(arm="../../precious"), "has the name of another cell"),
    "a block that is none": (change_cell(block=10**9), "block"),
    "a state that is none": (change_cell(state="\x1b[2Jdone"), "state"),
    "years of work": (change_cell(took_s=1e300), "took_s"),
    "a name that leaves": (change_sweep(experiment="../../precious/x"), "is no name"),
    "a name that acts": (change_sweep(experiment="a\x1b[2J"), "is no name"),
    "a thousand million blocks": (change_sweep(blocks=10**9), "blocks"),
    "an order without an arm": (change_sweep(order=[["writers 1"]]), "order"),
    "an arm that acts": (change_sweep(arms={"\x1b]0;x\x07": {}}, order=[["\x1b]0;x\x07"]]), "arm"),
    "a plan that is none": (
        change_sweep(arms={"writers 1": {"writers": 10**9}, "writers 2": {}}),
        "makes no plan",
    ),
}
"""Ways to forge a sweep's folder, each with a part of the sentence that refuses it."""

HARMLESS: dict[str, Callable[[Path], None]] = {
    "earlier": linked("earlier", "../../precious"),
    "templates": linked(".cwkit-templates", "../../precious"),
    "cells": linked("cells.csv", "../../precious/letter"),
    "note": linked("sweep.json", "../../precious/letter"),
    "file": linked("sweep.toml", "../../precious/new"),
    "lock": linked(".lock", "../../precious/letter"),
    "state": linked(f"{FIRST}.cell.json", "../../precious/letter"),
}
"""Links in place of files and folders of ours that are written or removed."""

COMMANDS: dict[str, list[str]] = {
    "sweep": ["sweep", "tiny.toml", "--into", "runs/forged"],
    "again": ["sweep", "tiny.toml", "--into", "runs/forged", "--again", "all"],
    "contaminated": ["sweep", "tiny.toml", "--into", "runs/forged", "--retry-contaminated"],
    "failed": ["sweep", "tiny.toml", "--into", "runs/forged", "--retry-failed"],
    "dry run": ["sweep", "tiny.toml", "--into", "runs/forged", "--dry-run", "--again", "all"],
    "show": ["show", "runs/forged"],
    "cells": ["export", "runs/forged", "--format", "csv", "--out", "cells.csv"],
    "attempts": ["export", "runs/forged", "--what", "attempts", "--out", "attempts.parquet"],
    "compare": ["compare", "runs/forged"],
    "compare arms": ["compare", "runs/sound:writers 1", "runs/forged:writers 1"],
    "conflicts": ["conflicts", "runs/forged"],
    "scaling": ["scaling", "runs/forged"],
    "report": ["report", "--into", "report", "--only-write", "--sweep", "runs/forged",
               "--out", "R.md", "--figures", "figures"],
}  # fmt: skip


def snapshot(folder: Path) -> dict[str, Any]:
    """Every path below a folder with what it holds."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        found[str(path.relative_to(folder))] = path.read_bytes() if path.is_file() else None
    return found


def run_cwkit(capsys: pytest.CaptureFixture[str], argv: list[str]) -> tuple[int, str, str]:
    """(status, output, errors) of a command, run in this process; a traceback fails the test."""
    capsys.readouterr()
    before = sys.argv
    sys.argv = ["cwkit", *argv]
    try:
        main()
        status = 0
    except SystemExit as left:
        status = left.code if isinstance(left.code, int) else 0
    finally:
        sys.argv = before
    out, err = capsys.readouterr()
    return status, out, err


@pytest.mark.parametrize("forged", list(REFUSED))
def test_a_forged_sweep_is_refused_in_one_sentence_and_nothing_is_touched(
    home: Path, capsys: pytest.CaptureFixture[str], forged: str
) -> None:
    forge, reason = REFUSED[forged]
    forge(home / "runs" / "forged")
    before = snapshot(home)
    for command in COMMANDS.values():
        status, _, err = run_cwkit(capsys, command)
        assert snapshot(home) == before, command
        sentence = err.splitlines()[-1]
        assert status == 2 and sentence.startswith("cwkit: ") and sentence.isprintable(), command
        another = command[0] == "sweep" and "holds another experiment" in sentence
        assert reason in sentence or another, command


@pytest.mark.parametrize("forged", list(HARMLESS))
def test_nothing_is_written_moved_or_removed_through_a_link(
    home: Path, capsys: pytest.CaptureFixture[str], forged: str
) -> None:
    before = snapshot(home / "precious")
    for command in COMMANDS.values():
        shutil.rmtree(home / "runs" / "forged")
        made_sweep(home / "runs" / "forged")
        HARMLESS[forged](home / "runs" / "forged")
        status, _, err = run_cwkit(capsys, command)
        assert snapshot(home / "precious") == before, command
        assert status in (0, 1, 2, 3) and "Traceback" not in err, command


def test_the_same_commands_do_their_work_on_a_sound_folder(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, argv in COMMANDS.items():
        # Made anew: what was run again is told by how busy the machine was.
        shutil.rmtree(home / "runs" / "forged")
        made_sweep(home / "runs" / "forged")
        status, _, err = run_cwkit(capsys, argv)
        decided = name not in (
            "compare",
            "compare arms",
            "scaling",  # one block decides nothing
        )
        assert status in ((0,) if decided else (0, 2, 3)), (name, err)
        if name == "again":
            aside = {path.name for path in (home / "runs" / "forged" / "earlier").iterdir()}
            assert aside == {
                f"b00-writers-{n}.1{tail}" for n in (1, 2) for tail in ("", ".cell.json")
            }


def test_one_damaged_sweep_stops_no_list(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for n, (forge, _) in enumerate(REFUSED.values()):
        folder = home / "runs" / f"forged-{n}"
        made_sweep(folder)
        with contextlib.suppress(FileExistsError):
            forge(folder)
    status, out, _ = run_cwkit(capsys, ["list"])
    assert status == 0 and "sweep tiny: 2 arms" in out
    assert out.count("unreadable") == len(REFUSED) and "sound" in out


# --- pytest -----------------------------------------------------------------------------------


# Each other forgery is refused by the same reading, which the command's tests above go through.
@pytest.mark.parametrize(
    "forged", ["a run elsewhere", pytest.param("a run that is a link", marks=pytest.mark.slow)]
)
def test_pytest_refuses_a_forged_sweep(home: Path, forged: str) -> None:
    REFUSED[forged][0](home / "runs" / "forged")
    before = snapshot(home / "precious")
    root = Path(__file__).resolve().parents[2]
    argv = ["workloads", "--sweep", "tiny.toml", "--into", "runs/forged", "--again", "-q"]
    made = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir", root, "-c",
         root / "pyproject.toml", "--confcutdir", root, root / argv[0], *argv[1:]],
        capture_output=True, text=True, timeout=120, env=os.environ | {"PYTHONPATH": str(root)},
    )  # fmt: skip
    text = made.stdout + made.stderr
    assert REFUSED[forged][1] in text and "Traceback" not in text and made.returncode != 0
    assert snapshot(home / "precious") == before


# --- a report's folder ------------------------------------------------------------------------


@pytest.fixture
def report(home: Path) -> Path:
    """A report's folder of two experiments."""
    return made_report_folder(home / "runs" / "report", only=("headline", "acked"))


WRITE = ["report", "--into", "runs/report", "--only-write", "--out", "R.md", "--figures", "figures"]


ELSEWHERE = ["../../precious", "/etc", "../../runs/sound", "..", ".", "../linked", "a/../../sound"]


def test_a_report_tells_no_sweep_that_lies_elsewhere(
    home: Path, report: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "runs" / "linked").symlink_to("../precious")
    change(report / "campaign.json", sweeps=ELSEWHERE)
    before = snapshot(home / "precious")
    status, _, err = run_cwkit(capsys, WRITE)
    assert status == 0, err
    text = whole_report(home / "R.md", home / "figures")
    method = (home / "figures" / "method.md").read_text(encoding="utf-8")
    assert "## Sweep" not in text and method.count("campaign.json: ") == len(ELSEWHERE)
    assert snapshot(home / "precious") == before


def test_a_report_tells_a_sweep_that_lies_beside_it_or_that_the_user_names(
    home: Path, report: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cwkit(capsys, [*WRITE, "--sweep", "runs/sound"])[0] == 0
    assert json.loads((report / "campaign.json").read_text())["sweeps"] == ["../sound"]
    assert run_cwkit(capsys, WRITE)[0] == 0
    assert "## Sweep `tiny`" in whole_report(home / "R.md", home / "figures")
    (home / "elsewhere").mkdir()
    (home / "runs" / "sound").rename(home / "elsewhere" / "sound")
    assert run_cwkit(capsys, [*WRITE, "--sweep", "elsewhere/sound"])[0] == 0
    assert "## Sweep `tiny`" in whole_report(home / "R.md", home / "figures")
    assert run_cwkit(capsys, WRITE)[0] == 0
    text = whole_report(home / "R.md", home / "figures")
    assert "## Sweep" not in text and "Name it:" in text


@pytest.mark.parametrize(
    "names",
    [["../../precious/letter", "a/b", ".."], ["", "a\nb", "x" * 300]],
    ids=["paths", "others"],
)
def test_a_report_writes_no_file_by_a_name_that_leaves(
    home: Path, capsys: pytest.CaptureFixture[str], names: list[str]
) -> None:
    report = made_report_folder(home / "runs" / "report")
    for experiment, name in zip(("writers", "think", "skew"), names, strict=True):
        change(report / experiment / "experiment.json", experiment=name)
    before = snapshot(home / "precious")
    assert run_cwkit(capsys, WRITE)[0] == 0
    text = (home / "R.md").read_text(encoding="utf-8")
    for experiment in ("writers", "think", "skew"):
        assert re.search(rf"{experiment}/experiment\.json: .* is no name", text), experiment
    assert "headline" in text  # the others are told
    assert snapshot(home / "precious") == before


@pytest.mark.parametrize(
    "name", ["campaign.json", "trials", "served", "isolation.json", "headline"]
)
def test_a_report_goes_on_through_no_link(
    home: Path, report: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    to = "campaign.json" if name == "campaign.json" else ""
    linked(name, f"../../precious/{to}")(report)
    before = snapshot(home / "precious")
    status, _, err = run_cwkit(capsys, [*WRITE, "--foreign-limit", "0.2"])
    assert status in (0, 2), err
    assert snapshot(home / "precious") == before


# --- a search's folder ------------------------------------------------------------------------


OF_A_SEARCH = ("capacity-1", "earlier", ".cwkit-templates", ".lock", "answer.json", "search.json")


@pytest.mark.parametrize("forged", OF_A_SEARCH)
def test_a_search_goes_on_through_no_link(
    home: Path, capsys: pytest.CaptureFixture[str], forged: str
) -> None:
    folder = home / "runs" / "search"
    # Where it may go on, its runs are few: no rate is slow enough for what it looks for.
    plan = make_plan(scenario="counter", database="null", writers=1, duration_s=0.1, warmup_s=0)
    begin_search(Search(plan, "p50 < 20us", repeats=1, step=2, foreign_limit=1), folder)
    if forged == "earlier":
        (folder / "capacity-1").mkdir()  # cut short, so that it is to be set aside
    to = "../../precious/run" if forged == "capacity-1" else "../../precious"
    to += "/letter" if forged.endswith((".json", ".lock")) else ""
    linked(forged, to)(folder)
    before = snapshot(home / "precious")
    status, _, err = run_cwkit(capsys, ["search", "--into", "runs/search", "--json"])
    assert snapshot(home / "precious") == before
    if forged in ("capacity-1", "earlier", ".lock"):
        assert status == 2 and "symbolic link" in err
    elif forged != "search.json":
        assert status in (0, 1) and not (folder / "answer.json").is_symlink(), err
    assert run_cwkit(capsys, ["list"])[0] == 0


FORGED_SEARCHES: dict[str, dict[str, Any]] = {
    "repeats": {"repeats": 10**9},
    "step": {"step": 1.0},
    "longest_s": {"longest_s": 1e300},
    "foreign_limit": {"foreign_limit": -1},
    "writers": {"plan": {"writers": 10**6}},
    "--slo": {"search": "p99 < \x1b[2J"},
    "cwkit": {"cwkit": "1"},
}


@pytest.mark.parametrize("key", list(FORGED_SEARCHES))
def test_a_number_of_a_search_is_checked_before_anything_runs(
    home: Path, capsys: pytest.CaptureFixture[str], key: str
) -> None:
    folder = home / "runs" / "search"
    begin_search(Search(make_plan(scenario="counter", database="null"), "p50 < 1s"), folder)
    change(folder / "search.json", **FORGED_SEARCHES[key])
    status, _, err = run_cwkit(capsys, ["search", "--into", "runs/search"])
    assert status == 2 and err.count("\n") == 1 and err.rstrip("\n").isprintable()
    assert {path.name for path in folder.iterdir()} == {"search.json"}


def test_a_report_that_no_disk_takes_names_the_file(home: Path, report: Path, cwkit: Any) -> None:
    done = cwkit("report", "--only-write", "--into", report, "--out", "/dev/full", cwd=home)
    assert done.returncode in (1, 2)
    assert "cwkit: /dev/full: cannot be written (No space left on device)." in done.stderr
