"""Mixtures of experts on cases whose answer is known."""

import numpy as np
import pandas as pd
import pytest

from poolae.metrics import mixture


@pytest.fixture
def noise():
    """Three experts, the truth and lightness of four images, all of them noise."""
    rng = np.random.default_rng(0)
    shapes = (3, 4, 2, 16, 16), (4, 2, 16, 16), (4, 1, 16, 16)
    return tuple(rng.random(shape, np.float32) for shape in shapes)


def mean_error(answer, true):
    return np.abs(answer - true).mean()


def test_the_pixel_oracle_by_hand():
    true = np.zeros((1, 2, 1, 3))
    experts = np.zeros((2, 1, 2, 1, 3))
    experts[0, 0, :, 0] = [[0.1, 0.5, 0.2], [0.1, 0.0, 0.2]]
    experts[1, 0, :, 0] = [[0.2, 0.2, 0.1], [0.1, 0.2, 0.3]]
    # errors .1 .25 .2 and .15 .2 .2: both channels go together; of equals, the first
    np.testing.assert_array_equal(mixture.winners(experts, true), [[[0, 1, 0]]])
    expected = [[[0.1, 0.2, 0.2]], [[0.1, 0.2, 0.2]]]
    np.testing.assert_array_equal(mixture.pixel_oracle(experts, true)[0], expected)


def test_no_expert_is_nearer_than_the_pixel_oracle_anywhere(noise):
    experts, true, lightness = noise
    oracle = mixture.pixel_oracle(experts, true)
    assert (
        mixture.errors(oracle[None], true) <= mixture.errors(experts, true).min(axis=0) + 1e-7
    ).all()


def test_oracles_come_in_the_order_of_their_freedom(noise):
    experts, true, lightness = noise
    segment = mixture.segments(lightness, 8)
    pixel = mean_error(mixture.pixel_oracle(experts, true), true)
    by_segment = mean_error(mixture.segment_oracle(experts, true, segment), true)
    single = mixture.errors(experts, true).mean(axis=(1, 2, 3)).min()
    assert pixel < by_segment < single


def test_the_segment_oracle_by_hand():
    segment = np.array([[[0, 0, 1, 1]], [[0, 1, 1, 1]]])  # numbers count anew in image 1
    true = np.zeros((2, 2, 1, 4))
    left, right = np.array([0.1, 0.1, 0.9, 0.9]), np.array([0.5, 0.5, 0.2, 0.5])
    experts = np.broadcast_to(np.stack([left, right])[:, None, None, None], (2, 2, 2, 1, 4))
    # image 0: .2 or 1 in segment 0, 1.8 or .7 in segment 1; image 1: .1 or .5, 1.9 or 1.2
    expected = [[0.1, 0.1, 0.2, 0.5], [0.1, 0.5, 0.2, 0.5]]
    found = mixture.segment_oracle(experts, true, segment)
    np.testing.assert_array_equal(found, np.array(expected)[:, None, None].repeat(2, axis=1))


def test_the_segment_oracle_answers_with_one_expert_per_segment(noise):
    _, true, lightness = noise
    experts = np.full((3, *true.shape), [[[[[0.45]]]], [[[[0.5]]]], [[[[0.55]]]]])
    segment = mixture.segments(lightness, 8)
    answer = mixture.segment_oracle(experts, true, segment)
    assert len(np.unique(answer)) > 1
    for image, labels in zip(answer, segment, strict=True):
        for label in np.unique(labels):
            assert np.ptp(image[:, labels == label]) == 0


def test_segments_follow_lightness():
    lightness = np.zeros((2, 1, 64, 64), np.float32)
    lightness[:, :, :, 27:] = 1  # an edge that no grid of 8 x 8 has
    segment = mixture.segments(lightness)
    assert segment.shape == (2, 64, 64)
    for labels in segment:
        assert 40 <= len(np.unique(labels)) <= 80
        assert not set(np.unique(labels[:, :27])) & set(np.unique(labels[:, 27:]))


def separable(images=8, side=16):
    """Two experts: in dark pixels the first is right, in bright ones the second."""
    rng = np.random.default_rng(0)
    lightness = rng.random((images, 1, side, side), np.float32)
    true = rng.random((images, 2, side, side), np.float32)
    wrong = np.where(rng.random(true.shape) < 0.5, -0.3, 0.3).astype(np.float32)
    experts = np.stack([true + wrong * (lightness > 0.5), true + wrong * (lightness <= 0.5)])
    return experts, true, lightness


def test_the_gate_learns_a_rule():
    experts, true, lightness = separable()
    # either expert errs by .3 in half of the pixels, their mean by .15 everywhere
    assert mean_error(experts[0], true) == pytest.approx(0.15, abs=0.01)
    assert mean_error(experts.mean(axis=0), true) == pytest.approx(0.15, abs=0.01)
    assert mean_error(mixture.gate(experts, true, lightness), true) < 0.03


def test_the_gate_sees_lightness_outputs_and_deviations():
    light = np.arange(64, dtype=np.float64).reshape(1, 8, 8)
    experts = np.ones((3, 2, 8, 8)) * np.array([0.1, 0.4, 0.5])[:, None, None, None]
    clues = mixture._clues(experts, light)
    assert clues.shape == (64, 2 + 4 * 3)
    # a box of an eighth of 8 pixels is the pixel itself
    expected = [19, 19, 0.1, 0.1, 0.4, 0.4, 0.5, 0.5, -0.3, -0.3, 0, 0, 0.1, 0.1]
    np.testing.assert_allclose(clues[19], expected, atol=1e-12)


def test_the_gate_stays_between_the_experts(noise):
    experts, true, lightness = noise
    answer = mixture.gate(experts, true, lightness)
    assert (answer >= experts.min(axis=0) - 1e-6).all()
    assert (answer <= experts.max(axis=0) + 1e-6).all()


def by_heart(images, seed):
    """Nothing but the image's own grey tells which of two constant experts is right in it."""
    right = np.random.default_rng(seed).integers(0, 2, images)
    greys = np.arange(images, dtype=np.float32) / images
    lightness = np.broadcast_to(greys[:, None, None, None], (images, 1, 16, 16))
    answers = np.array([0.25, 0.75], np.float32)[:, None, None, None, None]
    experts = np.broadcast_to(answers, (2, images, 2, 16, 16))
    return experts, experts[right, np.arange(images)], lightness


def gate_error_by_heart(copies, images=24, **options):
    """Mean over ten tosses of which expert is right; .25 for the mean of the two."""
    errors = []
    for seed in range(10):
        case = by_heart(images, seed)
        experts, true, lightness = (array.repeat(copies, axis=array.ndim - 4) for array in case)
        errors.append(mean_error(mixture.gate(experts, true, lightness, **options), true))
    return np.mean(errors)


def test_the_gate_never_saw_the_image_that_it_answers_for():
    assert gate_error_by_heart(copies=1) > 0.22
    # Once a copy of the image is on the other side, the same clues do tell: a leak would show.
    assert gate_error_by_heart(copies=2) < 0.16


def test_groups_stay_on_one_side():
    assert gate_error_by_heart(copies=2, groups=np.arange(24).repeat(2)) > 0.22


def test_the_gate_needs_two_groups(noise):
    with pytest.raises(ValueError, match="two or more groups"):
        mixture.gate(*noise, groups=np.zeros(4, int))


def test_labels_of_pure_noise_gain_nothing():
    rng = np.random.default_rng(1)
    lightness = rng.random((8, 1, 16, 16))
    true = np.full((8, 2, 16, 16), 0.5)
    toss = rng.choice([-1, 1], (2, 8, 1, 16, 16))  # which expert lies above, and which is nearer
    experts = np.stack([true + 0.1 * toss[0], true - 0.1 * toss[0]])
    true = true + 0.01 * toss[1]
    ensemble = mean_error(experts.mean(axis=0), true)
    assert mean_error(mixture.gate(experts, true, lightness), true) >= ensemble


def test_an_expert_that_is_never_nearest_gets_no_weight():
    experts, true, lightness = separable()
    far = np.full_like(true, 5)
    found = mixture.gate(np.stack([far, *experts]), true, lightness)
    assert mean_error(found, true) < 0.03  # the mean of three errs by more than 1
    found = mixture.gate(np.stack([far, true]), true, lightness)
    np.testing.assert_array_equal(found, true)


def test_compare_mixtures_is_one_row_per_image(noise):
    experts, true, lightness = noise
    frame = mixture.compare_mixtures(experts, experts[::-1] * 0.5, true, lightness)
    assert list(frame.columns) == ["experts", "method", "image", "mean_absolute_error"]
    assert list(frame["method"].unique()) == [
        "best single expert",
        "mean ensemble",
        "median ensemble",
        "gate",
        "segment oracle",
        "pixel oracle",
    ]
    assert len(frame) == 2 * 6 * 4
    assert list(frame["image"]) == 12 * [0, 1, 2, 3]

    table = frame.pivot_table("mean_absolute_error", ["experts", "method"], "image")
    per_image = mixture.errors(experts, true).mean(axis=(2, 3))
    best = per_image[per_image.mean(axis=1).argmin()]
    np.testing.assert_allclose(table.loc["depths", "best single expert"], best, rtol=1e-5)
    for method, answer in {
        "mean ensemble": sum(experts) / 3,
        "median ensemble": np.sort(experts, axis=0)[1],
        "gate": mixture.gate(experts, true, lightness),
    }.items():
        expected = np.abs(answer - true).mean(axis=(1, 2, 3))
        np.testing.assert_allclose(table.loc["depths", method], expected, rtol=1e-5)
    assert not np.allclose(table.loc["depths"], table.loc["seeds"])
    as_compared = list(frame["method"].unique())
    assert list(mixture.recovered(frame)["depths"].index) == as_compared


def test_identical_experts_gain_nothing(noise):
    experts, true, lightness = noise
    same = np.broadcast_to(experts[:1], experts.shape)
    frame = mixture.compare_mixtures(same, experts, true, lightness)
    of_same = frame[frame["experts"] == "depths"]
    errors = of_same.pivot_table("mean_absolute_error", "image", "method")
    np.testing.assert_allclose(errors, errors[["pixel oracle"]].to_numpy().repeat(6, 1), rtol=1e-6)


def test_half_precision_experts_are_scored_in_full(noise):
    experts, true, lightness = noise
    half = experts.astype(np.float16)
    frame, again = (
        mixture.compare_mixtures(given, given, true, lightness)
        for given in (half, half.astype(np.float32))
    )
    pd.testing.assert_frame_equal(frame, again)


def test_the_best_of_more_experts_is_refused(noise):
    experts, true, lightness = noise
    with pytest.raises(ValueError, match=r"\(3, 4, 2, 16, 16\).*\(2, 4, 2, 16, 16\)"):
        mixture.compare_mixtures(experts, experts[:2], true, lightness)


def table(values):
    """`compare_mixtures`'s frame from {(experts, method): errors per image}."""
    rows = [
        {"experts": experts, "method": method, "image": image, "mean_absolute_error": error}
        for (experts, method), errors in values.items()
        for image, error in enumerate(errors)
    ]
    return pd.DataFrame(rows)


def test_recovered_by_hand():
    frame = table(
        {
            ("depths", "best single expert"): [0.3, 0.5],  # .4
            ("depths", "gate"): [0.3, 0.4],  # .35
            ("depths", "mean ensemble"): [0.4, 0.5],  # .45
            ("depths", "pixel oracle"): [0.2, 0.2],
            ("seeds", "best single expert"): [0.3, 0.3],
            ("seeds", "gate"): [0.2, 0.2],
            ("seeds", "mean ensemble"): [0.3, 0.3],
            ("seeds", "pixel oracle"): [0.1, 0.3],
        }
    )
    found = mixture.recovered(frame)
    assert found.to_dict() == pytest.approx(
        {
            ("depths", "best single expert"): 0,
            ("depths", "gate"): 0.25,
            ("depths", "mean ensemble"): -0.25,
            ("depths", "pixel oracle"): 1,
            ("seeds", "best single expert"): 0,
            ("seeds", "gate"): 1,
            ("seeds", "mean ensemble"): 0,
            ("seeds", "pixel oracle"): 1,
        },
        abs=1e-12,
    )
    assert found.index.names == ["experts", "method"]


def test_nothing_to_recover_is_nan():
    same = {("depths", m): [0.25, 0.5] for m in ("best single expert", "gate", "pixel oracle")}
    assert mixture.recovered(table(same)).isna().all()
