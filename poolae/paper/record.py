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
        ax = figures.architecture(build(depth).stages, 128)
        drawn.append(_save(ax.figure, f"architecture-pool{depth}.svg"))
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
        temporary.write_text(f"# The record\n\n{findings(found)}\n", "utf-8")
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
        self.images = self.means[:0] if images is None else images
        self.networks = rows[rows["kind"] == "network"]
        self.one = self.networks.iloc[0]
        self.profile, self.data, self.size = self.one[["profile", "data", "size"]]
        self.is_daisies, self.commits = self.data == RECORDED, set(self.networks["commit"])

    @cached_property
    def compared(self) -> pd.DataFrame:
        """Its rows, which are means already."""
        return self.means[self.means["kind"] != "mixture"]

    @cached_property
    def scores(self) -> pd.DataFrame:
        """Scores of single images, and the means of arms of which none are on record."""
        rest = self.means[~self.means["arm"].isin(self.images["arm"])]
        return pd.concat([self.images, rest], ignore_index=True)

    @property
    def trained(self) -> pd.DataFrame:
        return self.means[self.means["kind"] == "network"]

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
    """Say of which commit the claims are, and whether it is older than these runs."""
    if not (commit := git(CLAIMS.parent, "log", "-1", "--format=%h of %cs", CLAIMS.name)):
        return "This is no checkout of git, so that nothing tells when the claims were written."
    if git(CLAIMS.parent, "status", "--porcelain", CLAIMS.name):
        return f"The claims were changed since commit {commit}: they are not fixed."
    said = []
    for one in scales:
        older = all(map(claims_before, one.commits))
        said.append(f"{'older' if older else 'not older'} than the runs of “{one.name}”")
    return f"Claims, contrasts, margins and rule are of commit {commit}: {'; '.join(said)}."


@cache
def claims_before(run: str) -> str:
    """Return the commit of the claims if it is older than that of a run, else ""."""
    commit = git(CLAIMS.parent, "log", "-1", "--format=%h", CLAIMS.name)
    # What is the nearest common ancestor of both is the older one.
    full = commit and git(CLAIMS.parent, "rev-parse", commit)
    ancestor = git(CLAIMS.parent, "merge-base", commit, run.rstrip("+"))
    return commit if full and ancestor == full else ""


def _noted(study: Scale) -> str:
    """Say what was noted of the claims' age when these runs were recorded."""
    noted = study.networks.get("claims")
    if noted is None or noted.isna().any():
        return "The claims as they stand are younger than these runs, which were known before."
    return f"The claims were of commit {' and '.join(sorted(set(noted)))}, older than these runs."


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
            f"{_provenance(study)}. Differences "
            "with 95 % intervals; a positive one is a loss. A ΔE (CIEDE2000) of about 1 is the "
            "least that people see side by side. "
            f"The verdicts: {words.verdicts_in_words(study.ledger)}",
        ]
    )


def findings(found: Sequence[Scale]) -> str:
    """Say in Markdown what the committed numbers hold: scale, scores, effects and verdicts."""
    study = found[0]
    tested = study.published["test_images"]
    arms = [*study.published_arms, *study.matched_arms]
    scores = words.score_table(study.compared[study.compared["kind"] != "oracle"], arms)
    formats = words.formats(scores)
    scores = scores.apply(lambda column: column.map(f"{{:{formats[column.name]}}}".format))
    sections = [
        f"Data: {study.data}; {study.scale}, {words.counted(study.seeds, 'seed')}, {tested.min()} "
        f"to {tested.max()} test images; {_provenance(study)}. Errors are of the range [0, 1] of a "
        "and b; “within 0.05” is the share of values whose error is at most 0.05.",
        _markdown(scores.rename_axis("").reset_index()),
        words.verdict_on_lightness(study.published),
        words.scatter(study.published),
        "## Pooling, context or capacity?",
        "One thing changed at a time, at equal depth and parameters: differences with 95 % "
        "intervals, the first network minus the second.",
        words.effects_in_words(study.effects(MATCHED_CONTRASTS), MATCHED_CONTRASTS),
        *_experiments(study),
        "## The claims",
        f"What counts as nothing: {words.margins_in_words()}. "
        + "Intervals are by Nadeau's and Bengio's correction, as of single images nothing is on "
        "record. " * (not len(study.images)) + _noted(study),
        _markdown(words.side_by_side(found)),
        f"### {study.name}",
        _markdown(words.verdict_table(study)),
        "Every contrast that took part, or stands beside:",
        _markdown(words.contrast_table(study.ledger)),
    ]
    for above in found:
        if (above.profile, above.data) == (STEP_UP, RECORDED):
            sections += step_up_in_words(above)
    if samples := read_samples():
        sections += [
            "## Samples",
            "![Synthetic daisies and photographs in colour, in lightness, and as each depth "
            "colours them](samples.png)",
            f"*What networks trained on {samples['training_images']} photographs of daisies, which "
            "this repository may not show, make of other pictures: the first "
            f"{DRAWINGS} drawings of the package and photographs that come with scikit-image "
            f"(seed {samples['seed']}, {study.scale}).*",
        ]
    return "\n\n".join(sections)


def _experiments(study: Scale) -> list[str]:
    """Say in Markdown what operators, numbers of channels, steps and images change."""
    sections = []
    if study.satellite_arms:
        effects = study.effects(study.families()["satellites"])
        seeds = sorted({int(count) for frame in effects.values() for count in frame["seeds"]})
        counted = " to ".join(map(str, dict.fromkeys((seeds[0], seeds[-1]))))
        sections += [
            "## Operators and channels",
            "Each against the network that it varies, of the same seeds, of which there are "
            f"{counted}.",
            words.effects_in_words(effects),
            "![Differences of operators and channels to the networks that they vary]"
            "(satellites.svg)",
        ]
    if len(study.surface):
        rows = study.surface.drop(columns="part")
        formats = {**words.formats(rows), "images": ".0f"}
        rows = rows.assign(
            **{name: rows[name].map(f"{{:{form}}}".format) for name, form in formats.items()}
        )
        sections += [
            "## Steps and images",
            "Error on the test images, and by how much it exceeds that on training images (gap).",
            _markdown(rows),
            "![Error over steps for each network and number of training images](surface.svg)",
        ]
    return sections


def step_up_in_words(above: Scale) -> list[str]:
    """Say in Markdown how the networks of full width score beside the published curves."""
    steps, original = above.one["steps"], PROFILES["published"]["steps"]
    table = words.published_table(above.published)
    return [
        "## One step up",
        f"The published networks at full width. Data: {above.data}; {above.scale}, "
        f"{100 * steps / original:.2g} % of the original's {original:,}; "
        f"{words.counted(above.seeds, 'seed')}; {above.one['test_images']} test images; "
        f"{_provenance(above)}.",
        _markdown(table.rename_axis("").reset_index()),
        f"Of the {len(facts.published_curves())} published bounds. Shares are of values rounded to "
        "8 bits, as the published ones are, which were read off a figure to about ±0.003, of "
        "another split and of images that were resized without antialiasing.",
        "![Accuracy of each depth at full width beside its own published curve](full.svg)",
    ]


def _provenance(study: Scale) -> str:
    """Say which commits the runs come from, how long they took and on what."""
    networks = study.networks
    commits = networks["commit"].value_counts()
    named = ", ".join(f"{commit} ({count} runs)" for commit, count in commits.items())
    hours = networks["training_seconds"].sum() / 3600
    return (
        f"commit{'s' * (len(commits) > 1)} {named}; {hours:.1f} hours of training, "
        f"{words.counted(len(networks), 'run')} on {words.machines(networks)} each"
    )


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
