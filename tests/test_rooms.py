"""The rule that keeps the house: science never imports what serves the page."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import poolae
from poolae import data, files, make_settings
from poolae.files import code_digest, module_digests
from poolae.train.provenance import DECIDING, SCORING, origin

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


def test_what_may_be_chosen_is_read_without_pytorch():
    code = "import sys, poolae.settings; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


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


# Modules of the rooms that nothing on disk is made again for, and why not.
SPARED = {
    "data/cache": "keeps images, by a format that has a number",
    "data/images": "whose split and groups count themselves, by their names",
    "data/sources": "finds files, whose contents count",
    "metrics/baselines": "scored in paper/comparisons, by digests of its own",
    "metrics/mixture": "scored in paper/comparisons, by digests of its own",
    "metrics/statistics": "computed whenever it is shown",
    "train/colouring": "makes pictures, not results",
    "train/precision": "what it chooses stands in the settings",
    "train/provenance": "compares, and makes nothing",
    "train/runs": "keeps what others make",
}


@pytest.mark.fault(
    "any module that decides images, weights or scores changes", "they are made again"
)
def test_what_is_made_again_when_a_module_changes(tmp_path, monkeypatch, folder):
    shutil.copytree(PACKAGE, tmp_path / "poolae", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(files, "__file__", str(tmp_path / "poolae" / "files.py"))
    small = dict(profile="smoke", size=16)
    settings = make_settings(**small, images=4), make_settings(**small, data=str(folder))

    def made():
        drawing, photographs = (origin(s, data.load_for(s))["fingerprint"] for s in settings)
        scores = code_digest(*SCORING)
        return {"drawn": drawing, "photographed": photographs, "scores": scores}

    before, again = made(), {}
    for path in sorted((tmp_path / "poolae").rglob("*.py")):
        module = str(path.relative_to(tmp_path / "poolae").with_suffix(""))
        if module.partition("/")[0] in ROOMS and path.name != "__init__.py":
            source = path.read_text()
            path.write_text(f"{source}\nCHANGED = 1\n")
            again[module] = {key for key, value in made().items() if value != before[key]}
            path.write_text(source)
    assert {module for module in again if not again[module]} == SPARED.keys()
    for module in ("models/layers", "train/loop", "train/optimisers", "train/parallel"):
        assert again[module] == {"drawn", "photographed"}
    assert again["data/colour"] == {"drawn", "photographed", "scores"}
    assert again["data/decode"] == {"photographed"}
    assert again["data/daisies"] == {"drawn"}
    assert again["metrics/scores"] == {"scores"}
