"""Whole reports at the smallest scale: killed at random moments, rebuilt, started twice at once.

    KILLS=30 python -m pytest tests/test_builds.py

kills a fourth as many makes.
"""

import os
import random
import shutil
import signal
import subprocess
import time

import nbformat
import pytest
from processes import KILLS, SAME, needs_make, start, train, whole
from test_make import HIDDEN, checkout, make  # noqa: F401 - checkout is a fixture

from poolae import make_settings
from poolae.train import runs


def start_make(folder, *arguments):
    environment = {k: v for k, v in os.environ.items() if not k.startswith(HIDDEN)}
    environment["PYTHONPATH"] = str(folder)
    return subprocess.Popen(
        ["make", *arguments], cwd=folder, env=environment, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def kill(process):
    """Kill a make and its group; Jupyter's kernels are not in it and have to notice."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def check_targets(folder):
    """Every notebook that counts as built is whole; every run that counts as finished loads."""
    for path in folder.rglob("build/*/**/*.ipynb"):
        if not path.name.startswith(".") and not path.stem.endswith(".failed"):
            cells = nbformat.read(path, 4).cells
            assert all(c.execution_count for c in cells if c.cell_type == "code" and c.source)
    for path in folder.glob("build/*/runs/*/run.json"):
        (run,) = runs.find(path.parents[2], [make_settings(int(path.parent.name[4]), **SMOKE)])
        run.network()


SMOKE = dict(profile="smoke")
CHOICE = ["report", "PROFILE=smoke", "DEPTHS=1"]


@pytest.mark.slow
@needs_make
@pytest.mark.fault(
    "kill -9 of `make report` at random moments",
    "no half target counts as built; the next make goes on; same predictions",
)
def test_a_report_killed_again_and_again_is_that_of_one_that_was_not(checkout, tmp_path, capsys):  # noqa: F811
    settings = make_settings(1, **SMOKE)
    start(train, tmp_path, settings, 20.0).join()
    expected = whole(tmp_path, settings)
    seed = random.randrange(10**6)
    moment, killed = random.Random(seed), 0
    while killed < max(1, KILLS // 4):
        process = start_make(checkout, *CHOICE)
        try:
            process.wait(moment.uniform(1, 25))
            assert process.returncode == 0
            shutil.rmtree(checkout / "build")
        except subprocess.TimeoutExpired:
            kill(process)
            killed += 1
            check_targets(checkout)
    done = make(checkout, *CHOICE)
    assert done.returncode == 0, done.stderr
    check_targets(checkout)
    results = checkout / "build" / "synthetic-smoke"
    report = results / "report.html"
    assert done.stdout.splitlines()[-1] == str(report)
    page = report.read_text()
    assert "Figure 1." in page and "References" in page
    for name in SAME:
        found = (results / "runs" / settings.name / name).read_bytes()
        assert found == expected[name], f"{name} of {settings.name}, moments of seed {seed}"
    with capsys.disabled():
        print(f"\nmake report: {killed} kills; same bytes (seed {seed})")


@pytest.mark.slow
@needs_make
def test_a_report_is_rebuilt_as_little_as_possible(checkout):  # noqa: F811
    results = checkout / "build" / "synthetic-smoke"
    done = make(checkout, *CHOICE)  # which is there, if the test above ran
    assert done.returncode == 0, done.stderr
    again = make(checkout, *CHOICE)
    assert again.stdout.splitlines() == [str(results / "report.html")]

    (weights,) = results.rglob("weights.safetensors")
    trained = weights.stat().st_mtime_ns
    with (checkout / "poolae" / "paper" / "figures.py").open("a") as file:
        file.write("\n# another colour\n")
    # The others follow: test_homes.py has what each file decides.
    notebook = weights.with_name("02_train.ipynb").relative_to(checkout)
    redrawn = make(checkout, str(notebook), *CHOICE[1:])
    assert redrawn.returncode == 0, redrawn.stderr
    assert redrawn.stdout.count("execute") == 1
    assert weights.stat().st_mtime_ns == trained


@pytest.mark.slow
@needs_make
@pytest.mark.fault("two `make report` at once", "the second refuses in one sentence")
def test_a_second_make_is_refused_while_the_first_lives(checkout):  # noqa: F811
    first = start_make(checkout, "report", "PROFILE=smoke", "DEPTHS=2", "LAUNCH=sleep 60;")
    lock = checkout / "build" / "synthetic-smoke" / ".lock"
    deadline = time.monotonic() + 20
    # An earlier build may have left its lock's file, with its own number in it.
    while not (lock.exists() and lock.read_text() == str(first.pid)):
        assert time.monotonic() < deadline, "the first make never took the lock"
        time.sleep(0.05)
    try:
        second = make(checkout, "report", "PROFILE=smoke", "DEPTHS=2", "LAUNCH=false")
    finally:
        kill(first)
    assert second.returncode != 0
    assert f"Another make (process group {first.pid}) is building" in second.stderr
    assert "Traceback" not in second.stderr
    third = make(checkout, "report", "PROFILE=smoke", "DEPTHS=2", "LAUNCH=false")
    assert third.returncode != 0 and "Another make" not in third.stderr
