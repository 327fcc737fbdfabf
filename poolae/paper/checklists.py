"""Checklists of what a reader needs to repeat a study, answered from the record."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from poolae.data.sources import manifest
from poolae.files import REFERENCE
from poolae.paper import facts, record, words
from poolae.train import runs


def answered(tables: Mapping[str, str]) -> dict[str, pd.DataFrame]:
    """Return each checklist of `reference/checklists.csv` as a table, its braces filled.

    Parameters
    ----------
    tables
        What links to the tables of the appendix, by name.
    """
    everything = record.read_results()
    study = record.scales(everything)[0]
    trained = everything[everything["kind"] == "network"]
    seconds = study.networks["training_seconds"]
    networks = [run.path("weights.safetensors").stat().st_size for run in runs.recorded()]
    stored = f"{words.counted(len(networks), 'network')}, {sum(networks):,} bytes"
    known = {
        "tables": tables,
        "study": study,
        "runs": words.counted(len(trained), "network"),
        "hours": trained["training_seconds"].sum() / 3600,
        "mean": seconds.mean(),
        "shortest": seconds.min(),
        "longest": seconds.max(),
        "machine": words.machines(trained),
        "smallest": int(study.networks["parameters"].min()),
        "largest": int(study.networks["parameters"].max()),
        "tested": study.networks["test_images"].agg(["min", "max"]),
        "photographs": len(manifest()),
        "trained": f"yes: {stored}, with a model card" if networks else "no",
        "trials": len(facts.recipe_trials()),
        "hours_of_trials": record.hours_of_trials(study),
    }
    rows = pd.read_csv(REFERENCE / "checklists.csv", dtype=str, keep_default_na=False)
    for column in ("answer", "where"):
        rows[column] = [text.format_map(known) for text in rows[column]]
    return {
        name: group.drop(columns="checklist").set_index("question")
        for name, group in rows.groupby("checklist", sort=False)
    }
