"""Numbers of runs that others disturbed are shown, with a mark and the reason; none decides."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from analysis.cli.test_streams import Command
from analysis.cli.test_streams import cwkit as cwkit
from analysis.counting import Measured, gather
from analysis.report import arms_table, control_sentence
from analysis.report.evidence import read_evidence
from analysis.report.tables import rates_table
from analysis.synthetic import drawn_run, edit, made_experiment, write_folder
from workloads.experiments import read_experiment
from workloads.records import Run

BASE = {"scenario": "register", "writers": 2}
ARMS = {"base": BASE, "base again": BASE, "slower": BASE | {"begin": "deferred"}}
SPEED = {"base": 2000.0, "base again": 2000.0, "slower": 1000.0}
WHY = "other programs used 40 % of the machine's CPU time"


def run_of(arm: str, block: int, disturbed: tuple[str, ...]) -> Run:
    begin = str(ARMS[arm].get("begin", "immediate"))
    made = drawn_run([block, 1], per_s=SPEED[arm], seconds=0.6, writers=2, begin=begin)
    if arm in disturbed:
        edit(made.manifest, foreign={"cpu_share": 0.4})
    return made


def folder_of(place: Path, *disturbed: str) -> Path:
    return made_experiment(
        place, ARMS, lambda arm, block: run_of(arm, block, disturbed), blocks=6, baseline="base"
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep whose arm `slower` was disturbed in each block, a disturbed run and a quiet one."""
    folder = tmp_path_factory.mktemp("doubtful") / "runs"
    folder_of(folder / "sweep", "slower")
    for name, share in (("noisy", 0.4), ("quiet", 0.0)):
        made = drawn_run(5, per_s=2000, seconds=0.6, writers=2, foreign={"cpu_share": share})
        write_folder(made, folder / name)
    return folder


def row_of(measured: Measured, arm: str) -> tuple[str, ...]:
    return next(row for row in arms_table(measured).rows if row[0] == arm)


def test_a_disturbed_run_is_shown_with_the_reason_before_its_marked_number(
    cwkit: Command, runs: Path
) -> None:
    _, out, _ = cwkit("show", runs / "noisy")
    assert "other programs used 40 % of the machine's CPU time" in out
    assert out.index("other programs used 40 %") < out.index("tx/s committed ‡")
    assert out.count("other programs used 40 %") == 1
    for argv in (("quiet",), ("noisy", "--foreign-limit", 0.5)):
        _, out, _ = cwkit("show", runs / argv[0], *argv[1:])
        assert "tx/s committed" in out and "‡" not in out and "oubtful" not in out


def test_its_document_has_the_number_and_the_reason(cwkit: Command, runs: Path) -> None:
    _, text, _ = cwkit("show", runs / "noisy", "--json")
    found = json.loads(text)
    assert found["doubtful"] == WHY and found["roles"][0]["throughput_per_s"]["value"] > 0
    _, text, _ = cwkit("show", runs / "noisy", "--json", "--foreign-limit", 0.4)
    assert json.loads(text)["doubtful"] is None


def test_the_list_says_which_runs_are_doubtful(cwkit: Command, runs: Path) -> None:
    _, text, _ = cwkit("list", "--runs", runs, "--json")
    assert {one["name"]: one["doubtful"] for one in json.loads(text)["runs"]} == {
        "sweep": None, "noisy": WHY, "quiet": None,
    }  # fmt: skip
    _, text, _ = cwkit("list", "--runs", runs, "--foreign-limit", 0.5)
    assert "doubtful" not in text


def test_a_disturbed_arm_has_marked_numbers_behind_the_others(cwkit: Command, runs: Path) -> None:
    measured = gather(read_experiment(runs / "sweep"))
    assert [row[0] for row in arms_table(measured).rows][-1] == "slower"
    row = row_of(measured, "slower")
    assert row[1].endswith(" ‡") and row[3].endswith(" ‡") and row[3].startswith("0.5")
    assert "‡" not in "".join(row_of(measured, "base again"))
    _, out, _ = cwkit("show", runs / "sweep")
    assert f"‡ doubtful, and no evidence of anything: no cell of slower ({WHY})" in " ".join(
        out.split()
    )
    assert "‡" not in "".join(row_of(gather(read_experiment(runs / "sweep"), 0.5), "slower"))


def test_a_ratio_to_a_disturbed_baseline_is_marked_and_the_control_has_none(tmp_path: Path) -> None:
    measured = gather(read_experiment(folder_of(tmp_path / "x", "base")))
    row = row_of(measured, "slower")
    assert "‡" not in row[1] and row[3].endswith(" ‡")
    assert control_sentence(measured).endswith("has no block that can be used.")
    assert not measured.arms["base"].usable and not measured.arms["base"].estimate().blocks


def test_an_experiments_document_has_an_arms_numbers_and_why_they_are_doubtful(
    cwkit: Command, runs: Path
) -> None:
    arms = {
        one["arm"]: one for one in json.loads(cwkit("show", runs / "sweep", "--json")[1])["arms"]
    }
    assert arms["slower"]["doubtful"] == WHY and arms["base"]["doubtful"] is None
    assert arms["slower"]["throughput_per_s"]["value"] > 0
    assert len(arms["slower"]["dropped"]) == 6


def test_a_comparison_shows_a_doubtful_ratio_and_no_gate_believes_it(
    cwkit: Command, runs: Path
) -> None:
    asked = (
        "compare",
        "--sweep",
        runs / "sweep",
        "base",
        "slower",
        "--fail-if",
        "throughput < 0.9",
    )
    status, out, _ = cwkit(*asked)
    assert status == 3 and "Cannot be decided" in out
    assert f"‡ doubtful, and no evidence (slower: {WHY}): slower commits 0.5" in out
    status, text, _ = cwkit(*asked, "--json")
    (one,) = json.loads(text)["comparisons"]
    assert (status, one["verdict"], one["blocks"]) == (3, "cannot be decided", 0)
    assert one["doubtful"]["blocks"] == 6 and 0.4 < one["doubtful"]["ratio"] < 0.6
    status, out, _ = cwkit(*asked, "--foreign-limit", 0.5)
    assert status == 1 and "‡" not in out


def test_an_export_of_cells_names_the_disturbed_ones_by_the_limit(
    cwkit: Command, runs: Path, tmp_path: Path
) -> None:
    out = tmp_path / "cells.csv"
    asked = ("export", runs / "sweep", "--format", "csv", "--out", out)
    cwkit(*asked)
    assert out.read_text(encoding="utf-8").count(WHY) == 6
    cwkit(*asked, "--foreign-limit", 0.5)
    assert WHY not in out.read_text(encoding="utf-8")
    status, _, err = cwkit("export", runs / "noisy", "--foreign-limit", 0.5)
    assert status == 2 and "only an export of a sweep's cells" in err


@pytest.mark.parametrize(
    "argv",
    [("show", "x"), ("list",), ("compare", "a", "b"), ("scaling", "x"), ("conflicts", "x"),
     ("sweep", "x.toml"), ("export", "x"), ("report",), ("claims",), ("run",),
     ("search", "--slo", "p99 < 1s")],
    ids=lambda argv: argv[0],
)  # fmt: skip
def test_a_limit_that_is_no_share_is_one_sentence(cwkit: Command, argv: tuple[str, ...]) -> None:
    status, out, err = cwkit(*argv, "--foreign-limit", 5)
    assert (status, out) == (2, "")
    assert err == "cwkit: --foreign-limit 5: a share from 0 to 1, such as 0.2.\n"


def test_the_reports_table_has_a_disturbed_arms_numbers_marked(runs: Path) -> None:
    evidence = read_evidence(runs)
    measured = gather(read_experiment(runs / "sweep"))
    rows = {row[0]: row for row in rates_table(evidence, measured).rows}
    assert rows["slower"][2].endswith(" ‡")
    assert rows["slower"][-1] == f"0 of 6 (‡ doubtful, and no evidence: {WHY})"
    assert "‡" not in "".join(rows["base"])
