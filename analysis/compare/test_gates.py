"""Gates of a build: none fails by chance, and none lets through what crashed or broke."""

import math
from dataclasses import replace

import numpy as np
import pytest

from analysis.compare.gates import ask, parse_condition
from analysis.compare.test_versus import ARMS, command, found, run_of
from analysis.statistics import ratio_over_blocks
from analysis.synthetic import edit, made_experiment
from workloads.errors import PlanError


def test_many_gates_of_one_call_fail_by_chance_no_more_often_than_one(tmp_path):
    """Planted: twelve arms exactly at the limit, 60 calls; and one beyond it, which must fail."""
    folder = made_experiment(tmp_path / "x", ARMS, run_of, blocks=6, baseline="base")
    (like,) = found(folder, "base", "same")
    limit = parse_condition("throughput < 0.95")
    rng = np.random.default_rng(412)

    def made(truth):
        ratios = truth * np.exp(rng.normal(0, 0.02, 8))
        ratio = ratio_over_blocks(dict(enumerate(ratios)), dict.fromkeys(range(8), 1.0),
                                  candidate="b", baseline="a")  # fmt: skip
        return replace(like, ratio=ratio, band=math.nan)

    calls = [[made(0.95) for _ in range(12)] + [made(0.85)] for _ in range(60)]
    alone = together = 0
    for call in calls:
        *gates, planted = ask([(limit, one) for one in call])
        assert planted.outcome == "failed"
        assert planted.p_family < 0.05
        together += any(gate.outcome == "failed" for gate in gates)
        alone += any(ask([(limit, one)])[0].outcome == "failed" for one in call[:-1])
        for gate in gates:
            held = gate.found.ratio.high < 0.95 and gate.outcome != "failed"
            assert held == ("in a family of 13 gates" in gate.sentence)
    assert alone > 10
    assert together <= 4


def test_a_b_that_crashes_fails_the_gate_however_fast_it_is_where_it_does_not(
    tmp_path, monkeypatch, capsys
):
    """The planted: B dies in 2 of 8 blocks, and the 6 that are left are enough for an interval."""

    def make(arm, block):
        if block == 7:
            return "worker 1 died: signal 11"  # both: nothing that B did
        return "worker 0 died: signal 11" if (arm, block) in crashes else run_of(arm, block)

    def outcome(name):
        folder = made_experiment(tmp_path / name, ARMS, make, blocks=9)
        argv = ("--sweep", folder, "base", "same", "--fail-if", "throughput < 0.5")
        return command(monkeypatch, capsys, *argv)[:2]

    crashes = {("same", 2), ("same", 5)}
    status, out = outcome("b")
    assert status == 1
    assert "throughput < 0.5: passed" in out
    assert "BROKEN  same, block 2: failed where base did not: worker 0 died: signal 11" in out
    assert out.count("BROKEN") == 2
    crashes = {("base", 2), ("base", 5)}
    status, out = outcome("a")
    assert (status, out.count("BROKEN")) == (0, 0)


def test_a_check_of_b_that_did_not_hold_fails_the_gate(tmp_path, monkeypatch, capsys):
    def make(arm, block):
        made = run_of(arm, block)
        if (arm, block) == ("same", 2):
            broken = {"check": "total", "ok": False, "sentence": "99 for 100", "evidence": {}}
            edit(made.manifest, ok=False, findings=[broken])
        return made

    folder = made_experiment(tmp_path / "x", ARMS, make, blocks=8)
    argv = ("--sweep", folder, "base", "same", "--fail-if", "throughput < 0.5")
    status, out, _ = command(monkeypatch, capsys, *argv)
    assert status == 1
    assert "BROKEN  same, b02-same: total: 99 for 100" in out


@pytest.mark.parametrize(
    "text", ["throughput", "speed < 1", "throughput = 1", "throughput < x", "throughput < 0", ""]
)
def test_a_condition_that_is_none_is_said(text):
    with pytest.raises(PlanError, match="--fail-if"):
        parse_condition(text)
