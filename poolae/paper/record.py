"""Numbers of record: what is committed, and what follows from it without training.

`figures/results.csv` holds the mean scores of every network and seed of the study, and beside them
those at other scales and of other pictures, told apart by `profile` and `data`;
`figures/images.csv.xz` those of single images that contrasts are made from. Verdicts, figures and
tables follow from them; `figures/samples.npz` holds what the study's networks make of pictures
that may be shown. `recording` writes all three.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache, cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from poolae import metrics
from poolae.files import REFERENCE, replacing
from poolae.machine import git
from poolae.paper import cards, claims, comparisons, facts, figures, pictures, words
from poolae.paper.study import MATCHED_CONTRASTS, Comparison
from poolae.settings import BANDED, DEPTHS, PROFILES, UserError

FIGURES = Path(__file__).parents[2] / "figures"
RESULTS = FIGURES / "results.csv"
IMAGES = FIGURES / "images.csv.xz"
SAMPLES = FIGURES / "samples.npz"
README = FIGURES.parent / "README.md"
TABLES = FIGURES / "README.md"  # the long ones
# What carries the answer, of the matched family.
CARRYING = {
    ("narrow", "matched0"): "an eighth of the resolution, with no wider context",
    ("matched3", "dilated"): "the same, at equal wide context",
    ("dilated", "matched0"): "wider context, at full resolution",
    ("matched3", "narrow"): "the same, at an eighth of the resolution",
    ("skip", "matched3"): "detail led past the bottleneck",
}
DESCRIBED = REFERENCE / "daisies_described.json"
CLAIMS = Path(claims.__file__)
RECORD, RECORDED = "standard", "daisies"  # the profile and the data that answer the question
STEP_UP = "full"
DRAWINGS = 3  # the first synthetic daisies, among the samples
KEYS = ["kind", "arm", "seed", "split", "profile", "data"]  # of a row


def draw_figures() -> list[Path]:
    """Draw every committed figure, and write every table and card, from the committed numbers.

    Equal numbers give equal bytes.

    Returns
    -------
    list of Path
        What was written.
    """
    from poolae.models import build

    drawn = []
    for depth in DEPTHS:
        figure = figures.architecture_figure(build(depth).stages, 128)
        drawn.append(_save(figure, f"architecture-pool{depth}.svg"))
    found = read_scales()
    study = found[0]
    drawn.append(_save(study.accuracy_figure(), "accuracy.svg"))
    drawn.append(_save(figures.effects_figure(study.effects(MATCHED_CONTRASTS)), "matched.svg"))
    drawn.append(_save(figures.detail_figure(study.detail()), "detail.svg"))
    if study.satellite_arms:
        effects = study.effects(study.families()["satellites"])
        drawn.append(_save(figures.effects_figure(effects), "satellites.svg"))
    if len(study.surface):
        drawn.append(_save(figures.surface_figure(study.surface), "surface.svg"))
    above = [one for one in found if (one.profile, one.data) == (STEP_UP, RECORDED)]
    if above:
        drawn.append(_save(_full_figure(above[0]), "full.svg"))
    if samples := read_samples():
        drawn.append(_save(_samples_figure(samples), "samples.png"))
    ledgers = [one.ledger.assign(scale=one.name) for one in found]
    drawn.append(write_table(FIGURES / "ledger.csv", pd.concat(ledgers)))
    contrasts = [
        frame.reset_index().assign(family=family, metric=metric)
        for family, pairs in study.families().items()
        for metric, frame in study.effects(pairs).items()
    ]
    drawn.append(write_table(FIGURES / "contrasts.csv", pd.concat(contrasts)))
    with replacing(TABLES) as temporary:
        temporary.write_text(findings(found), "utf-8")
    return [*drawn, TABLES, *cards.write_cards(FIGURES, study), write_readme(study)]


def _full_figure(above: Scale):
    baselines = comparisons.curves(above.published, "baseline")
    shown = {name: baselines[name] for name in ("lightness table", "patch boosting")}
    arms = comparisons.curves(above.published, "network")
    return figures.depths_figure(metrics.BOUNDS, arms, shown, facts.published_points())


def _samples_figure(samples: dict[str, np.ndarray]):
    truth, predicted = (samples[key] / np.float32(255) for key in ("truth", "chroma"))
    chromas = {"truth": truth[:, 1:]}
    chromas |= {arm: predicted[:, k] for k, arm in enumerate(samples["arms"])}
    return pictures.colours_grid(truth[:, :1], chromas, list(samples["pictures"]))


def read_samples() -> dict[str, np.ndarray]:
    """Return what `recording.write_samples` stored; empty where nothing is."""
    if not SAMPLES.exists():
        return {}
    with np.load(SAMPLES) as stored:
        return dict(stored)


class Scale(Comparison):
    """What is on record of one profile and data: the mean scores of every arm and seed.

    Parameters
    ----------
    rows
        Of results.csv.
    images
        Of images.csv.xz.
    """

    source = "figures/results.csv"

    def __init__(self, rows: pd.DataFrame, images: pd.DataFrame | None = None) -> None:
        # Contrasts are made where each seed has a split of its own.
        self.means = rows[rows["seed"] == rows["split"]].copy().assign(image="all")
        self.compared = self.means[self.means["kind"] != "mixture"]  # they are means already
        self.trained = self.means[self.means["kind"] == "network"]
        self.images = self.means[:0] if images is None else images
        self.networks = rows[rows["kind"] == "network"]
        self.one = self.networks.iloc[0]
        self.profile, self.data, self.size = self.one[["profile", "data", "size"]]
        self.is_daisies, self.commits = self.data == RECORDED, set(self.networks["commit"])

    @cached_property
    def scores(self) -> pd.DataFrame:
        """Scores of single images, and the means of arms of which none are on record."""
        rest = self.means[~self.means["arm"].isin(self.images["arm"])]
        return pd.concat([self.images, rest], ignore_index=True)

    @cached_property
    def claims_noted(self) -> str:
        """The commits of the claims when these runs were recorded; "" unless older than each."""
        noted = self.networks.get("claims")
        if noted is None or noted.isna().any():
            return ""
        return words.listed(dict.fromkeys(noted))

    @property
    def seeds(self) -> int:
        """How many there are of the published networks."""
        return self.published["seed"].nunique()

    @property
    def name(self) -> str:
        """Data, pixels, width and seeds."""
        width = f"width {self.one['base_width']:.0f}"
        return f"{self.data}, {self.size} px, {width}, {words.counted(self.seeds, 'seed')}"

    @property
    def scale(self) -> str:
        """How large its runs are, in words, without seeds and data."""
        one = self.one
        return (
            f"{self.size} × {self.size} pixels, base width {one['base_width']:.0f}, "
            f"{one['steps']:,.0f} steps of recipe “{one['recipe']}” in {one['precision']}"
        )


def read_results() -> pd.DataFrame:
    """Return the committed scores.

    Raises
    ------
    UserError
        If they are not there.
    """
    if not RESULTS.exists():
        raise UserError(f"{RESULTS} is missing: `git checkout figures` brings the record back.")
    kinds = dict.fromkeys(("commit", "claims"), str)
    return pd.read_csv(RESULTS, dtype=kinds).copy()  # in one block, where the parser leaves many


def read_images() -> pd.DataFrame:
    """Return the committed scores of single images; no rows where there are none."""
    if not IMAGES.exists():
        return pd.DataFrame(columns=[*KEYS, "image"])
    return pd.read_csv(IMAGES)


def read_scales() -> list[Scale]:
    """Return what is on record at each scale, of committed means and single images."""
    return scales(read_results(), read_images())


def scales(everything: pd.DataFrame, images: pd.DataFrame | None = None) -> list[Scale]:
    """Return what is on record at each scale and of each data set, that of the study first.

    Parameters
    ----------
    everything
        From `read_results`.
    images
        From `read_images`; without them contrasts are made of means.
    """
    ordinary = ~everything["data"].str.startswith(BANDED) & (everything["profile"] != "long")
    groups = everything[ordinary].groupby(["profile", "data"], sort=False)
    images = pd.DataFrame(columns=KEYS) if images is None else images
    of = dict(list(images.groupby(["profile", "data"])))
    found = [Scale(rows, of.get(key)) for key, rows in groups if (rows["kind"] == "network").any()]
    return sorted(found, key=lambda one: (one.profile, one.data) != (RECORD, RECORDED))


def frozen(scales: Iterable[Comparison]) -> str:
    """Say of which commit the claims are, and whether it is older than these runs.

    Of runs on record, whether the claims as they were then were older, where they changed since.
    """
    if not (commit := git(CLAIMS.parent, "log", "-1", "--format=%h of %cs", CLAIMS.name)):
        return "This is no checkout of git, so that nothing tells when the claims were written."
    if git(CLAIMS.parent, "status", "--porcelain", CLAIMS.name):
        return f"The claims were changed since commit {commit}: they are not fixed."
    said = []
    for one in scales:
        noted = getattr(one, "claims_noted", "")
        if all(map(claims_before, one.commits)):
            said.append(f"older than the runs of “{one.name}”")
        elif noted:
            said.append(f"the runs of “{one.name}” are younger than the claims were then ({noted})")
        else:
            said.append(f"not older than the runs of “{one.name}”")
    return f"Claims, contrasts, margins and rule are of commit {commit}: {'; '.join(said)}."


@cache
def claims_before(run: str) -> str:
    """Return the commit of the claims if it is older than that of a run, else ""."""
    commit = git(CLAIMS.parent, "log", "-1", "--format=%h", CLAIMS.name)
    # What is the nearest common ancestor of both is the older one.
    full = commit and git(CLAIMS.parent, "rev-parse", commit)
    ancestor = git(CLAIMS.parent, "merge-base", commit, run.rstrip("+"))
    return commit if full and ancestor == full else ""


def age_of_claims(study: Scale) -> str:
    """Say what was noted of the claims' age when these runs were recorded."""
    if not study.claims_noted:
        return "The claims as they stand are younger than these runs, which were known before."
    return f"The claims were of commit {study.claims_noted}, older than these runs."


def answer(study: Scale) -> str:
    """Answer the question in Markdown: a paragraph, and the contrasts that carry it."""
    effects = study.effects(CARRYING)
    rows = {
        f"{change} ({' − '.join(pair)})": [
            words.interval(frame.loc[" − ".join(pair)]) for frame in effects.values()
        ]
        for pair, change in CARRYING.items()
    }
    table = pd.DataFrame.from_dict(rows, "index", columns=list(effects))
    return "\n\n".join(
        [
            words.in_short(study),
            _markdown(table.rename_axis("At equal depth and parameters").reset_index()),
            f"Data: {study.data}; {study.scale}, {words.counted(study.seeds, 'seed')}; "
            f"{provenance(study)}. Differences "
            "with 95 % intervals; a positive one is a loss. A ΔE (CIEDE2000) of about 1 is the "
            "least that people see side by side. "
            f"The verdicts: {words.verdicts_in_words(study.ledger)}",
        ]
    )


def findings(found: Sequence[Scale]) -> str:
    """Say in Markdown what the committed numbers hold: scale, scores, effects and verdicts."""
    study = found[0]
    arms = [*study.published_arms, *study.matched_arms]
    scores = words.score_table(study.compared[study.compared["kind"] != "oracle"], arms)
    satellites = study.effects(study.families()["satellites"]) if study.satellite_arms else {}
    known = {
        "found": found,
        "study": study,
        "scores": words.written(scores).rename_axis("").reset_index(),
        "contrasts": MATCHED_CONTRASTS,
        "satellites": satellites,
        "satellite_seeds": [n for frame in satellites.values() for n in frame["seeds"]],
        "noted": age_of_claims(study),
        "step_up": (STEP_UP, RECORDED),
        "original": PROFILES["published"]["steps"],
        "bounds": len(facts.published_curves()),
        "samples": read_samples(),
        "drawings": DRAWINGS,
        "trials": len(facts.recipe_trials()),
        "hours_of_trials": hours_of_trials(study),
        "words": words,
        "markdown": _markdown,
        "provenance": provenance,
    }
    return cards.template("record").render(known)


def provenance(study: Scale) -> str:
    """Say which commits the runs come from, how long they took and on what."""
    networks = study.networks
    commits = networks["commit"].value_counts()
    named = ", ".join(
        f"{commit} ({words.counted(count, 'run')})" for commit, count in commits.items()
    )
    alike = ", all of the same code" * (len(commits) > 1 == len(set(networks["code"])))
    hours = networks["training_seconds"].sum() / 3600
    return (
        f"commit{'s' * (len(commits) > 1)} {named}{alike}; {hours:.1f} hours of training, "
        f"{words.counted(len(networks), 'run')} on {words.machines(networks)} each"
    )


def hours_of_trials(study: Scale) -> float:
    """Return how long the trials of the recipe would take at the pace of the runs of a study."""
    steps = study.networks["training_seconds"] / study.networks["steps"]
    pace, trials = steps.groupby(study.networks["arm"]).mean(), facts.recipe_trials()
    tried = trials.reindex(columns=pace.index.intersection(trials.columns)).notna()
    seconds = (tried * pace[tried.columns]).sum(axis=1) * facts.TRIAL_STEPS * trials["operations"]
    return float(seconds.sum() / 3600)


def _markdown(table: pd.DataFrame) -> str:
    lines = [list(table), ["---"] * table.shape[1], *table.astype(str).to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write_readme(study: Scale) -> Path:
    """Put `answer` between its two marks in README.md.

    Raises
    ------
    UserError
        If a mark is missing.
    """
    begin, end = "<!-- answer: written by `make figures` -->\n", "<!-- end of answer -->"
    head, found, rest = README.read_text("utf-8").partition(begin)
    _, also_found, tail = rest.partition(end)
    if not (found and also_found):
        raise UserError(f"{README} lacks {begin.strip()} or {end}: put the line back.")
    with replacing(README) as temporary:
        temporary.write_text(f"{head}{begin}{answer(study)}\n{end}{tail}", "utf-8")
    return README


def write_table(path: Path, frame: pd.DataFrame) -> Path:
    """Write a table, compressed if its name says so; equal tables give equal bytes."""
    with replacing(path) as temporary:
        kind = {"compression": {"method": "xz", "preset": 1}} if path.suffix == ".xz" else {}
        frame.to_csv(temporary, index=False, float_format="%.5g", lineterminator="\n", **kind)
    return path


def _save(figure, name: str) -> Path:
    path = FIGURES / name
    kind = path.suffix.removeprefix(".")
    # No date and no version of matplotlib, which would change the bytes.
    unsigned = {"svg": {"Date": None, "Creator": None}, "png": {"Software": None}}
    with replacing(path) as temporary, figures.mpl.rc_context(figures.STYLE):
        figure.savefig(temporary, format=kind, bbox_inches="tight", metadata=unsigned[kind])
    return path
