"""Metrics and baselines against values worked out by hand and slower independent ways."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poolae import metrics
from poolae.data.colour import rgb_to_lab01
from poolae.metrics import baselines


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


@pytest.mark.parametrize("bounds", [[0.0], [0.0, 7e-45], [0.0, 7e-45, 1.0], [5e-324, 0.5]])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_accuracy_at_bounds_next_to_nothing(bounds, dtype):
    errors = np.array([0, 0, 0.25, 2], dtype).reshape(1, 2, 1, 2)
    slow = [(errors <= bound).mean() for bound in np.array(bounds)]
    found = metrics.accuracy_curve(errors, np.zeros_like(errors), bounds)
    np.testing.assert_array_equal(found[0], slow)


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


# Table 1 of Sharma, Wu, Dalal 2005: pairs of equal lightness (50), a, b, a, b, difference.
SHARMA = [
    (2.6772, -79.7751, 0, -82.7485, 2.0425),
    (3.1571, -77.2803, 0, -82.7485, 2.8615),
    (2.8361, -74.0200, 0, -82.7485, 3.4412),
    (-1.3802, -84.2814, 0, -82.7485, 1.0000),
    (-1.1848, -84.8006, 0, -82.7485, 1.0000),
    (-0.9009, -85.5211, 0, -82.7485, 1.0000),
    (0, 0, -1, 2, 2.3669),
    (2.49, -0.001, -2.49, 0.0009, 7.1792),
    (2.49, -0.001, -2.49, 0.0011, 7.2195),
    (-0.001, 2.49, 0.0009, -2.49, 4.8045),
    (-0.001, 2.49, 0.0011, -2.49, 4.7461),
    (2.5, 0, 0, -2.5, 4.3065),
    (2.5, 0, 3.1736, 0.5854, 1.0000),
    (2.5, 0, 1.8634, 0.5757, 1.0000),
]


def chroma(a, b):
    """One image, a row of pixels, of these Lab values."""
    return (np.array([a, b], np.float64).reshape(1, 2, 1, -1) + 128) / 255


def textures(n=2, size=32, seed=0):
    """Random predicted and true chroma and lightness, related but not alike."""
    rng = np.random.default_rng(seed)
    true = 0.5 + rng.normal(0, 0.05, (n, 2, size, size))
    predicted = 0.6 * true + 0.2 + rng.normal(0, 0.03, true.shape)
    lightness = np.clip(5 * (true[:, :1] - 0.5) + rng.random((n, 1, size, size)), 0, 1)
    return (x.astype(np.float32) for x in (predicted, true, lightness))


def wave(cycles, size=64, phase=0.0):
    """A plane wave along x, (size, size)."""
    x = np.cos(2 * np.pi * cycles * np.arange(size) / size + phase)
    return np.broadcast_to(x, (size, size))


def two(a, b):
    """One image of these two planes, as faint chroma about grey."""
    return 0.5 + 0.05 * np.stack([a, b])[None]


def test_accuracy_of_8_bit_values_by_hand():
    true = chroma([0, 0, 0, 0], [0, 0.4, 10, 100])
    predicted = chroma([0.4, 0.6, 1.6, -30], [0.4, -0.4, 7, 100])
    # a is off by 0, 1, 2, 30 and b by 0, 0, 3, 0
    curve = metrics.accuracy_8bit(predicted, true)[0] * 8
    np.testing.assert_array_equal(curve, [4, 5, 6] + [7] * 24)


def test_area_under_accuracy_by_hand():
    true = chroma([0, 0, 0, 0], [0, 0, 0, 0])
    predicted = chroma([0, 3, 60, 20], [0, 4, 45, 0])  # distances 0, 5, 75, 20
    found = [metrics.area_under_accuracy(predicted, true, top)[0] for top in (25, 150)]
    np.testing.assert_allclose(found, [(1 + 0.8 + 0 + 0.2) / 4, (4 - 100 / 150) / 4])


@pytest.mark.parametrize("top", [25, 150])
def test_area_equals_a_sweep_over_thresholds(top):
    predicted, true, _ = textures()
    predicted[0] += 0.2
    distance = 255 * np.linalg.norm(predicted - true, axis=1)
    thresholds = (np.arange(4000) + 0.5) * top / 4000
    swept = [[(d <= t).mean() for t in thresholds] for d in distance]
    found = metrics.area_under_accuracy(predicted, true, top)
    np.testing.assert_allclose(found, np.mean(swept, axis=1), atol=1e-4)


def test_rebalanced_area_counts_by_the_rarity_of_the_true_colour():
    rarity = np.ones((27, 27))
    rarity[13 + 4, 13 - 2] = 3  # a = 40, b = -20
    true = chroma([42, 0], [-17, 0])  # 42 and -17 round to that cell
    predicted = chroma([42, 40], [-17, -20])  # wrong where the true colour is common
    found = metrics.area_under_accuracy(predicted, true, 25, rarity)
    np.testing.assert_allclose(found, [3 / 4])


def test_colour_rarity_by_hand():
    # Three pixels in four are grey, one is red: two peaks, each smoothed over 0.5 cells.
    kernel = np.exp(-2.0 * np.arange(-2, 3) ** 2)
    blur = np.outer(kernel, kernel) / kernel.sum() ** 2
    share = np.zeros((27, 27))
    share[11:16, 11:16] += 0.75 * blur
    share[17:22, 15:20] += 0.25 * blur  # a = 60, b = 40
    weight = 1 / (0.5 * share + 0.5 / 313)
    found = metrics.colour_rarity(chroma([0, 0, 0, 60], [0, 0, 0, 40]))
    np.testing.assert_allclose(found, weight / (share * weight).sum())
    assert found[13, 13] < found[19, 17] < found[0, 0]


def test_colour_rarity_is_flat_when_all_is_uniform():
    np.testing.assert_allclose(metrics.colour_rarity(chroma([9], [9]), uniform=1), 1)
    with pytest.raises(ValueError, match="uniform must be above 0 and at most 1, got 0"):
        metrics.colour_rarity(chroma([0], [0]), uniform=0)


def test_ciede2000_of_published_pairs():
    a, b, a2, b2, expected = np.transpose(SHARMA)
    light = np.full((1, 1, 1, len(a)), 0.5)
    for first, second in ((chroma(a, b), chroma(a2, b2)), (chroma(a2, b2), chroma(a, b))):
        found = metrics.ciede2000(first, second, light)[0, 0]
        np.testing.assert_allclose(found, expected, atol=6e-5)


def test_psnr_by_hand():
    true = np.full((2, 8, 8, 3), 0.5)
    predicted = true.copy()
    predicted[0] += 0.1  # a mean squared error of 0.01
    np.testing.assert_allclose(metrics.psnr(predicted, true), [20, np.inf])


def test_ssim_of_flat_colours_by_hand():
    x, y = np.array([0.2, 0.5, 0.9]), np.array([0.4, 0.5, 0.1])
    flat = np.ones((1, 8, 8, 3))
    expected = ((2 * x * y + 1e-4) / (x**2 + y**2 + 1e-4)).mean()
    np.testing.assert_allclose(metrics.ssim(flat * x, flat * y), [expected])


def test_ssim_equals_its_formula():
    rng = np.random.default_rng(0)
    true = rng.random((1, 16, 16, 3))
    predicted = 0.7 * true + 0.3 * rng.random(true.shape)
    windows = [
        np.lib.stride_tricks.sliding_window_view(x[0], (7, 7), axis=(0, 1)).reshape(-1, 49)
        for x in (predicted, true)
    ]
    values = []
    for x, y in zip(*windows, strict=True):
        (vx, cxy), (_, vy) = np.cov(x, y)
        means = (2 * x.mean() * y.mean() + 1e-4) / (x.mean() ** 2 + y.mean() ** 2 + 1e-4)
        values.append(means * (2 * cxy + 9e-4) / (vx + vy + 9e-4))
    np.testing.assert_allclose(metrics.ssim(predicted, true), [np.mean(values)])


def test_colourfulness_by_hand():
    red, green, black = (1, 0, 0), (0, 1, 0), (0, 0, 0)
    picture = np.array([[[red, red], [green, black]]], np.float32)
    # R - G: 1, 1, -1, 0, mean 1/4, variance 11/16; (R + G)/2 - B: 1/2 thrice and 0, 3/8 and 3/64
    expected = np.sqrt(11 / 16 + 3 / 64) + 0.3 * np.sqrt(1 / 16 + 9 / 64)
    np.testing.assert_allclose(metrics.colourfulness(picture), [expected])
    np.testing.assert_allclose(metrics.colourfulness_ratio(picture / 4, picture), [0.25])
    assert np.isnan(metrics.colourfulness_ratio(picture, np.ones_like(picture)))


def test_histogram_intersection_by_hand():
    # bins of 4 about 0: -2 to 2, 2 to 6, ...
    true = chroma([0, 1, 3, 9], [0, 0, 0, 0])
    predicted = chroma([-1, 4, 5, -9], [50, 0, 50, 0])
    # a: one of two in the bin of 0 and one of two in the next; b: two of four
    np.testing.assert_allclose(metrics.histogram_intersection(predicted, true), [(2 + 2) / 8])
    # rounding on either side of grey changes nothing
    grey = np.full((1, 2, 4, 4), 128 / 255, np.float32)
    beside = [np.nextafter(grey, np.float32(to)) for to in (0, 1)]
    assert [metrics.histogram_intersection(grey, x)[0] for x in beside] == [1, 1]


def test_histogram_intersection_ignores_where_colours_are():
    _, true, _ = textures()
    turned = true[..., ::-1, :].transpose(0, 1, 3, 2)
    np.testing.assert_allclose(metrics.histogram_intersection(turned, true), 1)


@pytest.mark.parametrize("scale", [0.5, -0.5, 2])
def test_gain_is_the_square_of_a_scale_and_coherence_its_sign(scale):
    _, true, _ = textures(size=64)
    gain, coherence = metrics.gain_and_coherence(0.3 + scale * (true - 0.5), true)
    assert list(np.flatnonzero(np.isnan(gain[0]))) == [4, 8]  # from 32: above Nyquist
    defined = [0, 1, 2, 3, 5, 6, 7]
    np.testing.assert_allclose(gain[:, defined], scale**2, rtol=1e-4)
    np.testing.assert_allclose(coherence[:, defined], np.sign(scale), rtol=1e-4)
    assert np.isnan(coherence[:, [4, 8]]).all()


@pytest.mark.parametrize(("cycles", "band"), [(2, 0), (6, 1), (12, 2), (24, 3)])
def test_a_wave_out_of_step_is_detail_that_is_wrong(cycles, band):
    true = two(wave(cycles), wave(cycles))
    shifted = two(*2 * [wave(cycles, phase=np.pi / 2)])
    for predicted, expected in ((shifted, 0), (true, 1)):
        gain, coherence = metrics.gain_and_coherence(predicted, true)
        np.testing.assert_allclose(gain[0, band], 1, atol=0.03)
        np.testing.assert_allclose(coherence[0, band], expected, atol=0.03)


def test_gain_and_coherence_take_both_channels_together():
    true = two(wave(12), wave(12))
    gain, coherence = metrics.gain_and_coherence(two(wave(12), 0 * wave(12)), true)
    np.testing.assert_allclose([gain[0, 2], gain[0, 6]], 0.5)
    np.testing.assert_allclose([coherence[0, 2], coherence[0, 6]], np.sqrt(0.5))


def test_gain_and_coherence_equal_a_sum_over_frequencies():
    size = 20
    predicted, true, _ = textures(n=1, size=size)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / (size - 1))
    k = np.arange(-size // 2, size // 2)
    fourier = np.exp(-2j * np.pi * np.outer(k, np.arange(size)) / size)

    def spectrum(plane):
        return fourier @ ((plane - plane.mean()) * np.outer(hann, hann)) @ fourier.T

    p, t = (np.array([spectrum(c) for c in x[0].astype(float)]) for x in (predicted, true))
    radius = np.sqrt(k[:, None] ** 2 + k**2)
    gain, coherence = metrics.gain_and_coherence(predicted, true)
    # 8 up reaches the corners, at 14 cycles; from 16 on all is above Nyquist
    for name, (low, high) in {
        "0_4": (0, 4),
        "8_16": (8, 16),
        "4_up": (4, 99),
        "8_up": (8, 99),
    }.items():
        band = list(metrics.DETAIL_BANDS).index(name)
        P, T = (x[:, (radius > low) & (radius <= high)] for x in (p, t))
        powers = (np.abs(P) ** 2).sum(), (np.abs(T) ** 2).sum()
        np.testing.assert_allclose(gain[0, band], powers[0] / powers[1], rtol=1e-6)
        np.testing.assert_allclose(
            coherence[0, band], (P * T.conj()).real.sum() / np.sqrt(np.prod(powers)), rtol=1e-6
        )
    assert np.isnan(gain[0, 3:5]).all()


def test_detail_above_8_cycles_includes_the_corners_of_the_spectrum():
    line, corner = wave(12), wave(28) * wave(28).T  # 28 along x and y: 40 from the centre
    gain, _ = metrics.gain_and_coherence(two(line, line), two(line + corner, line + corner))
    np.testing.assert_allclose(gain[0, 2], 1, rtol=1e-4)
    np.testing.assert_allclose(gain[0, 6], 1 / (1 + 1 / 2), rtol=0.01)  # powers 1/2 and 1/4


def test_a_constant_has_no_detail_and_a_grey_photograph_none_to_compare_with():
    predicted, true, _ = textures()
    gain, coherence = metrics.gain_and_coherence(np.full_like(true, 0.3), true)
    np.testing.assert_array_equal(gain[:, [0, 1, 2, 5, 6]], 0)
    assert np.isnan(coherence).all()
    steps = np.linspace(0, 1, 32 * 32, dtype=np.float32).reshape(1, 32, 32, 1)
    _, grey = rgb_to_lab01(np.repeat(steps, 3, axis=-1))  # a and b are off 0 by rounding
    assert grey.std() > 0
    assert np.isnan(metrics.gain_and_coherence(predicted[:1], grey)).all()


def test_lightness_coherence_does_not_cancel_between_channels():
    size = 64
    light = np.random.default_rng(0).random((1, 1, size, size))
    true = 0.5 + 0.1 * np.concatenate([light, -light], axis=1)
    found = metrics.lightness_coherence(light, true)[0]
    np.testing.assert_allclose(found[[0, 1, 2, 3, 5, 6, 7]], 1)
    assert np.isnan(found[[4, 8]]).all()
    signed = metrics.gain_and_coherence(np.concatenate([light, light], axis=1), true)[1][0]
    np.testing.assert_allclose(signed[[0, 1, 2, 3, 5, 6, 7]], 0, atol=1e-9)


def test_lightness_coherence_is_the_mean_magnitude_over_channels():
    _, true, lightness = textures()
    found = metrics.lightness_coherence(lightness, true)
    a, b = (
        # both channels alike: the coherence of one
        metrics.gain_and_coherence(lightness.repeat(2, 1), true[:, [c, c]])[1]
        for c in range(2)
    )
    np.testing.assert_allclose(found, (np.abs(a) + np.abs(b)) / 2)


def test_colour_bias_by_hand():
    found = metrics.colour_bias(chroma([-3, 1], [10, 20]), chroma([1, 3], [4, 4]))
    np.testing.assert_allclose(found, [[-3, 11]])


def test_bright_error_by_hand():
    predicted, true = pair([0.1, 0.2, 0.5, 0.3, 0.4, 0.9])  # a: .1 .2 .5, b: .3 .4 .9
    lightness = np.array([0.7, 0.9, 0.69], np.float32).reshape(1, 1, 1, 3)
    np.testing.assert_allclose(metrics.bright_error(predicted, true, lightness), [0.25])
    assert np.isnan(metrics.bright_error(predicted, true, lightness / 2))


def test_block_means_by_hand():
    plane = np.arange(16.0).reshape(4, 4)
    halves = [[2.5, 2.5, 4.5, 4.5]] * 2 + [[10.5, 10.5, 12.5, 12.5]] * 2
    np.testing.assert_allclose(metrics.block_means(plane, 2), halves)
    np.testing.assert_allclose(metrics.block_means(plane, 1), 7.5)
    np.testing.assert_allclose(metrics.block_means(plane, 16), plane)  # finer than the pixels
    uneven = metrics.block_means(np.arange(5.0)[None], 2)  # blocks of 3 and 2
    np.testing.assert_allclose(uneven, [[1, 1, 1, 3.5, 3.5]])


def test_block_r2_equals_the_squared_correlation():
    predicted, true, _ = textures()
    blocks = true.reshape(2, 2, 16, 2, 16, 2).mean(axis=(3, 5), keepdims=True)
    blocks = np.broadcast_to(blocks, (2, 2, 16, 2, 16, 2)).reshape(true.shape)
    p, b = (x - x.mean(axis=(2, 3), keepdims=True) for x in (predicted, blocks))
    slow = [np.corrcoef(p[k].ravel(), b[k].ravel())[0, 1] ** 2 for k in range(2)]
    np.testing.assert_allclose(metrics.block_r2(predicted, true), slow, rtol=1e-4)
    # neither the sign, the contrast nor the mean of a channel counts
    shift = np.array([0.1, -0.2]).reshape(1, 2, 1, 1)
    np.testing.assert_allclose(metrics.block_r2(-0.3 * blocks + shift, true), 1, rtol=1e-5)
    assert np.isnan(metrics.block_r2(np.full_like(true, 0.3), true)).all()


def test_own_block_r2_by_hand():
    # Blocks of 2: means 1 and 3 along x in a; b is a chequerboard that no block shows.
    a = np.tile([0, 2, 3, 3.0], (4, 1))
    b = 0.5 * (-1.0) ** np.add.outer(np.arange(4), np.arange(4))
    predicted = 0.5 + 0.05 * np.stack([a, b])[None]
    # variances of the means: 1 and 0; of the planes: 1.5 and .25
    np.testing.assert_allclose(metrics.own_block_r2(predicted, 2), [1 / 1.75])
    assert np.isnan(metrics.own_block_r2(np.full((1, 2, 4, 4), 0.3, np.float32), 2))


def test_own_block_r2_is_1_for_wrong_blocks_and_small_for_right_detail():
    rng = np.random.default_rng(0)
    blocks = rng.random((3, 2, 8, 8)).repeat(8, 2).repeat(8, 3)
    np.testing.assert_allclose(metrics.own_block_r2(blocks), 1)
    np.testing.assert_allclose(metrics.own_block_r2(rng.random((9, 2, 64, 64))).mean() * 64, 1, 0.1)


def petals():
    """Six pixels at L = .9 and one in the shade: two white, two yellow, pale, green, yellow."""
    true = chroma([0, 6, 0, 20, 0, -60, 0], [0, -8, 50, 60, 49, 60, 80])
    lightness = np.array([0.9, 0.8, 0.85, 0.7, 0.9, 0.9, 0.4]).reshape(1, 1, 1, 7)
    return true, lightness


def test_petals_are_chosen_by_true_chroma_and_hue_among_bright_pixels():
    white, yellow = metrics.petal_classes(*petals())
    np.testing.assert_array_equal(np.flatnonzero(white), [0, 1])  # a chroma of 10 is the last
    np.testing.assert_array_equal(np.flatnonzero(yellow), [2, 3])  # hues of 90 and 71.6 degrees


def test_petal_scores_by_hand():
    true, lightness = petals()
    predicted = chroma([0, 6, 0, 20, 0, -60, 0], [40, -8, 30, 50, 9, 9, 9])
    white, yellow = metrics.petal_classes(true, lightness)
    # Off by 40 in one of two white pixels, by 20 and 10 in yellow ones, each in one channel.
    errors = [metrics.error_over(predicted, true, c)[0] for c in (white, yellow, white | yellow)]
    np.testing.assert_allclose(np.multiply(errors, 255), [10, 7.5, 35 / 4])
    # Predicted b of white: 40, -8; of yellow: 30, 50: three of four pairs are in order.
    assert metrics.petal_auc(predicted[:, 1], white, yellow) == [0.75]
    assert metrics.petal_auc(np.zeros_like(white), white, yellow) == [0.5]
    # Darkness, which lightness offers: .9 and .8 against .85 and .7.
    assert metrics.petal_auc(-lightness[:, 0], white, yellow) == [0.75]
    assert np.isnan(metrics.petal_auc(-lightness[:, 0], white, yellow & white))


def test_petal_auc_is_that_of_scikit_learn():
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(0)
    values = rng.integers(0, 9, (3, 8, 8)) / 9  # with ties
    white, yellow = rng.random(values.shape) < 0.3, rng.random(values.shape) < 0.4
    white &= ~yellow
    expected = [
        roc_auc_score(y[w | y], v[w | y]) for v, w, y in zip(values, white, yellow, strict=True)
    ]
    np.testing.assert_allclose(metrics.petal_auc(values, white, yellow), expected)


COLUMNS = """
mean_absolute_error accuracy_* accuracy_area accuracy_8bit_*
auc_150 auc_25 auc_150_rebalanced auc_25_rebalanced ciede2000 ciede2000_median psnr ssim
colourfulness histogram_intersection
gain_0_4 gain_4_8 gain_8_16 gain_16_32 gain_32_64 gain_4_up gain_8_up gain_16_up gain_32_up
coherence_0_4 coherence_4_8 coherence_8_16 coherence_16_32 coherence_32_64
coherence_4_up coherence_8_up coherence_16_up coherence_32_up
a_bias b_bias bright_error block_r2 own_block_r2
white_error yellow_error petal_error petal_auc petal_auc_lightness
"""


def expected_columns():
    curves = {
        "accuracy_*": [f"accuracy_0.{k:03}" for k in range(101)],
        "accuracy_8bit_*": [f"accuracy_8bit_{k:02}" for k in range(27)],
    }
    return [name for column in COLUMNS.split() for name in curves.get(column, [column])]


def test_image_scores_have_their_columns_in_order():
    predicted, true, lightness = textures(n=3)
    scores = metrics.image_scores(predicted, true, lightness, metrics.colour_rarity(true))
    assert list(scores) == expected_columns()
    assert {(v.shape, v.dtype.name) for v in scores.values()} == {((3,), "float64")}
    plain = metrics.image_scores(predicted, true, lightness)
    assert list(plain) == [c for c in expected_columns() if not c.endswith("_rebalanced")]


def test_image_scores_are_the_single_metrics():
    predicted, true, lightness = textures(size=64)
    rarity = metrics.colour_rarity(true)
    scores = metrics.image_scores(predicted, true, lightness, rarity)
    difference = metrics.ciede2000(predicted, true, lightness).reshape(2, -1)
    gain, coherence = metrics.gain_and_coherence(predicted, true)
    expected = {
        "accuracy_0.100": (np.abs(predicted - true) <= 0.1).mean(axis=(1, 2, 3)),
        "accuracy_area": metrics.accuracy_curve(predicted, true).mean(axis=1),
        "accuracy_8bit_26": metrics.accuracy_8bit(predicted, true, [26])[:, 0],
        "auc_150": metrics.area_under_accuracy(predicted, true, 150),
        "auc_25": metrics.area_under_accuracy(predicted, true, 25),
        "auc_150_rebalanced": metrics.area_under_accuracy(predicted, true, 150, rarity),
        "auc_25_rebalanced": metrics.area_under_accuracy(predicted, true, 25, rarity),
        "ciede2000": difference.mean(axis=1),
        "ciede2000_median": np.median(difference, axis=1),
        "gain_0_4": gain[:, 0],
        "gain_16_32": gain[:, 3],
        "gain_8_up": gain[:, 6],
        "coherence_4_8": coherence[:, 1],
        "coherence_8_up": coherence[:, 6],
        "a_bias": 255 * (predicted - true)[:, 0].mean(axis=(1, 2)),
        "b_bias": 255 * (predicted - true)[:, 1].mean(axis=(1, 2)),
        "bright_error": metrics.bright_error(predicted, true, lightness),
    }
    for name, values in expected.items():
        np.testing.assert_allclose(scores[name], values, rtol=1e-4, err_msg=name)


def test_the_truth_scores_perfectly():
    _, true, lightness = textures(size=64)
    scores = metrics.image_scores(true, true, lightness, metrics.colour_rarity(true))
    errors = {"mean_absolute_error", "ciede2000", "ciede2000_median", "bright_error"}
    errors |= {"white_error", "petal_error"}
    expected = dict.fromkeys(scores, 1.0) | dict.fromkeys(errors | {"a_bias", "b_bias"}, 0.0)
    nowhere = [f"{kind}_32_{end}" for kind in ("gain", "coherence") for end in ("64", "up")]
    nowhere += ["yellow_error", "petal_auc", "petal_auc_lightness"]  # none of it is yellow
    expected |= {"psnr": np.inf} | dict.fromkeys(nowhere, np.nan)
    for blocks in ("block_r2", "own_block_r2"):
        assert (0 < scores.pop(blocks)).all()  # of which the target is not the truth itself
    for name, values in scores.items():
        np.testing.assert_allclose(values, expected[name], atol=1e-9, err_msg=name)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), noise=st.floats(0.001, 0.3))
def test_scores_stay_in_range_and_an_image_has_its_own(seed, noise):
    _, true, lightness = textures(n=3, size=16, seed=seed)
    predicted = true + np.random.default_rng([seed, 1]).normal(0, noise, true.shape)
    predicted = predicted.clip(0, 1).astype(np.float32)
    rarity = metrics.colour_rarity(true)
    scores = metrics.image_scores(predicted, true, lightness, rarity)
    alone = metrics.image_scores(predicted[1:2], true[1:2], lightness[1:2], rarity)
    for name, values in scores.items():
        np.testing.assert_allclose(values[1:2], alone[name], rtol=1e-5, atol=1e-9, err_msg=name)
        if name.startswith(
            ("accuracy", "auc", "histogram", "block", "own_block", "bright", "mean")
        ):
            assert ((values >= 0) & (values <= 1 + 1e-9)).all(), name
        if name.startswith("coherence"):
            assert (np.isnan(values) | (np.abs(values) <= 1 + 1e-9)).all(), name


def test_half_precision_is_scored_as_what_it_stands_for():
    predicted, true, lightness = textures()
    half = predicted.astype(np.float16)
    found = metrics.image_scores(half, true, lightness)
    expected = metrics.image_scores(half.astype(np.float32), true, lightness)
    for name, values in found.items():
        np.testing.assert_allclose(values, expected[name], rtol=1e-5, err_msg=name)


def test_a_grey_photograph_leaves_undefined_only_what_it_does():
    predicted, true, lightness = textures(n=1, size=64)
    scores = metrics.image_scores(predicted, np.full_like(true, 128 / 255), lightness)
    undefined = {name for name, values in scores.items() if np.isnan(values).any()}
    detail = {c for c in scores if c.startswith(("gain_", "coherence_"))}
    yellow = {"yellow_error", "petal_auc", "petal_auc_lightness"}
    assert undefined == detail | {"colourfulness", "block_r2"} | yellow


def test_lightness_has_to_fit():
    predicted, true, lightness = textures()
    for wrong in (lightness[:1], lightness[..., :-1], lightness[:, 0]):
        with pytest.raises(ValueError, match=r"lightness .* must be \(2, 1, 32, 32\)"):
            metrics.image_scores(predicted, true, wrong)


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
