"""Drawn daisies: reproducible, the same at every size, and as ambiguous in lightness as meant."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest
from skimage.color import lab2rgb, rgb2lab

from poolae.data import daisies
from poolae.data.daisies import PETALS, draw


def draw_many(n, size):
    return np.stack([draw(index, size) for index in range(n)])


@pytest.fixture(scope="module")
def pictures():
    return draw_many(90, 64)


@pytest.fixture(scope="module")
def petals():
    """Lab values (n, 3) of the petals of each of 90 pictures.

    Petals are found in the output: they are what changes when petals are painted black.
    """
    drawn = draw_many(90, 32)
    colours = daisies._petal_colours

    def blackened(rng, kinds):
        root, tip, disc = colours(rng, kinds)
        return 0 * root, 0 * tip, disc

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(daisies, "_petal_colours", blackened)
        without = draw_many(90, 32)
    changed = np.abs(drawn - without).max(axis=-1) > 0.2
    return [rgb2lab(picture)[mask] for picture, mask in zip(drawn, changed, strict=True)]


def hann_power(plane):
    """Radial frequency in cycles per image, and power under a Hann window without the mean."""
    n = len(plane)
    window = np.outer(np.hanning(n), np.hanning(n))
    f = np.fft.fftfreq(n, 1 / n)
    power = np.abs(np.fft.fft2((plane - plane.mean()) * window)) ** 2
    return np.hypot(f[:, None], f), power


# --- the set


@pytest.mark.parametrize("size", [16, 33, 64])
def test_shape_type_and_range(size):
    picture = draw(2, size)
    assert picture.shape == (size, size, 3)
    assert picture.dtype == np.float32
    assert picture.min() >= 0
    assert picture.max() <= 1
    assert picture.std() > 0.02


def test_an_index_is_a_picture():
    np.testing.assert_array_equal(draw(3, 32), draw(3, 32))


def test_other_indices_and_seeds_are_other_pictures():
    others = [draw(3, 32), draw(4, 32), draw(3, 32, seed=1), draw(4, 32, seed=3)]
    for i, one in enumerate(others):
        for other in others[:i]:
            assert np.abs(one - other).mean() > 0.02


def test_another_process_draws_the_same():
    code = (
        "import hashlib, sys; from poolae.data.daisies import draw;"
        "print(hashlib.sha256(draw(7, 32).tobytes()).hexdigest(), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    digest, torch_imported = done.stdout.split()
    assert digest == hashlib.sha256(draw(7, 32).tobytes()).hexdigest()
    assert torch_imported == "False"


def test_the_scene_is_the_same_at_every_size():
    for index in range(12):
        small, large = draw(index, 64), draw(index, 128)
        halved = large.reshape(64, 2, 64, 2, 3).mean(axis=(1, 3))
        assert np.corrcoef(small.ravel(), halved.ravel())[0, 1] > 0.95
        assert np.abs(small - halved).mean() < 0.05
        # Thin things cover as much at either size. (Averaging sRGB, not light, darkens a little.)
        assert abs(small.mean() - halved.mean()) < 0.035


def test_pictures_vary(pictures):
    lightness = rgb2lab(pictures)[..., 0].mean(axis=(1, 2))
    assert lightness.std() > 8
    thumbs = pictures.reshape(90, 4, 16, 4, 16, 3).mean(axis=(2, 4)).reshape(90, -1)
    gaps = np.linalg.norm(thumbs[:, None] - thumbs, axis=-1) + 9 * np.eye(90)
    assert gaps.min() > 0.2  # no two alike, even as 4 x 4 thumbnails


def test_statistics_are_those_of_the_photographs(pictures):
    # Measured on 300 photographs at 128 px; here 90 drawn ones at 64 px, hence the margins.
    lab = rgb2lab(pictures)
    lightness, chroma = lab[..., 0], lab[..., 1:] / 255
    assert lightness.mean() == pytest.approx(43.9, abs=6)
    assert lightness.std() == pytest.approx(27.8, abs=5)
    grey = np.abs(chroma).mean()
    assert grey == pytest.approx(0.0514, rel=0.25)

    bins = np.minimum((lightness * 2.56).astype(int), 255)
    fit, test = slice(0, 68), slice(68, 90)
    table = np.zeros((256, 2))
    for i in np.unique(bins[fit]):
        table[i] = np.median(chroma[fit][bins[fit] == i], axis=0)
    error = np.abs(table[bins[test]] - chroma[test]).mean()
    assert error / np.abs(chroma[test]).mean() == pytest.approx(0.735, abs=0.12)


def test_chroma_has_detail_at_every_scale():
    lab = rgb2lab(draw_many(24, 128))
    for channel, photographs in ((1, [641, 156, 107, 68, 28]), (2, [620, 185, 110, 62, 23])):
        f, _ = hann_power(lab[0, ..., channel])
        power = sum(hann_power(picture[..., channel])[1] for picture in lab)
        edges = [0, 4, 8, 16, 32, 64]
        bands = [power[(f > a) & (f <= b)].sum() for a, b in zip(edges, edges[1:], strict=False)]
        ratio = np.array(bands) / np.sum(bands) / (np.array(photographs) / 1000)
        assert (ratio > 0.5).all()
        assert (ratio < 2).all()


# --- colour that lightness does not tell


def hue_name(lab):
    """Rough name of a petal's colour; pink reaches from violet to salmon."""
    a, b = lab[1:]
    if np.hypot(a, b) < 14:
        return "white"
    hue = np.degrees(np.arctan2(b, a)) % 360
    return "yellow" if 65 < hue < 115 else "pink" if hue > 270 or hue < 50 else "other"


def test_every_petal_colour_occurs(petals):
    names = [hue_name(np.median(p, axis=0)) for p in petals if len(p) > 15]
    counts = {name: names.count(name) for name in ("white", "yellow", "pink")}
    assert min(counts.values()) >= 5
    assert counts["white"] == max(counts.values())


def test_every_kind_of_petal_is_drawn():
    assert sum(share for share, *_ in PETALS.values()) == pytest.approx(1)
    rng = np.random.default_rng(0)
    assert {kind for _ in range(300) for kind in daisies._kinds(rng, 3)} == set(PETALS)


def test_equal_lightness_unequal_colour(petals):
    for low in (60, 66, 72):
        colours = {"white": 0, "yellow": 0, "pink": 0}
        for pixels in petals:
            own = pixels[(pixels[:, 0] >= low) & (pixels[:, 0] < low + 6)]
            if len(own) > 3:
                name = hue_name(np.median(own, axis=0))
                colours[name] = colours.get(name, 0) + 1
        assert min(colours[name] for name in ("white", "yellow", "pink")) >= 3, (low, colours)

    pixels = np.concatenate(petals)
    own = pixels[np.abs(pixels[:, 0] - 70) < 1]
    assert own[:, 1:].std(axis=0).min() > 8  # where L is 69 to 71, a and b are anything


# --- geometry and colour underneath


def disc(x, y, radius, colour):
    return daisies._ribbons(
        1,
        start=[x, y - radius],
        along=[0, 2 * radius],
        across=[radius, 0],
        ends=0.5,
        root=colour,
        tip=colour,
    )


def test_painting_covers_the_shape_and_hides_what_is_behind():
    red, blue = disc(0.5, 0.5, 0.3, [1, 0, 0]), disc(0.5, 0.5, 0.15, [0, 0, 1])
    both = daisies._paint(np.concatenate([red, blue]), 200, np.ones(3), np.zeros(3))
    coverage = both[..., 3]
    assert coverage.mean() == pytest.approx(np.pi * 0.3**2, rel=0.02)
    assert both[..., 2].mean() == pytest.approx(np.pi * 0.15**2, rel=0.03)
    np.testing.assert_allclose(both[..., :3].sum(axis=-1), coverage)
    y, x = np.mgrid[:200, :200] / 200 + 0.0025
    assert coverage[np.hypot(x - 0.5, y - 0.5) < 0.29].all()  # no holes
    hidden = daisies._paint(np.concatenate([blue, red]), 200, np.ones(3), np.zeros(3))
    assert hidden[..., 2].max() == 0


def test_resampling_keeps_constants_and_moves_by_the_shift():
    flat = daisies._resample(np.full((8, 8, 1), 0.3, np.float32), 32, 0.05, (0.2, 0.1))
    np.testing.assert_allclose(flat, 0.3, rtol=1e-5)
    spot = np.zeros((32, 32, 1), np.float32)
    spot[10, 12] = 1
    moved = daisies._resample(spot, 32, 0.02, (0.25, 0.125))[..., 0]
    assert np.unravel_index(moved.argmax(), moved.shape) == (14, 20)


def test_lab_conversion_against_skimage():
    rgb = np.random.default_rng(0).random((20, 20, 3))
    linear = daisies._lab_to_linear(rgb2lab(rgb))
    np.testing.assert_allclose(daisies._encode(linear), rgb, atol=1e-4)


# --- chroma bandwidth


@pytest.mark.parametrize("bandwidth", [4, 12.5])
def test_chroma_bandwidth_keeps_lightness_and_empties_the_bands_above(bandwidth):
    left, before = 0, 0
    for index in range(8):
        drawn = rgb2lab(draw(index, 64))
        limited = rgb2lab(draw(index, 64, chroma_bandwidth=bandwidth))
        np.testing.assert_allclose(limited[..., 0], drawn[..., 0], atol=0.01)
        for channel in (1, 2):
            f, power = hann_power(limited[..., channel])
            above = f > bandwidth + 2  # the window leaks into two bins
            left += power[above].sum()
            before += hann_power(drawn[..., channel])[1][above].sum()
    assert left < 0.03 * before


def test_chroma_below_the_limit_passes_untouched():
    # Cosines of 3 and of 12 cycles on mid-grey, far from the border of the gamut.
    x = (np.arange(64) + 0.5) / 64
    slow, fast = np.cos(2 * np.pi * 3 * x), np.cos(2 * np.pi * 12 * x)
    lab = np.full((64, 64, 3), 60.0)
    lab[..., 1] = 10 * slow + 6 * fast
    lab[..., 2] = (8 * slow + 5 * fast)[:, None]
    limited = rgb2lab(daisies._limit_chroma(lab2rgb(lab), 6).astype(float))
    np.testing.assert_allclose(limited[..., 0], 60, atol=0.02)
    np.testing.assert_allclose(limited[..., 1], np.tile(10 * slow, (64, 1)), atol=0.05)
    np.testing.assert_allclose(limited[..., 2], np.tile(8 * slow[:, None], (1, 64)), atol=0.05)


def test_a_limit_above_all_frequencies_changes_nothing():
    np.testing.assert_allclose(draw(1, 32, chroma_bandwidth=100), draw(1, 32), atol=2e-3)


# --- errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"index": -1, "size": 32}, r"index .* at least 0, got -1"),
        ({"index": 1.5, "size": 32}, r"index .* got 1.5"),
        ({"index": 0, "size": 15}, r"size .*\[16, 512\], got 15"),
        ({"index": 0, "size": 513}, r"size .*\[16, 512\], got 513"),
        ({"index": 0, "size": True}, r"size .* got True"),
        ({"index": 0, "size": 32, "seed": -2}, r"seed .* at least 0, got -2"),
        ({"index": 0, "size": 32, "chroma_bandwidth": 0}, r"chroma_bandwidth .* got 0"),
        ({"index": 0, "size": 32, "chroma_bandwidth": "8"}, r"chroma_bandwidth .* got '8'"),
        ({"index": 0, "size": 32, "chroma_bandwidth": np.nan}, r"chroma_bandwidth .* got nan"),
    ],
)
def test_impossible_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        draw(**arguments)
