"""A sweep through a real SLURM: cancelled midway, resumed, and equal to one without."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
NEEDED = ("make", "munged", "slurmctld", "slurmd", "srun", "taskset")
PATH = os.environ["PATH"] + ":/usr/sbin"
MISSING = [name for name in NEEDED if not shutil.which(name, path=PATH)]
COPIED = ("Makefile", "environment.yml", "requirements.lock", "pyproject.toml")
LAUNCH = "LAUNCH=srun --quiet -n1 -c1 --job-name=$*"  # every job bears the name of its run
SWEEP = ("make", "-j2", "PROFILE=smoke", "DEPTHS=0 1")
NAMES = ("pool0-seed0", "pool1-seed0")
RESULTS = ("weights.safetensors", "scores.csv", "predictions.npy", "gradients.npy", "snapshots.npy")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not os.environ.get("POOLAE_SLURM"), reason="takes minutes: set POOLAE_SLURM=1 to run it"
    ),
    pytest.mark.skipif(bool(MISSING), reason=f"slurm-wlm or munge: no {', '.join(MISSING)}"),
    pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="slurmd needs root"),
    pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="the two nodes have a core each"),
]


def make_checkout(folder):
    """Copy the project, with enough steps and checkpoints to be cancelled between two."""
    folder.mkdir()
    for name in COPIED:
        shutil.copy(ROOT / name, folder)
    for name in ("notebooks", "poolae", "figures"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for module, old, new in (
        ("settings", r"(\"smoke\": .*steps=)24\b", r"\g<1>120"),
        ("train/loop", r"(?m)^CHECKPOINT_SECONDS = \S+", "CHECKPOINT_SECONDS = 0.1"),
        ("train/loop", r"(?m)^CHECKPOINT_SHARE = \S+", "CHECKPOINT_SHARE = 0.5"),
    ):
        path = folder / "poolae" / f"{module}.py"
        text, replaced = re.subn(old, new, path.read_text())
        assert replaced == 1
        path.write_text(text)
    python = folder / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(
        '#!/bin/sh\ntest "$1 $2" != "-m pip" || exit 1  # this environment is not ours\n'
        f'PYTHONPATH="{folder}" exec "{sys.executable}" "$@"\n'
    )
    python.chmod(0o755)
    (folder / ".venv" / ".poolae-ready").touch()
    return folder


def environment(folder, **more):
    hidden = ("MAKE", "MFLAGS", "CONDA", "POOLAE", "JOBS", "SLURM")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(hidden)}
    return {**kept, "PYTHONPATH": str(folder), **more}  # the kernels' too


def make(folder, env, *arguments):
    return subprocess.run([*SWEEP, *arguments], cwd=folder, env=env, capture_output=True, text=True)


@pytest.fixture(scope="module")
def cluster():
    """The `SLURM_CONF` of two nodes on this machine, which end with the tests."""
    # `cat` ends, and the cluster with it, when its input is closed.
    command = [ROOT / "tests" / "slurm" / "run.sh", "sh", "-c", 'echo "$SLURM_CONF"; exec cat']
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as run:
        conf = run.stdout.readline().strip()
        assert conf, "the cluster did not start"
        yield conf
        run.stdin.close()
    assert run.returncode == 0


def test_a_cancelled_sweep_goes_on_and_equals_a_local_one(tmp_path, cluster):
    remote, local = (make_checkout(tmp_path / name) for name in ("remote", "local"))
    slurm = environment(remote, SLURM_CONF=cluster)
    runs = remote / "build" / "synthetic-smoke" / "runs"

    sweep = subprocess.Popen(
        [*SWEEP, "report", LAUNCH],
        cwd=remote,
        env=slurm,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    checkpoint = runs / "pool1-seed0" / "checkpoint.pt"
    while not checkpoint.exists():
        assert sweep.poll() is None, sweep.stdout.read()
        time.sleep(0.05)
    subprocess.run(["scancel", "--name=pool1-seed0"], env=slurm, check=True)
    said, _ = sweep.communicate(timeout=60)
    assert sweep.returncode == 2, said
    assert re.search(r"make\[1\]: \*\*\* .*/runs/pool1-seed0/02_train\.ipynb\] Error", said)
    assert checkpoint.exists()
    assert not (runs / "pool1-seed0" / "run.json").exists()
    assert not (runs / "pool1-seed0" / "02_train.ipynb").exists()
    assert not (runs.parent / "report.html").exists()

    again = make(remote, slurm, "report", LAUNCH)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "pool1-seed0: resumed after step" in again.stdout
    assert (runs.parent / "report.html").exists()

    # A thread for each run, as each job had: another number would change the last digits.
    wanted = [f"build/synthetic-smoke/runs/{name}/02_train.ipynb" for name in NAMES]
    alone = make(local, environment(local), f"JOBS={len(os.sched_getaffinity(0))}", *wanted)
    assert alone.returncode == 0, alone.stdout + alone.stderr
    for name in NAMES:
        ours, theirs = runs / name, local / "build" / "synthetic-smoke" / "runs" / name
        assert json.loads((ours / "run.json").read_text())["threads"] == 1
        assert json.loads((theirs / "run.json").read_text())["threads"] == 1
        for file in RESULTS:
            assert (ours / file).read_bytes() == (theirs / file).read_bytes(), (name, file)
        losses = [np.loadtxt(f / "losses.csv", delimiter=",", skiprows=1) for f in (ours, theirs)]
        np.testing.assert_array_equal(losses[0][:, :2], losses[1][:, :2])  # but not the seconds


@pytest.mark.fault("a job runs where the results are not those of make", "refused; one sentence")
def test_a_job_that_does_not_share_the_results_is_refused(tmp_path, cluster):
    ours, theirs = (make_checkout(tmp_path / name) for name in ("ours", "theirs"))
    wanted = "build/synthetic-smoke/runs/pool1-seed0/02_train.ipynb"
    # A machine with a checkout and results of its own in the place of ours.
    elsewhere = f"{LAUNCH} env --chdir={theirs}"
    made = make(ours, environment(ours, SLURM_CONF=cluster), elsewhere, wanted)
    assert made.returncode == 2
    assert f"{theirs}/build/synthetic-smoke on " in made.stderr
    assert "is not the folder that make builds" in made.stderr
    assert not (theirs / "build").exists()
