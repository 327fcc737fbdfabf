"""The committed notebooks, and what happens when one of them fails."""

import json
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from poolae.paper.page import execute
from poolae.paper.page.execute import execute_notebook
from poolae.settings import UserError
from poolae.train import runs

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def test_the_four_notebooks_are_there():
    assert [p.stem for p in NOTEBOOKS] == ["01_data", "02_train", "03_evaluate", "04_samples"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
class TestCommitted:
    def test_holds_no_outputs(self, path):
        for cell in nbformat.read(path, 4).cells:
            if cell.cell_type == "code":
                assert not cell.outputs and cell.execution_count is None

    def test_has_one_parameters_cell_of_literals(self, path):
        tagged = [
            c for c in nbformat.read(path, 4).cells if "parameters" in c.metadata.get("tags", ())
        ]
        assert len(tagged) == 1
        import ast

        for statement in ast.parse(tagged[0].source).body:
            assert isinstance(statement, ast.Assign)
            ast.literal_eval(statement.value)

    def test_tells_its_story_in_small_cells(self, path):
        cells = nbformat.read(path, 4).cells
        assert cells[0].cell_type == "markdown" and cells[0].source.startswith("# ")
        code = [c.source for c in cells if c.cell_type == "code"]
        assert max(source.count("\n") for source in code) < 26
        assert not any(re.search(r"(?m)^class \w", source) for source in code)


def notebook(tmp_path, *cells):
    made = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(c) for c in cells],
        metadata={"kernelspec": {"name": "python3", "display_name": "", "language": "python"}},
    )
    made.cells[0].metadata["tags"] = ["parameters"]
    path = tmp_path / "made.ipynb"
    nbformat.write(made, path)
    return path


def papermill(source: Path, target: Path, **given):
    """Execute in a process of its own, as make does: papermill warns of its own event loop."""
    arguments = [word for k, v in given.items() for word in ("-p", k, json.dumps(v))]
    return subprocess.run(
        [sys.executable, "-m", "poolae", "execute", "--results", target.parent]
        + [source, target, *arguments],
        capture_output=True,
        text=True,
        cwd=target.parent,
    )


@pytest.mark.slow
def test_a_notebook_that_runs_takes_its_place(tmp_path):
    source, target = notebook(tmp_path, "x = 1", "print('x is', x)"), tmp_path / "out.ipynb"
    done = papermill(source, target, x=5)
    assert done.returncode == 0, done.stderr
    assert "x is 5" in done.stdout
    executed = nbformat.read(target, 4)
    assert executed.cells[-1].outputs[0].text == "x is 5\n"
    assert executed.cells[-1].metadata.papermill.duration > 0
    assert executed.metadata.papermill.parameters == {"x": 5}
    assert executed.metadata.poolae == {"commit": runs.commit(), "processor": runs.processor()}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["made.ipynb", "out.ipynb"]


def test_device_and_precision_are_those_of_the_run_trained_beside_the_notebook(tmp_path):
    target = tmp_path / "02_train.ipynb"
    assert execute._run_beside(target) == {}
    known = {"device": "cuda", "threads": 1, "settings": {"precision": "bfloat16", "seed": 0}}
    (tmp_path / runs.RUN_FILE).write_text(json.dumps(known))
    assert execute._run_beside(target) == {"device": "cuda", "precision": "bfloat16"}


@pytest.mark.fault(
    "a cell that raises, exits with 0 or ends its kernel",
    "the build stops, names the cell and keeps the notebook aside",
)
@pytest.mark.slow
@pytest.mark.parametrize(
    ("cell", "sentence"),
    [
        ("1 / 0", "cell 2: ZeroDivisionError: division by zero"),
        ("import sys; sys.exit(0)", "cell 2 ended in an error"),
        ("import os; os._exit(1)", "DeadKernelError"),
        (
            "from poolae import UserError; raise UserError('size is 3: give 4.')",
            "poolae: size is 3: give 4.\n",
        ),
    ],
)
def test_a_notebook_that_fails_does_not(tmp_path, cell, sentence):
    source, target = notebook(tmp_path, "x = 1", cell, "print('after')"), tmp_path / "out.ipynb"
    target.write_text("the last good one")
    done = papermill(source, target)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert target.read_text() == "the last good one"
    assert (tmp_path / "out.failed.ipynb").exists()


def test_an_unknown_parameter_is_refused_before_anything_runs(tmp_path):
    source = notebook(tmp_path, "x = 1")
    with pytest.raises(UserError, match="no parameter 'y': choose among x"):
        execute_notebook(source, tmp_path / "out.ipynb", {"y": 1}, required={"y": 1})
    with pytest.raises(UserError, match=r"none.ipynb does not exist"):
        execute_notebook(tmp_path / "none.ipynb", tmp_path / "out.ipynb", {})
