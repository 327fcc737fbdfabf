"""Predictors that any network has to beat: they know lightness, or nothing at all.

Each `fit_...` takes the training images and returns a function from lightness
(N, 1, H, W) to chroma (N, 2, H, W), both in [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Predictor = Callable[[np.ndarray], np.ndarray]

GREY = 128 / 255  # a = b = 0


def fit_grey(lightness: np.ndarray, chroma: np.ndarray) -> Predictor:
    """Answer a = b = 0 everywhere."""
    return _constant(np.array([GREY, GREY]))


def fit_median(lightness: np.ndarray, chroma: np.ndarray) -> Predictor:
    """Answer the median of a and of b over all training pixels, the best constant under L1."""
    return _constant(np.median(np.moveaxis(chroma, 1, 0).reshape(2, -1), axis=1))


def fit_lightness_table(lightness: np.ndarray, chroma: np.ndarray, bins: int = 256) -> Predictor:
    """Answer, for each of `bins` equal steps of lightness, the training median of a and b there.

    A step that no training pixel falls into takes the value of its nearest
    neighbours, interpolated.
    """
    step = _bin(lightness, bins).ravel()
    order = np.argsort(step, kind="stable")
    filled, start = np.unique(step[order], return_index=True)
    table = np.empty((bins, 2))
    for c in range(2):
        groups = np.split(chroma[:, c].ravel()[order], start[1:])
        table[:, c] = np.interp(np.arange(bins), filled, [np.median(g) for g in groups])
    table = table.astype(np.float32)
    return lambda light: np.moveaxis(table[_bin(light[:, 0], bins)], -1, 1)


BASELINES: dict[str, Callable[[np.ndarray, np.ndarray], Predictor]] = {
    "grey": fit_grey,
    "training median": fit_median,
    "lightness table": fit_lightness_table,
}


def _bin(lightness: np.ndarray, bins: int) -> np.ndarray:
    return np.minimum((lightness * bins).astype(np.int64), bins - 1)


def _constant(colour: np.ndarray) -> Predictor:
    colour = colour.astype(np.float32)[:, None, None]
    return lambda light: np.broadcast_to(colour, (len(light), 2, *light.shape[-2:]))
