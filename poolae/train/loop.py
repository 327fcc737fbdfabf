"""Training: data, network, optimiser, step, checkpoint, and the loop that puts them together.

What a step does depends only on the settings, the data and the step's number,
so that a run that was interrupted ends as one that never was. Read it from top to bottom.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import hashlib
import io
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn

from poolae.files import replacing
from poolae.models import Autoencoder, build_for
from poolae.settings import Settings, UserError
from poolae.train import parallel
from poolae.train.optimisers import make_optimisers
from poolae.train.precision import choose

__all__ = ["device", "fit", "snapshot_steps"]

NORMALISED = 320  # images that batch normalisation is estimated from for averaged weights
CHECKPOINT_SECONDS = 20.0  # at least this long between two checkpoints ...
CHECKPOINT_SHARE = 0.02  # ... and at most this share of the time spent on writing them
SNAPSHOTS = 20  # pictures along the loss curve
CHECKS = 10  # of early stopping; each costs about ten steps of 16 images
WATCH_SECONDS = 3.0  # between two looks at a run, if its steps are shorter
SAY_SECONDS = 2.0, 60.0  # between the first two lines about a run, and at most


# Data ---------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=1)  # it takes milliseconds from 100,000 images on
def epoch_order(seed: int, epoch: int, n: int) -> np.ndarray:
    """Return the order in which an epoch takes the images, (n,) int; not to be changed."""
    return np.random.default_rng([seed, epoch, 0]).permutation(n)


def batch_rows(settings: Settings, n: int, step: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the images of one step and which of them are mirrored.

    Every epoch is a new permutation; the last, smaller batch of an epoch is kept.

    Parameters
    ----------
    settings
        Of the run: seed, batch size and flips count.
    n
        Training images.
    step
        From 0.

    Returns
    -------
    rows : (B,) int
    mirrored : (B,) bool
    """
    per_epoch = math.ceil(n / settings.batch_size)
    epoch, batch = divmod(step, per_epoch)
    order = epoch_order(settings.seed, epoch, n)
    rows = order[batch * settings.batch_size : (batch + 1) * settings.batch_size]
    coin = np.random.default_rng([settings.seed, step, 1]).random(len(rows))
    return rows, (coin < 0.5) & settings.flips


def crop_corners(settings: Settings, count: int, step: int) -> np.ndarray | None:
    """Return where each image of a step is cut out, (count, 2) int: row, column; None if whole.

    The squares have `crop_side` pixels.
    """
    if step >= settings.crops * settings.steps:
        return None
    most = settings.size - crop_side(settings.size)
    return np.random.default_rng([settings.seed, step, 2]).integers(0, most + 1, (count, 2))


def crop_side(size: int) -> int:
    """Return half the side, as a multiple of 8, which three halvings need."""
    return max(size // 2 // 8 * 8, min(size, 8))


def to_batch(
    lightness, chroma, rows, mirrored, place, corners=None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gather the images `rows`, mirror those that are `mirrored`, and move them to `place`.

    Where there are `corners`, of each image the square that begins there is taken.
    """
    batch = []
    for planes in (lightness, chroma):
        images = torch.from_numpy(planes[rows])  # (B, C, H, W)
        images[mirrored] = images[mirrored].flip(-1)
        if corners is not None and len(rows):
            side = crop_side(images.shape[-1])
            pairs = zip(images, corners, strict=True)
            images = torch.stack([image[:, y : y + side, x : x + side] for image, (y, x) in pairs])
        batch.append(images.to(place, memory_format=torch.channels_last))
    return tuple(batch)


def batch_of(settings, lightness, chroma, step, place) -> tuple[torch.Tensor, torch.Tensor]:
    """Return this process's share of the images of a step: lightness and chroma, at `place`."""
    rows, mirrored = batch_rows(settings, len(lightness), step)
    corners = crop_corners(settings, len(rows), step)
    if corners is not None:
        corners = parallel.share(corners)
    rows, mirrored = parallel.share(rows), parallel.share(mirrored)
    return to_batch(lightness, chroma, rows, mirrored, place, corners)


# Network ------------------------------------------------------------------------------------------


def device() -> torch.device:
    """Return the accelerator that PyTorch finds (CUDA, MPS, ...), or else the CPU.

    A PyTorch that was built for CUDA names it on machines without a GPU, too, unless asked.
    """
    return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")


def make_network(settings: Settings, place: torch.device) -> Autoencoder:
    """Return the network that a run starts with, laid out as is fastest at `place`."""
    network = build_for(settings)
    if settings.midrange_output:
        network.start_from(0.5)
    parallel.adapt(network)
    return network.to(place, memory_format=choose(place, settings.precision).layout)


def make_average(network: Autoencoder, settings: Settings) -> AveragedModel | None:
    """Return the exponential moving average of the weights, where the settings ask for one."""
    if not settings.averaging:
        return None
    return AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(settings.averaging))


def predictor(network: Autoencoder, average: AveragedModel | None, lightness) -> Autoencoder:
    """Return what predicts: the network, or its average, normalised by training images again."""
    if average is None:
        return network
    place = next(network.parameters()).device
    pictures = torch.from_numpy(lightness[:NORMALISED]).split(64)
    update_bn([parallel.share(picture).to(place) for picture in pictures], average.module)
    return average.module


# Optimiser ----------------------------------------------------------------------------------------


def learning_rate_factor(settings: Settings, step: int) -> float:
    """Return the factor on the peak learning rate: linear warm-up over 30 %, then cosine to 0."""
    if not settings.one_cycle:
        return 1.0
    warm_up = max(1, round(0.3 * settings.steps))
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, settings.steps - warm_up)))


def set_learning_rate(optimisers: Sequence, factor: float) -> None:
    """Give every optimiser this factor of its peak learning rate."""
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["lr"] = group["initial_lr"] * factor


# Step ---------------------------------------------------------------------------------------------


def training_step(network, optimisers, settings: Settings, x, y) -> torch.Tensor:
    """Take one optimiser step on lightness `x` and chroma `y`; return the L1 loss before it."""
    network.train()
    if not settings.accumulate_gradients:
        network.zero_grad()
    with torch.autocast(x.device.type, torch.bfloat16, settings.precision == "bfloat16"):
        predicted = network(x)
    predicted = predicted.float()
    if settings.clamp_in_training:
        predicted = predicted.clamp(0, 1)
    loss = parallel.mean((predicted - y).abs())
    loss.backward()
    parallel.average_gradients(network)
    for optimiser in optimisers:
        optimiser.step()
    return loss.detach()


# Checkpoint ---------------------------------------------------------------------------------------


def save_checkpoint(path: Path, learners: Sequence, step: int, history, about: dict) -> None:
    """Write the state of network, optimisers and average, and what led there, to one file."""
    kept = about["accumulate_gradients"]
    content = {
        "about": about,
        "step": step,
        "states": [learner.state_dict() for learner in learners],
        "gradients": [p.grad for p in learners[0].parameters()] if kept else [],
        "history": {key: torch.from_numpy(array) for key, array in history.items()},
    }
    # By way of memory, where nothing that the disk refuses is reported as PyTorch's own error;
    # and with a digest behind it, for PyTorch loads flipped bits without complaint.
    torch.save(content, held := io.BytesIO())
    held.write(hashlib.sha256(held.getbuffer()).digest())
    with replacing(path) as temporary:
        temporary.write_bytes(held.getbuffer())


def load_checkpoint(path: Path, learners: Sequence, history, about: dict) -> int:
    """Restore what `save_checkpoint` wrote for the same `about`; return the step, 0 if none."""
    if not path.exists():
        return 0
    try:
        held = path.read_bytes()
        if hashlib.sha256(held[:-32]).digest() != held[-32:]:
            raise ValueError("it is not what was written")
        content = torch.load(io.BytesIO(held[:-32]), map_location="cpu", weights_only=True)
        if content["about"] != about:
            return 0
    except Exception as error:  # every kind of damage has a type of its own
        if parallel.is_first():
            reason = str(error).partition("\n")[0]
            print(f"The checkpoint {path} cannot be read ({reason}): training starts again.")
        return 0
    for learner, state in zip(learners, content["states"], strict=True):
        learner.load_state_dict(state)
    for parameter, gradient in zip(learners[0].parameters(), content["gradients"], strict=False):
        parameter.grad = gradient.to(parameter.device)
    for key, array in history.items():
        array[...] = content["history"][key].numpy()
    return content["step"]


@contextlib.contextmanager
def held_interrupts() -> Iterator[list[bool]]:
    """Note a Ctrl-C in the list that is yielded, so that it cuts no step in two.

    A second one raises `KeyboardInterrupt` at once.
    """
    noted: list[bool] = []

    def note(*_) -> None:
        if noted:
            raise KeyboardInterrupt
        noted.append(True)

    before = signal.getsignal(signal.SIGINT)
    # In another thread no signal arrives, and in the background it may be ignored.
    here = threading.current_thread() is threading.main_thread() and before != signal.SIG_IGN
    if here:
        signal.signal(signal.SIGINT, note)
    try:
        yield noted
    finally:
        if here:
            signal.signal(signal.SIGINT, before)


# The loop -----------------------------------------------------------------------------------------


def snapshot_steps(steps: int, count: int = SNAPSHOTS) -> list[int]:
    """Return the (at most) `count` evenly spaced steps after which a picture is kept."""
    return sorted({math.ceil(steps * (k + 1) / count) for k in range(count)})


def fit(
    settings: Settings,
    lightness: np.ndarray,
    chroma: np.ndarray,
    shown: np.ndarray,
    checkpoint: str | os.PathLike,
    fingerprint: str = "",
    watch: Callable[[int, dict[str, np.ndarray]], None] | None = None,
    validation: tuple[np.ndarray, np.ndarray] | None = None,
) -> tuple[Autoencoder, dict[str, np.ndarray]]:
    """Train one network, from its last checkpoint where there is one.

    Parameters
    ----------
    settings
        Of the run.
    lightness, chroma
        Training images, (N, 1, H, W) and (N, 2, H, W) in [0, 1].
    shown
        Lightness (1, H, W) of the picture whose prediction is kept along the way.
    checkpoint
        File to resume from and to write to; it belongs to these settings,
        `fingerprint` and versions of data and code only.
    fingerprint
        Digest of data and code.
    watch
        Called with the number of steps done and the history, every few seconds and at the end.
    validation
        Lightness and chroma by which early stopping chooses, where the settings ask for it.

    Returns
    -------
    network : Autoencoder
    history : dict of arrays
        `loss` (steps,) float32; `seconds` (steps,) float64, of the step alone;
        `snapshots` (K, 2, H, W) float32, predictions after `snapshot_steps`; with early stopping
        `validation` (C, 2), step and mean absolute error of each check.

    Raises
    ------
    UserError
        If the loss is not finite, or a checkpoint cannot be written.
    """
    place, checkpoint = device(), Path(checkpoint)
    network = make_network(settings, place)
    optimisers, average = make_optimisers(network, settings), make_average(network, settings)
    best = copy.deepcopy(network) if settings.early else None
    learners = [network, *optimisers, *filter(None, [average, best])]

    kept = snapshot_steps(settings.steps)
    history = {
        "loss": np.full(settings.steps, np.nan, np.float32),
        "seconds": np.full(settings.steps, np.nan),
        "snapshots": np.zeros((len(kept), 2, *shown.shape[-2:]), np.float32),
    }
    checked = snapshot_steps(settings.steps, CHECKS) if settings.early else []
    if checked:
        history["validation"] = np.array([[step, np.nan] for step in checked])
    about = {**settings.asdict(), "fingerprint": fingerprint}
    step = started = load_checkpoint(checkpoint, learners, history, about)
    parallel.agree("checkpoint", step)
    first = parallel.is_first()
    if step and first:
        print(f"{settings.name}: resumed after step {step:,} of {settings.steps:,}", flush=True)

    def save() -> None:
        if first:
            save_checkpoint(checkpoint, learners, step, history, about)

    saved = said = seen = time.monotonic()
    save_cost, (pause, longest) = 0.0, SAY_SECONDS
    with held_interrupts() as interrupts:
        while step < settings.steps:
            began = time.perf_counter()
            x, y = batch_of(settings, lightness, chroma, step, place)
            set_learning_rate(optimisers, learning_rate_factor(settings, step))
            loss = training_step(network, optimisers, settings, x, y).item()
            if average:
                average.update_parameters(network)
            if not math.isfinite(loss):
                raise UserError(
                    f"{settings.name}: the loss is {loss} at step {step + 1}; the last good "
                    f"checkpoint is {checkpoint if checkpoint.exists() else 'none'}. "
                    "Try a lower learning_rate."
                )
            history["loss"][step] = loss
            history["seconds"][step] = time.perf_counter() - began
            step += 1
            if step in kept:
                picture = torch.from_numpy(shown[None]).to(place)
                history["snapshots"][kept.index(step)] = network.predict(picture)[0].cpu()
            if step in checked:
                candidate = predictor(network, average, lightness)
                error = np.abs(candidate.predict_array(validation[0]) - validation[1]).mean()
                errors = history["validation"][:, 1]
                if not (errors <= error).any():
                    best.load_state_dict(candidate.state_dict())
                errors[checked.index(step)] = error
            now = time.monotonic()
            if first and now - said > pause:
                print(progress_line(settings, history, started, step), flush=True)
                said, pause = now, min(longest, 2 * pause)
            if first and watch and now - seen > WATCH_SECONDS:
                watch(step, history)
                seen = time.monotonic()
            if now - saved > max(CHECKPOINT_SECONDS, save_cost / CHECKPOINT_SHARE):
                save()
                saved = time.monotonic()
                save_cost = saved - now
            if interrupts:
                save()
                raise KeyboardInterrupt
    network = best or predictor(network, average, lightness)
    if watch and first:
        watch(step, history)
    return network, history


def progress_line(settings: Settings, history: dict, started: int, step: int) -> str:
    """Say how far a run is, how well it does, and how long it will take."""
    pace = history["seconds"][started:step].mean()
    return (
        f"{settings.name}: step {step:,} of {settings.steps:,}, "
        f"loss {history['loss'][max(0, step - 50) : step].mean():.4f}, "
        f"{pace:.2f} s per step, {(settings.steps - step) * pace / 60:.1f} min left"
    )
