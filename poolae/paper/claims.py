"""The claims, the contrasts that judge them, their margins, and the rule: fixed before the runs.

An effect *reads* as lower or higher when the whole of its 95 % interval lies beyond the margin on
that side, as none when it lies within ± the margin, and else as open (`Contrast.reading`); from
few seeds it is always open. What is claimed of a contrast is lower, higher or none:

- read as claimed, the contrast *supports* the claim;
- read as none where a difference is claimed, that is *too small to matter*;
- read as anything else, it *refutes* the claim; open, it leaves it *open*.

A claim stands when all of its contrasts do, and falls with any: refuted before too small before
open. That is the whole of the rule. No row is exempt, no contrast is picked by its outcome, and
every one counts in Holm's correction. A contrast that stands beside a claim decides nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import stats

from poolae.metrics.statistics import (
    LEVEL,
    TEST_TO_TRAINING,
    Contrast,
    holm,
    one_sample,
    paired_contrast,
)

LOWER, HIGHER, NONE, OPEN = "lower", "higher", "none", "open"
SUPPORTED, REFUTED, TOO_SMALL, NOT_RUN = "supported", "refuted", "too small to matter", "not run"
VERDICTS = (SUPPORTED, REFUTED, TOO_SMALL, OPEN, NOT_RUN)


@dataclass(frozen=True)
class Unit:
    """What a metric is measured in, and how little of it counts as nothing."""

    name: str  # as it stands behind a number
    margin: float
    digits: int  # to show
    reason: str  # for the margin


DELTA_E = Unit(
    "ΔE",
    0.1,
    2,
    "side by side, people see a difference from about 1; a mean of a tenth is one such step in "
    "one pixel of ten",
)
RANGE = Unit("of the range", 0.0005, 4, "an eighth of a unit of a or b")
SHARE = Unit("of the values", 0.005, 3, "the published curves can be read to ± 0.003")
LAB = Unit("Lab units", 1, 2, "the least cast over a whole picture that CIE Lab was made to show")
DETAIL = Unit("", 0.05, 3, "of coherence, gain and variance: a twentieth of what there can be")
UNITS = {unit.name: unit for unit in (DELTA_E, RANGE, SHARE, LAB, DETAIL)}

# What is judged, by its column: what to call it, and its unit.
METRICS: dict[str, tuple[str, Unit]] = {
    "ciede2000": ("mean colour difference", DELTA_E),
    "mean_absolute_error": ("mean absolute error", RANGE),
    **{f"accuracy_{t:.3f}": (f"accuracy at bound {t:g}", SHARE) for t in (0.01, 0.02, 0.05, 0.1)},
    "fine_coherence": ("coherence above the Nyquist frequency of three halvings", DETAIL),
    "fine_gain": ("gain above the Nyquist frequency of three halvings", DETAIL),
    "own_block_r2": ("variance that a prediction's own block means explain", DETAIL),
    "train_test_gap": ("test error minus training error", RANGE),
    "scrambling_cost": ("error from shuffled tiles minus error from the whole picture", RANGE),
    "petal_error": ("mean absolute error of white and of yellow pixels", RANGE),
    "petal_lightness": ("ROC-AUC of darkness, yellow against white pixels, minus a half", DETAIL),
    "a_bias": ("mean of predicted minus true a", LAB),
}
# Metrics that are one column of the scores minus another, or minus a number.
DIFFERENCES = {
    "train_test_gap": ("mean_absolute_error", "training_error"),
    "scrambling_cost": ("scrambled_error", "mean_absolute_error"),
    "petal_lightness": ("petal_auc_lightness", 0.5),
}
OCTAVES = 3  # the highest that an image holds: what three halvings cannot carry
# A ratio to the truth is any size where the truth is nearly nothing: medians over images.
RATIOS = ("gain", "colourfulness")
ONE_A_SEED = "fine_gain"


@dataclass(frozen=True)
class Part:
    """A contrast and what a claim says of it."""

    metric: str  # of METRICS
    arms: tuple[str, ...]  # (a, b) for a minus b, (a,) for the mean of a
    claimed: str  # LOWER, HIGHER or NONE
    word: str = ""  # what else differs between the arms
    beside: bool = False  # to be seen with the claim, and not to decide it


@dataclass(frozen=True)
class Claim:
    """A claim, whose it is, and the contrasts that judge it."""

    words: str
    by: str  # ORIGINAL, PROPOSED or OURS
    parts: tuple[Part, ...]
    instead: tuple[Part, ...] = ()  # where the arms of `parts` were not trained


def differ(claimed: str, metrics: str, *contrasts: str, word: str = "", beside=False) -> tuple:
    """Return a `Part` for each of these metrics, separated by spaces, and contrasts, "a − b"."""
    return tuple(
        Part(metric, tuple(contrast.split(" − ")), claimed, word, beside)
        for metric in metrics.split()
        for contrast in contrasts
    )


ORIGINAL, PROPOSED, OURS = "the original", "the original's proposal", "ours"
POOLS = tuple(f"pool{depth}" for depth in range(4))
BEST = tuple(f"pool1 − {pool}" for pool in ("pool0", "pool2", "pool3"))
OPERATORS = ("max2", "average", "blur")
FIELD = "the receptive field grows with pooling"

CLAIMS: dict[str, Claim] = {
    "one best": Claim(
        "Of the four networks, the one with a single pooling layer colourises best, at all bounds.",
        ORIGINAL,
        differ(LOWER, "ciede2000", *BEST)
        + differ(HIGHER, "accuracy_0.010 accuracy_0.020 accuracy_0.050 accuracy_0.100", *BEST),
    ),
    "three at bounds": Claim(
        "Three pooling layers are ahead at small bounds and behind at large ones.",
        ORIGINAL,
        # Grey has the same shape of curve: it scores at small bounds by never being far from the
        # dullest colours, and explains the win unless three pools win by more.
        differ(HIGHER, "accuracy_0.010", "pool3 − pool0", "pool3 − pool1", "pool3 − grey")
        + differ(LOWER, "accuracy_0.100", "pool3 − pool0", "pool3 − pool1"),
    ),
    "two worst": Claim(
        "The network with two pooling layers is the worst of the four.",
        ORIGINAL,
        differ(HIGHER, "ciede2000", "pool2 − pool0", "pool2 − pool1", "pool2 − pool3"),
    ),
    "detail": Claim(
        "The more pooling, the less detail is left in the colours.",
        ORIGINAL,
        differ(LOWER, "fine_coherence fine_gain", "matched3 − dilated"),
        differ(LOWER, "fine_coherence fine_gain", "pool3 − pool0", word=FIELD),
    ),
    "block means": Claim(
        "A network with much pooling predicts the mean colour of areas.",
        ORIGINAL,
        differ(HIGHER, "own_block_r2", "matched3 − dilated"),
        differ(HIGHER, "own_block_r2", "pool3 − pool0", word=FIELD),
    ),
    "bottleneck": Claim(
        "The tighter the bottleneck, the better a network generalises.",
        ORIGINAL,
        differ(LOWER, "train_test_gap", "matched3 − dilated", "narrow − matched0")
        + differ(
            LOWER,
            "train_test_gap",
            "pool3-c4 − pool3-c1024",
            word="a fifth of the parameters, too",
            beside=True,
        ),
        differ(LOWER, "train_test_gap", "pool3 − pool0", word=FIELD),
    ),
    "green": Claim(
        "The predicted colours are shifted towards green.",
        ORIGINAL,
        differ(LOWER, "a_bias", *POOLS),
    ),
    "white and yellow": Claim(
        "White and yellow petals are too alike in lightness to be told apart by it.",
        ORIGINAL,
        # If lightness alone cannot, what lies around a pixel has to help: some, and more of it.
        differ(NONE, "petal_lightness", "lightness table")
        + differ(LOWER, "petal_error", "matched0 − lightness table", "dilated − matched0"),
        differ(NONE, "petal_lightness", "lightness table")
        + differ(LOWER, "petal_error", "pool0 − lightness table"),
    ),
    "flower shapes": Claim(
        "The networks have no leaning towards the shapes of flowers.",
        ORIGINAL,
        # Seams and lost neighbours cost whatever sees more than a pixel. The null is what sees as
        # much and knows no shapes, or sees less of them at the same resolution.
        differ(NONE, "scrambling_cost", "matched3 − patch boosting", "matched3 − narrow")
        + differ(NONE, "scrambling_cost", "dilated − matched0"),
        differ(NONE, "scrambling_cost", *(f"{pool} − patch boosting" for pool in POOLS)),
    ),
    "mixture": Claim(
        "Networks of different depth, mixed by area, do better than one.",
        PROPOSED,
        # The best of four is better however the four came about: seeds of one depth are the null.
        differ(
            LOWER,
            "mean_absolute_error",
            "pixel oracle over depths − pixel oracle over seeds",
            "segment oracle over depths − segment oracle over seeds",
            "gate over depths − mean ensemble over seeds",
        ),
    ),
    "pooling itself": Claim(
        "It is pooling that helps, not the wider context that comes with it.",
        OURS,
        differ(LOWER, "ciede2000", "matched3 − dilated", "narrow − matched0"),
    ),
    "lightness": Claim(
        "The networks learn more about colour than lightness, or a patch of it, tells.",
        OURS,
        # Of pool1, which the original found best, whatever is best here.
        differ(LOWER, "ciede2000", "pool1 − lightness table", "pool1 − patch boosting")
        + differ(HIGHER, "accuracy_0.010", "pool1 − patch boosting", beside=True),
    ),
    "operator": Claim(
        "It is the halving that matters, not the operator that halves.",
        OURS,
        differ(NONE, "ciede2000 fine_coherence", *(f"matched3-{o} − matched3" for o in OPERATORS))
        + differ(
            NONE,
            "ciede2000 fine_coherence",
            "matched3-max5 − matched3",
            word="windows of 5 widen the receptive field",
            beside=True,
        ),
    ),
    "decoder": Claim(
        "Detail is lost where maps are halved, not where they are enlarged again.",
        OURS,
        differ(
            NONE,
            "fine_coherence fine_gain",
            "matched3-bilinear − matched3",
            "matched3-transposed − matched3",
        ),
    ),
    "over-fitting": Claim(
        "What wide context costs at full resolution is over-fitting.",
        OURS,
        # Then it costs where photographs are few, and nothing where training stops in time.
        differ(HIGHER, "ciede2000", "dilated-images143 − matched0-images143")
        + differ(NONE, "ciede2000", "dilated-images143-early − matched0-images143-early")
        + differ(NONE, "ciede2000", "dilated-steps1600 − matched0-steps1600", beside=True),
    ),
}


# The rule --------------------------------------------------------------------------------------


def judge(reading: str, claimed: str) -> str:
    """Return what an effect that reads so says of a claim that it is `claimed`."""
    if reading == OPEN:
        return OPEN
    if reading == claimed:
        return SUPPORTED
    return TOO_SMALL if reading == NONE else REFUTED


def together(verdicts: Iterable[str]) -> str:
    """Return the verdict on a claim from those of its contrasts."""
    found = set(verdicts)
    return next((v for v in (NOT_RUN, REFUTED, TOO_SMALL, OPEN) if v in found), SUPPORTED)


# The ledger ------------------------------------------------------------------------------------


def ledger(scores: pd.DataFrame) -> pd.DataFrame:
    """Judge every claim by the scores at hand.

    Parameters
    ----------
    scores
        One row per arm, seed and test image, or one per arm and seed: `arm`, `seed`, `image` and
        the metrics. Mixtures are arms, such as "gate over depths".

    Returns
    -------
    DataFrame
        One row per contrast: `key` (of `CLAIMS`), `claim`, `by` and `verdict` of the claim;
        `metric`, `contrast` (its arms), `claimed`, `says` (its own verdict), `beside`, `word`,
        `unit` and `margin`; the numbers of `statistics.Contrast`, with `p_holm` over all rows. A
        claim that could not be judged has one row, whose `lacks` says what that needs.
    """
    table = with_derived(scores)
    scored = table.groupby("arm").count().reindex(columns=list(METRICS), fill_value=0)
    rows, contrasts = [], []
    for key, claim in CLAIMS.items():
        about = {"key": key, "claim": claim.words, "by": claim.by, "lacks": ""}
        lacks = [_lacks(scored, parts) for parts in (claim.parts, claim.instead) if parts]
        if all(lacks):
            lacking = {"verdict": NOT_RUN, "says": NOT_RUN, "beside": False, "lacks": lacks[0]}
            rows.append(about | lacking)
            continue
        parts = [
            part
            for part in (claim.instead if lacks[0] else claim.parts)
            if not (part.beside and _lacks(scored, [part], beside=True))
        ]
        found = [contrast_of(table, part.metric, *part.arms) for part in parts]
        said = [judge(read(c), part.claimed) for c, part in zip(found, parts, strict=True)]
        about["verdict"] = together(
            says for says, part in zip(said, parts, strict=True) if not part.beside
        )
        rows += [about | _described(*row) for row in zip(parts, said, strict=True)]
        contrasts += found
    numbers = (numbers_of(contrast) for contrast in holm(contrasts))
    return pd.DataFrame([row if row["lacks"] else row | next(numbers) for row in rows])


def verdicts(judged: pd.DataFrame) -> pd.Series:
    """Return the verdict on each claim of a `ledger`, by its key."""
    return judged.groupby("key", sort=False)["verdict"].first()


def decisive(judged: pd.DataFrame) -> pd.DataFrame:
    """Return for each claim of a `ledger` the contrast that a verdict hangs on, by the claim's key.

    Of those that say what the verdict says it is the one nearest to open where all have to say so
    (supported), the one farthest from it where any is enough, and of open ones the first. `slack`
    is how far its interval would have to move.
    """
    deciding = judged[(judged["says"] == judged["verdict"]) & ~judged["beside"]].copy()
    low, high, margin = (deciding.get(c, pd.Series(dtype=float)) for c in ("low", "high", "margin"))
    inside = margin - np.maximum(low.abs(), high.abs())
    deciding["slack"] = np.maximum(inside, np.maximum(-margin - high, low - margin))
    order = deciding["slack"].where(deciding["verdict"] == SUPPORTED, -deciding["slack"])
    order = order.where(deciding["verdict"] != OPEN, 0)
    first = order.sort_values(kind="stable").index
    return deciding.loc[first].drop_duplicates("key").set_index("key").loc[judged["key"].unique()]


def read(contrast: Contrast) -> str:
    """Return how a contrast reads at the margin of its metric."""
    return contrast.reading(METRICS[contrast.metric][1].margin)


def numbers_of(contrast: Contrast) -> dict:
    """Return what a table holds of a contrast: its fields, but for the names of what it is of."""
    return {k: v for k, v in vars(contrast).items() if k not in ("metric", "arms")}


def contrast_of(table: pd.DataFrame, metric: str, *arms: str) -> Contrast:
    """Return the difference of two arms, or the mean of one, in a table `with_derived`.

    Of what is one number for each seed, a mean that is on record or a median, nobody knows any
    more what the images that splits share add to its scatter: its interval, and p, are by
    Nadeau's and Bengio's correction.
    """
    compute = paired_contrast if len(arms) == 2 else one_sample
    contrast = compute(table, metric, *arms)
    if contrast.seeds == 1 or contrast.images > 1 and not metric.startswith(ONE_A_SEED):
        return contrast
    wider = np.sqrt(1 + contrast.seeds * TEST_TO_TRAINING)
    half = (contrast.high - contrast.low) / 2
    t = stats.t.ppf((1 + LEVEL) / 2, contrast.seeds - 1) * contrast.effect / (wider * half)
    return replace(
        contrast,
        low=contrast.corrected_low,
        high=contrast.corrected_high,
        detectable=contrast.detectable * wider,
        p=None if contrast.p is None else float(2 * stats.t.sf(abs(t), contrast.seeds - 1)),
    )


def with_derived(scores: pd.DataFrame) -> pd.DataFrame:
    """Return what the claims need of scores: metrics of others made, ratios as a seed's medians."""
    bands = [c for c in scores if re.fullmatch(r"(coherence|gain)_\d+_\d+", c) and scores[c].any()]
    sources = {c for pair in DIFFERENCES.values() for c in pair} | {*METRICS}
    table = scores[["arm", "seed", "image", *sorted(sources & set(scores)), *bands]].copy()
    for name, (minuend, subtrahend) in DIFFERENCES.items():
        if {minuend, subtrahend} <= {*table, 0.5}:
            table[name] = table[minuend] - table.get(subtrahend, subtrahend)
    for kind in ("coherence", "gain"):
        finest = [c for c in bands if c.startswith(kind)][-OCTAVES:]
        if kind in RATIOS:
            table[finest] = table.groupby(["arm", "seed"])[finest].transform("median")
        table[f"fine_{kind}"] = table[finest].mean(axis=1)
    return table


def _described(part: Part, says: str) -> dict:
    words, unit = METRICS[part.metric]
    return {
        "metric": words,
        "contrast": " − ".join(part.arms),
        "claimed": part.claimed,
        "says": says,
        "beside": part.beside,
        "word": part.word,
        "unit": unit.name,
        "margin": unit.margin,
    }


def _lacks(scored: pd.DataFrame, parts: Sequence[Part], beside: bool = False) -> str:
    """Say which arms the deciding parts lack, or else which metrics of them; "" if none.

    `scored` counts the values of each metric (columns) of each arm (index).
    """
    wanted = [(part.metric, arm) for part in parts if part.beside == beside for arm in part.arms]
    if absent := dict.fromkeys(arm for _, arm in wanted if arm not in scored.index):
        return f"needs {', '.join(absent)}"
    unscored: dict[str, list[str]] = {}
    for metric, arm in dict.fromkeys(wanted):
        if not scored.loc[arm, metric]:
            names = [name for name in DIFFERENCES.get(metric, [metric]) if name != 0.5]
            unscored.setdefault(" and ".join(names), []).append(arm)
    lists = [f"{metric} of {', '.join(arms)}" for metric, arms in unscored.items()]
    return f"needs {'; '.join(lists)}" if lists else ""
