"""The report follows the data: planted truths come out as sentences, and nothing stops it."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest

from analysis.conftest import CHARTS
from analysis.report import facts
from analysis.report.evidence import read_evidence
from analysis.report.findings import beyond, doubts, findings
from analysis.report.ledger import ledger
from analysis.report.report import write_report
from analysis.synthetic import ARMS, drawn_run, made_experiment, whole_report
from workloads.errors import RunError


@pytest.fixture(scope="module")
def runs(made_report):
    return made_report


@pytest.fixture(scope="module")
def told(runs, tmp_path_factory):
    """A folder with the report of the runs, for tests that only read it."""
    place = tmp_path_factory.mktemp("told")
    report(runs, place)
    return place


def text_of(place):
    return whole_report(place / "REPORT.md", place / "figures")


def report(folder, place):
    write_report(folder, place / "REPORT.md", place / "figures")
    return text_of(place)


def test_the_same_runs_give_the_same_bytes_of_report_and_charts(runs, told, tmp_path):
    first, second = told, tmp_path / "b"
    CHARTS.clear()
    assert text_of(first) == report(runs, second)
    charts = sorted(path.name for path in (first / "figures").iterdir())
    assert len(charts) >= 4
    for name in charts:
        assert (first / "figures" / name).read_bytes() == (second / "figures" / name).read_bytes()


def test_the_headline_is_looked_for_once_and_every_sweep_judged_once(runs, tmp_path, monkeypatch):
    folder = runs
    shutil.copytree(runs / "headline", tmp_path / "swept")
    asked = json.loads((tmp_path / "swept" / "experiment.json").read_text(encoding="utf-8"))
    asked["axes"] = {"arm": list(asked["arms"])}
    asked["points"] = {arm: {"arm": arm} for arm in asked["arms"]}
    (tmp_path / "swept" / "experiment.json").write_text(json.dumps(asked), encoding="utf-8")
    calls = []
    for name in ("headline_pair", "judged", "scalings"):
        whole = getattr(facts, name)

        def counted(*given, name=name, whole=whole):
            calls.append((name, getattr(given[0], "name", "")))
            return whole(*given)

        monkeypatch.setattr(facts, name, counted)
    write_report(folder, tmp_path / "R.md", tmp_path / "figures", [tmp_path / "swept"])
    assert "## Sweep `headline`" in whole_report(tmp_path / "R.md", tmp_path / "figures")
    names = [path.parent.name for path in folder.glob("*/experiment.json")]
    fitted = [("scalings", name) for name in [*names, "headline"]]
    assert sorted(calls) == sorted([("headline_pair", ""), ("judged", "headline"), *fitted])


def test_the_report_names_no_place_of_the_machine(runs, told):
    text = text_of(told)
    assert str(told) not in text
    assert str(runs) not in text


@pytest.mark.parametrize(
    "name",
    [
        "rep",  # a part of "report"
        "a",  # a word
        pytest.param("report", marks=pytest.mark.slow),
        pytest.param("run", marks=pytest.mark.slow),
    ],
)
def test_a_folder_whose_name_is_in_a_word_changes_no_word(runs, told, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(runs, name, copy_function=os.link)  # nothing is changed in it
    other = text_of(told)
    assert report(Path(name), tmp_path / "out") == other


def test_every_table_is_as_wide_as_its_heading_and_nothing_is_left_unsaid(told):
    text = text_of(told)
    width = None
    for line in text.splitlines():
        columns = len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else None
        assert columns is None or width in (None, columns), line
        width = columns
    assert not re.search(r"\bnan\b|\bNone\b|\binf\b|\{\{|\}\}", text)


def test_every_chart_that_the_report_shows_is_there(told):
    seen = 0
    for page in (told / "REPORT.md", *(told / "figures").glob("*.md")):
        shown = re.findall(r"!\[.*?\]\((.*?)\)", page.read_text(encoding="utf-8"))
        assert all((page.parent / src).is_file() for src in shown)
        seen += len(shown)
    assert seen > 2


def test_what_was_not_measured_is_said_and_never_made_up(tmp_path):
    arms = {"x": ARMS["libsql immediate"] | {"scenario": "counter"}}
    made_experiment(tmp_path / "odd", arms, lambda arm, block: drawn_run(block), name="odd")
    evidence = read_evidence(tmp_path)
    assert findings(evidence) == []
    (line,) = beyond(evidence)
    assert line.startswith("Not measured in this set of runs") and line.count("cwkit ") > 8
    assert not any(claim.measured for claim in ledger(evidence))
    text = report(tmp_path, tmp_path / "out")
    assert "Not drawn" in text


def test_refused_failed_missing_and_unreadable_cells_are_shown_with_their_words(tmp_path):
    arms = {"now": ARMS["libsql immediate"], "new": ARMS["branch concurrent"]}

    def make(arm, block):
        if arm == "new":
            return (
                "missing: sqlite-concurrent is not built here: npm was not found.",
                "refused: sqlite-concurrent: no such mode | at all",
                "worker 0 died: signal 9",
            )[block]
        return drawn_run(block)

    folder = made_experiment(tmp_path / "runs" / "headline", arms, make, name="headline", blocks=3)
    (tmp_path / "runs" / "cut").mkdir()
    (tmp_path / "runs" / "cut" / "experiment.json").write_text("{")
    next(folder.glob("b01-now/worker-000.npy")).unlink()
    text = report(tmp_path / "runs", tmp_path)
    assert "npm was not found" in text
    assert "no such mode | at all" in text
    assert "worker 0 died: signal 9" in text
    assert "is missing. The run has to be made again" in text
    assert "cut or edited" in text
    assert "What BEGIN CONCURRENT costs (sqlite-concurrent is not built here" in text


def test_an_arm_without_any_commit_does_not_stop_the_report(tmp_path):
    arms = {"now": ARMS["libsql immediate"], "new": ARMS["branch concurrent"]}
    made_experiment(
        tmp_path / "runs" / "headline",
        arms,
        lambda arm, block: drawn_run(block, per_s=0, engine=ARMS_ENGINE[arm], begin="concurrent"),
        name="headline",
        blocks=7,
    )
    assert "## Findings" in report(tmp_path / "runs", tmp_path)


ARMS_ENGINE = {"now": "libsql", "new": "sqlite-concurrent"}


def test_doubt_is_said_before_the_first_number(runs, tmp_path):
    folder = tmp_path / "runs"
    shutil.copytree(runs, folder)
    for path in list(folder.glob("headline/b0[0-3]-*/manifest.json")):
        manifest = json.loads(path.read_text(encoding="utf-8"))
        manifest["foreign"]["cpu_share"] = 0.4
        path.write_text(json.dumps(manifest), encoding="utf-8")
    evidence = read_evidence(folder)
    assert any("contaminated" in doubt for doubt in doubts(evidence))
    text = report(folder, tmp_path)
    assert text.index("contaminated") < text.index("## Findings")
    assert "The headline rests on 6 blocks" in text


@pytest.mark.parametrize("kind", ["nowhere", "empty"])
def test_a_folder_without_experiments_is_one_sentence(tmp_path, kind):
    if kind == "empty":
        (tmp_path / kind).mkdir()
    with pytest.raises(RunError, match="cwkit report"):
        write_report(tmp_path / kind, tmp_path / "REPORT.md", tmp_path / "figures")
    assert not (tmp_path / "REPORT.md").exists()


def test_two_sweeps_of_one_name_are_both_told(tmp_path):
    arms = {"a": ARMS["libsql immediate"], "b": ARMS["branch concurrent"]}
    for folder, seed, speed in (("one", 1, 500), ("three", 2, 900), ("two", 2, 700)):

        def make(arm, block, speed=speed):
            return drawn_run([block, len(arm)], per_s=speed, seconds=0.5)

        made_experiment(tmp_path / "runs" / folder, arms, make, name="swept", blocks=2)
        path = tmp_path / "runs" / folder / "experiment.json"
        points = {arm: {"way": arm} for arm in arms}
        changes = {"seed": seed, "baseline": "a", "axes": {"way": list(arms)}, "points": points}
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    evidence = read_evidence(tmp_path / "runs")
    assert list(evidence.sweeps) == ["swept", "swept-s2", "swept-s2.2"]
    assert all(measured.name == name for name, measured in evidence.sweeps.items())
    text = report(tmp_path / "runs", tmp_path)
    assert all(f"## Sweep `{name}`" in text for name in evidence.sweeps)
    tables = [(tmp_path / "figures" / f"sweep-{name}.csv").read_text() for name in evidence.sweeps]
    assert len(set(tables)) == 3
