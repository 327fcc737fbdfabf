"""The whole study: scores of arms on one data set at one scale, and what follows from them.

A `Comparison` holds scores, of runs at hand (`Study`) or of record (`record.Scale`), and answers
with tables and arrays, which `figures` draws and `words` says. Everything is worked out when it
is first asked for.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cache, cached_property, partial
from itertools import combinations, pairwise

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from poolae import data, metrics
from poolae.data import Part
from poolae.metrics import BANDS, mixture
from poolae.paper import claims, comparisons, facts, figures, pictures
from poolae.settings import BANDED, CONTROLS, EFFORT, POOLINGS, UPSAMPLERS, from_name
from poolae.train.runs import Run

ERROR = "mean_absolute_error"
JUDGED = ("ciede2000", ERROR)  # what effects are shown in; the first decides how they read
SHOWN = {  # of an arm, in tables
    ERROR: "error",
    "train_test_gap": "test minus training",
    "fine_coherence": "fine coherence",
    "fine_gain": "fine gain",
}
ORDERED = (("pool3", "pool1"), ("dilated", "matched0"), ("matched3", "dilated"))
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
    ("area2", "area4"): "four times that area",
    ("dilated", "area2"): "four times that area again",
    ("skip", "matched3"): "detail led past the bottleneck",
}


class Comparison:
    """Scores of arms on one data set at one scale, and the comparisons that they allow.

    Attributes
    ----------
    scores
        A row per arm, seed and test image: `kind` ("network", "baseline" or "oracle"), `arm`,
        `seed`, `image` and the scores; or a row per arm and seed.
    size
        Side of the images, pixels.
    name
        Data, pixels, width and seeds.
    commits
        That trained the networks.
    is_daisies
        Whether they are the original's photographs, which its claims are about.
    trained
        A row per network and seed: what `comparisons.surface` takes.
    source
        The committed file that they are from, if they are not of runs at hand.
    """

    scores: pd.DataFrame
    size: int
    name: str
    commits: set[str]
    is_daisies: bool
    trained: pd.DataFrame
    source: str = ""
    mixtures: pd.DataFrame | None = None

    @cached_property
    def compared(self) -> pd.DataFrame:
        """Means over the test images: a row per kind, arm and seed."""
        return comparisons.compare(self.scores)

    def _arms(self, pattern: str) -> list[str]:
        networks = self.compared.loc[self.compared["kind"] == "network", "arm"].unique()
        return [arm for arm in networks if re.fullmatch(pattern, arm)]

    @cached_property
    def published_arms(self) -> list[str]:
        """The published networks, by depth."""
        return self._arms(r"pool\d(-published|-cleared)?")

    @cached_property
    def matched_arms(self) -> list[str]:
        """The matched family and its controls."""
        return sorted(self._arms(r"matched\d")) + [arm for arm in CONTROLS if self._arms(arm)]

    @cached_property
    def satellite_arms(self) -> list[str]:
        """Variants of published and matched networks: other operators and bottlenecks."""
        return self._arms(rf"(pool|matched)\d-(c\d+|{'|'.join((*POOLINGS, *UPSAMPLERS))})")

    @cached_property
    def published(self) -> pd.DataFrame:
        """`compared` of the published networks and of the baselines."""
        known = self.compared["arm"].isin(self.published_arms)
        return self.compared[known | (self.compared["kind"] == "baseline")]

    def baseline_means(self, metric: str) -> pd.Series:
        """Return the mean of a score over the seeds' splits for each baseline."""
        rows = self.compared[self.compared["kind"] == "baseline"]
        return rows.groupby("arm", sort=False)[metric].mean()

    @cached_property
    def ledger(self) -> pd.DataFrame:
        """The verdict on every claim: `claims.ledger`."""
        return claims.ledger(pd.concat([self.scores, self.mixtures], ignore_index=True))

    def effects(
        self, pairs: Iterable[tuple[str, str]], metrics: Sequence[str] = JUDGED
    ) -> dict[str, pd.DataFrame]:
        """Return the paired differences of these arms, as far as they are there, by metric."""
        pairs = tuple(pairs)
        return {claims.METRICS[metric][0]: self._contrasts(pairs, metric) for metric in metrics}

    @cached_property
    def _contrasts(self) -> Callable[..., pd.DataFrame]:
        return cache(partial(comparisons.contrasts, self.scores))

    def families(self) -> dict[str, list[tuple[str, str]]]:
        """Return the pairs that are contrasted in each family."""
        return {
            "published": [(b, a) for a, b in combinations(self.published_arms, 2)],
            "matched": list(MATCHED_CONTRASTS),
            "satellites": [(arm, arm.partition("-")[0]) for arm in self.satellite_arms],
        }

    @cached_property
    def surface(self) -> pd.DataFrame:
        """The errors of arms over steps and training images: `comparisons.surface`."""
        return comparisons.surface(self.trained)

    @cached_property
    def orders(self) -> pd.DataFrame:
        """Which arm is ahead over steps and training images: `comparisons.orders`."""
        return comparisons.orders(self.trained, ORDERED)

    def detail(self) -> list[tuple[str, pd.DataFrame, pd.DataFrame, dict[str, str | None]]]:
        """Return for each family its title, gain and coherence per band, and arm to `carried`."""
        families = {"published": self.published_arms, "matched": self.matched_arms}
        gain, coherence = (comparisons.detail(self.compared, k) for k in ("gain", "coherence"))
        depths = {arm: from_name(f"{arm}-seed0").pool_depth for arm in sum(families.values(), [])}
        carried = {arm: comparisons.carried(self.size, depth) for arm, depth in depths.items()}
        return [
            (title, gain.loc[arms], coherence.loc[arms], carried)
            for title, arms in families.items()
            if arms
        ]

    def accuracy_figure(self) -> Figure:
        """Draw the published networks beside baselines, and on the daisies published curves."""
        return figures.accuracy_figure(
            metrics.BOUNDS,
            comparisons.curves(self.published, "network"),
            comparisons.curves(self.published, "baseline"),
            facts.published_points() if self.is_daisies else None,
        )


class Study(Comparison):
    """Runs of one data set and profile.

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
    varied
        The same with other steps, training images or early stopping.
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
        self.varied = [r for r in own_split if any(getattr(r.settings, k) for k in EFFORT)]
        self.ordinary = [r for r in own_split if r not in self.varied]
        self.bands = [r for r in here if r not in own]
        self.oscillating = [r for r in self.found if r not in here]
        self.size, self.commits = first.settings.size, {r.about["commit"] for r in self.found}

    @cached_property
    def is_daisies(self) -> bool:
        return data.load_for(self.found[0].settings).images.is_daisies

    @property
    def subject(self) -> str:
        """What the pictures are of, as far as their source tells."""
        source = self.found[0].settings.data
        named = {"synthetic": "drawn daisies"}.get(source, source.rstrip("/").rpartition("/")[2])
        return "daisies" if self.is_daisies else named

    @property
    def name(self) -> str:
        """Subject, pixels, width and seeds."""
        one, seeds = self.found[0].settings, len({run.settings.seed for run in self.ordinary})
        width = f"width {one.base_width}"
        return f"this run: {self.subject}, {self.size} px, {width}, {seeds} seed{'s' * (seeds > 1)}"

    def first_runs(self, arms: Sequence[str]) -> list[Run]:
        """Return the first run of each of these arms."""
        first = {run.arm: run for run in reversed(self.ordinary)}
        return [first[arm] for arm in arms]

    @cached_property
    def scores(self) -> pd.DataFrame:
        """Scores of every test image: `comparisons.tabulate` of the ordinary runs."""
        return comparisons.tabulate(self.ordinary, self.results)

    @cached_property
    def trained(self) -> pd.DataFrame:
        rows = [
            {
                "arm": run.arm,
                "seed": run.settings.seed,
                "steps": run.settings.steps,
                "training_images": run.about["training_images"],
                "training_error": run.about["training_error"],
                **run.scores[list(JUDGED)].mean(),
            }
            for run in (*self.ordinary, *self.varied)
        ]
        return pd.DataFrame(rows)

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

    @cached_property
    def mixtures(self) -> pd.DataFrame | None:
        """Mixtures of depths beside mixtures of seeds: `comparisons.mixtures`."""
        return comparisons.mixtures(self.found, self.results)

    @cached_property
    def experts(self) -> list[tuple[list[Run], list[Run]]]:
        """The runs that are mixed, for each split: of every depth, and of one from more seeds."""
        return comparisons.mixture_experts(self.found)

    @property
    def mixed_arm(self) -> str:
        """The depth of which several seeds are mixed."""
        return self.experts[0][1][0].arm

    def arms_table(self) -> pd.DataFrame:
        """Return what distinguishes the arms: a row each, from its first run."""
        runs = self.first_runs([*self.published_arms, *self.matched_arms])
        return pd.DataFrame.from_dict({run.arm: self._describe(run) for run in runs}, "index")

    def _describe(self, run: Run) -> dict:
        about, s = run.about, run.settings
        means = self._means(self.compared["arm"] == run.arm)
        return {
            "parameters": about["parameters"],
            "receptive field": about["receptive_field"],
            "measured": about["effective_receptive_field"],
            "side of the bottleneck": s.size // 2**s.pool_depth,
            "values per pixel at the narrowest": about["bottleneck_values"] / s.size**2,
            "million MACs": about["macs"] / 1e6,
            "error": means.loc[run.arm, "error"],
            "fine coherence": means.loc[run.arm, "fine coherence"],
            "seeds": sum(other.arm == run.arm for other in self.ordinary),
        }

    def _means(self, chosen: pd.Series) -> pd.DataFrame:
        """Return what tables of arms show of the chosen rows of `compared`, a row per arm."""
        rows = claims.with_derived(self.compared[chosen].assign(image="all"))
        means = rows.groupby("arm").mean(numeric_only=True).rename(columns=SHOWN)
        return means.reindex(columns=list(SHOWN.values()))

    def satellites_table(self) -> pd.DataFrame:
        """Return parameters, bottleneck, error and gap of the satellites and what they vary.

        All on the seeds that every one of them has, so that the rows can be compared.
        """
        arms = sorted({arm for pair in self.families()["satellites"] for arm in pair})
        runs = self.first_runs([arm for arm in arms if self._arms(arm)])
        table = pd.DataFrame.from_dict({run.arm: self._describe(run) for run in runs}, "index")
        chosen = self.compared["arm"].isin(table.index)
        seeds = [set(rows["seed"]) for _, rows in self.compared[chosen].groupby("arm")]
        shared = set.intersection(*seeds)
        kept = table[["parameters", "receptive field", "side of the bottleneck"]]
        kept = kept.join(table["values per pixel at the narrowest"])
        means = self._means(chosen & self.compared["seed"].isin(shared))
        return kept.join(means).assign(seeds=len(shared))

    def band_gains(self) -> dict[str, dict[str, np.ndarray]]:
        """Return bandwidth to depth to the gain in each band, NaN above the bandwidth."""
        gains: dict[str, dict[str, np.ndarray]] = {}
        for run in self.bands:
            limit = int(run.settings.data.removeprefix(BANDED))
            medians = run.scores.median()
            values = [
                medians[f"gain_{low}_{high}"] if high <= limit else np.nan
                for low, high in pairwise(BANDS)
                if low < run.settings.size / 2
            ]
            title = f"chroma up to {limit} cycles"
            gains.setdefault(title, {})[f"pool{run.settings.pool_depth}"] = np.array(values)
        return gains

    def winners(self, count: int) -> list[list[np.ndarray]]:
        """Return for each of some images its picture and who is nearest where: depths, seeds."""
        experts = self.experts[0]
        rows, _ = comparisons.representative_images(experts[0], count)
        test = data.load_for(experts[0][0].settings).test
        columns = [data.lab01_to_rgb(test.lightness[rows], test.chroma[rows])]
        for some in experts:
            predicted = [np.asarray(run.predictions[rows], np.float32) for run in some]
            nearest = mixture.winners(np.stack(predicted), test.chroma[rows])
            columns.append(pictures.winner_picture(nearest, self.published_arms))
        return list(map(list, zip(*columns, strict=True)))

    def oscillation_curves(self) -> dict[str, tuple[np.ndarray, np.ndarray, float | None]]:
        """Return the loss, smoothed loss and estimated period of each of the long runs."""
        curves = {}
        for run in self.oscillating:
            losses = run.losses["loss"].to_numpy()
            name = "never cleared" if run.settings.accumulate_gradients else "cleared"
            curves[name] = (losses, *comparisons.oscillation(losses))
        return curves


def extremes_of_detail(test: Part, count: int = 2) -> list[int]:
    """Return the images with the most, then those with the least power above 8 cycles."""
    power = metrics.band_power(test.chroma)[..., 2:]
    ranked = np.argsort(np.nansum(power, axis=(1, 2)), kind="stable")
    return [*ranked[::-1][:count], *ranked[:count]]
