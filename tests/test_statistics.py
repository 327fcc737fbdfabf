"""Contrasts against enumeration by hand, and intervals against worlds whose truth is known."""

import itertools
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from poolae import UserError
from poolae.metrics.statistics import (
    Contrast,
    bootstrap_means,
    equivalent,
    holm,
    one_sample,
    paired_contrast,
    sign_flip_p,
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


def contrast(p=None, interval=(-1, 1), **changes):
    """A contrast whose 90 % interval is `interval`."""
    low, high = interval
    made = Contrast("m", ("a", "b"), (low + high) / 2, low, high, low, high, p, 6, 10)
    return replace(made, **changes)


def test_effect_is_a_mean_over_seeds_of_means_over_images():
    # Seed 0 has three images, seed 1 one: differences 1, 2, 3 and 10.
    a = [[2, 4, 6], [11, np.nan, np.nan]]
    b = [[1, 2, 3], [1, 5, 5]]
    found = paired_contrast(two_arms(a, b), "m", "a", "b", resamples=50)
    assert found.effect == pytest.approx((2 + 10) / 2)
    assert (found.seeds, found.images, found.arms) == (2, 3, ("a", "b"))
    assert found.name == "m: a − b"


def test_pairs_without_a_score_are_dropped():
    a = [[1.0, np.nan, 3.0]]
    b = [[0.0, 100.0, np.nan]]
    found = paired_contrast(two_arms(a, b), "m", "a", "b", resamples=50)
    assert (found.effect, found.images) == (1, 1)


def test_order_of_the_arms_is_the_sign_of_everything():
    rng = np.random.default_rng(0)
    scores = two_arms(rng.normal(0.1, 1, (6, 20)), rng.normal(0, 1, (6, 20)))
    there, back = (paired_contrast(scores, "m", *pair) for pair in ("ab", "ba"))
    assert there.effect == pytest.approx(-back.effect)
    np.testing.assert_allclose(
        [there.low, there.high, there.low_90, there.high_90],
        [-back.high, -back.low, -back.high_90, -back.low_90],
    )
    assert there.p == back.p
    assert there.low < there.low_90 < there.effect < there.high_90 < there.high


def test_one_sample_is_the_mean_and_tests_the_null():
    values = np.arange(12.0).reshape(6, 2)  # seeds' means .5, 2.5, ..., 10.5
    found = one_sample(long(values, "a"), "m", "a", null=0.4)
    assert found.effect == pytest.approx(5.5)
    assert found.p == pytest.approx(2 / 64)
    assert one_sample(long(values, "a"), "m", "a", null=5.5).p == 1
    assert found.low < 5.5 < found.high


def test_six_seeds_of_one_sign_reach_one_in_thirty_two():
    assert sign_flip_p(np.array([1, 2, 3, 4, 5, 6.0])) == pytest.approx(2 / 64)
    assert sign_flip_p(np.array([1, 2, 3, 4, 5.0])) is None


def test_sign_flips_equal_their_enumeration():
    d = np.random.default_rng(1).normal(0.5, 1, 7)
    flipped = [np.mean(d * signs) for signs in itertools.product((-1, 1), repeat=7)]
    expected = np.mean(np.abs(flipped) >= abs(d.mean()) - 1e-12)
    assert sign_flip_p(d) == pytest.approx(expected)
    assert 2 / 128 < expected < 1


def test_the_test_is_over_seeds_not_images():
    a = np.array([[3, -1], [5, -2], [1, 1], [2, 2], [9, -7], [4, 0.0]])  # every seed's mean is > 0
    assert paired_contrast(two_arms(a, 0 * a), "m", "a", "b").p == pytest.approx(2 / 64)


def test_fewer_seeds_have_no_p_and_one_says_that_it_tests_no_seeds():
    values = np.random.default_rng(0).normal(size=(6, 8))
    three = one_sample(long(values[:3], "a"), "m", "a")
    one = one_sample(long(values[:1], "a"), "m", "a")
    assert three.p is None and three.tests_seeds
    assert one.p is None and not one.tests_seeds
    assert one.low < one.effect < one.high


def test_one_seed_is_the_plain_bootstrap_of_images():
    values = np.random.default_rng(0).normal(size=(1, 40))
    found = one_sample(long(values, "a"), "m", "a", resamples=20_000)
    half = 1.96 * values.std() / np.sqrt(40)
    np.testing.assert_allclose([found.low, found.high], values.mean() + [-half, half], atol=0.04)


def test_bootstrap_weights_are_products():
    """Two seeds and two images: each mean is that of a draw of seeds times a draw of images."""
    values = np.array([[1.0, 10.0], [100.0, 1000.0]])
    draws = [(0, 0), (0, 1), (1, 0), (1, 1)]
    expected = np.sort([values[np.ix_(s, i)].mean() for s in draws for i in draws])
    found = bootstrap_means(values, 40_000, np.random.default_rng(0))
    distinct, counts = np.unique(found.round(6), return_counts=True)
    wanted, weights = np.unique(expected.round(6), return_counts=True)
    np.testing.assert_allclose(distinct, wanted)
    np.testing.assert_allclose(counts / len(found), weights / 16, atol=0.01)


def test_bootstrap_of_disjoint_images():
    """Draws that miss every image of a seed leave that seed out; others of both are dropped."""
    values = np.array([[1.0, np.nan], [np.nan, 3.0]])
    found = bootstrap_means(values, 2000, np.random.default_rng(0))
    assert set(found) == {1.0, 2.0, 3.0}
    assert 1500 < len(found) < 2000  # one in eight has seed 0 and image 1 only, or the reverse


# Standard deviations of seeds, images and cells, and the coverage to expect. Over 300 repetitions,
# 95 % vary by ± 2.5 points (two standard errors). Six seeds are too few for a bootstrap of them.
WORLDS = {
    "images and seeds": (0.13, 0.5, 1.0, 0.925, 0.995),
    "images": (0.0, 1.0, 0.2, 0.925, 0.995),
    "seeds alone": (1.0, 0.0, 0.1, 0.78, 0.92),
}


@pytest.mark.parametrize("world", WORLDS)
def test_interval_covers_the_truth(world):
    of_seeds, of_images, of_cells, least, most = WORLDS[world]
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(300):
        values = of_seeds * rng.normal(size=(6, 1)) + of_images * rng.normal(size=(1, 120))
        values = values + of_cells * rng.normal(size=values.shape)
        values[rng.random(values.shape).argsort(axis=1) >= 60] = np.nan  # half of them per seed
        low, high = np.quantile(bootstrap_means(values, 400, rng), [0.025, 0.975])
        hits += low <= 0 <= high
    assert least <= hits / 300 <= most


def test_equal_generator_seeds_give_equal_intervals():
    scores = long(np.random.default_rng(0).normal(size=(3, 9)), "a")
    assert one_sample(scores, "m", "a") == one_sample(scores, "m", "a")
    assert one_sample(scores, "m", "a").low != one_sample(scores, "m", "a", rng_seed=1).low


def test_holm_by_hand():
    # Sorted .01, .02, .03, .4 times 4, 3, 2, 1, made to ascend.
    found = holm([contrast(p) for p in (0.03, None, 0.01, 0.4, 0.02)])
    assert found[1].p_holm is None
    np.testing.assert_allclose(
        [c.p_holm for c in found if c.p is not None], [0.06, 0.04, 0.4, 0.06]
    )
    assert [c.p for c in found] == [0.03, None, 0.01, 0.4, 0.02]
    assert holm([contrast()])[0].p_holm is None


def test_equivalence_is_two_one_sided_tests():
    wide = contrast(interval=(-0.4, 0.4), low=-0.6, high=0.6)
    assert equivalent(wide, 0.5)  # the 95 % interval does not matter
    assert not equivalent(wide, 0.4)
    assert not equivalent(contrast(interval=(0.1, 0.6)), 0.5)
    assert not equivalent(contrast(interval=(-0.6, 0.1)), 0.5)
    with pytest.raises(ValueError, match="-1"):
        equivalent(wide, -1)


def test_errors_name_what_is_wrong():
    scores = two_arms([[1.0]], [[2.0]])
    with pytest.raises(UserError, match="a and c share no image with m"):
        paired_contrast(scores, "m", "a", "c")
    with pytest.raises(UserError, match="c has no m"):
        one_sample(scores, "m", "c")
    with pytest.raises(UserError, match=r"a has two scores for 0\.jpg of seed 0"):
        paired_contrast(pd.concat([scores, scores]), "m", "a", "b")
