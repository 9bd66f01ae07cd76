"""Estimate, interval and test of blocks against enumeration and scipy; families against truths."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import permutation_test, wilcoxon

from analysis.statistics import signed_rank
from analysis.statistics.blocks import ratio_over_blocks
from analysis.statistics.signed_rank import (
    FEWEST_BLOCKS,
    LEVEL,
    located,
    most_rank,
    refused,
    signed_rank_p,
    tail,
)
from analysis.statistics.significance import family_p


def scores(values):
    """Each block's score: its rank by distance from 0, but no greater than the middle one."""
    ranks = np.argsort(np.argsort(np.abs(values))) + 1
    return np.minimum(ranks, most_rank(len(values)))


def by_enumeration(ratios):
    logs = np.log(ratios)
    each = scores(logs)
    upper = each[logs > 0].sum()
    seen = max(upper, each.sum() - upper)
    flips = list(itertools.product((0, 1), repeat=len(logs)))
    sums = np.array(flips) @ each
    return np.mean((sums >= seen) | (sums <= each.sum() - seen))


RATIOS = st.lists(st.floats(0.01, 100), min_size=2, max_size=9)


def untied(ratios):
    """Far enough apart that no two are equally far from 1: ranks are then of one mind."""
    far = np.sort(np.abs(np.log(ratios)))
    return far[0] > 1e-6 and (np.diff(far) > 1e-6).all()


@given(RATIOS)
def test_the_test_is_the_enumeration_of_all_sides(ratios):
    assume(untied(ratios))
    p = by_enumeration(ratios)
    assert signed_rank_p(ratios) == pytest.approx(p)
    assert signed_rank_p([1 / r for r in ratios]) == pytest.approx(p)


@given(RATIOS)
def test_the_test_is_the_one_that_scipy_permutes(ratios):
    assume(untied(ratios))

    def side(logs, axis):
        flat = logs.reshape(-1, logs.shape[-1]) if logs.ndim > 1 else logs[None]
        found = np.array([scores(row) @ (row > 0) - scores(row).sum() / 2 for row in flat])
        return np.abs(found).reshape(logs.shape[:-1])

    theirs = permutation_test(
        (np.log(ratios),), side, permutation_type="samples", alternative="greater",
        n_resamples=np.inf,
    )  # fmt: skip
    assert signed_rank_p(ratios) == pytest.approx(theirs.pvalue)


@given(RATIOS)
def test_with_all_ranks_it_is_wilcoxons(ratios):
    assume(untied(ratios))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(signed_rank, "most_rank", lambda blocks: blocks)
        tail.cache_clear()
        mine = signed_rank_p(ratios)
    tail.cache_clear()
    assert mine == pytest.approx(wilcoxon(np.log(ratios), method="exact").pvalue)


@given(
    st.lists(
        st.one_of(st.floats(0.01, 100), st.sampled_from([0.0, math.inf, 0.5, 1.0, 2.0])),
        min_size=FEWEST_BLOCKS,
        max_size=14,
    )
)
def test_estimate_interval_and_test_never_disagree(ratios):
    """Also of ties, of ratios of exactly 1, and of ratios to nothing."""
    value, low, high, p = located(ratios, ratios=True)
    assert min(ratios) <= low <= value <= high <= max(ratios)
    assert (low > 1 or high < 1) == (p <= LEVEL)
    with np.errstate(divide="ignore"):
        turned = located(1 / np.array(ratios), ratios=True)
    assert turned.p == p
    assert 1 / turned.low == pytest.approx(high) if turned.low else high == math.inf


@pytest.mark.parametrize("blocks", range(FEWEST_BLOCKS, 41))
def test_the_interval_covers_between_95_and_97_per_cent(blocks):
    missed = 2 * tail(blocks)[refused(blocks)]
    assert 0.03 <= missed <= 0.05


def test_fewer_blocks_have_an_estimate_and_no_interval():
    for blocks in range(1, FEWEST_BLOCKS):
        found = located([2.0] * blocks, ratios=True)
        assert found.value == 2.0
        assert math.isnan(found.low)
        assert found.p == pytest.approx(2 / 2**blocks)
    assert math.isnan(signed_rank_p([]))


def test_ratios_that_are_all_alike_are_their_own_interval():
    assert located([1.1] * 7, ratios=True)[:3] == (1.1, 1.1, 1.1)
    assert located([1.0] * 7, ratios=True).p == 1
    found = ratio_over_blocks(dict.fromkeys(range(7), 0.0), dict.fromkeys(range(7), 0.0),
                              candidate="b", baseline="a", neither=1.0)  # fmt: skip
    assert (found.value, found.verdict) == (1.0, "none seen")


def test_a_ratio_to_nothing_counts_as_far_and_not_as_nan():
    assert signed_rank_p([math.inf] * 6) == pytest.approx(2 / 64)
    assert signed_rank_p([0.0, math.inf, 1.0]) > 0.5
    assert located([0.0, math.inf], ratios=True).value == 1.0


def test_one_stalled_run_of_ten_leaves_the_claim():
    ratios = [1.12, 1.08, 1.1, 1.13, 1.07, 1.11, 1.09, 1.1, 1.12, 0.5]
    found = located(ratios, ratios=True)
    assert found.low > 1
    assert wilcoxon(np.log(ratios)).pvalue > LEVEL  # the negative control
    rest = [dict(enumerate(1 + 0.01 * np.sin(np.arange(10) * (k + 1)))) for k in range(8)]
    family = family_p([dict(enumerate(ratios)), *rest])
    assert family.adjusted[0] <= LEVEL


# --- families ---------------------------------------------------------------------------------


def drawn(rng, many, blocks, effects=(), noise=0.03):
    """Arms against one baseline in the same blocks, as ratios by block."""
    base = rng.normal(0, noise, blocks)
    logs = rng.normal(0, noise, (many, blocks)) - base
    logs[: len(effects)] += np.array(effects)[:, None]
    return [dict(enumerate(row)) for row in np.exp(logs)]


@pytest.mark.parametrize(("many", "blocks"), [(5, 6), pytest.param(20, 10, marks=pytest.mark.slow)])
def test_a_family_without_a_difference_claims_one_in_five_per_cent_at_most(many, blocks):
    rng = np.random.default_rng(412)
    families = [family_p(drawn(rng, many, blocks)) for _ in range(400)]
    wrong = np.mean([min(family.adjusted) <= LEVEL for family in families])
    assert wrong <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 400)
    alone = np.mean([min(family.alone) <= LEVEL for family in families])
    assert alone > 0.1  # the negative control


def test_six_blocks_can_claim_in_a_family_of_any_size():
    rng = np.random.default_rng(5)
    family = family_p(drawn(rng, 72, 6, effects=[0.5, -0.5]))
    assert max(family.adjusted[:2]) <= LEVEL
    assert sorted(family.adjusted)[2] > LEVEL


def test_many_strong_effects_do_not_hide_each_other():
    """Flipped, the effects themselves would pass for chance, experiment for experiment."""
    rng = np.random.default_rng(6)
    members = [{(n, block): ratio for block, ratio in drawn(rng, 1, 6, [0.3])[0].items()}
               for n in range(12)]  # fmt: skip
    assert max(family_p(members).adjusted) <= LEVEL


def test_a_family_is_the_same_in_any_order_and_never_below_its_members_alone():
    members = drawn(np.random.default_rng(7), 6, 8, effects=[0.1, 0.06])
    family = family_p(members)
    turned = family_p(members[::-1])
    assert turned.adjusted[::-1] == pytest.approx(family.adjusted)
    assert all(p >= q for p, q in zip(family.adjusted, family.alone, strict=True))
    assert family_p(members) == family


def test_members_without_blocks_are_nan_and_count_for_nothing():
    members = drawn(np.random.default_rng(8), 3, 8, effects=[0.2])
    family = family_p([*members, {}])
    assert math.isnan(family.adjusted[-1]) and math.isnan(family.smallest[-1])
    assert family.adjusted[:3] == family_p(members).adjusted
    assert family_p([]).adjusted == []


def test_the_smallest_effect_is_about_where_claims_begin():
    """Planted at the smallest effect of the same family it is claimed about half of the time."""
    rng = np.random.default_rng(9)
    least = np.median([family_p(drawn(rng, 5, 10)).smallest[0] for _ in range(60)])
    found = {
        share: np.mean(
            [family_p(drawn(rng, 5, 10, [least * share])).adjusted[0] <= LEVEL for _ in range(80)]
        )
        for share in (0.4, 1.0, 2.0)
    }
    assert found[0.4] < 0.3 < found[1.0] < 0.85
    assert found[2.0] > 0.9
