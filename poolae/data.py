"""The study's images: found, decoded, cached, grouped and split.

Photographs are squashed to a square, turned into CIE Lab in floating point and
kept in one memory map, so that a second start reads no photograph. For 764
photographs at 128 px on two cores, imports included: first start 2.6 s (best of
three), second 0.1 s; a loop over scikit-image's `imread`, `resize` and `rgb2lab` takes
9.4 s (5.0 s without antialiasing). Embedded colour profiles are ignored, as in
the original.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import multiprocessing
import os
import posixpath
import shutil
import stat
import sys
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cache as cached
from functools import partial, partialmethod
from pathlib import Path
from typing import NamedTuple

import numpy as np

from poolae.errors import UserError
from poolae.files import REFERENCE, build_folder, code_digest, replacing

# Part of every cache key: raise it when the same file would give other pixels or groups.
FORMAT = 1

KAGGLE_DATASET = "alxmamaev/flowers-recognition"
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
DECODERS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")

MIN_IMAGES = 4  # the fewest that a 3:1 split can divide
MIN_SIDE = 16  # pixels; icons and tracking dots are no photographs
MAX_ASPECT = 10  # longer side over shorter; a banner squashed to a square shows nothing
MAX_PIXELS = 89_478_485  # Pillow's own limit: a quarter of a gibibyte of RGB
MAX_BYTES = 2**28  # of a file

# Bits of 256 in which two perceptual hashes of one photograph may differ. Among the
# 764 daisies five pairs lie within 32 bits, each one photograph under two names
# (three copies, one repainted, one retouched); the next pair is 90 bits apart
# and shows different flowers. The threshold is halfway.
MAX_DISTANCE = 60

CHUNK = 8  # images that a worker takes at a time


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
        Hexadecimal digest of names, contents, `size` and the cache's format.
    source
        "synthetic", "daisies" or the folder, as given.
    """

    lab: np.ndarray
    names: tuple[str, ...]
    groups: np.ndarray
    excluded: tuple[tuple[str, str], ...]
    key: str
    source: str

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


@dataclass(frozen=True, eq=False)
class Part:
    """One side of a split: lightness (N, 1, H, W) and chroma (N, 2, H, W), float32 in [0, 1]."""

    lightness: np.ndarray
    chroma: np.ndarray
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True, eq=False)
class Data:
    """A training and a test part, in memory, and the images that they were taken from."""

    train: Part
    test: Part
    images: Images


def load(
    source: str | os.PathLike,
    size: int,
    seed: int = 0,
    n: int | None = None,
    workers: int | None = None,
    cache: str | os.PathLike | None = None,
) -> Data:
    """Open a source's images and split them 3:1.

    The photographs of the study are split against the committed manifest, so
    that absent files move no other. That holds for a source that covers at
    least half of the manifest with at most 5 % other names, and `n` not set.

    Parameters
    ----------
    source, size, n, workers, cache
        As in `open_images`.
    seed
        Picks the split.

    Raises
    ------
    UserError
        As in `open_images`, or if one part would be empty.
    """
    images = open_images(source, size, n=n, workers=workers, cache=cache)
    reference = manifest() if n is None and images._overlap(coverage=0.5) else None
    sides = split(images.names, seed, images.groups, reference)
    if not all(map(len, sides)):
        raise UserError(
            f"All {len(images)} images of {images.source!r} fall on one side of the split with "
            f"seed {seed}, for they hold {len(np.unique(images.groups))} distinct pictures under "
            f"{len(set(map(posixpath.basename, images.names)))} file names: add other images."
        )
    train, test = (
        Part(
            images.lab[rows, :1],
            images.lab[rows, 1:],
            tuple(images.names[row] for row in rows),
        )
        for rows in sides
    )
    return Data(train, test, images)


def open_images(
    source: str | os.PathLike,
    size: int,
    n: int | None = None,
    workers: int | None = None,
    cache: str | os.PathLike | None = None,
) -> Images:
    """Decode a source's images, or open what an earlier call decoded.

    Greyscale, palette, 16-bit and CMYK images become RGB; transparency is laid
    over white; EXIF orientation is applied; of an animation the first frame is
    taken. Excluded with a reason: what cannot be decoded to the end, sides under
    `MIN_SIDE`, shapes beyond `MAX_ASPECT`, more than `MAX_PIXELS` or `MAX_BYTES`.

    Parameters
    ----------
    source
        "synthetic" (drawn daisies), "daisies" (Kaggle's Flowers Recognition,
        class daisy, downloaded once) or a folder, searched with its subfolders
        for JPEG, PNG, WebP, BMP, GIF and TIFF files under whatever name.
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
    if source == "synthetic":
        items, excluded = _synthetic_items(256 if n is None else n), []
    else:
        files, excluded = _daisy_files(cache) if source == "daisies" else _folder_files(source)
        root = source if source == "daisies" else os.path.abspath(os.path.expanduser(source))
        items, unreadable = _fingerprint_files(files, n, workers, cache, root)
        excluded += unreadable
    stem = f"images-{_digest([FORMAT, size, [item[:2] for item in items]])[:32]}"
    stored = _open_stored(cache, stem, size)
    if stored is None:
        _build(items, size, workers, cache, stem, source, excluded)
        stored = _open_stored(cache, stem, size)
        if stored is None:
            raise UserError(f"{cache / stem}.npy changed while it was read: start again.")
    lab, index = stored
    excluded = sorted([*excluded, *map(tuple, index["excluded"])])
    key = _digest([FORMAT, size, index["names"], index["contents"]])
    groups = np.array(index["groups"])
    return Images(lab, tuple(index["names"]), groups, tuple(excluded), key, source)


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
    hashes = [_split_hash(name, seed) for name in names]
    ranked = sorted(hashes if reference is None else (_split_hash(r, seed) for r in reference))
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


def rgb_to_lab01(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Convert sRGB to the study's planes of CIE Lab (D65, 2 degree observer).

    Parameters
    ----------
    rgb
        (..., H, W, 3) sRGB, floats in [0, 1] or uint8.

    Returns
    -------
    lightness
        (..., 1, H, W) float32 in [0, 1]: L / 100.
    chroma
        (..., 2, H, W) float32 in [0, 1]: (a + 128) / 255, (b + 128) / 255.
    """
    from skimage.color import rgb2lab

    lab = np.moveaxis(rgb2lab(np.asarray(rgb)), -1, -3)  # (..., 3, H, W)
    # White rounds to a lightness just above 100.
    lightness = np.clip(lab[..., :1, :, :] / 100, 0, 1).astype(np.float32)
    chroma = ((lab[..., 1:, :, :] + 128) / 255).astype(np.float32)
    return lightness, chroma


def lab01_to_rgb(lightness: np.ndarray, chroma: np.ndarray) -> np.ndarray:
    """Convert the study's planes of CIE Lab to sRGB, clipped to the gamut.

    Parameters
    ----------
    lightness
        (..., 1, H, W) floats in [0, 1].
    chroma
        (..., 2, H, W) floats in [0, 1].

    Returns
    -------
    rgb
        (..., H, W, 3) float32 sRGB in [0, 1].
    """
    from skimage.color import lab2rgb

    L = np.asarray(lightness, dtype=np.float64)[..., 0, :, :] * 100
    a, b = np.moveaxis(np.asarray(chroma, dtype=np.float64), -3, 0) * 255 - 128
    # f(Z) = (L + 16) / 116 - b / 200 would be negative for yellows that no light has.
    # `lab2rgb` sets it to 0 too, but warns; the margin keeps rounding from doing so.
    b = np.minimum(b, 200 * (L + 16) / 116 - 1e-6)
    return lab2rgb(np.stack([L, a, b], axis=-1)).clip(0, 1).astype(np.float32)


@cached
def manifest() -> tuple[str, ...]:
    """Return the sorted file names of the study's 764 photographs."""
    return tuple((REFERENCE / "daisies.txt").read_text("ascii").split())


def _digest(value) -> str:
    """Return the SHA-256 of a JSON value; ASCII escapes make any file name safe."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _name_hash(purpose: str, name: str) -> bytes:
    text = f"{purpose}\0{posixpath.basename(name)}"
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _split_hash(name: str, seed: int) -> bytes:
    return _name_hash(f"split {int(seed)}", name)


# --- Finding the files ---------------------------------------------------------------


class _File(NamedTuple):
    name: str  # relative, with forward slashes
    path: str
    bytes: int
    mtime_ns: int


def _has_image_suffix(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


def _reason(error: Exception) -> str:
    """Return why a file cannot be used, without paths or addresses that differ between runs."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


def _folder_files(source: str) -> tuple[list[_File], list[tuple[str, str]]]:
    """Return every regular file below a folder, by name, and what could not be looked at."""
    folder = os.path.expanduser(source)
    hint = "give DATA an existing folder of images, or DATA=synthetic for drawn daisies"
    if not os.path.exists(folder):
        raise UserError(f"There is no folder {source!r}: {hint}.")
    if not os.path.isdir(folder):
        raise UserError(f"{source!r} is not a folder: {hint}.")
    files: list[_File] = []
    excluded: list[tuple[str, str]] = []

    def relative(path: str) -> str:
        return os.path.relpath(path, folder).replace(os.sep, "/")

    def note(error: OSError) -> None:
        excluded.append((relative(error.filename) + "/", _reason(error)))

    for parent, _, names in os.walk(folder, onerror=note):
        for path in (os.path.join(parent, name) for name in names):
            name = relative(path)
            try:
                status = os.stat(path)
                # A pipe would be waited for, a device may never end.
                if not stat.S_ISREG(status.st_mode):
                    raise ValueError("not a regular file")
            except (OSError, ValueError) as error:
                if _has_image_suffix(name):
                    excluded.append((name, _reason(error)))
            else:
                files.append(_File(name, path, status.st_size, status.st_mtime_ns))
    return sorted(files), excluded


def _daisy_files(cache: Path) -> tuple[list[_File], list[tuple[str, str]]]:
    """Return Kaggle's daisies, each file name once.

    The archive has held `flowers/daisy`, and also `flowers/flowers/daisy`
    beside it with the same pictures. Where it lies is noted in the cache, so
    that only the first start asks Kaggle.
    """
    note = cache / "daisies-folder.json"
    files, excluded = [], []
    folder = _read_json(note)
    if folder is not None and os.path.isdir(folder):
        files, excluded = _in_daisy_folders(folder)
    if not files:
        folder = os.fspath(_download_daisies())
        files, excluded = _in_daisy_folders(folder)
        if not files:
            raise UserError(
                f"Kaggle's {KAGGLE_DATASET} in {folder!r} has no folder named daisy with files: "
                "delete it to download it again, or set DATA=synthetic or DATA=<folder>."
            )
        _write_json(note, folder)
    return files, excluded


def _in_daisy_folders(folder: str) -> tuple[list[_File], list[tuple[str, str]]]:
    top = os.path.basename(os.path.abspath(folder))

    def is_daisy(name: str) -> bool:
        return "daisy" in f"{top}/{name}".lower().split("/")[:-1]

    files, excluded = _folder_files(folder)
    once = {}
    for file in filter(lambda file: is_daisy(file.name), files):
        name = posixpath.basename(file.name)
        once.setdefault(name, file._replace(name=name))
    return sorted(once.values()), [pair for pair in excluded if is_daisy(pair[0])]


def _download_daisies() -> str:
    try:
        import kagglehub
        import requests

        # kagglehub would wait for a silent server without end.
        send = requests.Session.send
        requests.Session.send = partialmethod(send, timeout=(5, 30))
        try:
            return kagglehub.dataset_download(KAGGLE_DATASET)
        finally:
            requests.Session.send = send
    except Exception as error:
        raise UserError(
            f"Kaggle's {KAGGLE_DATASET} cannot be downloaded ({type(error).__name__}): set "
            "DATA=synthetic for drawn daisies, or DATA=<folder> for photographs that you have."
        ) from error


# --- What decides the pixels ---------------------------------------------------------


class _Item(NamedTuple):
    name: str
    content: str  # digest of the file, or of the code that draws
    origin: str | int  # path of the file, or index of the drawing


def _synthetic_items(n: int) -> list[_Item]:
    drawing = code_digest("synthetic")
    return [_Item(f"daisy-{index:05d}", f"{drawing} {index}", index) for index in range(n)]


def _fingerprint_files(
    files: list[_File], n: int | None, workers: int, cache: Path, root: str
) -> tuple[list[_Item], list[tuple[str, str]]]:
    """Return the images among the files with their digests, and the unreadable ones.

    A list kept in the cache tells what each file held when it had this name,
    length and time of change, so that unchanged files are not opened again.
    """
    path = cache / f"folder-{_digest(root)[:32]}.json"
    stored = _read_json(path) or []
    held = {_File(name, "", *stamp): content for name, *stamp, content in stored}
    known = {f: held[key] for f in files if (key := f._replace(path="")) in held}
    before = dict(known)

    for file in files:
        if not _has_image_suffix(file.name) and file not in known and not _sniff(file.path):
            known[file] = ""  # some other kind of file
    images = [file for file in files if known.get(file) != ""]
    if n is not None:
        images = sorted(sorted(images, key=lambda f: _name_hash("choice", f.name))[:n])
    excluded = [
        (file.name, f"larger than {MAX_BYTES >> 20} MiB")
        for file in images
        if file.bytes > MAX_BYTES
    ]
    images = [file for file in images if file.bytes <= MAX_BYTES]
    unknown = [file for file in images if file not in known]
    with ThreadPoolExecutor(workers) as pool:
        for file, content in zip(unknown, pool.map(_file_digest, unknown), strict=True):
            if isinstance(content, OSError):
                excluded.append((file.name, _reason(content)))
            else:
                known[file] = content
    if known != before or len(known) != len(stored):
        _write_json(path, [[f.name, f.bytes, f.mtime_ns, known[f]] for f in sorted(known)])
    return [_Item(f.name, known[f], f.path) for f in images if f in known], excluded


def _sniff(path: str) -> bool:
    """Return whether a file starts like an image of a kind that we decode."""
    try:
        with open(path, "rb") as file:
            head = file.read(16)
    except OSError:
        return False
    return (
        head.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"II*\0", b"MM\0*"))
        or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")
        or (head[:2] == b"BM" and head[6:10] == bytes(4))
    )


def _file_digest(file: _File) -> str | OSError:
    try:
        with open(file.path, "rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        return error


# --- Decoding ------------------------------------------------------------------------


def _decode(data: bytes, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Decode a file's bytes to (size, size, 3) uint8 sRGB and a (4,) uint64 perceptual hash.

    Raises whatever Pillow raises for bytes that it cannot decode to the end, and
    `ValueError` for images that we do not take.
    """
    from PIL import Image, UnidentifiedImageError

    if not data:
        raise ValueError("empty file")
    try:
        image = Image.open(io.BytesIO(data), formats=DECODERS)
    except UnidentifiedImageError:
        raise ValueError(f"not a {', '.join(DECODERS[:-1])} or {DECODERS[-1]} file") from None
    except Image.DecompressionBombError:
        raise ValueError(f"more than {MAX_PIXELS:,} pixels") from None
    short, long = sorted(image.size)
    if short * long > MAX_PIXELS:
        raise ValueError(f"more than {MAX_PIXELS:,} pixels")
    if short < MIN_SIDE:
        raise ValueError(f"a side of {short} px, under {MIN_SIDE}")
    if long > MAX_ASPECT * short:
        raise ValueError(f"{long} by {short} px, more than {MAX_ASPECT} to 1")
    # A JPEG decoder halves sides almost for free; four times the target loses nothing seen.
    image.draft(None, (max(4 * size, 256),) * 2)
    image.load()
    if image.format in ("JPEG", "MPO") and _is_cut_short(image):
        raise ValueError("the lower part is missing")
    image = _upright(_to_rgb(image), image)
    pixels = np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))
    return pixels, _perceptual_hash(image)


def _is_cut_short(image) -> bool:
    """Return whether a JPEG ends in the mid-grey that libjpeg puts for data that never came.

    A file that stops in the midst of its data is refused by Pillow, but not one
    whose data end early in a proper end marker. A mid-grey frame does not count.
    """
    if image.mode not in ("L", "RGB"):
        return False
    width, height = image.size
    first, last = image.crop((0, 0, 8, 8)), image.crop((width - 8, height - 8, width, height))
    return bool(np.all(np.asarray(last) == 128) and not np.all(np.asarray(first) == 128))


def _to_rgb(image):
    """Return a Pillow image of any mode as RGB, over white."""
    from PIL import Image

    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise ValueError("32-bit samples, whose range is not known")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def _upright(image, original):
    """Return `image` turned as the EXIF orientation of `original` asks."""
    from PIL import ExifTags, Image

    try:
        orientation = original.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # broken metadata do not make a picture unreadable
        return image
    turn = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }.get(orientation)
    return image if turn is None else image.transpose(turn)


def _perceptual_hash(image) -> np.ndarray:
    """Return 256 bits of the low frequencies of a Pillow image's lightness, (4,) uint64."""
    from imagehash import phash

    bits = np.packbits(phash(image, hash_size=16).hash)
    return bits.view(">u8").astype(np.uint64)


def _produce(items: list[_Item], size: int) -> list[tuple[np.ndarray, np.ndarray] | str]:
    """Return (3, size, size) Lab and the perceptual hash of each item, or why there is none."""
    return [
        _draw(item, size) if isinstance(item.origin, int) else _read(item, size) for item in items
    ]


def _draw(item: _Item, size: int) -> tuple[np.ndarray, np.ndarray]:
    from poolae.synthetic import draw

    # Two drawings are never the same picture: a hash of its own keeps each apart.
    apart = np.frombuffer(hashlib.sha256(item.name.encode()).digest(), np.uint64)
    return np.concatenate(rgb_to_lab01(draw(item.origin, size))), apart


def _read(item: _Item, size: int) -> tuple[np.ndarray, np.ndarray] | str:
    try:
        data = Path(item.origin).read_bytes()
    except OSError:
        data = None
    # What is stored under a digest must be what the digest was taken of.
    if data is None or hashlib.sha256(data).hexdigest() != item.content:
        raise UserError(f"{item.origin!r} changed while it was read: start again.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns about what is excluded or harmless
        try:
            pixels, bits = _decode(data, size)
        except MemoryError:
            raise
        except Exception as error:  # decoders raise all kinds for a damaged file
            return _reason(error)
    return np.concatenate(rgb_to_lab01(pixels.astype(np.float32) / 255)), bits


def _rows(items: list[_Item], size: int, workers: int) -> Iterator:
    """Yield what `_produce` makes of each item, in order, holding a few chunks at a time."""
    produce = partial(_produce, size=size)
    chunks = [items[start : start + CHUNK] for start in range(0, len(items), CHUNK)]
    workers = min(workers, len(chunks))
    if workers <= 1:
        for chunk in chunks:
            yield from produce(chunk)
        return
    # Forked workers share what is imported; elsewhere a fork is not safe.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else None)
    with ProcessPoolExecutor(workers, context) as pool:
        with warnings.catch_warnings():
            # Newer Pythons warn of forking beside threads; a worker takes none of their locks.
            warnings.simplefilter("ignore", DeprecationWarning)
            pool.submit(int).result()
        waiting: deque = deque()
        for chunk in chunks:
            waiting.append(pool.submit(produce, chunk))
            if len(waiting) > 2 * workers:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()


# --- The cache -----------------------------------------------------------------------


def _build(
    items: list[_Item],
    size: int,
    workers: int,
    cache: Path,
    stem: str,
    source: str,
    unreadable: list[tuple[str, str]],
) -> None:
    """Decode the items into `stem`.npy, row by row, and describe it in `stem`.json."""
    import imagehash  # noqa: F401 - imported once here, shared by the forked workers
    import skimage.color  # noqa: F401
    from tqdm import tqdm

    kept: list[_Item] = []
    hashes: list[np.ndarray] = []
    excluded: list[tuple[str, str]] = []
    path = cache / f"{stem}.npy"
    with replacing(path) as temporary, open(temporary, "wb") as file:
        _check_space(path, 12 * size**2 * len(items))
        _write_header(file, 0, size)
        bar = tqdm(
            zip(items, _rows(items, size, workers), strict=True),
            desc="Decoding",
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
                    continue
                lab, bits = row
                file.write(lab.astype("<f4").tobytes())
                kept.append(item)
                hashes.append(bits)
        except BrokenProcessPool as error:
            raise UserError(
                f"A process decoding {source!r} was killed, most likely for lack of memory: "
                "close other programs or make the images smaller."
            ) from error
        if len(kept) < MIN_IMAGES:
            raise _too_few(source, len(kept), [*unreadable, *excluded])
        file.seek(0)
        _write_header(file, len(kept), size)
    index = {
        "names": [item.name for item in kept],
        "contents": [item.content for item in kept],
        "groups": near_duplicates(np.array(hashes)).tolist(),
        "excluded": excluded,
    }
    _write_json(cache / f"{stem}.json", index)


def _write_header(file, count: int, size: int) -> None:
    # NumPy pads the header so that it has one length for every count of rows.
    header = {"descr": "<f4", "fortran_order": False, "shape": (count, 3, size, size)}
    np.lib.format.write_array_header_1_0(file, header)


def _check_space(path: Path, needed: int) -> None:
    if shutil.disk_usage(path.parent).free < needed:
        raise OSError(errno.ENOSPC, f"it needs {needed / 2**20:,.0f} MiB")


def _too_few(source: str, found: int, excluded: list[tuple[str, str]]) -> UserError:
    why = ""
    if excluded:
        name, reason = min(excluded)
        why = f" ({len(excluded)} excluded, the first {name!r}: {reason})"
    return UserError(
        f"{source!r} holds {found or 'no'} readable image{'s' * (found != 1)}{why}, and a study "
        f"needs at least {MIN_IMAGES}: give DATA another folder, or DATA=synthetic."
    )


def _open_stored(cache: Path, stem: str, size: int) -> tuple[np.ndarray, dict] | None:
    """Return the memory map and the index, or None unless both are whole and belong together."""
    index = _read_json(cache / f"{stem}.json")
    if index is None:
        return None
    try:
        lab = np.load(cache / f"{stem}.npy", mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return None
    matches = lab.dtype == "<f4" and lab.shape == (len(index["names"]), 3, size, size)
    return (lab, index) if matches else None


def _write_json(path: Path, body) -> None:
    """Write a JSON value with the cache's format and its own digest."""
    body = {"format": FORMAT, "body": body}
    with replacing(path) as temporary:
        temporary.write_text(json.dumps({**body, "digest": _digest(body)}), "ascii")


def _read_json(path: Path):
    """Return what `_write_json` wrote, or None if it is absent, damaged or of another format."""
    try:
        stored = json.loads(path.read_text("ascii"))
        digest = stored.pop("digest")
        return stored["body"] if digest == _digest(stored) and stored["format"] == FORMAT else None
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
