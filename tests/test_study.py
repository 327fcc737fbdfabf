"""The study sorts runs by what they are for, and its sentences hold the numbers of the runs."""

import numpy as np
import pandas as pd
import pytest

from poolae.paper import comparisons, facts, words
from poolae.paper.study import MATCHED_CONTRASTS, Study, extremes_of_detail, neighbours
from poolae.settings import CONTROLS, make_settings
from poolae.train import runs

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
    depths, seeds = study.experts
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
    assert plain.mixtures is None and plain.experts is None
    verdicts = plain.ledger["verdict"]
    assert (verdicts[["pooling itself", "mixture"]] == "not run").all()
    assert (verdicts.drop(["pooling itself", "mixture"]) != "not run").all()


def test_every_claim_is_judged_when_every_arm_is_there(study):
    assert set(study.ledger["verdict"]) <= {"supported", "refuted", "inconclusive"}
    shown = words.ledger_table(study.ledger)
    assert len(shown) == 12 and not shown["effect [95 %]"].str.contains("-").any()
    assert (shown["p"] == "too few seeds").all()


def test_contrasts_are_paired_by_seed_and_image(study):
    frame = study.contrasts([("pool1", "pool0"), ("pool1", "absent")])
    scores = study.scores.set_index(["arm", "seed", "image"])["mean_absolute_error"]
    by_hand = (scores["pool1"] - scores["pool0"]).groupby("seed").mean().mean()
    assert list(frame.index) == ["pool1 − pool0"]
    assert frame["effect"].item() == pytest.approx(by_hand) and frame["seeds"].item() == 2
    assert neighbours(["x", "y", "z"]) == [("y", "x"), ("z", "x"), ("z", "y")]
    matched = study.contrasts(MATCHED_CONTRASTS)
    assert len(matched) == len(MATCHED_CONTRASTS)
    text = words.matched_in_words(matched, 0.0005)
    for name, row in matched.iterrows():
        assert f"({name}): {row['effect']:+.4f}" in text


def test_effects_are_named_by_their_intervals():
    frame = pd.DataFrame(
        {"effect": [-2, 2, 0.1, 0.5], "low": [-3, 1, -0.2, -1], "high": [-1, 3, 0.2, 2],
         "p_holm": np.nan, "seeds": 2},
        index=["a − b", "c − d", "e − f", "g − h"],
    )  # fmt: skip
    text = words.effects_in_words(frame, 0.3)
    assert "lower, by an interval that excludes 0: a against b" in text
    assert "It is higher: c against d" in text
    assert "no effect: e against f" in text and "Not settled: g against h" in text
    assert "From 2 seeds the sign of a difference cannot be tested" in text
    tested = frame.assign(seeds=6, p_holm=[0.01, 0.2, 0.3, 0.4])
    assert "Of 4 sign-flip tests over 6 seeds, 1 stay below" in words.effects_in_words(tested, 0.3)


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
    assert more.loc["grey", "colourfulness"] < 0.001 and np.isnan(
        more.loc["grey", "test minus training"]
    )


def test_detail_bands_and_mixtures_are_said_with_their_numbers(study):
    panels = [
        ("published", *(study.detail(k, study.published_arms) for k in ("gain", "coherence")))
    ]
    assert list(panels[0][1].columns) == facts.band_names(32)
    assert f"pool2 {panels[0][1].loc['pool2'].iloc[-1]:.2f} and" in words.detail_in_words(panels)
    gains = study.band_gains()
    assert list(gains) == ["chroma up to 4 cycles"]
    assert np.isfinite(gains["chroma up to 4 cycles"]["pool3"][0])
    assert np.isnan(gains["chroma up to 4 cycles"]["pool3"][1])  # 4 to 8 cycles: nothing to gain
    assert "band 0–4: pool0" in words.bands_in_words(gains, facts.band_names(32))
    table = words.mixture_table(study.mixtures)
    assert table.loc["pixel oracle", "depths: recovered"] == 1
    assert f"({table.loc['gate', 'depths: error']:.4f})" in words.mixtures_in_words(study.mixtures)
    grid, arms = study.winners([0, 1])
    assert len(grid) == 2 and grid[0][1].shape == (32, 32, 3) and arms == study.published_arms


def test_losses_and_periods(study):
    curves = study.oscillation_curves()
    assert set(curves) == {"never cleared", "cleared"} and len(curves["cleared"][0]) == 40
    said = words.oscillation_in_words({"never cleared": 3210.0, "cleared": None})
    assert "never cleared: a period of about 3,210 steps" in said
    assert "cleared: no two peaks" in said and "25,000" in said


def test_the_extremes_of_detail_are_those_of_high_frequency_power(study):
    from poolae import data

    loaded = data.load_for(study.found[0].settings)
    rows = extremes_of_detail(loaded, 1)
    power = comparisons.metrics.band_power(loaded.test.chroma)[..., 2:]
    power = np.nansum(power, axis=(1, 2))
    assert power[rows[0]] >= power[rows[1]] and len(rows) == 2
