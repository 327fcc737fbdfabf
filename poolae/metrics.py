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
    weight. Every error is sorted once into the gaps between the bounds, instead
    of being compared with each of them.

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
    dtype = np.result_type(predicted, true, np.float32)
    levels, place = np.unique(_round_down(bounds, dtype), return_inverse=True)
    first_level = _sorter(levels)
    counts = np.stack(
        [
            np.bincount(first_level(np.abs(p - t).ravel()), minlength=len(levels) + 1)
            for p, t in zip(predicted.astype(dtype, copy=False), true, strict=True)
        ]
    )
    return counts.cumsum(axis=1)[:, place] / predicted[0].size


def _round_down(bounds: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return the greatest numbers of `dtype` that are not above `bounds`: error <= both or none."""
    rounded = bounds.astype(dtype)
    return np.where(rounded > bounds, np.nextafter(rounded, dtype.type(-np.inf)), rounded)


def _sorter(levels: np.ndarray):
    """Return a function from errors (M,) to the index of the first of `levels` that is >= each.

    A table over equal cells, each narrower than the gap between two levels,
    says where to begin; one comparison then decides. It is several times as
    fast as a binary search, which serves where the table would be too long.
    """
    top = levels[-1]
    gap = np.diff(levels).min(initial=max(top, 1e-3))
    cells = 4 * top / gap  # the last cell holds all that lies above
    if not 0 < cells <= 2**14:
        return lambda errors: np.searchsorted(levels, errors)
    scale = levels.dtype.type(cells / top)
    last = levels.dtype.type(int(cells) + 1)
    lower_ends = (np.arange(int(cells) + 2) - 0.01) / scale  # a little low, against rounding
    begin = np.searchsorted(levels, lower_ends.astype(levels.dtype)).astype(np.int16)
    ends = np.append(levels, levels.dtype.type(np.inf))

    def first_level(errors: np.ndarray) -> np.ndarray:
        first = begin[np.minimum(errors * scale, last).astype(np.int16)]
        first += errors > ends[first]
        return first

    return first_level


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
