"""Sentences and tables with computed numbers, which say what the runs at hand show and no more."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd

from poolae.metrics.mixture import recovered
from poolae.metrics.statistics import MIN_SEEDS
from poolae.paper import claims, comparisons, show
from poolae.paper.facts import published_curves
from poolae.paper.study import MATCHED_CONTRASTS, Comparison

ERROR = "mean_absolute_error"
PUBLISHED_PERIOD = 25_000  # steps, read off the original's progress plots
WITHIN = {f"accuracy_{t:.3f}": f"within {t:g}" for t in (0.01, 0.02, 0.05, 0.1)}
SCORES = {ERROR: "mean absolute error", "ciede2000": "ΔE, mean", **WITHIN}
SCORES |= {"accuracy_area": "area to 0.1"}
MORE_SCORES = {
    "auc_150": "AuC 150",
    "auc_25": "AuC 25",
    "auc_150_rebalanced": "AuC 150, rare",
    "auc_25_rebalanced": "AuC 25, rare",
    "ciede2000_median": "ΔE, median",
    "psnr": "PSNR",
    "ssim": "SSIM",
    "colourfulness": "colourfulness",
    "histogram_intersection": "histograms",
}
FORMATS = {
    **dict.fromkeys(["mean absolute error", "range over seeds", "error"], ".4f"),
    **dict.fromkeys(["depths: error", "seeds: error"], ".4f"),
    **dict.fromkeys(["depths: recovered", "seeds: recovered"], ".0%"),
    **dict.fromkeys(["ΔE, mean", "ΔE, median", "PSNR", "colourfulness"], ".2f"),
    **dict.fromkeys([*WITHIN.values(), "area to 0.1", "SSIM", "histograms"], ".3f"),
    **dict.fromkeys(["AuC 150", "AuC 25", "AuC 150, rare", "AuC 25, rare"], ".3f"),
    **dict.fromkeys(["test minus training", "gap"], "+.4f"),
    **dict.fromkeys(["measured", "side of the bottleneck", "images"], ".0f"),
    **dict.fromkeys(["parameters", "steps"], ","),
    "million MACs": ",.0f",
    "values per pixel at the narrowest": ".3g",
    "fine coherence": ".2f",
    "fine gain": ".2f",
}


def formats(table: pd.DataFrame) -> dict[str, str]:
    """Return how the numbers of a table's columns are written, as `show.table` takes it."""
    return {column: FORMATS[column] for column in table if column in FORMATS}


def written(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table whose numbers are text, by `formats`."""
    ways = {column: partial(show.numeral, form=form) for column, form in formats(table).items()}
    return table.assign(**{column: table[column].map(way) for column, way in ways.items()})


def counted(number: int, thing: str) -> str:
    """Return "1 seed" or "2 seeds"."""
    return f"{number} {thing}{'s' * (number != 1)}"


def ranged(numbers: Iterable[float], form: str = ".0f") -> str:
    """Return the least and the largest number, such as "3 to 10", or the only one."""
    return " to ".join(dict.fromkeys(f"{number:{form}}" for number in (min(numbers), max(numbers))))


def signed(number: float, form: str = ".2f") -> str:
    """Return a number with its sign."""
    return show.numeral(number, f"+{form}")


def listed(parts: Iterable[str]) -> str:
    """Join with commas, and the last by "and"."""
    *first, last = parts
    return f"{', '.join(first)} and {last}" if first else last


def machines(networks: pd.DataFrame) -> str:
    """Say what each of these runs was trained on, such as "1 thread of AMD EPYC"."""
    counts = sorted(networks["threads"].astype(int).unique())
    threads = " or ".join(counted(int(count), "thread") for count in counts)
    return f"{threads} of {listed(sorted(networks['processor'].unique()))}"


def interval(row: Mapping) -> str:
    """Return an effect with its 95 % interval, if it has one, in its unit."""
    digits = claims.UNITS[row["unit"]].digits
    effect, *ends = (signed(row[key], f".{digits}f") for key in ("effect", "low", "high"))
    between = f"[{', '.join(ends)}]" if pd.notna(row["low"]) else "[one seed]"
    return f"{effect} {between} {row['unit']}".strip()


# Verdicts --------------------------------------------------------------------------------------


def verdicts_in_words(judged: pd.DataFrame) -> str:
    """Count the verdicts of a ledger, those on the original's claims apart from ours."""
    ours = judged["by"] == claims.OURS
    said = []
    for whose, own in (("the original's", judged[~ours]), ("our", judged[ours])):
        counts = claims.verdicts(own).value_counts().reindex(claims.VERDICTS).dropna()
        parts = listed(f"{count:.0f} {verdict}" for verdict, count in counts.items())
        said.append(f"of {whose} {counted(int(counts.sum()), 'claim')}, {parts}")
    return "; ".join(said).capitalize() + "."


ELSEWHERE = {claims.SUPPORTED: "as claimed", claims.REFUTED: "the contrary"}


def side_by_side(scales: Iterable[Comparison]) -> pd.DataFrame:
    """Return a row per claim: whose it is, and its verdict at each scale, on each data.

    Other pictures than the daisies have no verdict on what is claimed of daisies: the table says
    whether their contrasts come out as claimed.
    """
    rows = {key: {"claim": claim.words, "whose": claim.by} for key, claim in claims.CLAIMS.items()}
    table = pd.DataFrame.from_dict(rows, "index")
    for one in scales:
        table[one.name] = _standing(claims.verdicts(one.ledger), one)
    return table.reset_index(drop=True)


def _standing(verdicts: pd.Series, one: Comparison) -> pd.Series:
    return verdicts if one.is_daisies else verdicts.replace(ELSEWHERE)


def verdict_table(one: Comparison) -> pd.DataFrame:
    """Return a row per claim: the verdict, what it hangs on, and what would change it."""
    rows = []
    for _, row in claims.decisive(one.ledger).iterrows():
        run = not row["lacks"]
        rows.append(
            {
                "claim": row["claim"],
                "verdict": row["verdict"],
                "hangs on": f"{row['metric']}, {row['contrast']}" if run else "–",
                "effect [95 %], margin": f"{interval(row)}, ± {row['margin']:g}" if run else "–",
                "what would change it": would_change(row),
            }
        )
    table = pd.DataFrame(rows)
    table["verdict"] = _standing(table["verdict"], one)
    return table


def would_change(row: Mapping) -> str:
    """Say what would give another verdict than the one that hangs on this contrast."""
    if row["lacks"]:
        return f"a run: it {row['lacks']}"
    if row["seeds"] < MIN_SEEDS:
        return f"{MIN_SEEDS} seeds in place of {row['seeds']:.0f}"
    digits = claims.UNITS[row["unit"]].digits
    if row["says"] == claims.OPEN:
        return f"more seeds: {row['seeds']:.0f} show effects from {row['detectable']:.{digits}f}"
    return f"an interval moved by {row['slack']:.2g} towards the margin"


def contrast_table(judged: pd.DataFrame) -> pd.DataFrame:
    """Return a row per contrast of a ledger, all that took part in a verdict and what did not."""
    run = judged[judged["lacks"] == ""]
    rows = []
    for _, row in run.iterrows():
        digits = claims.UNITS[row["unit"]].digits
        known = {"p": "too few seeds", "shows from": "–", "corrected": "–", "first is lower": "–"}
        if pd.notna(row["p_holm"]):
            known["p"] = f"{row['p_holm']:.3f}"
        if pd.notna(row["detectable"]):
            known["shows from"] = f"{row['detectable']:.{digits}f}"
            ends = (signed(row[f"corrected_{end}"], f".{digits}f") for end in ("low", "high"))
            known["corrected"] = f"[{', '.join(ends)}]"
            least, most = (f"{100 * row[f'beats_{end}']:.0f}" for end in ("low", "high"))
            known["first is lower"] = f"{row['beats']:.0%} [{least}, {most}]"
        rows.append(
            {
                "metric": row["metric"],
                "contrast": row["contrast"] + f" ({row['word']})" * bool(row["word"]),
                "claimed": "(beside it)" if row["beside"] else row["claimed"],
                "effect [95 %]": interval(row),
                "margin": f"± {row['margin']:g}",
                "says": row["says"],
                **known,
                "seeds": f"{row['seeds']:.0f}",
            }
        )
    table = pd.DataFrame(rows)
    table.insert(0, "claim", run["claim"].mask(run["key"].duplicated(), "").to_numpy())
    return table


def margins_in_words() -> str:
    """Say each margin with its reason."""
    named = ((f"{unit.margin:g} {name}".strip(), unit) for name, unit in claims.UNITS.items())
    return "; ".join(f"{margin} ({unit.reason})" for margin, unit in named)


# Effects ---------------------------------------------------------------------------------------

TOLD = {
    "lower": "lowers the error ({})",
    "higher": "raises the error ({})",
    "none": "changes nothing that matters ({})",
    "open": "leaves open whether the error changes ({})",
}


def told(row: Mapping) -> str:
    """Say what a difference of errors tells, by its reading."""
    return TOLD[row["reading"]].format(interval(row))


def effects_in_words(effects: Mapping[str, pd.DataFrame], changes: Mapping | None = None) -> str:
    """Say what each pair tells, with the numbers of every metric, and how far it is tested.

    Parameters
    ----------
    effects
        From `Study.effects`; the first metric's reading decides.
    changes
        What a pair changes, by its two arms; given, each pair has a line of its own.
    """
    first, *others = effects.values()
    names = {" − ".join(pair): f"{change}: " for pair, change in (changes or {}).items()}
    lines = []
    for name, row in first.iterrows():
        beside = "".join(f"; {interval(other.loc[name])}" for other in others)
        lines.append(f"- {names.get(name, '')}{name} {told(row)[:-1]}{beside})")
    most, known = int(first["seeds"].max()), first["p_holm"].notna()
    seeds = f"{ranged(first['seeds'])} seed{'s' * (most != 1)}"
    end = (
        f"From {seeds} everything stays open: a verdict takes {MIN_SEEDS}."
        if most < MIN_SEEDS
        else f"Of {known.sum()} tests over {seeds}, {(first['p_holm'] < 0.05).sum()} stay below "
        ".05 after Holm's correction."
    )
    return "\n".join(lines) + f"\n\n{end}"


def surface_table(surface: pd.DataFrame) -> pd.DataFrame:
    """Return `Comparison.surface` for readers: a row per arm, images, steps and way to stop."""
    stopped = surface["early"].map({True: "yes", False: "no"})
    shown = ["arm", "images", "steps", "stopped early", "error", "ΔE, mean", "gap", "seeds"]
    return surface.assign(**{"stopped early": stopped})[shown]


def order_table(orders: pd.DataFrame) -> pd.DataFrame:
    """Return `Comparison.orders` as text: a row per pair, a column per steps and images."""
    said = [
        f"{signed(one.effect)} ({signed(one.least)} to {signed(one.most)})"
        for one in orders.itertuples()
    ]
    cells = pd.DataFrame({"ΔE": orders["pair"], "cell": _cells(orders), "said": said})
    by_cell = cells.pivot_table("said", "ΔE", "cell", "first", fill_value="–", sort=False)
    return by_cell.rename_axis(columns=None)


def orders_in_words(orders: pd.DataFrame) -> str:
    """Say where the first of each pair of `Comparison.orders` is behind in every seed."""
    sides = [orders["least"] > 0, orders["most"] < 0]
    side = np.select(sides, ["behind", "ahead"], "ahead in some seeds, behind in others,")
    told, said = orders.assign(cell=_cells(orders), side=side), []
    for pair, rows in told.groupby("pair", sort=False):
        usual, *others = rows["side"].value_counts().index
        clauses = []
        for name in (*others, usual):
            some = rows[rows["side"] == name]
            rest = "elsewhere" if others else "throughout"
            where = rest if name == usual else f"with {listed(some['cell'])}"
            clauses.append(f"{name} {where} (by {ranged(some['effect'].abs(), '.2f')} ΔE)")
        said.append(f"{pair.replace(' − ', ' is, against ')}, {' and '.join(clauses)}")
    steps = listed(f"{number:,}" for number in sorted(orders["steps"].unique()))
    parts = listed(str(part or "all") for part in orders["part"].unique())
    return (
        f"Trained for {steps} steps on {parts} images, {'; '.join(said)}; means over "
        f"{ranged(orders['seeds'])} seeds, of which a verdict takes {MIN_SEEDS}."
    )


def _cells(orders: pd.DataFrame) -> list[str]:
    return [
        f"{'up to ' * one.early}{one.steps:,} steps on {one.part or 'all'} images"
        for one in orders.itertuples()
    ]


def matched_in_short(effects: pd.DataFrame) -> str:
    """Say what pooling, context and shortcuts do to the error at equal depth and parameters."""
    changes = {
        "narrow − matched0": "an eighth of the resolution, with no wider context, {}",
        "dilated − matched0": "wider context at full resolution {}",
        "skip − matched3": "a path around the bottleneck {}",
    }
    said = [p.format(told(effects.loc[n])) for n, p in changes.items() if n in effects.index]
    return f"At equal depth and parameters, {'; '.join(said)}." if said else ""


def standing(study: Comparison) -> str:
    """Say what the verdicts of runs at hand are worth beside the record."""
    seeds = int(study.compared["seed"].nunique())
    if not study.is_daisies:
        return (
            f"These are other pictures than the original's: {study.subject}. They judge none of "
            "its claims about daisies; the tables say whether the contrasts come out as claimed."
        )
    if seeds < MIN_SEEDS:
        return f"{counted(seeds, 'seed').capitalize()} give no verdict: the record stands."
    return verdicts_in_words(study.ledger)


def in_short(comparison: Comparison) -> str:
    """Answer the question in a few sentences."""
    _, gain, *_ = comparison.detail()[0]
    matched, *_ = comparison.effects(MATCHED_CONTRASTS).values()
    said = (
        accuracy_in_short(comparison.published),
        matched_in_short(matched),
        detail_in_short(gain),
        orders_in_words(comparison.orders) if len(comparison.orders) else "",
    )
    return " ".join(filter(None, said))


# Scores ----------------------------------------------------------------------------------------


def accuracy_in_short(compared: pd.DataFrame) -> str:
    """Say the errors of networks and baselines, and how alike the seeds rank the networks."""
    means = _means(compared)
    networks, baselines = means["network"].sort_values(), means["baseline"]
    errors = ", ".join(f"{arm} {error:.4f}" for arm, error in networks.items())
    known = {
        "lightness table": "a table of 256 lightness values",
        "patch boosting": "a boosted regression on patches",
    }
    said = []
    for arm in baselines.index.intersection(list(known)):
        count = sum(networks < baselines[arm])
        beaten = {0: "none", len(networks): "all"}.get(count, f"{count}")
        verb = f"beat{'s' * (count == 1 < len(networks))}"
        said.append(f"{known[arm]} reaches {baselines[arm]:.4f}, which {beaten} of them {verb}")
    return f"Mean absolute errors, of the range: {errors}; {'; '.join(said)}. {ranking(compared)}"


def ranking(compared: pd.DataFrame) -> str:
    """Say how far the seeds agree on the order of the networks."""
    networks = compared[compared["kind"] == "network"]
    order = networks.sort_values(["seed", ERROR]).groupby("seed")["arm"].agg(list)
    seeds = len(order)
    if networks["arm"].nunique() < 2:
        return ""
    if seeds < 2:
        return "From one seed no ranking can be told from chance."
    if len(set(map(tuple, order))) == 1:
        all_ = "Both" if seeds == 2 else f"All {seeds}"
        return f"{all_} seeds rank the depths alike: {', '.join(order.iloc[0])}."
    first = order.str[0].value_counts()
    return (
        f"The seeds do not agree on the order of the depths; {first.index[0]} comes first in "
        f"{first.iloc[0]} of {seeds}."
    )


def verdict_on_lightness(compared: pd.DataFrame) -> str:
    """Say which networks have learnt more than lightness, and by how much."""
    means = _means(compared)
    gains = 1 - means["network"] / means["baseline"]["lightness table"]
    said = ", ".join(f"{arm} {signed(gain, '.1%')}" for arm, gain in gains.items())
    return (
        "Error saved against the lightness table, in per cent of the table's error (negative: the "
        f"network is worse): {said}."
    )


def scatter(compared: pd.DataFrame) -> str:
    """Say how large the scatter over seeds is beside the differences between depths."""
    if compared["seed"].nunique() < 2:
        return "Each depth was trained from one seed here, so that nothing can be said of chance."
    networks = compared[compared["kind"] == "network"]
    paired = networks.pivot_table(index="seed", columns="arm", values=ERROR)
    # A seed is a split too, so its difficulty is common to all depths.
    left = (paired - paired.mean(axis=1).to_numpy()[:, None]).agg(np.ptp).max()
    return (
        f"The depths' means differ by at most {np.ptp(_means(compared)['network']):.4f}. One depth "
        f"differs between seeds by up to {paired.agg(np.ptp).max():.4f}; as another seed is also "
        "another split, that holds the splits' difficulty, and once each seed's mean over the "
        f"depths is taken off, {left:.4f} remains. {ranking(compared)}"
    )


def published_table(compared: pd.DataFrame) -> pd.DataFrame:
    """Return accuracy beside each network's own published curve, and its smallest margin over it.

    Of values rounded to 8 bits, as the published ones are; of baselines there is no curve.
    """
    ours, theirs = comparisons.at_published_bounds(compared), published_curves().T
    rows = {}
    for arm in [*theirs.index.intersection(ours.index), "lightness table", "patch boosting"]:
        own = theirs.loc[arm] if arm in theirs.index else None
        row = {}
        for bound in (0.05, 0.1):
            row[f"within {bound:g}"] = f"{ours.loc[arm, bound]:.3f}"
            row[f"published, {bound:g}"] = "–" if own is None else f"{own[bound]:.3f}"
        margins = ours.loc[arm] - (np.nan if own is None else own)
        at = ", ".join(f"{bound:g}" for bound in margins.index[margins <= 0]) or "nowhere"
        least = "–" if own is None else f"{margins.min():+.3f} at {margins.idxmin():g}"
        rows[arm] = {**row, "smallest margin": least, "not above at": "–" if own is None else at}
    return pd.DataFrame.from_dict(rows, "index")


def score_table(compared: pd.DataFrame, arms: Sequence[str]) -> pd.DataFrame:
    """Return error and accuracies of these arms and of all that is no network, means over seeds."""
    groups = _shown(compared, arms).groupby("arm", sort=False)
    table = groups[list(SCORES)].mean().rename(columns=SCORES)
    table.insert(1, "range over seeds", groups[ERROR].agg(np.ptp))
    return table


def more_scores_table(compared: pd.DataFrame, arms: Sequence[str]) -> pd.DataFrame:
    """Return the other scores of these arms and of all that is no network, means over seeds."""
    means = _shown(compared, arms).groupby("arm", sort=False).mean(numeric_only=True)
    gap = means[ERROR] - means["training_error"]
    return (
        means[list(MORE_SCORES)].rename(columns=MORE_SCORES).assign(**{"test minus training": gap})
    )


def _shown(compared: pd.DataFrame, arms: Sequence[str]) -> pd.DataFrame:
    return compared[compared["arm"].isin(arms) | (compared["kind"] != "network")]


def _means(compared: pd.DataFrame) -> dict[str, pd.Series]:
    return {
        kind: rows.groupby("arm", sort=False)[ERROR].mean()
        for kind, rows in compared.groupby("kind")
    }


# Detail, mixtures, losses ----------------------------------------------------------------------


def detail_in_short(gain: pd.DataFrame) -> str:
    """Say how much of the finest detail the networks with least and most pooling give back."""
    band = gain.columns[-1]
    ends = [f"{gain.loc[arm, band]:.0%} in {arm}" for arm in dict.fromkeys(gain.index[[0, -1]])]
    return (
        f"Of the power of the true colours' finest detail ({band} cycles per image) the "
        f"predictions hold {' and '.join(ends)}."
    )


def detail_in_words(panels: Sequence[tuple]) -> str:
    """Say for each family how coherence and gain in the highest band go with depth."""
    said = []
    for title, gain, coherence, _ in panels:
        band = gain.columns[-1]
        pairs = zip(gain.index, coherence[band], gain[band], strict=True)
        parts = ", ".join(f"{arm} {right:z.2f} and {much:.2f}" for arm, right, much in pairs)
        said.append(
            f"In the highest band ({band} cycles per image) coherence and gain of the {title} "
            f"family are: {parts}."
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


def mixture_table(mixtures: pd.DataFrame) -> pd.DataFrame:
    """Return error and share of the oracle's gain per method, for depths and for seeds."""
    errors = mixtures.groupby(["experts", "method"], sort=False)[ERROR].mean()
    parts = {
        f"{experts}: {what}": values.xs(experts)
        for experts in ("depths", "seeds")
        for what, values in (("error", errors), ("recovered", recovered(mixtures)))
    }
    return pd.DataFrame(parts).rename_axis("method")


def mixtures_in_words(mixtures: pd.DataFrame) -> str:
    """Say what the depths' oracle gains over the seeds', and what can be had of it."""
    table = mixture_table(mixtures)
    oracle, best, gate, mean = (
        table.loc[method]
        for method in ("pixel oracle", "best single expert", "gate", "mean ensemble")
    )
    depths, seeds = (best[f"{k}: error"] - oracle[f"{k}: error"] for k in ("depths", "seeds"))
    return (
        f"The pixel oracle saves {depths:.4f} of the error of the best single network over four "
        f"depths, and {seeds:.4f} over four seeds of one depth: {seeds / depths:.0%} of what "
        "depths seem to offer comes from having four networks at all. The gate recovers "
        f"{gate['depths: recovered']:.0%} of the depths' oracle gain ({gate['depths: error']:.4f}"
        f"); the mean of the networks reaches {mean['depths: error']:.4f} over depths and "
        f"{mean['seeds: error']:.4f} over seeds."
    )


def oscillation_in_words(periods: dict[str, float | None]) -> str:
    """Say the period of each loss curve, beside that of the original's progress plots."""
    said = [
        f"{name}: " + (f"a period of about {period:,.0f} steps" if period else "no two peaks")
        for name, period in periods.items()
    ]
    return (
        f"Estimated from the distance between the peaks of the running mean: {'; '.join(said)}. In "
        "the original's published progress plots the loss swings with a period of about "
        f"{PUBLISHED_PERIOD:,} steps, in a network sixteen times as wide and at a learning rate of "
        "0.00001."
    )
