"""Files that appear whole or not at all, one build at a time, and digests of code."""

from __future__ import annotations

import ast
import hashlib
import os
import platform
import re
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from poolae.errors import UserError

REFERENCE = Path(__file__).parent / "reference"  # facts that the code compares with
RUN_FILE = "run.json"  # marks the folder of a finished run
HEADLESS = "POOLAE_HEADLESS"  # environment variable, set where papermill executes a notebook
SHARED_FILE = ".shared"  # in a results folder, where LAUNCH hands executions to other machines
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)

# What a killed process leaves beside a file: from `replacing`, a notebook's, safetensors' own.
LEFTOVER = re.compile(r"\.([0-9a-f]{8}-.+|[0-9]+-.+\.ipynb|tmp[A-Za-z0-9]{6})")
LEFTOVER_SECONDS = 3600.0  # nobody writes one file for an hour without touching it


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path beside `path` that takes its place when the block succeeds.

    Its content is on the disk before its name is, so that a power cut leaves the old file or
    the new one.

    Raises
    ------
    UserError
        If the file cannot be written; the sentence holds the path, the reason
        and the free space. The file that was there stays as it was.
    """
    path = Path(path)
    temporary = path.with_name(f".{uuid.uuid4().hex[:8]}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise cannot_write(path, error) from error
    except Exception as error:
        # safetensors reports what the system refused as a type of its own.
        number = re.search(r"\(os error (\d+)\)", str(error))
        if type(error).__name__ != "SafetensorError" or number is None:
            raise
        refused = OSError(int(number[1]), os.strerror(int(number[1])))
        raise cannot_write(path, refused) from error
    finally:
        # On a file system that refuses everything there is nothing to remove.
        if temporary.parent.is_dir():
            temporary.unlink(missing_ok=True)


def cannot_write(path: str | os.PathLike, error: OSError) -> UserError:
    """Return the sentence for a file or folder that could not be written."""
    folder = Path(path).absolute()
    while not folder.is_dir():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / 2**20
    return UserError(
        f"Cannot write {path}: {error.strerror or error} ({free:,.0f} MiB free in {folder}); "
        "make room or the folder writable, then run the same command again."
    )


def claim(folder: str | os.PathLike) -> None:
    """Keep other builds out of a results folder while this process, or one it starts, lives.

    The system holds the lock: it ends with the last process of the build, however that ends.

    Raises
    ------
    UserError
        If another build has it, or the folder cannot be written.
    """
    import fcntl

    path = Path(folder) / ".lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        os.set_inheritable(lock, True)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(lock, 0)
        os.write(lock, b"%d" % os.getpgrp())
    except BlockingIOError:
        group = path.read_text() or "unknown"
        raise UserError(
            f"Another make (process group {group}) is building {folder}: wait until it has "
            "ended, or stop it, then run the same command again."
        ) from None
    except OSError as error:
        raise cannot_write(path, error) from error


def mark_shared(folder: str | os.PathLike) -> None:
    """Leave a word in a folder that only who sees this very folder can find."""
    path = Path(folder) / SHARED_FILE
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(uuid.uuid4().hex)
    except OSError as error:
        raise cannot_write(path, error) from error


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


def available_memory() -> int | None:
    """Return the bytes of memory that processes can still have, or None if no one tells.

    As the kernel estimates it, within the limit of a container.
    """
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        fields = dict(line.split(":", 1) for line in lines)
        free = int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, LookupError, ValueError):
        return None
    with suppress(OSError, ValueError):  # "max" is no limit
        free = min(free, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return free


def check_memory(needed: int, purpose: str) -> None:
    """Refuse what does not fit into memory before it starts.

    Parameters
    ----------
    needed
        Bytes.
    purpose
        What they are for, such as "Training pool0-seed0".

    Raises
    ------
    UserError
        If fewer are available; the sentence holds both numbers.
    """
    free = available_memory()
    if free is not None and free < needed:
        raise UserError(
            f"{purpose} needs about {needed / 2**20:,.0f} MiB of memory, and "
            f"{free / 2**20:,.0f} MiB are free: close other programs, set JOBS=1 or choose a "
            "smaller PROFILE."
        )


def build_folder() -> Path:
    """Return where results go: $POOLAE_BUILD, or `build` in the checkout around this package."""
    if chosen := os.environ.get("POOLAE_BUILD"):
        return Path(chosen)
    checkout = Path(__file__).parents[1]
    return (checkout if (checkout / "pyproject.toml").exists() else Path.cwd()) / "build"


def code_digest(*modules: str) -> str:
    """Return a digest of modules of this package that comments and docstrings do not change."""
    digest = hashlib.sha256()
    for module in modules:
        digest.update(_meaning((Path(__file__).parent / f"{module}.py").read_bytes()))
    return digest.hexdigest()


@cache  # a notebook asks for every run
def _meaning(source: bytes) -> bytes:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            del node.body[0]
    return ast.dump(tree).encode()


def commit() -> str:
    """Return the checkout's short commit, with "+" when files differ from it."""
    try:
        return subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--abbrev=10", "--exclude=*"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def processor() -> str:
    """Return the processor's name, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(s.split(":")[1].strip() for s in lines if s.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
