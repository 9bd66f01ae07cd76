"""What is run again at once, and what is not: what came between decides, never the result."""

from pathlib import Path

import pytest

from analysis.counting.measured import gather
from analysis.counting.spare import SpareRule, spare_clause
from analysis.counting.tally import count
from analysis.report.evidence import read_evidence
from analysis.report.findings import notes
from analysis.synthetic import drawn_run, edit, made_experiment, rated, write_folder
from workloads.experiments import DONE, Cell, read_experiment, set_aside, write_cell
from workloads.records import Run


def cell(folder: Path, run: Run) -> Cell:
    return Cell(0, "a", DONE, "", write_folder(run, folder / run.name), 2.0)


def of_others(share: float) -> Run:
    made = drawn_run(1, per_s=1000)
    edit(made.manifest, foreign={"cpu_share": share, "steal_share": 0.0})
    return made


def still() -> Run:
    """Nobody commits for a second of two."""
    return rated(lambda t: 0.0 if 0.5 < t < 1.5 else 2000.0, 2.0)


def test_other_programs_and_a_standstill_are_what_comes_between(tmp_path):
    rule = SpareRule()
    assert "other programs used 12 %" in rule(cell(tmp_path / "a", of_others(0.12)))
    assert "nobody committed for" in rule(cell(tmp_path / "b", still()))
    assert rule(cell(tmp_path / "c", of_others(0.01))) == ""
    assert SpareRule(foreign_limit=0.2)(cell(tmp_path / "d", of_others(0.12))) == ""


def test_a_run_that_was_merely_slow_stays(tmp_path):
    for n, per_s in enumerate((1, 10, 100, 10_000)):
        assert SpareRule()(cell(tmp_path / str(n), drawn_run(n, per_s=per_s))) == ""


@pytest.mark.parametrize(("pause_s", "again"), [(0.1, False), (0.3, True)])
def test_a_pause_that_a_busy_handlers_sleep_explains_is_the_engines_own(tmp_path, pause_s, again):
    """In a window of 0.4 s both are a standstill."""
    made = rated(lambda t: 0.0 if 0.05 < t < 0.06 + pause_s else 20_000.0, 0.4)
    assert count(made, made.window_ns).standstill is not None
    assert bool(SpareRule()(cell(tmp_path, made))) is again


def test_what_is_made_to_break_is_left_alone(tmp_path):
    made = of_others(0.5)
    edit(made.manifest, plan={"scenario": "acked"})
    assert SpareRule()(cell(tmp_path, made)) == ""


def test_when_the_time_for_it_is_gone_every_run_stays(tmp_path):
    rule = SpareRule(left_s=3.0)
    one = cell(tmp_path, of_others(0.5))
    assert rule(one) != ""
    assert rule(one) == ""  # each took 2 s, and 1 s is left


def test_the_reports_doubts_say_how_many_were_made_again_and_of_which_arms(tmp_path):
    make = lambda arm, block: drawn_run(block, per_s=1000)  # noqa: E731
    folder = made_experiment(tmp_path / "e", {"one": {}, "two": {}}, make, name="e", blocks=4)
    assert spare_clause(gather(read_experiment(folder))) == ""
    there = read_experiment(folder)
    for block in (1, 2):
        earlier = there.cells[block, "one"]
        write_cell(folder, Cell(block, "one", DONE, "", earlier.folder, 1.0, "others were there"))
        set_aside(folder, earlier)
    text = spare_clause(gather(read_experiment(folder)))
    assert text.startswith("2 runs were made again at once (one 2; the first b01, one: others")
    (line,) = notes(read_evidence(tmp_path))
    assert line.startswith(
        "2 of 8 runs were made again at once, because something came between (e 2; the first "
        "e/b01, one: others were there); the earlier ones are kept"
    )
