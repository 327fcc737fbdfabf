"""Scores of predicted chroma: pure functions, arrays in, one value per image out.

Chroma is (N, 2, H, W) in [0, 1], (a + 128)/255 and (b + 128)/255, so that an
error of 0.1 is 25.5 units of a or b. Intervals and plots live elsewhere.
"""

from __future__ import annotations

import numpy as np

BOUNDS = np.arange(101) / 1000  # of the accuracy curves: 0 to 0.1
BANDS = (0, 4, 8, 16, 32, 64)  # edges of the radial bands, cycles per image


def mean_absolute_error(predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Return the mean absolute error over both channels and all pixels, (N,), in [0, 1].

    Parameters
    ----------
    predicted, true : (N, 2, H, W) arrays in [0, 1]
    """
    _check_pair(predicted, true)
    return np.abs(predicted - true).mean(axis=(1, 2, 3), dtype=np.float64)


def accuracy_curve(
    predicted: np.ndarray, true: np.ndarray, bounds: np.ndarray = BOUNDS
) -> np.ndarray:
    """Return the share of values whose absolute error is at most each bound, (N, len(bounds)).

    This is the original study's accuracy, except that every image has the same
    weight. It sorts every error into the gaps between the bounds once, instead
    of comparing all errors with every bound.

    Parameters
    ----------
    predicted, true : (N, 2, H, W) arrays in [0, 1]
    bounds : (K,) array
        Ascending.

    Raises
    ------
    ValueError
        If the shapes differ or the bounds do not ascend.
    """
    _check_pair(predicted, true)
    bounds = np.asarray(bounds, np.float64)
    if np.any(np.diff(bounds) < 0):
        raise ValueError(f"bounds must ascend, got {bounds}")
    shares = np.empty((len(true), len(bounds)))
    for i in range(len(true)):
        # An error e counts for every bound from the first one that is >= e.
        first = np.searchsorted(bounds, np.abs(predicted[i] - true[i]).ravel(), side="left")
        counts = np.bincount(first, minlength=len(bounds) + 1)[: len(bounds)]
        shares[i] = counts.cumsum() / first.size
    return shares


def band_power(planes: np.ndarray, edges: tuple[float, ...] = BANDS) -> np.ndarray:
    """Return the spectral power of images in radial frequency bands, (N, C, len(edges) - 1).

    A Hann window is applied after the mean is taken off, so that the power of
    zero frequency is left out. Bands are open below and closed above, in cycles
    per image; one that lies above the Nyquist frequency is NaN.

    Parameters
    ----------
    planes : (N, C, S, S) array
    edges
        Ascending edges of the bands.
    """
    size = planes.shape[-1]
    window = np.hanning(size)[:, None] * np.hanning(size)
    centred = planes - planes.mean(axis=(-2, -1), keepdims=True)
    power = np.abs(np.fft.fft2(centred * window)) ** 2 / window.sum() ** 2
    frequency = np.fft.fftfreq(size, 1 / size)
    radius = np.hypot(frequency[:, None], frequency)
    bands = [
        power[..., (radius > low) & (radius <= high)].sum(-1)
        if low < size / 2
        else np.full(planes.shape[:2], np.nan)
        for low, high in zip(edges, edges[1:], strict=False)
    ]
    return np.stack(bands, axis=-1)


def _check_pair(predicted: np.ndarray, true: np.ndarray) -> None:
    if predicted.shape != true.shape or true.ndim != 4:
        raise ValueError(
            f"predicted {predicted.shape} and true {true.shape} must both be (N, 2, H, W)"
        )
