"""A published sweep is told as its folder was, and one that does not fit together is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from analysis.counting import Measured, Tally, gather
from analysis.counting.kept import NUMBERS, OTHERS
from analysis.models import scalings
from analysis.report.charts import Chart
from analysis.report.evidence import read_evidence
from analysis.report.finding import MORE, UNKNOWN
from analysis.report.published import Published, publish_sweep, read_published
from analysis.report.report import write_report
from analysis.report.sweep_verdicts import judged
from analysis.report.sweeps import section
from analysis.report.test_lost_commits import as_sweep
from analysis.report.test_report_sweeps import sweep
from analysis.report.told import LONG_WINDOWS
from analysis.report.waits import fairness
from analysis.synthetic import Planted, made_acked
from workloads.errors import RunError
from workloads.experiments import read_experiment
from workloads.records import Run


def contaminated(run: Run, system: str, block: int) -> None:
    """Others used the machine in a block of BEGIN CONCURRENT."""
    if (system, block) == ("concurrent", 3):
        run.manifest.foreign.cpu_share = 0.5


def slumping(run: Run, system: str, block: int) -> None:
    if (system, block) == ("concurrent", 1):
        run.manifest.pressure = {"cpu": {"some": 0.9}}


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    made = sweep(
        tmp_path_factory.mktemp("made") / "s",
        lambda n, us: 1.6 if us else 0.7,
        writers=(1, 2),
        blocks=8,
        mend=contaminated,
    )
    return gather(read_experiment(made))


def again(measured: Measured, folder: Path) -> Published:
    publish_sweep(measured, folder)
    (one,), unread = read_published(folder)
    assert not unread
    return one


def told(
    measured: Measured, folder: Path, published: Published | None = None
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """A sweep's section, and its charts by name."""
    part = section(measured, judged(measured), folder / "page.md", folder, published)
    charts = [chart for chart in part["charts"] if isinstance(chart, Chart) and chart.src]
    return part, {chart.src: (folder / chart.src).read_bytes() for chart in charts}


def test_it_is_told_as_its_folder_was(swept: Measured, tmp_path: Path) -> None:
    one = again(swept, tmp_path / "kept")
    before, drawn_before = told(swept, tmp_path / "a")
    after, drawn_after = told(one.measured, tmp_path / "b", one)
    for key in ("name", "question", "seed", "sentences", "control", "table", "charts"):
        assert after[key] == before[key], key
    assert drawn_after == drawn_before and drawn_after
    assert any("more at 2 and less at 2 of 4 points" in line for line in after["sentences"])
    assert [f.p for f in judged(swept)] == [f.p for f in judged(one.measured)]


def test_every_number_of_a_run_comes_back(swept: Measured, tmp_path: Path) -> None:
    one = again(swept, tmp_path / "kept")
    for key, cell in one.measured.cells.items():
        was = swept.cells[key]
        if was.contaminated:
            assert cell.counted is None and cell.failure == was.contaminated
            continue
        assert cell.counted is not None and was.counted is not None and was.manifest is not None
        assert (cell.run, cell.place, cell.steady) == (was.run, was.place, was.steady)
        assert cell.manifest is not None and cell.manifest.plan == was.manifest.plan
        for role, tally in was.counted.roles.items():
            back = cell.counted.roles[role]
            for name in ("per_s", "cpu_us", "abort_rate", "fairness", "longest_ns", "wasted"):
                assert str(getattr(back, name)) == str(getattr(tally, name)), name
            assert (back.conflicts == tally.conflicts).all()
            assert back.first_refused() == tally.first_refused()
            assert str(back.whole()) == str(tally.whole())
    assert [str(fit) for fit in scalings(swept)] == [str(fit) for fit in scalings(one.measured)]


def test_no_number_of_a_run_is_forgotten() -> None:
    assert {*NUMBERS, *OTHERS} == {field.name for field in fields(Tally)}


def test_only_sound_cells_are_published_and_the_others_with_why(
    swept: Measured, tmp_path: Path
) -> None:
    one = again(swept, tmp_path / "kept")
    note = json.loads(one.note.read_text(encoding="utf-8"))
    assert len(note["runs"]) == 8 * 9 - 4 and len(note["dropped"]) == 4
    assert all("other programs used 50 %" in gone["why"] for gone in note["dropped"])
    assert "4 cells are not among what was published" in one.dropped[0]


def test_a_sweep_without_a_sound_cell_is_not_published(tmp_path: Path) -> None:
    def all_of_them(run: Run, system: str, block: int) -> None:
        run.manifest.foreign.cpu_share = 0.5

    made = sweep(
        tmp_path / "s", lambda n, us: 1.0, writers=(1,), think_us=(0,), blocks=1, mend=all_of_them
    )
    with pytest.raises(RunError, match="has no sound cell to publish"):
        publish_sweep(gather(read_experiment(made)), tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


def test_no_path_of_the_machine_is_published(swept: Measured, tmp_path: Path) -> None:
    one = again(swept, tmp_path / "kept")
    both = one.note.read_text(encoding="utf-8") + one.table.read_text(encoding="utf-8")
    assert str(swept.experiment.folder) not in both


def test_a_report_tells_it_with_its_date_until_it_is_measured_anew(
    swept: Measured, made_report: Path, tmp_path: Path
) -> None:
    runs = made_report
    publish_sweep(swept, tmp_path / "kept")
    figures = tmp_path / "figures"
    write_report(runs, tmp_path / "R.md", figures, published=tmp_path / "kept")
    page = (figures / "sweeps.md").read_text(encoding="utf-8")
    assert re.search(r"Measured \d{4}-\d\d-\d\d on .*, published by cwkit", page)
    assert "(../kept/landscape.csv)" in page and "(../kept/landscape.json)" in page
    assert not (figures / "sweep-landscape.csv").exists()
    told = (tmp_path / "R.md").read_text(encoding="utf-8")
    assert "Told as they were published, with all that rests on their runs: landscape (" in told
    write_report(
        runs, tmp_path / "R.md", figures, [swept.experiment.folder], published=tmp_path / "kept"
    )
    page = (figures / "sweeps.md").read_text(encoding="utf-8")
    assert "published by" not in page and page.count("## Sweep") == 1
    cut(tmp_path / "kept" / "landscape.json")
    evidence = read_evidence(runs, published=tmp_path / "kept")
    assert not evidence.published and not evidence.sweeps
    assert [line for line in evidence.unread if "landscape.json is not told" in line]


def test_lost_commits_of_a_published_sweep_are_facts_as_those_of_its_folder(
    made_report: Path, tmp_path: Path
) -> None:
    made, runs = as_sweep(made_acked(tmp_path / "acked")), made_report
    before = read_evidence(runs, [made]).facts.acked
    measured = gather(read_experiment(made))
    again(measured, tmp_path / "kept")
    after = read_evidence(runs, published=tmp_path / "kept").facts.acked
    assert after == before and after.losers
    write_report(runs, tmp_path / "R.md", tmp_path / "figures", published=tmp_path / "kept")
    page = (tmp_path / "figures" / "sweeps.md").read_text(encoding="utf-8")
    assert "lost acknowledged commits" in page


def test_long_windows_that_were_published_decide_who_waits_as_of_their_date(
    hoped: Path, tmp_path: Path
) -> None:
    runs = hoped  # one window of each arm
    alone = fairness(read_evidence(runs))
    assert alone.verdict == UNKNOWN and "measured" not in alone.holds
    Planted(tmp_path).fairness(blocks=8, name=LONG_WINDOWS)
    publish_sweep(gather(read_experiment(as_sweep(tmp_path / LONG_WINDOWS))), tmp_path / "kept")
    told = fairness(read_evidence(runs, published=tmp_path / "kept"))
    assert told.verdict == MORE and LONG_WINDOWS in told.text
    assert re.search(r"windows of 20 s, measured \d{4}-\d\d-\d\d$", told.holds)


def test_a_run_that_looks_for_lost_commits_is_published_whoever_used_the_machine(
    tmp_path: Path,
) -> None:
    made = as_sweep(made_acked(tmp_path / "acked"))
    for path in made.glob("*/manifest.json"):
        entries = json.loads(path.read_text(encoding="utf-8"))
        entries["foreign"] = {**entries["foreign"], "cpu_share": 0.9}
        path.write_text(json.dumps(entries), encoding="utf-8")
    measured = gather(read_experiment(made))
    assert any(cell.contaminated for cell in measured.cells.values())
    assert not again(measured, tmp_path / "kept").dropped


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def changed(what: str, to: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        text = path.read_text(encoding="utf-8")
        assert what in text
        path.write_text(text.replace(what, to, 1), encoding="utf-8")

    return change


def without(key: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        data = json.loads(path.read_text(encoding="utf-8"))
        del data[key]
        path.write_text(json.dumps(data), encoding="utf-8")

    return change


@pytest.mark.parametrize(
    ("file", "damage", "why"),
    [
        ("landscape.json", cut, "cannot be read"),
        ("landscape.json", without("runs"), "missing required field `runs`"),
        ("landscape.json", changed('"cwkit": 1', '"cwkit": 99'), "by a later cwkit"),
        ("landscape.json", changed('"landscape"', '"other"'), "is called 'other' inside"),
        ("landscape.json", changed('"condition": 0', '"condition": 999'), "a condition that is"),
        ("landscape.json", changed('"many": 1', '"many": 99999999'), "`many` of workers"),
        ("landscape.json", changed('"cpu_share": 0', '"cpu_share": 0.9, "x": 0'), "is not sound"),
        ("landscape.json", changed('"blocks": 8', '"blocks": 999999'), "`order`"),
        ("landscape.json", changed('"block": 0', '"block": 1048576'), "1048575"),
        ("landscape.csv", cut, "it is not the table"),
        ("landscape.csv", Path.unlink, "landscape.csv is not beside it"),
    ],
)
def test_a_damaged_or_forged_one_is_one_sentence(
    swept: Measured,
    tmp_path: Path,
    file: str,
    damage: Callable[[Path], None],
    why: str,
) -> None:
    publish_sweep(swept, tmp_path / "kept")
    damage(tmp_path / "kept" / file)
    found, (doubt,) = read_published(tmp_path / "kept")
    assert not found and why in doubt and "\n" not in doubt


@pytest.mark.parametrize(
    ("column", "value", "why"),
    [
        ("writer_committed", "99999999", "do not agree"),
        ("writer_committed", "-1", "no whole number"),
        ("seconds", "nan", "is no number"),
        ("seconds", "1e400", "is no number"),
        ("writer_commits_each", "1 2 x", "no whole number"),
        ("writer_whole_p99_ns", "=1+1", "is no number"),
        ("block", "7777", "has not its row"),
    ],
)
def test_a_forged_table_with_its_own_digest_is_refused(
    swept: Measured, tmp_path: Path, column: str, value: str, why: str
) -> None:
    import csv
    import hashlib

    note, table = publish_sweep(swept, tmp_path / "kept")
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    rows[1][rows[0].index(column)] = value
    with table.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    data = json.loads(note.read_text(encoding="utf-8"))
    data["cells"] = hashlib.sha256(table.read_bytes()).hexdigest()
    note.write_text(json.dumps(data), encoding="utf-8")
    found, (line,) = read_published(tmp_path / "kept")
    assert not found and why in line


def test_a_folder_that_is_not_there_has_none(tmp_path: Path) -> None:
    assert read_published(tmp_path / "nowhere") == ([], [])
