"""The study's images as a whole: split by name, grouped by likeness, opened in two parts."""

import string

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import PHOTOGRAPH, SIZE, encode, fill, open_images, picture
from PIL import Image

from poolae import data
from poolae.data import images as opening
from poolae.data import sources
from poolae.settings import UserError

NAMES = st.lists(
    st.text(string.ascii_letters + string.digits, min_size=1, max_size=8),
    min_size=4,
    max_size=60,
    unique=True,
)


# --- Splits --------------------------------------------------------------------------


def side(names, seed, **options):
    """Return the training part of a split as a set of names, after checking the parts."""
    train, test = data.split(names, seed, **options)
    assert sorted([*train, *test]) == list(range(len(names)))
    assert list(train) == sorted(train) and list(test) == sorted(test)
    return {names[row] for row in train}


def test_769_names_give_the_published_sizes():
    names = [f"{k}.jpg" for k in range(769)]
    for seed in range(5):
        train, test = data.split(names, seed)
        assert (len(train), len(test)) == (576, 193)


def test_split_is_the_documented_hash():
    from hashlib import sha256

    names = ["a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg"]
    ranked = sorted(names, key=lambda name: sha256(f"split 7\0{name}".encode()).digest())
    assert side(names, 7) == set(ranked[:3])


@settings(max_examples=40, deadline=None)
@given(names=NAMES, seed=st.integers(0, 9), shuffle=st.randoms())
def test_split_ignores_order_and_folder(names, seed, shuffle):
    other = list(names)
    shuffle.shuffle(other)
    assert side(names, seed) == side(other, seed)
    assert len(side(names, seed)) == 3 * len(names) // 4
    nested = [f"flowers/{name[0]}/{name}" for name in names]
    assert {name.split("/")[-1] for name in side(nested, seed)} == side(names, seed)


@settings(max_examples=40, deadline=None)
@given(names=NAMES, seed=st.integers(0, 9), kept=st.data())
def test_absent_names_move_nobody_beside_a_reference(names, seed, kept):
    some = kept.draw(st.lists(st.sampled_from(names), min_size=1, unique=True))
    whole = side(names, seed, reference=names)
    assert whole == side(names, seed)
    assert side(some, seed, reference=names) == whole & set(some)
    # a name that the reference does not hold has a side all the same
    assert side([*some, "stranger"], seed, reference=names) - {"stranger"} == whole & set(some)


@settings(max_examples=40, deadline=None)
@given(names=NAMES, seed=st.integers(0, 9))
def test_without_a_reference_one_absent_name_moves_at_most_one(names, seed):
    before, after = side(names, seed), side(names[1:], seed)
    assert len((before ^ after) - {names[0]}) <= 1


@settings(max_examples=40, deadline=None)
@given(names=NAMES, seed=st.integers(0, 9), draw=st.data())
def test_groups_follow_their_smallest_name(names, seed, draw):
    labels = st.lists(st.integers(0, 9), min_size=len(names), max_size=len(names))
    groups = draw.draw(labels)
    alone, together = side(names, seed), side(names, seed, groups=groups)
    for group in set(groups):
        members = [name for name, label in zip(names, groups, strict=True) if label == group]
        sides = {name in together for name in members}
        assert sides == {min(members) in alone}


def test_other_seeds_give_other_splits():
    names = list(sources.manifest())
    assert len({frozenset(side(names, seed)) for seed in range(20)}) == 20


def test_names_that_are_no_text_are_split():
    names = ["\udcff.jpg", "new\nline.jpg", "ein Gänseblümchen.jpg", " .jpg"]
    assert len(side(names, 0)) == 3


# --- Near-duplicates -----------------------------------------------------------------


def test_near_duplicates_are_joined_through_others():
    # 0b0, 0b1 and 0b11 lie one bit apart in a chain; the last two are far from all.
    hashes = np.array([0b0, 0xFFFF, 0b11, 0b1, 0xFFFF_0000], dtype=np.uint64)
    assert data.near_duplicates(hashes, 1).tolist() == [0, 1, 0, 0, 2]
    assert data.near_duplicates(hashes, 0).tolist() == [0, 1, 2, 3, 4]
    assert data.near_duplicates(hashes, 64).tolist() == [0] * 5
    assert data.near_duplicates(hashes[:1], 1).tolist() == [0]


def test_words_of_a_long_hash_add_up():
    hashes = np.array([[0, 0], [1, 1], [3, 3]], dtype=np.uint64)
    assert data.near_duplicates(hashes, 1).tolist() == [0, 1, 2]
    assert data.near_duplicates(hashes, 2).tolist() == [0, 0, 0]
    assert data.near_duplicates(hashes[[0, 2]], 3).tolist() == [0, 1]


def test_near_duplicates_across_blocks():
    # 6,000 hashes are compared 21 at a time; flipping the highest bit of each word
    # sorts a copy far from its original.
    words = np.random.default_rng(0).integers(0, 2**63, (3000, 4)).astype(np.uint64)
    groups = data.near_duplicates(np.concatenate([words, words ^ np.uint64(2**63)]), 4)
    assert groups.tolist() == [*range(3000), *range(3000)]


def test_more_pairs_than_are_held_at_once():
    # All 2,000 lie within 16 bits of one another: two million pairs, joined in two goes.
    hashes = np.random.default_rng(0).permutation(2000).astype(np.uint64)
    assert data.near_duplicates(hashes, 16).tolist() == [0] * 2000


def test_one_photograph_under_two_names_is_one_group(folder, cache):
    again = picture(2).resize((200, 100))
    (folder / "again.png").write_bytes(encode(again, "PNG"))
    images = open_images(folder, cache)
    group = dict(zip(images.names, images.groups.tolist(), strict=True))
    assert group["again.png"] == group["2.jpg"]
    assert len(set(group.values())) == 6


# --- Folders and the whole -----------------------------------------------------------


def test_pixels_are_those_of_a_plain_conversion(folder, cache):
    from skimage.color import rgb2lab

    images = open_images(folder, cache)
    assert images.names == tuple(f"{k}.jpg" for k in range(6))
    assert images.lab.shape == (6, 3, SIZE, SIZE) and images.lab.dtype == np.float32
    assert not images.lab.flags.writeable and len(images) == 6 and images.size == SIZE
    for name, lab in zip(images.names, images.lab, strict=True):
        square = Image.open(folder / name).resize((SIZE, SIZE), Image.Resampling.BILINEAR)
        L, a, b = np.moveaxis(rgb2lab(np.asarray(square)), -1, 0)
        assert np.abs(lab - [L / 100, (a + 128) / 255, (b + 128) / 255]).max() < 1e-4


def test_too_few_images_name_the_first_exclusion(tmp_path, cache):
    path = fill(tmp_path / "given", ["1.jpg", "2.jpg"])
    (path / "broken.jpg").write_bytes(b"")
    with pytest.raises(UserError, match=r"2 readable images \(1 excluded.*broken.jpg.*empty file"):
        open_images(path, cache)


@pytest.mark.parametrize("options", [{"size": 0}, {"size": -1}, {"size": 8, "n": 3}])
def test_impossible_numbers_are_refused(cache, options):
    with pytest.raises(UserError):
        opening.open_images("synthetic", cache=cache, workers=1, **options)


def test_load_gives_both_parts(folder):
    loaded = data.load(folder, SIZE, seed=3)
    train, test, images = loaded.train, loaded.test, loaded.images
    assert (len(train), len(test)) == (4, 2)
    assert train.lightness.shape == (4, 1, SIZE, SIZE) and test.chroma.shape == (2, 2, SIZE, SIZE)
    assert sorted(train.names + test.names) == list(images.names)
    for part in (train, test):
        rows = [images.names.index(name) for name in part.names]
        assert np.array_equal(part.lightness, images.lab[rows][:, :1])
        assert np.array_equal(part.chroma, images.lab[rows][:, 1:])
        assert part.chroma[:].dtype == np.float32 and part.lightness[:].flags.writeable
        assert all(map(np.array_equal, part.in_memory(), (part.lightness, part.chroma)))


def test_of_the_largest_folders_a_part_is_measured(folder, monkeypatch):
    whole = data.load(folder, SIZE, seed=3)
    monkeypatch.setattr(opening, "MEASURED", 2)
    some = data.load(folder, SIZE, seed=3)
    assert some.train.names == whole.train.names and len(whole.test) == len(some.test) == 2
    lightness, chroma = some.train.in_memory()
    assert np.array_equal(lightness, whole.train.lightness[[0, 2]])
    assert np.array_equal(chroma, whole.train.chroma[[0, 2]])
    assert data.spread([5, 6, 7, 8, 9]).tolist() == [5, 7]


def test_copies_of_one_photograph_cannot_be_split(tmp_path):
    path = tmp_path / "copies"
    path.mkdir()
    for k in range(5):
        (path / f"{k}.jpg").write_bytes(PHOTOGRAPH)
    with pytest.raises(UserError, match="hold 1 distinct pictures under 5 file names"):
        data.load(path, SIZE)


def named(names):
    lab = np.zeros((len(names), 3, 1, 1), np.float32)
    return data.Images(lab, tuple(names), np.arange(len(names)), (), "", "")


def test_is_daisies_within_five_per_cent():
    known = sources.manifest()  # 764 names: 726 are 95.03 %, 725 are 94.9 %
    assert named(known).is_daisies
    assert named([f"deep/{name}" for name in known[:726]]).is_daisies
    assert not named(known[:725]).is_daisies
    assert named([*known, *(f"{k}.jpg" for k in range(40))]).is_daisies  # 40 of 804
    assert not named([*known, *(f"{k}.jpg" for k in range(41))]).is_daisies  # 41 of 805


def test_daisies_are_split_by_the_manifest(monkeypatch):
    def sides(names, **options):
        monkeypatch.setattr(opening, "open_images", lambda *args, **options: named(names))
        loaded = data.load("daisies", 1, **options)
        return set(loaded.train.names), set(loaded.test.names)

    train, test = sides(sources.manifest())
    assert (len(train), len(test)) == (573, 191)  # floor(3/4 x 764)
    present = set(sources.manifest()[100:700])
    assert sides(sorted(present)) == (train & present, test & present)
    # a quick look at some of them is always divided 3:1
    assert [len(part) for part in sides(sorted(present), n=600)] == [450, 150]
    assert [len(part) for part in sides(sources.manifest()[:8])] == [6, 2]


@pytest.mark.parametrize(("drawn", "label"), [(True, "Drawing"), (False, "Decoding")])
def test_the_progress_bar_says_what_is_done(folder, cache, monkeypatch, drawn, label):
    seen = []

    def bar(rows, desc, **_):
        seen.append(desc)
        return rows

    monkeypatch.setattr("tqdm.tqdm", bar)
    open_images("synthetic" if drawn else folder, cache, n=4)
    assert seen == [label]


def test_shuffled_tiles_come_back_and_are_tiles():
    planes = np.random.default_rng(0).random((3, 2, 16, 16), np.float32)
    shuffled = data.shuffle_tiles(planes, seed=1)
    assert np.array_equal(data.shuffle_tiles(shuffled, seed=1, back=True), planes)
    corners = [np.s_[0, :, y : y + 4, x : x + 4] for y in range(0, 16, 4) for x in range(0, 16, 4)]
    tiles, moved = ({array[at].tobytes() for at in corners} for array in (planes, shuffled))
    assert tiles == moved and not np.array_equal(shuffled[0], planes[0])
    assert not np.array_equal(data.shuffle_tiles(planes, seed=2), shuffled)


def test_drawings_of_another_bandwidth_are_other_images(tmp_path):
    plain, banded = (
        opening.open_images(source, 16, n=4, cache=tmp_path)
        for source in ("synthetic", "synthetic:2")
    )
    assert plain.key != banded.key
    assert np.abs(plain.lab[:, 1:] - banded.lab[:, 1:]).max() > 0.05
