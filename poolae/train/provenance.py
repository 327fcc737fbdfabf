"""What a finished run was made from and what its files hold: the run.json beside them."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path

from poolae.data import Split
from poolae.files import RUN_FILE, code_digest, module_digests, replacing
from poolae.settings import Settings, UserError

__all__ = ["DECIDING", "SCORING", "changes", "checked", "fingerprint", "origin", "read", "seal"]

DECIDING = ("models", "train/loop", "train/optimisers", "train/parallel")  # the weights, of code
SCORING = ("metrics/scores", "data/colour")


def fingerprint(settings: Settings, images: Split) -> str:
    """Return a digest of all that decides a run's weights, except the machine.

    The names of the data and of the profile do not count, what they stand for does; of the code,
    that of networks and training counts, but not their comments.
    """
    parts = [
        json.dumps({**settings.asdict(), "data": None, "profile": None}, sort_keys=True),
        images.images.key,
        json.dumps([images.train.names, images.test.names]),
        code_digest(*DECIDING),
    ]
    return hashlib.sha256("\0".join(parts).encode(errors="surrogateescape")).hexdigest()


def origin(settings: Settings, images: Split) -> dict:
    """Return what the fingerprint is made of, as far as `changes` tells it apart."""
    return {
        "settings": settings.asdict(),
        "fingerprint": fingerprint(settings, images),
        "data_key": images.images.key,
        "code": module_digests(*DECIDING),
        "images": len(images.images.names),
        "training_images": len(images.train.names),
        "test_images": len(images.test.names),
    }


def changes(about: dict | None, settings: Settings, images: Split) -> str:
    """Say what is no longer as it was when a run was trained.

    Parameters
    ----------
    about
        What the finished run says of itself, None if that cannot be read.
    settings, images
        Of the run as it is wanted now.
    """
    if about is None:
        return f"its {RUN_FILE} is damaged, or of another version"
    now = origin(settings, images)
    said = [
        f"{key} {about['settings'][key]} -> {value}"
        for key, value in now["settings"].items()
        if about["settings"][key] != value and key not in ("data", "profile")
    ]
    if about["data_key"] != now["data_key"]:
        more = now["images"] - about["images"]
        count = f"{abs(more)} images {'added' if more > 0 else 'removed'}"
        said.append(f"data changed: {count if more else 'as many images, but others'}")
    modules = sorted(about["code"].keys() | now["code"].keys())
    said += [f"{m}.py changed" for m in modules if about["code"].get(m) != now["code"].get(m)]
    return "; ".join(said) or "how the images are divided changed"


def seal(folder: Path, about: dict, *names: str) -> None:
    """Write run.json with the digests of files that have just been written, and its own."""
    files = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}
    about["files"] = about.get("files", {}) | files
    with replacing(folder / RUN_FILE) as temporary:
        temporary.write_text(json.dumps({**about, "digest": _own_digest(about)}, indent=1))


def read(folder: Path) -> dict | None:
    """Return what a finished run says of itself; None where there is none of this version."""
    try:
        about = json.loads((folder / RUN_FILE).read_text())
        whole = about.pop("digest") == _own_digest(about)
        Settings(**about["settings"])
    except (FileNotFoundError, ValueError, TypeError, LookupError, AttributeError):
        return None
    return about if whole else None


def checked(path: Path, about: dict) -> Path:
    """Return the path of a file of a run if it holds what was written.

    Raises
    ------
    UserError
        If it is missing or holds anything else.
    """
    try:
        stat = path.stat()
        whole = _digest(path, stat.st_size, stat.st_mtime_ns) == about["files"][path.name]
    except (OSError, KeyError):
        whole = False
    if not whole:
        raise UserError(
            f"{path} is not what was written when {about['name']} was trained: remove the folder "
            f"{path.parent} and run the same command again, which trains it anew."
        )
    return path


def _own_digest(about: dict) -> str:
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


@cache  # whoever reads two files of a run, or one twice
def _digest(path: Path, size: int, modified: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
