"""Numbers of record: what is committed, and the figures that are drawn from it.

`figures/results.csv` holds the scores of a run of the whole study, numbers
only; every figure in figures/ is drawn from it or from the code alone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from poolae import data, evaluate, metrics, plots, prose, runs
from poolae import ledger as ledger_of_claims
from poolae.errors import UserError
from poolae.files import REFERENCE, replacing
from poolae.settings import BANDED, CONTROLS, DEPTHS, Settings
from poolae.study import MATCHED_CONTRASTS, Study, neighbours

FIGURES = Path(__file__).parents[1] / "figures"
RESULTS = FIGURES / "results.csv"
README = FIGURES.parent / "README.md"
MARGIN = ledger_of_claims.MARGIN[ledger_of_claims.RANGE]
DESCRIBED = REFERENCE / "daisies_described.json"


def write_results(results: Path, wanted: Sequence[Settings], name: str) -> list[Path]:
    """Write what finished runs and the baselines beside them score, and what follows, as CSV.

    `results.csv` holds a row per arm, seed and split; `contrasts.csv` the differences between
    arms with their intervals, which need the scores of every image; `ledger.csv` the verdicts.

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
        evaluate.compare(
            run.scores.copy()
            .reset_index()
            .assign(kind="network", arm=run.arm, seed=run.settings.seed)
        ).assign(split=run.settings.split)
        for run in others
    ]
    table = pd.concat(tables, ignore_index=True)
    by_name = {(run.arm, run.settings.seed, run.settings.split): run for run in study.found}
    columns: dict[str, list] = {}
    for key in zip(table["arm"], table["seed"], table["split"], strict=True):
        run = by_name.get(key, first)
        s, network = run.settings, key in by_name
        row = {
            "data": s.data if s.data.startswith(BANDED) else name,
            "size": s.size,
            "base_width": s.base_width if network else None,
            "steps": s.steps if network else None,
            "recipe": s.recipe if network else None,
            "parameters": run.about["parameters"] if network else None,
            "training_seconds": round(run.about["training_seconds"], 1) if network else None,
            "commit": run.about["commit"],
            "test_images": run.about["test_images"],
        }
        for column, value in row.items():
            columns.setdefault(column, []).append(value)
    about = pd.DataFrame(columns)
    for column in ("base_width", "steps", "parameters"):
        about[column] = about[column].astype("Int64")
    scores = [c for c in table if c not in ("kind", "arm", "seed", "split")]
    table = pd.concat([table[["kind", "arm", "seed", "split"]], about, table[scores]], axis=1)
    pairs = neighbours(study.published_arms)
    frames = {
        "published": study.contrasts(pairs),
        "matched": study.contrasts(MATCHED_CONTRASTS),
        "satellites": study.contrasts([(arm, "pool3") for arm in study.satellite_arms]),
    }
    contrasts = pd.concat(
        [frame.reset_index().assign(family=family) for family, frame in frames.items()]
    )
    return [
        _write(RESULTS, table),
        _write(RESULTS.with_name("contrasts.csv"), contrasts),
        _write(RESULTS.with_name("ledger.csv"), study.ledger),
    ]


def _write(path: Path, frame: pd.DataFrame) -> Path:
    with replacing(path) as temporary:
        frame.to_csv(temporary, index=False, float_format="%.5g", lineterminator="\n")
    return path


def describe_daisies(source: str, sizes=(32, 64, 128)) -> Path:
    """Measure the 764 photographs in `source` and store what `01_data` compares with."""
    described = {}
    for size in sizes:
        loaded = data.load(source, size)
        if not loaded.images.is_daisies:
            raise UserError(f"{source} does not hold the 764 daisies: give the folder that does.")
        described[str(size)] = evaluate.describe_data(loaded)

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
        ax = plots.architecture(build(depth).stages, 128)
        drawn.append(_save(ax.figure, f"architecture-pool{depth}.svg"))
    compared, contrasts, ledger = read_results()
    published = _of_published(compared)
    figure = plots.accuracy_figure(
        metrics.BOUNDS,
        evaluate.curves(published, "network"),
        evaluate.curves(published, "baseline"),
        evaluate.published_points() if compared["data"][0] == "daisies" else None,
    )
    drawn.append(_save(figure, "accuracy.svg"))
    matched = contrasts[contrasts["family"] == "matched"].set_index("contrast")
    if len(matched):
        figure = plots.new_figure(7.2, 0.32 * len(matched) + 1.2)
        plots.effects(figure.subplots(), matched, "difference of mean absolute error", MARGIN)
        drawn.append(_save(figure, "matched.svg"))
        networks = compared[compared["kind"] == "network"]
        panels = [
            (
                family,
                *(
                    detail[detail.index.str.fullmatch(pattern)]
                    for detail in (evaluate.detail(networks, k) for k in ("gain", "coherence"))
                ),
            )
            for family, pattern in (
                ("published", r"pool\d"),
                ("matched", rf"matched\d|{'|'.join(CONTROLS)}"),
            )
        ]
        drawn.append(_save(plots.detail_figure(panels), "detail.svg"))
    return [*drawn, write_readme(compared, contrasts, ledger)]


def read_results() -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Return the committed scores, contrasts and ledger."""
    names = ("results", "contrasts", "ledger")
    return tuple(pd.read_csv(RESULTS.with_name(f"{name}.csv")) for name in names)


def _of_published(compared: pd.DataFrame) -> pd.DataFrame:
    known = compared["arm"].str.fullmatch(r"pool\d") & (compared["seed"] == compared["split"])
    return compared[known | (compared["kind"] == "baseline")]


def readme_findings(compared: pd.DataFrame, contrasts: pd.DataFrame, ledger: pd.DataFrame) -> str:
    """Say in Markdown what the committed numbers hold: scale, scores, verdicts and sentences."""
    published = _of_published(compared)
    one, tested = published.iloc[0], published["test_images"]
    columns = {f"accuracy_{t:.3f}": f"within {t:g}" for t in (0.01, 0.02, 0.05, 0.1)}
    plain = (compared["seed"] == compared["split"]) & ~compared["arm"].str.contains("-|oracle")
    groups = compared[plain].groupby("arm", sort=False)
    means = groups[["mean_absolute_error", *columns]].mean()
    scores = [
        [arm, f"{row.iloc[0]:.4f}", *(f"{accuracy:.3f}" for accuracy in row.iloc[1:])]
        for arm, row in means.iterrows()
    ]
    hours = compared["training_seconds"].sum() / 3600
    sections = [
        f"Data: {one['data']}; {one['size']} × {one['size']} pixels, base width "
        f"{one['base_width']:.0f}, {one['steps']:,.0f} steps of recipe `{one['recipe']}`, "
        f"{published['seed'].nunique()} seeds, {tested.min()} to {tested.max()} test images, "
        f"commit {one['commit']}; {hours:.1f} hours of training on one thread, all runs together. "
        "Errors are of the range [0, 1] of a and b; “within 0.05” is the share of values whose "
        "error is at most 0.05.",
        _markdown(["", "mean absolute error", *columns.values()], scores),
        prose.verdict_on_lightness(published),
        prose.scatter(published),
    ]
    matched = contrasts[contrasts["family"] == "matched"].set_index("contrast")
    if len(matched):
        sections += [
            "**Pooling, context or capacity?** One thing changed at a time, at equal depth and "
            "parameters: differences of mean absolute error with 95 % intervals (negative: the "
            "first network is better).",
            prose.matched_in_words(matched, MARGIN),
        ]
    shown = prose.ledger_table(ledger)[["claim", "contrast", "effect [95 %]", "verdict"]]
    sections += [
        "**The claims of the original**, each judged by one interval:",
        _markdown(list(shown), shown.to_numpy().tolist()),
    ]
    return "\n\n".join(sections)


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    first, *lines = ["| " + " | ".join(line) + " |" for line in (head, *rows)]
    return "\n".join([first, "|---" * len(head) + "|", *lines])


def write_readme(compared: pd.DataFrame, contrasts: pd.DataFrame, ledger: pd.DataFrame) -> Path:
    """Put `readme_findings` between its two marks in README.md."""
    begin, end = "<!-- findings: written by `make figures` -->\n", "\n<!-- end of findings -->"
    text = README.read_text("utf-8")
    head, _, rest = text.partition(begin)
    _, _, tail = rest.partition(end)
    with replacing(README) as temporary:
        temporary.write_text(
            head + begin + readme_findings(compared, contrasts, ledger) + end + tail, "utf-8"
        )
    return README


def _save(figure, name: str) -> Path:
    path = FIGURES / name
    with replacing(path) as temporary, plots.mpl.rc_context(plots.STYLE):
        figure.savefig(
            temporary, format="svg", bbox_inches="tight", metadata={"Date": None, "Creator": None}
        )
    return path
