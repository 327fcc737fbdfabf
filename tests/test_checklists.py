"""Every line of the checklists has an answer, whose numbers and places are right."""

import re
import tomllib
from collections import defaultdict

import nbformat
import pytest

from poolae.paper import checklists, record
from poolae.paper.page import export
from poolae.paper.page.number import slug
from poolae.train import runs

ROOT = record.FIGURES.parent
TABLES = defaultdict(lambda: "[Table](#tbl-any)")


@pytest.fixture(scope="module")
def tables():
    return checklists.answered(TABLES)


def lines(tables):
    return [row for frame in tables.values() for row in frame.itertuples(name=None)]


def test_each_table_has_a_caption_and_no_line_is_without_an_answer(tables):
    captions = tomllib.loads((export.TEMPLATE / "provenance.toml").read_text("utf-8"))["tables"]
    assert tables.keys() <= captions.keys()
    assert [len(frame) for frame in tables.values()] == [5, 21]
    assert all(question and answer for question, answer, _ in lines(tables))


def test_files_that_are_named_are_there(tables):
    for _, _, where in lines(tables):
        for name in re.split(r"[,;] ", re.sub(r"\[\w+\]\(.*?\)", "", where)):
            named = name.removeprefix("used: ").strip(" ,;")
            assert not named or (ROOT / named).exists(), named


def test_sections_that_are_named_are_in_every_report(tables):
    headings = set()
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "markdown" and "with-next" not in cell.metadata.get("tags", []):
                headings |= {slug(h) for h in re.findall(r"^#+ (.+)$", cell.source, re.MULTILINE)}
    named = set(re.findall(r"\(#sec-([\w-]+)\)", str(lines(tables))))
    assert named and named <= headings


def test_answers_follow_the_record(tables, monkeypatch):
    everything = record.read_results()
    trained = everything[everything["kind"] == "network"]
    hours = trained["training_seconds"].sum() / 3600
    said = str(lines(tables))
    assert f"{len(trained)} networks on record" in said and f"{hours:.1f} hours" in said
    longer = everything.assign(training_seconds=10 * everything["training_seconds"])
    monkeypatch.setattr(record, "read_results", lambda: longer)
    assert f"{10 * hours:.1f} hours" in str(lines(checklists.answered(TABLES)))


def test_trained_models_are_answered_by_those_that_are_there(tables, tmp_path, monkeypatch):
    weights = [path.stat().st_size for path in runs.NETWORKS.glob("*/weights.safetensors")]
    expected = f"yes: {len(weights)} networks, {sum(weights):,} bytes, with a model card"
    assert tables["completeness"].loc["Trained models", "answer"] == expected
    monkeypatch.setattr(runs, "NETWORKS", tmp_path)
    assert checklists.answered(TABLES)["completeness"].loc["Trained models", "answer"] == "no"
