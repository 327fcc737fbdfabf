"""The whole study at hand: finished runs sorted by what they are for, and what follows from them.

`03_evaluate` asks a `Study` for tables and arrays, `plots` draws them and
`prose` says them. Everything is worked out when it is first asked for.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
import pandas as pd

from poolae import data
from poolae.paper import claims, comparisons
from poolae.settings import BANDED, EFFORT, FAMILIES
from poolae.train.runs import Run

ERROR = "mean_absolute_error"
# What each pair changes, with all else held still.
MATCHED_CONTRASTS = {
    ("matched1", "matched0"): "one halving",
    ("matched2", "matched1"): "a second halving",
    ("matched3", "matched2"): "a third halving",
    ("matched3", "matched0"): "three halvings: resolution and context",
    ("dilated", "matched0"): "context at full resolution",
    ("matched3", "dilated"): "resolution at equal context",
    ("narrow", "matched0"): "resolution at equal, small context",
    ("matched3", "narrow"): "context at equal, coarse resolution",
    ("lossless", "matched3"): "detail moved into channels, not dropped",
    ("lossless-ungrouped", "matched3"): "the same, without groups of channels",
    ("area4", "matched3"): "four times the bottleneck's area, at equal context",
    ("area2", "area4"): "the same, again",
    ("dilated", "area2"): "the same, a third time",
    ("skip", "matched3"): "detail led past the bottleneck",
}


class Study:
    """Runs of one data set and profile, and the comparisons that they allow.

    Parameters
    ----------
    found
        The runs; the first ones are the published networks.
    results
        Folder that they are in.

    Attributes
    ----------
    ordinary
        Runs on the data and at the scale of the first, each seed with its own split.
    surface
        Runs with other steps, training images or early stopping, and those that they vary.
    bands
        Runs on drawings whose chroma ends at some frequency.
    oscillating
        Long runs of a small network with the published recipe.
    """

    def __init__(self, found: Sequence[Run], results: str | os.PathLike) -> None:
        self.found, self.results = list(found), results
        first = self.found[0]
        here = [r for r in self.found if r.settings.profile == first.settings.profile]
        own = [r for r in here if r.about["data_key"] == first.about["data_key"]]
        own_split = [r for r in own if r.settings.split == r.settings.seed]
        varied = [r for r in own_split if any(getattr(r.settings, k) for k in EFFORT)]
        self.ordinary = [r for r in own_split if r not in varied]
        bases = {r.settings.base for r in varied}
        self.surface = [r for r in own_split if r.settings.base in bases]
        self.bands = [r for r in here if r not in own]
        self.oscillating = [r for r in self.found if r not in here]

    def _arms(self, wanted) -> list[str]:
        return list(dict.fromkeys(run.arm for run in self.ordinary if wanted(run)))

    @property
    def published_arms(self) -> list[str]:
        """The published networks, by depth."""
        return self._arms(lambda run: run.plain)

    @property
    def matched_arms(self) -> list[str]:
        """The matched family and its controls."""
        arms = self._arms(
            lambda run: run.settings.family != "published" and run.arm == run.settings.base
        )
        family = [run.settings.family for arm in arms for run in self.first_runs([arm])]
        return [arm for _, arm in sorted(zip(map(FAMILIES.index, family), arms, strict=True))]

    @property
    def satellite_arms(self) -> list[str]:
        """Variants of published and matched networks: other operators and bottlenecks."""
        return self._arms(lambda run: run.arm != run.settings.base)

    @property
    def satellite_pairs(self) -> list[tuple[str, str]]:
        """Each of them, and the network that it varies."""
        return [(run.arm, run.settings.base) for run in self.first_runs(self.satellite_arms)]

    def first_runs(self, arms: Sequence[str]) -> list[Run]:
        """Return the first run of each of these arms."""
        first = {run.arm: run for run in reversed(self.ordinary)}
        return [first[arm] for arm in arms]

    @cached_property
    def scores(self) -> pd.DataFrame:
        """Scores of every test image: `comparisons.tabulate` of the ordinary runs."""
        return comparisons.tabulate(self.ordinary, self.results)

    @cached_property
    def compared(self) -> pd.DataFrame:
        """Means over the test images: a row per kind, arm and seed."""
        return comparisons.compare(self.scores)

    @property
    def published(self) -> pd.DataFrame:
        """`compared` of the published networks and of the baselines."""
        known = self.compared["arm"].isin(self.published_arms)
        return self.compared[known | (self.compared["kind"] == "baseline")]

    @property
    def test_images(self) -> str:
        """How many images the splits are tested on, such as "188 to 193"."""
        counts = sorted({run.about["test_images"] for run in self.ordinary})
        return " to ".join(map(str, counts if len(counts) < 2 else (counts[0], counts[-1])))

    @property
    def scale(self) -> str:
        """How large the ordinary runs are, in words; a second precision among them is named."""
        settings = self.ordinary[0].settings
        counts = Counter(run.settings.precision for run in self.ordinary)
        mixed = [f"{name} ({number} runs)" for name, number in counts.items()]
        precision = " and ".join(mixed) if len(mixed) > 1 else settings.precision
        seeds = len({run.settings.seed for run in self.ordinary})
        return (
            f"{replace(settings, precision=precision).scale}, {seeds} seed{'s' * (seeds > 1)}, "
            f"{self.test_images} test images"
        )

    def baseline_means(self, metric: str) -> pd.Series:
        """Return the mean of a score over the seeds' splits for each baseline."""
        rows = self.compared[self.compared["kind"] == "baseline"]
        return rows.groupby("arm", sort=False)[metric].mean()

    @cached_property
    def mixtures(self) -> pd.DataFrame | None:
        """Mixtures of depths beside mixtures of seeds: `comparisons.mixtures`."""
        return comparisons.mixtures(self.found, self.results)

    @property
    def experts(self) -> tuple[list[Run], list[Run]] | None:
        """The runs that are mixed: of every depth, and of one depth from several seeds."""
        return comparisons.mixture_experts(self.found)

    @property
    def mixed_arm(self) -> str:
        """The depth of which several seeds are mixed."""
        return self.experts[1][0].arm

    @cached_property
    def ledger(self) -> pd.DataFrame:
        """The verdict on every claim of the original: `claims.ledger`."""
        return claims.ledger(self.scores, self.mixtures)

    def contrasts(self, pairs: Iterable[tuple[str, str]], metric: str = ERROR) -> pd.DataFrame:
        """Return the paired differences of these arms, as far as they are there."""
        return comparisons.contrasts(self.scores, pairs, metric)

    def detail(self, score: str, arms: Sequence[str]) -> pd.DataFrame:
        """Return the mean "gain" or "coherence" of these arms: a column per band."""
        return comparisons.detail(self.compared, score).loc[list(arms)]

    def arms_table(self) -> pd.DataFrame:
        """Return what distinguishes the arms: a row each, from its first run."""
        arms = [*self.published_arms, *self.matched_arms]
        rows = {run.arm: self._describe(run) for run in self.first_runs(arms)}
        return pd.DataFrame.from_dict(rows, orient="index")

    def _describe(self, run: Run) -> dict:
        about, s = run.about, run.settings
        rows = self.compared[self.compared["arm"] == run.arm]
        return {
            "parameters": about["parameters"],
            "receptive field": about["receptive_field"],
            "measured": about["effective_receptive_field"],
            "side of the bottleneck": s.size // 2**s.pool_depth,
            "values per pixel at the narrowest": about["bottleneck_values"] / s.size**2,
            "million MACs": about["macs"] / 1e6,
            "coherence above 8 cycles": rows["coherence_8_up"].mean(),
            "error": rows[ERROR].mean(),
            "seeds": sum(other.arm == run.arm for other in self.ordinary),
        }

    def satellites_table(self) -> pd.DataFrame:
        """Return parameters, bottleneck, error and gap of the satellites and what they vary.

        All on the seeds that every one of them has, so that the rows can be compared.
        """
        named = dict.fromkeys(arm for pair in self.satellite_pairs for arm in reversed(pair))
        runs = self.first_runs([arm for arm in named if self._arms(lambda r, a=arm: r.arm == a)])
        table = pd.DataFrame.from_dict({run.arm: self._describe(run) for run in runs}, "index")
        rows = self.compared[self.compared["arm"].isin(table.index)]
        seeds = set.intersection(*(set(part["seed"]) for _, part in rows.groupby("arm")))
        means = rows[rows["seed"].isin(seeds)].groupby("arm").mean(numeric_only=True)
        table["error"] = means[ERROR]
        table["test minus training"] = means[ERROR] - means["training_error"]
        table["gain above 8 cycles"] = means["gain_8_up"]
        table["seeds"] = len(seeds)
        kept = ["parameters", "receptive field", "side of the bottleneck"]
        kept += ["values per pixel at the narrowest", "error"]
        return table[[*kept, "test minus training", "gain above 8 cycles", "seeds"]]

    def band_gains(self) -> dict[str, dict[str, np.ndarray]]:
        """Return bandwidth to depth to the gain in each band, NaN above the bandwidth."""
        edges = comparisons.metrics.BANDS
        gains: dict[str, dict[str, np.ndarray]] = {}
        for run in self.bands:
            limit = int(run.settings.data.removeprefix(BANDED))
            means = run.scores.mean()
            values = [
                means[f"gain_{low}_{high}"] if high <= limit else np.nan
                for low, high in zip(edges, edges[1:], strict=False)
                if low < run.settings.size / 2
            ]
            title = f"chroma up to {limit} cycles"
            gains.setdefault(title, {})[f"pool{run.settings.pool_depth}"] = np.array(values)
        return gains

    def winners(self, rows: Sequence[int]) -> tuple[list[list[np.ndarray]], list[str]]:
        """Return for each image its picture and who is nearest at each pixel, depths then seeds."""
        from poolae.metrics import mixture
        from poolae.paper import figures

        depths, _ = self.experts
        arms = [run.arm for run in depths]
        test = data.load_for(depths[0].settings).test
        maps = [
            mixture.winners(
                np.stack([np.asarray(run.predictions[rows], np.float32) for run in some]),
                test.chroma[rows],
            )
            for some in self.experts
        ]
        grid = [
            [
                data.lab01_to_rgb(test.lightness[row], test.chroma[row]),
                *(figures.winner_picture(index[k], arms) for index in maps),
            ]
            for k, row in enumerate(rows)
        ]
        return grid, arms

    def oscillation_curves(self) -> dict[str, tuple[np.ndarray, np.ndarray, float | None]]:
        """Return the loss, smoothed loss and estimated period of each of the long runs."""
        curves = {}
        for run in self.oscillating:
            losses = run.losses["loss"].to_numpy()
            name = "never cleared" if run.settings.accumulate_gradients else "cleared"
            curves[name] = (losses, *comparisons.oscillation(losses))
        return curves


def neighbours(arms: Sequence[str]) -> list[tuple[str, str]]:
    """Return every pair of arms, the later minus the earlier."""
    return [(b, a) for i, a in enumerate(arms) for b in arms[i + 1 :]]


def extremes_of_detail(loaded: data.Split, count: int = 2) -> list[int]:
    """Return the test images with the most, then those with the least power above 8 cycles."""
    power = comparisons.metrics.band_power(loaded.test.chroma)[..., 2:]
    ranked = np.argsort(np.nansum(power, axis=(1, 2)), kind="stable")
    return [*ranked[::-1][:count], *ranked[:count]]
