"""Faults done to results, disk, memory, environment and notebooks."""

import errno
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from processes import needs_make
from test_make import make

from poolae import UserError, building, files, machine, make_settings
from poolae.train import runs

ROOT = Path(__file__).parents[1]
TINY = dict(profile="smoke", size=16, base_width=2, images=24, steps=60)


# --- Results ------------------------------------------------------------------------


@pytest.mark.fault("a build beside another in the same results", "waits for nobody: one sentence")
def test_a_results_folder_is_claimed_until_the_last_process_ends(tmp_path):
    # The claimant ends at once; what it started holds on.
    code = (
        "import subprocess; from poolae import building; building.claim('results'); "
        "subprocess.Popen(['sleep', '60'], close_fds=False)"
    )
    subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, check=True, process_group=0,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    group = int((tmp_path / "results" / ".lock").read_text())
    with pytest.raises(UserError, match=f"process group {group}.*wait until it has ended"):
        building.claim(tmp_path / "results")
    os.killpg(group, signal.SIGKILL)
    time.sleep(0.2)
    building.claim(tmp_path / "results")


def refuse(*_):
    raise OSError(errno.ENOLCK, "No locks available")


@pytest.mark.fault("a file system that ignores or refuses locks", "one sentence; the build goes on")
@pytest.mark.parametrize("flock", [lambda *_: None, refuse], ids=["ignores", "refuses"])
def test_a_lock_that_locks_nobody_out_is_said(tmp_path, monkeypatch, capsys, flock):
    building.claim(tmp_path / "local")
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(fcntl, "flock", flock)
    building.claim(tmp_path / "far")
    said = capsys.readouterr().out
    assert said.startswith(f"The file system of {tmp_path / 'far'} ignores locks")
    assert said.count("\n") == 1
    with building.held(tmp_path / "far"):
        assert capsys.readouterr().out == ""


@pytest.mark.fault("`poolae train` while `make report` trains the same run", "waits, trains once")
def test_who_wants_a_run_that_is_being_made_waits(tmp_path):
    entered = []

    def enter():
        with building.held(tmp_path):
            entered.append(time.monotonic())

    with building.held(tmp_path):
        other = threading.Thread(target=enter)
        other.start()
        time.sleep(0.3)
        assert not entered
    other.join(10)
    assert entered


# --- Disk and memory -----------------------------------------------------------------


@pytest.mark.fault("files left half written by killed processes", "removed by a later build")
def test_leftovers_are_removed_once_nobody_writes_them(tmp_path):
    left = [".0123abcd-images-1.npy", ".4242-02_train.ipynb"]
    kept = ["images-1.npy", ".lock", ".gitkeep", "02_train.ipynb"]
    (tmp_path / "runs").mkdir()
    for name in left + kept:
        for path in (tmp_path / name, tmp_path / "runs" / name):
            path.write_text("half")
            os.utime(path, (1, 1))
    fresh = tmp_path / ".89abcdef-images-1.npy"
    fresh.write_text("being written")
    removed = building.remove_leftovers(tmp_path)
    assert sorted(p.name for p in removed) == sorted(2 * left)
    assert {p.name for p in tmp_path.iterdir()} == {*kept, "runs", fresh.name}


def test_the_names_of_temporaries_are_those_of_leftovers(tmp_path):
    with files.replacing(tmp_path / "file") as temporary:
        temporary.write_text("")
        assert building.LEFTOVER.fullmatch(temporary.name)


@pytest.mark.fault("a power cut while a file is replaced", "the old file or the new one, whole")
def test_content_is_on_the_disk_before_its_name(tmp_path, monkeypatch):
    done = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: done.append(os.fstat(fd).st_ino) or fsync(fd))
    monkeypatch.setattr(os, "replace", lambda *a: done.append("named") or replace(*a))
    with files.replacing(tmp_path / "file") as temporary:
        temporary.write_text("new")
        number = temporary.stat().st_ino
    assert done == [number, "named"]


@pytest.mark.fault("too little memory for the profile", "one sentence with both numbers")
def test_what_does_not_fit_into_memory_is_refused_with_the_numbers(monkeypatch):
    monkeypatch.setattr(machine, "available_memory", lambda: 2**30)
    machine.check_memory(2**30, "Training pool0-seed0")
    with pytest.raises(UserError) as caught:
        machine.check_memory(3 * 2**30, "Training pool0-seed0")
    assert str(caught.value) == (
        "Training pool0-seed0 needs about 3,072 MiB of memory, and 1,024 MiB are free: "
        "close other programs, set JOBS=1 or choose a smaller PROFILE."
    )
    monkeypatch.setattr(machine, "available_memory", lambda: None)
    machine.check_memory(2**60, "Training pool0-seed0")  # nobody knows better


@pytest.mark.fault("a container whose memory is used up", "what is left of its limit counts")
@pytest.mark.fault("a SLURM job that may have less than its machine", "what is left of it counts")
def test_memory_is_what_is_left_of_the_limit_of_container_or_job(tmp_path, monkeypatch):
    def limit(group, most):
        group.mkdir(parents=True, exist_ok=True)
        (group / "memory.stat").write_text("anon 5\ninactive_file 300\n")
        (group / "memory.current").write_text("1700\n")
        (group / "memory.max").write_text(f"{most}\n")
        return machine.available_memory()

    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    monkeypatch.setattr(machine, "OWN_CGROUP", tmp_path / "own")
    whole = machine.available_memory()
    assert limit(tmp_path, 2000) == 2000 - 1700 + 300
    (tmp_path / "own").write_text("0::/slurm/job_7/step_0\n")
    assert limit(tmp_path / "slurm" / "job_7", 1900) == 1900 - 1700 + 300
    limit(tmp_path / "slurm" / "job_7", "max")
    assert limit(tmp_path, "max") == pytest.approx(whole, rel=0.2)


@pytest.mark.skipif(sys.platform != "linux", reason="asks sysconf")
def test_available_memory_is_less_than_there_is():
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 2**20 < machine.available_memory() < total


@pytest.mark.fault("too little memory for a training", "refused before its first step")
def test_a_training_that_does_not_fit_is_refused_before_it_starts(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "available_memory", lambda: 2**20)
    with pytest.raises(UserError, match=r"Training pool0-seed0 needs about \d+ MiB.* 1 MiB are"):
        runs.train(make_settings(0, **TINY), tmp_path)
    assert not any(tmp_path.rglob("*.safetensors"))


LARGE_RUN = """
import sys, threading, time
import numpy as np
from poolae import make_settings
from poolae.data import images
from poolae.train import runs

def noise(item, size, colour_profiles):
    rng = np.random.default_rng(item.origin[0])
    apart = rng.integers(0, 2**63, 4).astype(np.uint64)
    return rng.random((size, size, 3), np.float32), apart, ""

def watch():  # anonymous memory: what is mapped from the disk can be given up at any time
    while True:
        lines = dict(line.split(":", 1) for line in open("/proc/self/status"))
        peak[0] = max(peak[0], int(lines["RssAnon"].split()[0]) / 1024)
        time.sleep(0.01)

images.picture, images.MEASURED, peak = noise, 100, [0]
threading.Thread(target=watch, daemon=True).start()
for n in map(int, sys.argv[2:]):
    peak[0] = 0
    settings = make_settings(0, profile="smoke", images=n, size=64, steps=2)
    run = runs.train(settings, f"{sys.argv[1]}/{n}")
    time.sleep(0.1)
    print(n, run.about["training_images"], len(run.scores), peak[0])
"""


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs Linux's /proc")
@pytest.mark.fault("3,000 images instead of 1,000", "a run of them needs no more memory")
def test_a_run_takes_bounded_memory(tmp_path):
    largest = os.environ.get("IMAGES", "3000")
    done = subprocess.run(
        [sys.executable, "-c", LARGE_RUN, tmp_path, "100", "1000", largest],
        env={**os.environ, "PYTHONPATH": str(ROOT), "POOLAE_BUILD": str(tmp_path)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    rows = [line.split() for line in done.stdout.splitlines() if line[0].isdigit()]
    (_, trained, scored, small), (_, more, still, large) = rows[1:]
    print(f"peak {float(small):.0f} MiB at 1,000 images, {float(large):.0f} at {largest}")
    assert int(more) > 2 * int(trained) and scored == still == "100"
    # In memory, 1,500 training images more would be 70 MiB.
    assert float(large) - float(small) < 40, done.stdout


# --- The environment -----------------------------------------------------------------

FAKE_PYTHON = """#!/bin/sh
echo "$@" >> calls
case "$*" in
  *sys.version_info*) test ! -e old ;;
  *"-m venv"*) mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
  *"-m pip"*) if test -e cut; then rm cut; kill -9 $$; fi
              if test -e unbuilt; then echo "No matching distribution found" >&2; exit 1; fi ;;
esac
"""


@pytest.fixture
def bare(tmp_path):
    """A checkout without an environment, and a Python that only notes what it is asked."""
    for name in ("Makefile", "environment.yml", "requirements.lock"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "fake").write_text(FAKE_PYTHON)
    (tmp_path / "fake").chmod(0o755)

    def lint():
        (tmp_path / "calls").write_text("")
        done = make(tmp_path, "lint", "PYTHON=./fake")
        return done, (tmp_path / "calls").read_text()

    return tmp_path, lint


@needs_make
@pytest.mark.fault("a Python that is too old", "one sentence; no environment is made")
def test_an_old_python_is_refused(bare):
    folder, lint = bare
    (folder / "old").touch()
    done, calls = lint()
    assert done.returncode != 0 and "poolae needs Python 3.11.5 or newer" in done.stderr
    assert not (folder / ".venv").exists() and "pip" not in calls


@needs_make
@pytest.mark.fault("no compiler", "none is asked for: ready-made packages, or one sentence")
def test_nothing_is_compiled(bare):
    folder, lint = bare
    done, calls = lint()
    assert done.returncode == 0 and "--only-binary :all:" in calls
    (folder / ".venv" / ".poolae-ready").unlink()
    (folder / "unbuilt").touch()
    done, _ = lint()
    assert done.returncode != 0 and not (folder / ".venv" / ".poolae-ready").exists()
    assert "environment.yml could not be installed" in done.stderr and "PYTHON=" in done.stderr


@needs_make
@pytest.mark.fault("kill -9 of the first installation", "the next make installs again")
@pytest.mark.fault("a .venv older than environment.yml", "the next make brings it up to date")
@pytest.mark.fault("a .venv whose Python does not run", "the next make makes it anew")
def test_an_environment_is_mended(bare):
    folder, lint = bare
    ready = folder / ".venv" / ".poolae-ready"
    (folder / "cut").touch()
    done, _ = lint()
    assert done.returncode != 0 and not ready.exists()
    done, calls = lint()
    assert done.returncode == 0, done.stderr
    assert ready.exists() and calls.count("-m pip install") == 2 and "-m venv" not in calls
    done, calls = lint()
    assert done.returncode == 0 and "pip" not in calls

    later = time.time() + 10
    os.utime(folder / "environment.yml", (later, later))
    done, calls = lint()
    assert done.returncode == 0 and calls.count("-m pip install") == 2 and "-m venv" not in calls

    later += 10
    os.utime(folder / "environment.yml", (later, later))
    (folder / ".venv" / "bin" / "python").write_text("half")
    done, calls = lint()
    assert done.returncode == 0 and "-m venv --clear .venv" in calls


# --- Notebooks -----------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cell", "sentence"),
    [
        pytest.param(
            "import time; time.sleep(60)",
            "cell 2: CellTimeoutError",
            marks=pytest.mark.fault(
                "a cell that takes longer than its timeout", "the build stops and names the cell"
            ),
        ),
        pytest.param(
            "import os; os.kill(os.getpid(), 9)",
            "cell 2: DeadKernelError: Kernel died, most likely for lack of memory",
            marks=pytest.mark.fault("kill -9 of a kernel", "the build stops and names the cell"),
        ),
    ],
)
def test_a_notebook_that_breaks_off_names_its_cell(tmp_path, cell, sentence):
    from test_notebooks import notebook

    source = notebook(tmp_path, "x = 1", cell, "print('after')")
    done = subprocess.run(
        [sys.executable, "-m", "poolae", "execute", "--results", ".", "--timeout", "5",
         "made.ipynb", "out.ipynb"],
        cwd=source.parent, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 2, done.stderr
    assert last.startswith(f"poolae: made.ipynb, {sentence}"), done.stderr
    assert not (tmp_path / "out.ipynb").exists()
    kept = nbformat.read(tmp_path / "out.failed.ipynb", 4).cells
    assert [c.execution_count for c in kept][0] and kept[-1].execution_count is None


# --- The table in the report's appendix ------------------------------------------------


def test_the_table_of_faults_is_that_of_the_tests(request):
    items = request.session.items
    if {item.path for item in items} < set(Path(__file__).parent.glob("test_*.py")):
        pytest.skip("needs all tests to be collected")
    tried = {marker.args for item in items for marker in item.iter_markers("fault")}
    table = pd.read_csv(ROOT / "poolae" / "paper" / "reference" / "faults.csv")
    stale = "run: python -m pytest -m fault --faults=poolae/paper/reference/faults.csv"
    assert set(table.itertuples(index=False, name=None)) == tried, stale
