"""This paper's report: its chapters in their order, and its appendix."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from poolae.files import REFERENCE, build_folder
from poolae.settings import DEPTHS, Settings

if TYPE_CHECKING:
    import pandas as pd


def render_report(results: Path, wanted: Sequence[Settings]) -> None:
    """Render the executed notebooks under `results` as `results/report.html`.

    `wanted` are the runs; of those of the published networks, the first seed's are shown.
    """
    from poolae import data
    from poolae.paper import comparisons
    from poolae.paper.page import export, tools
    from poolae.paper.study import Study
    from poolae.train import runs

    found = runs.find(results, wanted)
    study = Study(found, results)
    one = found[0].settings
    shown = {f"pool{depth}-{one.name.partition('-')[2]}" for depth in DEPTHS}
    first = [run for run in found if run.name in shown]
    chapters = [export.Section(results / "01_data.ipynb", "data")]
    for run in first:
        parent = None if run is first[0] else first[0].name
        chapters.append(export.Section(run.folder / "02_train.ipynb", run.name, parent=parent))
    chapters.append(export.Section(results / "03_evaluate.ipynb", "evaluate"))
    chapters.append(export.Section(results / "04_samples.ipynb", "samples"))
    export.render(
        chapters,
        results / "report.html",
        title="What does pooling do to an autoencoder that colourises daisies?",
        subtitle="A study of 2020, rebuilt, corrected and answered on a laptop's CPU",
        authors=["The poolae authors"],
        provenance=_provenance(results, found),
        tools=tools.tools(
            first,
            data.load_for(one).test,
            comparisons.curves(study.published, "network"),
            comparisons.curves(study.published, "baseline"),
        ),
    )


def _provenance(results: Path, found: Sequence) -> dict[str, str | pd.DataFrame]:
    """Say how the results came about: versions, machine, and a row for every run."""
    import pandas as pd

    rows = [
        {
            "run": run.name,
            "parameters": run.about["parameters"],
            "steps": run.settings.steps,
            "training, s": run.about["training_seconds"],
            "device": run.about["device"],
            "precision": run.settings.precision,
            "threads": run.about["threads"],
            "commit": run.about["commit"],
            "finished": run.about["finished"].replace("+00:00", " UTC").replace("T", " "),
        }
        for run in found
    ]
    frame = pd.DataFrame(rows).set_index("run")
    frame["training, s"] = frame["training, s"].round(1)
    one = found[0]
    s, versions = one.settings, one.about["versions"]
    size = (
        f"{s.scale}, {s.batch_size} images a step, {one.about['training_images']} training and "
        f"{one.about['test_images']} test images, recipe “{s.recipe}”"
    )
    return {
        "Scale": size,
        "Hardware": f"{one.about['processor']}, {os.cpu_count()} cores, {platform.system()}",
        "Software": "Python "
        + platform.python_version()
        + "".join(f", {name} {number}" for name, number in versions.items()),
        "Determinism": "The same settings, data and code give the same weights on the same "
        "processor with the same number of threads; another number of threads or another "
        "processor changes the order of sums, and with it the last digits.",
        "Every run: its size, its time and the commit that trained it": frame,
        "Trials of the training recipe: mean absolute error on a quarter of the training part that "
        "was held out (764 photographs, 64 × 64 pixels, base width 16, one seed for each split; "
        "operations of the training, where 300 steps of 16 whole images are 1; the first rows in "
        "bfloat16 at 300 steps)": _recipe_trials(),
        "Faults that the tests try, and what comes of them": pd.read_csv(
            REFERENCE / "faults.csv", index_col="fault"
        ),
        **_speed(),
    }


def _recipe_trials() -> pd.DataFrame:
    """Return what was tried before the recipe was fixed, what did not help included."""
    import pandas as pd

    as_written = {"dtype": str, "keep_default_na": False}
    return pd.read_csv(
        REFERENCE / "recipe_trials.csv", comment="#", index_col="change", **as_written
    )


def _speed() -> dict[str, pd.DataFrame]:
    """Return what `make bench` has measured on this machine, if it has."""
    import pandas as pd

    path = build_folder() / "bench" / "bench.csv"
    if not path.exists():
        return {}
    frame = pd.read_csv(path).rename(columns={"ours_s": "ours, s", "reference_s": "reference, s"})
    spread = [
        "" if pd.isna(low) else f"{low:.2f}–{high:.2f}"
        for low, high in zip(frame.pop("ratio_min"), frame.pop("ratio_max"), strict=True)
    ]
    frame.insert(list(frame).index("ratio") + 1, "range", spread)
    return {"Speed, as “make bench” measured it": frame.set_index("row").fillna("")}
