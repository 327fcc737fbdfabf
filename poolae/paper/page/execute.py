"""Notebooks executed with papermill, whole or not at all."""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from poolae.files import HEADLESS, RUN_FILE, cannot_write
from poolae.machine import commit, processor
from poolae.settings import UserError

if TYPE_CHECKING:
    pass


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
    import papermill
    from papermill.exceptions import PapermillExecutionError
    from traitlets.config import Config

    if not source.exists():
        raise UserError(f"{source} does not exist: choose a notebook of notebooks/.")
    about = {"commit": commit(), "processor": processor()}
    declared = papermill.inspect_notebook(str(source))
    if unknown := sorted(set(required or {}) - set(declared)):
        raise UserError(
            f"{source} has no parameter {unknown[0]!r}: choose among {', '.join(sorted(declared))}."
        )
    failed = target.with_name(f"{target.stem}.failed.ipynb")
    partial = target.with_name(f".{os.getpid()}-{target.name}")
    sockets = tempfile.TemporaryDirectory(prefix="poolae-")
    os.environ[HEADLESS] = "1"  # the kernel inherits it
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
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
            # Kernels that start at the same time can race for a TCP port; a socket has a name.
            config=Config(KernelManager={"transport": "ipc", "ip": f"{sockets.name}/kernel"}),
        )
        _check_complete(partial, source, failed)
        _note_origin(partial, about | _run_beside(target))
    except PapermillExecutionError as error:
        _keep(partial, failed)
        if error.ename == "UserError":
            raise UserError(error.evalue) from None
        raise UserError(
            f"{source}, cell {error.cell_index + 1}: {error.ename}: {error.evalue} "
            f"The notebook as far as it ran is {failed}."
        ) from None
    except KeyboardInterrupt:
        # nbclient leaves a task behind, whose traceback would bury the one line that matters.
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)
        raise
    except UserError:
        raise
    except Exception as error:  # nbclient has a type for each way in which a kernel dies
        # Its timeout is an OSError too, but not one of the system, which has a number.
        if isinstance(error, OSError) and error.errno is not None:
            raise cannot_write(target, error) from error
        _keep(partial, failed)
        cell = _last_cell_begun(failed)
        message = (str(error).splitlines() or [""])[0].rstrip(".")
        died = type(error).__name__ == "DeadKernelError"
        cause = ", most likely for lack of memory (try JOBS=1)" * died
        raise UserError(
            f"{source}, cell {cell}: {type(error).__name__}: {message}{cause}. "
            f"The notebook as far as it ran is {failed}."
        ) from error
    else:
        os.replace(partial, target)
        failed.unlink(missing_ok=True)
    finally:
        sockets.cleanup()
        partial.unlink(missing_ok=True)


def _check_complete(executed: Path, source: Path, failed: Path) -> None:
    import nbformat

    notebook = nbformat.read(executed, 4)
    code = [(i, c) for i, c in enumerate(notebook.cells, 1) if c.cell_type == "code" and c.source]
    skipped = [i for i, cell in code if cell.execution_count is None]
    if skipped or notebook.metadata.papermill.get("exception"):
        _keep(executed, failed)
        at = f"cell {skipped[0]} did not run" if skipped else "a cell left the kernel"
        raise UserError(f"{source}: {at}. The notebook as far as it ran is {failed}.")


def _run_beside(target: Path) -> dict[str, str]:
    path = target.with_name(RUN_FILE)
    if not path.exists():
        return {}
    about = json.loads(path.read_text())
    return {"device": about["device"], "precision": about["settings"]["precision"]}


def _note_origin(executed: Path, about: Mapping[str, str]) -> None:
    import nbformat

    notebook = nbformat.read(executed, 4)
    notebook.metadata.poolae = dict(about)
    nbformat.write(notebook, executed)


def _last_cell_begun(partial: Path) -> int:
    """Return the number, from 1, of the cell in which an execution broke off; 0 if before all."""
    import nbformat

    if not partial.exists():
        return 0
    cells = nbformat.read(partial, 4).cells
    # Papermill calls it complete whatever became of it, but notes no start of those that follow.
    begun = [cell.metadata.get("papermill", {}).get("start_time") for cell in cells]
    return max((i for i, start in enumerate(begun, 1) if start), default=0)


def _keep(partial: Path, failed: Path) -> None:
    if partial.exists():
        os.replace(partial, failed)
