"""Metrics and baselines against values worked out by hand and slower independent ways."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poolae import baselines, metrics


def pair(errors):
    """One image of 2 x 1 x len(errors)/2 values with these errors."""
    errors = np.array(errors, np.float64).reshape(1, 2, 1, -1)
    return np.zeros_like(errors) + errors, np.zeros_like(errors)


def test_accuracy_by_hand():
    predicted, true = pair([0, 0.01, 0.05, 0.2])
    found = metrics.accuracy_curve(predicted, true, [0, 0.01, 0.02, 0.05, 0.1])
    np.testing.assert_array_equal(found, [[0.25, 0.5, 0.5, 0.75, 0.75]])


def test_mean_absolute_error_by_hand():
    predicted, true = pair([0.1, -0.2, 0.3, 0])
    np.testing.assert_allclose(metrics.mean_absolute_error(predicted, true), [0.15])


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 3))
def test_accuracy_equals_one_comparison_per_bound(seed, n):
    rng = np.random.default_rng(seed)
    true = rng.random((n, 2, 5, 6), dtype=np.float32)
    predicted = true + rng.normal(0, 0.04, true.shape).astype(np.float32)
    predicted[0, 0, 0] = true[0, 0, 0]  # errors of exactly 0 count at the bound 0
    slow = [(np.abs(predicted - true) <= b).mean(axis=(1, 2, 3)) for b in metrics.BOUNDS]
    np.testing.assert_allclose(metrics.accuracy_curve(predicted, true), np.transpose(slow))


@settings(max_examples=60, deadline=None)
@given(
    bounds=st.lists(st.floats(0, 1), min_size=1, max_size=12).map(sorted),
    double=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_accuracy_is_exact_for_any_bounds(bounds, double, seed):
    rng = np.random.default_rng(seed)
    dtype = np.float64 if double else np.float32
    true = np.zeros((1, 2, 8, 8), dtype)
    predicted = rng.random(true.shape).astype(dtype)
    predicted.flat[: len(bounds)] = bounds  # errors that lie on a bound, or next to it
    predicted.flat[len(bounds) : 2 * len(bounds)] = np.nextafter(np.array(bounds, dtype), dtype(2))
    slow = [(np.abs(predicted - true) <= b).mean() for b in np.array(bounds)]
    np.testing.assert_array_equal(metrics.accuracy_curve(predicted, true, bounds)[0], slow)


def test_every_image_has_the_same_weight():
    predicted = np.zeros((2, 2, 4, 4))
    true = np.zeros((2, 2, 4, 4))
    true[1] = 1
    np.testing.assert_array_equal(metrics.accuracy_curve(predicted, true, [0.5]), [[1], [0]])


def test_shapes_and_bounds_are_checked():
    with pytest.raises(ValueError, match=r"\(1, 2, 4, 4\).*\(1, 2, 4, 5\)"):
        metrics.mean_absolute_error(np.zeros((1, 2, 4, 4)), np.zeros((1, 2, 4, 5)))
    with pytest.raises(ValueError, match="ascend"):
        metrics.accuracy_curve(*pair([0, 0]), [0.2, 0.1])


@pytest.mark.parametrize(("frequency", "band"), [(2, 0), (6, 1), (12, 2), (24, 3)])
def test_a_wave_has_its_power_in_its_own_band(frequency, band):
    x = np.cos(2 * np.pi * frequency * np.arange(64) / 64)
    power = metrics.band_power(np.broadcast_to(x, (1, 1, 64, 64)))[0, 0, :4]
    assert power.argmax() == band
    assert power[band] > 0.95 * power.sum()


def test_band_power_ignores_the_mean_and_grows_with_the_square():
    rng = np.random.default_rng(0)
    planes = rng.random((2, 2, 32, 32))
    power = metrics.band_power(planes)
    np.testing.assert_allclose(metrics.band_power(planes + 7), power, rtol=1e-6)
    np.testing.assert_allclose(metrics.band_power(3 * planes), 9 * power, rtol=1e-6)
    assert np.isnan(power[..., 3:]).all()  # above the Nyquist frequency of 32 pixels
    assert np.isfinite(power[..., :3]).all()


def test_grey_is_the_absence_of_colour():
    predict = baselines.fit_grey(None, None)
    assert predict(np.zeros((3, 1, 2, 2))).shape == (3, 2, 2, 2)
    np.testing.assert_allclose(predict(np.zeros((1, 1, 1, 1))).ravel() * 255 - 128, 0, atol=1e-4)


def test_median_is_of_each_channel():
    chroma = np.array([[0.1, 0.2, 0.9], [0.5, 0.7, 0.6]]).reshape(1, 2, 1, 3)
    predict = baselines.fit_median(None, chroma)
    np.testing.assert_allclose(predict(np.zeros((1, 1, 1, 1))).ravel(), [0.2, 0.6])


def test_lightness_table_by_hand():
    lightness = np.array([0.1, 0.1, 0.1, 0.9, 0.9]).reshape(1, 1, 1, 5)
    chroma = np.stack([[0.2, 0.3, 0.8, 0.5, 0.7], [0, 0, 1, 1, 1]]).reshape(1, 2, 1, 5)
    predict = baselines.fit_lightness_table(lightness, chroma, bins=10)
    asked = np.array([0.15, 0.9, 1.0, 0.55]).reshape(1, 1, 1, 4)
    # bins 1 and 9 hold medians; bin 5 lies halfway between them
    expected = [[[0.3, 0.6, 0.6, 0.45]], [[0, 1, 1, 0.5]]]
    np.testing.assert_allclose(predict(asked)[0], expected, atol=1e-6)


def test_lightness_table_beats_the_median_where_lightness_tells():
    rng = np.random.default_rng(0)
    lightness = rng.random((4, 1, 16, 16), dtype=np.float32)
    chroma = np.concatenate([lightness, 1 - lightness], 1)
    error = {
        name: np.abs(fit(lightness, chroma)(lightness) - chroma).mean()
        for name, fit in baselines.BASELINES.items()
    }
    assert error["lightness table"] < 0.002 < 0.2 < error["training median"]
