"""The keys that are drawn have exactly the distribution that `probabilities` says."""

import numpy as np
import pytest
from scipy.stats import chisquare

from workloads.scenarios import keys

SPECS = [
    "uniform",
    "zipfian",
    "zipfian:0",
    "zipfian:0.5",
    "zipfian:1",
    "zipfian:1.5",
    "zipfian:5",
    "hotspot:90:10",
    "hotspot:100:1",
    "hotspot:0:50",
    "hotspot:50:100",
    "latest",
]


@pytest.mark.parametrize("rows", [1, 2, 50, 1000])
@pytest.mark.parametrize("spec", SPECS)
def test_draws_have_the_distribution_that_probabilities_says(spec, rows):
    n = 100_000
    drawn = keys.sampler(spec, rows, np.random.default_rng(1))(n)
    chance = keys.probabilities(spec, rows)
    assert chance.shape == (rows,)
    assert chance.sum() == pytest.approx(1)
    assert drawn.min() >= 0 and drawn.max() < rows
    seen = np.bincount(drawn, minlength=rows)
    assert not seen[chance == 0].any()
    often = chance * n >= 5  # chi-square needs that many; the rest is taken together
    observed = np.append(seen[often], seen[~often].sum())
    expected = np.append(chance[often], chance[~often].sum()) * n
    observed, expected = observed[expected > 1e-6], expected[expected > 1e-6]
    if len(observed) > 1:
        assert chisquare(observed, expected * n / expected.sum()).pvalue > 1e-4


def test_a_wrong_distribution_would_have_been_noticed():
    drawn = keys.sampler("zipfian:0.9", 50, np.random.default_rng(1))(100_000)
    other = keys.probabilities("zipfian:0.95", 50) * 100_000
    assert chisquare(np.bincount(drawn, minlength=50), other).pvalue < 1e-10


@pytest.mark.parametrize("spec", SPECS)
def test_the_same_seed_draws_the_same_keys(spec):
    first, again = (keys.chooser(spec, 1000, np.random.default_rng(7)) for _ in range(2))
    drawn = [first() for _ in range(3 * keys.BLOCK)]
    assert drawn == [again() for _ in range(3 * keys.BLOCK)]
    assert all(type(key) is int for key in drawn)


@pytest.mark.parametrize("rows", [1, 2, 3, 10, 97, 1000, 65_536])
def test_spread_reaches_every_row_once(rows):
    assert sorted(keys.spread(np.arange(rows), rows).tolist()) == list(range(rows))


def test_hot_rows_lie_far_apart():
    hottest = np.sort(keys.spread(np.arange(20), 10_000))
    assert np.diff(hottest).min() > 10_000 / 20 / 3


def test_latest_follows_a_table_that_grows():
    newest = 999
    choose = keys.chooser("latest", 1000, np.random.default_rng(1), lambda: newest)
    before = [choose() for _ in range(keys.BLOCK)]
    newest = 5_999
    after = [choose() for _ in range(keys.BLOCK)]
    assert max(before) == 999 and max(after) == 5_999
    assert min(before) >= 0 and min(after) >= 5_000


def test_a_hundred_million_rows_need_no_table():
    drawn = keys.sampler("zipfian:1.2", 100_000_000, np.random.default_rng(1))(1000)
    assert drawn.max() < 100_000_000


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ("unifrom", "did you mean uniform?"),
        ("zipf:1", "did you mean zipfian:THETA?"),
        ("hotspots:1:2", "did you mean hotspot:X:Y?"),
        ("", "try one of uniform, zipfian, hotspot, latest"),
        ("zipfian:much", "the form is zipfian:THETA"),
        ("zipfian:1:2", "the form is zipfian:THETA"),
        ("zipfian:nan", "the form is zipfian:THETA"),
        ("zipfian:-1", "between 0 and 20"),
        ("hotspot:90", "the form is hotspot:X:Y"),
        ("hotspot:110:10", "percents"),
        ("hotspot:90:0", "percents"),
        ("uniform:1", "the form is uniform"),
    ],
)
def test_keys_that_cannot_be_read_are_answered_with_the_nearest_form(spec, text):
    with pytest.raises(ValueError) as raised:
        keys.parse(spec)
    assert text in str(raised.value)
    assert "\n" not in str(raised.value)
