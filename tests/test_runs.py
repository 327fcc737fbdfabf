"""Runs on disk: when one is loaded, trained again, or only scored again."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch

from poolae import UserError, files, make_settings, metrics
from poolae.paper import comparisons
from poolae.train import precision, provenance, runs


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Two depths and two seeds of the smallest possible study, trained once."""
    folder = tmp_path_factory.mktemp("results")
    return folder, [train(folder, depth, seed) for depth in (0, 1) for seed in (0, 1)]


TINY = dict(profile="smoke", size=16, steps=3, base_width=2, images=12)


def tiny(depth, seed):
    return make_settings(depth, seed, **TINY)


def train(folder, depth, seed):
    return runs.train(tiny(depth, seed), folder)


@pytest.fixture
def trained(monkeypatch):
    """Count the trainings."""
    from poolae.train import loop

    calls, fit = [], loop.fit
    monkeypatch.setattr(loop, "fit", lambda *a, **k: calls.append(1) or fit(*a, **k))
    return calls


def test_a_run_holds_what_it_says(results):
    _, (run, *_) = results
    assert run.name == "pool0-seed0" and run.settings == precision.resolve(tiny(0, 0))
    assert list(run.losses) == ["loss", "seconds"] and list(run.losses.index) == [1, 2, 3]
    assert len(run.scores) == run.about["test_images"] == len(run.predictions)
    assert run.predictions.dtype == np.float16 and run.predictions.shape[1:] == (2, 16, 16)
    assert not (run.folder / "checkpoint.pt").exists()
    for key in ("commit", "device", "threads", "processor", "training_seconds", "versions"):
        assert run.about[key]


def test_the_stored_network_makes_the_stored_predictions(results):
    _, (run, *_) = results
    from poolae import data

    s = run.settings
    test = data.load_for(s).test
    predicted = run.network().predict_array(test.lightness)
    np.testing.assert_allclose(predicted, run.predictions, atol=1e-3)
    errors = metrics.mean_absolute_error(run.predictions.astype(np.float32), test.chroma)
    np.testing.assert_allclose(run.scores["mean_absolute_error"], errors, rtol=1e-2)
    assert tuple(run.scores.index) == test.names


def test_nothing_changed_means_nothing_trains(results, trained):
    folder, (run, *_) = results
    before = (run.folder / "run.json").stat().st_mtime_ns
    assert train(folder, 0, 0).about == run.about
    assert not trained and (run.folder / "run.json").stat().st_mtime_ns == before


def test_a_changed_setting_or_code_trains_again(results, trained, tmp_path, monkeypatch):
    train(tmp_path, 0, 0)
    runs.train(
        make_settings(0, 0, profile="smoke", size=16, steps=2, base_width=2, images=12), tmp_path
    )
    assert len(trained) == 2
    monkeypatch.setattr(provenance, "code_digest", lambda *modules: "other code")
    train(tmp_path, 0, 0)
    assert len(trained) == 3


def test_a_changed_metric_scores_again_without_training(results, trained, monkeypatch):
    folder, (run, *_) = results
    digest = runs.code_digest
    monkeypatch.setattr(
        runs, "code_digest", lambda *m: "new metrics" if m[0] == "metrics/scores" else digest(*m)
    )
    before = runs.Run(run.folder, run.about).scores
    scored = train(folder, 0, 0)
    assert scored.about["scored_with"] == "new metrics" and scored.scores.equals(before)
    assert len(train(folder, 0, 0).scores) == run.about["test_images"]
    assert not trained


@pytest.mark.fault("a flipped bit in a finished run", "refused in one sentence with a way on")
@pytest.mark.parametrize("name", ["weights.safetensors", "predictions.npy", "scores.csv"])
def test_a_flipped_bit_is_not_believed(results, tmp_path, name):
    _, (run, *_) = results
    copy = shutil.copytree(run.folder, tmp_path / "runs" / run.name)
    damaged = bytearray((copy / name).read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (copy / name).write_bytes(damaged)
    (found,) = runs.find(tmp_path, [run.settings])
    use = {"weights.safetensors": found.network, "scores.csv": lambda: found.scores}
    with pytest.raises(UserError, match=f"{name} is not what was written .* remove the folder"):
        use.get(name, lambda: found.predictions)()
    (copy / name).unlink()
    with pytest.raises(UserError, match="is not what was written"):
        found.path(name)


@pytest.mark.fault("a setting, an image or a module changes", "trained again, and told why")
def test_a_run_that_is_trained_again_says_why(tmp_path, capsys, monkeypatch):
    train(tmp_path, 0, 0)
    capsys.readouterr()

    def said(**changed):
        settings = make_settings(0, 0, **{**TINY, **changed})
        runs.train(settings, tmp_path)
        return capsys.readouterr().out.splitlines()[0]

    start = "pool0-seed0 is trained again: "
    assert said(weight_decay=0.011) == start + "weight_decay 0.01 -> 0.011."
    assert said(weight_decay=0.011, images=15) == start + (
        "images 12 -> 15; data changed: 3 images added."
    )
    whole = files.module_digests
    changed = {"train/loop": "other", "models/layers": "code"}
    monkeypatch.setattr(provenance, "module_digests", lambda *m: whole(*m) | changed)
    monkeypatch.setattr(provenance, "code_digest", lambda *m: "other")
    assert said(weight_decay=0.011, images=15) == start + (
        "models/layers.py changed; train/loop.py changed."
    )
    about = json.loads((tmp_path / "runs" / "pool0-seed0" / "run.json").read_text())
    flipped = json.dumps(about | {"training_error": about["training_error"] / 2})
    (tmp_path / "runs" / "pool0-seed0" / "run.json").write_text(flipped)
    assert said(weight_decay=0.011, images=15) == start + (
        "its run.json is damaged, or of another version."
    )


@pytest.mark.fault("a run whose description is half written", "trained again")
def test_a_half_written_run_is_not_believed(results, trained, tmp_path):
    run = train(tmp_path, 0, 0)
    (run.folder / "run.json").write_text('{"name": "poo')
    train(tmp_path, 0, 0)
    assert len(trained) == 2


def test_a_missing_run_is_named(results):
    folder, _ = results
    with pytest.raises(UserError, match="pool3-seed0 is not in"):
        runs.find(folder, [tiny(0, 0), tiny(3, 0)])


def test_find_reads_what_train_wrote(results):
    folder, trained_runs = results
    found = runs.find(folder, [tiny(d, s) for d in (0, 1) for s in (0, 1)])
    assert [run.name for run in found] == [run.name for run in trained_runs]


def test_equal_seeds_give_equal_runs(results, tmp_path):
    _, (run, *_) = results
    again = train(tmp_path, 0, 0)
    weights, weights_ = run.network().state_dict(), again.network().state_dict()
    assert all(torch.equal(weights[k], weights_[k]) for k in weights)
    pd.testing.assert_frame_equal(run.scores, again.scores)


def test_scores_stand_beside_baselines_and_oracles_of_the_same_splits(results):
    folder, found = results
    scores = comparisons.tabulate(found, folder)
    compared = comparisons.compare(scores)
    assert list(compared["arm"][:4]) == ["pool0", "pool0", "pool1", "pool1"]
    counts = compared.groupby("kind")["arm"].nunique()
    assert dict(counts) == {"network": 2, "baseline": 5, "oracle": 2}  # 1 and 16 blocks of 16 px
    assert set(compared.groupby("arm")["seed"].nunique()) == {2}
    assert compared["mean_absolute_error"][0] == pytest.approx(
        found[0].scores["mean_absolute_error"].mean()
    )
    one_split = scores[scores["seed"] == 1].groupby("arm")["image"].agg(tuple)
    assert len(set(one_split)) == 1
    exact = compared[compared["arm"] == "oracle 16 × 16"]
    assert (exact["mean_absolute_error"] == 0).all() and (exact["accuracy_0.000"] == 1).all()
    assert comparisons.curves(compared, "network")["pool1"].shape == (2, 101)
    assert not compared["gain_0_4"].isna().all()


def test_scores_of_baselines_are_kept_and_made_again_when_their_code_changes(results, monkeypatch):
    folder, found = results
    settings, fits = found[0].settings, []
    first = comparisons.baseline_scores(settings, folder)
    grey = comparisons.BASELINES["grey"]
    monkeypatch.setitem(comparisons.BASELINES, "grey", lambda *a: fits.append(1) or grey(*a))
    again = comparisons.baseline_scores(settings, folder)
    pd.testing.assert_frame_equal(again, first, rtol=1e-4)
    assert not fits
    monkeypatch.setattr(comparisons, "code_digest", lambda *modules: "other code")
    comparisons.baseline_scores(settings, folder)
    assert fits


def test_ratios_are_summed_up_by_their_median():
    frame = pd.DataFrame(
        {
            "kind": "network", "arm": "pool0", "seed": 0, "image": ["x", "y", "z"],
            "mean_absolute_error": [0.1, 0.1, 0.4], "gain_8_up": [0.1, 0.2, 30.0],
        }
    )  # fmt: skip
    row = comparisons.compare(frame).iloc[0]
    assert row["mean_absolute_error"] == pytest.approx(0.2) and row["gain_8_up"] == 0.2


def test_the_period_of_an_oscillation_is_found_under_noise():
    steps = np.arange(20_000)
    noise = np.random.default_rng(0).normal(0, 0.02, len(steps))
    swinging = 0.1 + 0.05 * np.cos(2 * np.pi * steps / 4000) + 0.3 * np.exp(-steps / 1000) + noise
    _, period = comparisons.oscillation(swinging)
    assert period == pytest.approx(4000, rel=0.05)
    assert comparisons.oscillation(0.1 + 0.3 * np.exp(-steps / 5000))[1] is None


def test_representative_images_run_from_best_to_worst(results):
    _, found = results
    rows, errors = comparisons.representative_images(found[:1], count=3)
    scores = found[0].scores["mean_absolute_error"]
    assert errors.iloc[0] == scores.min() and errors.iloc[-1] == scores.max()
    np.testing.assert_array_equal(scores.iloc[rows], errors)


def test_settings_are_stored_with_the_weights(results):
    from safetensors import safe_open

    _, (run, *_) = results
    with safe_open(run.folder / "weights.safetensors", "pt") as file:
        assert json.loads(file.metadata()["settings"]) == run.settings.asdict()
