"""How often intervals hold the truth, in simulated worlds where it is known.

`python tests/intervals.py > poolae/paper/reference/coverage.csv` takes five minutes on one core.
"""

import sys
from itertools import product

import numpy as np
import pandas as pd
from scipy import stats

from poolae.metrics.statistics import LEVEL, TEST_TO_TRAINING, crossed_variance

# Random numbers of mean 0 and variance 1. The skewness of the second is 1, of the third 6.2.
DRAWS = {
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "skewed": lambda rng, shape: (rng.standard_gamma(4, shape) - 4) / 2,
    "very skewed": lambda rng, shape: (
        (rng.lognormal(0, 1, shape) - np.e**0.5) / (np.e**2 - np.e) ** 0.5
    ),
}
SEED_SHARES = (0.0, 0.1, 0.5, 0.9, 1.0)


def simulated_coverage(
    seeds: int,
    seed_share: float,
    of_seeds: str = "normal",
    of_images: str = "normal",
    repetitions: int = 2000,
    images: int = 764,
) -> dict[str, float]:
    """Return how often each kind of 95 % interval holds the truth in a world of known truth.

    A quarter of the images is in the test part of each seed, drawn anew for each, so that images
    recur. Seeds, images and errors are random and add up.

    Parameters
    ----------
    seeds
        Networks of an arm.
    seed_share
        Share of the seeds in the variance of one seed's mean, 0 to 1. Images and errors have
        half of the rest each.
    of_seeds, of_images
        Keys of `DRAWS`: how seeds are distributed, and how images and errors are.
    repetitions
        Worlds. A coverage of .95 is known to ± .005 (standard error) from 2,000.
    images
        Different ones in all.

    Returns
    -------
    dict
        "crossed", which `Contrast` has; "satterthwaite", the same variance on the degrees of
        freedom of that approximation; "seeds_alone", the t interval of the seeds' means as if no
        image were shared; "nadeau_bengio"; "bootstrap", of seeds and images independently (Owen
        2007), from a tenth of the worlds; and "width", of "crossed" in units of 1.96 true
        standard errors.
    """
    rng = np.random.default_rng(0)
    tested = images // 4
    sizes = (seed_share / tested) ** 0.5, *2 * [((1 - seed_share) / 2) ** 0.5]
    shapes = {(seeds, 1): of_seeds, (1, images): of_images, (seeds, images): of_images}
    means, errors, held = [], [], []
    for repetition in range(repetitions):
        values = sum(
            size * DRAWS[kind](rng, shape)
            for size, (shape, kind) in zip(sizes, shapes.items(), strict=True)
        )
        values[rng.random(values.shape).argsort(axis=1) >= tested] = np.nan
        means.append(np.nanmean(values))
        errors.append(crossed_variance(values))
        if repetition % 10 == 0:
            low, high = np.quantile(_bootstrap_means(values, rng), [0.025, 0.975])
            held.append(low <= 0 <= high)
    off, (of_seeds_, of_images_) = np.abs(means), np.transpose(errors)
    both = of_seeds_ + of_images_
    reach = stats.t.ppf((1 + LEVEL) / 2, seeds - 1)
    freedom = both**2 / (of_seeds_**2 / (seeds - 1) + of_images_**2 / (images - 1))
    corrected = of_seeds_ * (1 + seeds * TEST_TO_TRAINING)
    return {
        "crossed": (off <= reach * both**0.5).mean(),
        "satterthwaite": (off <= stats.t.ppf((1 + LEVEL) / 2, freedom) * both**0.5).mean(),
        "seeds_alone": (off <= reach * of_seeds_**0.5).mean(),
        "nadeau_bengio": (off <= reach * corrected**0.5).mean(),
        "bootstrap": np.mean(held),
        "width": reach * (both**0.5).mean() / (stats.norm.ppf((1 + LEVEL) / 2) * np.std(means)),
    }


def _bootstrap_means(values: np.ndarray, rng: np.random.Generator, draws: int = 400) -> np.ndarray:
    there = np.isfinite(values)
    seeds, images = (rng.multinomial(n, np.full(n, 1 / n), draws) for n in values.shape)
    means = (images @ np.where(there, values, 0).T) / (images @ there.T)  # (draws, S)
    return (seeds * means).mean(axis=1)


def coverage_table() -> pd.DataFrame:
    """Return `simulated_coverage` of worlds that differ in what scatters and how: a row each."""
    columns = ["seeds", "seed_share", "of_seeds", "of_images"]
    kinds = [("normal", "normal"), ("normal", "very skewed"), ("skewed", "very skewed")]
    worlds = [(n, s, *kind) for kind, n, s in product(kinds, (6, 10), SEED_SHARES)]
    worlds += [(n, 1.0, "very skewed", "normal") for n in (6, 10)]
    rows = [dict(zip(columns, w, strict=True)) | simulated_coverage(*w) for w in worlds]
    return pd.DataFrame(rows)


if __name__ == "__main__":
    coverage_table().to_csv(sys.stdout, index=False, float_format="%.3f", lineterminator="\n")
