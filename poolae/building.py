"""One build of a results folder at a time, on however many machines."""

from __future__ import annotations

import os
import platform
import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from poolae.files import cannot_write, replacing
from poolae.settings import UserError

SHARED_FILE = ".shared"  # in a results folder, where LAUNCH hands executions to other machines

# What a killed process leaves beside a file: from `replacing`, or a notebook's.
LEFTOVER = re.compile(r"\.([0-9a-f]{8}-.+|[0-9]+-.+\.ipynb)")
LEFTOVER_SECONDS = 3600.0  # nobody writes one file for an hour without touching it


def claim(folder: str | os.PathLike) -> None:
    """Keep other builds out of a results folder while this process, or one it starts, lives.

    The system holds the lock: it ends with the last process of the build, however that ends.
    Some file systems of networks refuse it, or grant it to everybody, which is said.

    Raises
    ------
    UserError
        If another build has it, or the folder cannot be written.
    """
    path = Path(folder) / ".lock"
    lock = _open(path)
    os.set_inheritable(lock, True)
    try:
        locks = _lock(lock) and not _is_granted_again(path)
    except BlockingIOError:
        group = path.read_text() or "unknown"
        raise UserError(
            f"Another make (process group {group}) is building {folder}: wait until it has "
            "ended, or stop it, then run the same command again."
        ) from None
    path.write_text(f"{os.getpgrp()}")
    if not locks:
        print(
            f"The file system of {folder} ignores locks, so that nothing keeps a second build "
            "out of it: start one at a time."
        )


@contextmanager
def held(folder: str | os.PathLike) -> Iterator[None]:
    """Keep other processes out of the block for this folder: they wait, and say so."""
    lock = _open(Path(folder) / ".lock")
    try:
        _lock(lock)
    except BlockingIOError:
        print(f"Another process is making {folder}: this one waits for it.", flush=True)
        _lock(lock, wait=True)
    try:
        yield
    finally:
        os.close(lock)


def _open(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise cannot_write(path, error) from error


def _lock(lock: int, wait: bool = False) -> bool:
    """Lock an open file, or raise `BlockingIOError`; tell whether its file system knows locks."""
    import fcntl

    try:
        fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        raise
    except OSError:
        return False
    return True


def _is_granted_again(path: Path) -> bool:
    other = _open(path)
    try:
        return _lock(other)
    except BlockingIOError:
        return False
    finally:
        os.close(other)


def mark_shared(folder: str | os.PathLike) -> None:
    """Leave a word in a folder that only who sees this very folder can find."""
    with replacing(Path(folder) / SHARED_FILE) as temporary:
        temporary.write_text(uuid.uuid4().hex)


def check_shared(folder: str | os.PathLike, word: str) -> None:
    """Refuse to work where the folder is not the one that `mark_shared` left this word in.

    Raises
    ------
    UserError
        If the word is another, or there is none.
    """
    path = Path(folder) / SHARED_FILE
    if not path.exists() or path.read_text() != word:
        raise UserError(
            f"{Path(folder).absolute()} on {platform.node()} is not the folder that make builds: "
            "LAUNCH needs the checkout on a file system that all its machines share."
        )


def remove_leftovers(folder: str | os.PathLike) -> list[Path]:
    """Remove what killed processes left half written below `folder`, and return it."""
    limit = time.time() - LEFTOVER_SECONDS
    removed = []
    for path in Path(folder).rglob(".*"):
        # Another process may have taken it away meanwhile.
        with suppress(OSError):
            if LEFTOVER.fullmatch(path.name) and path.stat().st_mtime < limit:
                path.unlink()
                removed.append(path)
    return removed
