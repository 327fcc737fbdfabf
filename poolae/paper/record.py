"""Numbers of record: what is committed, and the figures that are drawn from it.

`figures/results.csv` holds the scores of a run of the whole study, and beside
them those of the step up to the published scale, told apart by their column
`profile`. `figures/samples.npz` holds what the study's networks make of pictures
that may be shown. Every figure in figures/ is drawn from these or from the code
alone.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from poolae import data, metrics
from poolae.files import REFERENCE, replacing
from poolae.paper import claims, comparisons, facts, figures, words
from poolae.paper.study import MATCHED_CONTRASTS, Study, neighbours
from poolae.settings import BANDED, CONTROLS, DEPTHS, PROFILES, Settings, UserError
from poolae.train import runs

FIGURES = Path(__file__).parents[2] / "figures"
RESULTS = FIGURES / "results.csv"
README = FIGURES.parent / "README.md"
TABLES = FIGURES / "README.md"  # the long ones
# What carries the answer, of the matched family.
CARRYING = {
    "narrow − matched0": "an eighth of the resolution, with no wider context",
    "matched3 − dilated": "the same, at equal wide context",
    "dilated − matched0": "wider context, at full resolution",
    "matched3 − narrow": "the same, at an eighth of the resolution",
    "skip − matched3": "detail led past the bottleneck",
}
MARGIN = claims.MARGIN[claims.RANGE]
DESCRIBED = REFERENCE / "daisies_described.json"
RECORD = "standard"  # the profile whose contrasts, verdicts and samples are of record
STUDY = (RECORD, "long")  # of its runs: the oscillation takes longer ones
STEP_UP = "full"
DRAWINGS = 3  # the first synthetic daisies, among the samples
WITHIN = {f"accuracy_{t:.3f}": f"within {t:g}" for t in (0.01, 0.02, 0.05, 0.1)}
TEXT = dict(dtype=str, keep_default_na=False)  # so that pandas rewrites every byte as it was


def write_results(results: Path, wanted: Sequence[Settings], name: str) -> list[Path]:
    """Write what finished runs and the baselines beside them score, and what follows, as CSV.

    `results.csv` holds a row per profile, arm, seed and split; rows of profiles that are not
    among the runs stay as they are. Only runs of the profile `RECORD` also write
    `contrasts.csv`, the differences between arms with their intervals, which need the scores of
    every image, `claims.csv`, the verdicts, and `samples.npz`, of `write_samples`.

    Parameters
    ----------
    results, wanted
        Which runs, as in `runs.find`.
    name
        What to call the data.
    """
    study = Study(runs.find(results, wanted), results)
    first = study.found[0]
    others = [run for run in study.found if run not in study.ordinary]
    tables = [study.compared.assign(split=study.compared["seed"])]
    tables += [
        comparisons.compare(
            run.scores.copy()
            .reset_index()
            .assign(kind="network", arm=run.arm, seed=run.settings.seed)
        ).assign(split=run.settings.split)
        for run in others
    ]
    table = pd.concat(tables, ignore_index=True)
    by_name = {(run.arm, run.settings.seed, run.settings.split): run for run in study.found}
    by_split = {run.settings.split: run for run in reversed(study.ordinary)}
    columns: dict[str, list] = {}
    for key in zip(table["arm"], table["seed"], table["split"], strict=True):
        network = key in by_name
        run = by_name[key] if network else by_split[key[2]]
        s = run.settings
        row = {
            "profile": s.profile,
            "data": s.data if s.data.startswith(BANDED) else name,
            "size": s.size,
            "base_width": s.base_width if network else None,
            "steps": s.steps if network else None,
            "recipe": s.recipe if network else None,
            "precision": s.precision if network else None,
            "parameters": run.about["parameters"] if network else None,
            "training_seconds": round(run.about["training_seconds"], 1) if network else None,
            "commit": run.about["commit"],
            "processor": run.about["processor"] if network else None,
            "threads": run.about["threads"] if network else None,
            "test_images": run.about["test_images"],
        }
        for column, value in row.items():
            columns.setdefault(column, []).append(value)
    about = pd.DataFrame(columns)
    for column in ("base_width", "steps", "parameters", "threads"):
        about[column] = about[column].astype("Int64")
    scores = [c for c in table if c not in ("kind", "arm", "seed", "split")]
    table = pd.concat([table[["kind", "arm", "seed", "split"]], about, table[scores]], axis=1)
    written = [_write(RESULTS, _beside_other_profiles(table))]
    if first.settings.profile != RECORD:
        return written
    pairs = neighbours(study.published_arms)
    frames = {
        "published": study.contrasts(pairs),
        "matched": study.contrasts(MATCHED_CONTRASTS),
        "satellites": study.contrasts(study.satellite_pairs),
    }
    contrasts = pd.concat(
        [frame.reset_index().assign(family=family) for family, frame in frames.items()]
    )
    return [
        *written,
        _write(RESULTS.with_name("contrasts.csv"), contrasts),
        _write(RESULTS.with_name("ledger.csv"), study.ledger),
        write_samples(study.first_runs(study.published_arms)),
    ]


def _beside_other_profiles(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows on record, as text, with those of this table's profiles replaced by it."""
    rows = pd.read_csv(io.StringIO(_csv(table)), **TEXT)
    if RESULTS.exists():
        kept = pd.read_csv(RESULTS, **TEXT)
        rows = pd.concat([kept[~kept["profile"].isin(rows["profile"])], rows]).fillna("")
    order = list(PROFILES)
    return rows.sort_values("profile", key=lambda names: names.map(order.index), kind="stable")


def _csv(frame: pd.DataFrame) -> str:
    return frame.to_csv(index=False, float_format="%.5g", lineterminator="\n")


def _write(path: Path, frame: pd.DataFrame) -> Path:
    with replacing(path) as temporary:
        temporary.write_text(_csv(frame), "utf-8")
    return path


def write_samples(found: Sequence[runs.Run]) -> Path:
    """Store what these networks make of pictures that may be shown: none is of the data.

    The pictures are the first `DRAWINGS` synthetic daisies and the photographs that come with
    scikit-image; all planes are rounded to 8 bits, and equal planes give equal bytes.
    """
    from poolae.data.daisies import draw

    size = found[0].settings.size
    pictures = {
        f"drawing {index + 1}": data.rgb_to_lab01(draw(index, size)) for index in range(DRAWINGS)
    } | facts.photographs_out_of_context(size)
    predicted = [[run.predict(lightness) for run in found] for lightness, _ in pictures.values()]
    path = RESULTS.with_name("samples.npz")
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            pictures=list(pictures),
            arms=[run.arm for run in found],
            truth=_bytes([np.concatenate(planes) for planes in pictures.values()]),  # (N, 3, H, W)
            chroma=_bytes(predicted),  # (N, arms, 2, H, W)
            training_images=found[0].about["training_images"],
            seed=found[0].settings.seed,
        )
    return path


def _bytes(planes: Sequence) -> np.ndarray:
    return (np.asarray(planes) * 255).round().astype(np.uint8)


def describe_daisies(source: str, sizes=(32, 64, 128)) -> Path:
    """Measure the 764 photographs in `source` and store what `01_data` compares with."""
    described = {}
    for size in sizes:
        loaded = data.load(source, size)
        if not loaded.images.is_daisies:
            raise UserError(f"{source} does not hold the 764 daisies: give the folder that does.")
        described[str(size)] = facts.describe_data(loaded)

    def plain(value):
        return [float(f"{x:.5g}") for x in value]

    for one in described.values():
        one["mean_absolute_error"] = {
            k: round(float(v), 5) for k, v in one["mean_absolute_error"].items()
        }
        for key in ("histogram", "spectrum"):
            one[key] = {channel: plain(x) for channel, x in one[key].items()}
    with replacing(DESCRIBED) as temporary:
        temporary.write_text(json.dumps(described, indent=1) + "\n")
    return DESCRIBED


def draw_figures() -> list[Path]:
    """Draw every committed figure from the committed numbers; return their paths.

    Equal numbers give equal bytes.
    """
    from poolae.models import build

    drawn = []
    for depth in DEPTHS:
        ax = figures.architecture(build(depth).stages, 128)
        drawn.append(_save(ax.figure, f"architecture-pool{depth}.svg"))
    everything, contrasts, ledger = read_results()
    compared = _of_study(everything)
    published = _of_published(compared)
    figure = figures.accuracy_figure(
        metrics.BOUNDS,
        comparisons.curves(published, "network"),
        comparisons.curves(published, "baseline"),
        facts.published_points() if compared["data"].iloc[0] == "daisies" else None,
    )
    drawn.append(_save(figure, "accuracy.svg"))
    matched = contrasts[contrasts["family"] == "matched"].set_index("contrast")
    if len(matched):
        figure = figures.new_figure(7.2, 0.32 * len(matched) + 1.2)
        figures.effects(figure.subplots(), matched, "difference of mean absolute error", MARGIN)
        drawn.append(_save(figure, "matched.svg"))
        networks = compared[compared["kind"] == "network"]
        panels = [
            (
                family,
                *(
                    detail[detail.index.str.fullmatch(pattern)]
                    for detail in (comparisons.detail(networks, k) for k in ("gain", "coherence"))
                ),
            )
            for family, pattern in (
                ("published", r"pool\d"),
                ("matched", rf"matched\d|{'|'.join(CONTROLS)}"),
            )
        ]
        drawn.append(_save(figures.detail_figure(panels), "detail.svg"))
    above = _of_published(everything[everything["profile"] == STEP_UP])
    if len(above):
        figure = figures.depths_figure(
            metrics.BOUNDS,
            comparisons.curves(above, "network"),
            {
                k: v
                for k, v in comparisons.curves(above, "baseline").items()
                if k == "lightness table"
            },
            facts.published_points(),
        )
        drawn.append(_save(figure, "full.svg"))
    if samples := read_samples():
        drawn.append(_save(_samples_figure(samples), "samples.png"))
    said = readme_findings(everything, contrasts, ledger)
    with replacing(TABLES) as temporary:
        temporary.write_text(f"# The record\n\n{said}\n", "utf-8")
    return [*drawn, TABLES, write_readme(everything, contrasts)]


def _samples_figure(samples: dict[str, np.ndarray]):
    truth, chroma = (samples[key] / np.float32(255) for key in ("truth", "chroma"))
    rows = [
        [
            data.lab01_to_rgb(planes[:1], planes[1:]),
            planes[0],
            *(data.lab01_to_rgb(planes[:1], one) for one in predicted),
        ]
        for planes, predicted in zip(truth, chroma, strict=True)
    ]
    headings = ["truth", "lightness", *samples["arms"]]
    return figures.picture_grid(rows, headings, list(samples["pictures"]))


def read_results() -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Return the committed scores, contrasts and ledger."""
    names = ("results", "contrasts", "ledger")
    return tuple(pd.read_csv(RESULTS.with_name(f"{name}.csv")) for name in names)


def read_samples() -> dict[str, np.ndarray]:
    """Return what `write_samples` stored; empty where nothing is."""
    path = RESULTS.with_name("samples.npz")
    if not path.exists():
        return {}
    with np.load(path) as stored:
        return dict(stored)


def _of_study(compared: pd.DataFrame) -> pd.DataFrame:
    return compared[compared["profile"].isin(STUDY)]


def _of_published(compared: pd.DataFrame) -> pd.DataFrame:
    known = compared["arm"].str.fullmatch(r"pool\d") & (compared["seed"] == compared["split"])
    return compared[known | (compared["kind"] == "baseline")]


def readme_answer(everything: pd.DataFrame, contrasts: pd.DataFrame) -> str:
    """Answer the question in Markdown: a paragraph, and the contrasts that carry it."""
    compared = _of_study(everything)
    published = _of_published(compared)
    gain = comparisons.detail(published[published["kind"] == "network"], "gain")
    matched = contrasts[contrasts["family"] == "matched"].set_index("contrast")
    rows = []
    for name, change in CARRYING.items():
        row = matched.loc[name]
        interval = f"{row['effect']:+.4f} [{row['low']:+.4f}, {row['high']:+.4f}]"
        rows.append([f"{change} ({name})", interval.replace("-", "−")])
    return "\n\n".join(
        [
            f"{words.accuracy_in_short(published)} {words.matched_in_short(matched, MARGIN)} "
            f"{words.detail_in_short(gain)}",
            _markdown(["At equal depth and parameters", "mean absolute error [95 %]"], rows),
            f"Data: {_scale(published)}, {published['seed'].nunique()} seeds. Errors are of the "
            "range [0, 1]; a positive difference is a loss.",
        ]
    )


def readme_findings(everything: pd.DataFrame, contrasts: pd.DataFrame, ledger: pd.DataFrame) -> str:
    """Say in Markdown what the committed numbers hold: scale, scores, verdicts and sentences."""
    compared = _of_study(everything)
    published = _of_published(compared)
    tested = published["test_images"]
    plain = (compared["seed"] == compared["split"]) & ~compared["arm"].str.contains("-|oracle")
    groups = compared[plain].groupby("arm", sort=False)
    means = groups[["mean_absolute_error", *WITHIN]].mean()
    scores = [
        [arm, f"{row.iloc[0]:.4f}", *(f"{accuracy:.3f}" for accuracy in row.iloc[1:])]
        for arm, row in means.iterrows()
    ]
    sections = [
        f"Data: {_scale(published)}, {published['seed'].nunique()} seeds, {tested.min()} to "
        f"{tested.max()} test images; {_provenance(compared)}. "
        "Errors are of the range [0, 1] of a and b; “within 0.05” is the share of values whose "
        "error is at most 0.05.",
        _markdown(["", "mean absolute error", *WITHIN.values()], scores),
        words.verdict_on_lightness(published),
        words.scatter(published),
    ]
    matched = contrasts[contrasts["family"] == "matched"].set_index("contrast")
    if len(matched):
        sections += [
            "**Pooling, context or capacity?** One thing changed at a time, at equal depth and "
            "parameters: differences of mean absolute error with 95 % intervals (negative: the "
            "first network is better).",
            words.matched_in_words(matched, MARGIN),
        ]
    shown = words.ledger_table(ledger)[["claim", "contrast", "effect [95 %]", "verdict"]]
    sections += [
        "**The claims of the original**, each judged by one interval:",
        _markdown(list(shown), shown.to_numpy().tolist()),
    ]
    above = _of_published(everything[everything["profile"] == STEP_UP])
    if len(above):
        sections += step_up_in_words(above)
    if samples := read_samples():
        sections += [
            "![Synthetic daisies and photographs in colour, in lightness, and as each depth "
            "colours them](samples.png)",
            f"*What networks trained on {samples['training_images']} photographs of daisies, which "
            "this repository may not show, make of other pictures: the first "
            f"{DRAWINGS} drawings of the package and photographs that come with scikit-image "
            f"(seed {samples['seed']}, {_scale(published, data=False)}).*",
        ]
    return "\n\n".join(sections)


def step_up_in_words(compared: pd.DataFrame) -> list[str]:
    """Say in Markdown how the networks of full width score beside the published curves.

    Parameters
    ----------
    compared
        Rows of `STEP_UP` alone.
    """
    networks = compared[compared["kind"] == "network"]
    steps, original = networks["steps"].max(), PROFILES["published"]["steps"]
    seeds = ", ".join(map(str, sorted(networks["seed"].unique())))
    rows, below = [], []
    for arm, (bounds, theirs) in facts.published_points().items():
        own = networks[networks["arm"] == arm]
        if own.empty:
            continue
        means = own[["mean_absolute_error", *comparisons.ACCURACIES]].mean()
        ours = means[[f"accuracy_{bound:.3f}" for bound in bounds]].to_numpy()
        margins = ours - theirs
        beside = [
            f"{curve[np.isclose(bounds, bound)].item():.3f}"
            for bound in (0.05, 0.1)
            for curve in (ours, theirs)
        ]
        least = f"{margins.min():+.3f} at {bounds[margins.argmin()]:g}"
        rows.append([arm, f"{means['mean_absolute_error']:.4f}", *beside, least])
        if (margins <= 0).any():
            listed = ", ".join(f"{bound:g}" for bound in bounds[margins <= 0])
            below.append(f"{arm} is not above it at {listed}")
    everywhere = f"the {len(bounds)} published bounds, {bounds[0]:g} to {bounds[-1]:g}"
    verdict = (
        f"Of {everywhere}: {'; '.join(below)}."
        if below
        else f"Every depth is above its own published curve at each of {everywhere}: "
        f"{', '.join(row[0] for row in rows)}."
    )
    table = compared[compared["arm"] == "lightness table"]
    if len(table):
        error, *within = table[["mean_absolute_error", "accuracy_0.050", "accuracy_0.100"]].mean()
        shares = [cell for share in within for cell in (f"{share:.3f}", "")]
        rows.append(["lightness table", f"{error:.4f}", *shares, ""])
    head = ["", "mean absolute error", "within 0.05", "published", "within 0.1", "published"]
    return [
        f"**One step up**: the published networks at full width. Data: {_scale(networks)}, "
        f"{100 * steps / original:.2g} % of the original's {original:,}; seed {seeds}; "
        f"{networks['test_images'].max()} test images; {_provenance(networks)}.",
        _markdown([*head, "smallest margin, at bound"], rows),
        f"{verdict} The published curves are of another split and of 8-bit values, read off a "
        "figure to about ±0.003.",
        "![Accuracy of each depth at full width beside its own published curve](full.svg)",
    ]


def _scale(compared: pd.DataFrame, data: bool = True) -> str:
    networks = compared[compared["kind"] == "network"]
    one = networks.iloc[0]
    return (f"{one['data']}; " if data else "") + (
        f"{one['size']} × {one['size']} pixels, base width {one['base_width']:.0f}, "
        f"{one['steps']:,.0f} steps of recipe `{one['recipe']}` in "
        + " and ".join(networks["precision"].unique())
    )


def _provenance(compared: pd.DataFrame) -> str:
    """Say which commits the runs come from, how long they took and on what."""
    networks = compared[compared["kind"] == "network"]
    commits = networks["commit"].value_counts()
    named = commits.index[0]
    if len(commits) > 1:
        named = ", ".join(f"{commit} ({count} runs)" for commit, count in commits.items())
        named += " (+: with changes not yet committed)" * any(commits.index.str.endswith("+"))
    hours = networks["training_seconds"].sum() / 3600
    threads = sorted(networks["threads"].dropna().astype(int).unique())
    each = " or ".join("one thread" if n == 1 else f"{n} threads" for n in threads)
    machines = ", ".join(networks["processor"].dropna().unique())
    return (
        f"commit{'s' * (len(commits) > 1)} {named}; {hours:.1f} hours of training, "
        f"{len(networks)} runs on {each} each ({machines})"
    )


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    first, *lines = ["| " + " | ".join(line) + " |" for line in (head, *rows)]
    return "\n".join([first, "|---" * len(head) + "|", *lines])


def write_readme(everything: pd.DataFrame, contrasts: pd.DataFrame) -> Path:
    """Put `readme_answer` between its two marks in README.md.

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
        answer = readme_answer(everything, contrasts)
        temporary.write_text(f"{head}{begin}{answer}\n{end}{tail}", "utf-8")
    return README


def _save(figure, name: str) -> Path:
    path = FIGURES / name
    kind = path.suffix.removeprefix(".")
    # No date and no version of matplotlib, which would change the bytes.
    unsigned = {"svg": {"Date": None, "Creator": None}, "png": {"Software": None}}
    with replacing(path) as temporary, figures.mpl.rc_context(figures.STYLE):
        figure.savefig(temporary, format=kind, bbox_inches="tight", metadata=unsigned[kind])
    return path
