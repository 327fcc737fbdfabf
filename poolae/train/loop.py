"""Training: one loop that reads from top to bottom, and stops and resumes anywhere.

What a step does depends only on the settings, the data and the step's number,
so that a run that was interrupted ends as one that never was.
"""

from __future__ import annotations

import contextlib
import copy
import ctypes
import functools
import json
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from torch.optim.swa_utils import update_bn

from poolae.files import replacing
from poolae.models import Autoencoder, build_for
from poolae.settings import Settings, UserError
from poolae.train import parallel
from poolae.train.precision import choose

__all__ = ["device", "fit", "settle_in", "snapshot_steps"]

ORTHOGONALISATIONS = 5  # steps of Muon's iteration
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h
SNAPSHOTS = 20  # pictures along the loss curve
CHECKS = 10  # of early stopping; each costs about ten steps of 16 images
NORMALISED = 320  # images that batch normalisation is estimated from for averaged weights
CHECKPOINT_SECONDS = 20.0  # at least this long between two checkpoints ...
CHECKPOINT_SHARE = 0.02  # ... and at most this share of the time spent on writing them


def device() -> torch.device:
    """Return the accelerator that PyTorch finds (CUDA, MPS, ...), or else the CPU."""
    return torch.accelerator.current_accelerator() or torch.device("cpu")


def settle_in() -> int:
    """Prepare this process for training: keep its memory, and use its share of the cores.

    SLURM says how many cores its task has; otherwise `JOBS` runs share those that there are. The
    processes that torchrun starts for one run share what the run has.

    glibc returns every large tensor to the system when it is freed and takes
    it back page by page in the next step; keeping it saves about a fifth of a
    step at full width (2 cores, 128 px, no pooling: 1.55 s against 1.22 s).

    Returns
    -------
    int
        The threads that this process will use.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # another C library
            libc = ctypes.CDLL("libc.so.6")
            libc.mallopt(M_MMAP_MAX, 0)
            libc.mallopt(M_TRIM_THRESHOLD, -1)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    jobs = int(os.environ.get("JOBS") or 1)
    if task := os.environ.get("SLURM_CPUS_PER_TASK"):
        cores, jobs = min(cores, int(task)), 1
    threads = max(1, cores // jobs // int(os.environ.get("LOCAL_WORLD_SIZE") or 1))
    torch.set_num_threads(threads)
    return threads


def snapshot_steps(steps: int, count: int = SNAPSHOTS) -> list[int]:
    """Return the (at most) `count` evenly spaced steps after which a picture is kept."""
    return sorted({math.ceil(steps * (k + 1) / count) for k in range(count)})


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


def learning_rate_factor(settings: Settings, step: int) -> float:
    """Return the factor on the peak learning rate: linear warm-up over 30 %, then cosine to 0."""
    if not settings.one_cycle:
        return 1.0
    warm_up = max(1, round(0.3 * settings.steps))
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, settings.steps - warm_up)))


class KernelMuon(torch.optim.Optimizer):
    """Muon for convolution kernels, each seen as the matrix (out, height * width * in).

    As PyTorch's, with Nesterov momentum .95 and `match_rms_adamw`, which takes one matrix at a
    time and always bfloat16; here kernels of one shape are orthogonalised together, in `dtype`.
    """

    def __init__(
        self, kernels: list[nn.Parameter], rate: float, decay: float, dtype: torch.dtype
    ) -> None:
        self.dtype = dtype
        super().__init__(kernels, {"lr": rate, "weight_decay": decay, "momentum": 0.95})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            alike: dict[tuple[int, ...], list[tuple[nn.Parameter, torch.Tensor]]] = {}
            for p in group["params"]:
                momentum = self.state[p].setdefault("momentum", torch.zeros_like(p))
                momentum.lerp_(p.grad, 1 - group["momentum"])
                update = p.grad.lerp(momentum, group["momentum"]).permute(0, 2, 3, 1).flatten(1)
                alike.setdefault(update.shape, []).append((p, update))
            for shape, pairs in alike.items():
                updates = orthogonalise(torch.stack([update for _, update in pairs]), self.dtype)
                size = group["lr"] * 0.2 * math.sqrt(max(shape))
                for (p, _), update in zip(pairs, updates, strict=True):
                    p.mul_(1 - group["lr"] * group["weight_decay"])
                    view = update.view(len(p), *p.shape[2:], p.shape[1]).permute(0, 3, 1, 2)
                    p.add_(view, alpha=-size)


def orthogonalise(matrices: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Bring the singular values of each matrix near 1, to within .7 and 1.2 or so.

    Five steps of the Newton-Schulz iteration of Jordan et al. 2024, in `dtype`.

    Parameters
    ----------
    matrices : (K, M, N) tensor
    dtype
        In float32 a step multiplies M x M matrices only: the products of all its polynomials are
        gathered and applied to the matrix once, which takes .4 of the operations at N = 9 M. In
        bfloat16 that would lose the small singular values, and each step is applied as it comes.

    Returns
    -------
    (K, M, N) tensor of `dtype`
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = matrices.shape[1] > matrices.shape[2]
    x = (matrices.mT if tall else matrices).to(dtype)
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    gram, gathered = x @ x.mT, None
    for step in range(ORTHOGONALISATIONS):
        factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        if dtype == torch.float32:
            factor.diagonal(dim1=1, dim2=2).add_(a)
            gathered = factor if gathered is None else factor @ gathered
            if step < ORTHOGONALISATIONS - 1:
                gram = factor @ gram @ factor
        else:
            x = torch.baddbmm(x, factor, x, beta=a)
            gram = x @ x.mT
    x = x if gathered is None else gathered @ x
    return x.mT if tall else x


class WeightAverage(torch.optim.Optimizer):
    """An exponential moving average of the weights, kept like an optimiser's state."""

    def __init__(self, parameters: list[nn.Parameter], decay: float) -> None:
        super().__init__(parameters, {"lr": 0.0, "decay": decay})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                average = self.state[p].setdefault("average", p.detach().clone())
                average.lerp_(p, 1 - group["decay"])

    @torch.no_grad()
    def apply(self, network: nn.Module) -> None:
        """Give every weight of a network the average of its own."""
        for p, own in zip(network.parameters(), self.param_groups[0]["params"], strict=True):
            p.copy_(self.state[own]["average"])


def make_optimisers(network: Autoencoder, settings: Settings) -> list[torch.optim.Optimizer]:
    """Return the optimisers, each with the peak learning rate in `initial_lr` of its groups.

    Where the settings ask for it, a `WeightAverage` is the last.
    """
    rate, decay = settings.learning_rate, settings.weight_decay
    rest, betas = list(network.parameters()), (0.9, 0.99)
    if settings.optimiser == "adam":
        made = [torch.optim.Adam(rest, rate, betas, weight_decay=decay, fused=True)]
    else:
        made = []
        if settings.optimiser == "muon":
            kernels = [p for p in rest if p.ndim == 4 and min(p.shape[:2]) > 2]
            rest = [p for p in rest if not any(p is k for k in kernels)]
            made.append(KernelMuon(kernels, rate, decay, getattr(torch, settings.precision)))
        made.append(torch.optim.AdamW(rest, rate, betas, weight_decay=decay, fused=True))
    if settings.averaging:
        made.append(WeightAverage(list(network.parameters()), settings.averaging))
    for optimiser in made:
        for group in optimiser.param_groups:
            group["initial_lr"] = group["lr"]
    return made


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


def save_checkpoint(path: Path, network, optimisers, step, arrays, about: dict) -> None:
    """Write weights, optimiser state and history to one self-describing safetensors file."""
    tensors = {f"network.{k}": v for k, v in network.state_dict().items()}
    for i, optimiser in enumerate(optimisers):
        for k, state in optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{i}.{k}.{name}": value for name, value in state.items()}
    if about["accumulate_gradients"]:
        tensors |= {f"gradient.{k}": p.grad for k, p in network.named_parameters()}
    tensors |= {f"history.{k}": torch.from_numpy(v) for k, v in arrays.items()}
    tensors = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    with replacing(path) as temporary:
        save_file(tensors, temporary, {"step": str(step), "about": json.dumps(about)})


def load_checkpoint(path: Path, network, optimisers, arrays, about: dict) -> int:
    """Restore what `save_checkpoint` wrote for the same `about`; return the step, 0 if none."""
    if not path.exists():
        return 0
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
            if json.loads(metadata["about"]) != about:
                return 0
            tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
    except Exception as error:  # safetensors raises its own type for every kind of damage
        if parallel.is_first():
            print(f"The checkpoint {path} cannot be read ({error}): training starts again.")
        return 0
    network.load_state_dict(
        {k.removeprefix("network."): v for k, v in tensors.items() if k.startswith("network.")}
    )
    for i, optimiser in enumerate(optimisers):
        state: dict[int, dict] = {}
        parameters = [p for group in optimiser.param_groups for p in group["params"]]
        for key, value in tensors.items():
            if key.startswith(f"optimiser.{i}."):
                k, name = key.split(".")[2:]
                state.setdefault(int(k), {})[name] = laid_out_as(parameters[int(k)], value)
        optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
    for key, parameter in network.named_parameters():
        if f"gradient.{key}" in tensors:
            parameter.grad = laid_out_as(parameter, tensors[f"gradient.{key}"])
    for key, array in arrays.items():
        array[...] = tensors[f"history.{key}"].numpy()
    return int(metadata["step"])


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


def laid_out_as(parameter: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Return `value` in the memory order of `parameter`, on which fused optimisers rely."""
    if value.shape != parameter.shape:
        return value  # a step counter
    return torch.empty_like(parameter).copy_(value).detach()


def predictor(network, optimisers, settings: Settings, lightness) -> Autoencoder:
    """Return what predicts after the steps taken so far: a copy with averaged weights."""
    network = copy.deepcopy(network)
    if settings.averaging:
        optimisers[-1].apply(network)
        place = next(network.parameters()).device
        pictures = torch.from_numpy(lightness[:NORMALISED]).split(64)
        update_bn([parallel.share(picture).to(place) for picture in pictures], network)
    return network


def keep_best(candidate: Autoencoder, validation, history: dict, number: int) -> None:
    """Note the candidate's error on the validation part, and its weights if it is the least."""
    lightness, chroma = validation
    error = np.abs(candidate.predict_array(lightness) - chroma).mean()
    if not (history["validation"][:number, 1] <= error).any():
        for key, value in candidate.state_dict().items():
            history[f"best.{key}"][...] = value.cpu().numpy()
    history["validation"][number, 1] = error


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
        Called with the number of steps done and the history, now and then and at the end.
    validation
        Lightness and chroma that early stopping chooses by, where the settings ask for it.

    Returns
    -------
    network : Autoencoder
    history : dict of arrays
        `loss` (steps,) float32; `seconds` (steps,) float64, of the step alone;
        `snapshots` (K, 2, H, W) float32, predictions after `snapshot_steps`; with early stopping
        `validation` (K, 2), step and mean absolute error of each check, and the best weights.

    Raises
    ------
    UserError
        If the loss is not finite, or a checkpoint cannot be written.
    """
    place, checkpoint = device(), Path(checkpoint)
    network = build_for(settings)
    if settings.midrange_output:
        network.start_from(0.5)
    network = network.to(place, memory_format=choose(place, settings.precision).layout)
    parallel.adapt(network)
    optimisers = make_optimisers(network, settings)

    kept = snapshot_steps(settings.steps)
    history = {
        "loss": np.full(settings.steps, np.nan, np.float32),
        "seconds": np.full(settings.steps, np.nan),
        "snapshots": np.zeros((len(kept), 2, *shown.shape[-2:]), np.float32),
    }
    checked = snapshot_steps(settings.steps, CHECKS) if settings.early else []
    if checked:
        history["validation"] = np.array([[step, np.nan] for step in checked])
        history |= {f"best.{k}": v.cpu().numpy().copy() for k, v in network.state_dict().items()}
    about = {**settings.asdict(), "fingerprint": fingerprint}
    step = started = load_checkpoint(checkpoint, network, optimisers, history, about)
    parallel.agree("checkpoint", step)
    first = parallel.is_first()
    if step and first:
        print(f"{settings.name}: resumed after step {step:,} of {settings.steps:,}", flush=True)

    def save() -> None:
        if first:
            save_checkpoint(checkpoint, network, optimisers, step, history, about)

    saved = said = time.monotonic()
    save_cost, pause = 0.0, 2.0
    with held_interrupts() as interrupts:
        while step < settings.steps:
            began = time.perf_counter()
            rows, mirrored = batch_rows(settings, len(lightness), step)
            corners = crop_corners(settings, len(rows), step)
            if corners is not None:
                corners = parallel.share(corners)
            rows, mirrored = parallel.share(rows), parallel.share(mirrored)
            x, y = to_batch(lightness, chroma, rows, mirrored, place, corners)
            for optimiser in optimisers:
                for group in optimiser.param_groups:
                    group["lr"] = group["initial_lr"] * learning_rate_factor(settings, step)
            loss = training_step(network, optimisers, settings, x, y).item()
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
                candidate = predictor(network, optimisers, settings, lightness)
                keep_best(candidate, validation, history, checked.index(step))
            now = time.monotonic()
            if first and now - said > pause:
                print(progress_line(settings, history, started, step), flush=True)
                if watch:
                    watch(step, history)
                said, pause = now, min(60.0, 2 * pause)
            if now - saved > max(CHECKPOINT_SECONDS, save_cost / CHECKPOINT_SHARE):
                save()
                saved = time.monotonic()
                save_cost = saved - now
            if interrupts:
                save()
                raise KeyboardInterrupt
    if checked:
        best = {k: torch.from_numpy(history[f"best.{k}"]) for k in network.state_dict()}
        network.load_state_dict(best)
    else:
        network = predictor(network, optimisers, settings, lightness)
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
