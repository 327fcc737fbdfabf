"""Sentences with computed numbers, which say what the runs at hand show and no more."""

from __future__ import annotations

import numpy as np
import pandas as pd

from poolae import evaluate
from poolae.settings import Settings

ERROR = "mean_absolute_error"


def abstract(compared: pd.DataFrame, settings: Settings, test_images: int, real: bool) -> str:
    """Summarise a report in one paragraph.

    Parameters
    ----------
    compared
        From `evaluate.compare`.
    settings
        Of any of the runs.
    test_images
        In each split.
    real
        Whether the data are the 764 photographs.
    """
    means = _means(compared)
    networks, table = means["network"], means["baseline"]["lightness table"]
    best = networks.idxmin()
    seeds = compared["seed"].nunique()
    material = {"synthetic": "synthetic daisies that the package draws"}.get(
        settings.data, "the study's 764 photographs" if real else "a folder of images"
    )
    return (
        "In 2020 a study trained autoencoders with no, one, two and three pooling layers to "
        "predict the colours of photographs of daisies from their lightness, one run each, and "
        "found one pooling layer best. Its training never cleared the gradients, and it was "
        "compared with no baseline. We train the same networks again with that mended, on "
        f"{material} ({settings.size} × {settings.size} pixels, base width "
        f"{settings.base_width}, {settings.steps:,} steps, {seeds} "
        f"seed{'s' if seeds > 1 else ''}, {test_images} test images), beside predictors that "
        f"know nothing but lightness. The lowest mean absolute error, {networks[best]:.4f} of "
        f"the range, is that of {best}; a table of 256 lightness values reaches {table:.4f}, so "
        f"that {_count(sum(networks < table), len(networks))} of the networks "
        f"{'beats' if sum(networks < table) == 1 else 'beat'} it. {_ranking(compared)}"
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
        f"{_ranking(compared)}"
    )


def against_published(compared: pd.DataFrame) -> str:
    """Say where the curves lie above the published one of pool1, and by how much they miss."""
    margins = evaluate.margins_over_published(compared)
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


def _means(compared: pd.DataFrame) -> dict[str, pd.Series]:
    return {
        kind: rows.groupby("arm", sort=False)[ERROR].mean()
        for kind, rows in compared.groupby("kind")
    }


def _ranking(compared: pd.DataFrame) -> str:
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
