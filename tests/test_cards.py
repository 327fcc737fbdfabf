"""The model card and the datasheet say what the networks, the record and the code hold."""

import hashlib
import json
import re
import shutil

import pytest

from poolae.data import daisies
from poolae.paper import cards, record
from poolae.train import runs
from poolae.train.provenance import read, seal

RECORDED = [run.arm for run in runs.recorded()]


@pytest.fixture(scope="module")
def study():
    return record.scales(record.read_results())[0]


@pytest.fixture
def networks(tmp_path, monkeypatch):
    """A copy of the networks of record, where the test may change them."""
    folder = shutil.copytree(runs.NETWORKS, tmp_path / "networks")
    monkeypatch.setattr(runs, "NETWORKS", folder)
    return folder


def lines_of(text, arm):
    return [line for line in text.splitlines() if re.match(rf"\| \[?{arm}\b", line)]


def test_the_model_card_holds_what_each_network_is_and_scores(study, networks):
    card, _ = cards.write_cards(networks.parent, study)
    assert card == networks / "README.md"
    for arm in RECORDED:
        about = json.loads((networks / arm / "run.json").read_text())
        weights = (networks / arm / "weights.safetensors").read_bytes()
        details, metrics = lines_of(card.read_text("utf-8"), arm)
        assert f"| {len(weights):,} | `{hashlib.sha256(weights).hexdigest()}` |" in details
        assert f"| {about['parameters']:,} |" in details
        assert f"| {about['scores']['mean_absolute_error']:.4f} |" in metrics
        assert f"| {about['scores']['ciede2000']:.2f} |" in metrics


def test_another_score_changes_its_line_alone(study, networks):
    (before, _) = (path.read_text("utf-8") for path in cards.write_cards(networks.parent, study))
    folder = networks / RECORDED[0]
    about = read(folder)
    about["scores"]["ciede2000"] = 99.0
    seal(folder, about, "weights.safetensors")
    (after, _) = (path.read_text("utf-8") for path in cards.write_cards(networks.parent, study))
    changed = set(after.splitlines()) - set(before.splitlines())
    assert len(changed) == 1 and "| 99.00 |" in changed.pop()


def test_the_baselines_are_those_of_the_record(study, networks):
    card, _ = cards.write_cards(networks.parent, study)
    rows = study.means[study.means["arm"] == "lightness table"]
    said = f"lightness table {rows['mean_absolute_error'].mean():.4f}"
    assert said in card.read_text("utf-8")


def test_without_networks_there_is_a_datasheet_and_no_model_card(study, tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "NETWORKS", tmp_path / "networks")
    assert cards.write_cards(tmp_path, study) == [tmp_path / "datasheet.md"]
    assert "networks trained on them" not in (tmp_path / "datasheet.md").read_text("utf-8")


def test_the_datasheet_counts_what_the_drawings_are_made_of(study, tmp_path, monkeypatch):
    monkeypatch.setitem(daisies.PETALS, "blue", (0.05, 0, (0, 0), (0, 0), (0, 0), (0, 0)))
    text = cards.write_cards(tmp_path, study)[-1].read_text("utf-8")
    assert "blue (5 %)" in text


@pytest.mark.parametrize("name", ["networks/README.md", "datasheet.md"])
def test_links_lead_to_files_of_the_checkout(name):
    path = record.FIGURES / name
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", path.read_text("utf-8"))
    assert links and all((path.parent / link).exists() for link in links)
