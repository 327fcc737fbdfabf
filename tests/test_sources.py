"""Sources: folders as they are met, Kaggle's archive and its absence, drawings."""

import json
import os
import sys

import numpy as np
import pytest
from pictures import PHOTOGRAPH, SIZE, encode, fill, no_decoding, open_images, picture

from poolae import data
from poolae.data import sources
from poolae.data.colour import rgb_to_lab01
from poolae.settings import UserError


@pytest.mark.fault("a folder that links to its parent", "not followed")
def test_images_are_found_by_content_wherever_they_lie(folder, cache):
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "deep" / "er" / "PNG.JPG").write_bytes(encode(picture(10), "PNG"))
    (folder / "deep" / "no suffix").write_bytes(encode(picture(11)))
    (folder / "webp.dat").write_bytes(encode(picture(12), "WEBP"))
    (folder / "half.dat").write_bytes(PHOTOGRAPH[:1000])
    (folder / "notes.txt").write_text("BMW")
    (folder / "folder.jpg").mkdir()
    os.symlink("..", folder / "deep" / "loop")
    images = open_images(folder, cache)
    found = {"deep/er/PNG.JPG", "deep/no suffix", "webp.dat"}
    assert set(images.names) == found | {f"{k}.jpg" for k in range(6)}
    assert [name for name, _ in images.excluded] == ["half.dat"]


@pytest.mark.fault(
    "names with spaces, quotes, newlines, bytes that are no UTF-8",
    "read, split and cached as any other",
)
@pytest.mark.skipif(sys.platform != "linux", reason="file names that only Linux takes")
def test_odd_file_names(folder, cache, monkeypatch):
    odd = [
        b"new\nline.jpg",
        b"sp ace.jpg",
        b"\xff\xfe.jpg",
        "Gänseblümchen.jpg".encode(),
        b"'\".jpg",
    ]
    for seed, name in enumerate(odd):
        path = os.path.join(os.fsencode(folder), name)
        with open(path, "wb") as file:
            file.write(encode(picture(seed + 20)))
    images = open_images(folder, cache)
    assert {os.fsencode(name) for name in images.names} >= set(odd)
    no_decoding(monkeypatch)
    assert open_images(folder, cache).names == images.names
    assert tuple(json.loads(json.dumps(images.names))) == images.names
    train, _ = data.split(images.names, 0, images.groups)
    assert len(train) == 8  # floor(3/4 of 11)


@pytest.mark.fault("files that may not be read", "left out, with the reason; tried again next time")
def test_files_that_may_not_be_read_are_excluded(folder, cache, monkeypatch):
    # Permissions do not bind root, under whom containers run tests: refuse by hand.
    def refuse(file, *args, **kwargs):
        if str(file).endswith("2.jpg"):
            raise PermissionError(13, "Permission denied", str(file))
        return open(file, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(sources, "open", refuse, raising=False)
        images = open_images(folder, cache)
    assert images.excluded == (("2.jpg", "Permission denied"),)
    assert len(images) == 5
    # what could not be read is tried again
    assert len(open_images(folder, cache)) == 6


@pytest.mark.fault("folders that may not be read", "left out, with the reason")
def test_folders_that_may_not_be_read_are_excluded(folder, cache, monkeypatch):
    (folder / "locked").mkdir()
    scandir = os.scandir

    def refuse(path):
        if os.fspath(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    images = open_images(folder, cache)
    assert images.excluded == (("locked/", "Permission denied"),) and len(images) == 6


def test_n_picks_the_same_photographs_everywhere(folder, cache):
    four = open_images(folder, cache, n=4)
    five = open_images(folder, cache, n=5)
    assert len(four) == 4 and set(four.names) < set(five.names)
    assert list(five.names) == sorted(five.names)
    assert len(open_images(folder, cache, n=100)) == 6


@pytest.mark.fault("a folder that is missing, empty or too small", "one sentence that names it")
@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: None, "no folder"),
        (lambda path: path.write_text(""), "not a folder"),
        (lambda path: path.mkdir(), "no readable images"),
        (lambda path: fill(path, ["one.jpg"]), "1 readable image,"),
        (lambda path: fill(path, ["1.jpg", "2.jpg", "3.jpg"]), "3 readable images,"),
    ],
)
def test_unusable_folders(tmp_path, cache, make, said):
    path = tmp_path / "given"
    make(path)
    with pytest.raises(UserError, match=said) as caught:
        open_images(path, cache)
    sentence = str(caught.value)
    assert str(path) in sentence and "DATA" in sentence
    assert sentence.endswith(".") and "\n" not in sentence


def test_synthetic_daisies_are_the_drawn_ones(cache, monkeypatch):
    from poolae.data.daisies import draw

    images = open_images("synthetic", cache, n=12)
    assert images.names[:2] == ("daisy-00000", "daisy-00001") and len(images) == 12
    assert len(set(images.groups.tolist())) == 12 and not images.is_daisies
    expected = np.concatenate(rgb_to_lab01(draw(5, SIZE)))
    assert np.abs(images.lab[5] - expected).max() < 1e-6
    with monkeypatch.context() as patch:
        no_decoding(patch)
        assert open_images("synthetic", cache, n=12).key == images.key
    # a changed drawing is noticed
    monkeypatch.setattr(sources, "code_digest", lambda *modules: "another drawing")
    assert open_images("synthetic", cache, n=12).key != images.key


def test_manifest_holds_the_file_names_alone():
    names = sources.manifest()
    assert len(names) == len(set(names)) == 764 and list(names) == sorted(names)
    assert all(name.endswith(".jpg") and "/" not in name for name in names)


class Kaggle:
    """Stands for the network: returns a folder, or raises."""

    def __init__(self, monkeypatch, answer):
        self.answer, self.asked = answer, []
        monkeypatch.setattr("kagglehub.dataset_download", self)

    def __call__(self, handle):
        self.asked.append(handle)
        if isinstance(self.answer, Exception):
            raise self.answer
        return str(self.answer)


NESTINGS = [
    ["flowers/daisy"],
    ["flowers/daisy", "flowers/flowers/daisy"],
    ["flower_photos/Daisy"],
    ["daisy"],
]


@pytest.mark.parametrize("nesting", NESTINGS)
def test_kaggle_daisies_in_any_nesting(tmp_path, cache, monkeypatch, nesting):
    names = list(sources.manifest()[:5])
    download = tmp_path / "versions" / "2"
    for inner in nesting:
        fill(download / inner, [*names, "extra.jpg"])
        (download / inner / "flickr.py").write_text("import requests")
    fill(download / "flowers" / "rose", ["rose.jpg"])
    kaggle = Kaggle(monkeypatch, download)
    images = open_images("daisies", cache)
    assert kaggle.asked == ["alxmamaev/flowers-recognition"]
    assert images.names == (*names, "extra.jpg") and images.source == "daisies"
    assert images.excluded == ()
    assert images.extra == ("extra.jpg",) and images.missing == sources.manifest()[5:]
    assert not images.is_daisies
    # the second start asks nobody
    kaggle.answer = ConnectionError()
    assert open_images("daisies", cache).key == images.key
    assert len(kaggle.asked) == 1


@pytest.mark.fault("Kaggle out of reach", "one sentence with the ways on")
@pytest.mark.parametrize(
    "error", [ConnectionError("no network\nat all"), ValueError("403"), RuntimeError()]
)
def test_kaggle_out_of_reach_names_the_ways_on(cache, monkeypatch, error):
    Kaggle(monkeypatch, error)
    with pytest.raises(UserError) as caught:
        open_images("daisies", cache)
    sentence = str(caught.value)
    assert "Kaggle" in sentence and "DATA=synthetic" in sentence and "DATA=<folder>" in sentence
    assert "\n" not in sentence and sentence.endswith(".")


@pytest.mark.fault("a server that never answers", "given up after 30 s")
def test_kaggle_waits_for_no_silent_server(cache, monkeypatch):
    import requests
    from kagglesdk import KaggleClient

    seen = []
    monkeypatch.setattr(requests.Session, "send", lambda self, request, **more: seen.append(more))

    def download(handle):
        with KaggleClient() as client:
            http = client.http_client()
            http._session.send(None)
        requests.Session().send(None)  # somebody else's
        raise ConnectionError

    monkeypatch.setattr("kagglehub.dataset_download", download)
    with pytest.raises(UserError):
        open_images("daisies", cache)
    assert seen == [{"timeout": (5, 30)}, {}]


def test_a_download_without_daisies(tmp_path, cache, monkeypatch):
    Kaggle(monkeypatch, fill(tmp_path / "flowers", ["rose.jpg"]))
    with pytest.raises(UserError, match="no folder named daisy"):
        open_images("daisies", cache)
