"""Runs are put on record one by one, beside what is there, and come back in a fresh clone."""

import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from poolae import UserError, data, make_settings
from poolae.paper import claims, comparisons, record, recording, verify
from poolae.settings import from_name
from poolae.train import runs
from poolae.train.provenance import code_now, seal

ROOT = Path(__file__).parents[1]
SMALL = dict(profile="smoke", precision="float32")
NAMES = ["pool0", "pool1", "pool2", "pool3", "skip", "pool1-steps9"]


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """The committed numbers, where the test may add some, and folders for networks."""
    folder = tmp_path / "figures"
    shutil.copytree(
        record.FIGURES, folder, ignore=shutil.ignore_patterns("networks", "*.svg", "*.xz")
    )
    for name in ("RESULTS", "IMAGES", "SAMPLES"):
        monkeypatch.setattr(record, name, folder / getattr(record, name).name)
    for module in (recording, runs):
        monkeypatch.setattr(module, "NETWORKS", folder / "networks")
    quick = {k: v for k, v in comparisons.BASELINES.items() if k != "patch boosting"}
    monkeypatch.setattr(comparisons, "BASELINES", quick)
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Tiny runs of a clean commit, whatever is being edited here: their folder and settings."""
    results = tmp_path_factory.mktemp("record")
    wanted = [from_name(f"{name}-seed0", **SMALL) for name in NAMES]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "commit", lambda: "0123456789")
        for settings in wanted:
            runs.train(settings, results)
    return results, wanted


def rows_of(profile):
    rows = pd.read_csv(record.RESULTS, dtype=str, keep_default_na=False)
    return rows[rows["profile"] == profile].reset_index(drop=True)


def test_runs_join_the_record_in_any_order_and_leave_the_rows_of_others(copy, trained):
    results, wanted = trained
    before = {path.name: path.read_bytes() for path in copy.iterdir()}
    kept = rows_of("full")
    found = runs.find(results, wanted)
    for run in (found[5], found[1]):  # interrupted after the second
        recording.add(run, results, "synthetic")
    assert [s.name for s in recording.unrecorded(wanted, "synthetic")] == [
        "pool0-seed0", "pool2-seed0", "pool3-seed0", "skip-seed0",
    ]  # fmt: skip
    written = recording.add_missing(results, wanted, "synthetic")
    assert written == [record.RESULTS, record.IMAGES]
    assert recording.unrecorded(wanted, "synthetic") == []
    whole = {path: path.read_bytes() for path in written}
    pd.testing.assert_frame_equal(rows_of("full")[list(kept)], kept)  # columns may join them
    rows = rows_of("smoke")
    networks = rows[rows["kind"] == "network"]
    assert list(networks["arm"]) == ["pool0", "pool1", "pool1-steps9", "pool2", "pool3", "skip"]
    assert set(networks["commit"]) == {"0123456789"} and set(networks["precision"]) == {"float32"}
    baselines = rows[rows["kind"] == "baseline"]
    assert list(baselines["arm"]) == list(comparisons.BASELINES)  # once, though six runs came
    for run in reversed(found):
        recording.add(run, results, "synthetic")
    assert {path: path.read_bytes() for path in written} == whole
    for path in copy.iterdir():
        assert path in whole or path.read_bytes() == before[path.name]


def test_single_images_are_kept_of_what_is_contrasted_and_agree_with_the_means(copy, trained):
    results, wanted = trained
    recording.add_missing(results, wanted, "synthetic")
    images = record.read_images().query("profile == 'smoke'")
    assert set(images["arm"]) == {*NAMES[:5], "grey", "lightness table"}
    (one,) = [one for one in record.scales(record.read_results(), images) if one.profile == "smoke"]
    assert len(one.scores[one.scores["arm"] == "pool1"]) == 12
    means = one.means.set_index("arm")
    for metric in ("mean_absolute_error", "ciede2000", "scrambled_error", "training_error"):
        mean = images[images["arm"] == "pool1"][metric].mean()
        assert mean == pytest.approx(means.loc["pool1", metric], rel=2e-4), metric
    contrast = claims.contrast_of(claims.with_derived(one.scores), "ciede2000", "pool1", "pool0")
    assert contrast.images == 12  # and not one, a mean


def test_the_networks_of_record_colourise_in_a_fresh_clone(copy, trained, monkeypatch):
    results, wanted = trained
    monkeypatch.setattr(record, "RECORD", "smoke")
    monkeypatch.setattr(record, "RECORDED", "synthetic")
    written = recording.add_missing(results, wanted, "synthetic")
    names = [path.relative_to(copy).as_posix() for path in written]
    assert names[2:] == [f"networks/{arm}/run.json" for arm in recording.KEPT] + ["samples.npz"]
    run, whole = runs.load("record/pool1"), runs.find(results, wanted)[1]
    lightness = np.random.default_rng(0).random((1, 32, 32), dtype=np.float32)
    np.testing.assert_allclose(run.predict(lightness), whole.predict(lightness), atol=2e-3)
    assert run.summary["ciede2000"] == pytest.approx(whole.summary["ciede2000"], rel=1e-3)
    assert run.settings.data == "synthetic" and "record" not in run.about["name"]
    assert f"{run.summary['mean_absolute_error']:.4f}" in run._repr_html_()
    weights = copy / "networks" / "pool1" / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(UserError, match="weights.safetensors is not what was written"):
        runs.load("record/pool1").predict(lightness)
    (weights.parent / "run.json").write_text("{}")
    with pytest.raises(UserError, match="pool1 is not as it was committed: git checkout"):
        runs.load("record/pool1")
    with pytest.raises(UserError, match="'record/pool9': choose record/pool0, .* or record/skip"):
        runs.load("record/pool9")
    shutil.rmtree(copy / "networks")
    with pytest.raises(UserError, match="holds no networks: they come with a checkout"):
        runs.load("record/pool1")


def test_networks_of_record_are_scored_again_on_the_photographs_alone(copy, trained, monkeypatch):
    results, wanted = trained
    run = runs.find(results, wanted)[1]
    recording.write_network(run, "synthetic")
    with pytest.raises(UserError, match="synthetic does not hold the 764 daisies"):
        verify.verify_networks("synthetic")
    split = data.load_for(run.settings)
    as_if = SimpleNamespace(**vars(split) | {"images": SimpleNamespace(is_daisies=True)})
    monkeypatch.setattr(verify, "load_for", lambda settings: as_if)
    monkeypatch.setattr(runs, "score", lambda found, _, score=runs.score: score(found, split))
    assert verify.verify_networks("daisies")["same"].all()
    about = runs.load("record/pool1").about
    about["scores"]["ciede2000"] *= 1.0001
    seal(copy / "networks" / "pool1", about)
    compared = verify.verify_networks("daisies")
    assert list(compared.loc[~compared["same"], "metric"]) == ["ciede2000"]


@pytest.mark.fault("a run of record from uncommitted code", "refused; one sentence with a way on")
def test_only_what_is_committed_is_recorded(tmp_path):
    assert not record.read_results()["commit"].str.endswith("+").any()
    dirty = SimpleNamespace(folder=tmp_path / "pool1-seed0", about={"commit": "0123456789+"})
    with pytest.raises(UserError, match=r"pool1-seed0 was trained .* \(0123456789\+\): remove it"):
        recording.add(dirty, tmp_path, "daisies")


@pytest.mark.fault("runs of record by other code", "not mixed; one sentence with two ways on")
def test_runs_of_other_code_are_not_added(copy, trained, monkeypatch):
    results, wanted = trained
    recording.add_missing(results, wanted[:1], "synthetic")
    monkeypatch.setattr(recording, "code_now", lambda: "fedcba9876")
    with pytest.raises(UserError, match=r"holds 1 runs of synthetic that other code .* 0123456789"):
        recording.add_missing(results, wanted, "synthetic")
    other = [make_settings(1, **SMALL, data="elsewhere")]
    assert recording.unrecorded(other, "tulips") == other  # those stand apart


def test_the_record_can_be_gone_on_with():
    """Else begin a record anew, or see `files.EQUAL`."""
    codes = record.read_results().query("profile == 'standard'")["code"].dropna()
    assert set(codes) == {code_now()}


def test_two_checkouts_that_train_otherwise_are_told_apart(tmp_path):
    shutil.copytree(ROOT / "poolae", tmp_path / "poolae")
    loop = tmp_path / "poolae" / "train" / "loop.py"
    command = [sys.executable, ROOT / "tests" / "same_code.py", tmp_path, "pool1-seed0"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "6 of 6 trainings are equal to the last digit.\n")
    loop.write_text(loop.read_text("utf-8").replace("round(0.3 *", "round(0.2 *"), "utf-8")
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and "0 of 6 trainings are equal" in done.stdout
    assert "differs: pool1-seed0 float32 early\n" in done.stdout


def test_runs_in_another_precision_are_not_added(copy, trained):
    results, wanted = trained
    recording.add_missing(results, wanted[:1], "synthetic")
    other = [make_settings(1, profile="smoke", precision="bfloat16")]
    with pytest.raises(
        UserError, match="holds runs of synthetic in float32: go on with PRECISION=float32"
    ):
        recording.add_missing(results, other, "synthetic")
