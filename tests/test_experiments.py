"""What the record's experiments vary: each by its run's name, trained at the smallest scale."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from poolae import data
from poolae.models import build_for
from poolae.paper import comparisons, figures, words
from poolae.paper.study import Study
from poolae.settings import PROFILES, UserError, from_name, make_settings
from poolae.train import loop, runs

ROOT = Path(__file__).parents[1]
BASES = ["pool1", "pool3", "matched3"]
VARIED = {  # to the receptive field that is built, and the side of the bottleneck of 32
    "matched3-max5": (117, 4),
    "matched3-transposed": (89, 4),
    "pool3-bilinear": (165, 4),
    "area2": (89, 16),
    "area4": (89, 8),
    "lossless-ungrouped": (68, 4),
}
EFFORTS = ["pool1-images9", "pool1-images9-steps3", "pool1-early"]
TINY = dict(steps=2, base_width=2, images=20, crops=0.0)


def smoke(name):
    return from_name(f"{name}-seed0", profile="smoke", precision="float32")


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The arms above, very small, after two steps."""
    results = tmp_path_factory.mktemp("results")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PROFILES, "smoke", PROFILES["smoke"] | TINY)
        names = [*BASES, *VARIED, *EFFORTS]
        return Study([runs.train(smoke(name), results) for name in names], results)


def test_each_is_built_as_its_table_says(study):
    table = study.arms_table().combine_first(study.satellites_table())
    assert set(table.index) == {*BASES, *VARIED}
    for arm, (seen, side) in VARIED.items():
        assert table.loc[arm, "receptive field"] == seen
        assert table.loc[arm, "side of the bottleneck"] == side
        assert build_for(smoke(arm)).bottleneck.reduction * side == 32
    assert "fine coherence" in study.arms_table()  # measured: the manipulation check of lossless
    assert study.families()["satellites"] == [
        ("matched3-max5", "matched3"),
        ("matched3-transposed", "matched3"),
        ("pool3-bilinear", "pool3"),
    ]


def test_the_surface_holds_every_effort_and_what_it_varies(study):
    table = study.surface.set_index(["part", "steps", "early"])
    assert set(table["arm"]) == {"pool1"} and (table["seeds"] == 1).all()
    run = {run.arm: run for run in study.found}
    for key, arm in {
        (0, 2, False): "pool1",
        (9, 2, False): "pool1-images9",
        (9, 3, False): "pool1-images9-steps3",
        (0, 2, True): "pool1-early",
    }.items():
        error = run[arm].scores["mean_absolute_error"].mean()
        assert table.loc[key, "error"] == pytest.approx(error)
        assert table.loc[key, "gap"] == pytest.approx(error - run[arm].about["training_error"])
    assert list(table["images"][9]) == [9, 9]
    few, all_of_them = figures.surface_figure(table.reset_index()).axes
    assert [line.get_linestyle() for line in few.lines] == ["-"]
    assert [line.get_linestyle() for line in all_of_them.lines] == ["-", ":"]
    assert comparisons.surface(study.trained[:1]).empty


def test_the_surface_compares_equal_seeds(study):
    known = study.trained[study.trained["arm"].isin(["pool1", "pool1-images9"])]
    second = known[known["arm"] == "pool1"].assign(seed=1, mean_absolute_error=0.9)
    table = comparisons.surface(pd.concat([known, second]))
    assert list(table["seeds"]) == [1, 1] and table["error"].max() < 0.9


def errors_of(arms):
    """A row per run of arms whose ΔE is given for each of two seeds."""
    about = {"": (571, 400), "-images143": (143, 400), "-steps1600-early": (457, 1600)}
    rows = [
        (base + effort, seed, *about[effort], 0.04, 0.03, delta_e)
        for base, efforts in arms.items()
        for effort, seeds in efforts.items()
        for seed, delta_e in enumerate(seeds)
    ]
    names = ["arm", "seed", "training_images", "steps", "mean_absolute_error", "training_error"]
    return pd.DataFrame(rows, columns=[*names, "ciede2000"])


def test_orders_are_paired_by_seed_and_told_where_they_turn():
    runs = errors_of(
        {
            "pool3": {"": [10.0, 11.0], "-images143": [12.0, 12.4], "-steps1600-early": [9.0]},
            "pool1": {"": [10.5, 11.25], "-images143": [11.0, 12.0], "-steps1600-early": [9.5]},
            "pool0": {"": [1.0, 1.0]},  # in which nothing varies
            "pool3-blur": {"": [1.0, 1.0], "-images143": [1.0, 1.0]},  # another network
        }
    )
    found = comparisons.orders(runs, [("pool3", "pool1"), ("dilated", "pool1"), ("pool3", "pool0")])
    assert set(found["pair"]) == {"pool3 − pool1"}
    table = words.order_table(found)
    assert dict(table.loc["pool3 − pool1"]) == {
        "400 steps on 143 images": "+0.70 (+0.40 to +1.00)",
        "400 steps on all images": "−0.38 (−0.50 to −0.25)",
        "up to 1,600 steps on all images": "−0.50 (−0.50 to −0.50)",
    }
    assert words.orders_in_words(found) == (
        "Trained for 400 and 1,600 steps on 143 and all images, pool3 is, against pool1, behind "
        "with 400 steps on 143 images (by 0.70 ΔE) and ahead elsewhere (by 0.38 to 0.50 ΔE); means "
        "over 1 to 2 seeds, of which a verdict takes 6."
    )
    torn = errors_of({"pool3": {"": [10.0, 11.0], "-images143": [12.0, 12.4]},
                      "pool1": {"": [10.2, 10.7], "-images143": [11.0, 12.0]}})  # fmt: skip
    said = words.orders_in_words(comparisons.orders(torn, [("pool3", "pool1")]))
    assert "ahead in some seeds, behind in others, with 400 steps on all images (by 0.05" in said
    written = words.written(words.surface_table(comparisons.surface(runs)))
    assert list(written[["arm", "steps", "stopped early", "images"]].itertuples(index=False))[
        :3
    ] == [
        ("pool3", "400", "no", "143"),
        ("pool3", "400", "no", "571"),
        ("pool3", "1,600", "yes", "457"),
    ]
    behind = words.orders_in_words(found[found["effect"] > 0])
    assert "400 steps on 143 images, pool3 is, against pool1, behind throughout (by 0.70" in behind
    assert comparisons.orders(runs, [("dilated", "pool1")]).empty


def test_fewer_training_images_are_among_more():
    whole = data.load_for(smoke("pool1"))
    some, more = (data.load_for(smoke(f"pool1-images{n}")) for n in (9, 18))
    assert set(some.train.names) < set(more.train.names) < set(whole.train.names)
    assert (len(some.train), len(more.train)) == (9, 18)
    assert some.test.names == whole.test.names and some.validation is None
    other = data.load_for(make_settings(1, 1, profile="smoke", training_images=9, split=0))
    assert other.train.names == some.train.names  # the split picks them, whatever the seed
    row = whole.train.names.index(some.train.names[4])
    np.testing.assert_array_equal(some.train.chroma[4:5], whole.train.chroma[row : row + 1])
    with pytest.raises(UserError, match="training_images is 99, .* holds 36 images: give 2 to 36"):
        data.load_for(smoke("pool1-images99"))


def test_the_validation_part_is_taken_from_the_training_part_in_whole_groups(monkeypatch):
    whole = data.load_for(smoke("pool1"))
    train, kept = set(whole.train.names), data.load_for(smoke("pool1-early"))
    assert set(kept.train.names) | set(kept.validation.names) == train
    assert len(kept.validation) == 7 and len(kept.train) == 29  # a fifth of 36
    both = data.load_for(smoke("pool1-images18-early"))
    assert len(both.validation) == 3 and len(both.train) == 15
    # Near-duplicates, five and five: wherever the border falls, it cuts none of them.
    images = data.images.replace(whole.images, groups=np.arange(len(whole.images)) // 5)
    alike = data.images.replace(whole, images=images)
    monkeypatch.setattr(data.images, "load", lambda *_, **__: alike)
    group = dict(zip(images.names, images.groups, strict=True))
    for count in range(10, 37):
        parts = data.load_for(smoke(f"pool1-images{count}-early"))
        train, kept = ({group[n] for n in part.names} for part in (parts.train, parts.validation))
        assert not train & kept and len(parts.validation) >= count // 5
        assert len(parts.train) + len(parts.validation) == count


def fit(settings, path, loaded):
    return loop.fit(
        settings,
        loaded.train.lightness,
        np.zeros(loaded.train.chroma.shape, np.float32),  # the longer, the worse
        loaded.test.lightness[0],
        path / "checkpoint",
        validation=loaded.validation.in_memory(),
    )


def test_early_stopping_keeps_the_best_weights_even_if_it_is_interrupted(tmp_path, monkeypatch):
    settings = smoke("pool1-steps20-early")
    loaded = data.load_for(settings)
    network, history = fit(settings, tmp_path, loaded)
    steps, errors = history["validation"].T
    assert list(steps) == list(range(2, 21, 2)) and errors.argmin() < 9
    lightness, chroma = loaded.validation.in_memory()
    found = np.abs(network.predict_array(lightness) - chroma).mean()
    assert found == pytest.approx(errors.min(), rel=1e-6)

    step, taken = loop.training_step, iter(range(13))

    def interrupted(*arguments):
        if next(taken, None) is None:
            raise KeyboardInterrupt
        return step(*arguments)

    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(loop, "CHECKPOINT_SHARE", np.inf)
    monkeypatch.setattr(loop, "training_step", interrupted)
    (tmp_path / "parts").mkdir()
    with pytest.raises(KeyboardInterrupt):
        fit(settings, tmp_path / "parts", loaded)
    monkeypatch.setattr(loop, "training_step", step)
    again, repeated = fit(settings, tmp_path / "parts", loaded)
    np.testing.assert_array_equal(repeated["validation"], history["validation"])
    np.testing.assert_array_equal(again.predict_array(lightness), network.predict_array(lightness))


def test_the_record_of_the_check_is_with_the_run(study):
    (run,) = [run for run in study.found if run.arm == "pool1-early"]
    check = run.about["validation"]
    assert check["images"] == 3 and check["step"] == [1, 2]  # a fifth of 15
    assert check["kept"] == check["step"][int(np.argmin(check["error"]))]


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_the_groups_of_the_makefile_name_runs():
    counts = {
        "TWELVE": 90,
        "SURFACE": 72,
        "OPERATORS": 48,
        "UPSAMPLERS": 18,
        "AREAS": 24,
        "CHANNELS": 24,
        "ORIGINAL": 24,
        "SIX": 120,
        "MIXED": 18,
    }
    seeds = "SEEDS=" + " ".join(map(str, range(10)))
    show = "--eval=shown: ; @printf '%s\\n' " + " ".join(f"'$({name})'" for name in counts)
    done = subprocess.run(
        ["make", "--no-print-directory", show, seeds, "shown"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for (name, count), line in zip(counts.items(), done.stdout.splitlines(), strict=True):
        made = {from_name(word, profile="standard") for word in line.split()}
        assert len(made) == len(line.split()) == count, name
        assert {settings.name for settings in made} == set(line.split())
