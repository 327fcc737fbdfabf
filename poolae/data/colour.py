"""The study's colour planes: CIE Lab with each plane scaled to [0, 1], from sRGB and back."""

from __future__ import annotations

import numpy as np


def rgb_to_lab01(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Convert sRGB to the study's planes of CIE Lab (D65, 2 degree observer).

    Parameters
    ----------
    rgb
        (..., H, W, 3) sRGB, floats in [0, 1] or uint8.

    Returns
    -------
    lightness
        (..., 1, H, W) float32 in [0, 1]: L / 100.
    chroma
        (..., 2, H, W) float32 in [0, 1]: (a + 128) / 255, (b + 128) / 255.
    """
    from skimage.color import rgb2lab

    lab = np.moveaxis(rgb2lab(np.asarray(rgb)), -1, -3)  # (..., 3, H, W)
    # White rounds to a lightness just above 100.
    lightness = np.clip(lab[..., :1, :, :] / 100, 0, 1).astype(np.float32)
    chroma = ((lab[..., 1:, :, :] + 128) / 255).astype(np.float32)
    return lightness, chroma


def lab01_to_rgb(lightness: np.ndarray, chroma: np.ndarray) -> np.ndarray:
    """Convert the study's planes of CIE Lab to sRGB, clipped to the gamut.

    Parameters
    ----------
    lightness
        (..., 1, H, W) floats in [0, 1].
    chroma
        (..., 2, H, W) floats in [0, 1].

    Returns
    -------
    rgb
        (..., H, W, 3) float32 sRGB in [0, 1].
    """
    from skimage.color import lab2rgb

    L = np.asarray(lightness, dtype=np.float64)[..., 0, :, :] * 100
    a, b = np.moveaxis(np.asarray(chroma, dtype=np.float64), -3, 0) * 255 - 128
    # f(Z) = (L + 16) / 116 - b / 200 would be negative for yellows that no light has.
    # `lab2rgb` sets it to 0 too, but warns; the margin keeps rounding from doing so.
    b = np.minimum(b, 200 * (L + 16) / 116 - 1e-6)
    return lab2rgb(np.stack([L, a, b], axis=-1)).clip(0, 1).astype(np.float32)
