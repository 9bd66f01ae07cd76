"""Who is to blame: planted hot pages, indexes and rows are named, and innocence is kept."""

import textwrap
from typing import Any

import pytest

from analysis.models.attribution import (
    account_table,
    blame,
    blame_sentence,
    blame_table,
    conflict_parts,
    refusal_account,
)
from analysis.models.touches import Drawn
from analysis.models.windows import NoAnswer, RunWindows, scenario_of
from analysis.synthetic import drawn_run, edit, made_run, made_worker, optimistic_run
from workloads.engines import RefusalPage, find_engine, trust
from workloads.errors import RunError
from workloads.records import RefusalPages
from workloads.runs import make_plan, run

BRANCH = find_engine("sqlite-concurrent")
needs_branch = pytest.mark.skipif(BRANCH.missing() is not None, reason=f"{BRANCH.missing()}")
SLEEPING: dict[str, Any] = {"think_us": 1000, "think": "sleep"}
COUNTED: dict[str, Any] = {
    "transactions": 60,
    "duration_s": 60,
    "writers": 3,
    "begin": "concurrent",
}


def test_rows_and_shared_pages_are_told_apart():
    found = blame(optimistic_run(keys="zipfian:0.99", seconds=2))
    assert found.unexplained == found.spared == found.held == 0
    assert found.row + found.page == found.refused
    assert 0.2 < found.false_conflicts < 0.7
    assert found.rows[0].row == 0  # the hottest rank
    assert sum(row.refusals for row in found.rows) == pytest.approx(found.row)


def test_with_a_row_a_page_no_conflict_is_false():
    found = blame(optimistic_run(keys="zipfian:0.99", rows_a_page=1, seconds=2))
    assert found.refused > 100
    assert (found.row, found.false_conflicts) == (found.refused, 0)


def test_rows_that_others_hold_are_told_apart_from_rows_committed():
    found = blame(optimistic_run(unit="row", keys="zipfian:0.99", operations=4, seconds=2))
    assert found.unexplained == found.page == 0
    assert found.held > 100 and found.row > 100
    assert "another transaction held" in blame_sentence(found)


def test_draws_of_another_seed_explain_next_to_nothing():
    run = optimistic_run(rows=20_000, rows_a_page=100, seconds=2)
    assert blame(run).unexplained == 0
    run.manifest.plan.seed += 1
    other = blame(run)
    assert other.unexplained > 0.9 * other.refused
    assert other.spared > 0  # and of those that committed some should not have


def test_a_run_without_conflicts_has_nothing_to_show():
    quiet = drawn_run(1, engine="sqlite-concurrent", begin="concurrent")
    for worker in quiet.workers:
        worker.entry.met = RefusalPages()
    assert account_table(met_by(quiet)).rows == []
    assert list(conflict_parts(quiet)) == []
    assert list(conflict_parts(drawn_run(1, abort=0.2))) == []  # a lock is no page
    alone = optimistic_run(writers=1, seconds=0.5)
    found = blame(alone)
    assert found.refused == 0 and found.rows == ()
    assert blame_table(found).rows == []
    assert blame_sentence(found) == "No transaction was refused."


def met_by(run: Any) -> Any:
    """`met`, of a run in which somebody said something."""
    found = refusal_account(run)
    assert found is not None
    return found


def test_what_the_workers_met_adds_up_and_what_a_killed_one_met_is_not_said():
    rows = drawn_run(1, abort=0.3, writers=1).workers[0].attempts
    refused = int((rows["outcome"] == 2).sum())
    stale = int((rows["conflict"] == 2).sum())
    assert 10 < stale < refused
    hot, cold = "index t.t_v, page 9, leaf, read/write", "table t, page 4, interior, read-only"
    common: Any = {"engine": "sqlite-concurrent", "begin": "concurrent"}
    account = {"said": stale, "pages": {hot: stale - 3, cold: 2}, "rest": {"table t": 1}}
    made = made_run(
        [
            made_worker(0, rows, **common, met=account),
            made_worker(1, rows, **common, met=None),
        ]
    )
    found = met_by(made)
    assert (found.refused, found.logged) == (2 * stale, stale)
    assert found.pages[0] == (RefusalPage("index t.t_v", 9, "leaf", "read/write"), stale - 3)
    assert found.things() == {
        ("index t.t_v", "leaf"): stale - 3, ("table t", "interior"): 2, ("table t", ""): 1
    }  # fmt: skip
    table = account_table(found, shown=1)
    assert [row[2:5] for row in table.rows] == [
        ("index t.t_v", "leaf", "9"),
        ("table t", "interior", "1 others"),
        ("table t", "", "not kept"),
        ("not said", "", ""),
    ]
    made.workers[0].entry.met = RefusalPages(pages={"page seven": 1})
    with pytest.raises(RunError, match="worker 0 met cannot be read"):
        refusal_account(made)
    assert refusal_account(drawn_run(1)) is None


def test_too_many_transactions_to_draw_again_are_said_with_the_way_out():
    run = optimistic_run(seconds=0.5)
    parts = list(conflict_parts(run, most=10))
    assert len(parts) == 1 and "`cwkit conflicts" in parts[0]
    table, sentence, whole_run = conflict_parts(run)
    assert not isinstance(table, str) and isinstance(sentence, str)
    assert "warm-up" in whole_run  # what is counted in the measured part alone stands elsewhere


def test_keys_name_their_table_and_row_again():
    run = optimistic_run(seconds=0.05)
    touched = Drawn(run)
    (some,) = RunWindows(run).slices()
    _, keys, _ = touched.of(some.every)
    assert touched.tables == ["register"]
    assert touched.named(int(keys[0])) == ("register", int(keys[0]))
    several = Drawn(run)
    several.tables = ["a", "b"]
    assert several.named((1 << 48) - 1) == ("b", -1)
    assert several.named(7) == ("a", 7) and several.named(-1) == ("a", -1)
    edit(run.manifest, plan={"scenario": "queue", "params": {}})
    with pytest.raises(NoAnswer, match="does not say which rows"):
        Drawn(run)


def test_work_before_the_first_statement_is_no_part_of_a_window():
    """Blind updates that think first: their snapshot is the update's, not BEGIN's."""
    run = optimistic_run(seconds=0.2, mix="update=1")
    run.manifest.scenario.params["think_us"] = 500.0
    _, scenario = scenario_of(run)
    (found,), (plain,) = RunWindows(run, scenario).slices(), RunWindows(run).slices()
    assert (found.about().opens_ns >= plain.about().opens_ns + 10_000).any()
    assert found.others().sum() < 0.2 * plain.others().sum()


@needs_branch
def test_the_page_of_an_index_that_all_writers_change_is_found(tmp_path):
    # A row a page in the table, and an index whose few hundred entries lie on two.
    path = tmp_path / "hot.py"
    trust(path)
    path.write_text(
        textwrap.dedent(
            """
            from workloads.scenarios.counter import Counter

            class Hot(Counter):
                name = "hot"
                def schema(self):
                    return [*super().schema(), "CREATE INDEX counter_n ON counter(n)"]
            """
        ),
        encoding="utf-8",
    )
    params = {"rows": 200, "record_bytes": 3000} | SLEEPING
    plan = make_plan(scenario=f"{path}:Hot", database="sqlite-concurrent", params=params, **COUNTED)
    made = run(plan, tmp_path / "runs")
    assert made.manifest.ok, made.manifest.findings
    found = met_by(made)
    assert found.refused == found.logged > 10
    (thing, kind), times = next(iter(found.things().items()))
    assert (thing, kind) == ("index counter.counter_n", "leaf")
    assert times > 0.8 * found.logged
    # The rows know of none of it: nearly no two transactions had one in common.
    assert blame(made).false_conflicts > 0.8
    assert account_table(found).rows[0][2] == "index counter.counter_n"


@pytest.mark.skipif(
    find_engine("turso").missing() is not None, reason=f"{find_engine('turso').missing()}"
)
def test_the_rows_of_an_engine_that_says_nothing_are_found(tmp_path):
    params = {"rows": 3, "keys": "hotspot:80:30"} | SLEEPING
    plan = make_plan(scenario="counter", database="turso", params=params, **COUNTED)
    found = blame(run(plan, tmp_path))
    assert found.unit == "row" and found.refused > 10
    assert found.unexplained <= 0.1 * found.refused
    assert found.spared == 0
    assert found.rows[0].row == 0 and found.rows[0].refusals > 0.5 * found.refused
