"""Sentences with computed numbers, which say what the runs at hand show and no more."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from poolae.metrics.statistics import MIN_SEEDS
from poolae.paper import comparisons
from poolae.paper.study import MATCHED_CONTRASTS

ERROR = "mean_absolute_error"
PUBLISHED_PERIOD = 25_000  # steps, read off the original's progress plots


def abstract(
    compared: pd.DataFrame,
    data: str,
    scale: str,
    real: bool,
    gain: pd.DataFrame | None = None,
    matched: pd.DataFrame | None = None,
    margin: float = 0.0,
) -> str:
    """Summarise a report in one paragraph.

    Parameters
    ----------
    compared
        From `comparisons.compare`.
    data
        As in `settings.Settings`.
    scale
        Of the runs, from `Study.scale`.
    real
        Whether the data are the 764 photographs.
    gain
        From `comparisons.detail`, of the published networks, from no pooling to most.
    matched
        Contrasts of the matched family, if it was trained.
    margin
        Differences of the error below it count as none.
    """
    material = {"synthetic": "synthetic daisies that the package draws"}.get(
        data, "the study's 764 photographs" if real else "a folder of images"
    )
    said = [
        "In 2020 a study trained autoencoders with no, one, two and three pooling layers to "
        "predict the colours of photographs of daisies from their lightness, once each, and "
        "found one pooling layer best. Its training never cleared the gradients, and no baseline "
        f"stood beside it. We train its networks again, corrected, on {material} "
        f"({scale}).",
        accuracy_in_short(compared),
        matched_in_short(matched, margin) if matched is not None and len(matched) else "",
        detail_in_short(gain) if gain is not None else "",
    ]
    return " ".join(filter(None, said))


def accuracy_in_short(compared: pd.DataFrame) -> str:
    """Say the errors of networks and baselines, and how alike the seeds rank the networks."""
    means = _means(compared)
    networks, table = means["network"], means["baseline"]["lightness table"]
    listed = ", ".join(f"{arm} {error:.4f}" for arm, error in networks.sort_values().items())
    beaten = sum(networks < table)
    return (
        f"Mean absolute errors, of the range: {listed}. A table of 256 lightness values reaches "
        f"{table:.4f}, which {_count(beaten, len(networks))} of the networks "
        f"{'beats' if beaten == 1 else 'beat'}{_patch(means, networks)}. {ranking(compared)}"
    )


def matched_in_short(matched: pd.DataFrame, margin: float) -> str:
    """Say what pooling, context and shortcuts do to the error at equal depth and parameters."""
    changes = {
        "narrow − matched0": "an eighth of the resolution, with no wider context, {}",
        "dilated − matched0": "wider context at full resolution {}",
        "skip − matched3": "a path around the bottleneck {}",
    }
    said = [
        phrase.format(told(matched.loc[name], margin))
        for name, phrase in changes.items()
        if name in matched.index
    ]
    return f"At equal depth and parameters, {'; '.join(said)}." if said else ""


def told(row: pd.Series, margin: float) -> str:
    """Say what a difference of errors tells, by its interval."""
    interval = f"{row['effect']:+.4f} [{row['low']:+.4f}, {row['high']:+.4f}]".replace("-", "−")
    if -margin < row["low"] and row["high"] < margin:
        return f"changes nothing ({interval})"
    if row["high"] < 0:
        return f"lowers the error ({interval})"
    if row["low"] > 0:
        return f"raises the error ({interval})"
    return f"leaves it open whether the error changes ({interval})"


def detail_in_short(gain: pd.DataFrame) -> str:
    """Say how much of the finest detail the networks with least and most pooling give back."""
    first, last, band = gain.index[0], gain.index[-1], gain.columns[-1]
    ends = " and ".join(
        f"{gain.loc[arm, band]:.0%} in {arm}" for arm in dict.fromkeys([first, last])
    )
    return (
        f"Of the power of the true colours' finest detail ({band} cycles per image) the "
        f"predictions hold {ends}."
    )


def verdict_on_lightness(compared: pd.DataFrame) -> str:
    """Say which networks have learnt more than lightness, and by how much."""
    means = _means(compared)
    table = means["baseline"]["lightness table"]
    gains = (1 - means["network"] / table).map(lambda gain: f"{gain:+.1%}")
    listed = ", ".join(f"{arm} {gain}" for arm, gain in gains.items())
    return (
        "Error saved against the lightness table, in per cent of the table's error "
        f"(negative: the network is worse than the table): {listed}."
    )


def scatter(compared: pd.DataFrame) -> str:
    """Say how large the scatter over seeds is beside the differences between depths."""
    if compared["seed"].nunique() < 2:
        return "Each depth was trained from one seed here, so that nothing can be said of chance."
    networks = compared[compared["kind"] == "network"]
    over_seeds = networks.groupby("arm")[ERROR].agg(np.ptp).max()
    means = _means(compared)["network"]
    between = means.max() - means.min()
    paired = networks.pivot_table(index="seed", columns="arm", values=ERROR)
    # A seed is a split too, so its difficulty is common to all depths.
    left = (paired - paired.mean(axis=1).to_numpy()[:, None]).agg(np.ptp).max()
    return (
        f"The depths' means differ by at most {between:.4f}. One depth differs between seeds by "
        f"up to {over_seeds:.4f}; as another seed is also another split, that holds the splits' "
        f"difficulty, and once each seed's mean over the depths is taken off, {left:.4f} remains. "
        f"{ranking(compared)}"
    )


def against_published(compared: pd.DataFrame) -> str:
    """Say where the curves lie above the published one of pool1, and by how much they miss."""
    margins = comparisons.margins_over_published(compared)
    sentences = []
    for arm in _means(compared)["network"].index:
        row = margins.loc[arm]
        below = [f"{bound:g}" for bound in row.index[row < 0]]
        where = f"below it at {', '.join(below)}" if below else "above it at every bound"
        sentences.append(
            f"- {arm}: {row[0.05]:+.3f} at bound 0.05 and {row[0.1]:+.3f} at 0.1; {where}."
        )
    return (
        "Accuracy minus the published accuracy of pool1, the best of the four curves at most "
        "bounds:\n\n" + "\n".join(sentences) + "\n\nThe published values were measured on "
        "another split, from 8-bit values, and read off a figure to about ±0.003."
    )


SCORE_FORMATS = {
    "mean absolute error": ".4f",
    "range over seeds": ".4f",
    **dict.fromkeys(["within 0.01", "within 0.02", "within 0.05", "within 0.1"], ".3f"),
    "area to 0.1": ".3f",
}
MORE_FORMATS = {
    **dict.fromkeys(["AuC 150", "AuC 25", "AuC 150, rare", "AuC 25, rare"], ".3f"),
    "ΔE, mean": ".2f",
    "ΔE, median": ".2f",
    "PSNR": ".2f",
    "SSIM": ".3f",
    "colourfulness": ".2f",
    "histograms": ".3f",
    "test minus training": "+.4f",
}
ARM_FORMATS = {
    "parameters": ",",
    "measured": ".0f",
    "values per pixel at the narrowest": ".3g",
    "million MACs": ",.0f",
    "coherence above 8 cycles": ".3f",
    "error": ".4f",
}
SATELLITE_FORMATS = {
    "parameters": ",",
    "values per pixel at the narrowest": ".3g",
    "error": ".4f",
    "test minus training": "+.4f",
    "gain above 8 cycles": ".2f",
}
MIXTURE_FORMATS = {
    "depths: error": ".4f",
    "seeds: error": ".4f",
    "depths: recovered": ".0%",
    "seeds: recovered": ".0%",
}

MATCHED_INTRODUCTION = (
    "## Is it pooling, or context, or capacity?\n\n"
    "In the published family depth, width, parameters and receptive field all grow with pooling. "
    "The matched family has one skeleton of 14 convolutions of one width, and as many parameters "
    "everywhere ([Table](#tbl-arms)). `matched0` to `matched3` halve the map at none to three "
    "places. `dilated` halves it nowhere and has the receptive field of `matched3` all the same; "
    "`narrow` has the resolution of `matched3` and the receptive field of `matched0`. `lossless` "
    "moves pixels into channels [@shi2016] where `matched3` drops them. `skip` leads each "
    "resolution past the bottleneck [@ronneberger2015]. What to look for in "
    "[Figure](#fig-matched): if pooling itself helped, coarse resolution would win at equal "
    "context; if context does, `dilated` would win over `matched0`."
)
NOTES_ON_ARMS = (
    "Where an arm is not exactly equal: the 1 × 1 kernels of `narrow` have more channels between "
    "them, which brings the weights back to within 1 %. `lossless` has four outputs for one where "
    "it moves channels back into pixels, and with them four biases and normalisations: 1 % more, "
    "and a larger receptive field, because its convolutions run after the pixels have moved. They "
    "are grouped, too: what it loses by mixing fewer channels at a time cannot be told from what "
    "it wins by keeping every pixel. "
    "`skip` adds the earlier maps instead of concatenating them, which costs no weights."
)
SATELLITE_INTRODUCTION = (
    "### Does the pooling operator matter, or the number of channels?\n\n"
    "The published code pools the maximum of 5 × 5 pixels (`max5`), its figure shows 2 × 2 "
    "(`max2`). Averages, strides and anti-aliased maxima [@zhang2019] are the other usual choices. "
    "At one eighth of the side, 64 channels are as many values as the patch of lightness has "
    "pixels, so that only below 64 is there a bottleneck in the strict sense; Manakov and others "
    "found channels to matter little there, and height and width much [@manakov2019]."
)
BAND_INTRODUCTION = (
    "### Is detail lost that was there to be learnt?\n\n"
    "On photographs nobody knows how much of the fine chroma follows from lightness at all. Drawn "
    "daisies are an instrument: their chroma can be cut off at a chosen frequency while their "
    "lightness stays as it is. In [Figure](#fig-bandwidth) look at each panel's last point, the "
    "highest band that is there in full: a depth that loses detail falls off there."
)
MIXTURE_INTRODUCTION = (
    "## Is a mixture of depths worth more?\n\n"
    "The original closes with the proposal to mix networks of several depths, since each may be "
    "best somewhere. An oracle that takes the best of four networks at every pixel wins whatever "
    "the four are, so it is held against the same oracle over four seeds of one depth. Between an "
    "oracle and what can be had lies the knowledge of which network to trust: the gate has to "
    "tell it from lightness and the networks' answers."
)
OSCILLATION_INTRODUCTION = (
    "## What never clearing the gradients does\n\n"
    "The original's training loop added each step's gradient to the sum of all before it. The "
    "optimiser then follows the direction of the whole past, overshoots until the sum has changed "
    "its sign, and swings back. [Figure](#fig-oscillation) shows one network, one data set and "
    "one seed under the original's optimiser, with and without that line."
)


def ledger_table(ledger: pd.DataFrame) -> pd.DataFrame:
    """Return the ledger as it is shown: claim, contrast, effect with interval, p and verdict."""
    rows = []
    for _, row in ledger.iterrows():
        ran = row["verdict"] != "not run"
        digits = 4 if row["unit"] == "of the range" else 3
        numbers = [f"{row[k]:+.{digits}f}" for k in ("effect", "low", "high")] if ran else []
        p = row["p_holm"]
        rows.append(
            {
                "claim": row["claim"],
                "verdict": row["verdict"],
                "contrast": row["contrast"],
                "effect [95 %]": "{} [{}, {}]".format(*numbers).replace("-", "−") if ran else "–",
                "p": f"{p:.2f}" if pd.notna(p) else ("too few seeds" if ran else "–"),
                "note": row["note"] if pd.notna(row["note"]) else "",
            }
        )
    return pd.DataFrame(rows)


def score_table(compared: pd.DataFrame, arms: Sequence[str]) -> pd.DataFrame:
    """Return error and accuracies of these arms and of all that is no network, means over seeds."""
    columns = {
        "mean_absolute_error": "mean absolute error",
        **{f"accuracy_{t:.3f}": f"within {t:g}" for t in (0.01, 0.02, 0.05, 0.1)},
        "accuracy_area": "area to 0.1",
    }
    groups = _shown(compared, arms).groupby("arm", sort=False)
    table = groups[list(columns)].mean().rename(columns=columns)
    table.insert(1, "range over seeds", groups[ERROR].agg(np.ptp))
    return table


def more_scores_table(compared: pd.DataFrame, arms: Sequence[str]) -> pd.DataFrame:
    """Return the other scores of these arms and of all that is no network, means over seeds."""
    columns = {
        "auc_150": "AuC 150",
        "auc_25": "AuC 25",
        "auc_150_rebalanced": "AuC 150, rare",
        "auc_25_rebalanced": "AuC 25, rare",
        "ciede2000": "ΔE, mean",
        "ciede2000_median": "ΔE, median",
        "psnr": "PSNR",
        "ssim": "SSIM",
        "colourfulness": "colourfulness",
        "histogram_intersection": "histograms",
    }
    means = _shown(compared, arms).groupby("arm", sort=False).mean(numeric_only=True)
    table = means[list(columns)].rename(columns=columns)
    table["test minus training"] = means[ERROR] - means["training_error"]
    return table


def _shown(compared: pd.DataFrame, arms: Sequence[str]) -> pd.DataFrame:
    return compared[compared["arm"].isin(arms) | (compared["kind"] != "network")]


def mixture_table(mixtures: pd.DataFrame) -> pd.DataFrame:
    """Return error and share of the oracle's gain per method, for depths and for seeds."""
    from poolae.metrics.mixture import recovered

    errors = mixtures.groupby(["experts", "method"], sort=False)[ERROR].mean()
    shares = recovered(mixtures)
    parts = {
        f"{experts}: {what}": values.xs(experts)
        for experts in ("depths", "seeds")
        for what, values in (("error", errors), ("recovered", shares))
    }
    return pd.DataFrame(parts).rename_axis("method")


def effects_in_words(frame: pd.DataFrame, margin: float) -> str:
    """Say which of these differences are told from 0, which count as none and which are open."""
    kinds: dict[str, list[str]] = {"lower": [], "higher": [], "none": [], "open": []}
    for name, row in frame.iterrows():
        first, second = name.split(" − ")
        size = f"{first} against {second} ({row['effect']:+.4f})"
        if -margin < row["low"] and row["high"] < margin:
            kinds["none"].append(size)
        elif row["high"] < 0:
            kinds["lower"].append(size)
        elif row["low"] > 0:
            kinds["higher"].append(size)
        else:
            kinds["open"].append(size)
    words = {
        "lower": "The error is lower, by an interval that excludes 0: {}.",
        "higher": "It is higher: {}.",
        "none": f"The whole interval lies within ±{margin:g}, which counts as no effect: {{}}.",
        "open": "Not settled: {}.",
    }
    said = [words[kind].format("; ".join(names)) for kind, names in kinds.items() if names]
    seeds = int(frame["seeds"].min())
    if seeds < MIN_SEEDS:
        said.append(
            f"From {seeds} seed{'s' * (seeds > 1)} the sign of a difference cannot be tested: "
            f"that takes {MIN_SEEDS}."
        )
    else:
        tested = frame["p_holm"] < 0.05
        said.append(
            f"Of {len(frame)} sign-flip tests over {seeds} seeds, {int(tested.sum())} stay below "
            f".05 after Holm's correction; with {seeds} seeds no p can be below "
            f"{2 / 2**seeds:.3f} before it."
        )
    return " ".join(said)


def told_apart(frame: pd.DataFrame) -> str:
    """Name the differences whose intervals lie on one side of 0."""
    below = list(frame.index[frame["high"] < 0])
    above = list(frame.index[frame["low"] > 0])
    sides = [f"{side} 0: {', '.join(names)}" for side, names in (("below", below), ("above", above))
             if names]  # fmt: skip
    said = "; ".join(sides) or "none excludes 0"
    return f"{said[0].upper()}{said[1:]}."


def matched_in_words(frame: pd.DataFrame, margin: float) -> str:
    """Say what each contrast of the matched family changes, and what came of it."""
    lines = []
    for (a, b), change in MATCHED_CONTRASTS.items():
        if f"{a} − {b}" in frame.index:
            row = frame.loc[f"{a} − {b}"]
            interval = f"[{row['low']:+.4f}, {row['high']:+.4f}]"
            lines.append(f"- {change} ({a} − {b}): {row['effect']:+.4f} {interval}")
    return "\n".join(lines) + "\n\n" + effects_in_words(frame, margin)


def detail_in_words(panels: Sequence[tuple]) -> str:
    """Say for each family how gain and coherence in the upper bands go with depth."""
    said = []
    for title, gain, coherence in panels:
        band = gain.columns[-1]
        parts = [
            f"{arm} {gain.loc[arm, band]:.2f} and {coherence.loc[arm, band]:.2f}"
            for arm in gain.index
        ]
        said.append(
            f"In the highest band ({band} cycles per image) gain and coherence of the {title} "
            f"family are: {', '.join(parts)}."
        )
    return " ".join(said)


def bands_in_words(gains: dict[str, dict[str, np.ndarray]], bands: Sequence[str]) -> str:
    """Say the gain of each depth in the highest band that each bandwidth leaves whole."""
    said = []
    for title, arms in gains.items():
        whole = int(np.flatnonzero(np.isfinite(next(iter(arms.values()))))[-1])
        parts = [f"{arm} {values[whole]:.2f}" for arm, values in arms.items()]
        said.append(f"- {title}, band {bands[whole]}: {', '.join(parts)}")
    return "Gain in the highest band that is there in full:\n\n" + "\n".join(said)


def mixtures_in_words(mixtures: pd.DataFrame) -> str:
    """Say what the depths' oracle gains over the seeds', and what can be had of it."""
    table = mixture_table(mixtures)
    gate = table.loc["gate"]
    ensembles = table.loc[["mean ensemble", "median ensemble"]].min()
    return (
        f"{oracles_in_words(mixtures)} The gate recovers {gate['depths: recovered']:.0%} of the "
        f"depths' oracle gain ({gate['depths: error']:.4f}); the better of the two ensembles "
        f"reaches {ensembles['depths: error']:.4f} over depths and "
        f"{ensembles['seeds: error']:.4f} over seeds."
    )


def oracles_in_words(mixtures: pd.DataFrame) -> str:
    """Say how much of what an oracle over depths gains, an oracle over seeds gains too."""
    table = mixture_table(mixtures)
    oracle, best = table.loc["pixel oracle"], table.loc["best single expert"]
    gains = {k: best[f"{k}: error"] - oracle[f"{k}: error"] for k in ("depths", "seeds")}
    return (
        f"The pixel oracle saves {gains['depths']:.4f} of the error of the best single network "
        f"over four depths, and {gains['seeds']:.4f} over four seeds of one depth: "
        f"{gains['seeds'] / gains['depths']:.0%} of what depths seem to offer comes from having "
        "four networks at all."
    )


def oscillation_in_words(periods: dict[str, float | None]) -> str:
    """Say the period of each loss curve, beside that of the original's progress plots."""
    said = [
        f"{name}: a period of about {period:,.0f} steps"
        if period
        else f"{name}: no two peaks, so no period"
        for name, period in periods.items()
    ]
    return (
        "Estimated from the distance between the peaks of the running mean: "
        + "; ".join(said)
        + f". In the original's published progress plots the loss swings with a period of about "
        f"{PUBLISHED_PERIOD:,} steps, in a network sixteen times as wide and at a learning rate of "
        "0.00001."
    )


def _means(compared: pd.DataFrame) -> dict[str, pd.Series]:
    return {
        kind: rows.groupby("arm", sort=False)[ERROR].mean()
        for kind, rows in compared.groupby("kind")
    }


def _patch(means: dict[str, pd.Series], networks: pd.Series) -> str:
    """Say what a regression on patches reaches, if it is there."""
    if "patch boosting" not in means["baseline"]:
        return ""
    patch = means["baseline"]["patch boosting"]
    beaten = _count(sum(networks < patch), len(networks))
    return f"; a boosted regression on patches reaches {patch:.4f}, which {beaten} of them beat"


def ranking(compared: pd.DataFrame) -> str:
    """Say how far the seeds agree on the order of the networks."""
    networks = compared[compared["kind"] == "network"]
    order = networks.sort_values(["seed", ERROR]).groupby("seed")["arm"].agg(list)
    seeds, arms = len(order), networks["arm"].nunique()
    if arms < 2:
        return ""
    if seeds < 2:
        return "From one seed no ranking can be told from chance."
    first = order.str[0].value_counts()
    if len(set(map(tuple, order))) == 1:
        all_ = "Both" if seeds == 2 else f"All {seeds}"
        return f"{all_} seeds rank the depths alike: {', '.join(order.iloc[0])}."
    return (
        f"The seeds do not agree on the order of the depths; {first.index[0]} comes first in "
        f"{first.iloc[0]} of {seeds}."
    )


def _count(some: int, all_: int) -> str:
    return {0: "none", all_: "all"}.get(some, f"{some}")
