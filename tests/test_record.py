"""What is committed under figures/ and in the README follows from figures/results.csv."""

import shutil

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
    compared, contrasts, ledger = record.read_results()
    before = record.readme_findings(compared, contrasts, ledger)
    for frame, column in (
        (compared, "mean_absolute_error"),
        (contrasts, "effect"),
        (ledger, "effect"),
    ):
        altered = frame.copy()
        altered[column] += 0.01
        frames = [altered if f is frame else f for f in (compared, contrasts, ledger)]
        assert record.readme_findings(*frames) != before


def test_the_findings_hold_the_numbers_of_the_tables():
    compared, contrasts, ledger = record.read_results()
    text = record.readme_findings(compared, contrasts, ledger)
    own = compared[compared["seed"] == compared["split"]]
    for arm in ("pool0", "pool3", "matched3", "lightness table", "patch boosting"):
        rows = own[own["arm"] == arm]
        error, within = rows["mean_absolute_error"].mean(), rows["accuracy_0.050"].mean()
        (line,) = [line for line in text.splitlines() if line.startswith(f"| {arm} |")]
        assert f"| {error:.4f} |" in line and f"| {within:.3f} |" in line
    for _, row in contrasts[contrasts["family"] == "matched"].iterrows():
        assert f"({row['contrast']}): {row['effect']:+.4f} [{row['low']:+.4f}" in text
    for _, row in ledger.iterrows():
        (line,) = [line for line in text.splitlines() if line.startswith(f"| {row['claim']} |")]
        assert line.endswith(f"| {row['verdict']} |")


def test_readme_holds_the_findings():
    assert record.readme_findings(*record.read_results()) in record.README.read_text("utf-8")
