"""What is committed under figures/ and in the README follows from figures/results.csv."""

import re
import shutil

import numpy as np
import pandas as pd
import pytest

from poolae.__main__ import main
from poolae.data import images
from poolae.files import REFERENCE
from poolae.paper import comparisons, facts, record
from poolae.settings import make_settings
from poolae.train import runs


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """Committed numbers and README, where the test may redraw them."""
    shutil.copytree(record.FIGURES, tmp_path / "figures")
    shutil.copy(record.README, tmp_path)
    monkeypatch.setattr(record, "FIGURES", tmp_path / "figures")
    monkeypatch.setattr(record, "RESULTS", tmp_path / "figures" / "results.csv")
    monkeypatch.setattr(record, "README", tmp_path / "README.md")
    monkeypatch.setattr(record, "TABLES", tmp_path / "figures" / "README.md")
    return tmp_path


def step_up(margin):
    """Made-up rows of full width: the published curves with this added, and the table below."""
    compared = record.read_results()[0]
    rows = compared[(compared["seed"] == 0) & (compared["split"] == 0)]
    rows = rows[rows["arm"].isin([*facts.published_curves(), "lightness table"])].copy()
    rows = rows[rows["profile"] == "standard"].assign(profile="full", size=128)
    networks = rows["kind"] == "network"
    rows.loc[networks, "base_width"] = 64
    for arm, (bounds, accuracies) in facts.published_points().items():
        columns = [f"accuracy_{bound:.3f}" for bound in bounds]
        rows.loc[rows["arm"] == arm, columns] = accuracies + margin
    return rows


def test_figures_and_findings_are_redrawn_byte_for_byte(copy):
    figures = [p for p in copy.glob("figures/*") if p.suffix in (".svg", ".png")]
    committed = {p: p.read_bytes() for p in [*figures, record.TABLES, record.README]}
    drawn = record.draw_figures()
    assert set(drawn) == set(committed)
    for path in drawn:
        assert path.read_bytes() == committed[path], path.name


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
    findings = record.readme_findings(compared, contrasts, ledger)
    text, _, above = findings.partition("**One step up**")
    arms = ("pool0", "pool1", "pool2", "pool3", "lightness table")
    for profile, part, own_arms in (
        ("standard", text, (*arms, "matched3", "patch boosting")),
        ("full", above, arms),
    ):
        own = compared[(compared["profile"] == profile) & (compared["seed"] == compared["split"])]
        for arm in own_arms:
            rows = own[own["arm"] == arm]
            error, within = rows["mean_absolute_error"].mean(), rows["accuracy_0.050"].mean()
            (line,) = [line for line in part.splitlines() if line.startswith(f"| {arm} |")]
            assert f"| {error:.4f} |" in line and f"| {within:.3f} |" in line
    for _, row in contrasts[contrasts["family"] == "matched"].iterrows():
        assert f"({row['contrast']}): {row['effect']:+.4f} [{row['low']:+.4f}" in text
    for _, row in ledger.iterrows():
        (line,) = [line for line in text.splitlines() if line.startswith(f"| {row['claim']} |")]
        assert line.endswith(f"| {row['verdict']} |")


def test_the_findings_and_the_answer_are_where_they_are_looked_up():
    results = record.read_results()
    assert record.readme_findings(*results) in record.TABLES.read_text("utf-8")
    assert record.readme_answer(*results[:2]) in record.README.read_text("utf-8")


def test_the_answer_holds_the_contrasts_that_carry_it():
    compared, contrasts, _ = record.read_results()
    answer = record.readme_answer(compared, contrasts)
    rows = contrasts.set_index("contrast")
    for name in record.CARRYING:
        (line,) = [line for line in answer.splitlines() if f"({name})" in line]
        assert f"{rows.loc[name, 'effect']:+.4f}".replace("-", "−") in line
    contrasts["effect"] += 0.01
    assert record.readme_answer(compared, contrasts) != answer


def test_the_findings_say_where_and_how_long_it_ran():
    compared = record.read_results()[0]
    study = compared[compared["profile"].isin(["standard", "long"])]
    networks = study[study["kind"] == "network"]
    (line,) = [
        line for line in record.TABLES.read_text("utf-8").splitlines() if line.startswith("Data:")
    ]
    for commit, count in networks["commit"].value_counts().items():
        assert (f"{commit} ({count} runs)" if count < len(networks) else commit) in line
    assert f"{networks['training_seconds'].sum() / 3600:.1f} hours of training" in line
    assert f"{len(networks)} runs on one thread each ({networks['processor'].iloc[0]})" in line
    assert set(networks["threads"]) == {1}


def test_a_step_up_adds_a_figure_and_a_paragraph_and_changes_nothing_else(copy):
    compared, contrasts, ledger = record.read_results()
    plain = compared[compared["profile"] != "full"]
    pd.concat([plain, step_up(0.01)]).to_csv(record.RESULTS, index=False)
    before = {p.name: p.read_bytes() for p in copy.glob("figures/*.svg")}
    (copy / "figures" / "full.svg").unlink(missing_ok=True)
    drawn = {p.name: p.read_bytes() for p in record.draw_figures()}
    assert "full.svg" in drawn
    assert all(drawn[name] == old for name, old in before.items() if name != "full.svg")
    added = "\n\n".join(record.step_up_in_words(step_up(0.01)))
    text = record.readme_findings(*record.read_results())
    assert text.replace(added + "\n\n", "") == record.readme_findings(plain, contrasts, ledger)
    published = facts.published_curves()
    for arm in ("pool0", "pool3"):
        (line,) = [line for line in added.splitlines() if line.startswith(f"| {arm} |")]
        cells = [float(cell) for cell in line.split("|")[3:7]]
        expected = [v for b in (0.05, 0.1) for v in (published[arm][b] + 0.01, published[arm][b])]
        assert cells == pytest.approx(expected, abs=6e-4)
    assert "128 × 128 pixels, base width 64, 400 steps" in added
    assert "0.4 % of the original's 100,000" in added
    assert "Every depth is above its own published curve at each of the 20 published" in added


def test_the_bounds_at_which_a_step_up_falls_short_are_named():
    rows = step_up(0.01)
    rows.loc[rows["arm"] == "pool2", ["accuracy_0.015", "accuracy_0.100"]] = 0.0
    text = "\n".join(record.step_up_in_words(rows))
    assert "pool2 is not above it at 0.015, 0.1." in text and "Every depth" not in text
    equal = "\n".join(record.step_up_in_words(step_up(0.0)))
    assert "pool0 is not above it at 0.005, 0.01," in equal  # as high is not above


def test_recording_a_profile_leaves_the_rows_of_others(copy, build, monkeypatch):
    quick = {k: v for k, v in comparisons.BASELINES.items() if k != "patch boosting"}
    monkeypatch.setattr(comparisons, "BASELINES", quick)
    results = build / "record"
    wanted = [make_settings(depth, 0, profile="smoke") for depth in (0, 1)]
    for settings in wanted:
        runs.train(settings, results)
    comparisons.baseline_scores(wanted[0], results)  # as the report has made them
    before = {p.name: p.read_bytes() for p in copy.glob("figures/*.*")}

    def lines(text):
        return {line for line in text.decode().splitlines() if ",smoke,synthetic," not in line}

    assert record.write_results(results, wanted, "synthetic") == [record.RESULTS]
    first = record.RESULTS.read_bytes()
    assert lines(first) == lines(before["results.csv"])
    rows = pd.read_csv(record.RESULTS)
    networks = rows[(rows["profile"] == "smoke") & (rows["kind"] == "network")]
    assert list(networks["arm"]) == ["pool0", "pool1"] and (networks["threads"] >= 1).all()
    # Their order does not tell which were recorded last, and recording again changes nothing.
    record.write_results(results, wanted, "synthetic")
    assert record.RESULTS.read_bytes() == first
    for path in copy.glob("figures/*.*"):
        assert path == record.RESULTS or path.read_bytes() == before[path.name]

    monkeypatch.setattr(record, "RECORD", "smoke")
    written = {p.name for p in record.write_results(results, wanted, "synthetic")}
    assert written == {"results.csv", "contrasts.csv", "ledger.csv", "samples.npz"}
    contrasts = pd.read_csv(record.RESULTS.with_name("contrasts.csv"))
    assert list(contrasts["contrast"]) == ["pool1 − pool0"]


def test_samples_are_of_pictures_that_may_be_shown_and_small():
    samples = record.read_samples()
    assert (record.FIGURES / "samples.npz").stat().st_size < 300_000
    size = samples["truth"].shape[-1]
    assert samples["chroma"].shape == (len(samples["pictures"]), 4, 2, size, size)
    photographs = facts.photographs_out_of_context(size)
    assert [n for n in samples["pictures"] if not re.fullmatch(r"drawing \d", n)] == [*photographs]
    for name, truth in zip(samples["pictures"], samples["truth"], strict=True):
        if name in photographs:
            expected = np.concatenate(photographs[name]) * 255
        else:
            drawn = record.data.load("synthetic", size, n=8).images
            expected = drawn.lab[int(name.removeprefix("drawing ")) - 1] * 255
        assert np.abs(truth - expected).max() < 1.5  # rounded to 8 bits
    caption = record.readme_findings(*record.read_results())
    assert f"trained on {samples['training_images']} photographs" in caption


def test_the_plan_on_paper_is_computed_from_the_networks():
    from poolae.models import build

    text = (REFERENCE / "imagenet.md").read_text("utf-8")
    assert len(text.splitlines()) < 60
    rows = {line.split(" | ")[0].strip("| "): line for line in text.splitlines() if line[:1] == "|"}
    macs = np.array([build(depth).macs(128) for depth in range(4)])
    trained = 10 * 1_300_000 * 3 / 4

    def said(start, decimals, values):
        (line,) = [line for name, line in rows.items() if name.startswith(start)]
        cells = [cell.strip().replace(",", "") for cell in line.strip("|").split("|")[1:]]
        assert cells[: len(values)] == [f"{value:.{decimals}f}" for value in values], start

    def with_mean(values):
        return [*values, np.mean(values)]

    said("multiply-accumulates", 2, with_mean(macs / 1e9))
    said("operations per image", 1, with_mean(6 * macs / 1e9))
    said("operations per run", 2, with_mean(6 * macs * trained / 1e18))
    for name, peak, price in (("A100", 312e12, 2), ("H100", 989e12, 3)):
        hours = with_mean(6 * macs * trained / (0.3 * peak) / 3600)
        said(f"hours per run, {name}", 2, hours)
        said(f"images per second, {name}", 0, 0.3 * peak / (6 * macs))
        total = 1000 * hours[-1]
        assert f"{total:,.0f} hours of {name}, ${total * price:,.0f}" in text
    assert f"2 × {images.MEASURED * 2 * 128**2 * 2 / 1e6:.0f} MB" in text
    assert f"{12 * 128**2:,} bytes an image, {1.3e6 * 12 * 128**2 / 1e9:.0f} GB" in text


@pytest.mark.fault("figures/results.csv is missing", "said so, and not that it cannot be written")
def test_a_file_that_is_missing_is_not_one_that_cannot_be_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(record, "RESULTS", tmp_path / "results.csv")
    assert main(["figures"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"poolae: {tmp_path / 'results.csv'} is missing: restore it")
    assert said.count("\n") == 1
