"""Files that appear whole or not at all, where they belong, and digests of code."""

from __future__ import annotations

import ast
import hashlib
import os
import shutil
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from poolae.settings import UserError

REFERENCE = Path(__file__).parent / "paper" / "reference"  # facts that the code compares with
NETWORKS = Path(__file__).parents[1] / "figures" / "networks"  # of record, in a checkout
RUN_FILE = "run.json"  # marks the folder of a finished run
HEADLESS = "POOLAE_HEADLESS"  # environment variable, set where papermill executes a notebook
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


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
        # What else is opened in the block may be missing or unreadable: that says so itself.
        if error.filename and Path(error.filename) not in (temporary, path, *path.parents):
            raise
        raise cannot_write(path, error) from error
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


def build_folder() -> Path:
    """Return where results go: $POOLAE_BUILD, or `build` in the checkout around this package."""
    if chosen := os.environ.get("POOLAE_BUILD"):
        return Path(chosen)
    checkout = Path(__file__).parents[1]
    return (checkout if (checkout / "pyproject.toml").exists() else Path.cwd()) / "build"


# Digests of modules that were written another way and compute what they did, to the last digit, and
# what their digests were: `tests/same_code.py` tells.
EQUAL = {
    "5bf6bdcf249e84a7d298a3f2097283f4162fcc8cd7b929618f25e3e741c0a273":  # train/loop
    "285c7be30f49cdf8f40b085b7099827141e47d7ee1108ebdbbcc48d022b14319",
    "15de0d3247f9e84ab619ff2a8442da7cbe481a5ad9e557c4b9e73f3fe7832bac":  # models/__init__
    "479e6ecb7d628975b13a4458e623a63a1f6316b2f4c1af87deafeee94bc3ebe1",
    "f26c4cd50ec03d1a1907883fdd33e04d4d7cbbd673c6177fd75407f42aa5d542":  # models/architectures
    "1af19397e3ed641b5a4ed7130a609cca2899750f00f42475b0703b6316bedb95",
    "7da50eb35bab3fb53ae1d101e5e245a543e70e70e94a27aa0666fb96064bd82d":  # models/layers
    "50167e38873c6db388f7e3ebea6510a156eca09acfe2114a9b68d69f2d8bd6e9",
}


def code_digest(*modules: str) -> str:
    """Return a digest of parts of this package that comments and docstrings do not change.

    Parameters
    ----------
    *modules
        Paths below the package without suffix, such as "train/loop", or folders, such as
        "models", for all the modules in them.
    """
    return hashlib.sha256("".join(module_digests(*modules).values()).encode()).hexdigest()


def module_digests(*modules: str) -> dict[str, str]:
    """Return the digest of each module that `code_digest` puts together, by its path.

    Of a module that is `EQUAL` to what it was, that of before.
    """
    package, digests = Path(__file__).parent, {}
    for module in modules:
        for path in sorted((package / module).rglob("*.py")) or [package / f"{module}.py"]:
            digest = hashlib.sha256(_meaning(path.read_bytes())).hexdigest()
            digests[str(path.relative_to(package).with_suffix(""))] = EQUAL.get(digest, digest)
    return digests


@cache  # a notebook asks for every run
def _meaning(source: bytes) -> bytes:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            del node.body[0]
    # As Python 3.11 writes it: 3.12 adds type parameters, 3.13 leaves empty lists out.
    full = {"show_empty": True} if sys.version_info >= (3, 13) else {}
    return ast.dump(tree, **full).replace(", type_params=[]", "").encode()
