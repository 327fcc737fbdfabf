"""The study sorts runs by what they are for, and its sentences hold the numbers of the runs."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from poolae import data, metrics
from poolae.paper import claims, comparisons, facts, words
from poolae.paper.study import MATCHED_CONTRASTS, Study, extremes_of_detail
from poolae.settings import CONTROLS, make_settings
from poolae.train import runs

EXPERIMENTS = ["operator", "decoder", "over-fitting"]  # claims whose arms are not trained here
TINY = dict(size=32, steps=2, base_width=2, images=16)


def tiny(pool_depth, seed=0, **given):
    return make_settings(pool_depth, seed, profile="smoke", **given, **TINY)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Every kind of run, as small as can be."""
    folder = tmp_path_factory.mktemp("results")
    wanted = [tiny(depth, seed) for depth in range(4) for seed in (0, 1)]
    wanted += [tiny(depth, family="matched") for depth in range(4)]
    wanted += [tiny(depth, family=name) for name, depth in CONTROLS.items()]
    wanted += [tiny(3, pooling="average"), tiny(3, bottleneck=4)]
    wanted += [tiny(1, seed, split=0) for seed in (1, 2, 3)]
    wanted += [tiny(depth, data="synthetic:4") for depth in (0, 3)]
    wanted += [
        make_settings(1, 0, recipe, profile="long", **{**TINY, "steps": 40})
        for recipe in ("published", "cleared")
    ]
    found = [runs.train(settings, folder) for settings in wanted]
    return Study(found, folder)


def test_runs_are_sorted_by_what_they_are_for(study):
    assert study.published_arms == ["pool0", "pool1", "pool2", "pool3"]
    assert study.matched_arms == [f"matched{d}" for d in range(4)] + list(CONTROLS)
    assert study.satellite_arms == ["pool3-average", "pool3-c4"]
    assert [run.name for run in study.bands] == ["pool0-band4-seed0", "pool3-band4-seed0"]
    assert len(study.oscillating) == 2
    ((depths, seeds),) = study.experts
    assert [run.arm for run in depths] == study.published_arms
    assert [run.name for run in seeds] == [
        "pool1-seed0", "pool1-seed1-split0", "pool1-seed2-split0", "pool1-seed3-split0"
    ]  # fmt: skip
    # Seeds on the split of another are no second score of the same arm and seed.
    assert not study.scores.duplicated(["arm", "seed", "image"]).any()


def test_the_number_of_test_images_is_that_of_every_split(study):
    counts = {run.about["test_images"] for run in study.ordinary}
    assert study.test_images in (f"{min(counts)} to {max(counts)}", str(min(counts)))
    study.found[0].about["test_images"] += 100
    try:
        assert study.test_images == f"{min(counts)} to {study.found[0].about['test_images']}"
    finally:
        study.found[0].about["test_images"] -= 100


def test_a_study_without_extras_has_none(study):
    plain = Study([run for run in study.found if run.plain], study.results)
    assert not (plain.matched_arms or plain.satellite_arms or plain.bands or plain.oscillating)
    assert plain.mixtures is None and plain.experts == []
    found = claims.verdicts(plain.ledger)
    absent = {key for key in found.index if found[key] == "not run"}
    assert absent >= {"mixture", "pooling itself", *EXPERIMENTS}
    assert not absent & {key for key, claim in claims.CLAIMS.items() if claim.by == claims.ORIGINAL}


def test_every_claim_is_judged_whose_arms_are_there_and_few_seeds_leave_it_open(study):
    found = claims.verdicts(study.ledger)
    assert set(found.drop(EXPERIMENTS)) == {"open"} and set(found[EXPERIMENTS]) == {"not run"}
    table = words.verdict_table(study)
    shown = table[table["verdict"] == "open"]
    assert len(shown) == len(found) - len(EXPERIMENTS)
    assert not shown["effect [95 %], margin"].str.contains("-").any()
    assert shown["what would change it"].str.contains("6 seeds in place of").all()
    assert len(words.contrast_table(study.ledger)) == len(study.ledger) - len(EXPERIMENTS)


def test_other_pictures_have_no_verdict_on_daisies(study):
    assert study.subject == "drawn daisies" and not study.is_daisies
    assert "judge none of its claims about daisies" in words.standing(study)
    agreeing = study.ledger.assign(verdict=["supported", *["refuted"] * (len(study.ledger) - 1)])
    there = SimpleNamespace(ledger=agreeing, name="there", is_daisies=True)
    here = SimpleNamespace(ledger=agreeing, name="here", is_daisies=False)
    table = words.side_by_side([there, here])
    assert list(table["there"][:2]) == ["supported", "refuted"]
    assert list(table["here"][:2]) == ["as claimed", "the contrary"]
    assert list(table["whose"].unique()) == ["the original", "the original's proposal", "ours"]


def test_a_report_is_about_what_its_folder_is_called():
    def subject(source, is_daisies=False):
        found = [SimpleNamespace(settings=SimpleNamespace(data=source))]
        return Study.subject.fget(SimpleNamespace(found=found, is_daisies=is_daisies))

    assert subject("/home/someone/tulips/") == "tulips"
    assert subject("/home/someone/flowers/daisy", is_daisies=True) == "daisies"


def test_effects_are_paired_by_seed_and_image(study):
    judged, errors = study.effects([("pool1", "pool0"), ("pool1", "absent")]).values()
    scores = study.scores.set_index(["arm", "seed", "image"])["mean_absolute_error"]
    by_hand = (scores["pool1"] - scores["pool0"]).groupby("seed").mean().mean()
    assert list(errors.index) == ["pool1 − pool0"] == list(judged.index)
    assert errors["effect"].item() == pytest.approx(by_hand) and errors["seeds"].item() == 2
    assert judged["unit"].item() == "ΔE" and judged["reading"].item() == "open"
    pairs = study.families()["published"]
    assert len(pairs) == 6 and (pairs[0], pairs[-1]) == (("pool1", "pool0"), ("pool3", "pool2"))
    matched = study.effects(MATCHED_CONTRASTS)
    text = words.effects_in_words(matched, MATCHED_CONTRASTS)
    for frame in matched.values():
        assert len(frame) == len(MATCHED_CONTRASTS)
        assert all(words.interval(row) in text for _, row in frame.iterrows())


def effects(**readings):
    """Differences as `Study.effects` gives them, of one metric."""
    rows = {
        "effect": [-2.0, 2, 0.01, 0.5], "low": [-3.0, 1, -0.02, -1], "high": [-1.0, 3, 0.02, 2],
        "unit": "ΔE", "p_holm": np.nan, "seeds": 2, "reading": ["lower", "higher", "none", "open"],
    }  # fmt: skip
    names = ["skip − matched3", "narrow − matched0", "dilated − matched0", "g − h"]
    return pd.DataFrame(rows | readings, index=names)


def test_effects_are_told_as_they_read():
    text = words.effects_in_words({"difference": effects()})
    assert "- skip − matched3 lowers the error (−2.00 [−3.00, −1.00] ΔE)" in text
    assert "- narrow − matched0 raises the error (+2.00" in text
    assert "- dilated − matched0 changes nothing that matters (+0.01" in text
    assert "- g − h leaves open whether the error changes (+0.50" in text
    assert "From 2 seeds everything stays open: a verdict takes 6." in text
    tested = effects(seeds=6, p_holm=[0.01, 0.2, 0.3, 0.4])
    text = words.effects_in_words({"difference": tested, "another": tested}, {("g", "h"): "as g"})
    assert "- as g: g − h leaves open whether the error changes (+0.50 [−1.00, +2.00] ΔE; " in text
    assert "Of 4 tests over 6 seeds, 1 stay below .05" in text
    assert words.matched_in_short(effects()) == (
        "At equal depth and parameters, an eighth of the resolution, with no wider context, raises "
        "the error (+2.00 [+1.00, +3.00] ΔE); wider context at full resolution changes nothing "
        "that matters (+0.01 [−0.02, +0.02] ΔE); a path around the bottleneck lowers the error "
        "(−2.00 [−3.00, −1.00] ΔE)."
    )


def test_tables_hold_what_the_runs_hold(study):
    arms = study.arms_table()
    assert list(arms.index) == [*study.published_arms, *study.matched_arms]
    (skip,) = study.first_runs(["skip"])
    assert arms.loc["skip", "parameters"] == skip.about["parameters"]
    assert arms.loc["skip", "error"] == pytest.approx(skip.scores["mean_absolute_error"].mean())
    satellites = study.satellites_table()
    assert list(satellites.index) == ["pool3", "pool3-average", "pool3-c4"]
    assert set(satellites["seeds"]) == {1}  # the seeds that all of them have
    scores = words.score_table(study.compared, study.published_arms)
    assert "matched0" not in scores.index and "oracle 1 × 1" in scores.index
    assert scores.loc["oracle 32 × 32", "mean absolute error"] == 0
    more = words.more_scores_table(study.compared, study.published_arms)
    assert more.loc["grey", "colourfulness"] < 0.001
    assert np.isnan(more.loc["grey", "test minus training"])
    for table in (arms, satellites, scores, more):
        numbers = table.select_dtypes("number").columns.difference(["receptive field", "seeds"])
        assert set(words.formats(table)) == set(numbers)


def test_detail_bands_and_mixtures_are_said_with_their_numbers(study):
    panels = study.detail()
    title, gain, coherence, carried = panels[0]
    assert title == "published" and list(gain.columns) == facts.band_names(32)
    # A map of 32 pixels carries 16 cycles, one of 16 carries 8, and one of 4 no whole band.
    assert [carried[arm] for arm in ("pool0", "pool1", "pool2", "pool3")] == [
        "8–16", "4–8", "0–4", None,
    ]  # fmt: skip
    said = f"pool2 {coherence.loc['pool2'].iloc[-1]:.2f} and {gain.loc['pool2'].iloc[-1]:.2f}"
    assert said in words.detail_in_words(panels)
    gains = study.band_gains()
    assert list(gains) == ["chroma up to 4 cycles"]
    assert np.isfinite(gains["chroma up to 4 cycles"]["pool3"][0])
    assert np.isnan(gains["chroma up to 4 cycles"]["pool3"][1])  # 4 to 8 cycles: nothing to gain
    assert "band 0–4: pool0" in words.bands_in_words(gains, facts.band_names(32))
    table = words.mixture_table(study.mixtures)
    assert table.loc["pixel oracle", "depths: recovered"] == 1
    assert f"({table.loc['gate', 'depths: error']:.4f})" in words.mixtures_in_words(study.mixtures)
    grid = study.winners(2)
    assert len(grid) == 2 and grid[0][1].shape == (32, 32, 3)
    errors = study.mixtures[study.mixtures["arm"] == "gate over depths"]["mean_absolute_error"]
    gate = study.ledger[study.ledger["contrast"].str.startswith("gate over depths")].iloc[0]
    mean = study.mixtures[study.mixtures["arm"] == "mean ensemble over seeds"]
    assert gate["effect"] == pytest.approx(
        errors.mean() - mean["mean_absolute_error"].mean(), abs=1e-6
    )


def test_depths_and_seeds_are_mixed_on_every_split_that_has_both(study):
    assert [depths[0].settings.split for depths, _ in study.experts] == [0]
    more = [run for run in study.found if run.settings.split != run.settings.seed]
    elsewhere = [
        type(run)(run.folder, {**run.about, "settings": {**run.about["settings"], **moved}})
        for run, seed in zip(more, (0, 2, 3), strict=True)
        if (moved := {"seed": seed, "split": 1})
    ]
    both = comparisons.mixture_experts([*study.found, *elsewhere])
    assert [depths[0].settings.split for depths, _ in both] == [0, 1]
    assert all(len(depths) == len(seeds) == 4 for depths, seeds in both)


def test_losses_and_periods(study):
    curves = study.oscillation_curves()
    assert set(curves) == {"never cleared", "cleared"} and len(curves["cleared"][0]) == 40
    said = words.oscillation_in_words({"never cleared": 3210.0, "cleared": None})
    assert "never cleared: a period of about 3,210 steps" in said
    assert "cleared: no two peaks" in said and "25,000" in said


def test_the_extremes_of_detail_are_those_of_high_frequency_power(study):
    test = data.load_for(study.found[0].settings).test
    rows = extremes_of_detail(test, 1)
    power = np.nansum(metrics.band_power(test.chroma)[..., 2:], axis=(1, 2))
    assert len(rows) == 2 and power[rows[0]] == power.max() and power[rows[1]] == power.min()


def made_up(errors):
    """`compare`'s table from errors {arm: [per seed]}, accuracies left at zero."""
    rows = [
        {
            "kind": "network" if arm.startswith("pool") else "baseline",
            "arm": arm,
            "seed": seed,
            "mean_absolute_error": error,
            **{f"accuracy_8bit_{k:02}": 0.0 for k in range(27)},
        }
        for arm, values in errors.items()
        for seed, error in enumerate(values)
    ]
    return pd.DataFrame(rows)


def test_the_prose_says_what_the_numbers_say():
    agreed = made_up(
        {"pool0": [0.03, 0.04], "pool1": [0.02, 0.03], "lightness table": [0.025, 0.035]}
    )
    text = words.accuracy_in_short(agreed)
    assert "of the range: pool1 0.0250, pool0 0.0350; a table" in text
    assert "reaches 0.0300, which 1 of them beats." in text
    assert "Both seeds rank the depths alike: pool1, pool0." in text
    split = made_up({"pool0": [0.03, 0.02], "pool1": [0.02, 0.03], "lightness table": [0.01, 0.01]})
    text = words.accuracy_in_short(split)
    assert "none of them beat." in text and "do not agree on the order" in text
    assert "pool0 −150.0%" in words.verdict_on_lightness(split)
    single = made_up({"pool0": [0.03], "pool1": [0.02], "lightness table": [0.04]})
    text = words.accuracy_in_short(single)
    assert "all of them beat." in text and "no ranking" in text
    assert "one seed" in words.scatter(single)
    gain = pd.DataFrame({"0–4": [0.9, 0.8], "16–32": [0.5, 0.034]}, index=["pool0", "pool3"])
    assert "(16–32 cycles per image)" in words.detail_in_short(gain)
    assert "hold 50% in pool0 and 3% in pool3." in words.detail_in_short(gain)


def test_margins_over_published_curves_by_hand():
    compared = made_up({"pool2": [0.03], "lightness table": [0.04], "patch boosting": [0.04]})
    compared["accuracy_8bit_12"] = 0.75  # .05 of 255 is 12.75: errors of at most 12 are within
    table = words.published_table(compared)
    assert list(table.index) == ["pool2", "lightness table", "patch boosting"]
    row = table.loc["pool2"]
    assert (row["within 0.05"], row["published, 0.05"]) == ("0.750", "0.620")
    assert row["smallest margin"] == "-0.868 at 0.1"
    bounds = row["not above at"].split(", ")
    assert "0.05" not in bounds and {"0.045", "0.055", "0.1"} <= set(bounds)
    assert table.loc["patch boosting", "smallest margin"] == "–"
