"""Is the record reproducible here? A small part of it is trained again and compared.

`figures/verify.csv` holds numbers of the profile `smoke`, of drawn daisies, which every checkout
can make, in float32. On another machine sums are taken in another order, and on the same one, too,
where its host tells it of other caches. What that does was measured and is on record: the same runs
on more threads, and with narrower instructions, as other kinds of processor have. A number may
differ by `FACTOR` times the most that any of these changed it.

Where the photographs are at hand, the networks of record colour them again and are scored.

The scale is so small because rounding grows with every step: after 24 steps it changes the error
of pool0 by 5e-6 and of pool3 by 2e-4.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from unittest.mock import patch

import pandas as pd

from poolae.data import load_for
from poolae.files import build_folder, replacing
from poolae.settings import DEPTHS, Settings, UserError, make_settings
from poolae.train import runs

RECORD = Path(__file__).parents[2] / "figures" / "verify.csv"
# Accuracy at a bound is not among them: it moves by whole values of pixels, or not at all.
METRICS = ("mean_absolute_error", "gain_8_up", "ciede2000", "training_error", "last_losses")
PROFILE = "smoke"
FACTOR = 8  # a kind of processor that is not on record may do what none of these did
DIGITS = 8  # significant ones that are stored
SCORED_ALIKE = 1e-5  # of a score: ten times the most that narrower instructions changed one
LAST = 8  # losses, of which the mean is compared
TWO = {"SLURM_CPUS_PER_TASK": "2"}
AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
NARROW = {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"}
# Environments whose sums differ; the first is that of the numbers of record. `loop.settle_in`
# takes SLURM's word for the cores that it has.
KINDS: dict[str, dict[str, str]] = {
    "as it is": {"SLURM_CPUS_PER_TASK": "1"},
    "two threads": TWO,
    "AVX2": {**AVX2, "SLURM_CPUS_PER_TASK": "1"},
    "AVX2, two threads": {**AVX2, **TWO},
    "narrow": {**NARROW, "SLURM_CPUS_PER_TASK": "1"},
    "narrow, two threads": {**NARROW, **TWO},
}


def settings_of(depth: int) -> Settings:
    """Return the settings of a run that is verified."""
    return make_settings(depth, profile=PROFILE, precision="float32")


def rerun(kind: str = "as it is", depths: Sequence[int] = DEPTHS) -> pd.DataFrame:
    """Train the networks afresh; return a row of numbers for each."""
    results = build_folder() / "verify"
    shutil.rmtree(results, ignore_errors=True)
    rows = []
    for depth in depths:
        run = runs.train(settings_of(depth), results)
        numbers = {**run.scores.mean(), "last_losses": run.losses["loss"].tail(LAST).mean()}
        rows.append(
            {"arm": f"pool{depth}", "kind": kind}
            | {metric: float(f"{numbers[metric]:.{DIGITS}g}") for metric in METRICS}
            | {"processor": run.about["processor"], "torch": run.about["versions"]["torch"]}
        )
    return pd.DataFrame(rows)


def write_record() -> Path:
    """Train every network in every one of `KINDS` and store the numbers."""
    tables = []
    for kind, variables in KINDS.items():
        # PyTorch reads the variables once, when it is imported: hence another process.
        alone = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
        with patch.dict(os.environ, variables), alone as pool:
            tables.append(pool.submit(rerun, kind).result())
    with replacing(RECORD) as temporary:
        pd.concat(tables).to_csv(temporary, index=False, lineterminator="\n")
    return RECORD


def verify(depths: Sequence[int] = DEPTHS) -> pd.DataFrame:
    """Train networks again, as those of record were, and compare; see `compare`."""
    with patch.dict(os.environ, KINDS["as it is"]):
        return compare(pd.read_csv(RECORD), rerun(depths=depths))


def verify_networks(source: str) -> pd.DataFrame:
    """Score the networks of record on photographs again, and compare as `compare` does.

    Parameters
    ----------
    source
        "daisies", or the folder of the 764 photographs.

    Raises
    ------
    UserError
        If there are other pictures, or a network is not as it was committed.
    """
    rows = []
    for run in runs.recorded():
        split = load_for(replace(run.settings, data=source))
        if not split.images.is_daisies:
            raise UserError(f"{source} does not hold the 764 daisies: give the folder that does.")
        found = runs.score(run.network().predict_array(split.test.lightness), split).mean()
        for metric, old in run.summary.items():
            row = {"run": run.name, "metric": metric, "record": old, "found": found[metric]}
            rows.append(row | {"tolerance": SCORED_ALIKE * old})
    table = pd.DataFrame(rows, columns=["run", "metric", "record", "found", "tolerance"])
    return table.assign(same=(table["found"] - table["record"]).abs() <= table["tolerance"])


def compare(record: pd.DataFrame, found: pd.DataFrame) -> pd.DataFrame:
    """Hold numbers against those on record.

    Parameters
    ----------
    record
        Rows of `RECORD`, of every kind.
    found
        From `rerun`.

    Returns
    -------
    DataFrame
        A row per arm and metric: `record`, `found`, `tolerance` and `same`. The tolerance is
        `FACTOR` times the most that another kind changed this very number, and at least the last
        digit that is stored.

    Raises
    ------
    UserError
        If the record does not hold a run once in every kind.
    """
    rows = []
    for _, new in found.iterrows():
        own = record[record["arm"] == new["arm"]].set_index("kind")
        if sorted(own.index) != sorted(KINDS):
            raise UserError(
                f"{RECORD} holds {new['arm']} {len(own)} times, not once for each of "
                f"{', '.join(KINDS)}: restore the file."
            )
        table = own[list(METRICS)].T
        old, numbers = table["as it is"], new[list(METRICS)].astype(float)
        changed = table.drop(columns="as it is").sub(old, axis=0).abs().max(axis=1)
        tolerance = (FACTOR * changed).clip(lower=old.abs() * 10.0 ** (1 - DIGITS))
        rows.append(
            pd.DataFrame({"record": old, "found": numbers, "tolerance": tolerance}).assign(
                run=new["arm"], same=(numbers - old).abs() <= tolerance
            )
        )
    columns = ["run", "metric", "record", "found", "tolerance", "same"]
    return pd.concat(rows).rename_axis("metric").reset_index()[columns]
