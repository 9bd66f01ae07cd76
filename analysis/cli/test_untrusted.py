"""A folder that somebody sent runs nothing: a file that it names is loaded by no command.

Each folder names `evil.py` wherever a run names a scenario or an engine. The file leaves a mark
when it is loaded. A command tells what it can without it, and what is missing; it is loaded where
the command line names it, and the mark is there: so the mark would be seen.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analysis.cli.test_forged import SWEEP, run_cwkit
from analysis.search import Search
from analysis.search import begin as begin_search
from analysis.synthetic import (
    drawn_run,
    edit,
    made_experiment,
    made_report_folder,
    optimistic_run,
    write_folder,
)
from workloads.engines import registry, trust
from workloads.errors import NotTrusted
from workloads.experiments import read_experiment
from workloads.experiments.cell import run_cell
from workloads.records import Run, read_run
from workloads.runs import make_plan

EVIL = """
from pathlib import Path

Path(__file__).with_name("mark").touch()

from workloads.engines.sqlite_concurrent import SqliteConcurrent
from workloads.scenarios.register import Register


class X(Register):
    pass


class E(SqliteConcurrent):
    pass
"""
Cwkit = Callable[..., tuple[int, str, str]]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with runs/ and evil.py, which nobody has named."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(registry.HANDED_ON, raising=False)
    (tmp_path / "evil.py").write_text(EVIL, encoding="utf-8")
    (tmp_path / "tiny.toml").write_text(SWEEP, encoding="utf-8")
    return tmp_path


def forged(run: Run, what: str, older: bool) -> Run:
    """The run names the file as its scenario or as an engine. older : made by a cwkit that did not
    keep what a reader needs of them.
    """
    if what == "scenario":
        edit(run.manifest, plan={"scenario": "evil.py:X"}, scenario={"name": "evil.py:X"})
        if not older:
            edit(run.manifest, scenario={"kinds": ["read", "update"]})
        return run
    for worker in run.workers:
        worker.entry.engine = "evil.py:E"
    names = dict.fromkeys(("database", "write_engine", "read_engine"), "evil.py:E")
    identity = {"binding": "b", "version": "3.51.0"} | ({} if older else {"unit": "page"})
    edit(run.manifest, plan=names, engines={"evil.py:E": identity})
    return run


def runs(folder: Path, what: str, older: bool) -> None:
    for number, name in enumerate(("a", "b")):
        made = optimistic_run(seconds=0.3, seed=number)
        made.manifest.run = name
        write_folder(forged(made, what, older), folder / "runs" / name)
    arms: dict[str, dict[str, Any]] = {
        f"w{n}": {"database": "sqlite-concurrent", "begin": "concurrent", "writers": n}
        for n in (1, 2, 4)
    }
    key = "scenario" if what == "scenario" else "database"
    arms = {arm: values | {key: "evil.py:X"} for arm, values in arms.items()}
    made_experiment(
        folder / "runs" / "e",
        arms,
        lambda arm, block: forged(drawn_run(block, writers=arms[arm]["writers"]), what, older),
        blocks=2,
        baseline="w1",
    )


READING: dict[str, tuple[str, ...]] = {
    "list": ("list",),
    "show a run": ("show", "a"),
    "show a sweep": ("show", "e"),
    "export": ("export", "a", "--format", "csv", "--out", "a.csv"),
    "export a sweep": ("export", "e", "--format", "csv", "--out", "e.csv"),
    "conflicts": ("conflicts", "a"),
    "conflicts of a sweep": ("conflicts", "e"),
    "compare": ("compare", "a", "b", "--vary", "seed"),
    "compare a sweep": ("compare", "e"),
    "scaling": ("scaling", "e"),
    "check": ("check", "a"),
}


@pytest.mark.parametrize("older", [False, True], ids=["newer", "older"])
@pytest.mark.parametrize("what", ["scenario", "engine"])
@pytest.mark.parametrize("command", list(READING))
def test_no_reading_command_loads_a_file_that_only_a_folder_names(
    home: Path, cwkit: Cwkit, command: str, what: str, older: bool
) -> None:
    runs(home, what, older)
    status, out, err = cwkit(*READING[command])
    assert not (home / "mark").exists()
    assert status in (0, 1, 2, 3) and (out or err), (status, out, err)
    assert "Traceback" not in err
    assert status != 2 or (out + err).count("\n") == 1, out + err
    text = " ".join((out + err).split())
    if command in ("show a run", "conflicts") and what == "scenario":
        assert "a file, and none is loaded only because" in text, text
        assert "cwkit conflicts a --load evil.py" in text
    if command == "export" and what == "scenario":
        assert status == 0 and ("update" in (home / "a.csv").read_text()) is not older


def test_conflicts_loads_the_file_where_the_command_line_names_it(home: Path, cwkit: Cwkit) -> None:
    runs(home, "scenario", older=False)
    status, out, err = cwkit("conflicts", "a", "--load", "evil.py")
    assert status == 0 and (home / "mark").exists(), err
    assert "had a row in common" in out and "Σ r·w" in out


@pytest.mark.parametrize("name", ["a", "e"])
def test_a_file_that_nothing_names_is_not_loaded_and_said(
    home: Path, cwkit: Cwkit, name: str
) -> None:
    runs(home, "scenario", older=False)
    shutil.copy(home / "evil.py", home / "other.py")
    status, out, err = cwkit("conflicts", name, "--load", "other.py")
    assert status == 2 and not (home / "mark").exists() and not out
    assert "--load other.py: nothing names this file. The files named: " in err
    assert f"{home}/evil.py" in err and err.count("\n") == 1


def test_a_loaded_file_may_be_a_link_in_a_circle(home: Path, cwkit: Cwkit) -> None:
    runs(home, "scenario", older=False)
    (home / "loop").symlink_to("loop")
    status, out, err = cwkit("conflicts", "a", "--load", "loop")
    assert status == 2 and not out and "--load loop: nothing names this file." in err


def test_a_report_is_written_again_without_the_file(home: Path, cwkit: Cwkit) -> None:
    made_report_folder(home / "report", only=("headline", "acked"))
    for path in (home / "report").glob("*/*/manifest.json"):
        run = read_run(path.parent)
        write_folder(forged(run, "scenario", older=True), path.parent)
    suite = json.loads((home / "report" / "campaign.json").read_text())
    suite["probes"][0]["engine"] = "evil.py:E"
    (home / "report" / "campaign.json").write_text(json.dumps(suite))
    status, _, err = cwkit(
        "report", "--only-write", "--into", "report", "--out", "R.md", "--figures", "f"
    )
    assert status == 0 and (home / "R.md").exists(), err
    assert not (home / "mark").exists()


@pytest.mark.parametrize("field", ["scenario", "database", "write_engine"])
def test_a_search_goes_on_only_where_the_command_line_names_the_file(
    home: Path, cwkit: Cwkit, field: str
) -> None:
    plan = make_plan(database="null", scenario="register", duration_s=0.2, warmup_s=0, writers=1)
    name = "evil.py:X" if field == "scenario" else "evil.py:E"
    search = Search(plan.model_copy(update={field: name}), "p50 < 20ms", repeats=1, longest_s=1)
    begin_search(search, home / "search")
    status, out, err = cwkit("search", "--into", "search")
    assert status == 2 and not (home / "mark").exists(), (status, out, err)
    assert "'evil.py:" in err and "--load FILE.py" in err and err.count("\n") == 1
    status, _, err = cwkit("search", "--into", "search", "--load", "other.py")
    assert status == 2 and "nothing names this file" in err
    status, _, err = cwkit("search", "--into", "search", "--load", "evil.py")
    assert (home / "mark").exists(), err


def test_a_cell_is_not_run_by_a_file_that_only_its_folder_names(home: Path, cwkit: Cwkit) -> None:
    assert cwkit("sweep", "tiny.toml", "--into", "s")[0] == 0
    shutil.rmtree(home / "s" / "b00-writers-1")
    (home / "s" / "b00-writers-1.cell.json").unlink()
    path = home / "s" / "experiment.json"
    note = json.loads(path.read_text())
    note["arms"]["writers 1"]["scenario"] = "evil.py:X"
    path.write_text(json.dumps(note))
    status, _, err = cwkit("sweep", "tiny.toml", "--into", "s")
    assert status == 2 and "Traceback" not in err
    # As `pytest --sweep` and the process of a cell do it, which take the arms from the folder.
    assert read_experiment(home / "s").design.arms["writers 1"]["scenario"] == "evil.py:X"
    with pytest.raises(NotTrusted, match="only where the command line names it"):
        run_cell(home / "s", 0, "writers 1")
    assert not (home / "mark").exists()
    trust("evil.py")
    assert run_cell(home / "s", 0, "writers 1").state == "done" and (home / "mark").exists()


def test_a_sweep_file_on_the_command_line_names_its_files(home: Path, cwkit: Cwkit) -> None:
    text = SWEEP.replace('scenario = "counter"', 'scenario = "evil.py:X"')
    (home / "mine.toml").write_text(text, encoding="utf-8")
    status, _, err = cwkit("sweep", "mine.toml", "--into", "s", "--jobs", "1")
    assert status == 0 and (home / "mark").exists(), err


@pytest.fixture
def cwkit(capsys: pytest.CaptureFixture[str]) -> Cwkit:
    return lambda *words: run_cwkit(capsys, list(words))
