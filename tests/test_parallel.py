"""One network trained by two processes under torchrun: the network that one process trains.

How a batch is divided changes the rounding of its sums, and an output that falls on the other
side of zero changes the sign of its gradient. So both compute in float64 here, where neither is
to be seen; as they are trained in earnest, they can only be compared loosely. Most processes are
started as torchrun would start them, which takes a second less for each; this file is also the
script that torchrun runs.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from processes import context
from torch import nn

from poolae import building, machine, make_settings
from poolae.__main__ import cli, main
from poolae.models import build
from poolae.settings import DEPTHS, UserError
from poolae.train import loop, parallel, runs

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (dist.is_available() and dist.is_gloo_available()), reason="PyTorch without gloo"
    ),
]

STEPS, KILLED = 12, 7  # both processes are killed when they have done this many of the second fit
# 17 images in batches of 8 leave one for the last, in which one of two processes has none.
IMAGES = 17
BATCHES = (6, 5, 1)
NETWORKS = [*(("published", depth) for depth in DEPTHS), ("skip", 3), ("lossless", 3)]
FITS = {
    "adamw": dict(optimiser="adamw"),
    "muon": dict(optimiser="muon"),
    "published": dict(recipe="published", learning_rate=1e-3),
}


def precisely(patch):
    """Compute in float64 with one thread, and write a checkpoint after every step."""
    patch.setattr(torch, "autocast", lambda *_: contextlib.nullcontext())
    patch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    patch.setattr(loop, "CHECKPOINT_SHARE", np.inf)
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)


def pictures(n):
    lightness = np.random.default_rng(1).random((n, 1, 16, 16))
    return lightness, np.concatenate([lightness, 1 - lightness], 1)


def take_step(family, depth, n):
    """Return the loss of a training step on `n` images, all gradients, and all statistics."""
    network = build(depth, base_width=4, family=family).to(memory_format=torch.channels_last)
    parallel.adapt(network)
    rows, mirrored = parallel.share(np.arange(n)), parallel.share(np.arange(n) % 2 == 0)
    x, y = loop.to_batch(*pictures(n), rows, mirrored, "cpu")
    assert len(x) == len(rows)
    loss = loop.training_step(network, [], make_settings(depth, precision="float32"), x, y)
    gradients = {f"gradient {k}": p.grad for k, p in network.named_parameters()}
    return {"loss": loss, **gradients, **dict(network.named_buffers())}


def fit(name, folder):
    """Return the weights and losses of a whole training."""
    small = dict(profile="smoke", size=16, steps=STEPS, base_width=4)
    settings = make_settings(1, precision="float32", **{**small, **FITS[name]})
    lightness, chroma = pictures(IMAGES)
    network, history = loop.fit(
        settings, lightness, chroma, lightness[0], Path(folder) / f"{name}.pt"
    )
    return network.state_dict() | {k: torch.from_numpy(history[k]) for k in ("loss", "snapshots")}


def script(task, folder):
    """What each of the processes does under torchrun."""
    precisely(pytest.MonkeyPatch())
    with parallel.together():
        assert parallel.processes() == 2
        rank = dist.get_rank()
        if task == "steps":
            made = [take_step(*network, n) for network in NETWORKS for n in BATCHES]
        elif task == "one fails":
            if rank == 1:
                raise UserError("The disk is on fire.")
            made = dist.barrier()
        elif task == "one is killed":
            dist.barrier()  # both have joined
            if rank == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            made = dist.barrier()
        elif task == "all diverge":
            loop.training_step = lambda *_: torch.tensor(np.nan)
            made = fit("adamw", folder)
        elif task == "they differ":
            made = parallel.agree("data", rank)
        else:
            if task == "all are killed":
                step = loop.training_step
                steps = iter(range(STEPS + KILLED))

                def killed(*arguments):
                    if next(steps, None) is None:
                        os.kill(os.getpid(), signal.SIGKILL)
                    return step(*arguments)

                loop.training_step = killed
            made = {name: fit(name, folder) for name in FITS}
        torch.save(made, Path(folder) / f"{task}-{rank}.pt")


def torchrun(*arguments, **env):
    """Run two processes on this machine, with a thread each."""
    hidden = ("SLURM", "MAKE", "JOBS")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(hidden)}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    return subprocess.run(
        [*command, "--nproc-per-node", "2", *map(str, arguments)],
        env={**kept, "OMP_NUM_THREADS": "1", **env},
        capture_output=True,
        text=True,
        timeout=300,
    )


def member(task, folder, rank, port, arguments):
    """Be one of the processes, as torchrun would start it."""
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "localhost", "MASTER_PORT": str(port), "JOBS": str(os.cpu_count()),
    }  # fmt: skip
    sys.stdout = sys.stderr = (folder / f"{task}-{rank}.txt").open("w", buffering=1)
    if task == "command":
        sys.exit(main(arguments))
    try:
        script(task, folder)
    except UserError as error:
        sys.exit(f"poolae: {error}")


def start(task, folder, *arguments):
    """Start two processes that do `script`, or the command with these arguments."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    of_all = [(task, folder, rank, port, arguments) for rank in (0, 1)]
    members = [context.Process(target=member, args=of_one) for of_one in of_all]
    for process in members:
        process.start()
    return members


def end(task, folder, members):
    """Wait for them; return their exit codes and what they said."""
    for process in members:
        process.join(300)
    said = "".join((folder / f"{task}-{k}.txt").read_text() for k in (0, 1))
    return [process.exitcode for process in members], said


def together(task, folder, *arguments):
    return end(task, folder, start(task, folder, *arguments))


def both(task, folder):
    """Return what each process of `script` made."""
    codes, said = together(task, folder)
    assert codes == [0, 0], said
    return [torch.load(folder / f"{task}-{rank}.pt") for rank in (0, 1)]


def assert_close(two, one, tolerance):
    assert two.keys() == one.keys()
    for key, value in one.items():
        scale = max(1e-3, value.abs().max().item())
        torch.testing.assert_close(two[key], value, atol=tolerance * scale, rtol=0, msg=key)


@pytest.fixture
def precise(monkeypatch):
    threads = torch.get_num_threads()
    precisely(monkeypatch)
    yield
    torch.set_default_dtype(torch.float32)
    torch.set_num_threads(threads)


def test_a_step_of_two_processes_is_that_of_one(tmp_path, precise):
    first, second = both("steps", tmp_path)
    cases = [(*network, n) for network in NETWORKS for n in BATCHES]
    for case, ours, theirs in zip(cases, first, second, strict=True):
        assert all(torch.equal(ours[key], theirs[key]) for key in ours), case
        assert_close(ours, take_step(*case), 1e-9)


@pytest.mark.fault(
    "both processes of a data-parallel training are killed", "goes on to the same weights"
)
def test_a_training_by_two_processes_is_that_of_one_even_if_killed(tmp_path, precise):
    whole, parts, one = (tmp_path / name for name in ("whole", "parts", "one"))
    for folder in (whole, parts, one):
        folder.mkdir()
    first, second = both("fits", whole)
    for name in FITS:
        assert all(torch.equal(first[name][key], second[name][key]) for key in first[name]), name
        assert_close(first[name], fit(name, one), 1e-9)

    assert together("all are killed", parts)[0] == [-signal.SIGKILL] * 2
    left = {path.stem: torch.load(path, weights_only=True)["step"] for path in parts.glob("*.pt")}
    assert left == {"adamw": STEPS, "muon": KILLED}
    for ours in both("fits", parts):
        for name in FITS:
            assert all(torch.equal(ours[name][key], first[name][key]) for key in ours[name]), name


@pytest.mark.parametrize(
    "task, sentence",
    [
        ("one fails", "The disk is on fire."),
        ("one is killed", "Another process of this training has ended or cannot be reached: "),
        ("all diverge", "the loss is nan at step 1"),
        ("they differ", "The processes of this training do not find the same data: "),
    ],
)
@pytest.mark.fault(
    "one of the processes of a data-parallel training fails, is killed or finds other data",
    "all end; one sentence",
)
def test_one_process_that_fails_ends_all_with_one_sentence(tmp_path, task, sentence):
    if task == "one is killed":
        run = torchrun(__file__, task, tmp_path)  # which ends the other
        codes, said = [run.returncode] * 2, run.stderr
    else:
        codes, said = together(task, tmp_path)
    assert codes == [1, 1]
    assert said.count(sentence) == 1, said
    assert "poolae.settings.UserError" not in said
    assert not list(tmp_path.glob("*.pt"))


@pytest.fixture
def command(monkeypatch, build):
    """What trains a small run, and the folder of the run once one process has trained it."""
    monkeypatch.setenv("JOBS", str(os.cpu_count()))  # one thread
    command = ["train", "pool1-seed0", "--profile", "smoke", "--results"]
    results = build / "by one process"
    assert main([*command, str(results)]) == 0
    return command, results / "runs" / "pool1-seed0"


def test_the_command_makes_the_run_that_one_process_makes(tmp_path, command, monkeypatch):
    command, alone = command
    codes, said = together("command", tmp_path, *command, str(tmp_path / "two"))
    assert codes == [0, 0], said

    settings = make_settings(1, profile="smoke")
    monkeypatch.setattr(loop, "fit", None)  # both are there and valid
    two, one = (runs.train(settings, folder) for folder in (tmp_path / "two", alone.parents[1]))
    assert (two.about["processes"], one.about["processes"]) == (2, 1)
    assert two.about["fingerprint"] == one.about["fingerprint"]
    np.testing.assert_allclose(two.losses.loss, one.losses.loss, rtol=0.03)  # bfloat16
    errors = [run.scores.mean_absolute_error.mean() for run in (two, one)]
    assert errors[0] == pytest.approx(errors[1], rel=0.03)
    assert not list(tmp_path.rglob("checkpoint.pt"))


@pytest.mark.fault("torchrun trains a run that `make report` is making", "waits, trains nothing")
def test_processes_wait_for_who_makes_the_same_run(tmp_path, command):
    command, made = command
    folder = tmp_path / "results" / "runs" / made.name
    with building.held(folder):
        members = start("command", tmp_path, *command, str(tmp_path / "results"))
        deadline = time.monotonic() + 60
        said = tmp_path / "command-0.txt"
        while not said.exists() or "is making" not in said.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        shutil.copytree(made, folder, dirs_exist_ok=True)
    codes, said = end("command", tmp_path, members)
    assert codes == [0, 0], said
    assert (folder / "run.json").read_bytes() == (made / "run.json").read_bytes()


def test_one_process_joins_nobody(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "1")
    values = torch.arange(3.0)
    with parallel.together(), parallel.first_ahead():
        parallel.agree("nothing", object())
        assert parallel.processes() == 1
        assert parallel.is_first()
        assert parallel.share(values) is values
        assert parallel.mean(values) == 1
    norm = nn.Sequential(nn.BatchNorm2d(1))
    parallel.adapt(norm)
    assert type(norm[0]) is nn.BatchNorm2d


def test_processes_that_were_not_started_by_torchrun_are_refused(monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    assert main(["train", "pool1-seed0", "--profile", "smoke"]) == 2
    assert "WORLD_SIZE is 2" in capsys.readouterr().err


@pytest.mark.parametrize(
    "env, threads",
    [
        ({}, 8),
        ({"JOBS": "2"}, 4),
        ({"JOBS": "16"}, 1),
        ({"LOCAL_WORLD_SIZE": "4"}, 2),
        ({"JOBS": "2", "LOCAL_WORLD_SIZE": "2"}, 2),
        # What SLURM gives to a task is shared with no other job ...
        ({"JOBS": "2", "SLURM_CPUS_PER_TASK": "3"}, 3),
        ({"JOBS": "2", "SLURM_CPUS_PER_TASK": "1"}, 1),
        # ... but among the task's own processes.
        ({"JOBS": "2", "SLURM_CPUS_PER_TASK": "4", "LOCAL_WORLD_SIZE": "2"}, 2),
    ],
)
def test_a_process_takes_its_share_of_the_cores(monkeypatch, env, threads):
    for key in ("JOBS", "SLURM_CPUS_PER_TASK", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(key, raising=False)
    for key, value in env.items():
        monkeypatch.setenv(key, value)
    taken = []
    monkeypatch.setattr(torch, "set_num_threads", taken.append)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(8), raising=False)
    assert machine.settle_in() == threads
    assert taken == [threads]
    # What is no PyTorch takes its share, too, unless a user has said how many.
    monkeypatch.setattr(cli, "main", lambda *_, **__: taken.append(os.environ["OMP_NUM_THREADS"]))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    main([])
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    main([])
    assert taken == [threads, str(threads), "5"]


@pytest.mark.fault(
    "LAUNCH hands a run to a machine that does not share the results folder",
    "refused; one sentence",
)
def test_results_that_are_not_those_of_make_are_refused(tmp_path, capsys):
    shared, other = tmp_path / "shared", tmp_path / "other"
    choice = ["--profile", "smoke", "--depths", "1"]
    assert main(["prepare", *choice, "--results", str(shared), "--shared"]) == 0
    word = (shared / ".shared").read_text()
    shutil.copytree(shared, other)  # even of the same files
    assert main(["prepare", *choice, "--results", str(shared), "--shared"]) == 0
    assert (shared / ".shared").read_text() != word
    word = (shared / ".shared").read_text()
    capsys.readouterr()

    def execute(results):
        notebook = ["no.ipynb", str(tmp_path / "out.ipynb"), "--results", str(results)]
        assert main(["execute", *choice, "--seen", word, *notebook]) == 2
        return capsys.readouterr().err

    assert "no.ipynb does not exist" in execute(shared)  # it came so far
    for unshared in (other, tmp_path / "absent"):
        assert f"{unshared} on " in (said := execute(unshared))
        assert "is not the folder that make builds" in said


if __name__ == "__main__":
    try:
        script(*sys.argv[1:])
    except UserError as error:
        sys.exit(f"poolae: {error}")
