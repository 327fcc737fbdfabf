"""Differences between arms with intervals and tests, from one score per seed and image.

A seed fixes the split, the initialisation and the batch order of every arm, so two arms are
compared on the same images of the same seed. Seeds and images are both samples: another seed
would train another network, another picture would be easier or harder, and a picture may be in
the test part of several seeds. Intervals and tests count both, in closed form: `crossed_variance`
has the formula.

In simulated worlds a 95 % interval holds the truth in 93.7 to 98.1 % of 2,000 cases with 6 or 10
seeds, whether seeds or images scatter and however skewed images are: `tests/intervals.py` makes
`paper/reference/coverage.csv`. In 82 to 84 % where seeds alone scatter, as a lognormal; differences
of the record's arms are no more skewed over seeds than normal ones (median .51 to .62 over pairs of
arms, where that of six normal numbers is .55).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import pandas as pd

from poolae.settings import UserError

LEVEL = 0.95
POWER = 0.8
MIN_SEEDS = 6  # the fewest for which intervals were seen to hold the truth
TEST_TO_TRAINING = 1 / 3  # images: `data.split` divides 3:1


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """A mean, or a difference of two means, of one metric, with what is known of its chance."""

    metric: str
    arms: tuple[str, ...]  # (a, b) for a minus b, (a,) for the mean of a
    effect: float
    low: float  # interval at LEVEL: t on seeds - 1 degrees of freedom, see `crossed_variance`
    high: float
    p: float | None = None  # two-sided, of the same t; None with fewer than MIN_SEEDS
    seeds: int
    images: int  # different ones, over all seeds
    # With one seed, whose interval speaks of images alone, None:
    corrected_low: float | None = None  # interval of Nadeau and Bengio (2003)
    corrected_high: float | None = None
    beats: float | None = None  # share of seeds whose mean is below 0; equal ones count half
    beats_low: float | None = None  # its interval at LEVEL (Clopper and Pearson 1934)
    beats_high: float | None = None
    detectable: float | None = None  # least effect that is found with POWER at p = 1 - LEVEL
    p_holm: float | None = None

    def reading(self, margin: float) -> str:
        """Read the interval against ± `margin`, the same way on both sides.

        Returns
        -------
        str
            "lower" or "higher" if all of it lies beyond the margin there, "none" if all of it
            lies within, else "open", as it always is with fewer seeds than MIN_SEEDS.
        """
        if not margin > 0:
            raise ValueError(f"margin must be above 0, got {margin}")
        if self.seeds < MIN_SEEDS:
            return "open"
        if self.high < -margin:
            return "lower"
        if self.low > margin:
            return "higher"
        return "none" if -margin < self.low and self.high < margin else "open"


def paired_contrast(scores: pd.DataFrame, metric: str, a: str, b: str) -> Contrast:
    """Return the mean over seeds of the mean over images of `metric` of `a` minus that of `b`.

    Parameters
    ----------
    scores
        Columns `arm`, `seed`, `image` and `metric`, one row per arm, seed and image. Pairs of
        which either score is missing or NaN are left out.
    metric, a, b
        The column, and the two arms.

    Raises
    ------
    UserError
        If the arms have no seed and image in common, or a score is there twice.
    """
    cells = (_scores_of(scores, metric, a) - _scores_of(scores, metric, b)).dropna()
    if cells.empty:
        raise UserError(f"{a} and {b} share no image with {metric}: train both from one seed.")
    return _contrast(cells, metric, (a, b))


def one_sample(scores: pd.DataFrame, metric: str, arm: str) -> Contrast:
    """Return the mean over seeds of the mean over images of `metric`; p is that of 0.

    The parameters and the error are those of `paired_contrast`.
    """
    cells = _scores_of(scores, metric, arm).dropna()
    if cells.empty:
        raise UserError(f"{arm} has no {metric}: train and score it first.")
    return _contrast(cells, metric, (arm,))


def holm(contrasts: Iterable[Contrast]) -> list[Contrast]:
    """Return the contrasts with `p_holm`, Holm's correction over all of them that have a p."""
    contrasts = list(contrasts)
    tested = [contrast.p for contrast in contrasts if contrast.p is not None]
    if not tested:
        return contrasts
    from statsmodels.stats.multitest import multipletests

    corrected = iter(multipletests(tested, method="holm")[1])
    return [c if c.p is None else replace(c, p_holm=float(next(corrected))) for c in contrasts]


def crossed_variance(values: np.ndarray) -> tuple[float, float]:
    """Return the variance of the mean over seeds of means over images, in its two parts.

    With v(s, i) = truth + seed(s) + image(i) + error(s, i), all random, the scatter of the seeds'
    means m(s) knows of seeds and errors, but what the images that two seeds share add to both
    means it cannot show. So the variance of the mean of S seeds is
    var(m) / S, as if no image were shared, and the mean covariance of two of them,
    var(image) times the mean over pairs of (images shared) / (images of one x images of other).
    The products of two seeds' deviations at the images that they share estimate var(image),
    without bias also where seeds have unequal numbers of images. If all share all, this is
    (MS seeds + MS images - MS error) / (S I) of the analysis of variance.

    Parameters
    ----------
    values : (S, I) array
        NaN where an image is not in the test part of a seed; no seed without any.

    Returns
    -------
    of_seeds, of_images
        To be added. With one seed the first is 0 and the second var(v) / I, NaN with one image.
    """
    there = np.isfinite(values)
    count, means = there.sum(axis=1), np.nanmean(values, axis=1)
    deviations = np.where(there, values - means[:, None], 0)
    if len(values) == 1:
        return 0.0, (deviations**2).sum() / (count[0] * (count[0] - 1)) if count[0] > 1 else np.nan
    pairs = np.triu_indices(len(values), 1)
    shared = (there.astype(int) @ there.T)[pairs]
    n, m = count[pairs[0]], count[pairs[1]]
    # Deviations are from a seed's own mean, which holds its share of every image's effect.
    expected = (shared * (1 - 1 / n - 1 / m + shared / (n * m))).sum()
    products = (deviations @ deviations.T)[pairs].sum()
    of_image = max(products / expected, 0) if expected > 0 else 0.0
    return means.var(ddof=1) / len(values), of_image * (shared / (n * m)).mean()


def _contrast(cells: pd.Series, metric: str, arms: tuple[str, ...]) -> Contrast:
    from scipy import stats
    from statsmodels.stats.proportion import proportion_confint

    cells = cells.rename("score").reset_index()
    values = cells.pivot_table("score", "seed", "image").to_numpy()
    means = np.nanmean(values, axis=1)
    effect, (seeds, images) = float(means.mean()), values.shape
    freedom = (seeds if seeds > 1 else images) - 1
    error = sum(crossed_variance(values)) ** 0.5
    reach = stats.t.ppf((1 + LEVEL) / 2, max(freedom, 1))
    known = {}
    if seeds >= MIN_SEEDS:
        t = abs(effect) / error if error else np.inf if effect else 0.0
        known["p"] = float(2 * stats.t.sf(t, freedom))
    if seeds > 1:
        corrected = float(reach * means.std(ddof=1) * np.sqrt(1 / seeds + TEST_TO_TRAINING))
        below = (means < 0).sum() + (means == 0).sum() / 2
        interval = proportion_confint(below, seeds, alpha=1 - LEVEL, method="beta")
        known |= {
            "corrected_low": effect - corrected,
            "corrected_high": effect + corrected,
            "beats": float(below / seeds),
            "beats_low": float(interval[0]),
            "beats_high": float(interval[1]),
            "detectable": float(error * _standard_errors(freedom)),
        }
    return Contrast(
        metric=metric,
        arms=arms,
        effect=effect,
        low=float(effect - reach * error),
        high=float(effect + reach * error),
        seeds=seeds,
        images=images,
        **known,
    )


@lru_cache
def _standard_errors(freedom: int) -> float:
    """Return how many standard errors an effect measures that a t test finds with POWER."""
    from statsmodels.stats.power import TTestPower

    nobs = freedom + 1
    return TTestPower().solve_power(nobs=nobs, alpha=1 - LEVEL, power=POWER) * nobs**0.5


def _scores_of(scores: pd.DataFrame, metric: str, arm: str) -> pd.Series:
    rows = scores.loc[scores["arm"] == arm, ["seed", "image", metric]]
    series = rows.set_index(["seed", "image"])[metric]
    if not series.index.is_unique:
        seed, image = series.index[series.index.duplicated()][0]
        raise UserError(
            f"{arm} has two scores for {image} of seed {seed}: give each run an arm of its own."
        )
    return series
