"""This paper's report: its chapters in their order, and its appendix."""

from __future__ import annotations

import os
import platform
import tomllib
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from poolae import data
from poolae.files import REFERENCE, build_folder
from poolae.paper import checklists, comparisons, facts
from poolae.paper.page import export, tools
from poolae.paper.page.number import slug
from poolae.paper.study import Study
from poolae.settings import DEPTHS, Settings
from poolae.train import runs


def render_report(results: Path, wanted: Sequence[Settings]) -> None:
    """Render the executed notebooks under `results` as `results/report.html`.

    `wanted` are the runs; of those of the published networks, the first seed's are shown.
    """
    found = runs.find(results, wanted)
    study = Study(found, results)
    one = found[0].settings
    shown = {f"pool{depth}-{one.name.partition('-')[2]}" for depth in DEPTHS}
    first = [run for run in found if run.name in shown]
    trainings = [
        export.Section(run.folder / "02_train.ipynb", run.name, first[0].name if k else None)
        for k, run in enumerate(first)
    ]
    others = ("data", "01_data"), ("evaluate", "03_evaluate"), ("samples", "04_samples")
    start, *end = (export.Section(results / f"{name}.ipynb", prefix) for prefix, name in others)
    export.render(
        [start, *trainings, *end],
        results / "report.html",
        title=f"What does pooling do to an autoencoder that colourises {study.subject}?",
        subtitle="A study of 2020, rebuilt, corrected and answered on a laptop's CPU",
        authors=["The poolae authors"],
        provenance=_provenance(found),
        tools=tools.tools(
            first,
            data.load_for(one).test,
            comparisons.curves(study.published, "network"),
            comparisons.curves(study.published, "baseline"),
        ),
    )


def _provenance(found: Sequence[runs.Run]) -> dict[str, str | pd.DataFrame]:
    """Say how the results came about: versions, machine, and a row for every run."""
    words = tomllib.loads((export.TEMPLATE / "provenance.toml").read_text(encoding="utf-8"))
    about = found[0].about
    known = {
        **about,
        "s": found[0].settings,
        "cores": os.cpu_count(),
        "system": platform.system(),
        "software": ", ".join(
            f"{name} {number}"
            for name, number in {"Python": platform.python_version(), **about["versions"]}.items()
        ),
    }
    tables = {
        "runs": _run_table(found),
        # As it was written.
        "trials": facts.recipe_trials(dtype=str, keep_default_na=False).set_index("change"),
        "coverage": pd.read_csv(REFERENCE / "coverage.csv", index_col="seeds").rename(
            columns=lambda name: name.replace("_", " ")
        ),
        "faults": pd.read_csv(REFERENCE / "faults.csv", index_col="fault"),
        **_speed(),
    }
    said = {name: text.format_map(known) for name, text in words["facts"].items()}
    links = {name: f"[Table](#tbl-made-{slug(words['tables'][name])})" for name in words["tables"]}
    tables |= checklists.answered(links)
    return said | {words["tables"][name]: frame for name, frame in tables.items()}


def _run_table(found: Sequence[runs.Run]) -> pd.DataFrame:
    rows = [{**run.about, "run": run.name, **run.about["settings"]} for run in found]
    frame = pd.DataFrame(rows).set_index("run")
    frame["training, s"] = frame["training_seconds"].round(1)
    frame["finished"] = frame["finished"].str.replace("T", " ").str.replace("+00:00", " UTC")
    columns = "parameters|steps|training, s|device|precision|threads|commit|finished"
    return frame[columns.split("|")]


def _speed() -> dict[str, pd.DataFrame]:
    """Return what `make bench` has measured on this machine, if it has."""
    path = build_folder() / "bench" / "bench.csv"
    if not path.exists():
        return {}
    frame = pd.read_csv(path).rename(columns={"ours_s": "ours, s", "reference_s": "reference, s"})
    low, high = (frame.pop(f"ratio_{end}").map("{:.2f}".format) for end in ("min", "max"))
    spread = (low + "–" + high).replace("nan–nan", "")
    frame.insert(list(frame).index("ratio") + 1, "range", spread)
    return {"speed": frame.set_index("row").fillna("")}
