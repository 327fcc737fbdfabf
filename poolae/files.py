"""Files that appear whole or not at all, and digests of the code that made them."""

from __future__ import annotations

import ast
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from poolae.errors import UserError

REFERENCE = Path(__file__).parent / "reference"  # facts that the code compares with
HEADLESS = "POOLAE_HEADLESS"  # environment variable, set where papermill executes a notebook
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path beside `path` that takes its place when the block succeeds.

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
        os.replace(temporary, path)
    except OSError as error:
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


def code_digest(*modules: str) -> str:
    """Return a digest of modules of this package that comments and docstrings do not change."""
    digest = hashlib.sha256()
    for module in modules:
        tree = ast.parse((Path(__file__).parent / f"{module}.py").read_bytes())
        for node in ast.walk(tree):
            if isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
                del node.body[0]
        digest.update(ast.dump(tree).encode())
    return digest.hexdigest()
