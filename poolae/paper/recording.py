"""Recording: what finished runs score is added to the numbers of record, run by run.

So that whoever stops it loses minutes, and whoever goes on, on another machine too, trains only
what is not on record yet.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from itertools import chain
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd

from poolae import data
from poolae.files import NETWORKS, RUN_FILE, replacing
from poolae.metrics.baselines import BASELINES
from poolae.paper import claims, comparisons, facts, record
from poolae.settings import (
    BANDED,
    DEPTHS,
    EFFORT,
    FAMILIES,
    PROFILES,
    Settings,
    UserError,
    from_name,
)
from poolae.train import runs
from poolae.train.precision import resolve
from poolae.train.provenance import code_now, code_of, read, seal

KINDS = ["network", "baseline", "oracle", "mixture"]
COUNTS = ("base_width", "steps", "parameters", "training_images", "threads")
ABOUT = ["size", "base_width", "steps", "recipe", "precision", "parameters", "training_images"]
ABOUT += ["training_seconds", "commit", "code", "claims", "processor", "threads", "test_images"]
OF_ALL = ("size", "commit", "test_images")  # of baselines, too
TEXT = dict(dtype=str, keep_default_na=False)  # so that pandas rewrites every byte as it was
KEPT = (*(f"pool{depth}" for depth in DEPTHS), "skip")  # whose weights are on record, of one seed


def add_missing(results: Path, wanted: Sequence[Settings], name: str, jobs: int = 1) -> list[Path]:
    """Train the runs that are not on record yet and add their scores, each when it has ended.

    Beside each go the baselines on its split; at the end the mixtures of runs that are at hand
    and, of the study of the photographs, its networks and what they make of pictures that may
    be shown.

    Parameters
    ----------
    results, wanted
        Which runs, and the folder that they are trained in.
    name
        What to call the data.
    jobs
        How many are trained at once.

    Returns
    -------
    list of Path
        What was written.

    Raises
    ------
    UserError
        If code was changed when a run was trained, so that nobody could train it again; and as
        `unrecorded`.
    """
    lacking = unrecorded(wanted, name)
    pool = ProcessPoolExecutor(jobs, mp_context=get_context("spawn"))
    try:
        training = [pool.submit(runs.train, settings, results) for settings in lacking]
        for count, future in enumerate(as_completed(training), 1):
            run = future.result()
            add(run, results, name)
            print(f"{run.name} is on record, {count} of {len(lacking)}", flush=True)
    finally:
        pool.shutdown(cancel_futures=True)
    folders = [results / "runs" / settings.name for settings in wanted]
    found = [runs.Run(folder, about) for folder in folders if (about := read(folder))]
    mixtures = comparisons.mixtures(found, results)
    if mixtures is not None:
        for split, scores in mixtures.groupby("seed"):
            scores = scores[["kind", "arm", "seed", "image", "mean_absolute_error"]]
            store(scores, next(run for run in found if run.settings.split == split), name)
    written = [record.RESULTS, record.IMAGES]
    first = {run.arm: run for run in reversed(found) if run.settings.split == run.settings.seed}
    if name == record.RECORDED and wanted[0].profile == record.RECORD and set(KEPT) <= set(first):
        written += [write_network(first[arm], name) for arm in KEPT]
        written.append(write_samples([first[arm] for arm in KEPT[: len(DEPTHS)]]))
    return written


def unrecorded(wanted: Sequence[Settings], name: str) -> list[Settings]:
    """Return which of these runs are not on record.

    Raises
    ------
    UserError
        If other code trained those of the same profile and data, or in another precision: two
        studies are not to be mixed.
    """
    rows = on_record().query("kind == 'network'")
    known = set(
        rows[["profile", "data", "arm", "seed", "split"]].itertuples(index=False, name=None)
    )
    lacking = [settings for settings in wanted if _key(settings, name) not in known]
    scales = {_key(settings, name)[:2] for settings in lacking}
    beside = rows[rows[["profile", "data"]].apply(tuple, axis=1).isin(scales)]
    if lacking and len(other := beside[beside["code"] != code_now()]):
        commit = other["commit"].iloc[0]
        raise UserError(
            f"{record.RESULTS} holds {len(other)} runs of {name} that other code trained (commit "
            f"{commit}): go on with them in a checkout of it (git worktree add ../record "
            f"{commit}), or remove their rows to begin anew."
        )
    for settings in lacking:
        own = beside.loc[beside["profile"] == settings.profile, "precision"]
        for precision in set(own) - {resolve(settings).precision}:
            raise UserError(
                f"{record.RESULTS} holds runs of {name} in {precision}: go on with "
                f"PRECISION={precision}, or remove their rows to begin anew."
            )
    return lacking


def add(run: runs.Run, results: Path, name: str) -> None:
    """Put a finished run on record, and the baselines of its split if they are not there yet."""
    if run.about["commit"].endswith("+"):
        raise UserError(
            f"{run.folder} was trained from a checkout with changes that were not committed "
            f"({run.about['commit']}): remove it, commit, and run the same command again."
        )
    s = run.settings
    tables = [run.scores.copy().reset_index().assign(kind="network", arm=run.arm, seed=s.seed)]
    if run.plain and s.profile != "long" and not s.data.startswith(BANDED):
        known = on_record().query("kind == 'baseline'")[["profile", "data", "split"]]
        if not (known == [s.profile, name, str(s.split)]).all(axis=1).any():
            tables.append(comparisons.baseline_scores(s, results).assign(seed=s.split))
    store(pd.concat(tables, ignore_index=True), run, name)


def store(scores: pd.DataFrame, run: runs.Run, name: str) -> None:
    """Write scores of single images, of a run or on its split, and their means.

    Rows of the same arms and seeds are replaced; those of others stay as they are.
    """
    s, about = run.settings, run.about
    where = {"profile": s.profile, "data": _data_of(s, name)}
    means = comparisons.compare(scores).assign(**where, split=s.split)
    described = {**s.asdict(), **about, "code": code_of(about)}
    described |= {"training_seconds": round(about["training_seconds"], 1)}
    described |= {"claims": record.claims_before(about["commit"])}
    networks = means["kind"] == "network"
    for key in ABOUT:
        means[key] = described[key] if key in OF_ALL else None
        means.loc[networks, key] = described[key]
    means = means.astype(dict.fromkeys(COUNTS, "Int64"))
    first = [*record.KEYS, *ABOUT]
    _merge(record.RESULTS, means[first + [c for c in means if c not in first]])
    if s.split == s.seed:
        sources = {c for pair in claims.DIFFERENCES.values() for c in pair} | {*claims.METRICS}
        judged = [c for c in scores if c in sources or re.match(r"(gain|coherence)_\d+_\d", c)]
        plain = (scores["kind"] == "network") & (not any(getattr(s, field) for field in EFFORT))
        rows = scores.loc[plain | scores["arm"].isin(contrasted())]
        rows = rows[["kind", "arm", "seed", "image", *judged]].assign(**where, split=s.split)
        _merge(record.IMAGES, rows[[*record.KEYS, "image", *judged]])


def contrasted() -> set[str]:
    """Return the arms that a claim contrasts; beside them, tables contrast networks alone."""
    parts = (part for claim in claims.CLAIMS.values() for part in (*claim.parts, *claim.instead))
    return set(chain(*(part.arms for part in parts)))


def on_record() -> pd.DataFrame:
    """Return the committed means, as text."""
    there = record.RESULTS.exists()
    rows = pd.read_csv(record.RESULTS, **TEXT) if there else pd.DataFrame(columns=record.KEYS)
    return rows.reindex(columns=dict.fromkeys([*rows, *record.KEYS, *ABOUT]), fill_value="")


def write_network(run: runs.Run, name: str) -> Path:
    """Store a run's network in half precision, with what the stored one scores.

    The folder is a run's, without all that a fresh clone has no use for: `runs.load` reads it.
    """
    from safetensors.torch import load_file, save

    folder = NETWORKS / run.arm
    settings = run.settings.asdict() | {"data": name}
    weights = load_file(run.path("weights.safetensors"))
    halves = {k: v.half() if v.is_floating_point() else v for k, v in weights.items()}
    with replacing(folder / "weights.safetensors") as temporary:
        temporary.write_bytes(save(halves, {"settings": json.dumps(settings)}))
    about = {k: v for k, v in run.about.items() if k not in ("files", "validation")}
    seal(folder, about | {"settings": settings}, "weights.safetensors")
    split = data.load_for(run.settings)
    predicted = runs.Run(folder, read(folder)).network().predict_array(split.test.lightness)
    means = runs.score(predicted, split).mean()
    scores = {metric: float(f"{means[metric]:.8g}") for metric in runs.SUMMARY}
    seal(folder, read(folder) | {"scores": scores}, "weights.safetensors")
    return folder / RUN_FILE


def write_samples(found: Sequence[runs.Run]) -> Path:
    """Store what these networks make of pictures that may be shown: none is of the data.

    The pictures are the first `DRAWINGS` synthetic daisies and the photographs that come with
    scikit-image; all planes are rounded to 8 bits, and equal planes give equal bytes.
    """
    from poolae.data.daisies import draw

    size = found[0].settings.size
    pictures = {
        f"drawing {index + 1}": data.rgb_to_lab01(draw(index, size))
        for index in range(record.DRAWINGS)
    } | facts.photographs_out_of_context(size)
    predicted = [[run.predict(lightness) for run in found] for lightness, _ in pictures.values()]
    with replacing(record.SAMPLES) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            pictures=list(pictures),
            arms=[run.arm for run in found],
            truth=_bytes([np.concatenate(planes) for planes in pictures.values()]),  # (N, 3, H, W)
            chroma=_bytes(predicted),  # (N, arms, 2, H, W)
            training_images=found[0].about["training_images"],
            seed=found[0].settings.seed,
        )
    return record.SAMPLES


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
    with replacing(record.DESCRIBED) as temporary:
        temporary.write_text(json.dumps(described, indent=1) + "\n")
    return record.DESCRIBED


def _key(settings: Settings, name: str) -> tuple[str, ...]:
    s = settings
    return s.profile, _data_of(s, name), s.arm, str(s.seed), str(s.split)


def _data_of(settings: Settings, name: str) -> str:
    return settings.data if settings.data.startswith(BANDED) else name


def _merge(path: Path, rows: pd.DataFrame) -> None:
    """Put rows into a table, in place of those of the same `KEYS`, in an order of their own."""
    digits = 4 if path == record.IMAGES else 5
    rows = rows.to_csv(index=False, float_format=f"%.{digits}g")
    rows = pd.read_csv(io.StringIO(rows), **TEXT)
    if path.exists():
        kept = pd.read_csv(path, **TEXT)
        replaced = (
            kept[record.KEYS].apply(tuple, axis=1).isin(set(rows[record.KEYS].apply(tuple, axis=1)))
        )
        rows = pd.concat([kept[~replaced], rows]).fillna("")
    found = list(rows[record.KEYS].itertuples(index=False, name=None))
    place = {key: k for k, key in enumerate(sorted(set(found), key=_rank))}
    record.write_table(path, rows.iloc[np.argsort([place[key] for key in found], kind="stable")])


def _rank(key: tuple[str, ...]) -> tuple:
    """Return where a row belongs: by scale, data and kind, then as arms are listed elsewhere."""
    kind, arm, seed, split, profile, source = key
    if kind == "network":
        settings = from_name(f"{arm}-seed0")
        place = (FAMILIES.index(settings.family), settings.pool_depth)
    else:
        place = (list(BASELINES).index(arm) if arm in BASELINES else len(BASELINES), 0)
        arm = re.sub(r"\d+", lambda number: number[0].zfill(3), arm)  # oracles by their blocks
    first = (list(PROFILES).index(profile), source, KINDS.index(kind))
    return *first, *place, arm, int(seed), int(split)
