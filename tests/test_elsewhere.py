"""What macOS and other Pythons lack or do in their own way, with stand-ins for it here."""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from poolae import files, machine
from poolae.train import runs

ROOT = Path(__file__).parents[1]
needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


@pytest.fixture
def make(tmp_path):
    """Return what make prints where sed knows no \\t and ends its last line, as BSD's does."""
    sed = shutil.which("sed")
    (tmp_path / "sed").write_text(
        '#!/bin/sh\ncase "$*" in *\\\\[tn]*) echo "sed: an escape" >&2; exit 1;; esac\n'
        f'{sed} "$@" | awk 1\n'
    )
    (tmp_path / "sed").chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    hidden = ("MAKE", "MFLAGS", "CONDA", "POOLAE", "JOBS")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(hidden)} | {"PATH": path}

    def run(*arguments):
        command = ["make", *arguments]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        assert done.returncode == 0 and not done.stderr, done.stderr
        return done.stdout

    return run


@needs_make
def test_help_stands_in_columns_without_gnu_sed(make):
    lines = make("help").splitlines()
    assert "test        run every test" in lines and "report      train" in lines[1]


@needs_make
@pytest.mark.parametrize("data", ["synthetic", "my photographs/", "dots.and-dashes"])
def test_results_go_to_one_folder_without_gnu_sed(make, data):
    variables = make("-pn", "help", f"DATA={data}").splitlines()
    assert f"RESULTS := build/{runs.results_folder(data, 'quick').name}" in variables


def test_threads_are_shared_out_where_nobody_tells_the_cores_of_a_process(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    monkeypatch.setenv("JOBS", "2")
    assert machine.settle_in() == 4


def test_macos_is_asked_for_its_processor(tmp_path, monkeypatch):
    (tmp_path / "sysctl").write_text(
        '#!/bin/sh\n[ "$*" = "-n machdep.cpu.brand_string" ] && echo M9'
    )
    (tmp_path / "sysctl").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(Path, "read_text", absent)  # /proc/cpuinfo
    monkeypatch.setattr(sys, "platform", "darwin")
    assert machine.processor() == "M9"
    (tmp_path / "sysctl").unlink()
    assert machine.processor() == (platform.processor() or platform.machine())


def absent(path):
    raise FileNotFoundError(path)


def test_code_has_one_digest_under_every_python(tmp_path, monkeypatch):
    """What Python 3.11 makes of it: later ones leave out empty lists, or add some."""
    monkeypatch.setattr(files, "__file__", str(tmp_path / "files.py"))
    (tmp_path / "m.py").write_text("class C:\n    def f(self):\n        return [self]\n")
    assert (
        files.code_digest("m") == "290ca682cabc130f013ee06a2e0f1b97f032b2a2b1598dec4de263898fc0539b"
    )
