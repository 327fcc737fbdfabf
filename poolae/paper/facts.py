"""What the runs are held beside: published curves, descriptions of data, other photographs."""

from __future__ import annotations

import json
from functools import cache
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from poolae import data, metrics
from poolae.data.colour import rgb_to_lab01
from poolae.files import REFERENCE
from poolae.metrics.baselines import BASELINES

if TYPE_CHECKING:
    from PIL import Image

# Photographs that scikit-image ships: in the public domain or CC0, and none of a daisy.
PHOTOGRAPHS = {
    "astronaut": "astronaut.png",
    "cat": "chelsea.png",
    "coffee": "coffee.png",
    "rocket": "rocket.jpg",
}
TRIAL_STEPS = 300  # those of a trial of the recipe whose operations are 1


def recipe_trials(**options) -> pd.DataFrame:
    """Return what was tried before the recipe was fixed, what did not help included.

    A row per trial: `change`, `split`, `operations`, and the validation error of each arm, NaN
    where it was not tried; `options` as of `pandas.read_csv`.
    """
    return pd.read_csv(REFERENCE / "recipe_trials.csv", comment="#", **options)


@cache
def published_curves() -> pd.DataFrame:
    """Return the curves of the 2020 study: accuracy of pool0 ... pool3, indexed by bound."""
    return pd.read_csv(REFERENCE / "published_curves.csv", comment="#", index_col="bound")


def describe_data(split: data.Split) -> dict:
    """Measure how hard a data set is and what its colours are like.

    Returns
    -------
    dict
        `size`, `images`; `mean_absolute_error` of what sees no more than a pixel, fitted on the
        training part and measured on the test part, in [0, 1]; `histogram` of a
        and of b (density over 64 steps of 4 units, -128 to 128) and `spectrum`
        (mean power in each of `metrics.BANDS`, squared Lab units) over all images.
    """
    errors = {}
    for name in ("grey", "training median", "lightness table"):
        fit = BASELINES[name]
        predicted = fit(*split.train.in_memory())(split.test.lightness)
        errors[name] = metrics.mean_absolute_error(predicted, split.test.chroma).mean()
    chroma = split.images.lab[data.spread(range(len(split.images))), 1:] * 255 - 128
    power = metrics.band_power(chroma).mean(axis=0)[:, : len(band_names(split.images.size))]
    edges = histogram_edges()
    return {
        "size": split.images.size,
        "images": len(split.images),
        "mean_absolute_error": errors,
        "histogram": {
            c: np.histogram(chroma[:, k], edges, density=True)[0] for k, c in enumerate("ab")
        },
        "spectrum": {c: power[k] for k, c in enumerate("ab")},
    }


def histogram_edges() -> np.ndarray:
    """Return the edges of the chroma histograms in Lab units, (65,)."""
    return np.linspace(-128, 128, 65)


def daisies_described(size: int) -> dict:
    """Return what `describe_data` found on the 764 photographs, at the nearest size on record."""
    stored = json.loads((REFERENCE / "daisies_described.json").read_text())
    at = min(stored, key=lambda key: abs(int(key) - size))
    return stored[at]


def published_points() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return the published curves as arm to (bounds, accuracies), for drawing."""
    published = published_curves()
    return {name: (published.index.to_numpy(), published[name].to_numpy()) for name in published}


def photographs_out_of_context(size: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return photographs that come with scikit-image, as name to (lightness, chroma).

    Parameters
    ----------
    size
        Side of the square that they are squashed to, pixels.

    Returns
    -------
    dict
        Lightness (1, size, size) and chroma (2, size, size), both in [0, 1].
    """
    from PIL.Image import Resampling

    files = PHOTOGRAPHS | {"motorcycle": "motorcycle_left.png"}
    shrunk = {
        name: np.asarray(photograph(file).resize((size, size), Resampling.BILINEAR))
        for name, file in files.items()
    }
    return {name: rgb_to_lab01(rgb / np.float32(255)) for name, rgb in shrunk.items()}


def photograph(file: str) -> Image.Image:
    """Open a photograph that scikit-image ships, in sRGB.

    `skimage.data` would, but finds no reader where the path to it holds square brackets.
    """
    from PIL import Image

    folder = Path(find_spec("skimage").origin).parent
    return Image.open(folder / "data" / file).convert("RGB")


def band_names(size: int) -> list[str]:
    """Return the bands of `metrics.BANDS` that images of this size hold, as "0–4", "4–8", ..."""
    return [f"{low}–{high}" for low, high in pairwise(metrics.BANDS) if low < size / 2]
