"""MSER-5: planted transients are cut off, and nothing is cut off where there is none."""

from collections import Counter

import numpy as np
import pytest

from analysis.cli.run_summary import summary_lines
from analysis.counting.measured import gather
from analysis.counting.steady import steady_state
from analysis.counting.tally import count
from analysis.statistics import FEWEST_BATCHES, truncation
from analysis.statistics.warmup import drifts, mser
from analysis.synthetic import drawn_run, made_experiment, made_run, made_worker, rated
from workloads.experiments import read_experiment
from workloads.records import ATTEMPT

N, PLANNED = 100, 9  # a run of 11 s with a warm-up of 1 s


def noise(rng, n=N):
    return rng.poisson(100, n).astype(float)


def autocorrelated(rng, n=N, phi=0.5):
    steps = rng.normal(0, 10 * np.sqrt(1 - phi**2), n)
    out = np.zeros(n)
    for i in range(1, n):
        out[i] = phi * out[i - 1] + steps[i]
    return out + 100


def stalls(rng, n=N):
    """A steady rate with a checkpoint now and then: three in a hundred batches."""
    return np.where(rng.random(n) < 0.03, 30, 100) + rng.normal(0, 2, n)


def share(made, planned, tries=400):
    """Share of made-up series of which something beyond the plan was dropped."""
    rng = np.random.default_rng(412)
    return np.mean([truncation(made(rng), planned)[1] > planned for _ in range(tries)])


@pytest.mark.parametrize("made", [noise, autocorrelated, stalls])
def test_noise_alone_is_seldom_truncated(made):
    assert share(made, PLANNED) <= 0.05


def test_without_a_planned_warm_up_noise_loses_next_to_nothing():
    rng = np.random.default_rng(412)
    dropped = [truncation(noise(rng))[1] for _ in range(400)]
    assert np.mean(dropped) < 0.01 * N


def test_mser_alone_would_cut_the_stalls_out_of_the_measurement():
    rng = np.random.default_rng(412)
    assert np.mean([mser(stalls(rng)) > PLANNED for _ in range(400)]) > 0.5


def ramp(rng):
    out = noise(rng)
    out[:30] *= np.linspace(0.3, 1, 30)
    return out


def burst(rng):
    """Fast at first, as BEGIN CONCURRENT is while the log is empty."""
    out = noise(rng)
    out[:30] *= 1.4
    return out


@pytest.mark.parametrize(("made", "least", "most"), [(ramp, 15, 35), (burst, 27, 33)])
def test_a_planted_transient_is_cut_off_where_it_ends(made, least, most):
    rng = np.random.default_rng(412)
    found = [truncation(made(rng), PLANNED) for _ in range(100)]
    assert np.mean([state == "steady" for state, _ in found]) >= 0.97  # a drift is seen in 1 of 100
    points = np.array([point for _, point in found])
    assert np.mean((points >= least) & (points <= most)) > 0.9


def test_a_transient_within_the_planned_warm_up_changes_nothing():
    rng = np.random.default_rng(412)
    series = noise(rng)
    series[:PLANNED] *= 3
    assert truncation(series, PLANNED) == ("steady", PLANNED)


@pytest.mark.parametrize("slope", [1.0, -1.0])
def test_a_drift_over_the_whole_run_is_no_steady_state(slope):
    rng = np.random.default_rng(412)
    found = [truncation(noise(rng) + slope * np.arange(N), PLANNED) for _ in range(100)]
    assert np.mean([state == "no steady state" for state, _ in found]) > 0.9
    assert {point for state, point in found if state != "steady"} == {PLANNED}


@pytest.mark.parametrize(("cv", "found"), [(0.1, 0.85), (0.2, 0.55), (0.3, 0.25)])
def test_a_run_that_falls_by_two_fifths_is_no_steady_state_as_far_as_its_noise_lets_see(cv, found):
    rng = np.random.default_rng(412)
    falls = np.linspace(1, 0.6, 30)
    states = [truncation(rng.normal(1, cv, 30) * falls)[0] for _ in range(400)]
    assert np.mean([state == "no steady state" for state in states]) >= found


@pytest.mark.parametrize("n", [24, 30, N])
@pytest.mark.parametrize("phi", [0, 0.3, 0.5])
def test_noise_is_seldom_called_a_drift(n, phi):
    rng = np.random.default_rng(412)
    verdicts = [drifts(100 + 2 * (autocorrelated(rng, n, phi) - 100)) for _ in range(400)]
    assert np.mean(verdicts) <= 0.04


def test_a_drift_too_small_to_matter_is_none():
    assert not drifts(np.linspace(100, 109, 100))
    assert drifts(np.linspace(100, 115, 100))


@pytest.mark.parametrize("period", [4, 10, 25])
def test_a_periodic_series_is_steady(period):
    rng = np.random.default_rng(412)
    wave = 30 * np.sin(np.arange(N) * 2 * np.pi / period)
    found = [truncation(noise(rng) + wave, PLANNED) for _ in range(100)]
    assert np.mean([state == "steady" for state, _ in found]) > 0.95
    assert np.mean([point - PLANNED for _, point in found]) < 0.02 * N


def test_too_few_batches_are_too_short_to_tell():
    assert truncation([9.0] * 5 + [1.0] * (FEWEST_BATCHES - 6), 2) == ("too short to tell", 2)


def test_mser_is_the_formula_of_the_paper():
    rng = np.random.default_rng(412)
    series = rng.normal(size=40)
    series[:6] += 4
    by_hand = [np.var(series[d:]) / len(series[d:]) for d in range(36)]
    assert mser(series) == int(np.argmin(by_hand))


# --- runs -------------------------------------------------------------------------------------


def settles(t):
    return 3000 if t < 0.8 else 1000


def test_a_run_is_counted_from_where_it_is_steady():
    run = rated(settles, 4, warmup_s=0.5)
    counted = count(run)
    assert counted.steady is not None and counted.steady.cut
    assert counted.steady.warmup_s == pytest.approx(0.8, abs=0.05)
    assert counted.roles["writer"].per_s == pytest.approx(1000, rel=0.01)
    assert counted.seconds == pytest.approx(4 - counted.steady.warmup_s)
    # Whoever names the window gets it.
    given = count(run, run.window_ns)
    assert given.steady is None
    assert given.seconds == pytest.approx(3.5)
    assert given.roles["writer"].per_s > 1100


def test_the_plans_warm_up_is_never_shortened():
    steady = steady_state(rated(lambda t: 1000, 4, warmup_s=1.5))
    assert (steady.state, steady.warmup_s, steady.cut) == ("steady", 1.5, False)


@pytest.mark.parametrize(
    ("seconds", "plan", "state"),
    [
        (0.4, {}, "too short to tell"),
        (4, {"transactions": 100}, "by transactions"),
        (4, {}, "no steady state"),
    ],
)
def test_a_run_that_cannot_be_cut_keeps_its_window(seconds, plan, state):
    run = rated(lambda t: 3000 - 600 * t, seconds, plan=plan)
    counted = count(run)
    assert counted.steady is not None
    assert counted.steady.state == state
    assert counted.seconds == pytest.approx(seconds)


def test_a_run_with_few_commits_is_too_short_to_tell():
    assert steady_state(rated(lambda t: 20, 4)).state == "too short to tell"
    assert steady_state(made_run([made_worker(0, np.zeros(0, ATTEMPT))])).batches == 0


def test_a_run_that_was_cut_says_so_and_one_without_a_steady_state_too():
    text = "\n".join(summary_lines(rated(settles, 4, warmup_s=0.5)))
    assert "of warm-up (MSER-5; 0.5 s planned)" in text
    assert "No steady state" not in text
    assert "No steady state" in "\n".join(summary_lines(rated(lambda t: 3000 - 600 * t, 4)))
    assert "MSER" not in "\n".join(summary_lines(drawn_run(3, per_s=2000)))


def test_an_experiment_counts_its_runs_by_state(tmp_path):
    arms = {"a": {"scenario": "register"}, "b": {"scenario": "register", "begin": "deferred"}}

    def make(arm, block):
        return rated((lambda t: 3000 - 600 * t) if arm == "b" else settles, 4, warmup_s=0.5)

    measured = gather(read_experiment(made_experiment(tmp_path, arms, make, blocks=2)))
    states = {
        name: Counter(cell.steady for cell in arm.cells) for name, arm in measured.arms.items()
    }
    assert states == {"a": {"steady": 2}, "b": {"no steady state": 2}}
    assert measured.arms["a"].estimate().value == pytest.approx(1000, rel=0.02)
