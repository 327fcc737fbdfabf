"""Colours against known values and against scikit-image."""

import numpy as np
import pytest

from poolae.data import colour


@pytest.mark.parametrize(
    ("rgb", "lab"),
    [  # CIE Lab under D65, Lindbloom's calculator, two decimals
        ((1, 1, 1), (100, 0, 0)),
        ((0, 0, 0), (0, 0, 0)),
        ((1, 0, 0), (53.24, 80.09, 67.20)),
        ((0, 1, 0), (87.73, -86.18, 83.18)),
        ((0, 0, 1), (32.30, 79.19, -107.86)),
    ],
)
def test_lab_of_known_colours(rgb, lab):
    lightness, chroma = colour.rgb_to_lab01(np.full((2, 3, 4, 3), rgb, dtype=float))
    assert lightness.shape == (2, 1, 3, 4) and chroma.shape == (2, 2, 3, 4)
    assert lightness.dtype == chroma.dtype == np.float32
    assert lightness.min() >= 0 and lightness.max() <= 1
    expected = np.array([lab[0] / 100, (lab[1] + 128) / 255, (lab[2] + 128) / 255])
    planes = np.concatenate([lightness, chroma], axis=-3)
    assert np.abs(planes - expected[:, None, None]).max() < 1e-4


def test_bytes_and_floats_have_the_same_colour():
    rgb = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    for ours, theirs in zip(colour.rgb_to_lab01(rgb), colour.rgb_to_lab01(rgb / 255), strict=True):
        assert np.allclose(ours, theirs, atol=1e-6)


def test_planes_outside_the_gamut_are_clipped_without_a_warning():
    # Every corner of the cube and 20,000 points in it: most are no sRGB colour, and
    # dark with a high b has the negative Z of which scikit-image warns.
    corners = np.stack(np.meshgrid([0, 1], [0, 1], [0, 1]), -1).reshape(-1, 3)
    planes = np.concatenate([corners, np.random.default_rng(0).random((20_000, 3))])
    planes = planes.T[:, :, None]  # (3, 20008, 1)
    rgb = colour.lab01_to_rgb(planes[:1], planes[1:])
    assert rgb.dtype == np.float32
    assert np.isfinite(rgb).all() and rgb.min() == 0 and rgb.max() == 1
    # scikit-image clips in the same way, if noisily
    skimage_color = pytest.importorskip("skimage.color")
    lab = np.moveaxis(planes * [[[100]], [[255]], [[255]]] - [[[0]], [[128]], [[128]]], 0, -1)
    with pytest.warns(UserWarning, match="negative Z"):
        reference = skimage_color.lab2rgb(lab)
    assert np.abs(rgb - reference).max() < 1e-5


def test_other_colours_lie_over_the_same_lightness(monkeypatch):
    from PIL import Image

    monkeypatch.setattr(colour, "STRIP", 100)  # many strips, the last one shorter
    rgb = np.random.default_rng(0).integers(0, 256, (37, 23, 3), dtype=np.uint8)
    rgb[0, :4], rgb[1, :4] = 0, 255
    chroma = 0.4 + 0.2 * np.random.default_rng(1).random((2, 8, 8), np.float32)
    chroma[:, 0, 0] = 0  # not to be shown: clipped as elsewhere
    found = colour.recolour(rgb, chroma)
    assert found.shape == (37, 23, 3) and found.dtype == np.float32
    spread = [Image.fromarray(p).resize((23, 37), Image.Resampling.BILINEAR) for p in chroma]
    lightness, _ = colour.rgb_to_lab01(rgb)
    expected = colour.lab01_to_rgb(lightness, np.stack(list(map(np.asarray, spread))))
    assert np.abs(found - expected).max() < 1e-5
