"""Is a mixture of networks of several depths worth more than one of several seeds?

The best of K guesses at every pixel always beats a single guess, however the K
came about. So whatever a mixture of K depths gains is held against the same
mixture of K seeds of one depth, and what a choice made in hindsight gains is
held against what a choice made from the image recovers.

Experts are arrays (K, N, 2, H, W) of chroma in [0, 1], predicted by K networks
for the same N images, none of which they were trained on. The error of an
expert at a pixel is the mean of its absolute errors of a and b.

All mixtures of four depths and of four seeds over 193 images of 64 x 64 take
10 s on one core, nearly all of it for the gate.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from poolae.metrics.baselines import local_mean
from poolae.metrics.scores import mean_absolute_error

BEST_SINGLE = "best single expert"
PIXEL_ORACLE = "pixel oracle"


def errors(experts: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Return the error of each expert at each pixel, (K, N, H, W)."""
    return np.abs(experts - true).mean(axis=2)


def winners(experts: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Return the index of the nearest expert at each pixel, (N, H, W); of equals, the first."""
    return errors(experts, true).argmin(axis=0)


def pixel_oracle(experts: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Answer with the nearest expert at each pixel, (N, 2, H, W): the most that choosing can do."""
    return _choose(experts, winners(experts, true))


def segments(lightness: np.ndarray, count: int = 64) -> np.ndarray:
    """Divide images into about `count` segments of similar lightness, (N, H, W) int from 0.

    The segments are superpixels (SLIC; Achanta et al. 2012), which follow the
    outlines of petals where there are any and are squares where there are none.

    Parameters
    ----------
    lightness : (N, 1, H, W) array in [0, 1]
    count
        Per image.
    """
    from skimage.segmentation import slic

    # At a compactness of 0.1 a quarter of the segments are lost in even images, at 1
    # they are a grid.
    options = dict(n_segments=count, compactness=0.2, start_label=0, channel_axis=None)
    return np.stack([slic(plane, **options) for plane in lightness[:, 0]])


def segment_oracle(experts: np.ndarray, true: np.ndarray, segment: np.ndarray) -> np.ndarray:
    """Answer in each segment with the expert of the lowest mean error there, (N, 2, H, W).

    Parameters
    ----------
    experts : (K, N, 2, H, W) array
    true : (N, 2, H, W) array
    segment : (N, H, W) int
        From `segments`; numbers count anew in every image.
    """
    image = np.arange(len(segment))[:, None, None]
    segment = segment + image * (segment.max() + 1)
    # Sums order the experts as means do: a segment has as many pixels for each.
    sums = [np.bincount(segment.ravel(), error.ravel()) for error in errors(experts, true)]
    return _choose(experts, np.argmin(sums, axis=0)[segment])


def gate(
    experts: np.ndarray,
    true: np.ndarray,
    lightness: np.ndarray,
    groups: np.ndarray | None = None,
    pixels: int = 40_000,
    seed: int = 0,
) -> np.ndarray:
    """Answer with the experts' mean, each weighted by its chance of being the nearest.

    A small classifier (gradient-boosted trees) estimates these chances from
    lightness, the local mean of lightness, the experts' outputs and their deviation
    from the ensemble's median. It is fitted on one half of the images and
    answers for the other, and the other way round, so that it has never seen the
    image that it answers for.

    Parameters
    ----------
    experts : (K, N, 2, H, W) array
    true : (N, 2, H, W) array
    lightness : (N, 1, H, W) array in [0, 1]
    groups : (N,) int, optional
        Images with one number, such as near-duplicates, stay in one half.
    pixels
        About as many are drawn from each half to be fitted on, equally many per image.
    seed
        Of the halves, the draw and the trees.

    Returns
    -------
    (N, 2, H, W) array

    Raises
    ------
    ValueError
        If the images are all of one group.
    """
    rng = np.random.default_rng(seed)
    half = _halves(np.arange(len(true)) if groups is None else groups, rng)
    nearest = winners(experts, true).reshape(len(true), -1)
    mixed = np.empty(experts.shape[1:], np.result_type(experts, np.float32))
    for fold in (0, 1):
        own, other = np.flatnonzero(half == fold), np.flatnonzero(half != fold)
        each = min(nearest.shape[1], -(-pixels // len(other)))
        drawn = [rng.choice(nearest.shape[1], each, replace=False) for _ in other]
        seen = [_clues(experts[:, n], lightness[n])[at] for n, at in zip(other, drawn, strict=True)]
        labels = [nearest[n, at] for n, at in zip(other, drawn, strict=True)]
        chances = _fit_chances(np.concatenate(seen), np.concatenate(labels), len(experts), seed)
        for n in own:
            weights = chances(_clues(experts[:, n], lightness[n]))  # (H*W, K)
            weights = weights.T.reshape(len(experts), 1, *experts.shape[-2:])
            mixed[n] = (weights * experts[:, n]).sum(axis=0)
    return mixed


def compare_mixtures(
    depth_experts: np.ndarray,
    seed_experts: np.ndarray,
    true: np.ndarray,
    lightness: np.ndarray,
    groups: np.ndarray | None = None,
) -> pd.DataFrame:
    """Score every mixture of depths beside the same mixture of seeds of one depth.

    Parameters
    ----------
    depth_experts, seed_experts : (K, N, 2, H, W) arrays in [0, 1]
        Equally many of each, since the best of more is better.
    true : (N, 2, H, W) array in [0, 1]
    lightness : (N, 1, H, W) array in [0, 1]
    groups : (N,) int, optional
        Near-duplicates, for `gate`.

    Returns
    -------
    DataFrame
        One row per image, with columns `experts` ("depths" or "seeds"), `method`,
        `image` (its position from 0) and `mean_absolute_error`. The methods are
        "best single expert" (lowest mean over these very images, so chosen in
        hindsight), "mean ensemble", "median ensemble", "gate", "segment oracle" and
        "pixel oracle".

    Raises
    ------
    ValueError
        If the shapes do not fit.
    """
    if not depth_experts.shape == seed_experts.shape == (len(depth_experts), *true.shape):
        raise ValueError(
            f"depth_experts {depth_experts.shape} and seed_experts {seed_experts.shape} must both "
            f"be (K, *{true.shape}), with one K"
        )
    segment = segments(lightness)
    frames = []
    for name, experts in {"depths": depth_experts, "seeds": seed_experts}.items():
        experts = np.asarray(experts, np.float32)
        single = errors(experts, true).mean(axis=(1, 2, 3)).argmin()
        answers = {
            BEST_SINGLE: experts[single],
            "mean ensemble": experts.mean(axis=0),
            "median ensemble": np.median(experts, axis=0),
            "gate": gate(experts, true, lightness, groups),
            "segment oracle": segment_oracle(experts, true, segment),
            PIXEL_ORACLE: pixel_oracle(experts, true),
        }
        scored = {method: mean_absolute_error(answer, true) for method, answer in answers.items()}
        frame = pd.DataFrame(scored).rename_axis("image").reset_index()
        frame = frame.melt("image", var_name="method", value_name="mean_absolute_error")
        frames.append(frame.assign(experts=name))
    columns = ["experts", "method", "image", "mean_absolute_error"]
    return pd.concat(frames, ignore_index=True)[columns]


def recovered(frame: pd.DataFrame) -> pd.Series:
    """Return the share of the pixel oracle's gain over the best single expert that is recovered.

    Parameters
    ----------
    frame
        From `compare_mixtures`, or some of its images.

    Returns
    -------
    Series
        Indexed by `experts` and `method`: 0 for the best single expert, 1 for the
        pixel oracle, negative for what is worse than the former, NaN where the
        oracle gains nothing.
    """
    means = frame.groupby(["experts", "method"], sort=False)["mean_absolute_error"].mean()
    gains = means.rsub(means.xs(BEST_SINGLE, level="method"), level="experts")
    most = gains.xs(PIXEL_ORACLE, level="method")
    return gains.div(most, level="experts").rename("recovered")


def _choose(experts: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Return the expert with this index (N, H, W) at each pixel, (N, 2, H, W)."""
    return np.take_along_axis(experts, index[None, :, None], axis=0)[0]


def _halves(groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return 0 or 1 for each image, the same for all of a group."""
    names, group = np.unique(groups, return_inverse=True)
    if len(names) < 2:
        raise ValueError("the gate is fitted on half of the images: give two or more groups")
    return rng.permutation(len(names))[group] % 2


def _clues(experts: np.ndarray, light: np.ndarray) -> np.ndarray:
    """Return what the gate sees of each pixel of an image (K, 2, H, W), (H*W, 2 + 4K)."""
    outputs = experts.reshape(-1, *experts.shape[-2:])
    deviations = (experts - np.median(experts, axis=0)).reshape(outputs.shape)
    planes = np.concatenate([light, local_mean(light, 1 / 8), outputs, deviations])
    return planes.reshape(len(planes), -1).T


def _fit_chances(
    seen: np.ndarray, labels: np.ndarray, experts: int, seed: int
) -> Callable[[np.ndarray], np.ndarray]:
    """Fit the gate's classifier; return its function from clues (M, F) to chances (M, experts)."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    present, columns = np.unique(labels), np.eye(experts, dtype=np.float32)
    if len(present) == 1:
        return lambda clues: columns[present].repeat(len(clues), axis=0)
    model = HistGradientBoostingClassifier(
        max_iter=20,
        max_leaf_nodes=15,
        min_samples_leaf=200,
        early_stopping=False,
        random_state=seed,
    ).fit(seen, labels)
    return lambda clues: model.predict_proba(clues).astype(np.float32) @ columns[present]
