"""What a person at a prompt or a notebook gets: runs by name, colours for a picture, a widget."""

import base64
import io
import re
from datetime import UTC, datetime

import numpy as np
import pytest
from PIL import Image

import poolae
from poolae import data, make_settings
from poolae.files import HEADLESS
from poolae.paper import explore
from poolae.train import runs


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("build") / "synthetic-tiny"
    made = [
        make_settings(depth, profile="smoke", size=16, steps=3, base_width=2, images=12)
        for depth in (0, 1)
    ]
    return folder, [runs.train(settings, folder) for settings in made]


def test_a_finished_run_is_loaded_by_name_and_describes_itself(results):
    folder, _ = results
    run = poolae.load_run("pool1-seed0", folder)
    html = run._repr_html_()
    assert "pool1-seed0" in html and f"{run.scores['mean_absolute_error'].mean():.4f}" in html
    with pytest.raises(poolae.UserError, match="pool2-seed0 is not in"):
        poolae.load_run("pool2-seed0", folder)


def test_the_table_of_runs_holds_every_finished_one(results):
    folder, (run, _) = results
    (folder / "runs" / "pool9" / "run.json").parent.mkdir(exist_ok=True)
    (folder / "runs" / "pool9" / "run.json").write_text("{")  # half-written
    table = runs.table(folder.parent)
    assert list(table["name"]) == ["pool0-seed0", "pool1-seed0"]
    assert set(table["results"]) == {"synthetic-tiny"}
    mean = run.scores["mean_absolute_error"].mean()
    assert table["mean_absolute_error"][0] == pytest.approx(mean, rel=1e-5)


def test_colours_are_laid_over_the_pictures_own_lightness(results, tmp_path):
    from skimage.color import rgb2lab

    _, (run, _) = results
    rgb = np.random.default_rng(0).integers(60, 200, (40, 24, 3), np.uint8)
    coloured = run.colourise(rgb)
    assert coloured.shape == (40, 24, 3) and coloured.dtype == np.float32
    difference = rgb2lab(coloured)[..., 0] - rgb2lab(rgb)[..., 0]
    assert np.abs(difference).max() < 0.5
    Image.fromarray(rgb).save(tmp_path / "x.png")
    np.testing.assert_array_equal(run.colourise(tmp_path / "x.png"), coloured)
    grey = run.colourise(np.full((16, 16), 0.5))
    assert grey.shape == (16, 16, 3)
    with pytest.raises(poolae.UserError, match="shape"):
        run.colourise(np.zeros((2, 2, 2, 2)))
    (tmp_path / "no.png").write_text("no picture")
    with pytest.raises(poolae.UserError, match=r"no\.png cannot be read"):
        run.colourise(tmp_path / "no.png")


def parts(widget):
    """The explorer's controls by their labels, and what it shows and says."""
    row, shown, said = widget.children
    return {control.description: control for control in row.children}, shown, said


def pictures(shown):
    """Pixels by title."""
    found = re.findall(r'alt="(.*?)" src="data:image/png;base64,(.*?)"', shown.value)
    files = {title: io.BytesIO(base64.b64decode(coded)) for title, coded in found}
    return {title: np.asarray(Image.open(file)) for title, file in files.items()}


def uploaded(name, content):
    about = {"name": name, "type": "image/png", "size": len(content)}
    return [{**about, "content": memoryview(content), "last_modified": datetime.now(UTC)}]


def test_the_explorer_shows_what_its_controls_choose(results):
    _, found = results
    controls, shown, said = parts(explore.explorer(found))
    run, other = found
    test = data.load_for(run.settings).test

    def check(run, row, bound):
        """Truth, prediction and accuracy are those of this image, predicted when it was scored."""
        assert said.value.startswith(f"{test.names[row]}: ")
        truth = data.lab01_to_rgb(test.lightness[row], test.chroma[row])
        # Three steps leave outputs so large that a single image's sums, taken in another order
        # than those of a batch, show; of the stored predictions the scores below speak.
        prediction = data.lab01_to_rgb(test.lightness[row], run.predict(test.lightness[row]))
        np.testing.assert_allclose(pictures(shown)["truth"], truth * 255, atol=0.6)
        np.testing.assert_allclose(pictures(shown)["prediction"], prediction * 255, atol=0.6)
        scores = run.scores.iloc[row]
        words = re.search(r"error (.*?), accuracy (.*?) % .* within (.*?) of", said.value)
        error, accuracy, within = map(float, words.groups())
        assert error == pytest.approx(scores["mean_absolute_error"], abs=1e-4)
        assert accuracy == pytest.approx(100 * scores[f"accuracy_{bound:.3f}"], abs=0.5)
        assert within == bound

    check(run, 0, 0.05)
    controls["depth"].value = "pool1"
    check(other, 0, 0.05)
    controls["image"].value = 1
    check(other, 1, 0.05)
    before = shown.value
    controls["bound"].value = 0.1
    check(other, 1, 0.1)
    assert shown.value != before


def test_the_explorer_keeps_the_seed_where_another_depth_has_it(results):
    folder, (run, other) = results
    options = dict(profile="smoke", size=16, steps=3, base_width=2, images=12)
    second = runs.train(make_settings(1, 1, **options), folder)
    controls, _, said = parts(explore.explorer([run, other, second]))
    depth, seed = controls["depth"], controls["seed"]
    assert depth.options == ("pool0", "pool1") and seed.options == ("0",)
    depth.value = "pool1"
    assert seed.options == ("0", "1") and seed.value == "0"
    seed.value = "1"
    assert said.value.startswith(data.load_for(second.settings).test.names[0])
    depth.value = "pool0"
    assert seed.options == ("0",) and said.value.startswith(
        data.load_for(run.settings).test.names[0]
    )


def test_the_explorer_takes_ones_own_picture_until_another_is_chosen(results):
    _, found = results
    controls, shown, said = parts(explore.explorer(found))
    before = shown.value, said.value
    buffer = io.BytesIO()
    Image.new("RGB", (30, 20), "teal").save(buffer, "PNG")
    controls["your own"].value = uploaded("mine <1>.png", buffer.getvalue())
    assert said.value.startswith("mine &lt;1&gt;.png: mean absolute error 0.")
    truth = pictures(shown)["truth"]
    np.testing.assert_allclose(truth, np.broadcast_to((0, 128, 128), truth.shape), atol=1)
    controls["image"].value = 1
    assert said.value.startswith(data.load_for(found[0].settings).test.names[1])
    controls["image"].value = 0
    assert (shown.value, said.value) == before


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n" + bytes(40)])
def test_a_file_that_is_no_picture_gets_one_sentence(results, content):
    _, found = results
    controls, shown, said = parts(explore.explorer(found))
    controls["your own"].value = uploaded("bad.png", content)
    assert shown.value == ""
    assert re.fullmatch(r"bad\.png cannot be shown \(.+\): choose another\.", said.value)


def test_looks_and_words_by_hand():
    lightness, truth = np.full((1, 8, 8), 0.5), np.full((2, 8, 8), 0.5)
    predicted = truth.copy()
    predicted[0, :4] += 0.06  # a quarter of the values
    seen = explore.looks(lightness, truth, predicted, 0.05)
    assert list(seen) == [
        "truth",
        "a, truth",
        "b, truth",
        "error (black: 0.1)",
        "prediction",
        "a, prediction",
        "b, prediction",
        "within 0.050 (white: both)",
    ]
    np.testing.assert_allclose(seen["error (black: 0.1)"][[0, 7], 0], [0.7, 1])
    np.testing.assert_array_equal(seen["within 0.050 (white: both)"][[0, 7], 0], [0.5, 1])
    np.testing.assert_array_equal(seen["b, truth"], seen["b, prediction"])
    assert not np.array_equal(seen["a, truth"], seen["a, prediction"])
    assert explore.in_words(truth, predicted, 0.05) == (
        "mean absolute error 0.0150, accuracy 75.0 % "
        "(share of the values of a and b that are within 0.050 of the truth)"
    )


def test_nobody_watches_papermill(monkeypatch):
    monkeypatch.setenv(HEADLESS, "1")
    assert not explore.interactive()
    assert explore.live_progress(make_settings(), np.zeros((1, 8, 8)), np.zeros((2, 8, 8))) is None


def test_the_live_curve_is_redrawn(results, monkeypatch):
    monkeypatch.delenv(HEADLESS, raising=False)
    drawn = []

    class Handle:
        def update(self, picture):
            drawn.append(picture.data)

    monkeypatch.setattr("IPython.display.display", lambda **_: Handle())
    settings = make_settings(profile="smoke", size=16)
    grey = np.full((3, 16, 16), 0.5)
    watch = explore.live_progress(settings, grey[:1], grey[1:])
    history = {
        "loss": np.linspace(0.5, 0.1, 24),
        "snapshots": np.full((20, 2, 16, 16), 0.6, np.float32),
    }
    watch(1, history)
    watch(24, history)
    # After one step there is only the truth; in the end there are three samples beside it.
    assert [picture.count("<image") for picture in drawn] == [1, 4]


def test_the_networks_of_record_need_no_photographs_and_no_training(monkeypatch, tmp_path):
    monkeypatch.setenv("POOLAE_BUILD", str(tmp_path / "build"))
    widget = explore.explorer_of_record(drawings=1)
    row, shown, said = widget.children
    assert said.value.startswith("astronaut: mean absolute error 0.")
    assert [c.max for c in row.children if c.description == "image"] == [5]  # from 0
    assert len(pictures(shown)) == 8 and not (tmp_path / "build").exists()
