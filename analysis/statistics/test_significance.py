"""The tests against enumeration by hand and scipy's; Holm against a table worked by hand."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import permutation_test, ttest_1samp

from analysis.statistics import significance
from analysis.statistics.significance import blocks_needed, holm, paired_t_p, sign_flip_p


def by_enumeration(ratios):
    logs = [math.log(r) for r in ratios]
    whole = abs(sum(logs))
    flips = list(itertools.product((1, -1), repeat=len(logs)))
    sums = [abs(sum(s * x for s, x in zip(signs, logs, strict=True))) for signs in flips]
    return sum(each >= whole - 1e-12 for each in sums) / len(flips)


@pytest.mark.parametrize(
    "ratios",
    [[1.1, 1.2, 0.95], [1.01, 0.99, 1.02, 1.3, 1.2], [0.5], [1.0, 1.0], [2, 2, 2, 2, 2, 2, 0.9]],
)
def test_the_exact_test_is_the_enumeration(ratios):
    assert sign_flip_p(ratios) == pytest.approx(by_enumeration(ratios))
    assert sign_flip_p([1 / r for r in ratios]) == pytest.approx(by_enumeration(ratios))


RATIOS = st.lists(st.floats(0.01, 100), min_size=2, max_size=8)


@given(RATIOS)
def test_the_exact_test_is_the_one_of_scipy(ratios):
    def far(logs, axis):
        return np.abs(np.mean(logs, axis=axis))

    logs = np.log(ratios)
    theirs = permutation_test(
        (logs,), far, permutation_type="samples", alternative="greater", n_resamples=np.inf
    )
    assert sign_flip_p(ratios) == pytest.approx(theirs.pvalue)


@given(RATIOS)
def test_the_t_test_is_the_one_of_scipy(ratios):
    logs = np.log(ratios)
    # Where all are nearly alike scipy warns that their difference is lost in rounding.
    assume(np.ptp(logs) > 1e-6)
    assert paired_t_p(ratios) == pytest.approx(ttest_1samp(logs, 0).pvalue)


def test_the_t_test_of_ratios_without_spread_or_a_logarithm():
    assert paired_t_p([1.0, 1.0]) == 1
    assert paired_t_p([1.1, 1.1]) == 0
    for ratios in ([1.1], [], [0.0, 1.1], [math.inf, 1.1]):
        assert math.isnan(paired_t_p(ratios))


def test_the_least_p_is_two_in_two_to_the_blocks():
    for blocks in range(1, 13):
        assert sign_flip_p([1.5] * blocks) == pytest.approx(2 / 2**blocks)


def test_drawn_flips_agree_with_all_of_them(monkeypatch):
    rng = np.random.default_rng(412)
    for shift in (0.0, 0.01, 0.02, 0.05):
        ratios = np.exp(rng.normal(shift, 0.04, 11))
        exact = sign_flip_p(ratios)
        with monkeypatch.context() as patched:
            patched.setattr(significance, "EXACT_BLOCKS", 5)
            drawn = sign_flip_p(ratios, seed=1)
            assert drawn == sign_flip_p(ratios, seed=1)
        assert drawn == pytest.approx(exact, abs=0.01)
        assert drawn > 0


def test_under_no_difference_p_is_below_the_level_as_often_as_it_says():
    rng = np.random.default_rng(412)
    p = np.array([sign_flip_p(np.exp(rng.normal(0, 0.05, 10))) for _ in range(1000)])
    assert 0.03 < np.mean(p <= 0.05) < 0.07


def test_a_ratio_to_nothing_counts_as_far_and_not_as_nan():
    assert sign_flip_p([math.inf] * 6) == pytest.approx(2 / 64)
    assert sign_flip_p([0.0, math.inf, 1.0]) > 0.5
    assert math.isnan(sign_flip_p([]))


def test_holm_is_the_table_worked_by_hand():
    # p sorted: 0.001 0.008 0.012 0.02 0.2; times 5 4 3 2 1; then never less than the one before:
    #           0.005 0.032 0.036 0.04 0.2
    p = [0.02, 0.001, 0.2, 0.012, 0.008]
    assert holm(p) == pytest.approx([0.04, 0.005, 0.2, 0.036, 0.032])
    # 0.01 * 3, then 0.04 * 2, then 0.03 stays below the one before it: monotone.
    assert holm([0.01, 0.04, 0.045]) == pytest.approx([0.03, 0.08, 0.08])


def test_holm_counts_only_what_was_tested_and_never_exceeds_one():
    assert holm([0.03, math.nan, 0.6])[0] == pytest.approx(0.06)
    assert math.isnan(holm([math.nan])[0])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_so_many_blocks_are_needed_that_the_least_p_reaches_the_level():
    for family in (1, 2, 5, 10, 59, 100):
        n = blocks_needed(family)
        assert family * 2 / 2**n <= 0.05 < family * 2 / 2 ** (n - 1)
