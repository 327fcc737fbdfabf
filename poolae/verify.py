"""`make verify`: train again what is on record, and hold the numbers against it.

The record, `figures/verify.csv`, holds runs on the drawn daisies, which every
clone can make. On the machine that it came from the numbers must be the same;
on another, where sums run in another order, they may differ by as much as seeds
of one network do.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from poolae import runs
from poolae.errors import UserError
from poolae.files import build_folder, replacing
from poolae.settings import check_choice, make_settings

RECORD = Path(__file__).parents[1] / "figures" / "verify.csv"
METRICS = ("mean_absolute_error", "accuracy_0.050", "gain_8_up", "ciede2000", "training_error")
MACHINE = ("processor", "model", "threads", "torch")
# What is on record: depths and seeds of each profile. The first seed is trained again.
PARTS = {"smoke": ((0, 1, 2, 3), (0, 1, 2)), "quick": ((0, 1, 2), (0, 1, 2))}
DIGITS = 6  # significant ones that are stored


def rerun(profile: str, seeds: Sequence[int]) -> pd.DataFrame:
    """Train the part of `profile` afresh with these seeds; return a row of numbers per run."""
    depths, _ = PARTS[profile]
    results = build_folder() / f"verify-{profile}"
    shutil.rmtree(results, ignore_errors=True)
    rows = []
    for depth in depths:
        for seed in seeds:
            run = runs.train(make_settings(depth, seed, profile=profile), results)
            means = run.scores.mean()
            rows.append(
                {
                    "profile": profile,
                    "arm": run.arm,
                    "seed": seed,
                    **{metric: float(f"{means[metric]:.{DIGITS}g}") for metric in METRICS},
                    "processor": run.about["processor"],
                    "model": processor_model(),
                    "threads": run.about["threads"],
                    "torch": run.about["versions"]["torch"],
                }
            )
    return pd.DataFrame(rows)


def processor_model() -> str:
    """Return what tells processors of one name apart, as "family-model", where the system tells.

    A virtual machine's "AMD EPYC" may be any of four generations, whose sums differ.
    """
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "unknown"
    fields = dict(map(str.strip, line.split(":", 1)) for line in lines if ":" in line)
    return "-".join(fields.get(key, "unknown") for key in ("cpu family", "model"))


def write_record() -> Path:
    """Train every part with every seed on record and store the numbers."""
    table = pd.concat([rerun(profile, seeds) for profile, (_, seeds) in PARTS.items()])
    with replacing(RECORD) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n")
    return RECORD


def verify(profile: str) -> pd.DataFrame:
    """Train the first seed of a part again and compare; see `compare`.

    Raises
    ------
    UserError
        If the profile is not on record.
    """
    check_choice("PROFILE of `make verify`", profile, PARTS)
    record = pd.read_csv(RECORD)
    return compare(record[record["profile"] == profile], rerun(profile, PARTS[profile][1][:1]))


def compare(record: pd.DataFrame, found: pd.DataFrame) -> pd.DataFrame:
    """Hold numbers against those on record.

    Parameters
    ----------
    record
        Rows of one profile of `RECORD`, more than one seed of each arm.
    found
        From `rerun`.

    Returns
    -------
    DataFrame
        A row per arm, seed and metric: `record`, `found`, `tolerance` and `same`. The
        tolerance is 0 on the machine of the record, else the range of the metric over seeds, of
        the arm where the record's seeds differ most: few seeds may lie close by chance.
    """
    over_seeds = record.groupby("arm")[list(METRICS)].agg(np.ptp).max()
    rows = []
    for _, new in found.iterrows():
        old = record[(record["arm"] == new["arm"]) & (record["seed"] == new["seed"])]
        if len(old) != 1:
            raise UserError(
                f"{new['arm']}-seed{new['seed']} is {len(old)} times in {RECORD}: restore the file."
            )
        old = old.iloc[0]
        here = all(str(old[key]) == str(new[key]) for key in MACHINE)
        for metric in METRICS:
            tolerance = 0.0 if here else float(over_seeds[metric])
            rows.append(
                {
                    "run": f"{new['arm']}-seed{new['seed']}",
                    "metric": metric,
                    "record": old[metric],
                    "found": new[metric],
                    "tolerance": tolerance,
                    "same": abs(new[metric] - old[metric]) <= tolerance,
                }
            )
    return pd.DataFrame(rows)
