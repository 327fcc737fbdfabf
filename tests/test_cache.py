"""The cache: an earlier start's images, used when whole and belonging, else made again."""

import json
import os
import types

import numpy as np
import pytest
from pictures import SIZE, encode, fill, no_decoding, open_images, picture

from poolae.data import cache as stored_images
from poolae.data import images as opening
from poolae.data import sources
from poolae.settings import UserError


def test_second_start_decodes_nothing_and_opens_no_photograph(folder, cache, monkeypatch):
    first = open_images(folder, cache)
    no_decoding(monkeypatch)
    monkeypatch.setattr(sources, "_file_digest", None)
    second = open_images(folder, cache)
    assert second.key == first.key and second.names == first.names
    assert np.array_equal(second.lab, first.lab)
    assert np.array_equal(second.groups, first.groups)


def test_workers_do_not_change_the_result(tmp_path):
    folder = fill(tmp_path / "many", [f"{k}.jpg" for k in range(50)])
    (folder / "20.jpg").write_bytes(b"")
    alone = opening.open_images(folder, SIZE, workers=1, cache=tmp_path / "one")
    pooled = opening.open_images(folder, SIZE, workers=3, cache=tmp_path / "three")
    assert alone.names == pooled.names and alone.key == pooled.key
    assert alone.excluded == pooled.excluded == (("20.jpg", "empty file"),)
    assert np.array_equal(alone.lab, pooled.lab)


def test_key_follows_content_names_and_size_alone(folder, cache, tmp_path, monkeypatch):
    images = open_images(folder, cache)
    assert opening.open_images(folder, SIZE + 1, workers=1, cache=cache).key != images.key
    elsewhere = fill(tmp_path / "elsewhere", [f"{k}.jpg" for k in range(6)])
    with monkeypatch.context() as patch:
        no_decoding(patch)
        assert open_images(elsewhere, cache).key == images.key
        os.utime(folder / "3.jpg", (1, 1))
        assert open_images(folder, cache).key == images.key
    (folder / "notes.txt").write_text("a file that is no image")
    (folder / "broken.jpg").write_bytes(b"no image")
    assert open_images(folder, cache).key == images.key
    (folder / "3.jpg").rename(folder / "9.jpg")
    assert open_images(folder, cache).key != images.key


def test_a_changed_photograph_is_noticed(folder, cache):
    before = open_images(folder, cache)
    (folder / "3.jpg").write_bytes(encode(picture(77)))
    after = open_images(folder, cache)
    same = [np.array_equal(a, b) for a, b in zip(before.lab, after.lab, strict=True)]
    assert same == [True, True, True, False, True, True]
    assert after.key != before.key


def truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


def swap(path):
    np.save(path, np.zeros((6, 3, 8, 8), np.float32))


def other_type(path):
    np.save(path, np.zeros((6, 3, SIZE, SIZE), np.float64))


def edit(path):
    path.write_text(path.read_text().replace("5.jpg", "7.jpg"))


def other_format(path):
    stored = json.loads(path.read_text())
    body = {"format": stored_images.FORMAT + 1, "body": {**stored["body"], "groups": [0] * 6}}
    path.write_text(json.dumps({**body, "digest": stored_images.digest(body)}))


def nonsense(path):
    path.write_text("[]")


@pytest.mark.fault("a cache truncated, edited, of another type or format", "decoded again")
@pytest.mark.parametrize(
    ("pattern", "damage"),
    [
        ("images-*.npy", truncate),
        ("images-*.npy", swap),
        ("images-*.npy", other_type),
        ("images-*.npy", os.unlink),
        ("images-*.json", truncate),
        ("images-*.json", edit),
        ("images-*.json", other_format),
        ("images-*.json", nonsense),
        ("images-*.json", os.unlink),
        ("folder-*.json", edit),
        ("folder-*.json", nonsense),
    ],
)
def test_a_damaged_cache_is_never_believed(folder, cache, pattern, damage):
    before = open_images(folder, cache)
    expected = np.array(before.lab)
    (path,) = cache.glob(pattern)
    before.lab._mmap.close()
    damage(path)
    after = open_images(folder, cache)
    assert after.names == before.names and np.array_equal(after.lab, expected)
    assert np.array_equal(after.groups, before.groups)
    assert len(list(cache.iterdir())) == 3


@pytest.mark.fault("two processes that fill one cache", "one whole cache")
def test_two_builders_at_once_leave_one_whole_cache(folder, cache, monkeypatch):
    produce = opening._produce

    def overtaken(item, **options):
        monkeypatch.setattr(opening, "_produce", produce)
        open_images(folder, cache)  # another process starts late and ends first
        return produce(item, **options)

    monkeypatch.setattr(opening, "_produce", overtaken)
    images = open_images(folder, cache)
    assert len(images) == 6 and images.lab[:, 0].std() > 0.05
    assert len(list(cache.iterdir())) == 3


@pytest.mark.fault("an interrupted decoding", "nothing counts as decoded")
def test_a_failed_build_leaves_the_cache_as_it_was(folder, cache, monkeypatch):
    def fail(item, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(opening, "_produce", fail)
        with pytest.raises(KeyboardInterrupt):
            open_images(folder, cache)
    assert [path.name[:7] for path in cache.iterdir()] == ["folder-"]
    assert len(open_images(folder, cache)) == 6


@pytest.mark.fault("a photograph that changes while it is read", "one sentence with its name")
def test_a_photograph_that_changes_under_our_hands(folder, cache, monkeypatch):
    build = opening._build

    def late(*args):
        (folder / "3.jpg").write_bytes(encode(picture(50)))
        build(*args)

    monkeypatch.setattr(opening, "_build", late)
    with pytest.raises(UserError, match=r"3\.jpg.*start again"):
        open_images(folder, cache)


@pytest.mark.fault(
    "a disk too full for the decoded images", "one sentence with the numbers, before decoding"
)
def test_a_full_disk_is_told_before_decoding(folder, cache, monkeypatch):
    no_decoding(monkeypatch)
    usage = types.SimpleNamespace(total=0, used=0, free=1000)
    monkeypatch.setattr(stored_images.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match=r"images-.*npy.*needs.*MiB free"):
        open_images(folder, cache)


def test_a_failed_write_names_the_file(folder, tmp_path):
    (tmp_path / "taken").write_text("a file where a folder should be")
    with pytest.raises(UserError, match=r"Cannot write .*taken.*free"):
        open_images(folder, tmp_path / "taken")
