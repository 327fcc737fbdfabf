"""Numbers of record: what is committed, and the figures that are drawn from it.

`figures/results.csv` holds the scores of a run of the whole study, numbers
only; every figure in figures/ is drawn from it or from the code alone.
"""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from poolae import data, evaluate, metrics, plots, prose, runs
from poolae.errors import UserError
from poolae.files import REFERENCE, replacing
from poolae.settings import DEPTHS

FIGURES = Path(__file__).parents[1] / "figures"
RESULTS = FIGURES / "results.csv"
README = FIGURES.parent / "README.md"
DESCRIBED = REFERENCE / "daisies_described.json"


def write_results(results: Path, wanted, name: str) -> Path:
    """Write the scores of finished runs, and of the baselines beside them, to results.csv.

    Parameters
    ----------
    results, wanted
        Which runs, as in `runs.find`.
    name
        What to call the data.
    """
    found = runs.find(results, wanted)
    compared = evaluate.compare(found)
    about = found[0].about
    s = found[0].settings
    columns = {
        "data": name,
        "size": s.size,
        "base_width": s.base_width,
        "steps": s.steps,
        "recipe": s.recipe,
        "test_images": about["test_images"],
        "commit": about["commit"],
    }
    for k, (column, value) in enumerate(columns.items()):
        compared.insert(k, column, value)
    with replacing(RESULTS) as temporary:
        compared.to_csv(temporary, index=False, float_format="%.5f", lineterminator="\n")
    return RESULTS


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
    compared = pd.read_csv(RESULTS)
    figure = plots.accuracy_figure(
        metrics.BOUNDS,
        evaluate.curves(compared, "network"),
        evaluate.curves(compared, "baseline"),
        evaluate.published_points() if compared["data"][0] == "daisies" else None,
    )
    drawn.append(_save(figure, "accuracy.svg"))
    return [*drawn, write_readme(compared)]


def readme_findings(compared: pd.DataFrame) -> str:
    """Say in Markdown what results.csv holds: its scale, a table and the sentences about it."""
    one = compared.iloc[0]
    columns = {f"accuracy_{t:.3f}": f"within {t:g}" for t in (0.01, 0.02, 0.05, 0.1)}
    means = compared.groupby("arm", sort=False)[["mean_absolute_error", *columns]].mean()
    lines = ["| | mean absolute error | " + " | ".join(columns.values()) + " |"]
    lines.append("|---" * (len(columns) + 2) + "|")
    for arm, row in means.iterrows():
        error, *accuracies = row
        cells = [f"{error:.4f}", *(f"{accuracy:.3f}" for accuracy in accuracies)]
        lines.append(f"| {arm} | " + " | ".join(cells) + " |")
    return (
        f"Data: {one['data']}; {one['size']} × {one['size']} pixels, base width "
        f"{one['base_width']}, {one['steps']:,} steps of recipe `{one['recipe']}`, "
        f"{compared['seed'].nunique()} seeds, {one['test_images']} test images, commit "
        f"{one['commit']}. Errors are of the range [0, 1] of a and b; “within 0.05” is the share "
        "of values whose error is at most 0.05.\n\n"
        + "\n".join(lines)
        + f"\n\n{prose.verdict_on_lightness(compared)}\n\n{prose.scatter(compared)}"
    )


def write_readme(compared: pd.DataFrame) -> Path:
    """Put `readme_findings` between its two marks in README.md."""
    begin, end = "<!-- findings: written by `make figures` -->\n", "\n<!-- end of findings -->"
    text = README.read_text("utf-8")
    head, _, rest = text.partition(begin)
    _, _, tail = rest.partition(end)
    with replacing(README) as temporary:
        temporary.write_text(head + begin + readme_findings(compared) + end + tail, "utf-8")
    return README


def _save(figure, name: str) -> Path:
    path = FIGURES / name
    with replacing(path) as temporary, plots.mpl.rc_context(plots.STYLE):
        figure.savefig(
            temporary, format="svg", bbox_inches="tight", metadata={"Date": None, "Creator": None}
        )
    return path
