"""What a person at a prompt or a notebook gets: runs by name, colours for a picture, a widget."""

import io
from datetime import UTC, datetime

import numpy as np
import pytest
from PIL import Image

import poolae
from poolae import explore, make_settings, runs
from poolae.files import HEADLESS


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
    assert table["mean_absolute_error"][0] == run.scores["mean_absolute_error"].mean()


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


def test_the_explorer_shows_another_picture_when_a_control_moves(results):
    _, found = results
    widget = explore.explorer(found)
    (choose_run, image, bound, upload), picture, said = (
        widget.children[0].children,
        *widget.children[1:],
    )
    shown = [bytes(picture.value)]
    choose_run.value = "pool1-seed0"
    shown.append(bytes(picture.value))
    image.value = 1
    shown.append(bytes(picture.value))
    before = said.value
    bound.value = 0.1
    shown.append(bytes(picture.value))
    assert len(set(shown)) == 4 and all(png.startswith(b"\x89PNG") for png in shown)
    assert said.value != before and "within 0.100" in said.value
    buffer = io.BytesIO()
    Image.new("RGB", (30, 20), "teal").save(buffer, "PNG")
    content = memoryview(buffer.getvalue())
    about = {"name": "mine.png", "type": "image/png", "size": len(content)}
    upload.value = [{**about, "content": content, "last_modified": datetime.now(UTC)}]
    assert bytes(picture.value) not in shown and said.value.startswith("mine.png")


def test_the_share_within_the_bound_by_hand():
    lightness, truth = np.full((1, 8, 8), 0.5), np.full((2, 8, 8), 0.5)
    predicted = truth.copy()
    predicted[0, :4] += 0.06  # a quarter of the values
    _, share = explore.panel(lightness, truth, predicted, 0.05)
    assert share == 0.75


def test_nobody_watches_papermill(monkeypatch):
    monkeypatch.setenv(HEADLESS, "1")
    assert not explore.interactive()
    assert explore.live_progress(make_settings(), np.zeros((1, 8, 8))) is None


def test_the_live_curve_is_redrawn(results, monkeypatch):
    monkeypatch.delenv(HEADLESS, raising=False)
    drawn = []

    class Handle:
        def update(self, picture):
            drawn.append(picture.data)

    monkeypatch.setattr("IPython.display.display", lambda **_: Handle())
    settings = make_settings(profile="smoke", size=16)
    watch = explore.live_progress(settings, np.full((1, 16, 16), 0.5))
    history = {
        "loss": np.linspace(0.5, 0.1, 24),
        "snapshots": np.full((20, 2, 16, 16), 0.6, np.float32),
    }
    watch(1, history)
    watch(24, history)
    assert len(drawn) == 2 and all("<svg" in picture for picture in drawn)
