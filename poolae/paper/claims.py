"""The claims ledger: what the runs at hand say of each claim of the study of 2020.

A claim is a contrast, or a few, and what it says of each: above 0, below 0, or no difference. The
interval decides, never a person:

- a claimed sign is *supported* when the 95 % interval lies on that side of 0, *refuted* when it
  lies on the other or when the effect is equivalent to 0 within `MARGIN` (a difference too small
  to matter is none), else *inconclusive*;
- a claimed absence is *supported* by equivalence, *refuted* by any other interval without 0.

A claim of several contrasts holds when all do and falls with one (`conjunction`), or falls only
with all of them (`agreement`). Claims about the ranking in the original are about its own four
networks. The others are read from the matched family where it was trained, in which only the
named thing differs, else from the published one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd

from poolae.metrics.statistics import (
    MIN_SEEDS,
    Contrast,
    holm,
    one_sample,
    paired_contrast,
)
from poolae.settings import UserError

SUPPORTED, REFUTED, INCONCLUSIVE, NOT_RUN = "supported", "refuted", "inconclusive", "not run"
ABOVE, BELOW, NO_DIFFERENCE = "above", "below", "no difference"

# Effects smaller than this count as none. An error of .0005 of the range is an eighth of a unit
# of a or b, and one per cent of the error of a table of lightness (.04). A score of .005 is half
# a per cent of the pixels, about as fine as the published curves can be read (.003). A cast of
# one unit of a or b over a whole picture is the least that CIE Lab was made for an eye to see.
RANGE, SCORE, LAB = "of the range", "score", "Lab units"
MARGIN = {RANGE: 0.0005, SCORE: 0.005, LAB: 0.5}

# Metric: its name in a sentence, and its unit.
METRICS = {
    "mean_absolute_error": ("mean absolute error", RANGE),
    "accuracy_0.010": ("accuracy at bound 0.01", SCORE),
    "accuracy_0.100": ("accuracy at bound 0.1", SCORE),
    "gain_8_up": ("gain above 8 cycles", SCORE),
    "coherence_8_up": ("coherence above 8 cycles", SCORE),
    "block_r2": ("variance explained by the 16 × 16 block means of the truth", SCORE),
    "train_test_gap": ("test error minus training error", RANGE),
    "bright_error": ("mean absolute error of bright pixels", RANGE),
    "scrambling_cost": ("error from shuffled tiles minus error from the whole picture", RANGE),
    "a_bias": ("mean of predicted minus true a", LAB),
}
# Metrics that are one column of the scores minus another.
DERIVED = {
    "train_test_gap": ("mean_absolute_error", "training_error"),
    "scrambling_cost": ("scrambled_error", "mean_absolute_error"),
}
ERROR, GAP = "mean_absolute_error", "train_test_gap"

PUBLISHED = ("pool0", "pool1", "pool2", "pool3")
MATCHED = ("matched0", "matched1", "matched2", "matched3")
BASELINES = ("lightness table", "patch boosting")
ENDS = (("matched0", "matched3"), ("pool0", "pool3"))  # no pooling and most of it

PHRASES = {
    SUPPORTED: "support {}",
    REFUTED: "refute {}",
    INCONCLUSIVE: "leave {} open",
    NOT_RUN: "cannot judge {}",
}
COLUMNS = ["claim", "contrast", "effect", "low", "high", "unit", "p", "p_holm", "verdict"]
COLUMNS += ["seeds", "tested", "note"]


@dataclass(frozen=True)
class Part:
    """A contrast and what a claim says of it."""

    contrast: Contrast
    claimed: str  # ABOVE, BELOW or NO_DIFFERENCE
    margin: float | None  # equivalence within it; None where the sign alone decides

    @property
    def verdict(self) -> str:
        """What the contrast says of the claim."""
        return judge(self.contrast, self.claimed, self.margin)

    @property
    def words(self) -> str:
        """Metric, arms and family."""
        family = _family(self.contrast.arms)
        words = f"{METRICS[self.contrast.metric][0]}, {' − '.join(self.contrast.arms)}"
        return f"{words} ({family})" if family else words


@dataclass(frozen=True)
class Finding:
    """What the runs say of one claim."""

    parts: tuple[Part, ...]
    verdict: str
    note: str = ""

    @property
    def decisive(self) -> int:
        """Position of the part to show: the first that says what the whole says."""
        verdicts = [part.verdict for part in self.parts]
        return verdicts.index(self.verdict) if self.verdict in verdicts else 0


@dataclass(frozen=True)
class Claim:
    """A claim of the original, what it takes to judge it, and how."""

    words: str
    contrast: str
    needs: tuple[tuple[str, ...], ...]  # sets of arms, the first that is there is used
    metrics: tuple[str, ...]  # of METRICS
    examine: Callable[..., Finding]  # (table, arms, contrast settings) -> Finding


# Rules -----------------------------------------------------------------------------------------


def judge(contrast: Contrast, claimed: str, margin: float | None) -> str:
    """Return "supported", "refuted" or "inconclusive" for what is claimed of a contrast.

    Parameters
    ----------
    claimed
        "above" or "below" 0, or "no difference".
    margin
        Effects inside ± `margin` count as none. None: the sign alone decides.
    """
    none = margin is not None and contrast.reading(margin) == "none"
    above, below = contrast.low > 0, contrast.high < 0
    if claimed == NO_DIFFERENCE:
        return SUPPORTED if none else REFUTED if above or below else INCONCLUSIVE
    right, wrong = (above, below) if claimed == ABOVE else (below, above)
    return REFUTED if none or wrong else SUPPORTED if right else INCONCLUSIVE


def conjunction(*parts: Part, note: str = "") -> Finding:
    """Support a claim when every part is, refute it when any is."""
    verdicts = {part.verdict for part in parts}
    refuted = REFUTED if REFUTED in verdicts else INCONCLUSIVE
    return Finding(parts, SUPPORTED if verdicts == {SUPPORTED} else refuted, note)


def agreement(*parts: Part, note: str = "") -> Finding:
    """Support or refute a claim when every part does."""
    verdicts = {part.verdict for part in parts}
    return Finding(parts, verdicts.pop() if len(verdicts) == 1 else INCONCLUSIVE, note)


def _part(
    table: pd.DataFrame, metric: str, a: str, b: str, claimed: str, sign_only=False, **settings
) -> Part:
    contrast = paired_contrast(table, metric, a, b, **settings)
    return Part(contrast, claimed, None if sign_only else MARGIN[METRICS[metric][1]])


def _mean_part(table: pd.DataFrame, metric: str, arm: str, claimed: str, **settings) -> Part:
    return Part(one_sample(table, metric, arm, **settings), claimed, MARGIN[METRICS[metric][1]])


# One function per claim ------------------------------------------------------------------------


def _one_is_best(table: pd.DataFrame, arms: Sequence[str], **settings) -> Finding:
    errors = _by_seed(table, arms).mean().drop("pool1")
    return conjunction(
        _part(table, ERROR, errors.idxmin(), "pool1", ABOVE, sign_only=True, **settings)
    )


def _two_are_worst(table: pd.DataFrame, arms: Sequence[str], **settings) -> Finding:
    errors = _by_seed(table, arms)
    other = errors.mean().drop("pool2").idxmax()
    part = _part(table, ERROR, "pool2", other, ABOVE, sign_only=True, **settings)
    seeds, last = len(errors), int((errors.idxmax(axis=1) == "pool2").sum())
    # One seed has one last, which shows nothing of stability.
    unstable = seeds > 1 and last < seeds / 2
    verdict = REFUTED if unstable else part.verdict
    if verdict == SUPPORTED and last < seeds:
        verdict = INCONCLUSIVE
    return Finding((part,), verdict, f"pool2 is last in {last} of {_count(seeds, 'seed')}")


def _three_win_small_bounds(table: pd.DataFrame, arms: Sequence[str], **settings) -> Finding:
    # Grey has the same shape of curve: it scores at small bounds by never being far from the
    # dullest colours. It explains the win unless three pools win by more.
    small, large = "accuracy_0.010", "accuracy_0.100"
    return conjunction(
        _part(table, small, "pool3", "pool1", ABOVE, **settings),
        _part(table, large, "pool3", "pool1", BELOW, **settings),
        _part(table, small, "pool3", "grey", ABOVE, **settings),
    )


def _detail_vanishes(table: pd.DataFrame, arms: Sequence[str], **settings) -> Finding:
    unpooled, pooled = arms
    equal = unpooled == "dilated"
    return agreement(
        *(
            _part(table, metric, pooled, unpooled, BELOW, **settings)
            for metric in ("gain_8_up", "coherence_8_up")
        ),
        note="" if equal else "the receptive field grows with pooling here",
    )


def _means_of_areas(table: pd.DataFrame, arms: Sequence[str], **settings) -> Finding:
    shallow, deep = arms
    return conjunction(_part(table, "block_r2", deep, shallow, ABOVE, **settings))


def _tighter_generalises(table: pd.DataFrame, arms: Sequence[str], **settings) -> Finding:
    shallow, deep = arms
    parts = [_part(table, GAP, deep, shallow, BELOW, **settings)]
    with_gap = table.loc[table[GAP].notna(), "arm"].unique()
    channels = sorted(int(a[7:]) for a in with_gap if re.fullmatch(r"pool3-c\d+", a))
    if len(channels) < 2:
        return agreement(*parts, note="depth alone: the channels of the bottleneck were not varied")
    narrow, wide = (f"pool3-c{count}" for count in (channels[0], channels[-1]))
    return agreement(*parts, _part(table, GAP, narrow, wide, BELOW, **settings))


def _pooling_not_context(table: pd.DataFrame, arms: Sequence[str], **settings) -> Finding:
    return conjunction(
        _part(table, ERROR, "matched3", "dilated", BELOW, **settings),
        _part(table, ERROR, "narrow", "matched0", BELOW, **settings),
    )


def _leans_to_green(table: pd.DataFrame, arms: Sequence[str], **settings) -> Finding:
    table, mean = _averaged(table, arms, "a_bias")
    return conjunction(_mean_part(table, "a_bias", mean, BELOW, **settings))


def _white_and_yellow(table: pd.DataFrame, arms: Sequence[str], **settings) -> Finding:
    # If lightness alone cannot tell them apart, what lies around a pixel has to help: first at
    # all, then more of it where that can be had with nothing else changed.
    if "dilated" in arms:
        near, *wider = "matched0", "dilated"
    else:
        # Picked by another metric than the one it is then tested on.
        near, *wider = [_by_seed(table, PUBLISHED).mean().idxmin()]
    parts = [_part(table, "bright_error", near, "lightness table", BELOW, **settings)]
    parts += [_part(table, "bright_error", arm, near, BELOW, **settings) for arm in wider]
    return agreement(*parts)


def _no_flower_shapes(table: pd.DataFrame, arms: Sequence[str], **settings) -> Finding:
    table, mean = _averaged(table, arms, "scrambling_cost")
    return conjunction(
        _mean_part(table, "scrambling_cost", mean, NO_DIFFERENCE, **settings),
        note="the seams between the tiles count against the claim too",
    )


def _more_than_lightness(table: pd.DataFrame, arms: Sequence[str], **settings) -> Finding:
    known = table.loc[table["arm"] == arms[0], ["seed", "image", ERROR]]
    networks = table[table["kind"] == "network"]
    pairs = networks.merge(known, on=["seed", "image"], suffixes=("", "_known"))
    if pairs.empty:
        raise UserError(f"no network shares an image with {arms[0]}: train one and score both.")
    # Arms with fewer seeds would be picked for their luck. What each gains on a baseline on its
    # own images ranks them, so that easy splits favour none.
    seeds = pairs.groupby("arm")["seed"].nunique()
    gains = (pairs[ERROR] - pairs[f"{ERROR}_known"]).groupby([pairs["arm"], pairs["seed"]]).mean()
    best = gains.groupby("arm").mean()[seeds == seeds.max()].idxmin()
    hardest_first = _by_seed(table, arms).mean().sort_values().index
    return conjunction(
        *(_part(table, ERROR, best, name, BELOW, **settings) for name in hardest_first)
    )


def _mixture_helps(table: pd.DataFrame, arms: Sequence[str], **settings) -> Finding:
    ensemble = _by_seed(table, [_expert("seeds", m) for m in ("mean", "median")]).mean().idxmin()
    return conjunction(
        *(
            _part(table, ERROR, _expert("depths", m), _expert("seeds", m), BELOW, **settings)
            for m in ("pixel oracle", "segment oracle")
        ),
        _part(table, ERROR, _expert("depths", "gate"), ensemble, BELOW, **settings),
    )


def _expert(experts: str, method: str) -> str:
    return f"{method} over {experts}"


MIXTURE = (
    *(_expert(e, m) for m in ("pixel oracle", "segment oracle") for e in ("depths", "seeds")),
    *(_expert("seeds", m) for m in ("mean", "median")),
    _expert("depths", "gate"),
)

FAMILIES = {
    "matched0 ... matched3": MATCHED,
    "pool0 ... pool3": PUBLISHED,
    "the comparison of mixtures": MIXTURE,
}

CLAIMS: dict[str, Claim] = {
    "one best": Claim(
        "Of the four networks, the one with a single pooling layer colourises best.",
        "error of the best other depth minus that of pool1",
        (PUBLISHED,),
        (ERROR,),
        _one_is_best,
    ),
    "three at bounds": Claim(
        "Three pooling layers are ahead at small bounds and behind at large ones.",
        "accuracy of pool3 minus that of pool1, at 0.01 and at 0.1, and minus that of grey at 0.01",
        (("pool1", "pool3", "grey"),),
        ("accuracy_0.010", "accuracy_0.100"),
        _three_win_small_bounds,
    ),
    "two worst": Claim(
        "The network with two pooling layers is the worst of the four.",
        "error of pool2 minus that of the worst other depth",
        (PUBLISHED,),
        (ERROR,),
        _two_are_worst,
    ),
    "detail": Claim(
        "The more pooling, the less detail is left in the colours.",
        "gain and coherence above 8 cycles with pooling minus without, at one receptive field",
        (("dilated", "matched3"), *ENDS),
        ("gain_8_up", "coherence_8_up"),
        _detail_vanishes,
    ),
    "block means": Claim(
        "A network with much pooling predicts the mean colour of areas.",
        "variance that block means explain, three pools minus none",
        ENDS,
        ("block_r2",),
        _means_of_areas,
    ),
    "bottleneck": Claim(
        "The tighter the bottleneck, the better a network generalises.",
        "train-test gap of the tight bottleneck minus that of the wide one, in depth and channels",
        ENDS,
        (GAP,),
        _tighter_generalises,
    ),
    "pooling itself": Claim(
        "It is pooling that helps, not the wider context that comes with it.",
        "error with pooling minus without, at equal context (dilated) and at little (narrow)",
        (("matched0", "matched3", "dilated", "narrow"),),
        (ERROR,),
        _pooling_not_context,
    ),
    "green": Claim(
        "The predicted colours are shifted towards green.",
        "mean of predicted minus true a",
        (MATCHED, PUBLISHED),
        ("a_bias",),
        _leans_to_green,
    ),
    "white and yellow": Claim(
        "White and yellow petals are too alike in lightness to be told apart by it.",
        "error of bright pixels with context minus without, and with more of it",
        (("matched0", "dilated", "lightness table"), (*PUBLISHED, "lightness table")),
        (ERROR, "bright_error"),
        _white_and_yellow,
    ),
    "flower shapes": Claim(
        "The networks have no leaning towards the shapes of flowers.",
        "error from shuffled tiles minus error from the whole picture",
        (MATCHED, PUBLISHED),
        ("scrambling_cost",),
        _no_flower_shapes,
    ),
    "mixture": Claim(
        "Networks of different depth, mixed by area, do better than one.",
        "oracles over depths minus oracles over seeds, and the gate minus an ensemble of seeds",
        (MIXTURE,),
        (ERROR,),
        _mixture_helps,
    ),
    "lightness": Claim(
        "The networks learn more about colour than lightness tells.",
        "error of the best network minus that of the lightness table and of patch boosting",
        (BASELINES, *((name,) for name in BASELINES)),
        (ERROR,),
        _more_than_lightness,
    ),
}


# The ledger ------------------------------------------------------------------------------------


def ledger(
    scores: pd.DataFrame,
    mixtures: pd.DataFrame | None = None,
    *,
    resamples: int = 2000,
    rng_seed: int = 0,
) -> pd.DataFrame:
    """Judge every claim of the original by the scores at hand.

    Parameters
    ----------
    scores
        One row per arm, seed and test image: `kind`, `arm`, `seed`, `image` and the metrics.
    mixtures
        From `mixture.compare_mixtures`, one below the other with `seed` (one seed if absent) and
        the images by name: `experts` ("depths" or "seeds"), `method`, `image` and
        `mean_absolute_error`.
    resamples, rng_seed
        Of the bootstrap.

    Returns
    -------
    DataFrame
        One row per claim, indexed as `CLAIMS`: `claim`, `contrast` (in words, with the family;
        where the claim could not be judged, what that needs), `effect` with its 95 % interval
        `low` and `high` in `unit`, `p` of the sign flips, `p_holm` corrected over every contrast
        of the ledger, `verdict`, `seeds`, `tested` (whether sign flips could test it) and `note`
        (the other contrasts of the claim, and what to know). Of several contrasts, the first
        that says what the verdict says is shown.
    """
    settings: dict = {}  # intervals are closed forms
    table = pd.concat([_needed(scores), _as_scores(mixtures)], ignore_index=True)
    found = {key: _examine(claim, table, settings) for key, claim in CLAIMS.items()}
    contrasts = [
        part.contrast for f in found.values() if isinstance(f, Finding) for part in f.parts
    ]
    corrected = iter(holm(contrasts))
    rows = {
        key: _not_run(CLAIMS[key], finding)
        if isinstance(finding, str)
        else _row(CLAIMS[key], finding, [next(corrected).p_holm for _ in finding.parts])
        for key, finding in found.items()
    }
    numbers = dict.fromkeys(("effect", "low", "high", "p", "p_holm"), float)
    return pd.DataFrame(rows.values(), index=rows.keys(), columns=COLUMNS).astype(numbers)


def sentence(ledger: pd.DataFrame) -> str:
    """Count the verdicts of a ledger in one sentence."""
    counts = ledger["verdict"].value_counts()
    parts = [
        phrase.format(counts[verdict]) for verdict, phrase in PHRASES.items() if verdict in counts
    ]
    judged = ledger[ledger["verdict"] != NOT_RUN]
    untested = int(judged["p"].isna().sum())
    caution = (
        f"; {untested} of the {_count(len(judged), 'verdict')} "
        f"{'rests' if untested == 1 else 'rest'} on fewer than {MIN_SEEDS} seeds, which cannot be "
        "tested by sign flips"
    )
    return (
        f"Of {len(ledger)} claims of the original study the runs at hand {_joined(parts)}"
        f"{caution if untested else ''}."
    )


def _joined(parts: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]]))


def _examine(claim: Claim, table: pd.DataFrame, settings: dict) -> Finding | str:
    """Return what the table says of a claim, or what the claim needs that is not there."""
    lacking = [_lacking(table, arms, claim.metrics) for arms in claim.needs]
    if all(lacking):
        return f"needs {' or '.join(dict.fromkeys(lacking))}"
    arms = claim.needs[lacking.index("")]
    try:
        return claim.examine(table, arms, **settings)
    except UserError as error:
        return str(error)


def _lacking(table: pd.DataFrame, arms: Sequence[str], metrics: Sequence[str]) -> str:
    """Say which of the arms are absent or else which of the metrics they have no value of."""
    absent = [arm for arm in arms if not (table["arm"] == arm).any()]
    if absent:
        return _listed(absent)
    values = table[table["arm"].isin(arms)].groupby("arm")[list(metrics)].count()
    unscored = [
        f"{' and '.join(DERIVED.get(metric, [metric]))} of {_listed([a for a in arms if zero[a]])}"
        for metric, zero in (values == 0).items()
        if zero.any()
    ]
    return ", ".join(unscored)


def _row(claim: Claim, finding: Finding, p_holm: Sequence[float | None]) -> dict:
    at = finding.decisive
    part, others = finding.parts[at], finding.parts[:at] + finding.parts[at + 1 :]
    shown = part.contrast
    notes = [_in_words(other) for other in others] + [finding.note] * bool(finding.note)
    return {
        "claim": claim.words,
        "contrast": part.words,
        "effect": shown.effect,
        "low": shown.low,
        "high": shown.high,
        "unit": METRICS[shown.metric][1],
        "p": shown.p,
        "p_holm": p_holm[at],
        "verdict": finding.verdict,
        "seeds": shown.seeds,
        "tested": _tested(shown),
        "note": "; ".join(notes),
    }


def _not_run(claim: Claim, reason: str) -> dict:
    return {
        "claim": claim.words,
        "contrast": f"{claim.contrast}; {reason}",
        "verdict": NOT_RUN,
        "seeds": 0,
        "tested": "",
        "note": "",
        "unit": "",
    }


def _in_words(part: Part) -> str:
    c = part.contrast
    return f"also {part.words}: {c.effect:+.4f} [{c.low:+.4f}, {c.high:+.4f}], {part.verdict}"


def _tested(contrast: Contrast) -> str:
    if contrast.p is not None:
        return f"sign flips of {contrast.seeds} seeds"
    if contrast.tests_seeds:
        return f"no: {contrast.seeds} seeds, where sign flips need {MIN_SEEDS}"
    return "no: one seed, so that the interval is of images alone"


# The table -------------------------------------------------------------------------------------


def _needed(scores: pd.DataFrame) -> pd.DataFrame:
    """Return the columns that the claims use, the derived ones made, absent ones NaN."""
    keys = ["kind", "arm", "seed", "image"]
    columns = list(dict.fromkeys([*METRICS, *(c for pair in DERIVED.values() for c in pair)]))
    table = scores.reindex(columns=[*keys, *(c for c in columns if c not in DERIVED)])
    for name, (minuend, subtrahend) in DERIVED.items():
        table[name] = table[minuend] - table[subtrahend]
    return table


def _as_scores(mixtures: pd.DataFrame | None) -> pd.DataFrame | None:
    if mixtures is None:
        return None
    names = [
        _expert(experts, method.removesuffix(" ensemble"))
        for experts, method in zip(mixtures["experts"], mixtures["method"], strict=True)
    ]
    seed = mixtures.get("seed", 0)
    return mixtures[["image", ERROR]].assign(kind="mixture", arm=names, seed=seed)


def _by_seed(table: pd.DataFrame, arms: Sequence[str]) -> pd.DataFrame:
    """Return mean absolute errors, seeds x arms, over the images that all of the arms share."""
    rows = table[table["arm"].isin(arms)]
    shared = rows.pivot_table(ERROR, ["seed", "image"], "arm").dropna()
    if shared.empty:
        raise UserError(f"{_listed(arms)} share no image: train them from one seed.")
    return shared[list(arms)].groupby("seed").mean()


def _averaged(table: pd.DataFrame, arms: Sequence[str], metric: str) -> tuple[pd.DataFrame, str]:
    """Return a table of the mean of `metric` over the arms, where all have it, and its name."""
    rows = table[table["arm"].isin(arms)]
    shared = rows.pivot_table(metric, ["seed", "image"], "arm").dropna()
    name = f"mean of {_listed(arms)}"
    return shared.mean(axis=1).rename(metric).reset_index().assign(arm=name), name


def _listed(arms: Sequence[str]) -> str:
    """Join names, whole families shortened."""
    arms = list(arms)
    for short, family in FAMILIES.items():
        if set(family) <= set(arms):
            arms = [short, *(arm for arm in arms if arm not in family)]
    return ", ".join(arms)


def _family(arms: Sequence[str]) -> str:
    """Name the family that a contrast is read from; oracles and ensembles are of neither."""
    names = " ".join(arms)
    if re.search(r"\bpool\d", names):
        return "published family"
    return "matched family" if re.search(r"\b(matched\d|dilated|narrow)", names) else ""


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"
