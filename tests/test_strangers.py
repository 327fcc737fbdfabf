"""Strangers' folders from end to end, what the code refuses to load, and strangers' numbers.

Single files are in test_decode.py, folders and their names in test_sources.py.
"""

import ast
import math
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import nbformat
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import PHOTOGRAPH, encode, fill, open_images, picture
from PIL import Image

from poolae import PROFILES, RECIPES, UserError, data, make_settings
from poolae.data import colour, decode
from poolae.data import images as opening
from poolae.settings import CONTROLS, DEPTHS, FAMILIES, POOLINGS, from_name
from poolae.train import runs

ROOT = Path(__file__).parents[1]
HALF = len(PHOTOGRAPH) // 2

linux = pytest.mark.skipif(sys.platform != "linux", reason="file names that only Linux takes")


# --- Files ---------------------------------------------------------------------------


@pytest.mark.fault("a JPEG whose middle or end was overwritten", "left out, with the reason")
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(PHOTOGRAPH[:HALF] + bytes(HALF), "truncated", id="zeros to the end"),
        pytest.param(PHOTOGRAPH[:HALF] + b"\xff" * HALF, "truncated", id="ones to the end"),
        pytest.param(PHOTOGRAPH[:-2], "truncated", id="no end marker"),
        pytest.param(
            PHOTOGRAPH[:HALF] + bytes(500) + PHOTOGRAPH[HALF + 500 :],
            "the lower part is missing",
            id="a hole",
        ),
        pytest.param(
            PHOTOGRAPH[:HALF] + np.random.default_rng(0).bytes(HALF), "broken", id="noise"
        ),
        pytest.param(
            encode(Image.new("L", (20_000, 10)), "PNG"), "a side of 10 px", id="20,000 by 10"
        ),
    ],
)
def test_damaged_content_is_refused_with_a_reason(content, reason):
    with pytest.raises((ValueError, OSError), match=reason):
        decode.decode_bytes(content, 32)


@settings(max_examples=60, deadline=None)
@given(draw=st.data())
@pytest.mark.fault("bytes changed, cut or added anywhere in a file", "pixels or a reason")
def test_no_damage_crashes(draw, tmp_path_factory):
    kind = draw.draw(st.sampled_from(["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF"]))
    whole = bytearray(encode(picture(1), kind))
    start = draw.draw(st.integers(0, len(whole) - 1))
    stop = draw.draw(st.integers(start, min(len(whole), start + 64)))
    whole[start:stop] = draw.draw(st.binary(max_size=64))
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(whole)
    digest = __import__("hashlib").sha256(whole).hexdigest()
    found = decode.decode_file(str(path), digest, 16)
    if isinstance(found, str):
        assert found and str(path) not in found
    else:
        assert found[0].shape == (16, 16, 3) and found[0].dtype == np.uint8


@linux
@pytest.mark.fault("symbolic links that lead to one another", "left out, with the reason")
def test_links_in_a_loop_are_left_out(folder, cache):
    os.symlink("b.jpg", folder / "a.jpg")
    os.symlink("a.jpg", folder / "b.jpg")
    images = open_images(folder, cache)
    assert len(images) == 6
    assert images.excluded == tuple((f"{n}.jpg", "Too many levels of symbolic links") for n in "ab")


@pytest.mark.fault("a thousand copies of one photograph", "one group on one side of the split")
def test_a_thousand_copies_are_one_group(folder, cache, tmp_path):
    for k in range(1000):
        os.link(folder / "3.jpg", folder / f"copy-{k}.jpg")
    images = opening.open_images(folder, 16, cache=cache)
    names = dict(zip(images.names, images.groups.tolist(), strict=True))
    assert len(names) == 1006 and len(set(names.values())) == 6
    assert {group for name, group in names.items() if name.startswith("copy")} == {names["3.jpg"]}
    for seed in range(3):
        sides = data.split(images.names, seed, images.groups)
        copies = [{images.names[row].startswith("copy") for row in rows} for rows in sides]
        assert sum(True in side for side in copies) == 1


# --- Folders, through notebook and training ------------------------------------------


@pytest.fixture
def hostile(tmp_path):
    """Photographs and refused files whose names try to be something else."""
    path = fill(tmp_path / "hostile", [f"{k}.jpg" for k in range(4)])
    for seed in range(8):  # as many as it takes for both sides of the split
        with open(os.path.join(os.fsencode(path), b"\xff%d.jpg" % seed), "wb") as file:
            file.write(encode(picture(20 + seed)))
    for name in (
        b"<script>alert(1)<!--.jpg",
        b"[x](javascript:alert(2)).jpg",
        b"new\nline.jpg",
        b"\xfe.jpg",
        b"\"' onerror=alert(3) '.jpg",
    ):
        with open(os.path.join(os.fsencode(path), name), "wb") as file:
            file.write(b"no image")
    return path


@linux
@pytest.mark.slow
@pytest.mark.fault("file names that are HTML, Markdown or no UTF-8", "listed as text in 01_data")
def test_hostile_names_are_listed_as_text(hostile, tmp_path):
    out = tmp_path / "01_data.ipynb"
    done = subprocess.run(
        [sys.executable, "-m", "poolae", "execute", "--results", tmp_path, "--data", hostile]
        + ["--profile", "smoke", ROOT / "notebooks" / "01_data.ipynb", out],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    outputs = [o for c in nbformat.read(out, 4).cells for o in c.get("outputs", ())]
    html = "".join("".join(o.get("data", {}).get("text/html", "")) for o in outputs)
    assert "&lt;script&gt;alert(1)&lt;!--.jpg" in html and "<script" not in html
    assert "[x](javascript:alert(2)).jpg" in html and not re.search("href=.javascript", html)
    (listing,) = re.findall(r'<figure class="table" id="tbl-excluded">.*?</figure>', html, re.S)
    assert listing.count("not a JPEG") == 5 and "<img" not in listing


@linux
@pytest.mark.slow
@pytest.mark.fault("photographs whose names are no UTF-8", "trained on and scored under their name")
def test_names_that_are_no_utf8_are_scored(hostile, tmp_path):
    given = make_settings(0, profile="smoke", data=str(hostile), size=16, steps=2, base_width=2)
    run = runs.train(given, tmp_path / "results")
    expected = data.load_for(given).test.names
    assert any(name.startswith("\udcff") for name in expected)
    assert tuple(run.scores.index) == expected


# --- What is loaded and unpacked -----------------------------------------------------


@pytest.mark.fault("weights or arrays that carry code", "nothing of ours unpickles")
def test_nothing_that_is_loaded_can_run_code():
    refused = {"pickle", "cPickle", "dill", "joblib", "shelve", "marshal", "cloudpickle"}
    for path in sorted((ROOT / "poolae").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert not refused & {alias.name.partition(".")[0] for alias in node.names}, path
            elif isinstance(node, ast.ImportFrom):
                assert (node.module or "").partition(".")[0] not in refused, path
            elif isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in {"pd.read_pickle", "eval", "exec"}, path
                weights_only = any(ast.unparse(k) == "weights_only=True" for k in node.keywords)
                assert called != "torch.load" or weights_only, path
                assert not any(k.arg == "allow_pickle" for k in node.keywords), path


@pytest.mark.fault("an archive with paths that leave its folder", "nothing is written outside")
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_no_archive_escapes_its_folder(tmp_path, kind):
    # The daisies are unpacked by kagglehub; this holds it to what we rely on.
    from kagglehub.http_resolver import _extract_archive

    source = tmp_path / "source"
    source.write_text("escaped")
    archive, out = tmp_path / f"archive.{kind}", tmp_path / "deep" / "out"
    out.mkdir(parents=True)
    if kind == "zip":
        with zipfile.ZipFile(archive, "w") as file:
            file.write(source, "../escaped")
        _extract_archive(str(archive), str(out))
    else:
        with tarfile.open(archive, "w") as file:
            file.add(source, "../escaped")
        with pytest.raises(tarfile.OutsideDestinationError):
            _extract_archive(str(archive), str(out))
    assert not (tmp_path / "deep" / "escaped").exists()


# --- Numbers -------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(5, 7, 3), (2, 5, 7, 3), (2, 3, 5, 7, 3)])
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), shade=st.floats(0, 1), spread=st.floats(0, 1))
def test_any_colour_comes_back(shape, seed, shade, spread):
    rgb = np.random.default_rng(seed).random(shape) * spread + shade * (1 - spread)
    lightness, chroma = colour.rgb_to_lab01(rgb)
    for planes in (lightness, chroma):
        assert planes.dtype == np.float32 and 0 <= planes.min() <= planes.max() <= 1
    np.testing.assert_allclose(colour.lab01_to_rgb(lightness, chroma), rgb, atol=2e-4)


@settings(max_examples=50, deadline=None)
@given(grey=st.floats(0, 1), more=st.floats(0, 1))
def test_greys_have_no_chroma_and_lighter_ones_more_lightness(grey, more):
    planes = [colour.rgb_to_lab01(np.full((1, 1, 3), value)) for value in sorted((grey, more))]
    for _, chroma in planes:
        np.testing.assert_allclose(chroma, 128 / 255, atol=2e-5)
    assert planes[0][0].item() <= planes[1][0].item()


ANYTHING = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.binary(max_size=4)
)
CHOICES = dict(
    pool_depth=DEPTHS, family=FAMILIES, pooling=POOLINGS, recipe=tuple(RECIPES),
    profile=tuple(PROFILES), seed=(0, 7), split=(None, 3), bottleneck=(0, 16),
    data=("synthetic", "synthetic:8", "daisies"), size=(16, 64),
    learning_rate=(1e-3,), weight_decay=(0.0,), crops=(0.5,), budget=(0, 30),
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(draw=st.data())
@pytest.mark.fault("any value for any parameter", "settings, or one sentence that names it")
def test_any_parameters_are_settings_or_one_sentence(draw):
    asked = draw.draw(st.sets(st.sampled_from(sorted(CHOICES)), max_size=6))
    given = {k: draw.draw(st.one_of(st.sampled_from(CHOICES[k]), ANYTHING)) for k in asked}
    try:
        made = make_settings(**given)
    except UserError as error:
        sentence = str(error)
        assert "\n" not in sentence and sentence.endswith(".")
        assert any(k in sentence for k in [*given, "pool_depth", "bottleneck"])
        return
    if given.get("pooling") == "":  # as written in 02_train: what the family has
        given["pooling"] = "max5" if made.family == "published" else "strided"
    assert all(getattr(made, k) == v for k, v in given.items() if v is not None)
    assert made.size % 2**made.pool_depth == 0 and 0 <= made.split < 2**32
    assert from_name(made.name).name == made.name
    assert 0 < made.learning_rate < math.inf and 0 <= made.weight_decay < math.inf
    assert made.pool_depth == CONTROLS.get(made.family, made.pool_depth)


@settings(max_examples=200, deadline=None)
@given(name=st.from_regex(r"[a-z]{1,8}[0-9]?(-[a-z]{0,6}[0-9]{0,3}){0,3}(-seed[0-9]{1,2})?"))
def test_any_name_is_a_run_or_refused(name):
    try:
        assert from_name(name).seed >= 0
    except UserError as error:
        assert str(error).endswith(".")
