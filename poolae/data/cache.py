"""What an earlier start found and decoded, on disk: never half written, never believed if damaged.

Images are rows of a NumPy file that is mapped rather than read; all else is JSON
that holds its own digest.
"""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from poolae.files import replacing

# Part of every cache key: raise it when the same pixels would be kept or grouped otherwise.
FORMAT = 2


def digest(value) -> str:
    """Return the SHA-256 of a JSON value; ASCII escapes make any file name safe."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def write_json(path: Path, body) -> None:
    """Write a JSON value with the cache's format and its own digest."""
    body = {"format": FORMAT, "body": body}
    with replacing(path) as temporary:
        temporary.write_text(json.dumps({**body, "digest": digest(body)}), "ascii")


def read_json(path: Path):
    """Return what `write_json` wrote, or None if it is absent, damaged or of another format."""
    try:
        stored = json.loads(path.read_text("ascii"))
        whole = stored.pop("digest") == digest(stored)
        return stored["body"] if whole and stored["format"] == FORMAT else None
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None


@contextmanager
def writing_images(path: Path, size: int, at_most: int) -> Iterator[Callable[[np.ndarray], None]]:
    """Yield a function that appends one (3, size, size) image to the array in `path`.

    The file takes its place when the block succeeds.

    Raises
    ------
    UserError
        If it cannot be written or `at_most` images have no room on the disk.
    """
    count = 0

    def append(lab: np.ndarray) -> None:
        nonlocal count
        file.write(lab.astype("<f4").tobytes())
        count += 1

    def write_header() -> None:  # which NumPy pads to one length for every count
        header = {"descr": "<f4", "fortran_order": False, "shape": (count, 3, size, size)}
        np.lib.format.write_array_header_1_0(file, header)

    with replacing(path) as temporary, open(temporary, "wb") as file:
        needed = 12 * size**2 * at_most
        if shutil.disk_usage(path.parent).free < needed:
            raise OSError(errno.ENOSPC, f"it needs {needed / 2**20:,.0f} MiB")
        write_header()
        yield append
        file.seek(0)
        write_header()


def open_stored(base: Path, size: int) -> tuple[np.ndarray, dict] | None:
    """Return the memory map and the index, or None unless both are whole and belong together."""
    index = read_json(base.with_suffix(".json"))
    if index is None:
        return None
    try:
        lab = np.load(base.with_suffix(".npy"), mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return None
    matches = lab.dtype == "<f4" and lab.shape == (len(index["names"]), 3, size, size)
    return (lab, index) if matches else None
