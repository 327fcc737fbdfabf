"""The rule that keeps the house: science never imports what serves the page."""

import ast
import shutil
from pathlib import Path

import pytest

import poolae
from poolae import files
from poolae.files import module_digests
from poolae.train.provenance import DECIDING, SCORING

PACKAGE = Path(poolae.__file__).parent
ROOMS = ("data", "models", "train", "metrics")
SCIENCE = [p for room in ROOMS for p in sorted((PACKAGE / room).rglob("*.py"))]
SCIENCE += [p for p in sorted(PACKAGE.glob("*.py")) if p.name != "__main__.py"]


def imported(text):
    """Return the dotted names that a module of this package imports, wherever in it."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "write imports whole"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_the_rooms_are_there():
    assert {path.parent.name for path in SCIENCE} == {"poolae", *ROOMS}


@pytest.mark.parametrize("path", SCIENCE, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_science_imports_nothing_that_serves_the_page(path):
    serving = [name for name in imported(path.read_text()) if name.startswith("poolae.paper")]
    assert not serving


@pytest.mark.parametrize(
    "line",
    ["import poolae.paper.words", "from poolae import paper", "from poolae.paper.page import x"],
)
def test_the_rule_sees_every_kind_of_import(line):
    inside = f"def f():\n    {line}\n"
    assert any(name.startswith("poolae.paper") for name in imported(inside))


# What is kept on disk belongs to the code that made it: every module that it imports counts.
# The precision that `train/precision` chooses stands in the settings.
KEPT = {"weights": (DECIDING, {"train/precision"}), "scores": (SCORING, set())}


@pytest.mark.fault("any module that decides weights or scores is changed", "they are made again")
@pytest.mark.parametrize("kept", KEPT)
def test_a_digest_holds_all_that_its_code_imports(kept):
    modules, spared = KEPT[kept]
    inside = module_digests(*modules)
    for module in inside:
        for name in imported((PACKAGE / module).with_suffix(".py").read_text()):
            parts = name.split(".")[1:]
            if not name.startswith("poolae.") or parts[0] not in ROOMS:
                continue
            path = "/".join(parts[:2])
            if not (PACKAGE / path).with_suffix(".py").exists():  # a name that a room hands on
                path = parts[0] + "/__init__"
            assert path in inside or path in spared, f"{module} imports {name}"


@pytest.mark.parametrize("kept", KEPT)
def test_a_change_in_any_module_of_a_digest_changes_it(kept, tmp_path, monkeypatch):
    modules, _ = KEPT[kept]
    shutil.copytree(PACKAGE, tmp_path / "poolae", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(files, "__file__", str(tmp_path / "poolae" / "files.py"))
    seen = {files.code_digest(*modules)}
    for module in module_digests(*modules):
        with (tmp_path / "poolae" / module).with_suffix(".py").open("a") as file:
            file.write("\nCHANGED = 1\n")
        digest = files.code_digest(*modules)
        assert digest not in seen, module
        seen.add(digest)
