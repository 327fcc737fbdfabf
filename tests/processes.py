"""Trainings in processes of their own, which tests kill, starve and run side by side."""

import multiprocessing
import os
import resource
import shutil
import sys
import time

import pandas as pd
import pytest

from poolae import UserError, data
from poolae.train import runs

KILLS = int(os.environ.get("KILLS", 2))
SAME = ["weights.safetensors", "scores.csv"] + [
    f"{name}.npy" for name in ("predictions", "scrambled", "snapshots", "gradients")
]

# Processes are forked from one that has imported everything, so that most kills hit the work.
context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(
    [
        "poolae.train.runs",
        "poolae.train.loop",
        "poolae.data.daisies",
        "torch._dynamo",
        "pytest",
        "nbformat",
        "imagehash",
        "scipy.ndimage",
        "skimage.color.colorconv",
        "skimage.metrics._structural_similarity",
        "skimage.transform._warps",
        "skimage.util",
    ]
)

needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def train(folder, settings, checkpoint_seconds=0.0, file_limit=None):
    """Train in a process of its own, on one thread, with checkpoints as often as they can be."""
    from poolae.train import loop

    os.environ |= {"POOLAE_BUILD": str(folder), "JOBS": str(os.cpu_count())}
    loop.CHECKPOINT_SECONDS, loop.CHECKPOINT_SHARE = checkpoint_seconds, 1.0
    (folder / "begun").touch()
    with open(os.devnull, "w") as sys.stdout:
        if file_limit:
            data.load_for(settings)
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))
        try:
            runs.train(settings, folder / "results")
        except UserError as error:
            (folder / "said").write_text(str(error))


def start(target, folder, *arguments):
    """Start a process in `folder` and return it once it has begun."""
    folder.mkdir(exist_ok=True)
    (folder / "begun").unlink(missing_ok=True)
    process = context.Process(target=target, args=(folder, *arguments))
    process.start()
    while process.exitcode is None and not (folder / "begun").exists():
        time.sleep(0.005)
    return process


def whole(folder, settings):
    """Return a run's results as far as time does not change them."""
    run = folder / "results" / "runs" / settings.name
    results = {name: (run / name).read_bytes() for name in SAME}
    losses = pd.read_csv(run / "losses.csv")["loss"].to_numpy()
    assert not (run / "checkpoint.pt").exists()
    return results | {"losses": losses.tobytes()}
