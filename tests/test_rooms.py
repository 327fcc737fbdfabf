"""The rule that keeps the house: science never imports what serves the page."""

import ast
from pathlib import Path

import pytest

import poolae

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
