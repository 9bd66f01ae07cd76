"""An advice claims what its runs show and no more: on runs whose truth is planted."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.report import (
    AdviceFacts,
    advice_rows,
    asked_lines,
    broken_lines,
    count_advice,
    doubtful_lines,
    in_short,
    read_note,
    ways_table,
    write_note,
)
from analysis.report.advice import BROKEN, LESS, MISSING, MORE, NONE, SAFE, UNKNOWN, UNSAFE
from analysis.report.advice_asked import AdviseNote, LeftOut, Refused, ScriptNote
from analysis.synthetic import drawn_run, made_experiment
from workloads.errors import RunError
from workloads.experiments import read_experiment
from workloads.records import FindingEntry

SCRIPTS = [
    ScriptNote("pay", "writer", True, 1, "reads, then writes", ["a"], ["a"], "again", "line 3 …"),
    ScriptNote("put", "writer", True, 1, "writes first", [], ["b"], "refused", "line 2 …"),
    ScriptNote("see", "reader", True, 1, "only reads", ["a"], [], "same", "it writes nothing"),
]
SPEEDS = {
    "libsql immediate": 300.0,
    "libsql deferred": 300.0,
    "branch immediate": 300.0,
    "branch concurrent": 480.0,
    "broken concurrent": 900.0,
}
BASE = "libsql immediate"


def made(
    folder: Path,
    speeds: Mapping[str, float] = SPEEDS,
    *,
    blocks: int = 6,
    noise: float = 0.01,
    again: float = 1.0,
    failing: Collection[str] = (),
) -> AdviceFacts:
    arms: dict[str, dict[str, Any]] = {}
    points: dict[str, dict[str, Any]] = {}
    for arm in (*speeds, f"{BASE} again"):
        engine, mode = arm.split(" ")[:2]
        arms[arm] = {"scenario": "register", "write_engine": engine, "begin": mode, "writers": 2}
        arms[arm] |= {"duration_s": 1.0, "params": {}}
        points[arm] = {"system": f"{engine} {mode}", "writers": 2, "rate": 0.0}

    def make(arm: str, block: int) -> Any:
        engine, mode = arm.split(" ")[:2]
        rng = np.random.default_rng([block, len(arm)])
        speed = speeds[f"{engine} {mode}"] * rng.normal(1, noise)
        speed *= again if arm.endswith("again") else 1.0
        run = drawn_run([block, len(arm)], per_s=speed, writers=2, engine=engine, begin=mode,
                        abort=0.2 if mode == "concurrent" else 0.0)  # fmt: skip
        if mode in failing:
            return "4,000 of 4,000 attempts failed"
        if engine == "broken" and block == 1:
            finding = FindingEntry(check="check.sql, line 1", ok=False, sentence="1 row")
            run.manifest.findings = [finding]
            run.manifest.ok = False
        return run

    made_experiment(folder, arms, make, name="advise", blocks=blocks, baseline=BASE)
    path = folder / "experiment.json"
    note = json.loads(path.read_text()) | {"points": points}
    note["axes"] = {"system": [p["system"] for p in points.values()][:-1], "writers": [2]}
    note["axes"] |= {"rate": [0.0]}
    path.write_text(json.dumps(note))
    refused = [Refused("libsql", "BEGIN CONCURRENT", 'near "CONCURRENT": syntax error')]
    out = [LeftOut("postgres", "a server")]
    write_note(folder, AdviseNote("libsql", refused, out, 1.0, SCRIPTS))
    return count_advice(read_experiment(folder), read_note(folder))


def planted(folder: Path) -> None:
    """A small finished advice, one of whose ways breaks a check."""
    made(folder, {BASE: 300.0, "broken concurrent": 900.0}, blocks=2)


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> AdviceFacts:
    return made(tmp_path_factory.mktemp("advice"))


def verdicts(facts: AdviceFacts) -> dict[str, str]:
    return {row.key: row.verdict for row in advice_rows(facts)}


def test_what_is_faster_is_claimed_with_its_interval_and_what_is_alike_is_not(
    facts: AdviceFacts,
) -> None:
    found = verdicts(facts)
    assert found["mode:branch BEGIN CONCURRENT:2"] == MORE
    assert found["plain:2"] == NONE
    (row,) = [row for row in advice_rows(facts) if row.key == "mode:branch BEGIN CONCURRENT:2"]
    assert row.why.startswith("It commits 1.5") and "the mode alone 1.5" in row.why
    assert "25 % of first tries refused" in row.why


def test_a_way_whose_check_broke_is_told_first_and_never_advised(facts: AdviceFacts) -> None:
    (line,) = broken_lines(facts)
    assert line.startswith("BROKEN  broken concurrent: check.sql, line 1, in 1 of 6 runs, the fir")
    assert verdicts(facts)["mode:broken BEGIN CONCURRENT:2"] == BROKEN
    said = in_short(facts)
    assert "branch BEGIN CONCURRENT commits 1.5" in said and "broken" not in said
    (row,) = [row for row in ways_table(facts, facts.main).rows if row[0].startswith("broken")]
    assert "checks broke" in row


def test_the_tail_is_a_percentile_that_each_run_has_transactions_enough_for(
    facts: AdviceFacts, tmp_path: Path
) -> None:
    assert facts.tail(facts.main) == "p90" and "p90" in ways_table(facts, facts.main).head
    many = made(tmp_path, {BASE: 1500.0}, blocks=1)
    assert many.tail(many.main) == "p99"


def test_each_script_has_its_mode_and_is_told_whether_it_may_be_run_twice(
    facts: AdviceFacts,
) -> None:
    rows = {row.key: row for row in advice_rows(facts)}
    assert rows["script:pay"].do.startswith("BEGIN IMMEDIATE, with a busy timeout")
    assert "branch BEGIN CONCURRENT commits more" in rows["script:pay"].do
    assert "plain BEGIN does the same" in rows["script:put"].do
    assert rows["script:see"].do.startswith("Plain BEGIN")
    assert rows["twice:pay"].verdict == UNSAFE and rows["twice:put"].verdict == SAFE
    assert "twice:see" not in rows


def test_refusals_are_in_the_engines_words(facts: AdviceFacts) -> None:
    assert asked_lines(facts) == [
        'BEGIN CONCURRENT refused by libsql: near "CONCURRENT": syntax error',
        "not measured: postgres: a server",
    ]


def test_a_way_whose_runs_failed_is_told_so_and_nothing_is_held_against_it(tmp_path: Path) -> None:
    ways = {BASE: 300.0, "libsql deferred": 300.0, "branch concurrent": 900.0}
    none = made(tmp_path / "none", ways, failing=("immediate", "deferred", "concurrent"))
    rows = {row.key: row for row in advice_rows(none)}
    for key, verdict in verdicts(none).items():
        if key.partition(":")[0] in ("script", "plain", "mode"):
            assert verdict in (MISSING, NONE, SAFE) and "checks broke" not in rows[key].do, key
    assert rows["plain:2"].do == "Not plain BEGIN: its runs failed"
    assert rows["plain:2"].why == "4,000 of 4,000 attempts failed"
    assert "Not libsql BEGIN IMMEDIATE: its runs failed" in {row.do for row in rows.values()}
    base = made(tmp_path / "base", ways, failing=("immediate",))
    for row in advice_rows(base):
        if row.key.partition(":")[0] in ("plain", "mode"):
            assert row.do == "Cannot be told: of libsql BEGIN IMMEDIATE its runs failed"


def test_too_few_blocks_claim_nothing(tmp_path: Path) -> None:
    few = made(tmp_path, {BASE: 300.0, "branch concurrent": 900.0}, blocks=3)
    assert verdicts(few)["mode:branch BEGIN CONCURRENT:2"] == UNKNOWN
    assert "too few blocks to choose by speed" in in_short(few)


def test_ways_that_cannot_be_told_apart_are_told_so(tmp_path: Path) -> None:
    same = made(tmp_path / "same", {BASE: 300.0, "branch concurrent": 302.0}, noise=0.1)
    assert verdicts(same)["mode:branch BEGIN CONCURRENT:2"] == NONE
    assert in_short(same).endswith("no other way here is claimed to commit more.")
    slow = made(tmp_path / "slow", {BASE: 300.0, "branch concurrent": 150.0})
    assert verdicts(slow)["mode:branch BEGIN CONCURRENT:2"] == LESS


def test_a_control_that_differs_from_itself_is_told(facts: AdviceFacts, tmp_path: Path) -> None:
    assert doubtful_lines(facts) == []
    (line,) = doubtful_lines(made(tmp_path, {BASE: 300.0}, again=0.8))
    assert "libsql BEGIN IMMEDIATE, run again, commits 0.79" in line


def test_an_experiment_that_is_no_advices_is_refused(tmp_path: Path) -> None:
    made(tmp_path, {BASE: 300.0}, blocks=1)
    path = tmp_path / "experiment.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"points": {}}))
    with pytest.raises(RunError, match="is no advice's experiment"):
        count_advice(read_experiment(tmp_path), read_note(tmp_path))
