"""Programs of others that check our files, each in an environment of its own."""

import os
import subprocess
import sys
import venv

import pytest


def tool(folder, *packages):
    """Install packages, and return what runs one of their programs and gives what it printed.

    Skips the test where pip can reach no index.
    """
    venv.create(folder / "venv")
    programs = folder / "venv" / "bin"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    command = [sys.executable, "-m", "pip", f"--python={programs / 'python'}", "install"]
    command += ["--retries=1", *packages]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if "(from versions: none)" in done.stderr:
        pytest.skip(f"pip reaches no index that has {' and '.join(packages)}")
    assert done.returncode == 0, done.stderr

    def run(program, *arguments, fails=False):
        done = subprocess.run(
            [programs / program, *arguments], env=environment, capture_output=True, text=True
        )
        assert (done.returncode != 0) == fails, done.stdout + done.stderr
        return done.stdout

    return run
