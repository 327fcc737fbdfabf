"""Finished runs on disk: train one, or load what is there and still valid.

A run's folder holds
    weights.safetensors   the trained network, with its settings as metadata
    losses.csv            loss and seconds of every step
    snapshots.npy         predictions of one test image along the way, (K, 2, H, W)
    predictions.npy       chroma of the test images, (N, 2, H, W) float16
    scrambled.npy         the same, predicted from shuffled tiles that were put back after
    gradients.npy         on which input pixels the middle of the output depends, (H, W)
    scores.csv            one row per test image
    run.json              settings, timing, machine, digests of the other files; written last, so
                          it marks the rest as whole
"""

from __future__ import annotations

import copy
import datetime
import json
import os
import re
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from html import escape
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd

from poolae import building, data, metrics
from poolae.files import NETWORKS, RUN_FILE, build_folder, code_digest, replacing
from poolae.machine import check_memory, commit, processor, settle_in
from poolae.settings import Settings, UserError, check_choice, from_name, make_settings
from poolae.train.provenance import SCORING, changes, is_whole, origin, read, seal

CHECKPOINT_FILE = "checkpoint.pt"  # gone when the run is finished
OF_RECORD = "record/"  # before the arm of a network that is committed
SUMMARY = ("mean_absolute_error", "accuracy_0.050", "ciede2000")  # kept in run.json
SCORED = 256  # images whose metrics are computed together


@dataclass(frozen=True)
class Run:
    """A finished run in `folder`; everything is read when it is asked for."""

    folder: Path
    about: dict  # contents of run.json

    @cached_property
    def settings(self) -> Settings:
        """The settings it was trained with."""
        return Settings(**self.about["settings"])

    @property
    def name(self) -> str:
        """Its name, such as "pool2-seed0"."""
        return self.settings.name

    @property
    def arm(self) -> str:
        """The name that it shares with the same network trained from other seeds."""
        return self.settings.arm

    @property
    def plain(self) -> bool:
        """Whether it is of the published networks, as the report's other runs are trained."""
        s = self.settings
        return bool(re.fullmatch(r"pool\d(-published|-cleared)?", s.arm)) and s.split == s.seed

    def path(self, name: str) -> Path:
        """Return the path of one of the run's files, as it was written.

        Raises
        ------
        UserError
            If it is missing or holds anything else.
        """
        if is_whole(path := self.folder / name, self.about):
            return path
        raise UserError(
            f"{path} is not what was written when {self.name} was trained: remove the folder "
            f"{self.folder} and run the same command again, which trains it anew."
        )

    @cached_property
    def losses(self) -> pd.DataFrame:
        """Columns `loss` (L1 of the batch) and `seconds`, indexed by step from 1."""
        return pd.read_csv(self.path("losses.csv"), index_col="step")

    @cached_property
    def scores(self) -> pd.DataFrame:
        """One row per test image: `mean_absolute_error` and `accuracy_0.000` ... `_0.100`."""
        path = self.path("scores.csv")
        return pd.read_csv(path, index_col="image", encoding_errors="surrogateescape")

    @cached_property
    def predictions(self) -> np.ndarray:
        """Predicted chroma of the test images, (N, 2, H, W) float16 in [0, 1]."""
        return np.load(self.path("predictions.npy"), mmap_mode="r")

    @cached_property
    def gradients(self) -> np.ndarray:
        """On which input pixels the middle of the output depends: `models.gradient_map`."""
        return np.load(self.path("gradients.npy"))

    @cached_property
    def snapshots(self) -> np.ndarray:
        """Predictions of the first test image along training, (K, 2, H, W) in [0, 1]."""
        return np.load(self.path("snapshots.npy"))

    @property
    def summary(self) -> dict[str, float]:
        """Means of some scores over the test images."""
        return self.about.get("scores") or self.scores[list(SUMMARY)].mean().to_dict()

    def predict(self, lightness: np.ndarray) -> np.ndarray:
        """Return the chroma (2, H, W) in [0, 1] of one lightness plane (1, H, W) in [0, 1]."""
        return self._ready.predict_array(np.ascontiguousarray(lightness[None], np.float32))[0]

    def colourise(self, picture: np.ndarray | str | os.PathLike) -> np.ndarray:
        """Return a picture in the colours that this network gives it.

        Parameters
        ----------
        picture
            A file, or an array: grey (H, W), sRGB (H, W, 3) or with alpha (H, W, 4); uint8,
            uint16 or floats in [0, 1].

        Returns
        -------
        (H, W, 3) float32 array
            sRGB in [0, 1], over white. The colours are predicted at the size that the network was
            trained at and laid over the picture's own lightness.

        Raises
        ------
        UserError
            If the file cannot be read or the array is no picture.
        """
        image = data.read_picture(picture).over_white()
        return data.recolour(np.asarray(image), self.chroma_for(image))

    def chroma_for(self, image) -> np.ndarray:
        """Return the chroma (2, S, S) in [0, 1], at the network's size, of a Pillow RGB image."""
        from PIL.Image import Resampling

        small = image.resize((self.settings.size,) * 2, Resampling.BILINEAR)
        return self.predict(data.rgb_to_lab01(np.asarray(small))[0])

    @cached_property
    def _ready(self):
        return self.network()

    def _repr_html_(self) -> str:
        s, about = self.settings, self.about
        rows = {
            "network": f"{s.arm}, {about['parameters']:,} parameters",
            "data": f"{escape(s.data)}, {about['test_images']} test images",
            "scale": s.scale,
            "mean absolute error": f"{self.summary['mean_absolute_error']:.4f}",
            "commit": about["commit"],
        }
        lines = "".join(f"<tr><th>{k}</th><td>{v}</td></tr>" for k, v in rows.items())
        return f"<table><caption>{self.name}</caption>{lines}</table>"

    def network(self):
        """Rebuild the trained `Autoencoder`, on the CPU, ready to predict."""
        from safetensors.torch import load_file

        from poolae.models import build_for

        network = build_for(self.settings)
        network.load_state_dict(load_file(self.path("weights.safetensors")))
        return network.eval()


def train(
    settings: Settings,
    results: str | os.PathLike,
    watch: Callable[[int, dict[str, np.ndarray]], None] | None = None,
) -> Run:
    """Return the finished run of `settings` under `results`, training what is missing.

    A run that is there and was made from the same settings, data and code is
    loaded, in whatever precision if none is asked for; one that was interrupted goes on
    from its checkpoint; if only the metrics have changed, the stored predictions are
    scored again. Who finds another process at it waits. The processes of
    `parallel.together` share the training, and the first does the rest.

    Parameters
    ----------
    settings
        Of the run.
    results
        Folder of one data set and profile; the run's is `results/runs/<name>`.
    watch
        As in `loop.fit`.

    Raises
    ------
    UserError
        If the data cannot be had, training diverges, a file cannot be written, or the
        processes do not find the same data and results.
    """
    folder = Path(results) / "runs" / settings.name
    split, scorer = data.load_for(settings), code_digest(*SCORING)

    def lacks_training(about: dict | None) -> bool:
        if about is None:
            return True
        now = origin(_in_its_precision(settings, about), split)
        return about["fingerprint"] != now["fingerprint"]

    about, alone = read(folder), int(os.environ.get("WORLD_SIZE") or 1) == 1
    if alone and not lacks_training(about) and about.get("scored_with") == scorer:
        return Run(folder, about)  # without PyTorch, whose import takes longer than all else

    from poolae.train import loop, parallel

    with ExitStack() as until_it_is_made:
        with parallel.first_ahead():
            if parallel.is_first():
                until_it_is_made.enter_context(building.held(folder))
            about = read(folder)  # another process may have made it meanwhile
        lacking, settings = lacks_training(about), _in_its_precision(settings, about)
        mark = origin(settings, split)["fingerprint"]
        parallel.agree("data and results", (mark, lacking))
        if lacking:
            if parallel.is_first():
                if (folder / RUN_FILE).exists():
                    why = changes(about, settings, split)
                    print(f"{settings.name} is trained again: {why}.", flush=True)
                check_memory(memory_needed(settings, split), f"Training {settings.name}")
            settle_in()
            began = time.monotonic()
            network, history = loop.fit(
                settings,
                split.train.lightness,
                split.train.chroma,
                split.test.lightness[0],
                folder / CHECKPOINT_FILE,
                mark,
                watch,
                split.validation and split.validation.in_memory(),
            )
        with parallel.first_ahead():
            if parallel.is_first():
                if lacking:
                    about = _write(settings, split, folder, network, history, began)
                if about.get("scored_with") != scorer:
                    _score(Run(folder, about), split, scorer)
            about = read(folder)
    return Run(folder, about)


def memory_needed(settings: Settings, split: data.Split) -> int:
    """Return about how many bytes a training process takes at its peak.

    Measured with PyTorch 2.13 on a CPU: 370 MB for Python and PyTorch, 14 to 27 bytes for each
    value of a batch's feature maps, and weight, gradient, average and the optimisers' state.
    """
    from poolae.models import build_for

    network = build_for(settings)
    values = sum(stage.values(settings.size) for stage in network.stages)
    pixels = len(split.test) * settings.size**2
    return (
        370_000_000
        + 28 * settings.batch_size * values
        + 24 * network.parameter_count
        + 4 * (3 + 3 * 2) * pixels  # the test images, and what is predicted of them
        + 300 * SCORED * settings.size**2  # metrics
    )


def score(predicted: np.ndarray, split: data.Split) -> pd.DataFrame:
    """Return one row of `metrics.image_scores` per test image, indexed by its name."""
    rarity = metrics.colour_rarity(split.train.in_memory()[1])
    test = split.test
    # A part at a time: the metrics take many times the memory of the images.
    parts = (slice(k, k + SCORED) for k in range(0, len(test), SCORED))
    scores = (
        metrics.image_scores(predicted[p], test.chroma[p], test.lightness[p], rarity) for p in parts
    )
    table = pd.concat([pd.DataFrame(part) for part in scores])
    return table.set_index(pd.Index(test.names, name="image"))


def results_folder(source: str, profile: str) -> Path:
    """Return where the results of a data source and profile belong: build/<data>-<profile>."""
    name = os.fsencode(source.rstrip("/").rpartition("/")[2])  # bytes, as the Makefile's tools see
    slug = re.sub(rb"[^A-Za-z0-9._-]", b"_", name).decode("ascii")
    return build_folder() / f"{slug}-{profile}"


def choose(
    depths: Iterable[int],
    seeds: Iterable[int],
    others: Iterable[str] = (),
    *,
    recipe: str = "corrected",
    data: str = "synthetic",
    profile: str = "quick",
    precision: str = "auto",
) -> list[Settings]:
    """Return the settings of the published networks of these depths and seeds, and of others.

    Parameters
    ----------
    depths, seeds
        Every combination of the two, ordered by depth, then seed.
    others
        Names of further runs, such as "dilated-seed0".
    recipe, data, profile, precision
        As in `settings.make_settings`.
    """
    made = [
        make_settings(depth, seed, recipe, data, profile, precision=precision)
        for depth in depths
        for seed in seeds
    ]
    named = [from_name(name, data, profile, precision) for name in others]
    return list(dict.fromkeys(made + named))


def find(results: str | os.PathLike, wanted: Iterable[Settings]) -> list[Run]:
    """Return these runs, finished, in the same order.

    Raises
    ------
    UserError
        If one is missing; the sentence names it.
    """
    found = []
    for settings in wanted:
        folder = Path(results) / "runs" / settings.name
        if (about := read(folder)) is None:
            raise UserError(
                f"The run {settings.name} is not in {results}: train it with notebooks/02_train, "
                "or all of them with `make report`."
            )
        found.append(Run(folder, about))
    return found


def load(name: str, results: str | os.PathLike | None = None) -> Run:
    """Return one finished run by its name, such as "pool1-seed0" or "record/pool1".

    Parameters
    ----------
    name
        As in `table`. What follows "record/" is the arm of a network of record, trained on
        photographs, that comes with the checkout.
    results
        Folder of the results; default those of `make report`, build/synthetic-quick.

    Raises
    ------
    UserError
        If there is none of that name.
    """
    if name.startswith(OF_RECORD):
        if not (arms := _recorded_arms()):
            raise UserError(f"{NETWORKS} holds no networks: they come with a checkout of poolae.")
        check_choice("The network of record", name, [OF_RECORD + arm for arm in arms])
        folder = NETWORKS / name.removeprefix(OF_RECORD)
        if (about := read(folder)) is None:
            raise UserError(f"{folder} is not as it was committed: git checkout {folder}.")
        return Run(folder, about)
    return find(results or results_folder("synthetic", "quick"), [from_name(name)])[0]


def recorded() -> list[Run]:
    """Return the networks that come with the checkout, by arm."""
    return [load(OF_RECORD + arm) for arm in _recorded_arms()]


def _recorded_arms() -> list[str]:
    return sorted(path.parent.name for path in NETWORKS.glob(f"*/{RUN_FILE}"))


def table(build: str | os.PathLike | None = None) -> pd.DataFrame:
    """Return all finished runs under `build` (default: the checkout's), a row each."""
    rows = []
    for path in sorted(Path(build or build_folder()).glob(f"*/runs/*/{RUN_FILE}")):
        if (about := read(path.parent)) is None or "scored_with" not in about:
            continue
        run = Run(path.parent, about)
        rows.append(
            {
                "results": path.parents[2].name,
                "name": run.name,
                "arm": run.arm,
                "seed": about["settings"]["seed"],
                "steps": about["settings"]["steps"],
                "parameters": about["parameters"],
                **run.summary,
                "training_seconds": about["training_seconds"],
                "commit": about["commit"],
            }
        )
    return pd.DataFrame(rows)


def _in_its_precision(settings: Settings, about: dict | None) -> Settings:
    """Give "auto" a value: that of the finished run, if there is one, or else what fits here."""
    if settings.precision != "auto":
        return settings
    if about is not None:
        return replace(settings, precision=about["settings"]["precision"])
    from poolae.train import precision

    return precision.resolve(settings)


def _write(settings, split: data.Split, folder: Path, network, history, began: float) -> dict:
    """Evaluate a network that has been trained since `began`, and write all but its scores."""
    import torch
    from safetensors.torch import save

    from poolae.models import effective_receptive_field, gradient_map
    from poolae.train.loop import device
    from poolae.train.parallel import processes
    from poolae.train.precision import choose

    test, some = split.test, slice(len(split.test))
    predicted = network.predict_array(test.lightness)
    scrambled = network.predict_array(data.shuffle_tiles(test.lightness, settings.split))
    scrambled = data.shuffle_tiles(scrambled, settings.split, back=True)
    fitted = network.predict_array(split.train.lightness[some])
    training_error = metrics.mean_absolute_error(fitted, split.train.chroma[some]).mean()
    gradients = gradient_map(copy.deepcopy(network).cpu(), test.lightness[:16])
    about = {
        "name": settings.name,
        **origin(settings, split),
        "parameters": network.parameter_count,
        "receptive_field": network.receptive_field,
        "effective_receptive_field": effective_receptive_field(gradients),
        "bottleneck_values": min(s.values(settings.size) for s in network.stages[:-1]),
        "macs": network.macs(settings.size),
        "training_error": float(training_error),
        "training_seconds": float(history["seconds"].sum()),
        "seconds": time.monotonic() - began,
        "device": next(network.parameters()).device.type,
        "precision_why": choose(device(), settings.precision).why,
        "processes": processes(),
        "threads": torch.get_num_threads(),
        "processor": processor(),
        "versions": {p: version(p) for p in ("torch", "numpy", "scikit-image")},
        "commit": commit(),
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    if settings.early:
        check = pd.DataFrame(history["validation"], columns=["step", "error"]).astype({"step": int})
        kept = int(check["step"][check["error"].idxmin()])
        about["validation"] = {"images": len(split.validation), "kept": kept}
        about["validation"] |= check.to_dict("list")
    losses = pd.DataFrame({"loss": history["loss"], "seconds": history["seconds"]})
    losses.index = pd.RangeIndex(1, settings.steps + 1, name="step")
    weights = {k: v.cpu().contiguous() for k, v in network.state_dict().items()}
    # The old mark goes first: until the new one is written, the folder is not a finished run.
    (folder / RUN_FILE).unlink(missing_ok=True)
    with replacing(folder / "weights.safetensors") as temporary:
        temporary.write_bytes(save(weights, {"settings": json.dumps(settings.asdict())}))
    with replacing(folder / "losses.csv") as temporary:
        losses.to_csv(temporary, float_format="%.6g")
    arrays = {
        "snapshots": history["snapshots"],
        "predictions": predicted.astype(np.float16),
        "scrambled": scrambled.astype(np.float16),
        "gradients": gradients,
    }
    for name, array in arrays.items():
        with replacing(folder / f"{name}.npy") as temporary, temporary.open("wb") as file:
            np.save(file, array)
    seal(folder, about, "weights.safetensors", "losses.csv", *(f"{name}.npy" for name in arrays))
    (folder / CHECKPOINT_FILE).unlink(missing_ok=True)
    return about


def _score(run: Run, split: data.Split, scorer: str) -> None:
    scores = score(np.asarray(run.predictions, np.float32), split)
    scrambled = np.load(run.path("scrambled.npy")).astype(np.float32)
    scores["scrambled_error"] = metrics.mean_absolute_error(scrambled, split.test.chroma)
    scores["training_error"] = run.about["training_error"]
    with replacing(run.folder / "scores.csv") as temporary:
        # A file name may hold bytes that are no UTF-8.
        scores.to_csv(temporary, float_format="%.6g", errors="surrogateescape")
    run.about["scored_with"] = scorer
    run.about["scores"] = {metric: float(scores[metric].mean()) for metric in SUMMARY}
    seal(run.folder, run.about, "scores.csv")
