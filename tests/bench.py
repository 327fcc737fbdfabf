"""How fast, as ratios: both sides measured in turn, in the same run, on the same machine.

`make bench` writes build/bench/bench.csv, which the report shows. Absolute times on a
shared machine mean little; a ratio is the median over pairs, with its range.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
import torch
from torch import nn

from poolae import UserError, data, metrics
from poolae.data import sources
from poolae.data.images import Planes
from poolae.files import build_folder, replacing
from poolae.machine import cores, settle_in
from poolae.metrics import baselines
from poolae.models import build
from poolae.paper import facts
from poolae.settings import DEPTHS, check_choice, make_settings
from poolae.train import loop, precision, runs

SCALES = ((64, 128), (16, 64))  # base width, pixels: the original's, and that of `quick`
BATCH = 16
SWEEP_STEPS = 40
GOALS = ("published pool1 at .05 and .1", "published pool1 at .01 to .1", "lightness table")
FED_IMAGES, FED_STEPS = 20_000, 40
BUDGETS = (50, 100, 150, 200, 300, 450)  # steps, for the time to quality
SPAWN = multiprocessing.get_context("spawn")
CORES = cores()


def plain_network(pool_depth: int, base_width: int, pooling: str = "max5") -> nn.Sequential:
    """Write the published network down by hand, transposed convolutions and all."""

    def block(convolution, i, o):
        return [convolution(i, o, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(o)]

    layers, level = [], 2 * base_width
    layers += block(nn.Conv2d, 1, base_width) + block(nn.Conv2d, base_width, level)
    for _ in range(pool_depth):
        pool = nn.MaxPool2d(5, 2, 2) if pooling == "max5" else nn.MaxPool2d(2, 2)
        layers += [pool, *block(nn.Conv2d, level, level), *block(nn.Conv2d, level, 2 * level)]
        level *= 2
    for _ in range(pool_depth):
        layers += block(nn.ConvTranspose2d, level, level)
        layers += [*block(nn.ConvTranspose2d, level, level // 2), nn.Upsample(scale_factor=2)]
        level //= 2
    layers += block(nn.ConvTranspose2d, level, level) + block(nn.ConvTranspose2d, level, base_width)
    return nn.Sequential(*layers, nn.ConvTranspose2d(base_width, 2, 3, padding=1))


def seconds(work: Callable[[], object]) -> float:
    """Return how long `work` takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def make_work(make: Callable[..., Callable], *arguments) -> None:
    """Make what `work` does in this process."""
    global made
    made = make(*arguments)


def do_work() -> None:
    """Do it once."""
    made()


def in_processes(ours: tuple, reference: tuple, repeats: int) -> list[tuple[float, float]]:
    """Time two (function that makes the work, its arguments ...) in turn.

    Each is made and done in a process of its own, so that neither tunes the other.
    """
    with (
        ProcessPoolExecutor(1, SPAWN, make_work, ours) as first,
        ProcessPoolExecutor(1, SPAWN, make_work, reference) as second,
    ):
        sides = (lambda: first.submit(do_work).result()), (lambda: second.submit(do_work).result())
        return in_turn(*sides, repeats)


def in_turn(ours: Callable, reference: Callable, repeats: int) -> list[tuple[float, float]]:
    """Time both, one after the other, `repeats` times, after a first time that is not counted."""
    ours(), reference()
    return [(seconds(ours), seconds(reference)) for _ in range(repeats)]


def row(name: str, case: str, pairs: list[tuple[float, float]], note: str = "") -> dict:
    """Return a row of the table: medians of both sides, and the ratio reference / ours."""
    times = pd.DataFrame(pairs, columns=["ours_s", "reference_s"])
    ratios = times["reference_s"] / times["ours_s"]
    spread = {"ratio": ratios.median(), "ratio_min": ratios.min(), "ratio_max": ratios.max()}
    about = {"repeats": len(pairs), "note": note}
    return {"row": name, "case": case, **times.median(), **spread, **about}


def our_step(depth: int, width: int, size: int) -> Callable:
    """Return one step of our training on random images, on one thread."""
    settle_in()
    torch.set_num_threads(1)
    settings = make_settings(depth, base_width=width, size=size, batch_size=BATCH)
    settings = precision.resolve(settings)
    network = build(depth, width).to(memory_format=torch.channels_last)
    network.start_from(0.5)
    optimisers = loop.make_optimisers(network, settings)
    average = loop.make_average(network, settings)
    x, y = (torch.rand(BATCH, planes, size, size) for planes in (1, 2))
    x, y = (t.to(memory_format=torch.channels_last) for t in (x, y))

    def step() -> None:
        loop.training_step(network, optimisers, settings, x, y).item()
        average.update_parameters(network)

    return step


def plain_step(depth: int, width: int, size: int) -> Callable:
    """Return one step of the original's loop, gradients cleared, on one thread."""
    torch.set_num_threads(1)
    network = plain_network(depth, width)
    optimiser = torch.optim.Adam(network.parameters(), 1e-5, (0.9, 0.99), weight_decay=5e-5)
    x, y = (torch.rand(BATCH, planes, size, size) for planes in (1, 2))

    def step() -> None:
        optimiser.zero_grad()
        loss = nn.functional.l1_loss(nn.functional.hardtanh(network(x), 0, 1), y)
        loss.backward()
        optimiser.step()

    return step


def training_step() -> Iterator[dict]:
    """1: a training step, against the plain loop; 8: its share of the machine's peak.

    On one thread each, which is what a run has where two share two cores.
    """
    torch.set_num_threads(1)
    kind = precision.choose(loop.device()).precision
    peak = peak_flops(getattr(torch, kind))
    for (width, size), depth in itertools.product(SCALES, DEPTHS):
        scale, repeats = (depth, width, size), 3 if width == 64 else 15
        pairs = in_processes((our_step, *scale), (plain_step, *scale), repeats)
        case = f"pool{depth}, width {width}, {size} px"
        measured = row("1 training step", case, pairs, "one thread each")
        yield measured
        # The backward pass costs twice the forward one: gradients of inputs and of weights.
        reached = 6 * BATCH * build(depth, width).macs(size) / measured["ours_s"]
        yield {
            "row": "8 share of peak",
            "case": case,
            "ratio": reached / peak,
            "note": f"{reached / 1e9:.0f} GFLOP/s, of {peak / 1e9:.0f} in matrix products in "
            f"{kind}; operations counted as the network is written",
        }


def peak_flops(kind: torch.dtype, repeats: int = 5) -> float:
    """Return the best floating-point operations per second of large square matrix products."""
    best = 0.0
    for n in (1024, 2048, 3072):
        a, b = torch.rand(n, n).to(kind), torch.rand(n, n).to(kind)
        best = max(best, *(2 * n**3 / seconds(lambda a=a, b=b: a @ b) for _ in range(repeats)))
    return best


def sweep() -> Iterator[dict]:
    """2: the same runs, several at once with the cores shared out, against one after another."""

    def run(jobs: int) -> None:
        pool = ProcessPoolExecutor(jobs, SPAWN, max_tasks_per_child=1)
        with patch.dict(os.environ, {"JOBS": str(jobs)}), pool:
            list(pool.map(train_briefly, sorted(2 * DEPTHS, reverse=True), (0, 1) * len(DEPTHS)))

    case = f"8 runs of {SWEEP_STEPS} steps, width 16, 64 px: {CORES} at once"
    pairs = in_turn(lambda: run(CORES), lambda: run(1), 3)
    yield row("2 sweep", case, pairs, "start of the processes included on both sides")


def train_briefly(depth: int, seed: int) -> None:
    """Train a network of `quick` size for a few steps on random images."""
    settle_in()
    settings = precision.resolve(make_settings(depth, seed, steps=SWEEP_STEPS))
    rng = np.random.default_rng(seed)
    images = rng.random((64, 3, settings.size, settings.size), dtype=np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint.pt"
        loop.fit(settings, images[:, :1], images[:, 1:], images[0, :1], path)


def inference() -> Iterator[dict]:
    """3: prediction of 193 images, against the plain forward pass."""
    for (width, size, repeats), depth in itertools.product(((16, 64, 9), (16, 128, 5)), DEPTHS):
        scale = (depth, width, size)
        pairs = in_processes((our_prediction, *scale), (plain_prediction, *scale), repeats)
        case = f"pool{depth}, width {width}, {size} px, 193 images"
        yield row("3 inference", case, pairs, "float32 on both sides")


def our_prediction(depth: int, width: int, size: int) -> Callable:
    """Return our prediction of 193 random images."""
    settle_in()
    network, lightness = build(depth, width), torch.rand(193, 1, size, size)
    return lambda: network.predict(lightness)


def plain_prediction(depth: int, width: int, size: int) -> Callable:
    """Return the plain forward pass over 193 random images, in the original's batches."""
    network, parts = plain_network(depth, width).eval(), torch.rand(193, 1, size, size).split(BATCH)
    forward = torch.no_grad()(lambda part: nn.functional.hardtanh(network(part), 0, 1))
    return lambda: torch.cat([forward(part) for part in parts])


def accuracy() -> Iterator[dict]:
    """4: the accuracy curve at 101 bounds, against one comparison pass per bound."""
    rng = np.random.default_rng(0)
    true = rng.random((193, 2, 128, 128), dtype=np.float32)
    predicted = true + rng.normal(0, 0.05, true.shape).astype(np.float32)

    def passes() -> np.ndarray:
        errors = np.abs(predicted - true)
        return np.stack([(errors <= b).mean(axis=(1, 2, 3)) for b in metrics.BOUNDS], axis=1)

    assert np.array_equal(passes(), metrics.accuracy_curve(predicted, true))
    pairs = in_turn(lambda: metrics.accuracy_curve(predicted, true), passes, 7)
    yield row("4 accuracy curve", "101 bounds, 193 images of 128 px", pairs)


def draw_photographs(folder: Path) -> Path:
    """Fill a new folder with 200 drawings as a camera would leave them."""
    from PIL import Image

    from poolae.data import daisies

    folder.mkdir()
    for i in range(200):
        pixels = (daisies.draw(i, 400) * 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:04d}.jpg", quality=90)
    return folder


OUR_START = """
import resource
import sys
from poolae import data
data.open_images({folder!r}, {size})
for who in resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN:
    unit = 2**20 if sys.platform == "darwin" else 2**10  # macOS counts bytes
    print(resource.getrusage(who).ru_maxrss / unit)
"""
PLAIN_START = """
import numpy as np
from skimage import color, io, transform
for path in {files!r}:
    image = transform.resize(io.imread(path), ({size}, {size}), anti_aliasing=True)
    color.rgb2lab(image).astype(np.float32)
"""


def data_starts(source: str) -> Iterator[dict]:
    """5: first and second start of the data, against a loop over read, resize and convert."""
    size, note = 128, "imports included on both sides"
    with tempfile.TemporaryDirectory() as temporary:
        cache = Path(temporary) / "build"
        folder = Path(source)
        folder = folder if folder.is_dir() else draw_photographs(Path(temporary) / "images")
        files = [str(p) for p in sorted(folder.rglob("*")) if p.suffix.lower() in sources.SUFFIXES]

        def printed(code: str) -> str:
            code = code.format(folder=str(folder), files=files, size=size)
            environment = {**os.environ, "POOLAE_BUILD": str(cache)}
            return subprocess.check_output([sys.executable, "-c", code], env=environment, text=True)

        def first() -> None:
            nonlocal peaks
            shutil.rmtree(cache, ignore_errors=True)
            peaks = printed(OUR_START)

        peaks = ""
        pairs = [(seconds(first), seconds(lambda: printed(PLAIN_START))) for _ in range(3)]
        own, workers = map(float, peaks.split())
        case, measured = f"{len(files)} files to {size} px", row("5 first start", "", pairs)
        pace = f"{len(files) / measured['ours_s']:.0f} images/s"
        memory = f"peak {own:.0f} MiB and {workers:.0f} MiB in a worker"
        yield {**measured, "case": case, "note": f"{pace}, {memory}; {note}"}
        again = [(seconds(lambda: printed(OUR_START)), plain) for _, plain in pairs]
        yield row("5 second start", case, again, note)


def report() -> Iterator[dict]:
    """6: the report at `quick`: what is not training, a no-op, and a change in plotting."""
    results = build_folder() / "bench" / "report"
    shutil.rmtree(results, ignore_errors=True)
    hidden = ("MAKE", "MFLAGS", "JOBS")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(hidden)}

    def make(*arguments: str) -> float:
        command = ["make", f"RESULTS={results}", *arguments]
        options = {"cwd": Path(__file__).parents[1], "env": environment, "check": True}
        return seconds(lambda: subprocess.run(command, stdout=subprocess.DEVNULL, **options))

    whole = make("report")
    done = [json.loads(path.read_text()) for path in results.glob("runs/*/run.json")]
    training = sum(run["training_seconds"] for run in done) / 2  # two at a time
    # -W: as if that file were new. It does not reach the make that `make report` starts.
    again = "-W", "poolae/paper/figures.py", f"{results}/report.html"
    for name, spent, note in (
        ("6 report", whole, "ratio: share of the time that is not training"),
        ("6 no-op", min(make("report") for _ in range(3)), "nothing changed"),
        ("6 re-plot", make(*again), "as if figures.py had changed"),
    ):
        case = f"quick, {len(done)} runs, 2 at a time"
        ratio = 1 - training / whole if spent is whole else None
        yield {"row": name, "case": case, "ours_s": spent, "ratio": ratio, "note": note}
    shutil.rmtree(results, ignore_errors=True)


def time_to_quality(source: str) -> Iterator[dict]:
    """7: training time until each depth passes the published pool1 curve and the table.

    On all cores.
    """
    settle_in()
    settings = make_settings(0, data=source)
    images = data.load(source, settings.size, settings.seed)
    if not images.images.is_daisies:
        yield {"row": "7 time to quality", "note": "needs DATA to hold the 764 photographs"}
        return
    part, test = images.train, images.test
    table = baselines.fit_lightness_table(*part.in_memory())(test.lightness)
    bar = metrics.mean_absolute_error(table, test.chroma).mean()
    published = facts.published_curves()["pool1"].loc[0.01:]
    for depth in DEPTHS:
        passed: dict[str, tuple[float, str]] = {}
        for steps in BUDGETS:
            settings = precision.resolve(make_settings(depth, data=source, steps=steps))
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "checkpoint.pt"
                given = part.lightness, part.chroma, test.lightness[0], path
                network, history = loop.fit(settings, *given)
            predicted = network.predict_array(test.lightness)
            curve = metrics.accuracy_curve(predicted, test.chroma, published.index).mean(axis=0)
            above = pd.Series(curve > published.to_numpy(), index=published.index)
            error = metrics.mean_absolute_error(predicted, test.chroma).mean()
            spent = history["seconds"].sum()
            reached = above[[0.05, 0.1]].all(), above.all(), error < bar
            for goal in itertools.compress(GOALS, reached):
                passed.setdefault(goal, (spent, f"{spent:.0f} s ({steps} steps)"))
        for goal in GOALS:
            spent, note = passed.get(goal, (None, f"not within {BUDGETS[-1]} steps"))
            case = f"pool{depth}, width 16, 64 px: above {goal}"
            yield {"row": "7 time to quality", "case": case, "ours_s": spent, "note": note}


def feeding() -> Iterator[dict]:
    """9: training from a memory map of 20,000 images, against the same images in memory."""
    size = make_settings(0).size
    with tempfile.TemporaryDirectory(dir=build_folder()) as folder:
        path = Path(folder) / "images.npy"
        shape = (FED_IMAGES, 3, size, size)
        lab = np.lib.format.open_memmap(path, "w+", np.float32, shape)
        for k in range(0, FED_IMAGES, 1000):
            lab[k : k + 1000] = np.random.default_rng(k).random((1000, *shape[1:]), np.float32)
        del lab
        os.sync()  # only clean pages can be dropped
        for depth in DEPTHS:
            mapped, held = (steps_from, depth, path, True), (steps_from, depth, path, False)
            pairs = in_processes(mapped, held, 5)
            case = f"pool{depth}, width 16, {size} px, {FED_IMAGES:,} images"
            note = f"{FED_STEPS} steps; the file is dropped from memory before each time"
            yield row("9 from disk", case, pairs, note)


def steps_from(depth: int, path: Path, disk: bool) -> Callable:
    """Return training steps on random images of a file, read as they come or once at the start."""
    settle_in()
    settings = precision.resolve(make_settings(depth))
    network = build(depth, settings.base_width).to(memory_format=torch.channels_last)
    optimisers = loop.make_optimisers(network, settings)
    whole = None if disk else np.load(path)
    steps = itertools.count()

    def work() -> None:
        if disk:
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        lab = np.load(path, mmap_mode="r") if disk else whole
        everyone = np.arange(len(lab))
        planes = [Planes(lab, everyone, side) for side in (np.s_[:1], np.s_[1:])]
        for step in itertools.islice(steps, FED_STEPS):
            rows = loop.batch_rows(settings, len(lab), step)
            x, y = loop.to_batch(*planes, *rows, torch.device("cpu"))
            loop.training_step(network, optimisers, settings, x, y).item()

    return work


ROWS = {
    "1": training_step, "2": sweep, "3": inference, "4": accuracy, "5": data_starts,
    "6": report, "7": time_to_quality, "9": feeding,
}  # fmt: skip


def run(rows: list[str], source: str) -> Path:
    """Measure the chosen rows, keep the others of bench.csv as they were, and return its path.

    Parameters
    ----------
    rows
        Keys of `ROWS`; the share of the peak comes with "1".
    source
        Data for "5" and "7".
    """
    os.environ.pop("JOBS", None)  # make's: nothing shares the cores with a bench
    path = build_folder() / "bench" / "bench.csv"
    for key in rows:
        measure = ROWS[key]
        measured = measure(source) if measure in (data_starts, time_to_quality) else measure()
        frame = pd.DataFrame(measured)
        print(frame.to_string(), flush=True)
        frame["processor"] = f"{runs.processor()}, {precision.choose(loop.device()).why}"
        frame["commit"] = runs.commit()
        if path.exists():
            old = pd.read_csv(path)
            frame = pd.concat([old[~old["row"].isin(frame["row"])], frame])
        with replacing(path) as temporary:
            frame.sort_values("row", kind="stable").to_csv(
                temporary, index=False, float_format="%.4g"
            )
    return path


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=str.split, default=list(ROWS))
    parser.add_argument("--data", default="synthetic")
    chosen = parser.parse_args()
    try:
        for number in chosen.rows:
            check_choice("ROWS", number, ROWS)
        print(run(chosen.rows, chosen.data))
    except UserError as error:
        sys.exit(f"poolae: {error}")
