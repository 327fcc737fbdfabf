"""Every claim is supported, refuted and left open by made-up scores that should do so."""

import numpy as np
import pandas as pd
import pytest

from poolae.metrics.statistics import Contrast
from poolae.paper import claims
from poolae.paper.claims import CLAIMS, COLUMNS, judge, ledger, sentence

IMAGES = 24
FAST = dict(resamples=200)
BASELINES = ("grey", "lightness table", "patch boosting")
NETWORKS = (
    *(f"pool{depth}" for depth in range(4)),
    *(f"matched{depth}" for depth in range(4)),
    *("dilated", "narrow", "pool3-c4", "pool3-c1024"),
)
PLAIN = {
    "mean_absolute_error": 0.04,
    "training_error": 0.03,
    "scrambled_error": 0.04,
    "bright_error": 0.05,
    "accuracy_0.010": 0.3,
    "accuracy_0.100": 0.9,
    "gain_8_up": 0.3,
    "coherence_8_up": 0.3,
    "block_r2": 0.5,
    "a_bias": 0.0,
}
METHODS = ("best single expert", "pixel oracle", "segment oracle", "mean", "median", "gate")
OPEN = "open"  # a difference that changes its sign from seed to seed


def make_scores(changes=(), seeds=6, networks=NETWORKS, baselines=BASELINES):
    """Scores that differ between arms by nothing but noise far within the margins.

    `changes` maps (arm, metric) to what is added to every image: a number, or OPEN
    for twenty margins up in one seed and down in the next.
    """
    frames = [
        one_arm(kind, arm, k, dict(changes), seeds)
        for kind, arms in (("network", networks), ("baseline", baselines))
        for k, arm in enumerate(arms)
    ]
    return pd.concat(frames, ignore_index=True)


def one_arm(kind, arm, k, changes, seeds):
    seed, image = np.divmod(np.arange(seeds * IMAGES), IMAGES)
    difficulty = np.sin(7 * seed + 3 * image)  # common to all arms
    frame = {"kind": kind, "arm": arm, "seed": seed, "image": [f"{i}.jpg" for i in image]}
    for metric, value in PLAIN.items():
        margin = 0.2 if metric == "a_bias" else 0.005 if value > 0.1 else 0.0005
        noise = 0.1 * margin * np.sin(11 * seed + 5 * image + k)
        change = changes.get((arm, metric), 0)
        if change == OPEN:
            change = 20 * margin * (-1.0) ** seed
        common = 0 if metric == "a_bias" else 0.1 * value * difficulty
        frame[metric] = value + common + noise + change
    return pd.DataFrame(frame)


def make_mixtures(changes=(), seeds=6):
    """Errors of mixtures, all alike but for the changes of (experts, method)."""
    pairs = [(experts, method) for experts in ("depths", "seeds") for method in METHODS]
    frames = [
        one_arm("mixture", "", k, {("", "mean_absolute_error"): dict(changes).get(pair, 0)}, seeds)[
            ["seed", "image", "mean_absolute_error"]
        ].assign(experts=pair[0], method=pair[1])
        for k, pair in enumerate(pairs)
    ]
    return pd.concat(frames, ignore_index=True)


def each(arms, metric, change):
    return {(arm, metric): change for arm in arms}


ERROR, TRAINING, SCRAMBLED = "mean_absolute_error", "training_error", "scrambled_error"
SMALL, LARGE = "accuracy_0.010", "accuracy_0.100"
POOLS, MATCHED = NETWORKS[:4], NETWORKS[4:8]
DETAIL = ("gain_8_up", "coherence_8_up")

# Claim, what is changed in the scores, verdict. Without any change, all arms are equivalent.
CASES = [
    ("one best", {("pool1", ERROR): -0.005}, "supported"),
    ("one best", {("pool2", ERROR): -0.005}, "refuted"),
    ("one best", {("pool1", ERROR): OPEN}, "inconclusive"),
    # The nearest rival counts, not the mean of the others.
    ("one best", {("pool1", ERROR): -0.005, ("pool3", ERROR): -0.01}, "refuted"),
    ("three at bounds", {("pool3", SMALL): 0.05, ("pool3", LARGE): -0.05}, "supported"),
    ("three at bounds", {("pool3", SMALL): -0.05, ("pool3", LARGE): -0.05}, "refuted"),
    ("three at bounds", {("pool3", SMALL): 0.05, ("pool3", LARGE): 0.05}, "refuted"),
    (
        "three at bounds",  # grey wins small bounds by more, and so explains it
        {("pool3", SMALL): 0.05, ("pool3", LARGE): -0.05, ("grey", SMALL): 0.1},
        "refuted",
    ),
    ("three at bounds", {("pool3", SMALL): 0.05, ("pool3", LARGE): OPEN}, "inconclusive"),
    (
        "three at bounds",
        {("pool3", SMALL): 0.05, ("pool3", LARGE): -0.05, ("grey", SMALL): OPEN},
        "inconclusive",
    ),
    ("two worst", {("pool2", ERROR): 0.005}, "supported"),
    ("two worst", {("pool3", ERROR): 0.005}, "refuted"),
    ("two worst", {("pool2", ERROR): OPEN}, "inconclusive"),
    ("detail", {("matched3", metric): -0.1 for metric in DETAIL}, "supported"),
    ("detail", {}, "refuted"),
    ("detail", {("matched3", "gain_8_up"): -0.1}, "inconclusive"),
    ("detail", {("matched3", "gain_8_up"): OPEN}, "inconclusive"),
    ("block means", {("matched3", "block_r2"): 0.1}, "supported"),
    ("block means", {}, "refuted"),
    ("block means", {("matched3", "block_r2"): -0.1}, "refuted"),
    ("block means", {("matched3", "block_r2"): OPEN}, "inconclusive"),
    ("bottleneck", {("matched3", TRAINING): 0.01, ("pool3-c4", TRAINING): 0.01}, "supported"),
    ("bottleneck", {}, "refuted"),
    ("bottleneck", {("matched3", TRAINING): 0.01}, "inconclusive"),
    ("bottleneck", {("matched3", TRAINING): OPEN}, "inconclusive"),
    ("pooling itself", {("matched3", ERROR): -0.01, ("narrow", ERROR): -0.01}, "supported"),
    ("pooling itself", {("matched3", ERROR): -0.01}, "refuted"),
    ("pooling itself", {("narrow", ERROR): -0.01}, "refuted"),
    ("pooling itself", {("matched3", ERROR): -0.01, ("narrow", ERROR): OPEN}, "inconclusive"),
    ("green", each(MATCHED, "a_bias", -2), "supported"),
    ("green", {}, "refuted"),
    ("green", each(MATCHED, "a_bias", 2), "refuted"),
    ("green", each(MATCHED, "a_bias", OPEN), "inconclusive"),
    (
        "white and yellow",
        {("matched0", "bright_error"): -0.01, ("dilated", "bright_error"): -0.02},
        "supported",
    ),
    ("white and yellow", {}, "refuted"),
    # Some context helps, and more of it does not.
    ("white and yellow", each(["matched0", "dilated"], "bright_error", -0.01), "inconclusive"),
    ("white and yellow", {("dilated", "bright_error"): OPEN}, "inconclusive"),
    ("flower shapes", {}, "supported"),
    ("flower shapes", each(MATCHED, SCRAMBLED, 0.01), "refuted"),
    ("flower shapes", each(MATCHED, SCRAMBLED, OPEN), "inconclusive"),
    ("lightness", {("dilated", ERROR): -0.01}, "supported"),
    ("lightness", {}, "refuted"),
    ("lightness", {("patch boosting", ERROR): -0.01}, "refuted"),
    ("lightness", {("lightness table", ERROR): -0.01}, "refuted"),
    ("lightness", each(["lightness table", "patch boosting"], ERROR, OPEN), "inconclusive"),
]
BETTER = {("depths", "pixel oracle"): -0.01, ("depths", "segment oracle"): -0.01}
MIXTURES = [
    (BETTER | {("depths", "gate"): -0.01}, "supported"),
    (BETTER, "refuted"),
    ({("depths", "gate"): -0.01}, "refuted"),
    (BETTER | {("depths", "gate"): -0.01, ("seeds", "median"): -0.02}, "refuted"),
    (BETTER | {("depths", "gate"): OPEN}, "inconclusive"),
]


@pytest.mark.parametrize(("claim", "changes", "verdict"), CASES)
def test_verdict(monkeypatch, claim, changes, verdict):
    monkeypatch.setattr(claims, "CLAIMS", {claim: CLAIMS[claim]})  # the others take time
    row = ledger(make_scores(changes), **FAST).loc[claim]
    assert row["verdict"] == verdict
    assert row["low"] <= row["effect"] <= row["high"]
    assert row["seeds"] == 6 and row["tested"] == "sign flips of 6 seeds"


@pytest.mark.parametrize(("changes", "verdict"), MIXTURES)
def test_verdict_on_mixtures(monkeypatch, changes, verdict):
    monkeypatch.setattr(claims, "CLAIMS", {"mixture": CLAIMS["mixture"]})
    row = ledger(make_scores(), make_mixtures(changes), **FAST).loc["mixture"]
    assert row["verdict"] == verdict
    assert row["seeds"] == 6


def test_every_claim_has_met_every_verdict():
    seen = {(claim, verdict) for claim, _, verdict in CASES}
    seen |= {("mixture", verdict) for _, verdict in MIXTURES}
    assert seen == {(c, v) for c in CLAIMS for v in ("supported", "refuted", "inconclusive")}
    assert len(CLAIMS) == 12


def test_the_published_family_serves_where_the_matched_one_is_absent():
    """The same verdicts, from pool0 and pool3, and the text says so."""
    changes = {
        **{("pool3", metric): -0.1 for metric in DETAIL},
        ("pool3", "block_r2"): 0.1,
        ("pool3", TRAINING): 0.01,
        ("pool3-c4", TRAINING): 0.01,
        ("pool1", "bright_error"): -0.01,
        ("pool1", ERROR): -0.01,
        **each(POOLS, "a_bias", -2),
        **each(POOLS, SCRAMBLED, 0.01),
    }
    published = [arm for arm in NETWORKS if arm.startswith("pool")]
    found = ledger(make_scores(changes, networks=published), **FAST)
    keys = ["detail", "block means", "bottleneck", "green", "white and yellow"]
    assert (found.loc[keys, "verdict"] == "supported").all()
    assert found.loc["flower shapes", "verdict"] == "refuted"
    assert found.loc[[*keys, "flower shapes"], "contrast"].str.contains("published family").all()
    assert "pool1 − lightness table" in found.loc["white and yellow", "contrast"]
    assert "receptive field grows" in found.loc["detail", "note"]

    both = ledger(make_scores(changes), **FAST).loc[keys]
    assert (both["verdict"] != "supported").all()
    assert both["contrast"].str.contains("matched family").all()


def test_detail_falls_back_on_depth_where_there_is_no_dilated_network():
    networks = [arm for arm in NETWORKS if arm != "dilated"]
    changes = {("matched3", metric): -0.1 for metric in DETAIL}
    found = ledger(make_scores(changes, networks=networks), **FAST)
    assert "matched3 − matched0 (matched family)" in found.loc["detail", "contrast"]
    assert found.loc["detail", "verdict"] == "supported"
    assert found.loc["pooling itself", "verdict"] == "not run"
    assert found.loc["pooling itself", "contrast"].endswith("; needs dilated")


def test_what_is_missing_is_named():
    found = ledger(make_scores(networks=["matched0"], baselines=["grey"]), **FAST)
    assert (found["verdict"] == "not run").all()
    assert found[["effect", "low", "high", "p", "p_holm"]].isna().all(axis=None)
    assert (found["seeds"] == 0).all()
    ends = {key: contrast.rsplit("; ")[-1] for key, contrast in found["contrast"].items()}
    assert ends["one best"] == "needs pool0 ... pool3"
    assert ends["three at bounds"] == "needs pool1, pool3"
    assert ends["detail"] == "needs dilated, matched3 or matched3 or pool0, pool3"
    assert ends["pooling itself"] == "needs matched3, dilated, narrow"
    assert ends["green"] == "needs matched1, matched2, matched3 or pool0 ... pool3"
    assert ends["mixture"] == "needs the comparison of mixtures"
    assert ends["lightness"].startswith("needs lightness table, patch boosting or")


@pytest.mark.parametrize("absent", [True, False])
def test_a_metric_without_values_is_named(absent):
    scores = make_scores(networks=POOLS)
    if absent:
        scores = scores.drop(columns="training_error")
    else:  # as bands above the Nyquist frequency are
        scores["training_error"] = np.nan
    row = ledger(scores, **FAST).loc["bottleneck"]
    assert row["verdict"] == "not run"
    assert (
        "needs matched0, matched3 or mean_absolute_error and training_error of pool0, pool3"
        in (row["contrast"])
    )


def test_arms_that_share_no_seed_are_not_compared():
    scores = make_scores()
    scores.loc[scores["arm"] == "matched3", "seed"] += 10
    row = ledger(scores, **FAST).loc["block means"]
    assert row["verdict"] == "not run"
    assert "matched3 and matched0 share no image" in row["contrast"]


def test_a_table_without_networks_says_so():
    row = ledger(make_scores(networks=()), **FAST).loc["lightness"]
    assert row["verdict"] == "not run"
    assert "no network shares an image with lightness table" in row["contrast"]


def test_one_baseline_is_enough():
    scores = make_scores({("dilated", ERROR): -0.01}, baselines=["lightness table"])
    row = ledger(scores, **FAST).loc["lightness"]
    assert row["verdict"] == "supported"
    assert "dilated − lightness table" in row["contrast"]
    assert "patch boosting" not in row["note"]


def test_the_harder_baseline_is_shown():
    scores = make_scores({("dilated", ERROR): -0.01, ("patch boosting", ERROR): -0.002})
    row = ledger(scores, **FAST).loc["lightness"]
    assert "dilated − patch boosting" in row["contrast"]
    assert row["effect"] == pytest.approx(-0.008, abs=1e-4)
    assert "dilated − lightness table" in row["note"]


def test_an_arm_of_few_seeds_is_not_the_best_network():
    scores = make_scores({("dilated", ERROR): -0.01, ("narrow", ERROR): -0.02})
    few = scores[(scores["arm"] != "narrow") | (scores["seed"] < 2)]
    assert "dilated − " in ledger(few, **FAST).loc["lightness", "contrast"]


def test_two_pools_have_to_be_last_in_every_seed():
    scores = make_scores({("pool2", ERROR): 0.005})
    easy = (scores["arm"] == "pool2") & (scores["seed"] == 0)
    scores.loc[easy, ERROR] -= 0.008
    row = ledger(scores, **FAST).loc["two worst"]
    assert row["low"] > 0 and row["verdict"] == "inconclusive"
    assert row["note"] == "pool2 is last in 5 of 6 seeds"


def test_two_pools_that_are_seldom_last_are_not_worst():
    scores = make_scores()
    hard = (scores["arm"] == "pool2") & (scores["seed"] < 2)
    scores.loc[hard, ERROR] += 0.02
    scores.loc[(scores["arm"] == "pool3") & (scores["seed"] >= 2), ERROR] += 0.001
    row = ledger(scores, **FAST).loc["two worst"]
    assert row["low"] < 0 < row["high"]
    assert row["verdict"] == "refuted" and row["note"] == "pool2 is last in 2 of 6 seeds"


def test_depth_alone_serves_where_channels_were_not_varied():
    networks = [arm for arm in NETWORKS if "-c" not in arm]
    row = ledger(make_scores({("matched3", TRAINING): 0.01}, networks=networks), **FAST)
    assert row.loc["bottleneck", "verdict"] == "supported"
    assert "depth alone" in row.loc["bottleneck", "note"]


def test_names_of_ensembles_and_a_missing_seed_are_understood():
    mixtures = make_mixtures(BETTER | {("depths", "gate"): -0.01}, seeds=1).drop(columns="seed")
    mixtures["method"] = mixtures["method"].replace({"mean": "mean ensemble"})
    row = ledger(make_scores(), mixtures, **FAST).loc["mixture"]
    assert (row["verdict"], row["seeds"]) == ("supported", 1)
    assert row["tested"] == "no: one seed, so that the interval is of images alone"


def test_the_contrast_that_decides_is_shown_and_the_others_noted():
    changes = {("pool3", SMALL): 0.05, ("pool3", LARGE): 0.04}  # the second part fails
    row = ledger(make_scores(changes), **FAST).loc["three at bounds"]
    assert row["contrast"] == "accuracy at bound 0.1, pool3 − pool1 (published family)"
    assert row["effect"] == pytest.approx(0.04, abs=1e-3)
    assert row["note"].count("also accuracy at bound 0.01, pool3 − ") == 2


def test_few_seeds_have_verdicts_but_no_p():
    found = ledger(make_scores({("pool1", ERROR): -0.005}, seeds=2), make_mixtures(seeds=2), **FAST)
    assert found["p"].isna().all() and found["p_holm"].isna().all()
    assert (found["tested"] == "no: 2 seeds, where sign flips need 6").all()
    assert found.loc["one best", "verdict"] == "supported"
    assert "12 of the 12 verdicts rest on fewer than 6 seeds" in sentence(found)


def test_p_is_corrected_over_all_contrasts_of_the_ledger():
    found = ledger(make_scores({("pool1", ERROR): -0.005}), make_mixtures(), **FAST)
    # One contrast each for one best, two worst, block means, green and flower shapes, two for
    # detail, bottleneck, pooling itself, white and yellow and lightness, three for the others: 21.
    assert found.loc["one best", "p"] == pytest.approx(2 / 64)
    assert found.loc["one best", "p_holm"] == pytest.approx(21 * 2 / 64)
    assert (found["p_holm"] >= found["p"]).all()


def test_table_has_its_columns_and_units():
    found = ledger(make_scores(), make_mixtures(), **FAST)
    assert list(found.columns) == COLUMNS and list(found.index) == list(CLAIMS)
    assert found.loc["green", "unit"] == "Lab units"
    assert found.loc["one best", "unit"] == "of the range"
    assert found.loc["detail", "unit"] == "score"
    assert found["claim"].is_unique


def test_sentence_counts():
    table = pd.DataFrame(
        {
            "claim": ["A holds.", "B holds.", "C fails.", "D is open.", "E was not seen."],
            "verdict": ["supported", "supported", "refuted", "inconclusive", "not run"],
            "p": [0.5, 0.5, 0.5, np.nan, np.nan],
        }
    )
    assert sentence(table) == (
        "Of 5 claims of the original study the runs at hand support 2, refute 1, leave 1 open and "
        "cannot judge 1; 1 of the 4 verdicts rests on fewer than 6 seeds, which cannot be tested "
        "by sign flips."
    )
    two = sentence(table[:2])
    assert two == "Of 2 claims of the original study the runs at hand support 2."


def interval(low, high):
    """A contrast whose 90 % interval is nine tenths of its 95 % one."""
    middle, half = (low + high) / 2, 0.45 * (high - low)
    return Contrast("psnr", ("a",), middle, low, high, middle - half, middle + half, None, 3, 9)


@pytest.mark.parametrize(
    ("low", "high", "above", "below", "none"),
    [
        (2, 3, "supported", "refuted", "refuted"),
        (-3, -2, "refuted", "supported", "refuted"),
        (-2, 3, "inconclusive", "inconclusive", "inconclusive"),
        (-0.5, 0.5, "refuted", "refuted", "supported"),
        (0.1, 0.5, "refuted", "refuted", "supported"),  # a difference too small to matter
    ],
)
def test_rules(low, high, above, below, none):
    verdicts = [judge(interval(low, high), c, 1) for c in ("above", "below", "no difference")]
    assert verdicts == [above, below, none]


def test_without_a_margin_the_sign_decides():
    assert judge(interval(0.1, 0.5), "above", None) == "supported"
    assert judge(interval(-0.5, -0.1), "above", None) == "refuted"
    assert judge(interval(-0.5, 0.5), "above", None) == "inconclusive"
