"""Putting runs beside baselines and beside one another."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd

from poolae import data, metrics
from poolae.data.cache import digest
from poolae.files import code_digest, replacing
from poolae.metrics import BANDS
from poolae.metrics.baselines import BASELINES, oracles
from poolae.metrics.statistics import holm
from poolae.paper import claims
from poolae.paper.facts import band_names, published_curves
from poolae.settings import DEPTHS, EFFORT, Settings, from_name
from poolae.train.runs import Run, score

ACCURACIES = [f"accuracy_{bound:.3f}" for bound in metrics.BOUNDS]
CELL = ["part", "steps", "early"]  # how much an arm was trained, and on how much


def tabulate(found: Sequence[Run], results: str | os.PathLike) -> pd.DataFrame:
    """Return the scores of every test image under every run, and under what runs must beat.

    Parameters
    ----------
    found
        Runs of any arms and seeds.
    results
        Folder of the runs, where the scores of the baselines are kept too.

    Returns
    -------
    DataFrame
        One row per arm, seed and test image: `kind` ("network", "baseline" or "oracle"), `arm`,
        `seed`, `image` and the columns of `runs.score`, and for networks `scrambled_error` and
        `training_error`. Baselines and oracles stand on the split of every seed.
    """
    tables = [
        run.scores.copy().reset_index().assign(kind="network", arm=run.arm, seed=run.settings.seed)
        for run in found
    ]
    tables += [
        baseline_scores(settings, results).assign(seed=settings.split)
        for settings in {run.settings.split: run.settings for run in found}.values()
    ]
    frame = pd.concat(tables, ignore_index=True)
    first = ["kind", "arm", "seed", "image"]
    return frame[first + [column for column in frame if column not in first]]


def baselines(splits: Iterable[Settings], results: str | os.PathLike) -> pd.DataFrame:
    """Return the means of every baseline and oracle on each of these splits: `compare`."""
    scores = [baseline_scores(s, results).assign(seed=s.split) for s in splits]
    return compare(pd.concat(scores, ignore_index=True))


def baseline_scores(settings: Settings, results: str | os.PathLike) -> pd.DataFrame:
    """Return the scores of every baseline and oracle on the split of these settings.

    They are kept in `results/baselines`, and made again when the data or their code changes.

    Returns
    -------
    DataFrame
        `kind`, `arm`, `image` and the columns of `runs.score`.
    """
    split = data.load_for(settings)
    test = split.test

    def make() -> pd.DataFrame:
        lightness, chroma = split.train.in_memory()
        tables = []
        for name, fit in BASELINES.items():
            predict = fit(lightness, chroma)
            # What loses the neighbourhood alone, and knows no shapes: the null for networks.
            tiles = predict(data.shuffle_tiles(test.lightness, settings.split))
            tiles = data.shuffle_tiles(tiles, settings.split, back=True)
            table = score(predict(test.lightness), split).assign(kind="baseline", arm=name)
            tables.append(
                table.assign(scrambled_error=metrics.mean_absolute_error(tiles, test.chroma))
            )
        tables += [
            score(answer, split).assign(kind="oracle", arm=name)
            for name, answer in oracles(test.chroma).items()
        ]
        return pd.concat(tables).reset_index()

    code = code_digest("metrics/baselines", "metrics/scores", "data/colour", "data/images")
    key = [split.images.key, settings.split, code]
    return _remembered(Path(results) / "baselines" / f"split{settings.split}.csv", key, make)


def mixtures(found: Sequence[Run], results: str | os.PathLike) -> pd.DataFrame | None:
    """Compare mixtures of depths with mixtures of seeds, on every split whose runs are there.

    Parameters
    ----------
    found
        Runs, as `mixture_experts` takes them.
    results
        Folder of the runs, where the comparisons are kept.

    Returns
    -------
    DataFrame or None
        `mixture.compare_mixtures` with the images' names, `seed`, the split, and `arm`, such as
        "gate over depths"; None where the runs are missing.
    """
    tables = [_mixtures_of(*experts, results) for experts in mixture_experts(found)]
    if not tables:
        return None
    table = pd.concat(tables, ignore_index=True)
    return table.assign(kind="mixture", arm=table["method"] + " over " + table["experts"])


def _mixtures_of(depths: list[Run], seeds: list[Run], results: str | os.PathLike) -> pd.DataFrame:
    settings = depths[0].settings
    split = data.load_for(settings)

    def make() -> pd.DataFrame:
        from poolae.metrics import mixture

        arrays = [
            np.stack([np.asarray(run.predictions, np.float32) for run in experts])
            for experts in (depths, seeds)
        ]
        test, row = split.test, {name: k for k, name in enumerate(split.images.names)}
        groups = split.images.groups[[row[name] for name in test.names]]
        frame = mixture.compare_mixtures(*arrays, test.chroma, test.lightness, groups)
        return frame.assign(image=np.array(test.names)[frame["image"]], seed=settings.split)

    used = [run.about["fingerprint"] for run in (*depths, *seeds)]
    key = [used, code_digest("metrics", "data/colour")]
    return _remembered(Path(results) / "mixtures" / f"split{settings.split}.csv", key, make)


def mixture_experts(found: Sequence[Run]) -> list[tuple[list[Run], list[Run]]]:
    """Return a run of each published depth and as many seeds of one, for each split with both."""
    experts = {}
    for extra in found:
        split = extra.settings.split
        if split == extra.settings.seed:
            continue
        depths = [r for r in found if r.plain and r.settings.seed == split]
        seeds = [r for r in found if r.arm == extra.arm and r.settings.split == split]
        if len(depths) == len(DEPTHS) <= len(seeds):
            experts.setdefault(split, (depths, seeds[: len(DEPTHS)]))
    return list(experts.values())


def _remembered(path: Path, key: list, make: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """Return the table at `path` if it was made for `key`, else make it and store it there."""
    mark = f"# {digest(key)}"
    if (stored := _read_marked(path, mark)) is None:
        with (
            replacing(path) as temporary,
            temporary.open("w", encoding="utf-8", errors="surrogateescape") as file,
        ):
            file.write(mark + "\n")
            make().to_csv(file, index=False, float_format="%.6g")
        stored = _read_marked(path, mark)  # so that the first time gives what later ones do
    return stored


def _read_marked(path: Path, mark: str) -> pd.DataFrame | None:
    with suppress(FileNotFoundError), path.open("rb") as file:
        if file.readline().strip().decode() == mark:
            table = pd.read_csv(file, encoding_errors="surrogateescape")
            return table.copy()  # in one block, where the parser leaves many
    return None


def compare(scores: pd.DataFrame) -> pd.DataFrame:
    """Return the scores of every arm and seed over its test images: a row per kind, arm and seed.

    They are uniform means, but for `claims.RATIOS` to the truth medians.
    """
    groups = scores.drop(columns="image").groupby(["kind", "arm", "seed"], sort=False)
    means = groups.mean().copy()
    ratios = [c for c in means if c.startswith(claims.RATIOS)]
    means[ratios] = groups[ratios].median()
    return means.copy().reset_index()


def contrasts(scores: pd.DataFrame, pairs: Iterable[tuple[str, str]], metric: str) -> pd.DataFrame:
    """Return the contrast of each pair whose arms are there, with what it says.

    Returns
    -------
    DataFrame
        Indexed by "a − b": the numbers of `statistics.Contrast`, `p_holm` over these pairs, the
        metric's `margin` and `unit`, and the `reading` by it.
    """
    table, there = claims.with_derived(scores), set(scores["arm"])
    found = [claims.contrast_of(table, metric, a, b) for a, b in pairs if {a, b} <= there]
    unit = claims.METRICS[metric][1]
    about = {"margin": unit.margin, "unit": unit.name}
    rows = {
        " − ".join(c.arms): claims.numbers_of(c) | about | {"reading": claims.read(c)}
        for c in holm(found)
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("contrast")


def detail(compared: pd.DataFrame, score: str) -> pd.DataFrame:
    """Return the mean over seeds of "gain" or "coherence": a row per arm, a column per band."""
    bands = [f"{score}_{low}_{high}" for low, high in pairwise(BANDS)]
    means = compared.groupby("arm", sort=False)[bands].mean().dropna(axis=1, how="all")
    means.columns = [column.removeprefix(f"{score}_").replace("_", "–") for column in means]
    return means


def carried(size: int, halvings: int) -> str | None:
    """Return the highest of `BANDS` below the Nyquist frequency of a halved map, "0–4" or such."""
    nyquist = size / 2 / 2**halvings
    whole = [f"{low}–{high}" for low, high in pairwise(BANDS) if high <= nyquist]
    return whole[-1] if whole else None


def surface(networks: pd.DataFrame) -> pd.DataFrame:
    """Return the errors of arms that were trained for so many steps on so many images.

    Parameters
    ----------
    networks
        A row per run: `arm`, `seed`, `steps`, `training_images`, `mean_absolute_error`,
        `ciede2000` and `training_error`.

    Returns
    -------
    DataFrame
        A row per `arm`, `part` (training images asked for; 0: all), `steps` and `early`, of the
        arms that vary in them. Means over `seeds`, those that all rows of the arm have: `images`
        trained on, test `error`, its excess over the training error, `gap`, and "ΔE, mean".
    """
    frame, keys = _efforts(networks), ["arm", *CELL]
    kinds = frame.drop_duplicates(keys)["arm"].value_counts()
    shared = frame.groupby(["arm", "seed"])["error"].transform("size") == frame["arm"].map(kinds)
    groups = frame[shared].drop(columns="seed").groupby(keys, sort=False)
    return _by_size(groups.mean().assign(seeds=groups.size()).reset_index(), "arm")


def orders(networks: pd.DataFrame, pairs: Iterable[tuple[str, str]]) -> pd.DataFrame:
    """Return which of two arms is ahead after so many steps on so many images, seed by seed.

    Parameters
    ----------
    networks
        As of `surface`.
    pairs
        Of arms.

    Returns
    -------
    DataFrame
        A row per `pair`, "first − second", and the `part` (as of `surface`), `steps` and `early`
        that both have: `effect`, the mean over `seeds` of the difference of their mean ΔE, and the
        `least` and `most` of it.
    """
    efforts, rows = _efforts(networks).set_index(["arm", *CELL, "seed"]).sort_index(), []
    for a, b in pairs:
        if {a, b} <= set(efforts.index.unique("arm")):
            ahead = (efforts.loc[a] - efforts.loc[b])["ΔE, mean"].dropna().groupby(CELL)
            told = ahead.agg(effect="mean", least="min", most="max", seeds="size")
            rows.append(told.assign(pair=f"{a} − {b}").reset_index())
    return _by_size(pd.concat(rows, ignore_index=True)) if rows else pd.DataFrame()


def _by_size(frame: pd.DataFrame, *first: str) -> pd.DataFrame:
    """Sort by columns as they come, then by images, of which all are the most, and by steps."""
    keys = frame.assign(**{column: pd.factorize(frame[column])[0] for column in first})
    keys["part"] = keys["part"].replace(0, np.inf)
    return frame.loc[keys.sort_values([*first, *CELL]).index].reset_index(drop=True)


def _efforts(networks: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for one in networks.itertuples():
        s, error = from_name(f"{one.arm}-seed0"), one.mean_absolute_error
        cell = s.base, s.training_images, int(one.steps), s.early, one.seed, one.training_images
        varied = any(getattr(s, k) for k in EFFORT)
        rows.append((*cell, error, error - one.training_error, one.ciede2000, varied))
    columns = ["arm", *CELL, "seed", "images", "error", "gap", "ΔE, mean", "varied"]
    frame = pd.DataFrame(rows, columns=columns)
    return frame[frame["arm"].isin(frame.loc[frame["varied"], "arm"])].drop(columns="varied")


def coherence_floor(settings: Settings) -> np.ndarray:
    """Return how far lightness itself coheres with the true chroma, per band: `detail`'s floor."""
    test = data.load_for(settings).test
    coherence = metrics.lightness_coherence(test.lightness, test.chroma)
    return np.nanmean(coherence[:, : len(band_names(settings.size))], axis=0)


def oscillation(losses: np.ndarray) -> tuple[np.ndarray, float | None]:
    """Smooth a loss curve and estimate the period of its slow oscillation.

    Parameters
    ----------
    losses : (steps,) array

    Returns
    -------
    smooth : (steps,) array
        Running mean over a twentieth of the steps, the ends filled with their nearest values.
    period : float or None
        Mean distance in steps between the peaks that rise by at least a tenth of the range of
        the smoothed curve's second half; None where there are fewer than two.
    """
    from scipy.ndimage import uniform_filter1d
    from scipy.signal import find_peaks

    smooth = uniform_filter1d(losses, max(1, round(len(losses) / 20)), mode="nearest")
    rising = 0.1 * np.ptp(smooth[len(smooth) // 2 :])
    peaks, _ = find_peaks(smooth, prominence=max(rising, 1e-12))
    return smooth, float(np.diff(peaks).mean()) if len(peaks) > 1 else None


def curves(compared: pd.DataFrame, kind: str) -> dict[str, np.ndarray]:
    """Return for each arm of `kind` its accuracy curves, (seeds, bounds), from `compare`."""
    of_kind = compared[compared["kind"] == kind]
    return {name: rows[ACCURACIES].to_numpy() for name, rows in of_kind.groupby("arm", sort=False)}


def at_published_bounds(compared: pd.DataFrame) -> pd.DataFrame:
    """Return accuracy at the published bounds: a row per arm, a column per bound.

    It is that of 8-bit values, as the published curves are.
    """
    columns = {f"accuracy_8bit_{int(b * 255):02}": b for b in published_curves().index}
    return compared.groupby("arm", sort=False)[list(columns)].mean().rename(columns=columns)


def representative_images(found: Sequence[Run], count: int = 5) -> tuple[np.ndarray, pd.Series]:
    """Pick test images by a fixed rule: equal steps through the ranking by error, ends included.

    Parameters
    ----------
    found
        Runs of one seed, so that they share their test images.
    count
        Images to pick.

    Returns
    -------
    rows : (count,) int
        Positions among the test images, from the best predicted to the worst.
    errors : Series
        Their mean absolute error over the runs, indexed by image name.
    """
    errors = sum(run.scores["mean_absolute_error"] for run in found) / len(found)
    ranked = np.argsort(errors.to_numpy(), kind="stable")
    rows = ranked[np.linspace(0, len(ranked) - 1, min(count, len(ranked))).round().astype(int)]
    return rows, errors.iloc[rows]
