"""Notebooks executed with papermill, whole or not at all."""

from __future__ import annotations

import ast
import json
import logging
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import nbformat
import papermill
from papermill.exceptions import PapermillExecutionError
from traitlets.config import Config

from poolae.files import HEADLESS, RUN_FILE, cannot_write
from poolae.machine import commit, processor
from poolae.settings import UserError

LONGEST = 76  # bytes of a folder in which a socket's path, of 103 at most on macOS, finds room
# What makes a kernel, or matplotlib in it, another one than ours.
STRANGE = ("JUPYTER_PATH", "JUPYTER_CONFIG_PATH", "PYTHONSTARTUP", "MPLBACKEND")


def execute_notebook(
    source: Path,
    target: Path,
    given: Mapping,
    required: Mapping | None = None,
    timeout: float | None = None,
) -> None:
    """Execute `source` with papermill and put the result at `target` only if every cell ran.

    A notebook that fails is kept beside `target` as `<name>.failed.ipynb`. One that ran has in
    its metadata, under `poolae`, the `commit` of this checkout when it began, the `processor`,
    and, if a run was trained beside it, that run's `device` and `precision`.

    Parameters
    ----------
    source, target
        Notebook to execute, and where the executed one belongs.
    given
        Parameters; those that the notebook does not declare are left out.
    required
        Names that it must declare.
    timeout
        Seconds that one cell may take; None for any.

    Raises
    ------
    UserError
        If a required parameter is not declared, a cell fails, does not run or takes too long, or
        the kernel dies.
    """
    if not source.exists():
        raise UserError(f"{source} does not exist: choose a notebook of notebooks/.")
    about = {"commit": commit(), "processor": processor()}
    declared = _declared(source)
    if unknown := sorted(set(required or {}) - set(declared)):
        raise UserError(
            f"{source} has no parameter {unknown[0]!r}: choose among {', '.join(sorted(declared))}."
        )
    failed = target.with_name(f"{target.stem}.failed.ipynb")
    partial = target.with_name(f".{os.getpid()}-{target.name}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _clean_home() as sockets:
            papermill.execute_notebook(
                source,
                partial,
                {k: v for k, v in given.items() if k in declared},
                kernel_name="python3",
                progress_bar=False,
                execution_timeout=timeout,
                stdout_file=sys.stdout,
                stderr_file=sys.stderr,
                extra_arguments=["--IPKernelApp.log_level=50"],  # it calls a normal end an error
                # Kernels that start at once can race for a TCP port; a socket has a name.
                config=Config(KernelManager={"transport": "ipc", "ip": f"{sockets}/kernel"}),
            )
        notebook = nbformat.read(partial, 4)
        if fault := fault_in(notebook):
            raise UserError(f"{source}{fault}. The notebook as far as it ran is {failed}.")
        notebook.metadata.poolae = about | _run_beside(target)
        nbformat.write(notebook, partial)
        os.replace(partial, target)
        failed.unlink(missing_ok=True)
    except KeyboardInterrupt:
        # nbclient leaves a task behind, whose traceback would bury the one line that matters.
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)
        raise
    except Exception as error:
        # A cell's timeout is an OSError too, but not one of the system, which has a number.
        if isinstance(error, OSError) and error.errno is not None:
            raise cannot_write(target, error) from error
        if partial.exists():
            os.replace(partial, failed)
        raise UserError(_in_words(error, source, failed)) from error
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def _clean_home() -> Iterator[str]:
    """Keep a user's own settings out of the kernels of the block; yield a folder for sockets.

    Files that IPython runs at its start, kernels that somebody installed as "python3" and their
    like would change what a notebook shows.
    """
    folders = (tempfile.gettempdir(), "/tmp", "/var/tmp")
    short = [at for at in folders if len(os.fsencode(at)) < LONGEST and os.access(at, os.W_OK)]
    if not short:
        raise UserError(
            f"The path {folders[0]} is too long for a kernel's sockets, which have room for "
            f"{LONGEST} bytes: set TMPDIR to a folder with a shorter one."
        )
    with tempfile.TemporaryDirectory(prefix="poolae-", dir=short[0]) as folder:
        names = ("IPYTHONDIR", *(f"JUPYTER_{kind}_DIR" for kind in ("CONFIG", "DATA", "RUNTIME")))
        settings = Path(folder, "matplotlibrc")
        settings.touch()  # empty: it stands before those of a home
        clean = dict.fromkeys(names, folder) | {HEADLESS: "1", "MATPLOTLIBRC": str(settings)}
        if not os.access(os.path.expanduser("~"), os.W_OK):  # matplotlib would say so in a cell
            clean["MPLCONFIGDIR"] = folder
        logging.getLogger("papermill").setLevel(logging.ERROR)  # of its own reading of parameters
        with patch.dict(os.environ, clean):
            for name in STRANGE:
                os.environ.pop(name, None)
            yield folder


def _declared(source: Path) -> list[str]:
    """Return the names that a notebook's cell of parameters assigns.

    Papermill's own reading leaves out every line with a second "=", be it in a comment.
    """
    cells = nbformat.read(source, 4).cells
    tagged = [cell for cell in cells if "parameters" in cell.metadata.get("tags", ())]
    try:
        tree = ast.parse("\n".join(cell.source for cell in tagged[:1]))
    except SyntaxError as error:
        raise UserError(f"{source}: its parameters are not Python ({error}): mend them.") from None
    names = (node for node in ast.walk(tree) if isinstance(node, ast.Name))
    return [name.id for name in names if isinstance(name.ctx, ast.Store)]


def fault_in(notebook: nbformat.NotebookNode) -> str:
    """Say what keeps an executed notebook from being whole, to go after its name; or nothing."""
    for position, cell in enumerate(notebook.cells, start=1):
        code = cell.cell_type == "code"
        faults = {
            "is papermill's report of an error": any(
                tag.startswith("papermill-error") for tag in cell.metadata.get("tags", [])
            ),
            "ended in an error": any(o.output_type == "error" for o in cell.get("outputs", [])),
            "did not run": code and cell.source.strip() and cell.execution_count is None,
        }
        for fault, there in faults.items():
            if there:
                return f", cell {position} {fault}"
    stopped = notebook.metadata.get("papermill", {}).get("exception")
    return " stopped before its end" if stopped else ""


def _run_beside(target: Path) -> dict[str, str]:
    path = target.with_name(RUN_FILE)
    if not path.exists():
        return {}
    about = json.loads(path.read_text())
    return {"device": about["device"], "precision": about["settings"]["precision"]}


def _in_words(error: Exception, source: Path, failed: Path) -> str:
    """Say what became of an execution, of which `failed` holds what there is."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, PapermillExecutionError):
        if error.ename == "UserError":
            return error.evalue
        cell, message = error.cell_index + 1, f"{error.ename}: {error.evalue}"
    else:  # nbclient has a type for each way in which a kernel dies
        cell, message = _last_cell_begun(failed), f"{type(error).__name__}: {error}"
        message = message.splitlines()[0].rstrip(".: ")
        died = type(error).__name__ == "DeadKernelError"
        message += ", most likely for lack of memory (try JOBS=1)." if died else "."
    return f"{source}, cell {cell}: {message} The notebook as far as it ran is {failed}."


def _last_cell_begun(partial: Path) -> int:
    """Return the number, from 1, of the cell in which an execution broke off; 0 if before all."""
    cells = nbformat.read(partial, 4).cells if partial.exists() else []
    # Papermill calls it complete whatever became of it, but notes no start of those that follow.
    begun = [cell.metadata.get("papermill", {}).get("start_time") for cell in cells]
    return max((i for i, start in enumerate(begun, 1) if start), default=0)
