"""Comparisons: a planted slowdown is found, none is seen where there is none, and the rest is said.

The truths are planted into made-up runs; the machine's speed is in none of them.
"""

import json
import math
import re
import sys

import numpy as np
import pytest

from analysis.cli import entry as cli
from analysis.compare.comparison import compare, deviation, judged
from analysis.compare.gates import ask, parse_condition
from analysis.compare.names import pairs_of
from analysis.synthetic import drawn_run, edit, made_experiment, write_folder
from workloads.errors import PlanError, RunError
from workloads.experiments import read_experiment

BASE = {"scenario": "register", "writers": 2}
ARMS = {
    "base": BASE,
    "base again": BASE,
    "slower": BASE | {"begin": "deferred"},
    "same": BASE | {"begin": "exclusive"},
}
SPEED = {"base": 2000.0, "base again": 2000.0, "slower": 1800.0, "same": 2000.0}


def run_of(arm, block, speed=SPEED, noise=0.01, **more):
    """A run as a block of a busy day gives it: the block's own 20 %, and 1 % beside."""
    day = np.random.default_rng([412, block]).uniform(0.8, 1.2)
    own = np.random.default_rng([block, *arm.encode(), 2]).normal(1, noise)
    begin = str(ARMS.get(arm, BASE).get("begin", "immediate"))
    plan = more.pop("plan", {}) | {"seed": 1000 + block}
    made = drawn_run(
        [block, 1], per_s=speed[arm] * day * own, writers=2, begin=begin, plan=plan, **more
    )
    made.manifest.seed = plan["seed"]
    return made


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "sweep"
    return made_experiment(folder, ARMS, run_of, blocks=10, baseline="base")


def found(folder, *arms, measure="throughput", **more):
    names = [f"{folder}:{arm}" for arm in arms] if arms else [str(folder)]
    pairs, _ = pairs_of(names, folder.parent)
    return judged([compare(a, b, measure, **more) for a, b in pairs])


def test_a_planted_slowdown_of_ten_per_cent_is_claimed(sweep):
    (one,) = found(sweep, "base", "slower")
    assert one.verdict == "claimed"
    assert one.ratio.low < 0.9 < one.ratio.high < 0.95
    assert set(one.variables) == {"begin"}
    assert re.match(
        r"slower commits 0\.\d+ \[0\.\d+, 0\.\d+\] times as much as base", one.sentence()
    )


def test_the_same_twice_is_an_a_a_control_and_shows_none(sweep):
    (one,) = found(sweep, "base", "base again")
    assert one.control
    assert one.verdict == "no difference seen"
    assert one.sentence().startswith("A/A: both ask for the same")


def test_an_arm_as_fast_as_the_other_shows_no_difference(sweep):
    (one,) = found(sweep, "base", "same")
    assert one.verdict in ("no difference seen", "within the A/A band")


def test_a_sweep_alone_is_held_against_its_baseline_without_its_control(sweep):
    all_of_them = found(sweep)
    assert [(one.a, one.b) for one in all_of_them] == [("base", "slower"), ("base", "same")]
    assert [one.family for one in all_of_them] == [2, 2]
    for one in all_of_them:
        assert one.p_holm == one.p_family >= one.p
        assert (one.p <= 0.05) == (not one.ratio.holds(1.0))


def test_an_effect_within_the_a_a_band_is_not_claimed(tmp_path):
    """The control scatters to one side: the machine treats the same differently by 15 %."""
    speed = SPEED | {"base again": 2300.0}
    folder = made_experiment(
        tmp_path / "x", ARMS, lambda a, b: run_of(a, b, speed), blocks=8, baseline="base"
    )
    (one,) = found(folder, "base", "slower")
    assert 0.13 < one.band < 0.2
    assert one.verdict == "within the A/A band"
    assert one.sentence().startswith("Not claimed: within the A/A band of ±")
    (control,) = found(folder, "base", "base again")
    assert control.verdict == "A/A control differs"
    assert "Do not trust differences of that size" in control.sentence()


def test_without_a_control_there_is_no_band(tmp_path):
    arms = {arm: ARMS[arm] for arm in ("base", "slower")}
    (one,) = found(made_experiment(tmp_path / "x", arms, run_of, blocks=8), "base", "slower")
    assert math.isnan(one.band)
    assert one.verdict == "claimed"


@pytest.mark.parametrize(("per_s", "verdicts"), [(1500.0, {"claimed"}), (None, set())])
def test_few_blocks_can_claim_in_a_large_family(tmp_path, per_s, verdicts):
    """Holm of a test by ranks or signs of 6 blocks could not in a family of 5: it would take 8."""
    arms = {f"slow {n}": BASE | {"begin": "deferred", "busy_timeout_ms": n} for n in range(5)}
    speed = SPEED | dict.fromkeys(arms, per_s or SPEED["base"])
    folder = made_experiment(
        tmp_path / "x",
        {"base": BASE} | arms,
        lambda a, b: run_of(
            a, b, speed, plan={"busy_timeout_ms": int(a[-1])} if a != "base" else {}
        ),
        blocks=6,
        baseline="base",
    )
    many = found(folder)
    assert {one.verdict for one in many} & {"claimed"} == verdicts
    (alone,) = found(folder, "base", "slow 0")
    assert {alone.verdict} & {"claimed"} == verdicts


def test_too_few_blocks_for_an_interval_are_undecided_and_no_member_of_the_family(tmp_path):
    folder = made_experiment(tmp_path / "x", ARMS, run_of, blocks=3)
    (one,) = found(folder, "base", "slower")
    assert one.verdict == "cannot be decided"
    assert "3 blocks give no 95 % interval, 6 would" in one.sentence()


def test_blocks_that_are_unlike_contaminated_or_oversubscribed_are_left_out_and_said(tmp_path):
    def make(arm, block):
        made = run_of(arm, block)
        machine = edit(made.manifest, machine={"id": "a" * 12}).machine
        if block == 1 and arm == "slower":
            machine.kernel = "Linux 9"
        if block == 2 and arm == "slower":
            machine.id = "b" * 12
        if block == 3:
            machine.id = "b" * 12  # both arms: the block may be compared
        if block == 4 and arm == "base":
            edit(made.manifest, conduct={"way": "sweep", "jobs": 3, "oversubscribed": True})
        if block == 5 and arm == "base":
            edit(made.manifest, foreign={"cpu_share": 0.4})
        return made if (arm, block) != ("slower", 6) else "worker 0 died: signal 9"

    (one,) = found(made_experiment(tmp_path / "x", ARMS, make, blocks=12), "base", "slower")
    assert sorted(one.values) == [0, 3, 7, 8, 9, 10, 11]
    dropped = "\n".join(one.ratio.dropped)
    for part in (
        "block 1: not alike in kernel (Linux 6.1 against Linux 9)",
        "block 2: not alike in machine",
        "block 4: base: made beside more work than the machine has CPUs for",
        "block 5: base: other programs used 40 %",
        "block 6: slower: worker 0 died",
    ):
        assert part in dropped
    assert one.verdict == "claimed"


@pytest.mark.parametrize(
    ("measure", "more"),
    [("abort-rate", {"abort": 0.2}), ("p50", {"work_us": 400.0}), ("p99", {"work_us": 400.0})],
)
def test_other_measures_are_compared_alike(tmp_path, measure, more):
    def make(arm, block):
        return run_of(arm, block, **({"abort": 0.05} | (more if arm == "slower" else {})))

    folder = made_experiment(tmp_path / "x", ARMS, make, blocks=8)
    (one,) = found(folder, "base", "slower", measure=measure)
    assert one.verdict == "claimed"
    assert one.ratio.low > 1.5
    assert one.sentence().startswith(f"The {measure.replace('-', ' ')} of slower is")


def test_nobody_refused_on_either_side_is_no_difference_in_the_abort_rate(sweep):
    (one,) = found(sweep, "base", "slower", measure="abort-rate")
    assert (one.ratio.value, one.verdict) == (1.0, "no difference seen")


def test_a_control_that_never_aborts_is_a_control_of_the_abort_rate_too(tmp_path):
    def make(arm, block):
        return run_of(arm, block, abort=0.2 if arm == "slower" else 0.0)

    folder = made_experiment(tmp_path / "x", ARMS, make, blocks=6, baseline="base")
    (one,) = found(folder, "base", "slower", measure="abort-rate")
    assert one.band == 0


def test_a_percentile_without_enough_samples_drops_the_block(tmp_path):
    speed = SPEED | {"slower": 300.0}
    folder = made_experiment(tmp_path / "x", ARMS, lambda a, b: run_of(a, b, speed), blocks=6)
    (one,) = found(folder, "base", "slower", measure="p99")
    assert one.ratio.blocks == 0
    assert "slower: too few transactions for p99" in one.ratio.dropped[0]
    assert one.sentence().startswith("Cannot be decided: no block has both")


# --- two folders, two runs --------------------------------------------------------------------


def second(tmp_path, slower=1.0, **machine):
    def make(arm, block):
        made = run_of(arm, block, {name: per_s * slower for name, per_s in SPEED.items()})
        edit(made.manifest, machine=machine)
        return made

    return made_experiment(tmp_path / "later", ARMS, make, blocks=10, baseline="base")


def test_two_sweeps_are_compared_arm_by_arm_and_what_differs_must_be_declared(sweep, tmp_path):
    later = second(tmp_path, 0.9, cwkit_commit="fedcba")
    pairs, notes = pairs_of([str(sweep), str(later)], tmp_path)
    assert [b.label for _, b in pairs] == [f"later:{arm}" for arm in ARMS]
    assert notes == []
    refused = compare(*pairs[0], "throughput")
    assert "they differ in commit (none against fedcba)" in refused.refused
    assert "--vary commit" in refused.refused
    made = judged([compare(a, b, "throughput", "", frozenset({"commit"})) for a, b in pairs])
    assert {one.verdict for one in made} == {"claimed"}
    assert {one.family for one in made} == {4}
    assert any("no A/A control covers the time between" in note for note in made[0].notes)


def test_runs_of_two_machines_are_refused_whatever_is_declared(sweep, tmp_path):
    later = second(tmp_path, cpu="Another CPU")
    pairs, _ = pairs_of([str(sweep), str(later)], tmp_path)
    one = compare(*pairs[0], "throughput", "", frozenset({"machine", "cpu"}))
    assert "they differ in machine" in one.refused
    assert "never compared" in one.refused


def test_two_single_runs_have_an_interval_within_them_and_no_verdict(tmp_path):
    a = write_folder(run_of("base", 0), tmp_path / "a")
    other = run_of("base", 0, SPEED | {"base": 1500.0}, name="other", abort=0.2)
    b = write_folder(other, tmp_path / "b")
    pairs, _ = pairs_of([str(a), str(b)], tmp_path)
    (one,) = judged([compare(*pairs[0], "throughput")])
    assert one.kind == "runs"
    assert one.ratio.low < 0.75 < one.ratio.high
    assert one.verdict == "cannot be decided"
    assert "what changes from run to run is not in it" in one.sentence()
    for measure in ("p50", "p99", "abort-rate"):
        (each,) = judged([compare(*pairs[0], measure)])
        assert each.verdict == "cannot be decided"
    (cpu,) = judged([compare(*pairs[0], "cpu")])
    assert math.isnan(cpu.ratio.low)


def test_names_lead_to_arms_runs_and_sweeps(sweep):
    runs = sweep.parent
    for name in (f"{sweep}/slower", "sweep:slower", "sweep/slower", "swe:slower"):
        (pair,), _ = pairs_of(["sweep:base", name], runs)
        assert pair[1].arm is not None and pair[1].arm.name == "slower"
    (pair,), _ = pairs_of(["sweep/b00-base", "sweep/b00-slower"], runs)
    assert pair[0].arm is None


@pytest.mark.parametrize(
    ("names", "error", "message"),
    [
        (["sweep:base", "sweep:slowr"], RunError, "Did you mean 'slower'"),
        (["sweep:base"], PlanError, "with what"),
        (["sweep:base", "sweep"], PlanError, "give two of a kind"),
        (["sweep", "sweep"], PlanError, "sweep is given twice"),
        (
            ["sweep:base", "swe:base", "sweep:slower"],
            PlanError,
            "sweep:base and swe:base are the s",
        ),
        (["nothing", "sweep"], RunError, "There is no run 'nothing'"),
    ],
)
def test_names_that_lead_nowhere_or_do_not_go_together_are_said(sweep, names, error, message):
    with pytest.raises(error, match=message):
        pairs_of(names, sweep.parent)


def test_an_arm_whose_name_holds_the_signs_that_divide_is_found(tmp_path):
    arms = {"a zipfian:0.99": BASE, "b 1/2:x": BASE | {"begin": "deferred"}}
    folder = made_experiment(tmp_path / "x", arms, lambda a, b: drawn_run(b), blocks=1)
    (pair,), _ = pairs_of([f"{folder}:a zipfian:0.99", f"{folder}/b 1/2:x"], tmp_path)
    assert [side.arm.name for side in pair if side.arm] == list(arms)


# --- gates ------------------------------------------------------------------------------------


def test_a_gate_fails_only_where_the_interval_excludes_the_limit(sweep, tmp_path):
    (slower,) = found(sweep, "base", "slower")
    (same,) = found(sweep, "base", "same")
    for text, one, outcome in (
        ("throughput < 0.95", slower, "failed"),
        ("throughput < 0.8", slower, "passed"),
        (f"throughput < {slower.ratio.value:.4f}", slower, "passed"),
        ("throughput < 0.95", same, "passed"),
        ("throughput > 0.5", slower, "failed"),
    ):
        gate = ask([(parse_condition(text), one)])[0]
        assert (gate.outcome, text) == (outcome, text)
    between = f"throughput < {(slower.ratio.value + slower.ratio.high) / 2:.5f}"
    assert "not excluded" in ask([(parse_condition(between), slower)])[0].sentence
    assert ask([(parse_condition(between), slower)], strict=True)[0].outcome == "failed"
    few = made_experiment(tmp_path / "few", ARMS, run_of, blocks=3)
    (one,) = found(few, "base", "slower")
    asked = [(parse_condition("throughput < 0.95"), one)]
    assert ask(asked)[0].outcome == "cannot be decided"
    assert ask(asked, strict=True)[0].outcome == "failed"


def test_all_measures_of_a_call_are_one_family(sweep, monkeypatch, capsys):
    gates = [word for m in ("p50", "p99") for word in ("--fail-if", f"{m} > 9")]
    answer = json.loads(command(monkeypatch, capsys, sweep, "--json", *gates)[1])
    assert len(answer["comparisons"]) == 6
    assert {one["family"] for one in answer["comparisons"]} == {6}
    assert all(one["p_holm"] == one["p_family"] >= one["p"] for one in answer["comparisons"])
    assert any(one["p_family"] > one["p"] for one in answer["comparisons"])
    assert all(gate["p_holm"] < 0.05 for gate in answer["gates"])  # all are far from their limits


def test_deviations_are_the_same_both_ways():
    assert deviation(2) == deviation(0.5) == 1
    assert math.isnan(deviation(math.nan))
    assert deviation(0) == math.inf


# --- the command ------------------------------------------------------------------------------


def command(monkeypatch, capsys, *argv):
    monkeypatch.setattr(sys, "argv", ["cwkit", "compare", *map(str, argv)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    output = capsys.readouterr()
    return ended.value.code or 0, output.out, output.err


def test_the_command_says_it_and_ends_with_the_gates_status(sweep, monkeypatch, capsys):
    arms = ("--sweep", sweep, "base", "slower")
    status, out, _ = command(monkeypatch, capsys, *arms)
    assert status == 0
    assert "Under study: begin immediate → deferred." in out
    assert "slower commits 0." in out
    assert "family of 1" in out
    gate = ("--fail-if", "throughput < 0.95")
    assert command(monkeypatch, capsys, *arms, *gate)[0] == 1
    assert command(monkeypatch, capsys, *arms, "--fail-if", "throughput < 0.5")[0] == 0
    status, out, _ = command(monkeypatch, capsys, sweep, *gate, "--fail-if", "p99 > 1.5")
    assert status == 1
    assert "A is base" in out
    assert out.count("p99 > 1.5: passed") == 2


def test_the_command_refuses_with_one_sentence(sweep, monkeypatch, capsys):
    for argv, part in (
        ((sweep / "b00-base", sweep / "b00-slower"), "--vary begin"),
        ((sweep, "--measure", "speed"), "There are: throughput"),
        ((sweep, "--role", "checkpointer"), "writer, reader"),
        ((sweep, "--role", "reader"), "has no readers"),
        ((sweep, "--vary", "beginn"), "Did you mean 'begin'"),
        ((), "Compare what?"),
    ):
        status, out, err = command(monkeypatch, capsys, *argv)
        assert (status, out) == (2, "")
        assert part in err
        assert err.count("\n") == 1


def test_too_few_blocks_are_status_3(tmp_path, monkeypatch, capsys):
    few = made_experiment(tmp_path / "few", ARMS, run_of, blocks=2)
    argv = ("--sweep", few, "base", "slower", "--fail-if", "throughput < 0.95")
    assert command(monkeypatch, capsys, *argv)[0] == 3
    assert command(monkeypatch, capsys, *argv[:4])[0] == 3  # also where no gate asks
    enough = made_experiment(tmp_path / "enough", ARMS, run_of, blocks=8)
    assert command(monkeypatch, capsys, "--sweep", enough, "base", "slower")[0] == 0


def test_json_is_one_document_with_everything(sweep, monkeypatch, capsys):
    argv = (sweep, "--json", "--fail-if", "throughput < 0.95", "--fail-if", "cpu > 2")
    status, out, _ = command(monkeypatch, capsys, *argv)
    answer = json.loads(out)
    assert status == answer["status"] == 1
    assert len(answer["comparisons"]) == 4  # two arms, two measures
    one = answer["comparisons"][0]
    assert one["under_study"] == {"begin": ["immediate", "deferred"]}
    assert (one["b"], one["blocks"], one["verdict"]) == ("slower", 10, "claimed")
    assert len(one["values"]) == 10
    assert [gate["outcome"] for gate in answer["gates"]] == ["failed", "passed", "passed", "passed"]
    assert "NaN" not in out and "Infinity" not in out
    again = command(monkeypatch, capsys, *argv)[1]
    assert again == out


@pytest.mark.slow
def test_a_planted_slowdown_is_found_on_a_real_engine_and_none_where_there_is_none(tmp_path):
    from pathlib import Path

    from workloads.experiments import Design, run_experiment

    slower = Path(__file__).resolve().parents[2] / "examples" / "engine_slower.py"
    # Work that sleeps: whatever else the machine does, a transaction takes the same time.
    plan = {
        "scenario": "counter", "writers": 1, "params": {"think_us": 1000, "think": "sleep"},
        "duration_s": 0.8, "warmup_s": 0.1, "synchronous": "off",
    }  # fmt: skip
    arms = {
        "sqlite": plan | {"database": "sqlite"},
        "sqlite again": plan | {"database": "sqlite"},
        "slower": plan | {"database": f"{slower}:Slower"},
    }
    folder = tmp_path / "slower"
    run_experiment(
        Design("slower", "Is it found?", arms, blocks=12, seed=4, baseline="sqlite"), folder
    )
    assert read_experiment(folder).complete
    names = [f"{folder}:{arm}" for arm in arms]
    pairs, _ = pairs_of(names, tmp_path)
    control, planted = judged([compare(a, b, "throughput") for a, b in pairs])
    if min(control.ratio.blocks, planted.ratio.blocks) < 10:
        pytest.skip(f"others use this machine: {control.ratio.dropped}")
    # One control in thirty differs by chance; none by as much as was planted.
    assert control.control and control.effect < 0.04, control.sentence()
    assert planted.verdict == "claimed", planted.sentence()
    assert 0.85 < planted.ratio.value < 0.95
