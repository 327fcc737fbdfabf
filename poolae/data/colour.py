"""The study's colour planes: CIE Lab with each plane scaled to [0, 1], from sRGB and back."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

STRIP = 2**17  # pixels of a large picture that are converted at a time


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


def recolour(rgb: np.ndarray, chroma: np.ndarray) -> np.ndarray:
    """Lay other colours over a picture's own lightness, in little more memory than the result.

    Parameters
    ----------
    rgb
        (H, W, 3) uint8 sRGB.
    chroma
        (2, h, w) float32 in [0, 1] of any size: it is spread smoothly over the picture.

    Returns
    -------
    (H, W, 3) float32 array
        sRGB in [0, 1], clipped to the gamut; within 1e-5 of what `lab01_to_rgb` gives.
    """
    from PIL import Image
    from skimage.color.colorconv import rgb_from_xyz, xyz_from_rgb

    height, width = rgb.shape[:2]
    flat = Image.Resampling.BILINEAR
    a, b = (np.asarray(Image.fromarray(plane).resize((width, height), flat)) for plane in chroma)
    byte = np.arange(256) / 255
    linear = np.where(byte > 0.04045, ((byte + 0.055) / 1.055) ** 2.4, byte / 12.92)
    red, green, blue = (xyz_from_rgb[1][:, None] * linear).astype(np.float32)  # shares of luminance
    from_xyz = (rgb_from_xyz * [0.95047, 1, 1.08883]).astype(np.float32)  # under D65
    result = np.empty(rgb.shape, np.float32)

    def convert(rows: slice) -> None:
        y = red[rgb[rows, :, 0]] + green[rgb[rows, :, 1]] + blue[rgb[rows, :, 2]]
        y = np.where(y > 0.008856, np.cbrt(y), 7.787 * y + 16 / 116)
        x = y + (255 * a[rows] - 128) / 500
        z = np.maximum(y - (255 * b[rows] - 128) / 200, 0)
        xyz = np.stack([x, y, z])
        xyz = np.where(xyz > 0.2068966, xyz * xyz * xyz, (xyz - 16 / 116) / 7.787)
        seen = np.tensordot(from_xyz, xyz, 1).clip(0, 1)
        seen = np.where(seen > 0.0031308, 1.055 * seen ** (1 / 2.4) - 0.055, 12.92 * seen)
        result[rows] = np.moveaxis(seen, 0, -1)

    step = max(1, STRIP // width)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(convert, [slice(k, k + step) for k in range(0, height, step)]))
    return result
