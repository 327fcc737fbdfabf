"""Scores of predicted chroma: pure functions, arrays in, one value per image out.

Chroma is (N, 2, H, W) in [0, 1], (a + 128)/255 and (b + 128)/255, so that an
error of 0.1 is 25.5 units of a or b. Intervals and plots live elsewhere. What an
image does not define (the detail of a photograph without colour) is NaN.

`image_scores` of 193 images of 64 px takes 0.7 s on one core.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import numpy as np

from poolae.data.colour import lab01_to_rgb

BOUNDS = np.arange(101) / 1000  # of the accuracy curves: 0 to 0.1
BOUNDS_8BIT = np.arange(27)  # of the curves on 8-bit values: 0 to 26 of 255, just above 0.1
BANDS = (0, 4, 8, 16, 32, 64)  # edges of the radial bands, cycles per image
DETAIL_BANDS = {f"{low}_{high}": (low, high) for low, high in pairwise(BANDS)} | {
    # What networks may lose whose narrowest map is 8, 16, 32 or 64 pixels a side: all above its
    # Nyquist frequency, corners of the spectrum included.
    f"{low}_up": (low, np.inf)
    for low in (4, 8, 16, 32)
}
BRIGHT = 0.7  # the lightness from which a pixel counts as bright, as white petals do

# Pixels of petals by their true colour. Below a chroma of 10 a colour is nearly neutral. Among the
# bright pixels of the daisies between the hues of orange (73 degrees) and yellow (103) in sRGB,
# chroma has a mode near 70, of petals, and a rarest value at 52, below which grass begins. Of all
# pixels of that yellow 90 % are bright, but only 38 % as bright as BRIGHT.
PETAL_LIGHTNESS = 0.5
WHITE_CHROMA, YELLOW_CHROMA = 10, 50  # at most, at least; Lab units
YELLOW_HUES = (70, 105)  # degrees in the (a, b) plane
OWN_BLOCK = 8  # pixels a side: what a pixel of the map stands for after three halvings

BIN = 4  # width of the bins of the chroma histograms, Lab units
CELL = 10  # width of the cells of `colour_rarity`, Lab units
GAMUT_CELLS = 313  # the cells within the gamut of sRGB, as Zhang, Isola and Efros count them

# Ratios to the truth need a truth. Six of the 764 daisies are grey and a seventh almost: all
# their bands lie below 0.08 Lab units (root mean square), those of any other above 0.35.
FAINT = (0.1 / 255) ** 2  # power or variance of true chroma: a tenth of a Lab unit, squared
SILENT = 1e-14  # power or variance of a prediction: rounding in single precision
COLOURLESS = 1 / 255  # colourfulness of the truth: a step of 8-bit sRGB


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
    weight.

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
    errors = np.abs(np.subtract(predicted, true, dtype=dtype)).reshape(len(true), -1)
    errors.sort(axis=1)
    counts = [np.searchsorted(row, bounds, side="right") for row in errors]
    return np.column_stack(counts).T / errors.shape[1]


def accuracy_8bit(
    predicted: np.ndarray, true: np.ndarray, bounds: np.ndarray = BOUNDS_8BIT
) -> np.ndarray:
    """Return the accuracy curve of values rounded to 8 bits, (N, len(bounds)).

    The original study's truth was 8-bit Lab, so this is the curve to hold
    against the published ones.

    Parameters
    ----------
    predicted, true : (N, 2, H, W) arrays in [0, 1]
    bounds : (K,) array
        Ascending, in steps of 1/255, which are Lab units.
    """
    return accuracy_curve(np.rint(_scaled(predicted)), np.rint(_scaled(true)), bounds)


def area_under_accuracy(
    predicted: np.ndarray, true: np.ndarray, top: float, rarity: np.ndarray | None = None
) -> np.ndarray:
    """Return the area under the share of pixels within a distance of their true (a, b), (N,).

    The distance is Euclidean and the area is taken from 0 to `top` and divided
    by it: 1 is perfect. A pixel at distance d is within all thresholds from d
    up, so that the area is the mean of 1 - d/top, or of 0 beyond `top`: exact,
    with no thresholds to step through.

    Parameters
    ----------
    predicted, true : (N, 2, H, W) arrays in [0, 1]
    top
        Largest distance, Lab units; 150 in the source.
    rarity
        Table of `colour_rarity`. Each pixel then counts by the rarity of its
        true colour, within its image: the weights of every image sum to one.

    References
    ----------
    Zhang, Isola, Efros 2016, Colorful Image Colorization, section 3.1.
    """
    _check_pair(predicted, true)
    distance = np.hypot(*np.moveaxis(_scaled(predicted) - _scaled(true), 1, 0))  # (N, H, W)
    cells, _ = _bins(true, CELL)
    weights = None if rarity is None else rarity[cells[:, 0], cells[:, 1]]
    return np.average(np.clip(1 - distance / top, 0, 1), axis=(1, 2), weights=weights)


def colour_rarity(chroma: np.ndarray, uniform: float = 0.5) -> np.ndarray:
    """Return a weight for each cell of the (a, b) plane, high where colours are rare, (27, 27).

    The histogram of (a, b) over cells of 10 units is smoothed (Gaussian, 5
    units), mixed with the uniform distribution over the gamut and inverted.
    Under the smoothed histogram the mean weight is 1. The source trains with
    half of the uniform distribution mixed in and scores with none. Here the
    half stays in scoring: a few hundred photographs leave most colours unseen,
    and without it a single odd pixel would outweigh its image.

    Parameters
    ----------
    chroma : (N, 2, H, W) array in [0, 1]
        Of the training images.
    uniform
        Share of the uniform distribution, above 0, at most 1.

    Raises
    ------
    ValueError
        If `uniform` is out of range.

    References
    ----------
    Zhang, Isola, Efros 2016, Colorful Image Colorization, equation 4.
    """
    from scipy.ndimage import gaussian_filter

    if not 0 < uniform <= 1:
        raise ValueError(f"uniform must be above 0 and at most 1, got {uniform}")
    cells, side = _bins(chroma, CELL)
    cells = cells[:, 0] * side + cells[:, 1]
    counts = np.bincount(cells.ravel(), minlength=side**2).reshape(side, side).astype(float)
    smooth = gaussian_filter(counts, 5 / CELL, mode="constant")
    share = smooth / smooth.sum()
    weight = 1 / ((1 - uniform) * share + uniform / GAMUT_CELLS)
    return weight / (share * weight).sum()


def ciede2000(predicted: np.ndarray, true: np.ndarray, lightness: np.ndarray) -> np.ndarray:
    """Return the CIEDE2000 colour difference of every pixel at its true lightness, (N, H, W).

    Lightness is the same on both sides, and its value cancels out of the formula then.

    Parameters
    ----------
    predicted, true : (N, 2, H, W) arrays in [0, 1]
    lightness : (N, 1, H, W) array in [0, 1]

    References
    ----------
    Sharma, Wu, Dalal 2005, The CIEDE2000 color-difference formula.
    """
    from skimage.color import deltaE_ciede2000

    _check_pair(predicted, true)
    L = np.asarray(lightness, np.float64) * 100
    first, second = (np.concatenate([L, _scaled(c) - 128], axis=1) for c in (true, predicted))
    return deltaE_ciede2000(first, second, channel_axis=1)


def psnr(predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Return the peak signal-to-noise ratio of each image in decibels, (N,); inf if they agree.

    Parameters
    ----------
    predicted, true : (N, H, W, 3) arrays
        sRGB in [0, 1], clipped to the gamut.
    """
    squared = ((true - predicted) ** 2).mean(axis=(1, 2, 3), dtype=np.float64)
    with np.errstate(divide="ignore"):  # equal images
        return -10 * np.log10(squared)


def ssim(predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Return the structural similarity of each image, mean over the colour channels, (N,).

    With scikit-image's defaults: a uniform window of 7 x 7 pixels, which is
    the smallest size that images may have.

    Parameters
    ----------
    predicted, true : (N, H, W, 3) arrays
        sRGB in [0, 1], clipped to the gamut.

    References
    ----------
    Wang, Bovik, Sheikh, Simoncelli 2004, Image quality assessment.
    """
    from skimage.metrics import structural_similarity

    pairs = zip(true, predicted, strict=True)
    values = [structural_similarity(t, p, data_range=1, channel_axis=-1) for t, p in pairs]
    return np.array(values, np.float64)


def colourfulness(rgb: np.ndarray) -> np.ndarray:
    """Return how colourful each image is, 0 for grey, (N,).

    The spread of the opponent channels R - G and (R + G)/2 - B plus 0.3 times
    the length of their mean; 255 times smaller than in the source, which
    takes 8-bit values.

    Parameters
    ----------
    rgb : (N, H, W, 3) array
        sRGB in [0, 1].

    References
    ----------
    Hasler, Suesstrunk 2003, Measuring colourfulness in natural images.
    """
    red, green, blue = np.moveaxis(np.asarray(rgb, np.float64), -1, 0)
    opponents = np.stack([red - green, (red + green) / 2 - blue])  # (2, N, H, W)
    return np.hypot(*opponents.std(axis=(2, 3))) + 0.3 * np.hypot(*opponents.mean(axis=(2, 3)))


def colourfulness_ratio(predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Return predicted over true `colourfulness`, (N,); NaN where the truth is grey.

    Parameters
    ----------
    predicted, true : (N, H, W, 3) arrays
        sRGB in [0, 1].
    """
    found, wanted = colourfulness(predicted), colourfulness(true)
    return _ratio(found, wanted, wanted > COLOURLESS)


def histogram_intersection(predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Return the overlap of the histograms of predicted and true chroma, (N,), in [0, 1].

    The mean over a and b of sum(min(p, t)) over bins of 4 Lab units, each
    histogram summing to one. One bin is centred on 0: with an edge there,
    rounding would decide which side grey falls on.

    Parameters
    ----------
    predicted, true : (N, 2, H, W) arrays in [0, 1]

    References
    ----------
    Swain, Ballard 1991, Color indexing.
    """
    _check_pair(predicted, true)
    common = np.minimum(_histograms(predicted), _histograms(true))  # (N, 2, bins)
    return common.sum(axis=(1, 2)) / true[0].size


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
    return _in_bands(np.abs(_spectra(planes)) ** 2, pairwise(edges))


def gain_and_coherence(predicted: np.ndarray, true: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how much detail there is and how right it is, in each of `DETAIL_BANDS`.

    With spectra P and T of both channels, windowed as in `band_power`: a gain
    towards 0 means that detail is missing, a coherence towards 0 that it is
    wrong, below 0 that it is inverted.

    Parameters
    ----------
    predicted, true : (N, 2, S, S) arrays in [0, 1]

    Returns
    -------
    gain
        (N, 9), sum |P|^2 / sum |T|^2 over a and b and the frequencies of the
        band. NaN where the truth has no detail.
    coherence
        (N, 9), Re sum P T* / sqrt(sum |P|^2 sum |T|^2), in [-1, 1]. NaN where
        either has no detail: a constant is neither right nor wrong.

    Notes
    -----
    A band above the Nyquist frequency is NaN. "8_up" is all above 8 cycles per
    image, the corners of the spectrum beyond Nyquist included.

    A gain is a ratio of powers, hence skewed over images: above 8 cycles those
    of a lightness table on the daisies have a median of 0.3, a mean of 0.7 and
    a maximum of 50.
    """
    _check_pair(predicted, true)
    spectrum, reference = _spectra(predicted), _spectra(true)
    power, reference_power, cross = (
        _in_bands(product.sum(axis=1), DETAIL_BANDS.values())
        for product in (
            np.abs(spectrum) ** 2,
            np.abs(reference) ** 2,
            (spectrum * reference.conj()).real,
        )
    )
    detailed = reference_power > FAINT
    gain = _ratio(power, reference_power, detailed)
    return gain, _ratio(cross, np.sqrt(power * reference_power), detailed & (power > SILENT))


def lightness_coherence(lightness: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Return the coherence of lightness itself with the true chroma in `DETAIL_BANDS`, (N, 9).

    This is the floor: a network that passed the detail of its input on would
    reach it. Lightness may rise with a and fall with b, and a network is free
    to choose the signs, so it is the magnitude of the coherence with each
    channel that is averaged over the two.

    Parameters
    ----------
    lightness : (N, 1, S, S) array in [0, 1]
    true : (N, 2, S, S) array in [0, 1]
    """
    _check_lightness(lightness, true)
    channels = (gain_and_coherence(lightness, true[:, [c]])[1] for c in range(2))
    return np.abs(list(channels)).mean(axis=0)


def colour_bias(predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Return the mean of predicted minus true a and b in Lab units, (N, 2); green is negative a.

    Parameters
    ----------
    predicted, true : (N, 2, H, W) arrays in [0, 1]
    """
    _check_pair(predicted, true)
    return (_scaled(predicted) - _scaled(true)).mean(axis=(2, 3))


def bright_error(
    predicted: np.ndarray, true: np.ndarray, lightness: np.ndarray, least: float = BRIGHT
) -> np.ndarray:
    """Return the mean absolute error over bright pixels, (N,), in [0, 1]; NaN if there are none.

    Parameters
    ----------
    predicted, true : (N, 2, H, W) arrays in [0, 1]
    lightness : (N, 1, H, W) array in [0, 1]
    least
        The lightness from which a pixel is bright.
    """
    _check_lightness(lightness, true)
    return error_over(predicted, true, lightness[:, 0] >= least)


def error_over(predicted: np.ndarray, true: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Return the mean absolute error over some pixels, (N,), in [0, 1]; NaN where there are none.

    Parameters
    ----------
    predicted, true : (N, 2, H, W) arrays in [0, 1]
    chosen : (N, H, W) bool
    """
    _check_pair(predicted, true)
    error = np.abs(predicted - true).mean(axis=1, dtype=np.float64)
    count = chosen.sum(axis=(1, 2))
    return _ratio(np.where(chosen, error, 0).sum(axis=(1, 2)), count, count > 0)


def petal_classes(true: np.ndarray, lightness: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Tell which pixels are as white, and which as yellow, as petals in the light.

    Of those from `PETAL_LIGHTNESS` on, by true chroma and hue: see the constants.

    Parameters
    ----------
    true : (N, 2, H, W) array in [0, 1]
    lightness : (N, 1, H, W) array in [0, 1]

    Returns
    -------
    white, yellow : (N, H, W) bool
    """
    _check_lightness(lightness, true)
    a, b = np.moveaxis(_scaled(true) - 128, 1, 0)
    bright, chroma, hue = lightness[:, 0] >= PETAL_LIGHTNESS, np.hypot(a, b), np.arctan2(b, a)
    least, most = np.radians(YELLOW_HUES)
    yellow = bright & (chroma >= YELLOW_CHROMA) & (hue >= least) & (hue <= most)
    return bright & (chroma <= WHITE_CHROMA), yellow


def petal_auc(values: np.ndarray, white: np.ndarray, yellow: np.ndarray) -> np.ndarray:
    """Return how well values tell the yellow pixels of an image from its white ones, (N,).

    The area under the ROC curve: the chance that a yellow pixel has the higher value of the two,
    equal ones counting half. NaN where an image lacks either.

    Parameters
    ----------
    values : (N, H, W) array
        Such as predicted b, or lightness taken negative.
    white, yellow : (N, H, W) bool
        From `petal_classes`.
    """
    from scipy.stats import rankdata

    areas = []
    for value, w, y in zip(values, white, yellow, strict=True):
        ranks = rankdata(np.concatenate([value[y], value[w]]))
        yellows, whites = y.sum(), w.sum()
        pairs = ranks[:yellows].sum() - yellows * (yellows + 1) / 2  # in order, of all
        areas.append(pairs / (yellows * whites) if yellows and whites else np.nan)
    return np.array(areas, np.float64)


def block_means(planes: np.ndarray, grid: int = 16) -> np.ndarray:
    """Return images with every pixel replaced by the mean of its block, same shape.

    Parameters
    ----------
    planes : (..., H, W) array
    grid
        Blocks along each side; those of a size that they do not divide differ
        by a pixel.
    """
    height, width = planes.shape[-2:]
    return _averaging(height, grid) @ planes @ _averaging(width, grid)


def block_r2(predicted: np.ndarray, true: np.ndarray, grid: int = 16) -> np.ndarray:
    """Return the squared correlation of a prediction with the block means of the truth, (N,).

    Over both channels, with the mean of each taken off first. NaN where either
    is constant.

    Parameters
    ----------
    predicted, true : (N, 2, H, W) arrays in [0, 1]
    grid
        As in `block_means`.
    """
    _check_pair(predicted, true)
    found, blocks = _centred(predicted), _centred(block_means(_scaled(true) / 255, grid))
    covariance, variance, reference = (
        product.mean(axis=(1, 2, 3)) for product in (found * blocks, found**2, blocks**2)
    )
    defined = (variance > SILENT) & (reference > FAINT)
    return _ratio(covariance**2, variance * reference, defined)


def own_block_r2(predicted: np.ndarray, side: int = OWN_BLOCK) -> np.ndarray:
    """Return the share of a prediction's variance that its own block means explain, (N,).

    1 for what is flat within blocks, whether it is right or wrong; about 1/side^2 for noise. Over
    both channels; NaN where the prediction is constant. Arms are compared on one grid, that of
    the narrowest map among them: on its own an unpooled network would score 1 as it stands.

    Parameters
    ----------
    predicted : (N, 2, S, S) array in [0, 1]
    side
        Of a block, pixels; by default, a pixel of a map that was halved three times.
    """
    found = _centred(_scaled(predicted) / 255)
    means = block_means(found, -(-found.shape[-1] // side))
    variance, explained = ((x**2).mean(axis=(1, 2, 3)) for x in (found, means))
    return _ratio(explained, variance, variance > SILENT)


def image_scores(
    predicted: np.ndarray,
    true: np.ndarray,
    lightness: np.ndarray,
    rarity: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Return every score of every image as column name to values, each (N,) float64.

    Parameters
    ----------
    predicted, true : (N, 2, H, W) arrays in [0, 1]
        Square images of at least 7 pixels a side.
    lightness : (N, 1, H, W) array in [0, 1]
    rarity
        Table of `colour_rarity`. Without it the two rebalanced areas are left out.

    Returns
    -------
    dict
        `mean_absolute_error` and `bright_error` in [0, 1], where 1 is 255 Lab
        units; shares `accuracy_0.000` ... `accuracy_0.100`, their mean
        `accuracy_area`, `accuracy_8bit_00` ... `accuracy_8bit_26`, `auc_150`,
        `auc_25`, `auc_150_rebalanced`, `auc_25_rebalanced`; `ciede2000` (mean)
        and `ciede2000_median`; `psnr` in decibels, `ssim`; `colourfulness`,
        predicted over true; `histogram_intersection`; `gain_` and `coherence_`
        of `DETAIL_BANDS`; `a_bias` and `b_bias` in Lab units; `block_r2` and
        `own_block_r2`; of the pixels of `petal_classes` `white_error`,
        `yellow_error`, `petal_error` (both together), `petal_auc` of predicted b
        and `petal_auc_lightness` of darkness, the same whatever is predicted.

    Raises
    ------
    ValueError
        If the shapes do not fit one another.
    """
    _check_pair(predicted, true)
    _check_lightness(lightness, true)
    curve, curve_8bit = accuracy_curve(predicted, true), accuracy_8bit(predicted, true)
    difference = ciede2000(predicted, true, lightness)
    rgb, true_rgb = lab01_to_rgb(lightness, predicted), lab01_to_rgb(lightness, true)
    gain, coherence = gain_and_coherence(predicted, true)
    bias = colour_bias(predicted, true)
    white, yellow = petal_classes(true, lightness)
    detail = {
        f"{kind}_{band}": values[:, k]
        for kind, values in (("gain", gain), ("coherence", coherence))
        for k, band in enumerate(DETAIL_BANDS)
    }
    areas = {
        f"auc_{top}{suffix}": area_under_accuracy(predicted, true, top, table)
        for suffix, table in {"": None, "_rebalanced": rarity}.items()
        if not suffix or rarity is not None
        for top in (150, 25)
    }
    return {
        "mean_absolute_error": mean_absolute_error(predicted, true),
        **{f"accuracy_{bound:.3f}": curve[:, k] for k, bound in enumerate(BOUNDS)},
        "accuracy_area": curve.mean(axis=1),
        **{f"accuracy_8bit_{bound:02}": curve_8bit[:, bound] for bound in BOUNDS_8BIT},
        **areas,
        "ciede2000": difference.mean(axis=(1, 2)),
        "ciede2000_median": np.median(difference, axis=(1, 2)),
        "psnr": psnr(rgb, true_rgb),
        "ssim": ssim(rgb, true_rgb),
        "colourfulness": colourfulness_ratio(rgb, true_rgb),
        "histogram_intersection": histogram_intersection(predicted, true),
        **detail,
        "a_bias": bias[:, 0],
        "b_bias": bias[:, 1],
        "bright_error": bright_error(predicted, true, lightness),
        "block_r2": block_r2(predicted, true),
        "own_block_r2": own_block_r2(predicted),
        "white_error": error_over(predicted, true, white),
        "yellow_error": error_over(predicted, true, yellow),
        "petal_error": error_over(predicted, true, white | yellow),
        "petal_auc": petal_auc(predicted[:, 1], white, yellow),
        "petal_auc_lightness": petal_auc(-lightness[:, 0], white, yellow),
    }


def _scaled(chroma: np.ndarray) -> np.ndarray:
    """Return a + 128 and b + 128 in float64: half precision would round them to 1/8."""
    return np.asarray(chroma, np.float64) * 255


def _bins(chroma: np.ndarray, width: int) -> tuple[np.ndarray, int]:
    """Return the bin of each a and b, (N, 2, H, W) int from 0, and how many bins there are.

    They are so many Lab units wide, and one of them is centred on 0.
    """
    half = round(128 / width)
    from_grey = np.clip(_scaled(chroma), 0, 255) - 128
    return np.rint(from_grey / width).astype(np.int64) + half, 2 * half + 1


def _histograms(chroma: np.ndarray) -> np.ndarray:
    """Return the counts of each image's a and b in bins of 4 units, (N, 2, 65)."""
    index, bins = _bins(chroma, BIN)
    planes = np.arange(len(chroma) * 2).reshape(-1, 2, 1, 1)
    counts = np.bincount((planes * bins + index).ravel(), minlength=planes.size * bins)
    return counts.reshape(-1, 2, bins)


def _centred(planes: np.ndarray) -> np.ndarray:
    """Take the mean off each plane. In float64, where that of a constant is exact to rounding."""
    return planes - planes.mean(axis=(-2, -1), keepdims=True, dtype=np.float64)


def _spectra(planes: np.ndarray) -> np.ndarray:
    """Return the spectra of centred planes under a Hann window, (N, C, S, S), complex."""
    size = planes.shape[-1]
    window = np.hanning(size)[:, None] * np.hanning(size)
    return np.fft.fft2(_centred(planes) * window) / window.sum()


def _in_bands(values: np.ndarray, bands: Iterable[tuple[float, float]]) -> np.ndarray:
    """Sum values (..., S, S) of all frequencies over bands (low, high], (..., number of bands)."""
    size = values.shape[-1]
    frequency = np.fft.fftfreq(size, 1 / size)
    radius = np.hypot(frequency[:, None], frequency)
    sums = [
        values[..., (radius > low) & (radius <= high)].sum(-1)
        if low < size / 2
        else np.full(values.shape[:-2], np.nan)
        for low, high in bands
    ]
    return np.stack(sums, axis=-1)


def _ratio(over: np.ndarray, under: np.ndarray, defined: np.ndarray) -> np.ndarray:
    """Return over / under, NaN where it is not defined."""
    return np.divide(over, under, out=np.full(defined.shape, np.nan), where=defined)


def _averaging(size: int, grid: int) -> np.ndarray:
    """Return the matrix (size, size) that puts the mean of its block in each place."""
    block = np.arange(size) * grid // size
    same = block[:, None] == block
    return same / same.sum(axis=1)


def _check_pair(predicted: np.ndarray, true: np.ndarray) -> None:
    if predicted.shape != true.shape or true.ndim != 4:
        raise ValueError(
            f"predicted {predicted.shape} and true {true.shape} must both be (N, 2, H, W)"
        )


def _check_lightness(lightness: np.ndarray, true: np.ndarray) -> None:
    expected = (len(true), 1, *true.shape[-2:])
    if lightness.shape != expected:
        raise ValueError(f"lightness {lightness.shape} must be {expected}")
