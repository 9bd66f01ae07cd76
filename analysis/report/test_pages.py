"""REPORT.md is short, and its pages have the rest: linked both ways, none of an older one."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from analysis.report.evidence import read_evidence
from analysis.report.method import SIMULATIONS, effort, effort_sentence, limits, simulations
from analysis.report.pages import MARK, PAGES
from analysis.report.report import MOST_DOUBTS, MOST_LINES, write_report
from analysis.report.test_isolation import BROKEN, KNOWN, row
from analysis.report.test_replica import made as made_served
from analysis.synthetic import Planted, drawn_run, made_experiment, made_report_folder
from analysis.synthetic.systems import made_hops, made_systems
from workloads.errors import RunError

LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)]+)\)")
NAMES = [page.name for page in PAGES]


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of everything, which has as many doubts as a bad day brings."""
    folder = tmp_path_factory.mktemp("full")
    runs = made_report_folder(folder / "runs")
    made_served(runs)
    matrix = {"matrix": [row(), BROKEN], "known": KNOWN}
    (runs / "isolation.json").write_text(json.dumps(matrix), encoding="utf-8")
    for n in range(40):
        (runs / f"cut{n}").mkdir()
        (runs / f"cut{n}" / "experiment.json").write_text("{", encoding="utf-8")
    suite = json.loads((runs / "campaign.json").read_text(encoding="utf-8"))
    suite["command"] = "\n".join(["cwkit report"] * 500)
    (runs / "campaign.json").write_text(json.dumps(suite), encoding="utf-8")
    grid: dict[str, dict[str, Any]] = {
        "a": {"scenario": "register", "writers": 1},
        "b": {"scenario": "register"},
    }
    made_experiment(
        runs / "grid", grid, lambda arm, block: drawn_run([block, len(arm)]), name="grid",
        baseline="a",
    )  # fmt: skip
    path = runs / "grid" / "experiment.json"
    points = {"axes": {"way": ["a", "b"]}, "points": {arm: {"way": arm} for arm in grid}}
    path.write_text(json.dumps(json.loads(path.read_text()) | points), encoding="utf-8")
    made_hops(runs / "hops")
    made_systems(runs / "systems")
    write_report(runs, folder / "REPORT.md", folder / "sub" / "published")
    return folder


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def test_a_full_report_is_at_most_350_lines(full: Path) -> None:
    assert MOST_LINES == 350
    assert len(read(full / "REPORT.md").splitlines()) <= MOST_LINES


def test_the_doubts_that_do_not_fit_are_counted_and_stand_in_the_method(full: Path) -> None:
    text = read(full / "REPORT.md")
    shown = [line for line in text.splitlines() if line.startswith("> - ")]
    assert len(shown) == MOST_DOUBTS + 1
    assert "more doubts stand in [method.md](sub/published/method.md)" in shown[-1]
    assert sum(f"cut{n}/" in read(full / "sub/published/method.md") for n in range(40)) == 40


@pytest.mark.parametrize("name", NAMES)
def test_each_page_is_linked_both_ways_and_answers_on_top_in_one_sentence(
    full: Path, name: str
) -> None:
    page = full / "sub" / "published" / f"{name}.md"
    assert f"](sub/published/{name}.md)" in read(full / "REPORT.md")
    lines = read(page).splitlines()
    assert lines[0] == MARK and lines[2].startswith("# ")
    assert lines[4].startswith("**In short:** ") and lines[4].endswith(".")
    assert "not measured" not in lines[4].lower()
    assert "](../../REPORT.md)" in read(page)


def test_every_link_of_every_page_leads_to_a_file(full: Path) -> None:
    pages = [full / "REPORT.md", *(full / "sub" / "published").glob("*.md")]
    links = [(page, link) for page in pages for link in LINK.findall(read(page))]
    assert len(links) > 2 * len(PAGES)
    assert [(page.name, link) for page, link in links if not (page.parent / link).is_file()] == []


def test_pages_of_an_older_report_are_overwritten_or_removed_and_no_file_of_the_user(
    made_report: Path, tmp_path: Path
) -> None:
    figures = tmp_path / "published"
    figures.mkdir()
    (figures / "numbers.md").write_text(f"{MARK}\n\n# Old numbers\n")
    (figures / "gone.md").write_text(f"{MARK}\n\n# A page that reports had once\n")
    (figures / "mine.md").write_text("# Mine\n")
    (figures / "folder.md").mkdir()
    write_report(made_report, tmp_path / "R.md", figures)
    there = {path.name for path in figures.glob("*.md")}
    assert there == {*(page.file for page in PAGES), "mine.md", "folder.md"}
    assert "Old numbers" not in read(figures / "numbers.md")


def test_a_report_that_would_be_one_of_its_pages_is_refused(
    made_report: Path, tmp_path: Path
) -> None:
    with pytest.raises(RunError, match="a page of the report"):
        write_report(made_report, tmp_path / "p" / "method.md", tmp_path / "p")
    assert not (tmp_path / "p").exists()


def test_every_number_of_an_answer_names_its_run(full: Path) -> None:
    answers = {n: read(full / f"sub/published/{n}.md").splitlines()[4] for n in NAMES}
    for name in ("isolation", "numbers", "sweeps", "server"):
        assert "`" in answers[name], answers[name]
    assert "`grid` claims" in answers["sweeps"]
    assert "broke what is promised" in answers["isolation"]
    assert "one machine" in answers["method"]
    assert "`libsql` refused BEGIN CONCURRENT" in answers["machine"]


def test_pages_say_that_nothing_was_measured_where_nothing_was(tmp_path: Path) -> None:
    arms = {"x": {"scenario": "counter", "database": "libsql", "writers": 1}}
    made_experiment(tmp_path / "runs" / "odd", arms, lambda arm, block: "failed: no", name="odd")
    write_report(tmp_path / "runs", tmp_path / "R.md", tmp_path / "p")
    for name, words in {
        "isolation": "Not measured",
        "numbers": "0 runs, in none of which two arms can be compared",
        "sweeps": "No sweep is told here",
        "models": "No run says what its transactions touch",
        "server": "Not measured",
        "machine": "No run left a description",
    }.items():
        assert words in read(tmp_path / "p" / f"{name}.md").splitlines()[4]


def test_the_report_says_how_long_it_took_and_how_much_of_it_was_measured(
    made_report: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    named = shutil.ignore_patterns("experiment.json")
    shutil.copytree(made_report, runs, copy_function=os.link, ignore=named)
    for path in made_report.glob("*/experiment.json"):
        asked = json.loads(path.read_text(encoding="utf-8"))
        for cell in asked["cells"]:
            cell["took_s"] = 4.0
        (runs / path.relative_to(made_report)).write_text(json.dumps(asked), encoding="utf-8")
    evidence = read_evidence(runs)
    found = effort(evidence)
    assert found.runs == sum(len(one.cells) for one in evidence.experiments.values())
    assert found.took_s == 4.0 * found.runs and found.share == pytest.approx(0.25, rel=0.02)
    write_report(runs, tmp_path / "R.md", tmp_path / "p")
    end = read(tmp_path / "R.md").split("## How long it took")[1]
    assert "(25 %) were measured" in end
    assert "one sitting on one machine" in end
    assert "cwkit report --seed 412" in end


def test_runs_that_do_not_tell_their_time_are_said_to_be_such(made_report: Path) -> None:
    assert "is not known" in effort_sentence(read_evidence(made_report))


CSV = "case,what,nominal,observed,low,high,tries\n"


SIMULATED = {
    "near": (
        f"{CSV}10 blocks,coverage,0.95,0.949,0.93,0.96,2000\n",
        "Coverage: 94.9 % to 94.9 % in 1 case, nominally 95 %.",
    ),
    "off": (
        f"{CSV}7 blocks,coverage,0.95,0.87,0.85,0.89,2000\n",
        "Coverage: 87 % to 87 % in 1 case, nominally 95 %.",
    ),
    "no nominal": (f"{CSV}a 5 % effect,power,,0.5,0.4,0.6,100\n", ""),
    "no number": (f"{CSV}x,coverage,0.95,so,0,1,3\n", "cannot be read"),
    "other columns": ("a,b\n1,2\n", "cannot be read"),
    "not text": ("\udcff", "cannot be read"),
    "endless": (f"{CSV}x,y,0.95,0.9,0,1,inf\n", "cannot be read"),
}


@pytest.mark.parametrize("name", SIMULATED)
def test_the_simulations_beside_the_figures_stand_in_the_method(tmp_path: Path, name: str) -> None:
    text, words = SIMULATED[name]
    (tmp_path / SIMULATIONS).write_text(text, encoding="utf-8", errors="surrogateescape")
    table, said = simulations(tmp_path)
    assert words in said
    assert (table is not None) == (name in ("near", "off", "no nominal"))


def test_a_report_without_simulations_does_not_speak_of_them(full: Path) -> None:
    assert simulations(full / "sub" / "published") == (None, "")
    assert "simulat" not in read(full / "sub" / "published" / "method.md").lower()


@pytest.mark.parametrize("quick", [True, False])
def test_a_quick_report_says_on_top_what_it_cannot_decide(
    made_beside: tuple[Path, list[Path]], tmp_path: Path, quick: bool
) -> None:
    runs, experiments = made_beside
    suite = json.loads((runs / "campaign.json").read_text(encoding="utf-8"))
    (runs / "campaign.json").write_text(json.dumps(suite | {"quick": quick}), encoding="utf-8")
    write_report(runs, tmp_path / "R.md", tmp_path / "p", experiments)
    top = read(tmp_path / "R.md").split("**In short:**")[0]
    assert ("It cannot decide" in top) == quick
    assert "- `offered`: " in read(tmp_path / "p" / "method.md")


def test_doubts_of_one_experiment_come_after_those_of_the_whole_report(full: Path) -> None:
    lines = [line for line in read(full / "REPORT.md").splitlines() if line.startswith("> - ")]
    of_one = [line.startswith("> - `") for line in lines[:-1]]
    assert of_one == sorted(of_one)


def test_the_tables_of_numbers_keep_the_one_rule_and_name_their_smallest_effect(
    tmp_path: Path,
) -> None:
    made = Planted(tmp_path / "runs")
    made.headline(mode=1.6)
    made.hot(mode=0.6, blocks=4)
    write_report(tmp_path / "runs", tmp_path / "R.md", tmp_path / "p")
    text = read(tmp_path / "p" / "numbers.md")
    head, hot = text.split("### headline")[1].split("### hot")
    assert "Bold is claimed; the smallest effect that could have been claimed is" in head
    assert re.search(r"\| \*\*1\.\d+ \[[^|]*\]\*\* \|", head)
    assert "no effect of any size could have been claimed" in hot
    assert "**0." not in hot.split("<details>")[0]
    work = text.split("## The numbers")[0]
    assert "| wins | `headline` |" in work and "smallest effect" in work


def test_the_limits_follow_what_was_tried(tmp_path: Path) -> None:
    made = Planted(tmp_path / "few")
    made.headline()
    few = " ".join(limits(read_evidence(made.folder)))
    assert "synchronous NORMAL" in few and "no run had such a load" in few
    assert "more than 0.500 s" in few or "more than 0.5 s" in few
    made.fairness(seconds=20.0)
    made.acked()
    more = " ".join(limits(read_evidence(made.folder)))
    assert "more than 20 s" in more
    assert "no run had such a load" not in more and "are no proof for millions" in more
