"""Putting runs beside baselines and beside one another."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache

import numpy as np
import pandas as pd

from poolae import data, metrics
from poolae.baselines import BASELINES
from poolae.colour import rgb_to_lab01
from poolae.files import REFERENCE
from poolae.runs import Run, score

ACCURACIES = [f"accuracy_{bound:.3f}" for bound in metrics.BOUNDS]


def compare(found: Sequence[Run]) -> pd.DataFrame:
    """Return the mean scores of every run, and of each baseline on the same splits.

    Returns
    -------
    DataFrame
        One row per arm and seed: `kind` ("network" or "baseline"), `arm`,
        `seed`, `mean_absolute_error` and `accuracy_0.000` ... `accuracy_0.100`,
        each the uniform mean over the test images of that seed's split.
    """
    rows = [
        {"kind": "network", "arm": arm(run), "seed": run.settings.seed, **run.scores.mean()}
        for run in found
    ]
    for settings in {run.settings.seed: run.settings for run in found}.values():
        images = data.load(settings.data, settings.size, settings.seed, settings.images)
        for name, fit in BASELINES.items():
            predict = fit(images.train.lightness, images.train.chroma)
            scores = score(predict(images.test.lightness), images.test)
            rows.append({"kind": "baseline", "arm": name, "seed": settings.seed, **scores.mean()})
    return pd.DataFrame(rows)


def arm(run: Run) -> str:
    """Return the name that a run shares with the same network trained from other seeds."""
    return run.name.removesuffix(f"-seed{run.settings.seed}")


def curves(compared: pd.DataFrame, kind: str) -> dict[str, np.ndarray]:
    """Return for each arm of `kind` its accuracy curves, (seeds, bounds), from `compare`."""
    of_kind = compared[compared["kind"] == kind]
    return {name: rows[ACCURACIES].to_numpy() for name, rows in of_kind.groupby("arm", sort=False)}


@cache
def published_curves() -> pd.DataFrame:
    """Return the curves of the 2020 study: accuracy of pool0 ... pool3, indexed by bound."""
    return pd.read_csv(REFERENCE / "published_curves.csv", comment="#", index_col="bound")


def margins_over_published(compared: pd.DataFrame, reference: str = "pool1") -> pd.DataFrame:
    """Return accuracy minus the published one of `reference`: a row per arm, a column per bound."""
    published = published_curves()[reference]
    means = compared.groupby("arm", sort=False)[ACCURACIES].mean()
    means.columns = metrics.BOUNDS
    at = [float(bound) for bound in published.index]
    return means[at] - published.to_numpy()


def representative_images(found: Sequence[Run], count: int = 5) -> tuple[np.ndarray, pd.Series]:
    """Pick test images by a fixed rule: equal steps through the ranking by error, ends included.

    Parameters
    ----------
    found
        Runs of one seed, so that they share their test images.
    count
        Images to pick.

    Returns
    -------
    rows : (count,) int
        Positions among the test images, from the best predicted to the worst.
    errors : Series
        Their mean absolute error over the runs, indexed by image name.
    """
    errors = sum(run.scores["mean_absolute_error"] for run in found) / len(found)
    ranked = np.argsort(errors.to_numpy(), kind="stable")
    rows = ranked[np.linspace(0, len(ranked) - 1, min(count, len(ranked))).round().astype(int)]
    return rows, errors.iloc[rows]


def describe_data(images: data.Data) -> dict:
    """Measure how hard a data set is and what its colours are like.

    Returns
    -------
    dict
        `size`, `images`; `mean_absolute_error` of each baseline, fitted on the
        training part and measured on the test part, in [0, 1]; `histogram` of a
        and of b (density over 64 steps of 4 units, -128 to 128) and `spectrum`
        (mean power in each of `metrics.BANDS`, squared Lab units) over all images.
    """
    errors = {}
    for name, fit in BASELINES.items():
        predicted = fit(images.train.lightness, images.train.chroma)(images.test.lightness)
        errors[name] = metrics.mean_absolute_error(predicted, images.test.chroma).mean()
    chroma = images.images.lab[:, 1:] * 255 - 128
    power = metrics.band_power(chroma).mean(axis=0)[:, : len(band_names(images.images.size))]
    edges = histogram_edges()
    return {
        "size": images.images.size,
        "images": len(images.images),
        "mean_absolute_error": errors,
        "histogram": {
            c: np.histogram(chroma[:, k], edges, density=True)[0] for k, c in enumerate("ab")
        },
        "spectrum": {c: power[k] for k, c in enumerate("ab")},
    }


def histogram_edges() -> np.ndarray:
    """Return the edges of the chroma histograms in Lab units, (65,)."""
    return np.linspace(-128, 128, 65)


def band_names(size: int) -> list[str]:
    """Return the bands of `metrics.BANDS` that images of this size hold, as "0–4", "4–8", ..."""
    pairs = zip(metrics.BANDS, metrics.BANDS[1:], strict=False)
    return [f"{low}–{high}" for low, high in pairs if low < size / 2]


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
    from PIL import Image
    from skimage import data as pictures

    chosen = {
        "astronaut": pictures.astronaut(),
        "cat": pictures.chelsea(),
        "coffee": pictures.coffee(),
        "rocket": pictures.rocket(),
        "motorcycle": pictures.stereo_motorcycle()[0],
    }
    shrunk = {
        name: np.asarray(Image.fromarray(rgb).resize((size, size), Image.Resampling.BILINEAR))
        for name, rgb in chosen.items()
    }
    return {name: rgb_to_lab01(rgb / np.float32(255)) for name, rgb in shrunk.items()}
