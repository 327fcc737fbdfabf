"""The study's images: opened, grouped and split.

`sources` says which there are, `decode` reads one, `colour` turns it into planes
and `cache` keeps them.

Photographs are squashed to a square, turned into CIE Lab in floating point and
kept in one memory map, so that a second start reads no photograph. For 764
photographs at 128 px on two cores, imports included: first start 2.6 s (best of
three), second 0.1 s; a loop over scikit-image's `imread`, `resize` and `rgb2lab` takes
9.4 s (5.0 s without antialiasing).
"""

from __future__ import annotations

import ctypes
import mmap
import multiprocessing
import os
import posixpath
import signal
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from poolae.data.cache import FORMAT, digest, open_stored, write_json, writing_images
from poolae.data.colour import rgb_to_lab01
from poolae.data.sources import Item, find_items, manifest, name_hash, picture
from poolae.files import build_folder, code_digest
from poolae.settings import Settings, UserError

MIN_IMAGES = 4  # the fewest that a 3:1 split can divide

# Bits of 256 in which two perceptual hashes of one photograph may differ. Among the
# 764 daisies five pairs lie within 32 bits, each one photograph under two names
# (three copies, one repainted, one retouched); the next pair is 90 bits apart
# and shows different flowers. The threshold is halfway.
MAX_DISTANCE = 60

# Of the largest data sets no more is tested on, and no more is in memory; training takes its
# batches from the disk. Where seeds scatter by a hundredth, more test images tell no more.
MEASURED = 2000

TILES = 4  # the tiles along one side of an image that is scrambled
CHUNK = 8  # images that a worker takes at a time ...
HELD = 256  # ... and that are handed out before the first of them are written
PR_SET_PDEATHSIG = 1  # of Linux's prctl.h


@dataclass(frozen=True, eq=False)
class Images:
    """Decoded images of one source, in the order of their names.

    Attributes
    ----------
    lab
        (N, 3, H, W) float32 in [0, 1]: L / 100, (a + 128) / 255, (b + 128) / 255
        of CIE Lab (D65). A read-only memory map.
    names
        Paths relative to the folder, with forward slashes. Bytes that are not
        UTF-8 are held as surrogate escapes, which `json.dumps` writes safely.
    groups
        (N,) int: images with one number are near-duplicates.
    excluded
        (name, reason) of each file that could not be used.
    key
        Hexadecimal digest of names, contents, `size`, the cache's format, whether profiles
        were obeyed, and the code that makes planes of files.
    source
        "synthetic", "daisies" or the folder, as given.
    profiles
        (name, profile, moved) of each file with a colour profile that is not sRGB: its name, or
        why it was not used, and how far it moved a and b on average, of their range.
    """

    lab: np.ndarray
    names: tuple[str, ...]
    groups: np.ndarray
    excluded: tuple[tuple[str, str], ...]
    key: str
    source: str
    profiles: tuple[tuple[str, str, float], ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    @property
    def size(self) -> int:
        """Side of the square images in pixels."""
        return self.lab.shape[-1]

    @property
    def missing(self) -> tuple[str, ...]:
        """File names of the manifest that are absent here."""
        return tuple(sorted(set(manifest()) - set(map(posixpath.basename, self.names))))

    @property
    def extra(self) -> tuple[str, ...]:
        """Names here whose file name the manifest does not hold."""
        known = set(manifest())
        return tuple(name for name in self.names if posixpath.basename(name) not in known)

    @property
    def is_daisies(self) -> bool:
        """Whether these are the published study's photographs, judged by file name.

        True when at least 95 % of the manifest is here and at most 5 % of what
        is here is not in the manifest.
        """
        return self._overlap(coverage=0.95)

    def _overlap(self, coverage: float) -> bool:
        present = len(manifest()) - len(self.missing)
        return present >= coverage * len(manifest()) and len(self.extra) <= 0.05 * len(self)


class Planes:
    """Some planes of some images, (N, C, H, W) float32 in [0, 1], read when they are asked for.

    Indexed along N alone, by a slice or an array of numbers, it gives a new array.
    """

    def __init__(self, lab: np.ndarray, rows: np.ndarray, planes: slice) -> None:
        self._lab, self.rows, self._planes = lab, rows, planes
        self.shape = (len(rows), *lab[0, planes].shape)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, chosen) -> np.ndarray:
        rows = self.rows[chosen]
        self._read_at_once(rows)
        return self._lab[rows, self._planes]

    def _read_at_once(self, rows: np.ndarray) -> None:
        """Have the system fetch these images together, where it would wait for one by one."""
        lab = self._lab
        if not isinstance(lab, np.memmap) or not hasattr(mmap, "MADV_WILLNEED"):
            return
        start = lab.offset % mmap.ALLOCATIONGRANULARITY  # numpy maps from a whole page on
        for row in rows[:MEASURED]:
            first = start + int(row) * lab.strides[0]
            page = first - first % mmap.PAGESIZE
            lab._mmap.madvise(mmap.MADV_WILLNEED, page, first + lab.strides[0] - page)

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return np.asarray(self[:], dtype)


@dataclass(frozen=True, eq=False)
class Part:
    """One side of a split: lightness (N, 1, H, W) and chroma (N, 2, H, W), float32 in [0, 1]."""

    lightness: np.ndarray | Planes
    chroma: np.ndarray | Planes
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    def in_memory(self) -> tuple[np.ndarray, np.ndarray]:
        """Return lightness and chroma of all images, or of `MEASURED` spread evenly over them."""
        rows = spread(np.arange(len(self)))
        return self.lightness[rows], self.chroma[rows]


@dataclass(frozen=True, eq=False)
class Split:
    """A training part, on disk, a test part, in memory, and the images they were taken from.

    `validation` is what `load_for` has set aside of the training part, if it was asked to.
    """

    train: Part
    test: Part
    images: Images
    validation: Part | None = None


def load(
    source: str | os.PathLike,
    size: int,
    seed: int = 0,
    n: int | None = None,
    colour_profiles: bool = True,
) -> Split:
    """Open a source's images and split them 3:1.

    Of a test part of more than `MEASURED` images, as many are taken at equal steps.
    The photographs of the study are split against the committed manifest, so
    that absent files move no other. That holds for a source that covers at
    least half of the manifest with at most 5 % other names, and `n` not set.

    Parameters
    ----------
    source, size, n, colour_profiles
        As in `open_images`.
    seed
        Picks the split.

    Raises
    ------
    UserError
        As in `open_images`, or if one part would be empty.
    """
    images = open_images(source, size, n, colour_profiles=colour_profiles)
    reference = manifest() if n is None and images._overlap(coverage=0.5) else None
    train, test = split(images.names, seed, images.groups, reference)
    if not len(train) or not len(test):
        raise UserError(
            f"All {len(images)} images of {images.source!r} fall on one side of the split with "
            f"seed {seed}, for they hold {len(np.unique(images.groups))} distinct pictures under "
            f"{len(set(map(posixpath.basename, images.names)))} file names: add other images."
        )
    test = spread(test)
    names = tuple(images.names[row] for row in test)
    on_test = Part(images.lab[test, :1], images.lab[test, 1:], names)
    return Split(_on_disk(images, train), on_test, images)


def _on_disk(images: Images, rows: Sequence[int]) -> Part:
    planes = (Planes(images.lab, np.asarray(rows), side) for side in (np.s_[:1], np.s_[1:]))
    return Part(*planes, tuple(images.names[row] for row in rows))


def spread(rows: Sequence[int]) -> np.ndarray:
    """Return all of `rows`, or `MEASURED` of them at equal steps."""
    rows = np.asarray(rows)
    if len(rows) <= MEASURED:
        return rows
    return rows[np.arange(MEASURED) * len(rows) // MEASURED]


def load_for(settings: Settings) -> Split:
    """`load` what a run is trained and tested on, or validated on where it stops early.

    Of the training part the first `training_images` are taken, in an order that the split picks
    and that keeps near-duplicates together: fewer are among more. Where the run stops early, the
    last fifth of them, whole groups, are for validation.

    Raises
    ------
    UserError
        As in `load`, or if the training part holds too few images.
    """
    s = settings
    loaded = load(s.data, s.size, s.split, s.images, colour_profiles=s.colour_profiles)
    if not (settings.training_images or settings.early):
        return loaded
    images, there = loaded.images, len(loaded.train)
    count = settings.training_images or there
    if not 2 <= count <= there:
        raise UserError(
            f"training_images is {count}, but the training part of split {settings.split} holds "
            f"{there} images: give 2 to {there}."
        )
    rows = loaded.train.lightness.rows
    group = dict(zip(rows, images.groups[rows], strict=True))
    rank = {group[r]: name_hash(f"subset {settings.split}", images.names[r]) for r in rows[::-1]}
    order = sorted(rows, key=lambda row: (rank[group[row]], row))[:count]
    first = count - max(1, count // 5) if settings.early else count
    while 1 < first < count and group[order[first]] == group[order[first - 1]]:
        first -= 1
    train, validation = (_on_disk(images, sorted(some)) for some in (order[:first], order[first:]))
    return replace(loaded, train=train, validation=validation if settings.early else None)


def shuffle_tiles(planes: np.ndarray, seed: int, back: bool = False) -> np.ndarray:
    """Put the 4 x 4 tiles of every image in an order of its own, or (`back`) in place again.

    Parameters
    ----------
    planes : (N, C, S, S) array
        `S` a multiple of 4.
    seed
        Picks the orders.
    """
    n, c, side = planes.shape[:3]
    tile = side // TILES
    cut = planes.reshape(n, c, TILES, tile, TILES, tile).swapaxes(3, 4)  # (N, C, 4, 4, S/4, S/4)
    tiles = cut.reshape(n, c, TILES**2, tile, tile)
    orders = np.random.default_rng(seed).permuted(np.tile(np.arange(TILES**2), (n, 1)), axis=1)
    orders = np.argsort(orders, axis=1) if back else orders
    moved = np.take_along_axis(tiles, orders[:, None, :, None, None], axis=2)
    return moved.reshape(cut.shape).swapaxes(3, 4).reshape(planes.shape)


def open_images(
    source: str | os.PathLike,
    size: int,
    n: int | None = None,
    workers: int | None = None,
    cache: str | os.PathLike | None = None,
    colour_profiles: bool = True,
) -> Images:
    """Decode a source's images, or open what an earlier call decoded.

    Greyscale, palette, 16-bit and CMYK images become sRGB; transparency is laid
    over white; EXIF orientation is applied; of an animation the first frame is
    taken. Excluded with a reason: what cannot be decoded to the end, sides under
    `MIN_SIDE`, shapes beyond `MAX_ASPECT`, more than `MAX_PIXELS` or `MAX_BYTES`
    (all of `decode`).

    Parameters
    ----------
    source
        "synthetic" (drawn daisies), "synthetic:<cycles per image>" (the same with
        their chroma cut off there), "daisies" (Kaggle's Flowers Recognition,
        class daisy, downloaded once) or a folder, searched with its subfolders
        for JPEG, PNG, WebP, BMP, GIF, TIFF, AVIF, HEIC and JPEG 2000 files under whatever name,
        and PPM.
        Symbolic links to folders are not followed.
    size
        Side of the square that each image is squashed to, pixels.
    n
        How many images: of "synthetic" the first n (default 256); of a folder
        at most n, picked by a hash of the file name (default all).
    workers
        Decoding processes; default one for each processor, 1 for none.
    cache
        Folder of decoded images; default `build/cache` (see `files.build_folder`).
    colour_profiles
        Whether files that carry a colour profile are converted by it to sRGB, as browsers do.
        The original took all values for sRGB.

    Raises
    ------
    UserError
        If the source is missing or holds fewer than `MIN_IMAGES` readable
        images, Kaggle cannot be reached, or the cache cannot be written.
    """
    source = os.fspath(source)
    if size < 1:
        raise UserError(f"The image size is {size} px: give a positive number.")
    if n is not None and n < MIN_IMAGES:
        raise UserError(f"The number of images is {n}: give at least {MIN_IMAGES}.")
    size, n = int(size), None if n is None else int(n)
    cache = build_folder() / "cache" if cache is None else Path(cache)
    workers = max(1, workers or os.cpu_count() or 1)
    items, excluded = find_items(source, n, workers, cache)
    files = any(isinstance(item.origin, str) for item in items)
    kind = [FORMAT, size, code_digest("data/colour", *["data/decode"] * files)]
    if files and not colour_profiles:
        kind.append("profiles ignored")
    base = cache / f"images-{digest([*kind, [item[:2] for item in items]])[:32]}"
    stored = open_stored(base, size)
    if stored is None:
        rows = _rows(items, workers, partial(_produce, size=size, colour_profiles=colour_profiles))
        _build(items, size, rows, base, source, excluded)
        stored = open_stored(base, size)
        if stored is None:
            raise UserError(f"{base}.npy changed while it was read: start again.")
    lab, index = stored
    excluded = sorted([*excluded, *map(tuple, index["excluded"])])
    key = digest([*kind, index["names"], index["contents"]])
    groups, profiles = np.array(index["groups"]), tuple(map(tuple, index["profiles"]))
    return Images(lab, tuple(index["names"]), groups, tuple(excluded), key, source, profiles)


def _build(
    items: list[Item],
    size: int,
    rows: Iterator[tuple | str],
    base: Path,
    source: str,
    unreadable: list[tuple[str, str]],
) -> None:
    """Write the items' `rows`, as they come, to `base`.npy, and describe them in `base`.json."""
    import imagehash  # noqa: F401 - imported once here, shared by the forked workers
    import skimage.color  # noqa: F401
    from tqdm import tqdm

    kept: list[tuple[Item, np.ndarray, str, float]] = []  # with all of a row but the planes
    excluded: list[tuple[str, str]] = []
    with writing_images(base.with_suffix(".npy"), size, at_most=len(items)) as append:
        bar = tqdm(
            zip(items, rows, strict=True),
            desc="Drawing" if source == "synthetic" else "Decoding",
            total=len(items),
            unit=" images",
            delay=2,  # seconds before it shows
            mininterval=0.1 if sys.stderr.isatty() else 5,
            leave=False,
        )
        try:
            for item, row in bar:
                if isinstance(row, str):
                    excluded.append((item.name, row))
                else:
                    append(row[0])
                    kept.append((item, *row[1:]))
        except BrokenProcessPool as error:
            raise UserError(
                f"A process decoding {source!r} was killed, most likely for lack of memory: "
                "close other programs or make the images smaller."
            ) from error
        if len(kept) < MIN_IMAGES:
            raise _too_few(source, len(kept), [*unreadable, *excluded])
    index = {
        "names": [item.name for item, *_ in kept],
        "contents": [item.content for item, *_ in kept],
        "groups": near_duplicates(np.array([bits for _, bits, *_ in kept])).tolist(),
        "excluded": excluded,
        "profiles": [(item.name, *profile) for item, _, *profile in kept if profile[0]],
    }
    write_json(base.with_suffix(".json"), index)


def _produce(item: Item, size: int, colour_profiles: bool) -> tuple | str:
    """Return an item's (3, size, size) Lab and perceptual hash, or why there is none.

    The name of its colour profile, "" if it has none, and how far that moved the chroma follow.
    """
    made = picture(item, size, colour_profiles)
    if isinstance(made, str):
        return made
    rgb, bits, told = made
    lab, moved = np.concatenate(rgb_to_lab01(rgb)), 0.0
    if told:
        unconverted = rgb_to_lab01(picture(item, size, colour_profiles=False)[0])[1]
        moved = float(np.abs(lab[1:] - unconverted).mean())
    return lab, bits, told, moved


def _rows(items: list[Item], workers: int, produce: Callable[[Item], tuple | str]) -> Iterator:
    """Yield what `produce` makes of each item, in order."""
    workers = min(workers, -(-len(items) // CHUNK))
    if workers <= 1:
        yield from map(produce, items)
        return
    # Forked workers share what is imported; elsewhere a fork is not safe.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else None)
    with ProcessPoolExecutor(workers, context, _end_with_parent) as pool:
        with warnings.catch_warnings():
            # Newer Pythons warn of forking beside threads; a worker takes none of their locks.
            warnings.simplefilter("ignore", DeprecationWarning)
            pool.submit(int).result()
        for start in range(0, len(items), HELD):
            yield from pool.map(produce, items[start : start + HELD], chunksize=CHUNK)


def _end_with_parent() -> None:
    """Let a worker end when its parent is killed, rather than wait for work for ever."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _too_few(source: str, found: int, excluded: list[tuple[str, str]]) -> UserError:
    why = ""
    if excluded:
        name, reason = min(excluded)
        same = len(excluded) > 1 and len({reason for _, reason in excluded}) == 1
        which = f"all {len(excluded)}" if same else f"{len(excluded)} excluded, the first {name!r}"
        why = f" ({which}: {reason})"
    return UserError(
        f"{source!r} holds {found or 'no'} readable image{'s' * (found != 1)}{why}, and a study "
        f"needs at least {MIN_IMAGES}: give DATA another folder, or DATA=synthetic."
    )


def split(
    names: Sequence[str],
    seed: int,
    groups: Sequence[int] | None = None,
    reference: Iterable[str] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Split names 3:1 by a hash of file name and seed.

    A name belongs to the training part when its hash is among the lowest
    floor(3/4 N) of the N reference names. Only the file name counts, not its
    folder. The order of `names` never matters.

    With a fixed `reference`, a name's side depends on the name and the seed
    alone: absent or additional files move nobody, exactly. With the names as
    their own reference the parts have exactly floor(3/4 N) and the other names,
    and taking a name away moves at most one other (the threshold steps to a
    neighbouring hash): independence holds approximately. `groups` weaken both:
    a group follows its smallest name, so that losing that very file may take
    the rest of its group across, and the parts' sizes shift by what was moved.

    Parameters
    ----------
    names
        Paths with forward slashes.
    seed
        Other seeds give other splits.
    groups
        (N,) group of each name; a group stays together, on the side of its
        lexicographically smallest file name.
    reference
        Names that fix the threshold; default `names`.

    Returns
    -------
    train_idx, test_idx
        Ascending positions in `names`, int arrays.
    """
    hashes, ranked = (
        [name_hash(f"split {int(seed)}", name) for name in some]
        for some in (names, names if reference is None else reference)
    )
    ranked.sort()
    count = 3 * len(ranked) // 4
    threshold = ranked[count - 1] if count else b""
    is_train = np.array([h <= threshold for h in hashes], dtype=bool)
    if groups is not None:
        leaders: dict[int, int] = {}
        for row in sorted(range(len(names)), key=lambda row: posixpath.basename(names[row])):
            leaders.setdefault(int(groups[row]), row)
        is_train = is_train[[leaders[int(group)] for group in groups]]
    return np.flatnonzero(is_train), np.flatnonzero(~is_train)


def near_duplicates(hashes: np.ndarray, max_distance: int = MAX_DISTANCE) -> np.ndarray:
    """Group images whose perceptual hashes lie close together.

    Pairs within `max_distance` are joined, and what is connected is a group.
    Distances are taken a few rows at a time, in bounded memory: 30,000 hashes
    of 256 bits take 4 s of one core and under 100 MB, 100,000 about 40 s.

    Parameters
    ----------
    hashes
        (N,) or (N, words) uint64: hashes of 64 bits, or of 64 for each word.
    max_distance
        Largest Hamming distance, in bits, of two near-duplicates.

    Returns
    -------
    groups
        (N,) int from 0, numbered by first appearance.
    """
    hashes = np.asarray(hashes, dtype=np.uint64)
    hashes, image = np.unique(hashes.reshape(len(hashes), -1), axis=0, return_inverse=True)
    total = len(hashes)
    first = np.arange(total)  # the first member of each hash's group so far
    pairs: list[np.ndarray] = []
    rows = max(1, 2**17 // max(1, total))  # a block that stays in the processor's cache
    for start in range(0, total, rows):
        distance = np.zeros((len(hashes[start : start + rows]), total - start), np.uint16)
        for words in hashes.T:
            distance += np.bitwise_count(words[start : start + rows, None] ^ words[start:])
        near = np.argwhere(distance <= max_distance)
        pairs.append(near[near[:, 0] < near[:, 1]] + start)
        if sum(map(len, pairs)) > 2**20:
            first, pairs = _join(first, pairs), []
    first = _join(first, pairs)[image.reshape(-1)]
    # Number the groups by first appearance.
    _, appearance, group = np.unique(first, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(appearance))[group]


def _join(first: np.ndarray, pairs: list[np.ndarray]) -> np.ndarray:
    """Return the first member of each group once `pairs` of (n, 2) indices are joined too."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    everyone = np.arange(len(first))
    ends = np.concatenate([np.stack([first, everyone], axis=1), *pairs]).T
    edges = coo_array((np.ones(ends.shape[1], bool), ends), shape=(len(first),) * 2)
    labels = connected_components(edges, directed=False)[1]
    return np.unique(labels, return_index=True)[1][labels]
