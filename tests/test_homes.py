"""Homes, paths and shells that were not thought of: strange names, strange settings."""

import io
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import matplotlib as mpl
import nbformat
import numpy as np
import pytest
from pictures import fill
from processes import needs_make
from test_make import COPIED, HIDDEN
from test_notebooks import notebook, papermill

from poolae.__main__ import main
from poolae.paper import figures, show
from poolae.paper.page.execute import execute_notebook
from poolae.settings import UserError
from poolae.train import runs

ROOT = Path(__file__).parents[1]
STRANGE = 'My "Projects" (1) it\'s $HOME $(x) `y` 100% #2 [é] {z}'


# --- Checkouts and DATA --------------------------------------------------------------


@pytest.fixture(scope="module")
def stub(tmp_path_factory):
    """A checkout in a strange folder, whose Python notes what it is asked for and does nothing."""
    folder = tmp_path_factory.mktemp("homes") / STRANGE
    folder.mkdir()
    for name in COPIED:
        shutil.copy(ROOT / name, folder)
    for name in ("notebooks", "poolae", "figures"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    python = folder / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(
        "#!/bin/sh\n"
        "printf '%s\\n' \"$*\" >> asked\n"
        'case "$3" in\n'
        'alone) shift 5; exec "$@" ;;\n'
        'prepare) test -f "$results/inputs.json" && exit\n'
        '  mkdir -p "$results"; touch "$results/inputs.json" ;;\n'
        'execute) out=$(echo "$*" | sed "s: --run .*::; s:.* ::")\n'
        '  mkdir -p "$(dirname "$out")"; touch "$out" ;;\n'
        'report) touch "$results/report.html" ;;\n'
        "esac\n"
    )
    python.chmod(0o755)
    (folder / ".venv" / ".poolae-ready").touch()
    return folder


CHOICE = ("PROFILE=smoke", "DEPTHS=0 1", "OTHERS=dilated-seed0")
RESULTS = "build/synthetic-smoke"


def make(checkout, *arguments, **variables):
    environment = {k: v for k, v in os.environ.items() if not k.startswith(HIDDEN)}
    return subprocess.run(
        ["make", *arguments],
        cwd=checkout,
        env=environment | {"results": RESULTS} | variables,
        capture_output=True,
        text=True,
    )


@needs_make
@pytest.mark.fault(
    "spaces, brackets, quotes, $, # and % in the path of the checkout", "the report is built there"
)
def test_a_checkout_may_lie_anywhere(stub):
    done = make(stub, "report", *CHOICE)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == f"{stub}/{RESULTS}/report.html"
    assert (stub / RESULTS / "report.html").exists()


@needs_make
@pytest.mark.fault(
    "spaces, brackets, quotes, $, # and % in DATA", "the folder of that name, and nothing is run"
)
@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
@pytest.mark.parametrize("data", [STRANGE, "Gänseblümchen", "a,b:c/", "$(shell touch ran)"])
def test_data_is_the_folder_of_that_name_and_results_where_the_library_looks(stub, data, locale):
    (stub / "asked").unlink(missing_ok=True)
    given = f"{stub}/{data}"
    results = f"build/{runs.results_folder(given, 'smoke').name}"
    made = make(stub, f"{results}/inputs.json", f"DATA={given}", *CHOICE, LC_ALL=locale)
    assert made.returncode == 0, made.stderr
    (asked,) = (stub / "asked").read_text().splitlines()
    assert asked.startswith(f"-m poolae prepare --data {given} --profile smoke ")
    assert f" --results {results} " in asked
    assert not (stub / "ran").exists()


@needs_make
@pytest.mark.slow
def test_strange_data_is_read(tmp_path):
    folder = fill(tmp_path / STRANGE, [f"{k}.jpg" for k in range(6)])
    arguments = shlex.split(
        make(
            ROOT, "-n", "record", f"DATA={folder}", "PROFILE=smoke", "-o", "report"
        ).stdout.splitlines()[-1]
    )
    which = arguments[arguments.index("record") + 1 :]
    which[which.index("--results") + 1] = str(tmp_path / "results")
    assert main(["prepare", *which]) == 0
    noted = json.loads((tmp_path / "results" / "inputs.json").read_text())
    assert (noted["data"], noted["images"]) == (str(folder), 6)


@needs_make
@pytest.mark.fault(
    "a conda environment whose path make cannot take", "one sentence, before anything is made"
)
def test_an_environment_in_a_strange_folder_is_refused(stub, tmp_path):
    papermill = tmp_path / "my env" / "bin" / "papermill"
    papermill.parent.mkdir(parents=True)
    papermill.touch(mode=0o755)
    done = make(stub, "report", CONDA_PREFIX=str(tmp_path / "my env"))
    assert done.returncode == 2
    (sentence,) = done.stderr.splitlines()
    assert "has characters in its path that make cannot take: create it" in sentence


@pytest.mark.fault("native Windows", "one sentence: WSL")
def test_windows_is_told_of_wsl(stub, monkeypatch, capsys):
    if shutil.which("make"):
        done = make(stub, "report", OS="Windows_NT")
        assert done.returncode == 2 and "install WSL" in done.stderr
    monkeypatch.setattr(sys, "platform", "win32")
    assert main(["figures"]) == 2
    assert "install WSL" in capsys.readouterr().err


# --- What runs again -----------------------------------------------------------------

DRAWN = {"01_data", "03_evaluate", "04_samples", "pool0", "pool1"}
TRAINED = DRAWN | {"dilated"}
ROOMS = ("data", "models", "train", "metrics/scores.py")


def expected(path):
    """Return what a change of this file of the package has to execute again."""
    inside = path.relative_to("poolae")
    if str(inside).startswith(("paper/page", "paper/reference", "__main__")):
        return set()
    is_science = str(inside).startswith(ROOMS) or len(inside.parts) == 1
    return TRAINED if is_science else DRAWN


@needs_make
@pytest.mark.fault(
    "a module, template or table changes after the report was made",
    "rendered again; drawn or trained again where it decides that",
)
def test_a_change_of_any_file_runs_what_it_decides(stub):
    assert make(stub, "report", *CHOICE).returncode == 0
    command = ["-n", "-o", f"{RESULTS}/inputs.json", f"{RESULTS}/report.html", *CHOICE]
    assert "poolae" not in make(stub, *command).stdout
    now = max(path.stat().st_mtime for path in (stub / "build").rglob("*")) + 5
    folders = (stub / "poolae").rglob("*")
    files = [path for path in folders if path.is_file() and "daisies_described" not in path.name]
    assert len(files) > 50
    for path in files:
        before = path.stat()
        os.utime(path, (now, now))
        lines = [line for line in make(stub, *command).stdout.splitlines() if " poolae " in line]
        os.utime(path, (before.st_atime, before.st_mtime))
        executed = {line.split("--run ")[-1].split("/")[-1] for line in lines if "execute" in line}
        executed = {word.strip().removesuffix(".ipynb").removesuffix("-seed0") for word in executed}
        relative = path.relative_to(stub)
        assert executed == expected(relative), relative
        assert any(" report " in line for line in lines), relative


# --- A user's own settings -----------------------------------------------------------

SETTINGS = {
    "lines.linewidth": 9, "axes.facecolor": "red", "savefig.facecolor": "blue",
    "xtick.direction": "in", "xtick.minor.visible": True, "svg.fonttype": "none",
    "axes.prop_cycle": mpl.cycler(color=["red"]), "patch.linewidth": 5, "savefig.pad_inches": 1,
    "path.simplify": False, "figure.figsize": (1, 1), "text.color": "green",
}  # fmt: skip
DRAWING = """
from poolae.paper import figures, show
figure = figures.new_figure(3, 2)
figure.subplots().plot([1, 3, 2], label="x")
show.show(figure, "name", "caption", "alt")
"""


def draw():
    figure = figures.new_figure(3, 2)
    axes = figure.subplots()
    axes.plot([1, 3, 2], label="x")
    axes.hist(np.arange(5))
    axes.legend()
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return show.figure_html(figure, "name", "caption", "alt"), file.getvalue()


@pytest.mark.fault("a user's matplotlibrc", "no byte of a figure changes")
def test_a_users_settings_of_matplotlib_change_no_figure():
    with mpl.rc_context():
        plain = draw()
    with mpl.rc_context(SETTINGS):
        assert draw() == plain


def hostile(home):
    """Fill a home with what would change a kernel, or what it draws."""
    for path, text in {
        ".ipython/profile_default/startup/00.py": "x = 666",
        ".ipython/profile_default/ipython_kernel_config.py": "c.IPKernelApp.exec_lines = ['x = 1']",
        ".config/matplotlib/matplotlibrc": "lines.linewidth: 9\nnonsense: 1\n",
        ".local/share/jupyter/kernels/python3/kernel.json": json.dumps(
            {"argv": ["false"], "display_name": "Python 3", "language": "python"}
        ),
        ".jupyter/jupyter_config.py": "raise SystemExit",
        "start.py": "x = 2",
    }.items():
        (home / path).parent.mkdir(parents=True, exist_ok=True)
        (home / path).write_text(text)
    return {
        "HOME": str(home),
        "PYTHONSTARTUP": str(home / "start.py"),
        "JUPYTER_PATH": str(home / ".local/share/jupyter"),
        "JUPYTER_PREFER_ENV_PATH": "0",
        "MPLBACKEND": "nonsense",
        "TMPDIR": str(home / ("a" * max(1, 94 - len(str(home))))),
    }


@pytest.mark.slow
@pytest.mark.fault(
    "files in ~/.ipython, PYTHONSTARTUP, a matplotlibrc", "no byte of a notebook changes"
)
@pytest.mark.fault("another kernel installed as python3 in a home", "the checkout's own runs")
@pytest.mark.fault("MPLBACKEND with a name of nothing", "figures are drawn")
@pytest.mark.fault("a TMPDIR too long for a socket", "kernels start")
@pytest.mark.fault("a home that is not there", "a notebook runs and says nothing of it")
@pytest.mark.parametrize("home", ["home", None])
def test_a_strange_home_changes_no_byte_of_a_notebook(tmp_path, monkeypatch, home):
    variables = (
        hostile(tmp_path / home) if home else {"HOME": "/proc/none", "TMPDIR": str(tmp_path)}
    )
    Path(variables["TMPDIR"]).mkdir(exist_ok=True)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    source = notebook(tmp_path, "y = 1", "print(globals().get('x'))", DRAWING)
    done = papermill(source, tmp_path / "out.ipynb")
    assert done.returncode == 0, done.stderr
    printed, drawn = (cell.outputs for cell in nbformat.read(tmp_path / "out.ipynb", 4).cells[1:])
    assert [output.text for output in printed] == ["None\n"]
    (output,) = drawn
    figure = figures.new_figure(3, 2)
    figure.subplots().plot([1, 3, 2], label="x")
    assert output.data["text/html"] == show.figure_html(figure, "name", "caption", "alt")


@pytest.mark.fault("no folder short enough for a socket", "one sentence")
def test_a_socket_without_room_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(UserError, match="too long for a kernel's sockets.*set TMPDIR"):
        execute_notebook(notebook(tmp_path, "x = 1"), tmp_path / "out.ipynb", {})


# --- Parameters ----------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.fault("a parameter line with a second =, in a comment even", "the value that is given")
@pytest.mark.fault("spaces, brackets, quotes, $, # and % in the path of HOME", "notebooks run")
def test_a_second_equals_sign_loses_no_value(tmp_path, monkeypatch):
    (tmp_path / STRANGE).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / STRANGE))
    cell = "size = 1  # such as size=3\nname = 'a=b'\nleft = right = 0\nkept: int = 4"
    source = notebook(tmp_path, cell, "print(size, name, left, kept)")
    done = papermill(source, tmp_path / "out.ipynb", size=5, name="c=d", left=7)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "5 c=d 7 4"


def test_parameters_that_are_not_python_are_refused(tmp_path):
    with pytest.raises(UserError, match="its parameters are not Python"):
        execute_notebook(notebook(tmp_path, "x = = 1"), tmp_path / "out.ipynb", {})
