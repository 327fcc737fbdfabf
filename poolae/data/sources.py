"""Which files or drawings a source consists of, and what decides their pixels."""

from __future__ import annotations

import hashlib
import os
import posixpath
import stat
from concurrent.futures import ThreadPoolExecutor
from functools import cache as cached
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from poolae.data.cache import digest, read_json, write_json
from poolae.data.decode import MAX_BYTES, UNREAD, decode_file, reason, sniff
from poolae.files import REFERENCE, code_digest
from poolae.settings import BANDED, UserError

KAGGLE_DATASET = "alxmamaev/flowers-recognition"
SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"),
    *(".avif", ".heic", ".heif", ".hif", ".jp2", ".j2k", ".jpx", ".ppm", ".pgm", ".pnm", *UNREAD),
)


class Item(NamedTuple):
    """One image of a source; `name` and `content` decide its pixels."""

    name: str
    content: str  # digest of the file, or of the code that draws
    origin: str | tuple[int, int | None]  # path of the file, or index and bandwidth of a drawing


def find_items(
    source: str, n: int | None, workers: int, cache: Path
) -> tuple[list[Item], list[tuple[str, str]]]:
    """Return a source's items by name, and (name, reason) of files that cannot be read.

    Parameters are those of `data.open_images`; `cache` keeps what was found.

    Raises
    ------
    UserError
        If the folder is missing or Kaggle cannot be reached.
    """
    if source == "synthetic" or source.startswith(BANDED):
        band = int(source.removeprefix(BANDED)) if source.startswith(BANDED) else None
        drawing = code_digest("data/daisies") + f" {band}" * (band is not None)
        drawings = range(256 if n is None else n)
        return [Item(f"daisy-{k:05d}", f"{drawing} {k}", (k, band)) for k in drawings], []
    files, excluded = _daisy_files(cache) if source == "daisies" else _folder_files(source)
    root = source if source == "daisies" else os.path.abspath(os.path.expanduser(source))
    items, unreadable = _fingerprint(files, n, workers, cache, root)
    return items, excluded + unreadable


def find_pictures(source: str | os.PathLike, besides: str) -> list[tuple[str, str]]:
    """Return (path, name) of a file, or of all pictures below a folder, but those in `besides`.

    Names are relative to the folder. What cannot be read is among them.
    """
    source = os.path.expanduser(os.fspath(source))
    if not os.path.isdir(source):
        return [(source, os.path.basename(source))]
    files, unreadable = _folder_files(source)
    names = [f.name for f in files if _has_image_suffix(f.name) or sniff(f.path)]
    names += [name.rstrip("/") for name, _ in unreadable]
    inner = os.path.relpath(besides, source) + "/"
    return [(os.path.join(source, name), name) for name in names if not name.startswith(inner)]


def picture(item: Item, size: int, colour_profiles: bool) -> tuple | str:
    """Draw an item, its sRGB as floats in [0, 1], or read it: all as in `decode_file`."""
    if isinstance(item.origin, str):
        return decode_file(item.origin, item.content, size, colour_profiles)
    from poolae.data.daisies import draw

    # Two drawings are never the same picture: a hash of its own keeps each apart.
    apart = np.frombuffer(hashlib.sha256(item.name.encode()).digest(), np.uint64)
    index, band = item.origin
    return draw(index, size, chroma_bandwidth=band), apart, ""


@cached
def manifest() -> tuple[str, ...]:
    """Return the sorted file names of the study's 764 photographs."""
    return tuple((REFERENCE / "daisies.txt").read_text("ascii").split())


def name_hash(purpose: str, name: str) -> bytes:
    """Return a hash of a file name without its folder, another one for each purpose."""
    text = f"{purpose}\0{posixpath.basename(name)}"
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


# --- Finding the files ---------------------------------------------------------------


class _File(NamedTuple):
    name: str  # relative, with forward slashes
    path: str
    bytes: int
    mtime_ns: int

    @property
    def stamp(self) -> tuple[str, int, int]:
        """What tells whether the file is still the one that was read."""
        return self.name, self.bytes, self.mtime_ns


def _has_image_suffix(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


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
        excluded.append((relative(error.filename) + "/", reason(error)))

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
                    excluded.append((name, reason(error)))
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
    folder = read_json(note)
    if folder and os.path.isdir(folder):
        files, excluded = _in_daisy_folders(folder)
        if files:
            return files, excluded
    folder = _download_daisies()
    files, excluded = _in_daisy_folders(folder)
    if not files:
        raise UserError(
            f"Kaggle's {KAGGLE_DATASET} in {folder!r} has no folder named daisy with files: "
            "delete it to download it again, or set DATA=synthetic or DATA=<folder>."
        )
    write_json(note, folder)
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
        from unittest.mock import patch

        import kagglehub
        from kagglesdk.kaggle_http_client import KaggleHttpClient

        # Kaggle's client would wait for a silent server without end.
        begin = KaggleHttpClient._init_session

        def begin_with_limit(client: KaggleHttpClient) -> None:
            begin(client)
            client._session.send = partial(client._session.send, timeout=(5, 30))

        with patch.object(KaggleHttpClient, "_init_session", begin_with_limit):
            return kagglehub.dataset_download(KAGGLE_DATASET)
    except Exception as error:
        raise UserError(
            f"Kaggle's {KAGGLE_DATASET} cannot be downloaded ({type(error).__name__}): set "
            "DATA=synthetic for drawn daisies, or DATA=<folder> for photographs that you have."
        ) from error


# --- Telling what they hold ----------------------------------------------------------


def _fingerprint(
    files: list[_File], n: int | None, workers: int, cache: Path, root: str
) -> tuple[list[Item], list[tuple[str, str]]]:
    """Return the images among the files with their digests, and the unreadable ones.

    A list kept in the cache tells what each file held when it had this name,
    length and time of change, so that unchanged files are not opened again.
    """
    path = cache / f"folder-{digest(root)[:32]}.json"
    stored = read_json(path) or []
    held = {tuple(stamp): content for *stamp, content in stored}
    known = {file: held[file.stamp] for file in files if file.stamp in held}

    for file in files:
        if not _has_image_suffix(file.name) and file not in known and not sniff(file.path):
            known[file] = ""  # some other kind of file
    images = [file for file in files if known.get(file) != ""]
    if n is not None:
        images = sorted(sorted(images, key=lambda f: name_hash("choice", f.name))[:n])
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
                excluded.append((file.name, reason(content)))
            else:
                known[file] = content
    listed = [[*file.stamp, known[file]] for file in sorted(known)]
    if listed != stored:
        write_json(path, listed)
    return [Item(f.name, known[f], f.path) for f in images if f in known], excluded


def _file_digest(file: _File) -> str | OSError:
    try:
        with open(file.path, "rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        return error
