"""Cards of what others may use again: the networks of record, the drawings, the photographs.

Sentences stand in `reference/*.md.j2`, after Mitchell et al. 2019 (model cards) and Gebru et al.
2021 (datasheets); their numbers come from the runs and from the code.
"""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from poolae.data import daisies, sources
from poolae.files import REFERENCE, replacing
from poolae.paper import comparisons, facts, words
from poolae.settings import PROFILES
from poolae.train import runs

WEIGHTS = "weights.safetensors"


def write_cards(folder: Path, study: comparisons.Comparison) -> list[Path]:
    """Write the model card and the datasheet below a folder; equal numbers give equal bytes.

    Parameters
    ----------
    folder
        That of the record: its `networks` get the model card, itself the datasheet.
    study
        The record's, whose baselines stand beside the networks.

    Returns
    -------
    list of Path
        What was written: without networks of record, no model card.
    """
    networks = runs.recorded()
    known = {
        "networks": [
            {
                **run.about,
                "arm": run.arm,
                "seed": run.settings.seed,
                "bytes": run.path(WEIGHTS).stat().st_size,
                "sha256": run.about["files"][WEIGHTS],
            }
            for run in networks
        ],
        "one": networks[0].about if networks else None,
        "scale": networks[0].settings.scale if networks else None,
        "baselines": study.baseline_means(words.ERROR).to_dict(),
        "seeds": study.seeds,
        "commits": words.listed(sorted(study.commits)),
        "photographs": len(sources.manifest()),
        "kaggle": sources.KAGGLE_DATASET,
        "described": facts.daisies_described(64),
        "daisies": daisies,
        "profiles": PROFILES,
    }
    card = {"model_card": folder / "networks" / "README.md"} if networks else {}
    cards = card | {"datasheet": folder / "datasheet.md"}
    for name, path in cards.items():
        with replacing(path) as temporary:
            temporary.write_text(template(name).render(known), "utf-8")
    return list(cards.values())


def template(name: str) -> Template:
    """Return what `reference/{name}.md.j2` holds, in which a value that lacks is an error."""
    environment = Environment(
        loader=FileSystemLoader(REFERENCE),
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(f"{name}.md.j2")
