"""Executing notebooks with papermill, and gathering them into the report."""

from __future__ import annotations

import json
import logging
import os
import platform
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from poolae.errors import UserError
from poolae.files import (
    HEADLESS,
    REFERENCE,
    RUN_FILE,
    build_folder,
    cannot_write,
    commit,
    processor,
)
from poolae.settings import DEPTHS, Settings

if TYPE_CHECKING:
    import pandas as pd

# jsonschema checks addresses with it if it is there, as it is beside JupyterLab. No notebook has
# any, and importing it compiles a grammar: 1.7 s in front of each execution.
sys.modules.setdefault("rfc3987_syntax", None)


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


def render_report(results: Path, wanted: Sequence[Settings]) -> None:
    """Render the executed notebooks under `results` as `results/report.html`.

    `wanted` are the runs; of those of the published networks, the first seed's are shown.
    """
    from poolae import browser, data, evaluate, report, runs
    from poolae.study import Study

    found = runs.find(results, wanted)
    study = Study(found, results)
    one = found[0].settings
    shown = {f"pool{depth}-{one.name.partition('-')[2]}" for depth in DEPTHS}
    first = [run for run in found if run.name in shown]
    chapters = [report.Section(results / "01_data.ipynb", "data")]
    for run in first:
        parent = None if run is first[0] else first[0].name
        chapters.append(report.Section(run.folder / "02_train.ipynb", run.name, parent=parent))
    chapters.append(report.Section(results / "03_evaluate.ipynb", "evaluate"))
    chapters.append(report.Section(results / "04_samples.ipynb", "samples"))
    report.render(
        chapters,
        results / "report.html",
        title="What does pooling do to an autoencoder that colourises daisies?",
        subtitle="A study of 2020, rebuilt, corrected and answered on a laptop's CPU",
        authors=["The poolae authors"],
        provenance=_provenance(results, found),
        tools=browser.tools(
            first,
            data.load_for(one).test,
            evaluate.curves(study.published, "network"),
            evaluate.curves(study.published, "baseline"),
        ),
    )


def _provenance(results: Path, found: Sequence) -> dict[str, str | pd.DataFrame]:
    """Say how the results came about: versions, machine, and a row for every run."""
    import pandas as pd

    rows = [
        {
            "run": run.name,
            "parameters": run.about["parameters"],
            "steps": run.settings.steps,
            "training, s": run.about["training_seconds"],
            "device": run.about["device"],
            "precision": run.settings.precision,
            "threads": run.about["threads"],
            "commit": run.about["commit"],
            "finished": run.about["finished"].replace("+00:00", " UTC").replace("T", " "),
        }
        for run in found
    ]
    frame = pd.DataFrame(rows).set_index("run")
    frame["training, s"] = frame["training, s"].round(1)
    one = found[0]
    s, versions = one.settings, one.about["versions"]
    size = (
        f"{s.scale}, {s.batch_size} images a step, {one.about['training_images']} training and "
        f"{one.about['test_images']} test images, recipe “{s.recipe}”"
    )
    return {
        "Scale": size,
        "Hardware": f"{one.about['processor']}, {os.cpu_count()} cores, {platform.system()}",
        "Software": "Python "
        + platform.python_version()
        + "".join(f", {name} {number}" for name, number in versions.items()),
        "Determinism": "The same settings, data and code give the same weights on the same "
        "processor with the same number of threads; another number of threads or another "
        "processor changes the order of sums, and with it the last digits.",
        "Every run: its size, its time and the commit that trained it": frame,
        "Trials of the training recipe: mean absolute error on a quarter of the training part that "
        "was held out (764 photographs, split 0, 64 × 64 pixels, base width 16, 300 steps, one "
        "seed)": _recipe_trials(),
        "Faults that the tests try, and what comes of them": pd.read_csv(
            REFERENCE / "faults.csv", index_col="fault"
        ),
        **_speed(),
    }


def _recipe_trials() -> pd.DataFrame:
    """Return what was tried before the recipe was fixed, what did not help included."""
    import pandas as pd

    trials = pd.read_csv(REFERENCE / "recipe_trials.csv", comment="#", index_col="change")
    return trials.map("{:.4f}".format, na_action="ignore").fillna("")


def _speed() -> dict[str, pd.DataFrame]:
    """Return what `make bench` has measured on this machine, if it has."""
    import pandas as pd

    path = build_folder() / "bench" / "bench.csv"
    if not path.exists():
        return {}
    frame = pd.read_csv(path).rename(columns={"ours_s": "ours, s", "reference_s": "reference, s"})
    spread = [
        "" if pd.isna(low) else f"{low:.2f}–{high:.2f}"
        for low, high in zip(frame.pop("ratio_min"), frame.pop("ratio_max"), strict=True)
    ]
    frame.insert(list(frame).index("ratio") + 1, "range", spread)
    return {"Speed, as “make bench” measured it": frame.set_index("row").fillna("")}
