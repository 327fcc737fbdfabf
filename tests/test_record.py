"""What is committed under figures/ and in the README follows from figures/results.csv."""

import re
import shutil
import subprocess
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from poolae.__main__ import main
from poolae.data import images
from poolae.files import REFERENCE
from poolae.paper import claims, facts, record, words
from poolae.paper.study import MATCHED_CONTRASTS


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """Committed numbers and README, where the test may redraw them."""
    shutil.copytree(record.FIGURES, tmp_path / "figures")
    shutil.copy(record.README, tmp_path)
    root = record.README.parent
    for name in ("FIGURES", "RESULTS", "IMAGES", "SAMPLES", "README", "TABLES"):
        there = tmp_path / getattr(record, name).relative_to(root)
        monkeypatch.setattr(record, name, there)
    return tmp_path


@pytest.fixture(scope="module")
def on_record():
    """What is on record at each scale; verdicts and contrasts are computed once."""
    return record.read_scales()


def rows_of(profile="standard"):
    everything = record.read_results()
    return everything[everything["profile"] == profile]


def step_up(margin):
    """Made-up rows of full width: the published curves with this added, and baselines below."""
    rows = rows_of()
    rows = rows[(rows["seed"] == 0) & (rows["split"] == 0)]
    known = [*facts.published_curves(), "lightness table", "patch boosting"]
    rows = rows[rows["arm"].isin(known)].assign(profile="full", size=128)
    rows.loc[rows["kind"] == "network", "base_width"] = 64
    for arm, (bounds, accuracies) in facts.published_points().items():
        columns = [f"accuracy_8bit_{int(bound * 255):02}" for bound in bounds]
        rows.loc[rows["arm"] == arm, columns] = accuracies + margin
    return rows


def text_of(rows, images=None):
    return record.findings(record.scales(rows, images))


def test_figures_and_findings_are_redrawn_byte_for_byte(copy):
    drawn = ("*.svg", "*.png", "ledger.csv", "contrasts.csv", "**/README.md", "datasheet.md")
    paths = [path for pattern in drawn for path in (copy / "figures").glob(pattern)]
    committed = {path: path.read_bytes() for path in [*paths, record.README]}
    drawn = record.draw_figures()
    assert set(drawn) == set(committed)
    for path in drawn:
        assert path.read_bytes() == committed[path], path.name


def test_another_number_changes_the_findings():
    everything, images = record.read_results(), record.read_images()
    before = record.TABLES.read_text("utf-8")
    for column in ("ciede2000", "coherence_16_32", "training_error"):
        altered = [frame.copy() for frame in (everything, images)]
        for frame in altered:
            frame.loc[frame["arm"] == "matched3", column] *= 1.5
        assert text_of(*altered) not in before, column


def test_the_findings_hold_the_numbers_of_the_tables(on_record):
    everything = record.read_results()
    study, above = on_record
    text, _, full = record.TABLES.read_text("utf-8").partition("## One step up")
    arms = ("pool0", "pool1", "pool2", "pool3")
    own = everything[(everything["profile"] == "standard")]
    own = own[own["seed"] == own["split"]]
    for arm in (*arms, "matched3", "lightness table", "patch boosting"):
        rows = own[own["arm"] == arm]
        line, *efforts = [line for line in text.splitlines() if line.startswith(f"| {arm} |")]
        assert f"| {rows['mean_absolute_error'].mean():.4f} |" in line
        assert f"| {rows['accuracy_0.050'].mean():.3f} |" in line
        long = own[(own["arm"] == f"{arm}-steps1600")]
        assert len(long) == 0 or any(
            f"| 1,600 | no | {long['mean_absolute_error'].mean():.4f} |" in line for line in efforts
        )
    for arm in (*arms, "lightness table", "patch boosting"):
        rows = above.scores[above.scores["arm"] == arm]
        (line,) = [line for line in full.splitlines() if line.startswith(f"| {arm} |")]
        assert f"| {rows['accuracy_8bit_12'].mean():.3f} |" in line
    for frame in study.effects(MATCHED_CONTRASTS).values():
        assert all(words.interval(row) in text for _, row in frame.iterrows())
    for _, row in study.ledger.iterrows():
        lines = [line for line in text.splitlines() if line.startswith(f"| {row['claim']} |")]
        assert all(f"| {row['verdict']} |" in line for line in lines[:2])
        assert row["lacks"] in text and (row["lacks"] or words.interval(row) in text)


def test_every_contrast_of_the_record_is_in_the_csv_with_what_judges_it(on_record):
    ledger, found = pd.read_csv(record.FIGURES / "ledger.csv"), on_record
    assert list(ledger["scale"].unique()) == [one.name for one in found]
    assert len(ledger) == sum(len(one.ledger) for one in found)
    run = ledger[ledger["lacks"].isna()]
    columns = ["effect", "margin", "unit", "claimed", "says", "verdict", "seeds", "by", "contrast"]
    assert run.drop(columns="unit")[[c for c in columns if c != "unit"]].notna().all(axis=None)
    six = run[run["seeds"] >= 6]
    judged_by = ["low", "high", "corrected_low", "detectable", "beats", "p", "p_holm"]
    assert six[judged_by].notna().all(axis=None)
    assert set(run.loc[run["seeds"] < 6, "says"]) == {"open"}


def test_what_is_younger_than_the_record_is_not_run(on_record):
    study = on_record[0]
    if "own_block_r2" not in study.scores:
        assert claims.verdicts(study.ledger)["block means"] == "not run"
        assert "needs own_block_r2 of matched3, dilated" in record.TABLES.read_text("utf-8")
    scored = study.scores.assign(own_block_r2=0.5)
    scored.loc[scored["arm"] == "matched3", "own_block_r2"] = 0.9
    assert claims.verdicts(claims.ledger(scored))["block means"] == "supported"


def test_the_findings_and_the_answer_are_where_they_are_looked_up(on_record):
    assert record.findings(on_record) in record.TABLES.read_text("utf-8")
    assert record.answer(on_record[0]) in record.README.read_text("utf-8")


def test_the_answer_holds_the_contrasts_that_carry_it(on_record):
    study = on_record[0]
    answer = record.answer(study)
    for frame in study.effects(record.CARRYING).values():
        for name, row in frame.iterrows():
            (line,) = [line for line in answer.splitlines() if f"({name})" in line]
            assert words.interval(row) in line


def test_the_findings_say_where_and_how_long_it_ran(on_record):
    networks = on_record[0].networks
    (line,) = [
        line for line in record.TABLES.read_text("utf-8").splitlines() if line.startswith("Data:")
    ]
    for commit, count in networks["commit"].value_counts().items():
        assert f"{commit} ({count} run" in line
    assert f"{networks['training_seconds'].sum() / 3600:.1f} hours of training" in line
    assert f"{len(networks)} runs on 1 thread of {networks['processor'].iloc[0]} each" in line
    assert set(networks["threads"]) == {1}


def test_commits_of_the_same_code_are_said_to_be():
    rows = rows_of().reset_index(drop=True)
    first = rows.index[rows["kind"] == "network"][0]

    def said():
        return record.provenance(record.scales(rows)[0])

    rows["commit"] = "abcdef0"
    assert "of the same code" not in said()
    rows.loc[first, "commit"] = "0123456"
    assert ", 0123456 (1 run), all of the same code; " in said()
    rows.loc[first, "code"] = "fedcba9876"
    assert "of the same code" not in said()


def test_trials_cost_what_the_record_says_of_a_step(monkeypatch):
    everything = record.read_results()
    study = record.scales(everything)[0]
    pace = (study.networks["training_seconds"] / study.networks["steps"]).groupby(
        study.networks["arm"]
    )
    two = pd.DataFrame({"operations": [1.0, 0.5], "pool0": [0.04, 0.05], "pool1": [0.04, None]})
    monkeypatch.setattr(facts, "recipe_trials", lambda: two)
    hours = 300 * (1.5 * pace.mean()["pool0"] + pace.mean()["pool1"]) / 3600
    assert record.hours_of_trials(study) == pytest.approx(hours)


def test_other_data_on_record_are_another_column_without_a_verdict_on_daisies():
    tulips = rows_of().query("seed == split").assign(data="tulips")
    found = record.scales(pd.concat([tulips, record.read_results()]))
    assert [one.name for one in found] == [
        f"daisies, 64 px, width 16, {found[0].seeds} seeds",
        f"tulips, 64 px, width 16, {found[0].seeds} seeds",
        "daisies, 128 px, width 64, 1 seed",
    ]
    table = words.side_by_side(found)
    assert (table[found[0].name] == "supported").sum() == (
        table[found[1].name] == "as claimed"
    ).sum()
    assert not table[found[1].name].isin(["supported", "refuted"]).any()


def test_the_claims_are_older_than_the_runs_or_said_not_to_be(tmp_path, monkeypatch):
    """In a checkout of its own: claims committed, then a run; claims changed; no git at all."""
    where = tmp_path / "claims.py"

    def git(*arguments):
        who = ["-c", "user.name=x", "-c", "user.email=x@y", "-c", "commit.gpgsign=false"]
        command = ["git", *who, *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def said(*commits, **noted):
        record.claims_before.cache_clear()
        return record.frozen([SimpleNamespace(name="here", commits=set(commits), **noted)])

    monkeypatch.setattr(record, "CLAIMS", where)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    where.write_text("1")
    assert "no checkout of git" in said("abc")
    git("init", "-q")
    git("add", "."), git("commit", "-qm", "claims")
    first = git("rev-parse", "--short", "HEAD")
    (tmp_path / "other").write_text("1")
    git("add", "."), git("commit", "-qm", "run")
    second = git("rev-parse", "--short", "HEAD")
    assert f"commit {first} of" in said(second)
    assert ": older than the runs of “here”." in said(second, f"{second}+")
    where.write_text("2")
    assert "not fixed" in said(second)
    git("add", "."), git("commit", "-qm", "other claims")
    assert ": not older than the runs of “here”." in said(second)
    assert "not older" in said("unknown")
    on_record = said(second, claims_noted=first)
    assert f": the runs of “here” are younger than the claims were then ({first})." in on_record
    record.claims_before.cache_clear()


def test_what_is_recorded_notes_whether_the_claims_were_older():
    everything = record.read_results()
    noted = everything.assign(claims="0123456")
    said = record.age_of_claims(record.scales(noted)[0])
    assert said == "The claims were of commit 0123456, older than these runs."
    noted.loc[noted["arm"] == "matched3", "claims"] = np.nan
    assert "younger than these runs" in record.age_of_claims(record.scales(noted)[0])


def test_a_step_up_adds_a_figure_and_a_section_and_changes_nothing_else(copy):
    plain = record.read_results().query("profile != 'full'")
    pd.concat([plain, step_up(0.01)]).to_csv(record.RESULTS, index=False)
    before = {p.name: p.read_bytes() for p in copy.glob("figures/*.svg")}
    (copy / "figures" / "full.svg").unlink()
    drawn = {p.name: p.read_bytes() for p in record.draw_figures()}
    assert "full.svg" in drawn
    assert all(drawn[name] == old for name, old in before.items() if name != "full.svg")
    _, title, added = record.TABLES.read_text("utf-8").partition("## One step up")
    assert title and title not in text_of(plain)
    published = facts.published_curves()
    for arm in ("pool0", "pool3"):
        (line,) = [line for line in added.splitlines() if line.startswith(f"| {arm} |")]
        cells = [float(cell) for cell in line.split("|")[2:6]]
        expected = [v for b in (0.05, 0.1) for v in (published[arm][b] + 0.01, published[arm][b])]
        assert cells == pytest.approx(expected, abs=6e-4)
        assert line.endswith("| nowhere |")
    assert "128 × 128 pixels, base width 64, 400 steps" in added
    assert "0.4 % of the original's 100,000" in added


def test_samples_are_of_pictures_that_may_be_shown_and_small():
    samples = record.read_samples()
    assert (record.FIGURES / "samples.npz").stat().st_size < 300_000
    size = samples["truth"].shape[-1]
    assert samples["chroma"].shape == (len(samples["pictures"]), 4, 2, size, size)
    photographs = facts.photographs_out_of_context(size)
    assert [n for n in samples["pictures"] if not re.fullmatch(r"drawing \d", n)] == [*photographs]
    for name, truth in zip(samples["pictures"], samples["truth"], strict=True):
        if name in photographs:  # the painter may have changed since the drawings were recorded
            expected = np.concatenate(photographs[name]) * 255
            assert np.abs(truth - expected).max() < 1.5  # rounded to 8 bits
    caption = record.TABLES.read_text("utf-8")
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
    assert said.startswith(f"poolae: {tmp_path / 'results.csv'} is missing: `git checkout figures`")
    assert said.count("\n") == 1
    monkeypatch.setattr(record, "draw_figures", (tmp_path / "other.csv").read_text)
    assert main(["figures"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"poolae: {tmp_path / 'other.csv'} is missing: restore it")
