"""What is committed under figures/ and in the README follows from figures/results.csv."""

import shutil

import pandas as pd
import pytest

from poolae import record


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """Committed numbers and README, where the test may redraw them."""
    shutil.copytree(record.FIGURES, tmp_path / "figures")
    shutil.copy(record.README, tmp_path)
    monkeypatch.setattr(record, "FIGURES", tmp_path / "figures")
    monkeypatch.setattr(record, "RESULTS", tmp_path / "figures" / "results.csv")
    monkeypatch.setattr(record, "README", tmp_path / "README.md")
    return tmp_path


def test_figures_and_findings_are_redrawn_byte_for_byte(copy):
    committed = {p.name: p.read_bytes() for p in [*copy.glob("figures/*.svg"), copy / "README.md"]}
    drawn = record.draw_figures()
    assert {p.name for p in drawn} == set(committed)
    for path in drawn:
        assert path.read_bytes() == committed[path.name], path.name


def test_another_number_changes_the_findings(copy):
    frame = pd.read_csv(record.RESULTS)
    before = record.readme_findings(frame)
    frame.loc[frame["arm"] == "pool1", "mean_absolute_error"] += 0.01
    assert record.readme_findings(frame) != before


def test_the_findings_hold_the_means_of_the_table():
    frame = pd.read_csv(record.RESULTS)
    text = record.readme_findings(frame)
    for arm in ("pool0", "pool3", "lightness table"):
        rows = frame[frame["arm"] == arm]
        error, within = rows["mean_absolute_error"].mean(), rows["accuracy_0.050"].mean()
        (line,) = [line for line in text.splitlines() if line.startswith(f"| {arm} |")]
        assert f"| {error:.4f} |" in line and f"| {within:.3f} |" in line
