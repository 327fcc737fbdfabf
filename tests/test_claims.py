"""Every claim is supported, refuted, too small and open by made-up scores that make it so."""

import gc

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from poolae.metrics.statistics import one_sample, paired_contrast
from poolae.paper import claims, words
from poolae.paper.claims import CLAIMS, METRICS, decisive, judge, ledger, together, verdicts

IMAGES = 8
BASELINES = ("grey", "lightness table", "patch boosting")
POOLS, MATCHED = ([f"{family}{depth}" for depth in range(4)] for family in ("pool", "matched"))
CONTRASTS = [part for claim in CLAIMS.values() for part in (*claim.parts, *claim.instead)]
# Those of the families, and whatever a claim asks for.
ARMS = dict.fromkeys(
    [*POOLS, *MATCHED, *BASELINES, *(arm for one in CONTRASTS for arm in one.arms)]
)
PLAIN = {
    "mean_absolute_error": 0.04,
    "training_error": 0.03,
    "scrambled_error": 0.04,
    "petal_error": 0.05,
    "ciede2000": 10.0,
    "petal_auc_lightness": 0.5,
    "own_block_r2": 0.5,
    "a_bias": 0.0,
    **{f"accuracy_{t:.3f}": 0.5 for t in (0.01, 0.02, 0.05, 0.1)},
    **{f"{k}_{band}": 0.3 for k in ("gain", "coherence") for band in ("0_4", "4_8", "8_16")},
}
MARGINS = {metric: METRICS.get(metric, ("", claims.DETAIL))[1].margin for metric in PLAIN} | {
    "training_error": 0.0005,
    "scrambled_error": 0.0005,
}
OPEN = "open"  # a difference that changes its sign from seed to seed


@pytest.fixture(autouse=True)
def collect_no_garbage(monkeypatch):
    """statsmodels asks for it in each of hundreds of corrections: a third of the time of all."""
    monkeypatch.setattr(gc, "collect", lambda: 0)


def make_scores(changes=(), seeds=6, arms=tuple(ARMS)):
    """Scores that differ between arms by nothing but noise far within the margins.

    `changes` maps (arm, metric) to how many margins are added to every image, or to OPEN for
    twenty up in one seed and down in the next.
    """
    seed, image = np.divmod(np.arange(seeds * IMAGES), IMAGES)
    difficulty = np.sin(7 * seed + 3 * image)  # common to all arms
    frames = []
    for k, arm in enumerate(arms):
        frame = {"arm": arm, "seed": seed, "image": [f"{i}.jpg" for i in image]}
        for metric, value in PLAIN.items():
            margin = MARGINS[metric]
            change = dict(changes).get((arm, metric), 0)
            change = 20 * (-1.0) ** seed if change == OPEN else change
            common = 0.1 * value * difficulty * (metric != "petal_auc_lightness")
            noise = 0.1 * np.sin(11 * seed + 5 * image + k)
            frame[metric] = value + common + margin * (noise + change)
        frames.append(pd.DataFrame(frame))
    return pd.concat(frames, ignore_index=True)


def each(arms, metrics, change):
    return {(arm, metric): change for arm in arms for metric in metrics}


def alone(monkeypatch, claim):
    monkeypatch.setattr(claims, "CLAIMS", {claim: CLAIMS[claim]})  # the others take time


def sides(claim):
    """Yield each contrast with the column that moves it, and the sign that its claim gives that."""
    for part in CLAIMS[claim].parts:
        metric = {
            "train_test_gap": "training_error",
            "scrambling_cost": "scrambled_error",
            "petal_lightness": "petal_auc_lightness",
            "fine_gain": "gain_8_16",
            "fine_coherence": "coherence_8_16",
        }.get(part.metric, part.metric)
        sign = {"lower": -1, "higher": 1, "none": 0}[part.claimed]
        yield part, metric, -sign if metric == "training_error" else sign


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_claim_stands_with_all_of_its_contrasts_and_falls_with_any(monkeypatch, claim):
    """Each contrast is moved by its own metric alone, whatever other claims make of that."""
    alone(monkeypatch, claim)
    supporting = {}
    for part, metric, sign in sides(claim):
        if sign and not part.beside:
            supporting[part.arms[0], metric] = 30 * sign
    if claim == "white and yellow":  # a chain: dilated below matched0, that below the table
        supporting["dilated", "petal_error"] = 4 * supporting["matched0", "petal_error"]
    arms = {arm for part in CLAIMS[claim].parts for arm in part.arms}
    found = ledger(make_scores(supporting, arms=arms))
    assert set(found.loc[~found["beside"], "says"]) == {"supported"}
    assert set(found["verdict"]) == {"supported"}

    differences = [(part, metric, sign) for part, metric, sign in sides(claim) if not part.beside]
    for part, metric, sign in differences[:: max(1, len(differences) // 4)]:
        against = supporting | {(part.arms[0], metric): -30 * (sign or 1)}
        for other in part.arms[1:]:
            against[other, metric] = 0
        found = ledger(make_scores(against, arms=arms))
        assert set(found["verdict"]) == {"refuted"}, part
        found = ledger(make_scores(against | {(part.arms[0], metric): OPEN}, arms=arms))
        own = found[(found["contrast"] == " − ".join(part.arms)) & ~found["beside"]]
        assert "open" in set(own["says"]), part
        assert set(found["verdict"]) <= {"open", "refuted", "too small to matter"}


@pytest.mark.parametrize("claim", CLAIMS)
def test_without_any_difference_every_claimed_one_is_too_small(monkeypatch, claim):
    alone(monkeypatch, claim)
    found = ledger(make_scores())
    claimed = {part.claimed for part in CLAIMS[claim].parts if not part.beside}
    assert set(found["verdict"]) == {"supported" if claimed == {"none"} else "too small to matter"}


def test_the_rule_is_symmetric():
    readings = ("lower", "higher", "none", "open")
    assert [judge(r, "lower") for r in readings] == [
        "supported", "refuted", "too small to matter", "open",
    ]  # fmt: skip
    assert [judge(r, "higher") for r in readings] == [
        "refuted", "supported", "too small to matter", "open",
    ]  # fmt: skip
    assert [judge(r, "none") for r in readings] == ["refuted", "refuted", "supported", "open"]
    assert together(["supported", "open", "too small to matter"]) == "too small to matter"
    assert together(["open", "refuted", "too small to matter"]) == "refuted"
    assert together(["supported", "open"]) == "open" and together(["supported"]) == "supported"


def test_no_claim_is_exempt_and_each_says_whose_it_is():
    whose = [claim.by for claim in CLAIMS.values()]
    assert sorted(whose, key=["the original", "the original's proposal", "ours"].index) == whose
    for claim in CLAIMS.values():
        assert not all(part.beside for part in claim.parts)
        for part in (*claim.parts, *claim.instead):
            assert METRICS[part.metric][1].margin > 0 and METRICS[part.metric][1].reason
            assert part.claimed in ("lower", "higher", "none")


@pytest.mark.parametrize("seeds", [1, 2, 5])
def test_few_seeds_leave_everything_open(seeds):
    changes = {("pool1", "ciede2000"): -100, ("narrow", "ciede2000"): -200}
    found = ledger(make_scores(changes, seeds))
    assert set(found["verdict"]) == {"open"} and found["p"].isna().all()
    assert set(words.contrast_table(found)["p"]) == {"too few seeds"}
    assert (
        claims.decisive(found)
        .apply(words.would_change, axis=1)
        .eq(f"6 seeds in place of {seeds}")
        .all()
    )


def test_the_published_family_serves_where_the_matched_one_is_absent():
    published = [arm for arm in ARMS if arm.startswith("pool")]
    changes = each(["pool3"], ["coherence_8_16", "gain_8_16"], -30)
    found = ledger(make_scores(changes, arms=[*published, *BASELINES])).set_index("key")
    for key in ("detail", "block means", "bottleneck", "white and yellow", "flower shapes"):
        assert found.loc[[key], "contrast"].str.contains("pool").any()
    assert set(found.loc["detail", "verdict"]) == {"supported"}
    assert set(found.loc["detail", "word"]) == {"the receptive field grows with pooling"}
    assert found.loc["pooling itself", "verdict"] == "not run"
    assert found.loc["pooling itself", "lacks"] == "needs matched3, dilated, narrow, matched0"


def test_what_is_missing_is_named():
    found = ledger(make_scores(arms=["matched0", "grey"]))
    assert set(found["verdict"]) == {"not run"} and len(found) == len(CLAIMS)
    lacks = found.set_index("key")["lacks"]
    assert lacks["one best"] == "needs pool1, pool0, pool2, pool3"
    assert lacks["detail"] == "needs matched3, dilated"
    assert lacks["lightness"] == "needs pool1, lightness table, patch boosting"


@pytest.mark.parametrize("absent", [True, False])
def test_a_metric_without_values_is_named_and_no_stale_number_stands_for_it(absent):
    scores = make_scores()
    if absent:  # as in a record that is older than the metric
        scores = scores.drop(columns=["own_block_r2", "scrambled_error"])
    else:
        scores[["own_block_r2", "scrambled_error"]] = np.nan
    found = ledger(scores).set_index("key")
    assert found.loc["block means", "lacks"] == "needs own_block_r2 of matched3, dilated"
    assert found.loc["flower shapes", "lacks"].startswith(
        "needs scrambled_error and mean_absolute_error of matched3, patch boosting"
    )
    assert found.loc[["block means", "flower shapes"], "effect"].isna().all()
    assert set(found.loc["detail", "verdict"]) == {"too small to matter"}


def test_a_contrast_beside_a_claim_is_shown_and_decides_nothing():
    few = make_scores({("pool1", "ciede2000"): -30, ("pool1", "accuracy_0.010"): -30})
    few = few[(few["arm"] != "pool3-c4") | (few["seed"] == 0)]
    found = ledger(few)
    lightness = found[found["key"] == "lightness"]
    assert list(lightness["beside"]) == [False, False, True]
    assert set(lightness["verdict"]) == {"supported"}
    assert lightness["says"].iloc[-1] == "refuted"
    bottleneck = found[found["key"] == "bottleneck"]
    assert bottleneck["verdict"].iloc[0] == "too small to matter"
    assert bottleneck["seeds"].iloc[-1] == 1 and "parameters" in bottleneck["word"].iloc[-1]


def test_every_contrast_counts_in_holms_correction():
    found = ledger(make_scores({("pool1", "ciede2000"): -5}))
    parts = sum(len(claim.parts) for claim in CLAIMS.values())
    assert len(found) == parts == found["p"].notna().sum()
    least = found.loc[found["p"].idxmin()]
    assert least["p_holm"] == pytest.approx(min(1, parts * least["p"]))


def test_gains_are_medians_over_images_of_the_three_highest_bands():
    scores = make_scores(arms=["matched3", "dilated"])
    wild = (scores["arm"] == "dilated") & (scores["image"] == "0.jpg")
    for column in ("gain_4_8", "coherence_4_8"):
        scores.loc[wild, column] += 1000
    scores["gain_16_32"] = np.nan  # above the Nyquist frequency of the images
    table = claims.with_derived(scores)
    one = table[(table["arm"] == "dilated") & (table["seed"] == 0)]
    raw = scores[(scores["arm"] == "dilated") & (scores["seed"] == 0)]
    expected = np.mean([raw[f"gain_{b}"].median() for b in ("0_4", "4_8", "8_16")])
    np.testing.assert_allclose(one["fine_gain"], expected)
    assert one["fine_coherence"].max() > 300  # bounded in truth, and a mean


def test_means_on_record_are_judged_by_the_corrected_interval():
    scores = make_scores({("matched3", "ciede2000"): 5}, arms=["matched3", "dilated"])
    means = scores.groupby(["arm", "seed"]).mean(numeric_only=True).reset_index()
    table = claims.with_derived(means.assign(image="all"))
    found = claims.contrast_of(table, "ciede2000", "matched3", "dilated")
    per_image = paired_contrast(scores, "ciede2000", "matched3", "dilated")
    assert found.effect == pytest.approx(per_image.effect)
    corrected = per_image.corrected_low, per_image.corrected_high
    assert (found.low, found.high) == pytest.approx(corrected)
    error = (found.high - found.low) / 2 / stats.t.ppf(0.975, 5)
    assert found.p == pytest.approx(2 * stats.t.sf(found.effect / error, 5))
    assert found.detectable == pytest.approx(error * 3.49, rel=0.01)  # of a t test, power .8


def test_what_a_verdict_hangs_on_is_nearest_to_another_where_all_have_to_agree():
    changes = {("pool2", "ciede2000"): 10, ("pool1", "ciede2000"): 5}
    found = ledger(make_scores(changes))
    row = decisive(found).loc["two worst"]
    assert row["contrast"] == "pool2 − pool1" and row["verdict"] == "supported"
    assert row["slack"] == pytest.approx(row["low"] - row["margin"])
    assert words.would_change(row).startswith("an interval moved by 0.")
    changes = {("pool2", "ciede2000"): -10, ("pool3", "ciede2000"): 10}
    row = decisive(ledger(make_scores(changes))).loc["two worst"]
    assert row["contrast"] == "pool2 − pool3" and row["verdict"] == "refuted"


def test_an_open_verdict_says_what_so_many_seeds_can_show():
    found = ledger(make_scores({("pool2", "ciede2000"): OPEN}))
    row = decisive(found).loc["two worst"]
    assert row["verdict"] == "open"
    assert words.would_change(row) == f"more seeds: 6 show effects from {row['detectable']:.2f}"


def test_a_mean_of_one_arm_is_held_against_0():
    scores = make_scores({("pool1", "a_bias"): -3})
    found = ledger(scores)
    row = found[(found["key"] == "green") & (found["contrast"] == "pool1")].iloc[0]
    assert row["effect"] == pytest.approx(one_sample(scores, "a_bias", "pool1").effect)
    assert row["says"] == "supported" and row["verdict"] == "too small to matter"


def test_verdicts_are_counted_apart_for_the_original_and_for_us():
    found = ledger(make_scores())
    assert list(verdicts(found).index) == list(CLAIMS)
    some = ["one best", "two worst", "flower shapes", "mixture", "lightness", "operator"]
    assert words.verdicts_in_words(found[found["key"].isin(some)]) == (
        "Of the original's 4 claims, 1 supported and 3 too small to matter; of our 2 claims, "
        "1 supported and 1 too small to matter."
    )
