"""`cwkit sweep`: what it came to is told from the runs, and nothing finished is run again."""

import csv
import io
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from analysis.cli.entry import main
from analysis.cli.sweep_progress import SweepLive
from analysis.counting import SpareRule, cells_table, count, gather
from analysis.report import arms_table, control_sentence, doubt_lines, failure_lines
from analysis.report.published import cells_again
from analysis.report.sweep_summary import MOST_ROWS, rival
from analysis.synthetic import drawn_run, made_experiment, made_report_folder
from analysis.test_house import PAGES, blocks_of
from workloads.errors import PlanError
from workloads.experiments import (
    Beside,
    Cell,
    Design,
    begin,
    beside,
    choose_folder,
    read_experiment,
    read_sweep,
    shipped_sweep,
    sweep_names,
    sweep_path,
    write_cell,
)
from workloads.records import Conduct, NetworkEntry

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = sweep_names()

SYSTEMS = {
    "libsql immediate": {"database": "libsql", "begin": "immediate"},
    "branch concurrent": {"write_engine": "sqlite-concurrent", "begin": "concurrent"},
}
WRITERS = (1, 2)
SPEED = {"libsql immediate": 1000.0, "branch concurrent": 1500.0}
BASELINE = "libsql immediate, writers 1"


def made_sweep(folder: Path, *, twin: float = 1.0, blocks: int = 8, **marks: Any) -> Any:
    """A folder of a sweep with a planted truth: one writer more is as fast again."""
    points: dict[str, dict[str, Any]] = {
        f"{system}, writers {n}": {"system": system, "writers": n}
        for system in SYSTEMS
        for n in WRITERS
    }
    points[f"{BASELINE} again"] = points[BASELINE]
    arms: dict[str, dict[str, Any]] = {
        arm: {**SYSTEMS[point["system"]], "scenario": "register", "writers": point["writers"]}
        for arm, point in points.items()
    }

    def make(arm: str, block: int) -> Any:
        if (arm, block) in marks.get("bad", {}):
            return marks["bad"][arm, block]
        point = points[arm]
        noise = np.random.default_rng([block, len(arm)]).normal(1, 0.01)
        speed = SPEED[point["system"]] * point["writers"] * (twin if arm.endswith("again") else 1.0)
        made = drawn_run(
            [block, len(arm)],
            per_s=speed * noise,
            writers=point["writers"],
            engine=arms[arm].get("write_engine", "libsql"),
            begin=arms[arm]["begin"],
            abort=0.2 if "concurrent" in arm else 0.0,
            foreign={"cpu_share": 0.5 if (arm, block) == marks.get("dirty") else 0.0},
        )
        jobs = 2 if (arm, block) == marks.get("beside") else 1
        made.manifest.conduct = Conduct(way="sweep", jobs=jobs, cpus=(0,), oversubscribed=jobs > 1)
        return made

    made_experiment(folder, arms, make, name="made", blocks=blocks, baseline=BASELINE)
    note = json.loads((folder / "experiment.json").read_text())
    note |= {"axes": {"system": list(SYSTEMS), "writers": list(WRITERS)}, "points": points}
    (folder / "experiment.json").write_text(json.dumps(note))
    experiment = read_experiment(folder)
    return experiment, gather(experiment)


def test_round_trips_are_told_as_they_were_measured(tmp_path):
    _, measured = made_sweep(tmp_path)
    assert "Round trips" not in arms_table(measured).note
    cells = list(measured.cells.values())
    for cell, rtt_ms in zip(cells[:3], (2.2, 2.31, 2.4), strict=True):
        cell.manifest.plan = cell.manifest.plan.model_copy(update={"network": "rtt=2ms"})
        cell.manifest.network = NetworkEntry(asked_ms=2.0, rtt_ms=rtt_ms)
    said = "Round trips: rtt=2ms: asked 2 ms, measured 2.2 to 2.4 ms (TCP"
    assert said in arms_table(measured).note


def test_arms_are_sorted_best_first_and_held_against_their_rivals(tmp_path):
    _, measured = made_sweep(tmp_path)
    table = arms_table(measured)
    assert table.head == (
        "system",
        "writers",
        "tx/s",
        "between",
        "ratio",
        "between",
        "aborts",
        "first tries",
        "p99",
    )
    assert [row[:2] for row in table.rows[:3]] == [
        ("branch concurrent", "2"),
        ("libsql immediate", "2"),
        ("branch concurrent", "1"),
    ]
    assert sorted(row[0] for row in table.rows[3:]) == [
        "libsql immediate",
        "libsql immediate again",
    ]
    best = table.rows[0]
    assert float(best[4]) == pytest.approx(1.5, rel=0.02)
    low, high = (float(x) for x in re.findall(r"[\d.]+", best[5]))
    assert low <= 1.5 <= high and high - low < 0.1
    assert table.rows[1][4] == "—"  # the baseline's own way has no rival but itself
    arms = measured.arms
    assert rival(arms["branch concurrent, writers 2"]) is arms["libsql immediate, writers 2"]
    assert rival(arms[f"{BASELINE} again"]) is arms[BASELINE]
    assert "the same with libsql immediate" in table.note and best[6] == "20 %"


def test_the_control_tells_what_is_chance_and_what_is_not(tmp_path):
    _, same = made_sweep(tmp_path / "same")
    assert "no difference" in control_sentence(same)
    _, unlike = made_sweep(tmp_path / "unlike", twin=0.9)
    assert "a difference, where there can be none" in control_sentence(unlike)


def test_a_table_has_thirty_rows_at_most_with_the_best_and_the_worst(tmp_path):
    arms = {f"a{n:02d}": {"scenario": "register", "writers": 1} for n in range(40)}

    def make(arm, block):
        return drawn_run([block, len(arm)], per_s=500 + 20 * int(arm[1:]), writers=1, seconds=0.5)

    made_experiment(tmp_path, arms, make, blocks=1, baseline="a00")
    table = arms_table(gather(read_experiment(tmp_path)))
    names = [row[0] for row in table.rows]
    assert len(names) == MOST_ROWS
    assert names[0] == "a39" and names[-1] == "a00" and "… 11 more …" in names


def test_each_cell_is_a_row_with_its_numbers(tmp_path):
    bad = {("libsql immediate, writers 2", 1): "a worker died"}
    experiment, measured = made_sweep(
        tmp_path, bad=bad, dirty=(BASELINE, 0), beside=("branch concurrent, writers 2", 2)
    )
    states = {key: cell.state for key, cell in experiment.cells.items()}
    del states[3, BASELINE]  # as if it had not been run
    table = cells_table(measured, states)
    rows = {(int(row["block"]), row["arm"]): row for row in map_rows(table)}
    assert len(rows) == 40
    one = rows[2, "branch concurrent, writers 2"]
    tally = count(experiment.cells[2, "branch concurrent, writers 2"].read()).roles["writer"]
    assert float(one["committed_per_s"]) == pytest.approx(tally.per_s, rel=1e-5)
    low, rate, high = tally.abort_rate
    assert [float(one[f"abort_rate{x}"]) for x in ("_low", "", "_high")] == pytest.approx(
        [low, rate, high], rel=1e-5
    )
    assert float(one["p99_us"]) == pytest.approx(tally.latency()["whole"][2] / 1e3, rel=1e-5)
    assert (one["system"], one["writers"], one["jobs"]) == ("branch concurrent", "2", "2")
    assert one["oversubscribed"] == "true" and one["contaminated"] == ""
    assert "50 %" in rows[0, BASELINE]["contaminated"]
    lost = rows[1, "libsql immediate, writers 2"]
    assert (lost["state"], lost["words"], lost["run"]) == ("failed", "a worker died", "")
    assert lost["committed_per_s"] == "" and rows[3, BASELINE]["state"] == "not run"
    doubts = " ".join(doubt_lines(measured))
    assert "1 cell contaminated" in doubts and "1 cell shared CPUs" in doubts
    assert "different conditions" in doubts


def map_rows(table: Any) -> list[dict[str, str]]:
    return [dict(zip(table.head, row, strict=True)) for row in table.rows]


def test_failures_are_told_together_and_none_where_there_is_none(tmp_path):
    arm = "branch concurrent, writers 1"
    bad: dict[Any, str] = {(arm, n): f"refused: no such mode ({n} s)" for n in range(8)}
    bad["libsql immediate, writers 2", 3] = "it broke"
    experiment, measured = made_sweep(tmp_path / "bad", bad=bad)
    states = {key: cell.state for key, cell in experiment.cells.items()}
    assert failure_lines(measured, states) == [
        f"refused: 8 cells, first b00, {arm}: no such mode (0 s)",
        "failed: b03, libsql immediate, writers 2: it broke",
    ]
    experiment, measured = made_sweep(tmp_path / "well", blocks=1)
    states = {key: cell.state for key, cell in experiment.cells.items()}
    assert failure_lines(measured, states) == [] and doubt_lines(measured) == []


# --- the command ------------------------------------------------------------------------------

TINY = """\
question = "Does it run?"
name = "tiny"
blocks = 1
control = false
[plan]
scenario = "counter"
database = "null"
transactions = 200
duration_s = 30
[grid]
writers = [1, 2]
"""
BROKEN = TINY.replace('database = "null"\n', "").replace(
    "[grid]\nwriters = [1, 2]\n",
    'writers = 2\n[[system]]\nname = "sound"\ndatabase = "null"\n'
    '[[system]]\nname = "broken"\ndatabase = "faulty-lost-commit"\n',
)


@pytest.fixture
def cwkit(monkeypatch, capsys, tmp_path):
    """Runs a command as `cwkit` does: its status and what it printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")

    def command(*argv: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["cwkit", *argv])
        try:
            main()
            status = 0
        except SystemExit as left:
            status = int(left.code or 0)
        out, err = capsys.readouterr()
        return status, out + err

    return command


def sweep_file(folder: Path, text: str = TINY) -> str:
    (folder / "tiny.toml").write_text(text, encoding="utf-8")
    return str(folder / "tiny.toml")


def test_a_sweep_is_run_listed_and_shown_within_eighty_columns(cwkit, tmp_path):
    file = sweep_file(tmp_path)
    status, out = cwkit("sweep", file, "--dry-run")
    assert status == 0 and not (tmp_path / "runs").exists()
    assert "2 cells" in out and "which is an assumption" in out and "b00, in this" in out
    status, out = cwkit("sweep", file)
    assert status == 0, out
    assert "[2/2, 0 s left]" in out and "There is no A/A control" in out
    (folder,) = (tmp_path / "runs").iterdir()
    with (folder / "cells.csv").open(newline="") as opened:
        rows = list(csv.DictReader(opened))
    assert [row["state"] for row in rows] == ["done"] * 2
    assert all(float(row["committed_per_s"]) > 0 for row in rows)
    assert (
        read_experiment(folder)
        .cells[0, "writers 1"]
        .read()
        .manifest.command.startswith("cwkit sweep ")
    )
    assert (folder / "sweep.toml").read_text() == TINY
    status, listed = cwkit("list")
    assert "sweep tiny: 2 arms" in listed and "2 of 2 cells" in listed
    status, shown = cwkit("show", "tiny")
    assert status == 0 and "Does it run?" in shown
    table = shown.split("\n\n")[1]
    assert all(len(line) <= 80 for line in (listed + table).splitlines())
    # Finished: the next call begins another folder, and with --into it runs nothing.
    status, out = cwkit("sweep", file, "--into", str(folder))
    assert status == 0 and "[" not in out.split("\n\n")[0]
    status, out = cwkit("sweep", file, "--dry-run")
    assert "2 left" not in out and re.search(r"as [1-4] cells took before", out)


def test_a_failed_cell_is_kept_and_run_again_only_when_asked(cwkit, tmp_path):
    file = sweep_file(tmp_path, BROKEN)
    status, out = cwkit("sweep", file)
    assert status == 1
    assert "failed: b00, broken: " in out and "committed increments" in out
    (folder,) = (tmp_path / "runs").iterdir()
    sound = (folder / "b00-sound" / "manifest.json").read_text()  # with the run's id
    status, out = cwkit("sweep", file, "--retry-failed")
    assert status == 1 and len(list((tmp_path / "runs").iterdir())) == 1
    assert out.count("] b0") == 1 and "b00 of 1 block, broken: failed" in out
    assert (folder / "b00-sound" / "manifest.json").read_text() == sound
    kept = sorted(path.name for path in (folder / "earlier").iterdir())
    assert kept == ["b00-broken.1", "b00-broken.1.cell.json"]
    status, out = cwkit("sweep", file, "--again", "sound")
    assert out.count("] b0") == 1 and "b00 of 1 block, sound: " in out
    assert (folder / "b00-sound" / "manifest.json").read_text() != sound
    status, out = cwkit("sweep", file, "--again", "sond")
    assert status == 2 and "The nearest is 'sound'" in out


def test_a_contaminated_cell_is_run_again_when_asked_and_no_other(cwkit, tmp_path):
    file = sweep_file(tmp_path)
    assert cwkit("sweep", file)[0] == 0
    (folder,) = (tmp_path / "runs").iterdir()
    # Whatever the machine was doing: one cell had it for itself, one had not.
    for arm, share in (("writers-1", 0.4), ("writers-2", 0.0)):
        path = folder / f"b00-{arm}" / "manifest.json"
        manifest = json.loads(path.read_text())
        manifest["foreign"] |= {"cpu_share": share, "steal_share": 0.0}
        path.write_text(json.dumps(manifest))
    sound = (folder / "b00-writers-2.cell.json").read_text()
    status, out = cwkit("sweep", file, "--retry-contaminated")
    assert status == 0, out
    assert out.count("] b0") == 1 and "b00 of 1 block, writers 1: " in out
    assert (folder / "b00-writers-2.cell.json").read_text() == sound
    kept = sorted(path.name for path in (folder / "earlier").iterdir())
    assert kept == ["b00-writers-1.1", "b00-writers-1.1.cell.json"]


def test_a_cell_that_others_disturbed_is_run_again_at_once_where_that_is_asked_for(
    cwkit, tmp_path, monkeypatch
):
    """The first run of one cell had company, whatever the machine was doing."""
    file, judged = sweep_file(tmp_path), []

    def odd(self, cell):
        judged.append(cell.arm)
        first = cell.arm == "writers 1" and judged.count("writers 1") == 1
        return "other programs used 40 %" if first else ""

    monkeypatch.setattr(SpareRule, "__call__", odd)
    status, out = cwkit("sweep", file, "--spare", "1")
    assert status == 0, out
    assert out.count("b00, writers 1: run again at once: other programs used 40 %") == 1
    (folder,) = (tmp_path / "runs").iterdir()
    kept = {path.name for path in (folder / "earlier").iterdir()}
    assert kept == {"b00-writers-1.1", "b00-writers-1.1.cell.json"}
    assert cells_again(folder) == 0  # none of them later than the rest of its block
    (line,) = (line for line in out.splitlines() if "made again" in line)
    assert "1 run was made again at once (writers 1 1; the first b00, writers 1: other" in line


def test_spares_are_refused_in_greater_numbers_and_on_a_cluster(cwkit, tmp_path):
    file = sweep_file(tmp_path)
    assert cwkit("sweep", file, "--spare", "3")[0] == 2
    status, out = cwkit("sweep", file, "--spare", "1", "--dask", "tcp://127.0.0.1:1")
    assert status == 2 and "--spare: the cells of a cluster are not run again at once" in out
    assert not (tmp_path / "runs").exists()


def test_an_interrupted_sweep_says_how_to_go_on_and_goes_on(cwkit, tmp_path, monkeypatch):
    file, on_cell = sweep_file(tmp_path), SweepLive.on_cell

    def interrupted(self, experiment, block, arm, state):
        if state == "running" and len(experiment.cells) == 1:
            raise KeyboardInterrupt
        on_cell(self, experiment, block, arm, state)

    with monkeypatch.context() as patched:
        patched.setattr(SweepLive, "on_cell", interrupted)
        status, out = cwkit("sweep", file, "--seed", "5")
    assert status == 130
    *_, kept, command = out.strip().splitlines()
    assert kept == "interrupted: 1 of 2 cells are kept; go on with"
    (folder,) = (tmp_path / "runs").iterdir()
    assert command == f"cwkit sweep {file} --into runs/{folder.name} --seed 5"
    status, out = cwkit("sweep", file, "--seed", "5", "--dry-run")
    assert "1 cell done" in out and "1 left" in out
    status, out = cwkit("sweep", file, "--seed", "5")
    assert status == 0 and f"goes on in runs/{folder.name}: 1 of 2 cells are done" in out
    assert out.count("] b0") == 1


REFUSED = {
    "too many cells at a time": (["--jobs", "99"], "--oversubscribe"),
    "no cell at a time": (["--jobs", "0"], "at least one"),
    "a folder and a new one": (["--into", "x", "--new"], "the one names a folder"),
    "nothing to run again": (["--retry-failed"], "nothing to run again"),
    "no blocks": (["--blocks", "0"], "--blocks 0"),
    "a place for what is not published": (["--published", "x"], "Give both"),
    "a dry run to publish": (["--publish", "--dry-run"], "nothing to publish"),
    "a file for a folder": (["--publish", "--published", "tiny.toml"], "is no folder"),
}


@pytest.mark.parametrize("case", list(REFUSED))
def test_what_cannot_be_run_is_one_sentence_and_nothing_is_written(cwkit, tmp_path, case):
    argv, sentence = REFUSED[case]
    status, out = cwkit("sweep", sweep_file(tmp_path), *argv)
    assert status == 2 and sentence in out and out.count("\n") == 1, out
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.toml"]


def test_a_finished_sweep_is_published_and_told_by_the_next_report(cwkit, tmp_path):
    file = sweep_file(tmp_path)
    assert cwkit("sweep", file)[0] == 0
    (folder,) = (tmp_path / "runs").iterdir()
    for path in folder.glob("*/manifest.json"):  # whatever the machine was doing
        manifest = json.loads(path.read_text())
        manifest["foreign"] |= {"cpu_share": 0.0, "steal_share": 0.0}
        path.write_text(json.dumps(manifest))
    status, out = cwkit("sweep", file, "--into", str(folder), "--publish")
    assert status == 0 and "] b0" not in out
    assert "published: analysis/published/sweeps/tiny.json" in out
    assert str(tmp_path) not in (tmp_path / "analysis/published/sweeps/tiny.json").read_text()
    made_report_folder(tmp_path / "report")
    told = ("report", "--only-write", "--into", "report", "--out", "R.md", "--figures", "f")
    assert cwkit(*told)[0] == 0
    assert "## Sweep `tiny`" in (tmp_path / "f" / "sweeps.md").read_text()
    status, out = cwkit(*told, "--published", "nowhere")
    assert status == 2 and "there is no such folder" in out


def test_another_sweep_in_the_folder_is_refused(cwkit, tmp_path):
    begin(Design("tiny", "?", {"a": {}}), tmp_path / "other")
    status, out = cwkit("sweep", sweep_file(tmp_path), "--into", str(tmp_path / "other"))
    assert status == 2 and "holds another experiment" in out
    dry = cwkit(
        "sweep", str(tmp_path / "tiny.toml"), "--into", str(tmp_path / "other"), "--dry-run"
    )
    assert dry == (status, out)
    status, out = cwkit("sweep", str(tmp_path / "none.toml"))
    assert status == 2 and "cwkit list --sweeps" in out


def test_a_folder_of_the_users_is_refused_before_anything_is_written(cwkit, tmp_path):
    (tmp_path / "mine" / "templates").mkdir(parents=True)
    (tmp_path / "mine" / "templates" / "index.html").write_text("of a web application")
    argv = ("sweep", sweep_file(tmp_path), "--into", str(tmp_path / "mine"))
    status, out = cwkit(*argv)
    assert status == 2 and "is not empty" in out and out.count("\n") == 1
    assert cwkit(*argv, "--dry-run") == (status, out)
    assert [path.name for path in (tmp_path / "mine").rglob("*")] == ["templates", "index.html"]


# --- shipped ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_sweep_is_valid_and_its_dry_run_prints(cwkit, name, monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)  # an engine of examples/ is named from here
    shipped = shipped_sweep(name)
    sweep = read_sweep(shipped.path)
    assert sweep.design.name == name and sweep.design.question == shipped.question
    assert sweep.design.blocks >= 5 or name == "acked"  # which looks for losses
    assert sweep.control or name == "acked"
    status, out = cwkit("sweep", name, "--dry-run", "--runs", str(tmp_path))
    assert status == 0, out
    assert sweep.design.question in out and f"{len(sweep.design.arms)} arms" in out
    # As the 438 cells of `landscape` took on two cores beside their runs.
    guess = Beside(0.75, 0.17, 1)
    plans = [dict(values) for values in sweep.design.arms.values()]
    # An arm that counts its transactions ends with the last of them, before its time is over.
    soon = [{**plan, "duration_s": 0.05} if plan.get("transactions") else plan for plan in plans]
    least, most = (
        sum(map(guess.seconds, each)) * sweep.design.blocks / 60 for each in (soon, plans)
    )
    assert least * 0.8 - 0.6 <= shipped.minutes <= most * 1.2 + 0.6


def test_the_shipped_sweeps_ask_what_they_must():
    assert len(SHIPPED) >= 13
    landscape = read_sweep(sweep_path("landscape"))
    assert len(landscape.design.arms) >= 60 and landscape.design.blocks >= 5
    assert len(read_sweep(sweep_path("writers")).design.axes["writers"]) >= 6


def test_a_shipped_sweep_is_called_by_its_name(cwkit, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out = cwkit("sweep", "landscap", "--dry-run")
    assert status == 2 and "Did you mean 'landscape'?" in out and out.count("\n") == 1
    # A file is meant by .toml or by a slash; a bare name is the kit's in every folder.
    (tmp_path / "landscape").write_text(Path(sweep_file(tmp_path)).read_text())
    status, out = cwkit("sweep", "landscape", "--dry-run")
    assert status == 0 and shipped_sweep("landscape").question in out
    status, out = cwkit("sweep", "./landscape", "--dry-run")
    assert status == 0 and shipped_sweep("landscape").question not in out
    status, out = cwkit("sweep", "tiny", "--dry-run")
    assert status == 2 and ".toml or has a slash" in out


def test_where_the_shipped_sweeps_were_they_are_still_found(cwkit, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cwkit("sweep", "experiments/skew.toml", "--dry-run")[0] == 0
    status, out = cwkit("sweep", "experiments/none.toml", "--dry-run")
    assert status == 2 and "cannot be read" in out


def test_the_shipped_sweeps_are_listed_with_their_questions_and_minutes(cwkit):
    status, out = cwkit("list", "--sweeps")
    lines = out.splitlines()
    assert status == 0
    for name in SHIPPED:
        sweep = shipped_sweep(name)
        assert any(line.split()[:2] == [name, str(sweep.minutes)] for line in lines)
        assert " ".join(sweep.question.split()[:4]) in out


def test_the_sweep_of_the_page_is_one(tmp_path):
    (text,) = blocks_of("docs/sweeps.md", "toml")
    sweep = read_sweep(Path(sweep_file(tmp_path, text)))
    assert len(sweep.design.arms) == 10 and len(sweep.skipped) == 3
    line = text.splitlines().index("think_us = [0, 200, 1000]") + 1
    with pytest.raises(PlanError) as caught:
        read_sweep(Path(sweep_file(tmp_path, text.replace("think_us =", "thinkus ="))))
    sentence = f"line {line}: there is no axis 'thinkus' here. Did you mean 'think_us'?"
    assert str(caught.value).endswith(sentence)
    assert sentence in PAGES["docs/sweeps.md"]


# --- time -------------------------------------------------------------------------------------


def test_what_a_cell_takes_beside_its_run_is_measured_with_its_part_a_worker(tmp_path):
    arms = {f"w{n}": {"database": "null", "writers": n, "duration_s": 2.0, "warmup_s": 0.5}
            for n in (1, 2, 4, 8)}  # fmt: skip
    design = Design("t", "?", arms, blocks=3)
    assert beside([tmp_path / "e"]).cells == 0
    begin(design, tmp_path / "e")
    assert beside([tmp_path / "e"]) == Beside(1.0, 0.0, 0)
    for block in range(3):
        for arm, values in arms.items():
            took = 2.5 + 0.7 + 0.1 * int(str(values["writers"]))
            write_cell(tmp_path / "e", Cell(block, arm, "done", "", None, took))
    found = beside([tmp_path / "none", tmp_path / "e"])
    assert found.cells == 12
    assert [found.fixed_s, found.each_s] == pytest.approx([0.7, 0.1])
    assert found.seconds(arms["w4"]) == pytest.approx(2.5 + 1.1)


def test_an_experiment_whose_files_are_gone_tells_no_time_and_is_in_nobodys_way(cwkit, tmp_path):
    arms: dict[str, dict[str, Any]] = {
        "scenario gone": {"database": "null", "scenario": f"{tmp_path}/gone.py:Mine"},
        "no such engine": {"database": "of-a-later-cwkit"},
        "no plan": {"database": "null", "writers": -1},
    }
    other = tmp_path / "runs" / "20260101-000000-other"
    begin(Design("other", "?", arms, blocks=1), other)
    for arm in arms:
        write_cell(other, Cell(0, arm, "done", "", None, 3.0))
    assert beside([other]) == Beside(1.0, 0.0, 0)
    argv = ("sweep", sweep_file(tmp_path), "--dry-run", "--runs", str(tmp_path / "runs"))
    status, out = cwkit(*argv)
    assert status == 0 and "which is an assumption" in out, out


def test_the_screen_says_what_is_done_what_runs_and_who_is_best(tmp_path):
    experiment, _ = made_sweep(tmp_path, blocks=2)
    screen = Console(file=io.StringIO(), force_terminal=True)
    live = SweepLive(screen, experiment, Beside(1.0, 0.0, 0), jobs=1)
    live.running[1, BASELINE] = None
    del experiment.cells[1, BASELINE]
    lines = live.lines()
    assert lines[0].startswith("made: 9 of 10 cells done, 1 running, ")
    assert lines[1] == f"  b01, {BASELINE}: starting"
    assert lines[2].startswith("  best so far: branch concurrent, writers 2, ")
    assert lines[3].startswith("  worst so far: libsql immediate, writers 1")
    assert live.left_s() == pytest.approx(1.0 + 11.0)  # a second beside warm-up and duration


def test_the_newest_unfinished_folder_of_the_same_settings_is_gone_on_with(tmp_path):
    sweep = read_sweep(Path(sweep_file(tmp_path)))
    runs = tmp_path / "runs"
    assert not choose_folder(sweep, runs).exists()
    for name in ("20260101-000000-a", "20260102-000000-b"):
        begin(sweep.design, runs / name)
    begin(read_sweep(sweep.path, seed=9).design, runs / "20260103-000000-c")
    (runs / "20260104-cut").mkdir()
    (runs / "20260104-cut" / "experiment.json").write_text("{")
    assert choose_folder(sweep, runs).name == "20260102-000000-b"
    for block, arm in read_experiment(runs / "20260102-000000-b").left():
        write_cell(runs / "20260102-000000-b", Cell(block, arm, "done", "", None))
    assert choose_folder(sweep, runs).name == "20260101-000000-a"
    assert choose_folder(sweep, runs, finished=True).name == "20260102-000000-b"
    assert not choose_folder(sweep, runs, new=True).exists()
