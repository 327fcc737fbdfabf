"""The Makefile as its user runs it: the whole paper at the smallest scale, and refusals."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HIDDEN = ("MAKE", "MFLAGS", "CONDA", "POOLAE", "JOBS")  # of a `make test` around this
COPIED = ("Makefile", "environment.yml", "requirements.lock", "pyproject.toml")

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of the project that uses this environment, and its own `build`."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in COPIED:
        shutil.copy(ROOT / name, folder)
    for name in ("notebooks", "poolae", "figures"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    environment = folder / ".venv"
    (environment / "bin").mkdir(parents=True)
    (environment / "bin" / "python").write_text(
        '#!/bin/sh\ntest "$1 $2" != "-m pip" || exit 1  # this environment is not ours\n'
        f'PYTHONPATH="{folder}" exec "{sys.executable}" "$@"\n'
    )
    (environment / "bin" / "python").chmod(0o755)
    (environment / ".poolae-ready").touch()
    return folder


def make(checkout, *arguments):
    environment = {k: v for k, v in os.environ.items() if not k.startswith(HIDDEN)}
    environment["PYTHONPATH"] = str(checkout)  # the kernels' too
    return subprocess.run(
        ["make", *arguments], cwd=checkout, env=environment, capture_output=True, text=True
    )


def test_help_names_every_target():
    done = make(ROOT)
    assert done.returncode == 0
    for target in ("report", "archive", "test", "lab", "figures", "lint", "clean"):
        assert f"\n{target} " in f"\n{done.stdout}"


@pytest.mark.fault(
    "parameters and folders that cannot be", "one sentence, before anything is trained"
)
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["DEPTHS=4"], "pool_depth is 4: choose 0, 1, 2 or 3."),
        (["DEPTHS=one"], "'one': give whole numbers"),
        (["DEPTHS="], "DEPTHS and SEEDS each need at least one number"),
        (["PROFILE=fast"], "profile is 'fast': choose smoke, quick, standard, long, large, full"),
        (["RECIPE=best"], "recipe is 'best'"),
        (["DATA=nowhere"], "nowhere"),
        (["DATA=empty"], "empty"),
        (["DATA=one-image"], "one-image"),
        (["DATA=a-text-named-jpg"], "a-text-named-jpg"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(checkout, arguments, sentence):
    for name in ("empty", "one-image", "a-text-named-jpg"):
        (checkout / name).mkdir(exist_ok=True)
    (checkout / "a-text-named-jpg" / "text.jpg").write_text("This is no photograph.")
    from PIL import Image

    Image.new("RGB", (64, 64), "green").save(checkout / "one-image" / "green.png")
    done = make(checkout, "report", "PROFILE=smoke", *arguments)
    assert done.returncode != 0
    from_make = ("make: ***", "make[1]: ***")
    said = [line for line in done.stderr.splitlines() if not line.startswith(from_make)]
    assert len([line for line in said if sentence in line]) == 1, done.stderr
    assert not any("Traceback" in line for line in said)


@pytest.mark.fault("a build/ that cannot be written", "one sentence")
def test_an_unwritable_build_is_refused_in_one_sentence(checkout):
    # A file where the folder should be stops root too, whom permissions do not.
    aside = checkout / "aside"
    build = checkout / "build"
    if build.exists():
        build.rename(aside)
    build.write_text("")
    try:
        done = make(checkout, "report", "PROFILE=smoke")
    finally:
        build.unlink()
        if aside.exists():
            aside.rename(build)
    assert done.returncode != 0
    assert "Cannot write" in done.stderr and "build" in done.stderr
    assert "Traceback" not in done.stderr
