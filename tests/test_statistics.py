"""Contrasts against values worked out by hand, and intervals against worlds of known truth."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from intervals import simulated_coverage
from scipy import stats

from poolae import UserError
from poolae.metrics.statistics import (
    crossed_variance,
    holm,
    one_sample,
    paired_contrast,
)


def long(values, arm, metric="m"):
    """Scores of one arm, from rows of seeds and columns of images; NaN where there is none."""
    return pd.DataFrame(
        [
            {"arm": arm, "seed": seed, "image": f"{image}.jpg", metric: value}
            for seed, row in enumerate(values)
            for image, value in enumerate(row)
        ]
    )


def two_arms(a, b):
    """Scores of the arms "a" and "b", rows in a jumbled order."""
    return pd.concat([long(a, "a"), long(b, "b")]).sample(frac=1, random_state=0)


def contrast(p=None, low=-1.0, high=1.0, seeds=6):
    """A contrast of which these are known."""
    one = one_sample(long([[0.0, 1.0]], "a"), "m", "a")
    return replace(one, effect=(low + high) / 2, low=low, high=high, p=p, seeds=seeds)


def test_effect_is_a_mean_over_seeds_of_means_over_images():
    # Seed 0 has three images, seed 1 one: differences 1, 2, 3 and 10.
    a = [[2, 4, 6], [11, np.nan, np.nan]]
    b = [[1, 2, 3], [1, 5, 5]]
    found = paired_contrast(two_arms(a, b), "m", "a", "b")
    assert found.effect == pytest.approx((2 + 10) / 2)
    assert (found.seeds, found.images, found.arms) == (2, 3, ("a", "b"))


def test_pairs_without_a_score_are_dropped():
    a = [[1.0, np.nan, 3.0]]
    b = [[0.0, 100.0, np.nan]]
    found = paired_contrast(two_arms(a, b), "m", "a", "b")
    assert (found.effect, found.images) == (1, 1)


def test_order_of_the_arms_is_the_sign_of_everything():
    rng = np.random.default_rng(0)
    scores = two_arms(rng.normal(0.1, 1, (6, 20)), rng.normal(0, 1, (6, 20)))
    there, back = (paired_contrast(scores, "m", *pair) for pair in ("ab", "ba"))
    np.testing.assert_allclose(
        [there.effect, there.low, there.corrected_low, there.beats, there.beats_low],
        [-back.effect, -back.high, -back.corrected_high, 1 - back.beats, 1 - back.beats_high],
    )
    assert (there.p, there.detectable) == pytest.approx((back.p, back.detectable))
    assert there.low < there.effect < there.high


def test_variance_of_seeds_that_share_all_images_is_that_of_crossed_effects():
    values = np.random.default_rng(0).normal(size=(4, 1)) + np.arange(7) ** 2
    values = values + np.random.default_rng(1).normal(size=(4, 7))
    rows, columns, mean = values.mean(axis=1), values.mean(axis=0), values.mean()
    error = values - rows[:, None] - columns + mean
    squares = 7 * rows.var(ddof=1) + 4 * columns.var(ddof=1) - (error**2).sum() / (3 * 6)
    assert sum(crossed_variance(values)) == pytest.approx(squares / (4 * 7))


def test_variance_by_hand_where_some_images_are_shared():
    # Seed 0 has images 0, 1, 2, seed 1 has 1, 2, 3, 4; their means are 2 and 4.
    values = np.array([[1, 5, 0, np.nan, np.nan], [np.nan, 9, 3, 4, 0]])
    of_seeds, of_images = crossed_variance(values)
    assert of_seeds == pytest.approx(2 / 2)
    products = (5 - 2) * (9 - 4) + (0 - 2) * (3 - 4)
    of_image = products / (2 * (1 - 1 / 3 - 1 / 4 + 2 / 12))
    assert of_images == pytest.approx(of_image * 2 / 12)


def test_images_that_tell_nothing_or_are_not_shared_add_nothing():
    apart = np.array([[1, 3, np.nan, np.nan], [np.nan, np.nan, 5, 9]])
    opposed = np.array([[1.0, 3.0], [6.0, 2.0]])  # a negative estimate is 0
    for values, means in ((apart, [2, 7]), (opposed, [2, 4])):
        assert crossed_variance(values) == (pytest.approx(np.var(means, ddof=1) / 2), 0)


def test_variance_is_unbiased():
    """Over worlds with unequal test parts, the mean of the estimates is the scatter of means."""
    rng, means, variances = np.random.default_rng(0), [], []
    for _ in range(4000):
        values = 0.2 * rng.normal(size=(4, 1)) + rng.normal(size=30) + rng.normal(size=(4, 30))
        values[np.arange(30) % 5 + np.arange(4)[:, None] > 4] = np.nan  # 30, 24, 18, 12 images
        means.append(np.nanmean(values, axis=1).mean())
        variances.append(sum(crossed_variance(values)))
    assert np.mean(variances) == pytest.approx(np.var(means), rel=0.08)


def test_one_seed_is_the_t_interval_of_its_images():
    values = np.random.default_rng(0).normal(size=(1, 12))
    found = one_sample(long(values, "a"), "m", "a")
    expected = stats.ttest_1samp(values[0], 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx(tuple(expected))
    unknown = (found.p, found.corrected_low, found.beats, found.beats_low, found.detectable)
    assert unknown == 5 * (None,)
    alone = one_sample(long(values[:, :1], "a"), "m", "a")
    assert np.isnan([alone.low, alone.high]).all() and alone.reading(1) == "open"


def test_seeds_without_shared_images_are_the_t_test_of_their_means():
    values = np.full((6, 12), np.nan)
    for seed in range(6):
        values[seed, 2 * seed : 2 * seed + 2] = [seed - 2, seed + 1]  # means -.5, .5, ...
    found = one_sample(long(values, "a"), "m", "a")
    test = stats.ttest_1samp(np.arange(6) - 0.5, 0)
    assert found.p == pytest.approx(test.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(test.confidence_interval(0.95)))
    error = np.std(np.arange(6), ddof=1)
    half = stats.t.ppf(0.975, 5) * error * np.sqrt(1 / 6 + 1 / 3)  # Nadeau and Bengio
    assert (found.corrected_low, found.corrected_high) == pytest.approx((2 - half, 2 + half))
    # An effect of that size is found in 80 %: either tail of the noncentral t.
    away = found.detectable / (error / np.sqrt(6))
    critical = stats.t.ppf(0.975, 5)
    power = stats.nct.sf(critical, 5, away) + stats.nct.cdf(-critical, 5, away)
    assert power == pytest.approx(0.8, abs=1e-4)


def test_few_seeds_have_an_interval_but_no_p_and_are_read_as_open():
    values = 5 + 0.1 * np.random.default_rng(0).normal(size=(6, 20))
    few, enough = (one_sample(long(values[:n], "a"), "m", "a") for n in (5, 6))
    assert few.p is None and few.low > 4 and few.detectable > 0
    assert few.reading(1) == "open"
    assert enough.p < 1e-6 and enough.reading(1) == "higher"


def test_no_scatter_is_certain():
    same = paired_contrast(two_arms(np.ones((6, 3)), np.ones((6, 3))), "m", "a", "b")
    assert (same.effect, same.low, same.high, same.p, same.reading(0.1)) == (0, 0, 0, 1, "none")
    assert same.beats == 0.5
    other = paired_contrast(two_arms(2 * np.ones((6, 3)), np.ones((6, 3))), "m", "a", "b")
    assert (other.low, other.high, other.p) == (1, 1, 0)


def test_beating_is_counted_over_seeds():
    """Of 8 seeds a is lower in 6, equal in 1: 6.5 in 8, within Clopper's and Pearson's bounds."""
    means = np.array([-1, -1, -1, -2, -3, -1, 0, 1.0])
    values = means[:, None] + [-0.5, 0.5]
    found = paired_contrast(two_arms(values, 0 * values), "m", "a", "b")
    assert found.beats == 6.5 / 8
    bounds = stats.beta.ppf([0.025, 0.975], [6.5, 7.5], [2.5, 1.5])
    assert (found.beats_low, found.beats_high) == pytest.approx(tuple(bounds))


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (-3, -1.1, "lower"),
        (-3, -0.9, "open"),  # without 0, but reaches inside the margin
        (-0.9, 0.9, "none"),
        (0.1, 0.9, "none"),  # without 0, but too small to matter
        (-0.9, 1.1, "open"),
        (-2, 2, "open"),
        (1.1, 3, "higher"),
        (np.nan, np.nan, "open"),
    ],
)
def test_one_rule_reads_both_sides(low, high, expected):
    assert contrast(low=low, high=high).reading(1) == expected
    mirrored = {"lower": "higher", "higher": "lower"}.get(expected, expected)
    assert contrast(low=-high, high=-low).reading(1) == mirrored
    assert contrast(low=low, high=high, seeds=5).reading(1) == "open"


def test_a_margin_is_above_0():
    with pytest.raises(ValueError, match="-1"):
        contrast().reading(-1)


# Share of the seeds in the variance of a seed's mean, and how seeds and images are distributed.
# Over 300 worlds a coverage of .95 varies by .025 (two standard errors).
@pytest.mark.parametrize("seeds", [6, 10])
@pytest.mark.parametrize(
    "world", [(0.0, "normal", "very skewed"), (0.5, "skewed", "normal"), (1.0, "normal", "normal")]
)
def test_intervals_hold_the_truth(seeds, world):
    coverage = simulated_coverage(seeds, *world, repetitions=300)
    assert coverage["crossed"] >= 0.925
    assert coverage["nadeau_bengio"] >= 0.925


def test_intervals_that_forget_what_is_shared_miss_the_truth():
    coverage = simulated_coverage(10, 0.0, repetitions=300)
    assert coverage["seeds_alone"] < 0.92 < coverage["crossed"]


def test_holm_by_hand():
    # Sorted .01, .02, .03, .4 times 4, 3, 2, 1, made to ascend.
    found = holm([contrast(p) for p in (0.03, None, 0.01, 0.4, 0.02)])
    assert found[1].p_holm is None
    np.testing.assert_allclose(
        [c.p_holm for c in found if c.p is not None], [0.06, 0.04, 0.4, 0.06]
    )
    assert [c.p for c in found] == [0.03, None, 0.01, 0.4, 0.02]
    assert holm([contrast()])[0].p_holm is None


def test_errors_name_what_is_wrong():
    scores = two_arms([[1.0]], [[2.0]])
    with pytest.raises(UserError, match="a and c share no image with m"):
        paired_contrast(scores, "m", "a", "c")
    with pytest.raises(UserError, match="c has no m"):
        one_sample(scores, "m", "c")
    with pytest.raises(UserError, match=r"a has two scores for 0\.jpg of seed 0"):
        paired_contrast(pd.concat([scores, scores]), "m", "a", "b")
