"""Trainings killed at random moments, run twice at once, refused by the disk.

    KILLS=30 python -m pytest tests/test_killed_trainings.py

kills so many trainings of each recipe.
"""

import errno
import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest
from processes import KILLS, start, train, whole

from poolae import make_settings
from poolae.data import images as opening

TINY = dict(profile="smoke", size=16, base_width=2, images=24, steps=60)


def decode(folder):
    """Draw more images than there is time for, in two processes."""
    (folder / "begun").touch()
    opening.open_images("synthetic", 64, n=5000, workers=2, cache=folder / "cache")


@pytest.fixture(scope="module", params=["corrected", "published"])
def uninterrupted(request, tmp_path_factory):
    """The settings of a tiny run, its results when nothing disturbs it, and its seconds."""
    settings = make_settings(1, recipe=request.param, **TINY)
    folder = tmp_path_factory.mktemp("uninterrupted")
    process = start(train, folder, settings)
    began = time.monotonic()
    process.join()
    assert process.exitcode == 0
    return settings, whole(folder, settings), time.monotonic() - began


@pytest.mark.slow
@pytest.mark.fault(
    "kill -9 at random moments of drawing, training and writing results",
    "goes on from the last checkpoint; weights, losses and predictions are the same bytes",
)
def test_a_run_killed_again_and_again_ends_as_one_that_was_not(uninterrupted, tmp_path, capsys):
    settings, expected, seconds = uninterrupted
    seed = random.randrange(10**6)
    moment, killed, resumed = random.Random(seed), 0, 0
    for attempt in range(10 * KILLS):
        folder = tmp_path / str(attempt)
        while True:
            process = start(train, folder, settings)
            if killed < KILLS:
                process.join(moment.uniform(0, seconds))
                if process.exitcode is None:
                    process.kill()
                    process.join()
                    killed += process.exitcode == -signal.SIGKILL
                    resumed += any(folder.rglob("checkpoint.pt"))
                    continue
            process.join()
            assert process.exitcode == 0
            break
        assert whole(folder, settings) == expected, f"moments of seed {seed}"
        if killed >= KILLS:
            break
    assert killed >= KILLS
    with capsys.disabled():
        print(
            f"\n{settings.recipe}: {killed} kills in {attempt + 1} runs of {seconds:.1f} s, "
            f"{resumed} with a checkpoint; same bytes (seed {seed})"
        )


@pytest.mark.parametrize("uninterrupted", ["corrected"], indirect=True)
@pytest.mark.slow
@pytest.mark.fault("two processes train the same run", "one whole run, the same bytes")
@pytest.mark.fault("two runs train at once (JOBS=2)", "the same bytes as one alone")
def test_trainings_at_once_do_not_disturb_each_other(uninterrupted, tmp_path):
    settings, expected, _ = uninterrupted
    folders = [tmp_path / name for name in ("alone", "shared", "shared")]
    processes = [start(train, folder, settings) for folder in folders]
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert whole(folders[0], settings) == whole(folders[1], settings) == expected


@pytest.mark.parametrize("uninterrupted", ["corrected"], indirect=True)
@pytest.mark.slow
@pytest.mark.fault(
    "the disk refuses a checkpoint", "one sentence with file and free space; nothing lost"
)
def test_a_checkpoint_that_does_not_fit_is_said_and_nothing_is_lost(uninterrupted, tmp_path):
    settings, expected, seconds = uninterrupted
    process = start(train, tmp_path, settings)
    while not any(tmp_path.rglob("checkpoint.pt")) and process.exitcode is None:
        time.sleep(0.005)
    process.kill()
    process.join()
    (checkpoint,) = tmp_path.rglob("checkpoint.pt")
    before = checkpoint.read_bytes()
    start(train, tmp_path, settings, 0.0, 10_000).join()
    said = (tmp_path / "said").read_text()
    assert said.startswith(f"Cannot write {checkpoint}: {os.strerror(errno.EFBIG)} (")
    assert "MiB free" in said and "\n" not in said
    assert checkpoint.read_bytes() == before
    start(train, tmp_path, settings).join()
    assert whole(tmp_path, settings) == expected


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.fault("kill -9 of a process that decodes in parallel", "its workers end with it")
def test_no_worker_outlives_a_killed_decoder(tmp_path):
    def children(parent):
        of_parent = f"\nPPid:\t{parent}\n"
        found = []
        for status in Path("/proc").glob("[0-9]*/status"):
            try:
                if of_parent in status.read_text():
                    found.append(int(status.parent.name))
            except OSError:  # it has ended
                continue
        return found

    def state(pid):
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return None

    process = start(decode, tmp_path)
    deadline = time.monotonic() + 60
    while len(workers := children(process.pid)) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.2)
    process.kill()
    process.join()
    deadline = time.monotonic() + 10  # on a busy machine; else they wait for work for ever
    while (
        alive := [pid for pid in workers if state(pid) not in (None, "Z")]
    ) and time.monotonic() < deadline:
        time.sleep(0.05)
    for pid in alive:
        os.kill(pid, signal.SIGKILL)
    assert len(workers) == 2 and not alive
