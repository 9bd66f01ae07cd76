"""Facts of load: what was planted in made-up runs is found, and is not found where it is not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.counting import count, gather
from analysis.report.facts import CONTROL, MODE_ALONE, STUDIED
from analysis.report.load_facts import (
    Split,
    cache_rows,
    fairness_rows,
    offered_rows,
    plain_rows,
    splits,
)
from analysis.report.measurements import BRANCH, CONCURRENT, LIBSQL
from analysis.synthetic import attempts, drawn_run, edit, made_experiment, made_run, made_worker
from analysis.synthetic import open_loop as loop
from workloads.experiments import read_experiment
from workloads.records import CONFLICT, STALE, UPGRADE, Run

Make = Callable[[str, int], Run]
WORK = {"think_us": 200, "mix": "read-modify-write=100"}


def measured(folder: Path, arms: dict[str, Any], make: Make, blocks: int = 1, name: str = "made"):  # type: ignore[no-untyped-def]
    every = {"scenario": "register", "params": WORK, "writers": 4}
    there = {arm: plan | every for arm, plan in arms.items()}
    made_experiment(folder / name, there, make, name=name, blocks=blocks)
    return [gather(read_experiment(folder / name))]


# --- fairness ---------------------------------------------------------------------------------


def of_seconds(seconds: float, per_s: Any) -> Make:
    return lambda arm, block: drawn_run(
        block, per_s=per_s, seconds=seconds, plan={"duration_s": seconds, "params": WORK}
    )


def test_one_writer_that_has_nearly_everything_is_seen_in_a_long_window(tmp_path):
    there = measured(tmp_path, {"now": LIBSQL}, of_seconds(20.0, [97.0, 1.0, 1.0, 1.0]))
    (row,) = fairness_rows(there)
    assert row.fairness.value == pytest.approx(0.266, abs=0.01)
    assert row.worst_share.value == pytest.approx(0.01, abs=0.002)
    assert row.seconds == pytest.approx(20, abs=0.5)
    assert not row.cut


def test_even_writers_are_found_even(tmp_path):
    (row,) = fairness_rows(measured(tmp_path, {"now": LIBSQL}, of_seconds(20.0, 100.0)))
    assert row.fairness.value > 0.99


def test_an_aa_twin_is_no_row_of_its_own(tmp_path):
    there = measured(tmp_path, {"now": LIBSQL, "now (again)": LIBSQL}, of_seconds(20.0, 100.0))
    assert [(one.name, again.name) for one, again in there[0].twins] == [("now", "now (again)")]
    assert [row.arm.name for row in fairness_rows(there)] == ["now"]


def test_nothing_is_said_of_fairness_from_windows_in_which_nobody_could_be_refused(tmp_path):
    there = measured(tmp_path, {"now": LIBSQL}, of_seconds(0.6, [9700.0, 10.0, 10.0, 10.0]))
    assert fairness_rows(there) == ()


def test_whoever_waits_to_the_end_is_in_the_longest_wait_and_in_the_time_in_begin(tmp_path):
    """One writer commits all the time, the other waits in its first BEGIN for the whole run."""

    def make(arm: str, block: int) -> Run:
        busy = [{"start": i * 10_000, "end": i * 10_000 + 9_000} for i in range(2000)]
        waits = {"start": 1, "begun": None, "worked": None, "end": None, "outcome": 0}
        workers = [made_worker(0, attempts(*busy)), made_worker(1, attempts(waits))]
        return made_run(workers, seconds=20.0, plan={"duration_s": 20.0})

    (row,) = fairness_rows(measured(tmp_path, {"now": LIBSQL}, make))
    assert row.longest_ns == pytest.approx(20e9, rel=0.01)
    assert row.cut
    assert row.open_at_end == 1
    assert row.in_begin == pytest.approx(0.5, abs=0.01)
    assert row.fairness.value == 0.5


# --- the open loop ----------------------------------------------------------------------------


def test_an_arm_that_cannot_keep_up_with_its_arrivals_is_told_from_one_that_can(tmp_path):
    def make(arm: str, block: int) -> Run:
        serves = 430 if arm == "now" else 60_000
        return loop(1000, serves, seconds=2.0, seed=block)

    arms = {name: LIBSQL | {"rate": 1000.0} for name in ("now", "new")}
    slow, fast = offered_rows(measured(tmp_path, arms, make, 3), 2000.0)
    assert (slow.arm.name, fast.arm.name) == ("now", "new")
    assert slow.share == fast.share == 0.5
    assert slow.served.value == pytest.approx(0.43, abs=0.03)
    assert fast.served.value > 0.99
    assert (slow.met, fast.met) == (False, True)
    assert slow.unserved > 0.5 * slow.due
    # Percentiles are over all who were due: most were never served, and the least that is certain
    # of their wait stands beside it.
    assert np.isinf(slow.percentiles[2, 1])
    assert fast.percentiles[2, 1] < 10e6
    assert slow.longest_ns > 0.5e9 > fast.longest_ns
    assert fast.refused.value == 0


def test_a_closed_loop_is_no_offered_load(tmp_path):
    assert offered_rows(measured(tmp_path, {"now": LIBSQL}, of_seconds(1.0, 100.0)), 1.0) == ()


# --- plain BEGIN ------------------------------------------------------------------------------


def upgrades(kind: int, each: int = 5) -> Make:
    """Of the deferred arm's first tries every `each`-th is refused, after 60 us."""

    def make(arm: str, block: int) -> Run:
        rows: list[dict[str, Any]] = []
        at = 0
        for txn in range(400):
            if arm == "plain" and txn % each == 0:
                refused = {"outcome": CONFLICT, "conflict": kind, "phase": 2, "message": 1}
                rows.append({"txn": txn, "start": at, "end": at + 60} | refused)
                at += 100
            again = 2 if arm == "plain" and txn % each == 0 else 1
            rows.append({"txn": txn, "start": at, "end": at + 250, "attempt": again})
            at += 300
        begin = {"plain": "deferred"}.get(arm, "immediate")
        plan = {"params": WORK, "writers": 1}
        workers = [made_worker(0, attempts(*rows), begin=begin)]
        return made_run(workers, seconds=0.2, plan=plan)

    return make


PLAIN = {"plain": LIBSQL | {"begin": "deferred"}, "now": LIBSQL}


def test_a_refused_upgrade_is_counted_among_first_tries_with_the_time_it_waited(tmp_path):
    (row,) = plain_rows(measured(tmp_path, PLAIN, upgrades(UPGRADE), 3))
    assert (row.pair.candidate.begin, row.pair.baseline.begin) == ("deferred", "immediate")
    assert row.refused.value == pytest.approx(0.2, abs=0.01)
    assert row.median_ns <= 60_000
    assert row.longest_ns <= 60_000 < row.timeout_ns == 2e9


def test_a_refusal_of_another_kind_is_no_upgrade(tmp_path):
    (row,) = plain_rows(measured(tmp_path, PLAIN, upgrades(STALE), 3))
    assert row.refused.value == 0
    assert np.isnan(row.median_ns)


def test_first_tries_are_counted_apart_from_retries():
    made = upgrades(UPGRADE)("plain", 0)
    tally = count(made, made.window_ns).roles["writer"]
    assert tally.first_finished == tally.committed
    assert tally.first_refused() == pytest.approx(0.2, abs=0.01)
    assert tally.first_refused() > tally.abort_rate[1]


# --- the library and the mode -----------------------------------------------------------------


def three(cpu_s: float, used: float) -> Make:
    """The branch takes half of libSQL's CPU time a commit; its mode takes nothing more."""

    def make(arm: str, block: int) -> Run:
        engine, begin = SYSTEMS[arm]["write_engine"], SYSTEMS[arm]["begin"]
        branch = engine == "sqlite-concurrent"
        rng = np.random.default_rng([block, len(arm)])
        per_s = (2000.0 if branch else 1000.0) * rng.normal(1, 0.01)
        run = drawn_run(block, per_s=per_s, engine=engine, begin=begin, plan={"params": WORK})
        foreign = {"total_cpu_s": 2.0, "own_cpu_s": 2.0 * used}
        for worker in run.workers:
            worker.entry.cpu_s = cpu_s / 4
        edit(run.manifest, foreign=foreign)
        return run

    return make


SYSTEMS = {"libsql": LIBSQL, "alone": BRANCH, "new": CONCURRENT}


def split(tmp_path: Path, used: float) -> Split:
    (found,) = splits(measured(tmp_path, SYSTEMS, three(2.0, used), 7), STUDIED, CONTROL)
    return found


def test_the_librarys_factor_is_told_apart_from_the_modes(tmp_path):
    found = split(tmp_path, 0.5)
    assert found.mode.ratio().value == pytest.approx(1.0, abs=0.02)
    assert found.library.ratio().value == pytest.approx(2.0, rel=0.02)
    assert found.both.ratio().value == pytest.approx(2.0, rel=0.02)
    assert not found.both.cpu_bound


def test_where_both_fill_the_cores_the_cpu_time_a_commit_says_the_same(tmp_path):
    found = split(tmp_path, 0.97)
    assert found.both.cpu_bound
    assert found.both.cpu.value == pytest.approx(0.5, rel=0.02)


def test_without_its_librarys_other_mode_nothing_is_split(tmp_path):
    arms = {name: SYSTEMS[name] for name in ("libsql", "new")}
    assert splits(measured(tmp_path, arms, three(2.0, 0.5), 2), STUDIED, CONTROL) == ()


# --- where the data are -----------------------------------------------------------------------


def places(arms: dict[str, Any], cached: float) -> Make:
    def make(arm: str, block: int) -> Run:
        of, per_s = arms[arm], 500.0 if arms[arm].get("cache") == "cold" else 1000.0
        more = {key: of[key] for key in ("cache", "cache_size") if key in of}
        plan = {"params": WORK} | more
        engine, begin = of["write_engine"], of["begin"]
        run = drawn_run(block, per_s=per_s, engine=engine, begin=begin, plan=plan)
        tree = {"root": 2, "leaves": 1429, "interior": 5, "cells": 50_000}
        edit(run.manifest, layout={"loaded": {"table register": tree}})
        return edit_cached(run, cached) if more.get("cache") == "cold" else run

    return make


def edit_cached(run: Run, cached: float) -> Run:
    run.manifest.cached = cached
    return run


@pytest.mark.parametrize("cached", [0.0, 1.0])
def test_the_mode_alone_is_told_by_where_the_data_are_and_whether_a_cold_run_was(tmp_path, cached):
    how: dict[str, dict[str, Any]] = {
        "fits": {},
        "cold": {"cache": "cold"},
        "larger": {"cache_size": 100},
    }
    arms = {
        f"{name} {place}": system | more
        for place, more in how.items()
        for name, system in (("alone", BRANCH), ("new", CONCURRENT))
    }
    rows = cache_rows(measured(tmp_path, arms, places(arms, cached), 2), STUDIED, MODE_ALONE)
    assert {row.place for row in rows} == {"fits", "cold", "larger"}
    for row in rows:
        assert bool(row.warm) is (row.place == "cold" and cached > 0)
        slow = row.place == "cold"
        assert row.pair.baseline.estimate().value == pytest.approx(500 if slow else 1000, rel=0.05)


def test_an_experiment_whose_arms_all_have_one_cache_tells_nothing_of_it(tmp_path):
    there = measured(tmp_path, SYSTEMS, three(2.0, 0.5), 2)
    assert cache_rows(there, STUDIED, MODE_ALONE) == ()
