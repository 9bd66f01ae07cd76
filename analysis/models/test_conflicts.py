"""The model of refused transactions: right where its assumptions hold, off where they do not."""

import math
from typing import Any

import numpy as np
import pytest

from analysis.counting import gather
from analysis.models.conflicts import (
    Chances,
    chances,
    error_of,
    error_table,
    predict,
    prediction_table,
    predictions,
)
from analysis.models.touches import Drawn
from analysis.models.windows import NoAnswer, RunWindows
from analysis.synthetic import drawn_run, edit, made_experiment, optimistic_run
from workloads.experiments import read_experiment
from workloads.records import Layout, Tree
from workloads.scenarios import Footprint

SHAPES: dict[str, dict[str, Any]] = {
    "uniform": {},
    "skewed": {"keys": "zipfian:0.99"},
    "four operations": {"keys": "zipfian:1.2", "operations": 4},
    "uneven windows": {"keys": "zipfian:0.99", "uneven": 0.02},
    "commits that return late": {"keys": "zipfian:0.99", "slow_commits": 0.02},
    "with reads": {"mix": "read=1,update=1", "operations": 3, "keys": "zipfian:0.8"},
    "by row": {"unit": "row", "keys": "zipfian:0.8"},
    "by row, four operations": {"unit": "row", "keys": "zipfian:0.99", "operations": 4},
}


@pytest.mark.parametrize("name", SHAPES)
def test_the_model_in_full_predicts_a_simulated_engine(name):
    seconds = 4 if "row" in name else 3  # of which more conflicts are needed
    found = predict(optimistic_run(**SHAPES[name], seed=3, seconds=seconds))
    assert found.every.latest >= found.every.predicted["whole"]
    assert found.every.attempts > 10_000
    assert abs(found.every.log_ratio("whole")) < math.log(1.1)


def test_the_bare_formula_is_right_where_windows_are_even_and_keys_alike():
    found = predict(optimistic_run())
    assert abs(found.every.log_ratio("mean")) < math.log(1.1)
    assert found.overlap == pytest.approx(1 / 50)  # 50 pages, each alike


def test_the_bare_formula_says_too_much_where_windows_are_uneven():
    found = predict(optimistic_run(uneven=0.05, work_us=100, seconds=2))
    assert found.every.log_ratio("mean") > 2 * abs(found.every.log_ratio("whole"))
    assert found.every.predicted["windows"] < found.every.predicted["mean"]


def test_a_wrong_layout_is_far_off():
    run = optimistic_run()
    edit(run.manifest, layout={"loaded": {"table register": {"pages": "3:1000"}}})  # on one page
    found = predict(run)
    assert found.every.log_ratio("whole") > math.log(5)
    assert error_of([found], "whole").worst > 5
    assert not found.every.within


def test_first_tries_are_predicted_where_retries_are_refused_more_often():
    found = predict(
        optimistic_run(unit="row", keys="zipfian:0.99", operations=4, retry=True, seconds=3)
    )
    assert abs(found.first.log_ratio("whole")) < math.log(1.1)
    assert found.every.observed[1] > 1.3 * found.first.observed[1]
    table = prediction_table([found])
    assert [row[1].split()[0] for row in table.rows] == ["all", "first"]
    assert {row[0] for row in error_table([found]).rows} == {"mean", "windows", "whole"}


def test_splits_count_for_pages_that_grew():
    run = optimistic_run()
    before = predict(run).every.predicted["whole"]
    loaded = run.manifest.layout.loaded["table register"]
    assert isinstance(loaded, Tree)
    grown = loaded.model_copy(update={"leaves": 50 + 3000})
    run.manifest.layout.left = {"table register": grown}
    after = predict(run)
    commits = after.every.attempts - after.every.refused
    assert after.splits == pytest.approx(3000 / commits)
    assert after.every.predicted["whole"] > before + after.splits  # m is above 1
    assert after.every.predicted["windows"] < before * 1.05  # which knows nothing of splits


def test_a_window_holds_just_the_commits_of_others_that_lie_in_it():
    run = optimistic_run(seconds=0.2, uneven=0.1, slow_commits=0.1)
    look = RunWindows(run)
    (some,) = look.slices()
    found, others, overlapping = some.about(), some.others(), some.overlapping()
    did = np.flatnonzero(~found.refused)
    for at in range(len(found)):
        theirs = did[found.worker[did] != found.worker[at]]
        inside = (found.closes_ns[theirs] > found.opens_ns[at]) & (
            found.closes_ns[theirs] <= found.closes_ns[at]
        )
        assert others[at] == inside.sum()
        lost = np.flatnonzero(found.refused & (found.worker != found.worker[at]))
        under_way = (found.opens_ns[lost] < found.closes_ns[at]) & (
            found.closes_ns[lost] > found.opens_ns[at]
        )
        assert overlapping[at] == under_way.sum()
    assert (some.others_latest() >= 0).all() and (found.latest_ns >= found.closes_ns).all()
    assert look.commit_us == pytest.approx(10, abs=0.1)


def test_rows_added_at_the_end_meet_on_the_last_page_only():
    footprint = Footprint("t", (0,), 1, np.zeros(4), np.full(4, 0.125), appends=0.5)
    tree = Tree(leaves=2, pages="3-4:2")
    assert chances(footprint, "page", {"table t": tree}).overlap() == pytest.approx(
        0.25**2 + 0.75**2
    )
    assert chances(footprint, "row", {}).overlap() == pytest.approx(4 * 0.125**2)


def test_a_transaction_of_several_draws_touches_a_place_once():
    half = np.array([0.5, 0.5])
    r, w, share = Chances(half, half, 0.0, 3).of_transaction()
    assert r == pytest.approx([7 / 8, 7 / 8]) and w == pytest.approx(r) and share == 1
    # One draw of two reads; of three that read only nobody is refused.
    r, w, share = Chances(half, half / 2, 0.0, 3).of_transaction()
    assert share == pytest.approx(7 / 8)
    assert w == pytest.approx(1 - (3 / 4) ** 3)


def test_a_run_without_an_answer_says_why():
    def why(run):
        with pytest.raises(NoAnswer) as reason:
            predict(run)
        return str(reason.value)

    run = optimistic_run(seconds=0.05)
    assert "waits for the one write lock" in why(drawn_run(1))
    assert "does not say what a commit is refused over" in why(
        drawn_run(1, engine="libsql", begin="concurrent")
    )
    before = run.manifest.layout
    run.manifest.layout = Layout()
    assert "before layouts were kept" in why(run)
    run.manifest.layout = before
    edit(run.manifest, plan={"scenario": "queue", "params": {}})
    assert "'queue' does not say in chances" in why(run)
    for params, message in (
        ({"rows": 10**8}, "its 100,000,000 rows are more than are looked at"),
        ({"operations": 10_000}, "operations are not drawn again"),
    ):
        forged = optimistic_run(seconds=5.0)
        edit(forged.manifest, plan={"params": forged.manifest.plan.params | params})
        with pytest.raises(NoAnswer, match=message):
            Drawn(forged)
    fewer = optimistic_run(seconds=0.05)
    fewer.manifest.plan.writers = 1
    with pytest.raises(NoAnswer, match="its plan has no worker 1: it was edited"):
        Drawn(fewer)
    run.manifest.plan.scenario = "gone"
    assert "no scenario 'gone'" in why(run)


def test_an_experiment_is_predicted_arm_by_arm_with_its_blocks_together(tmp_path):
    keys = {"uniform": "uniform", "hot": "zipfian:1.2"}
    branch = {"database": "sqlite-concurrent", "begin": "concurrent", "scenario": "register"}
    arms: dict[str, dict[str, Any]] = {
        arm: branch | {"params": {"keys": spec}} for arm, spec in keys.items()
    }
    arms["single writer"] = branch | {"begin": "immediate"}

    def make(arm, block):
        if arm == "single writer":
            return drawn_run(block, engine="sqlite-concurrent")
        return optimistic_run(keys=keys[arm], seconds=1, seed=block)

    grid = gather(read_experiment(made_experiment(tmp_path, arms, make, blocks=2)))
    made, without = predictions(grid)
    assert [one.name for one in made] == ["uniform", "hot"]
    assert [one.keys for one in made] == list(keys.values())
    assert all(len(one.runs) == 2 for one in made)
    assert made[1].every.observed[1] > made[0].every.observed[1]
    assert len(without) == 1 and "single writer" in without[0]
    assert error_of(made).arms == 2 and error_of(made).worst < 1.3
    assert error_of([]).arms == 0
