"""Arms against each other: a planted difference is found, a difference that is none is not."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.counting.measured import gather
from analysis.counting.tally import pooled
from analysis.statistics import FEWEST_BLOCKS, median_of_blocks
from analysis.synthetic import drawn_run, edit, made_experiment
from workloads.experiments import read_experiment

PLAN = {"scenario": "register", "writers": 2}
CONCURRENT = PLAN | {"write_engine": "sqlite-concurrent", "begin": "concurrent"}


def measured_in(folder, make, arms=None, blocks=10, **more):
    arms = arms or {"base": PLAN, "again": PLAN, "other": CONCURRENT}
    return gather(read_experiment(made_experiment(folder, arms, make, blocks=blocks, **more)))


def scattered(block, per_s, noise=0.02):
    """A throughput as a block of a busy day gives it: the block's own 20 % and 2 % beside."""
    day = np.random.default_rng(block).uniform(0.8, 1.2)
    return per_s * day * np.random.default_rng([block, int(per_s)]).normal(1, noise)


SPEED = {"base": 2000, "again": 2001, "other": 1800}


def slower_other(arm, block):
    return drawn_run([block, 1], per_s=scattered(block, SPEED[arm]), writers=2)


def test_a_planted_slowdown_of_ten_per_cent_is_found_through_twenty_per_cent_of_noise(tmp_path):
    found = measured_in(tmp_path, slower_other)
    ratio = found.ratio(found.arms["other"], found.arms["base"])
    assert ratio.blocks == 10
    assert ratio.verdict == "less"
    assert ratio.low < 0.9 < ratio.high
    assert ratio.high - ratio.low < 0.06


def test_the_same_arm_twice_shows_no_difference(tmp_path):
    found = measured_in(tmp_path, slower_other)
    assert found.twins == ((found.arms["base"], found.arms["again"]),)
    assert found.ratio(found.arms["again"], found.arms["base"]).verdict == "none seen"


def test_a_contaminated_block_is_dropped_and_said(tmp_path):
    def make(arm, block):
        foreign = {"cpu_share": 0.3 if (arm, block) == ("other", 3) else 0.0}
        if (arm, block) == ("base", 5):
            foreign = {"cpu_share": 0.0, "steal_share": 0.08}
        return drawn_run(block, per_s=SPEED[arm], writers=2, foreign=foreign)

    found = measured_in(tmp_path, make)
    ratio = found.ratio(found.arms["other"], found.arms["base"])
    assert ratio.blocks == 8
    assert ratio.dropped == (
        "block 3, other: other programs used 30 % of the machine's CPU time",
        "block 5, base: the host used 8 % of the machine's CPU time",
    )
    assert (
        found.ratio(found.arms["again"], found.arms["base"]).blocks == 9
    )  # the other arm's bad block is not theirs
    assert len(found.runs(found.arms["other"])) == 9


def machines(of_block, swapped=()):
    """Cells of two machines, the second three times as fast; `swapped` cells are the other's."""

    def make(arm, block):
        fast = of_block(block) != ((arm, block) in swapped)
        per_s = SPEED[arm] * (3 if fast else 1)
        run = drawn_run(block, per_s=per_s, writers=2)
        edit(run.manifest, machine={"id": "bbbb" if fast else "aaaa", "cores": 2})
        return run

    return make


def test_cells_of_two_machines_are_not_pooled_and_each_ratio_is_of_one(tmp_path):
    found = measured_in(tmp_path, machines(lambda block: block in (1, 4, 5)))
    assert list(found.places.items()) == [(("aaaa", 2), 21), (("bbbb", 2), 9)]
    for name, per_s in SPEED.items():
        arm = found.arms[name]
        made = arm.estimate()
        assert made.blocks == 7 and made.each.max() < 1.2 * per_s
        assert [cell.block for cell in arm.usable] == [0, 2, 3, 6, 7, 8, 9]
        assert made.dropped[0] == (
            f"block 1, {arm}: made on another machine than most, and not pooled with those"
        )
        assert arm.tally().per_s < 1.2 * per_s
    ratio = found.ratio(found.arms["other"], found.arms["base"])
    assert ratio.blocks == 10 and ratio.dropped == () and 0.85 < ratio.value < 0.95
    assert len(found.runs(found.arms["other"])) == 10
    # Another number of CPUs on one machine is another machine; older manifests name none.
    fewer = edit(drawn_run(1).manifest, machine={"id": "aaaa", "cores": 1})
    assert replace(found.cells[1, "base"], manifest=fewer).place == ("aaaa", 1)
    assert replace(found.cells[1, "base"], manifest=drawn_run(1).manifest).place == ("", 0)


def test_a_block_of_two_machines_gives_no_ratio(tmp_path):
    # Planted: what must never happen. Taken for a ratio it would be 0.3 or 2.7, not 0.9.
    found = measured_in(tmp_path, machines(lambda block: block == 1, {("base", 3), ("other", 1)}))
    ratio = found.ratio(found.arms["other"], found.arms["base"])
    assert ratio.blocks == 8 and ratio.each.max() < 1.1
    assert ratio.dropped == (
        "block 1: other and base were made on different machines",
        "block 3: other and base were made on different machines",
    )


def test_refused_failed_and_cut_cells_are_said_and_never_stop_the_count(tmp_path):
    def make(arm, block):
        if arm == "other":
            return 'refused: libsql: near "CONCURRENT": syntax error'
        if arm == "again" and block == 1:
            broken = {"check": "total", "ok": False, "sentence": "99 for 100", "evidence": {}}
            return drawn_run(block, findings=[broken], ok=False)
        return drawn_run(block)

    folder = tmp_path / "x"
    found = measured_in(folder, make, blocks=3)
    assert found.ratio(found.arms["other"], found.arms["base"]).verdict == "unknown"
    assert math.isnan(found.arms["other"].estimate().value)
    assert "syntax error" in found.arms["other"].estimate().dropped[0]
    assert found.arms["other"].tally() is None
    assert found.arms["again"].estimate().dropped == ("block 1, again: 99 for 100",)
    assert found.arms["other"].plan["begin"] == "concurrent"
    victim = next(folder.glob("b02-base/worker-000.npy"))
    victim.write_bytes(victim.read_bytes()[:100])
    again = gather(read_experiment(folder))
    assert "cut or edited" in again.arms["base"].estimate().dropped[0]
    assert again.arms["base"].estimate().blocks == 2


def test_arms_of_unlike_durability_are_not_compared(tmp_path):
    def make(arm, block):
        run = drawn_run(block)
        for entry in run.manifest.workers:
            entry.pragmas["synchronous"] = 0 if arm == "other" else 1
        return run

    found = measured_in(tmp_path, make, blocks=1)
    assert found.not_compared(found.arms["again"], found.arms["base"]) == ""
    assert found.not_compared(found.arms["other"], found.arms["base"]) == (
        "Not compared: block 0: other and base differ in durability, "
        "writer.synchronous (1 against 0)."
    )


def test_an_arm_is_made_once_and_counts_once(tmp_path, monkeypatch):
    found = measured_in(tmp_path, slower_other, blocks=3)
    arm = found.arms["other"]
    assert found.arms["other"] is arm and arm.measured is found and str(arm) == "other"
    pools = []

    def counted_pool(parts):
        pools.append(len(parts))
        return pooled(parts)

    monkeypatch.setattr("analysis.counting.measured.pooled", counted_pool)
    assert arm.tally() is arm.tally("writer") and pools == [3]
    assert arm.tally("reader") is None
    assert arm.plan is arm.plan and arm.percentiles() is arm.percentiles()
    assert [cell.block for cell in arm.cells] == [cell.block for cell in arm.usable] == [0, 1, 2]


def test_an_arm_says_what_it_was_asked_to_do(tmp_path):
    reading = {"scenario": "register", "writers": 0, "readers": 2, "read_engine": "sqlite"}
    arms = {"base": PLAN, "other": CONCURRENT | {"params": {"keys": "uniform"}}, "reads": reading}
    refused = measured_in(tmp_path, lambda arm, block: "refused: not here", arms, blocks=1)
    base, other, reads = refused.arms.values()
    assert (other.engine, other.begin, other.role) == ("sqlite-concurrent", "concurrent", "writer")
    assert other.label == "sqlite-concurrent BEGIN CONCURRENT on a libsql file"
    assert (reads.engine, reads.role, reads.writers) == ("sqlite", "reader", 0)
    assert other.field("keys") == "uniform" and other.field("writers") == 2
    assert other.field("no such field") is None
    assert base.tally() is None and not base.usable and base.estimate().blocks == 0
    assert not base.alike(reads) and base.alike(other) == (base.field("keys") == "uniform")
    assert refused.arms_of("sqlite-concurrent", "concurrent", writers=2) == [other]
    assert refused.arms_of("sqlite-concurrent", "concurrent", writers=3) == []
    assert refused.arms_of("sqlite") == [reads] and refused.role == "writer"


def test_an_arm_that_commits_nothing_gives_an_infinite_ratio_and_no_nan(tmp_path):
    found = measured_in(
        tmp_path, lambda arm, block: drawn_run(block, per_s=0 if arm == "base" else 100)
    )
    ratio = found.ratio(found.arms["other"], found.arms["base"])
    assert ratio.value == math.inf
    assert ratio.verdict == "more"
    nothing = measured_in(tmp_path / "none", lambda arm, block: drawn_run(block, per_s=0))
    assert nothing.ratio(nothing.arms["other"], nothing.arms["base"]).blocks == 0
    assert "are 0" in nothing.ratio(nothing.arms["other"], nothing.arms["base"]).dropped[0]


@given(st.lists(st.floats(0.01, 100), min_size=FEWEST_BLOCKS, max_size=20))
def test_the_interval_holds_the_estimate_and_lies_within_the_blocks(values):
    found = median_of_blocks(values)
    assert min(values) <= found.low <= found.value <= found.high <= max(values)


@given(st.lists(st.floats(0.01, 100), max_size=FEWEST_BLOCKS - 1))
def test_too_few_blocks_have_no_interval(values):
    found = median_of_blocks(values)
    assert not found.known
    assert "[" not in found.text()


def test_nan_is_refused():
    with pytest.raises(ValueError, match="drop the block"):
        median_of_blocks([1.0, math.nan])


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(7)
    draws = rng.normal(1.0, 0.05, (300, 10))
    held = sum(median_of_blocks(draw).holds(1.0) for draw in draws)
    assert 0.92 <= held / len(draws) <= 0.99


def test_abort_rates_and_percentiles_of_an_arm_have_intervals_over_blocks(tmp_path):
    """Planted: every run has a rate and a speed of its own, which no run alone can know."""
    rates = [0.02, 0.05, 0.03, 0.08, 0.04, 0.06, 0.05, 0.03]

    def make(arm, block):
        return drawn_run([block, 7], abort=rates[block], work_us=100.0 * (block + 1))

    found = measured_in(tmp_path, make, blocks=len(rates))
    arm = found.arms["base"]
    refused, every = arm.refused(), arm.tally()
    assert refused.low < 0.045 < refused.high
    assert refused.high - refused.low > 0.01
    assert every.abort_rate[1] == pytest.approx(0.045, abs=0.01)
    assert np.isnan([every.abort_rate[0], every.abort_rate[2]]).all()  # several runs: over blocks
    low, rate, high = arm.cells[0].counted.roles["writer"].abort_rate
    assert low < rate < high < refused.high  # the run's own interval knows of no other run
    assert arm.refused(first=True).blocks == len(rates)
    p50 = arm.percentiles()[0]
    own = [cell.counted.roles["writer"].percentiles("whole")[0] for cell in arm.usable]
    assert min(own) < p50[0] < p50[1] < p50[2] < max(own)
    assert arm.percentiles()[-1, 1] == max(
        cell.counted.roles["writer"].percentiles("whole")[-1] for cell in arm.usable
    )
