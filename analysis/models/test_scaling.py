"""The Universal Scalability Law: planted parameters are found, and what is no such law is said."""

import math
from typing import Any

import numpy as np
import pytest

from analysis.counting import gather
from analysis.models.scaling import FEWEST_N, Usl, fit, scaling, scaling_table, scalings
from analysis.statistics import median_of_blocks
from analysis.synthetic import drawn_run, edit, made_experiment
from workloads.experiments import read_experiment
from workloads.records import ScenarioEntry

N = (1, 2, 4, 8, 16, 32)
LAWS = {
    "retrograde": Usl(1000, 0.05, 0.002),
    "contention alone": Usl(1000, 0.3, 0.0),
    "linear": Usl(1000, 0.0, 0.0),
    "hctree's": Usl(41_200, 0.447, 0.0137),
}


def family(per_s, *, blocks=10, noise=0.03, writers=N, seed=5, cores=2):
    """A family whose blocks share 20 % of noise and whose points have `noise` of their own."""
    rng = np.random.default_rng(seed)
    day = rng.uniform(0.9, 1.1, blocks)
    values = {
        n: {b: float(per_s(n) * day[b] * rng.normal(1, noise)) for b in range(blocks)}
        for n in writers
    }
    points = {n: median_of_blocks(list(values[n].values())) for n in writers}
    return scaling(
        "made up", ("libsql", "immediate"), {n: f"w{n}" for n in writers}, values, points, cores,
        resamples=150,
    )  # fmt: skip


@pytest.mark.parametrize("name", LAWS)
def test_planted_parameters_lie_in_their_intervals(name):
    law = LAWS[name]
    found = family(law.at)
    assert found.why == ""
    for parameter in ("lam", "sigma", "kappa"):
        assert getattr(found, parameter).holds(getattr(law, parameter)), parameter
    assert found.error_max < 0.08
    if name == "retrograde":
        assert found.peak.holds(law.peak) and found.peak_text().startswith("2")
    if name == "linear":
        assert found.on_bound and found.sigma.value < 0.01


def test_without_noise_the_fit_is_exact():
    for law in LAWS.values():
        found = fit(N, law.at(N))
        assert np.allclose(found, law, rtol=1e-4, atol=1e-5)


def test_a_maximum_beyond_the_points_is_not_told_as_one():
    assert "none within 1 to 32" in family(Usl(1000, 0.3, 0.0).at).peak_text()
    assert Usl(1000, 0.3, 0.0).peak == math.inf


def test_where_more_writers_only_cost_the_maximum_is_one_writer():
    found = family(Usl(1000, 1.0, 0.2).at)
    assert found.peak.value == found.peak.low == 1
    assert found.peak_text() == "1: more writers only cost"


@pytest.mark.parametrize(
    "per_s",
    [
        lambda n: 1000 * n if n <= 4 else 300.0,  # a cliff
        lambda n: 1000 * (3 if n in (2, 8) else 1),  # a comb
    ],
)
def test_data_that_do_not_follow_the_law_have_a_large_error(per_s):
    found = family(per_s, blocks=3)
    assert found.law is not None
    assert found.error_max > 0.3
    assert found.error_median > 0.08


def test_too_few_numbers_of_writers_are_refused_in_words():
    found = family(LAWS["retrograde"].at, writers=N[: FEWEST_N - 1])
    assert found.law is None
    assert "5 different numbers of writers have" in found.why and "(1, 2, 4, 8 and 16)" in found.why
    assert scaling_table([found]).rows[0][-1] == found.why
    with pytest.raises(ValueError, match="it takes 6"):
        fit([1, 2, 3], [1, 2, 3])


def test_a_throughput_of_nothing_has_no_fit():
    assert "committed nothing" in family(lambda n: 0.0 if n == 8 else 1000.0).why


def test_a_search_that_ends_on_a_bound_says_so():
    serial = family(Usl(1000, 1.0, 0.0).at, noise=0.0, blocks=2)
    assert any("sigma is on its bound 1" in sentence for sentence in serial.on_bound)
    assert any("no maximum" in sentence for sentence in serial.on_bound)


def test_few_blocks_give_the_range_of_the_single_fits_and_no_interval():
    found = family(LAWS["retrograde"].at, blocks=5)
    assert not found.sigma.known and "in 5 blocks" in found.sigma.text()


def test_the_same_data_give_the_same_interval():
    one, other = (family(LAWS["retrograde"].at, blocks=6) for _ in "ab")
    assert (one.sigma.low, one.sigma.high) == (other.sigma.low, other.sigma.high)


def test_it_describes_and_does_not_predict_where_writers_share_cores():
    shared, own = (family(LAWS["linear"].at, blocks=2, cores=cores) for cores in (2, 32))
    assert "2 cores" in shared.caution() and "does not predict" in shared.caution()
    assert "one for each writer" in own.caution()


def test_arms_that_differ_in_writers_only_are_one_family(tmp_path):
    libsql: dict[str, Any] = {"scenario": "register", "params": {"rows": 100}}
    branch = libsql | {"write_engine": "sqlite-concurrent", "begin": "concurrent"}
    arms = {f"libsql w{n}": libsql | {"writers": n} for n in N}
    arms |= {f"branch w{n}": branch | {"writers": n} for n in N[:3]}
    arms |= {"branch hot": branch | {"writers": 4, "params": {"rows": 10}}}
    arms |= {"libsql w1 again": libsql | {"writers": 1}}
    law = Usl(800, 0.2, 0.01)

    def make(arm, block):
        plan = arms[arm]
        run = drawn_run(block, per_s=float(law.at(plan["writers"])), writers=plan["writers"])
        edit(run.manifest, plan=plan | {"database": "libsql"})
        run.manifest.scenario = ScenarioEntry(name="register", params=plan["params"])
        return run

    found = scalings(gather(read_experiment(made_experiment(tmp_path, arms, make, blocks=2))))
    assert [one.label for one in found] == [
        "libsql BEGIN IMMEDIATE",
        "sqlite-concurrent BEGIN CONCURRENT on a libsql file",
    ]
    assert list(found[0].points) == list(N)
    assert found[0].arms[1] == "libsql w1"  # the control is none of the points
    assert found[0].law is not None
    assert found[0].law.sigma == pytest.approx(0.2, abs=0.02)
    assert "3 different numbers" in found[1].why
    assert found[0].cores == 2
