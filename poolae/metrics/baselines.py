"""What any network has to beat, and what it could reach at best.

Baselines know lightness, or nothing at all: each `fit_...` takes the training
images and returns a function from lightness (N, 1, H, W) to chroma
(N, 2, H, W), both in [0, 1]. Oracles know the true colours, but only coarsely.

Mean absolute error on the 193 test images of the 764 daisies (64 px, seed 0),
with the seconds that fitting and predicting took on one busy core:
    training median   .0463   0.1 s
    lightness table   .0398   0.3 s
    position table    .0398   0.5 s
    patch boosting    .0378   9.4 s
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
import pandas as pd

Predictor = Callable[[np.ndarray], np.ndarray]

PATCH = 5  # side in pixels of the patch that boosting sees in full
BOXES = (1 / 8, 1 / 4, 1 / 2)  # and of wider boxes it sees the means; shares of the image's side

ORACLES = (1, 16, 32, 64)  # blocks along each side


def fit_grey(lightness: np.ndarray, chroma: np.ndarray) -> Predictor:
    """Answer a = b = 0 everywhere."""
    return _constant(np.full(2, 128 / 255))


def fit_median(lightness: np.ndarray, chroma: np.ndarray) -> Predictor:
    """Answer the median of a and of b over all training pixels, the best constant under L1."""
    return _constant(np.median(np.moveaxis(chroma, 1, 0).reshape(2, -1), axis=1))


def fit_lightness_table(lightness: np.ndarray, chroma: np.ndarray, bins: int = 256) -> Predictor:
    """Answer, for each of `bins` equal steps of lightness, the training median of a and b there.

    A step that no training pixel falls into takes the value of its nearest
    neighbours, interpolated.
    """
    table = _medians(_bin(lightness, bins), chroma, bins).interpolate(limit_direction="both")
    table = table.to_numpy(np.float32)
    return lambda light: np.moveaxis(table[_bin(light[:, 0], bins)], -1, 1)


def fit_position_table(
    lightness: np.ndarray, chroma: np.ndarray, bins: int = 32, cells: int = 4
) -> Predictor:
    """Answer the training median of a and b for each step of lightness in each part of the image.

    Parameters
    ----------
    lightness, chroma
        Of the training images.
    bins
        Equal steps of lightness.
    cells
        Equal parts of each side of the image. Where no training pixel has that
        lightness in that part, `fit_lightness_table` answers.
    """

    def cell(light: np.ndarray) -> np.ndarray:
        rows, columns = (np.arange(side) * cells // side for side in light.shape[-2:])
        return (_bin(light[:, 0], bins) * cells + rows[:, None]) * cells + columns  # (N, H, W)

    table = _medians(cell(lightness), chroma, bins * cells**2).to_numpy(np.float32)
    anywhere = fit_lightness_table(lightness, chroma)

    def predict(light: np.ndarray) -> np.ndarray:
        here = np.moveaxis(table[cell(light)], -1, 1)
        return np.where(np.isnan(here), anywhere(light), here)

    return predict


def fit_patch_boosting(
    lightness: np.ndarray, chroma: np.ndarray, pixels: int = 100_000
) -> Predictor:
    """Regress a and b on the lightness around each pixel with gradient-boosted trees under L1.

    It sees the patch of `PATCH` x `PATCH` pixels, the means over wider `BOXES` and
    the pixel's position. Its size was chosen on a quarter of the training images
    that it was not fitted on: 100 trees were no better than 60, a patch of 7 x 7
    hardly better than 5 x 5, and given the mean and quantiles of the whole image
    it knew the training images again and lost to the lightness table.

    Parameters
    ----------
    lightness, chroma
        Of the training images.
    pixels
        About as many are drawn to be fitted on, equally many from each image.
    """
    from sklearn.ensemble import HistGradientBoostingRegressor

    rng = np.random.default_rng(0)
    size = lightness[0].size
    each = min(size, -(-pixels // len(lightness)))
    drawn = [rng.choice(size, each, replace=False) for _ in lightness]
    seen = [_surroundings(light[0])[at] for light, at in zip(lightness, drawn, strict=True)]
    colours = [colour.reshape(2, -1)[:, at] for colour, at in zip(chroma, drawn, strict=True)]
    # Pixels of one image are alike, hence large leaves; and held-out pixels would come
    # from the images that are fitted on, so that early stopping would stop too late.
    options = dict(max_iter=60, min_samples_leaf=200, early_stopping=False, random_state=0)
    models = [
        HistGradientBoostingRegressor(loss="absolute_error", **options).fit(
            np.concatenate(seen), channel
        )
        for channel in np.concatenate(colours, axis=1)
    ]

    def predict(light: np.ndarray) -> np.ndarray:
        predicted = np.empty((len(light), 2, *light.shape[-2:]), np.float32)
        for image, (plane,) in zip(predicted, light, strict=True):
            around = _surroundings(plane)
            for channel, model in zip(image, models, strict=True):
                channel.flat = model.predict(around)
        return predicted.clip(0, 1)

    return predict


BASELINES: dict[str, Callable[[np.ndarray, np.ndarray], Predictor]] = {
    "grey": fit_grey,
    "training median": fit_median,
    "lightness table": fit_lightness_table,
    "position table": fit_position_table,
    "patch boosting": fit_patch_boosting,
}


def block_oracle(true_chroma: np.ndarray, blocks: int) -> np.ndarray:
    """Answer the median of the true colours in each block of each image.

    Under L1 nothing that is constant over these blocks comes closer to the truth.

    Parameters
    ----------
    true_chroma : (N, 2, H, W) array
    blocks
        Along each side. Where they do not divide it, some are a pixel larger.

    Returns
    -------
    (N, 2, H, W) array

    Raises
    ------
    ValueError
        If there are fewer pixels than blocks along a side.
    """
    height, width = true_chroma.shape[-2:]
    if not 1 <= blocks <= min(height, width):
        raise ValueError(f"{blocks} blocks along a side do not fit {height} x {width} pixels")
    rows, columns = (np.arange(blocks + 1) * side // blocks for side in (height, width))
    prediction = np.empty_like(true_chroma)
    for part in product(map(slice, rows, rows[1:]), map(slice, columns, columns[1:])):
        block = true_chroma[..., *part]
        prediction[..., *part] = np.median(block, axis=(-2, -1), keepdims=True)
    return prediction


def oracles(true_chroma: np.ndarray) -> dict[str, np.ndarray]:
    """Return the `block_oracle` of each of `ORACLES`, by name, without grids finer than the image.

    The names are "oracle 1 × 1", "oracle 16 × 16" and so on.
    """
    return {
        f"oracle {blocks} × {blocks}": block_oracle(true_chroma, blocks)
        for blocks in ORACLES
        if blocks <= min(true_chroma.shape[-2:])
    }


def local_mean(lightness: np.ndarray, share: float) -> np.ndarray:
    """Return the mean over a box around each pixel, (..., H, W), mirrored at the edges.

    Parameters
    ----------
    lightness : (..., H, W) array
    share
        Side of the box as a share of the image's, rounded to an odd number of pixels.
    """
    from scipy.ndimage import uniform_filter

    box = [2 * round(side * share / 2) + 1 for side in lightness.shape[-2:]]
    return uniform_filter(lightness, box, axes=(-2, -1))


def _surroundings(light: np.ndarray) -> np.ndarray:
    """Return what `fit_patch_boosting` sees of each pixel of a plane (H, W), (H*W, features)."""
    height, width = light.shape
    padded = np.pad(light, PATCH // 2, mode="symmetric")
    patch = np.lib.stride_tricks.sliding_window_view(padded, (PATCH, PATCH))
    contrast = (patch - light[..., None, None]).reshape(height, width, -1)
    y = (np.arange(height)[:, None] + 0.5) / height - 0.5
    x = (np.arange(width) + 0.5) / width - 0.5
    planes = [light, *(local_mean(light, share) for share in BOXES), y, x, np.hypot(y, x)]
    planes = np.stack([np.broadcast_to(plane, light.shape) for plane in planes], axis=-1)
    return np.concatenate([contrast, planes], axis=-1, dtype=np.float32).reshape(light.size, -1)


def _medians(cell: np.ndarray, chroma: np.ndarray, cells: int) -> pd.DataFrame:
    """Return the medians of a and b over the pixels of each cell, (cells, 2), NaN where none is."""
    colours = pd.DataFrame(np.moveaxis(chroma, 1, -1).reshape(-1, 2))
    return colours.groupby(cell.ravel()).median().reindex(range(cells))


def _bin(lightness: np.ndarray, bins: int) -> np.ndarray:
    return np.minimum((lightness * bins).astype(np.int64), bins - 1)


def _constant(colour: np.ndarray) -> Predictor:
    colour = colour.astype(np.float32)[:, None, None]
    return lambda light: np.broadcast_to(colour, (len(light), 2, *light.shape[-2:]))
