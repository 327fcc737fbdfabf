"""What a finished run was made from and what its files hold: the run.json beside them."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path

from poolae.data import Split
from poolae.files import RUN_FILE, code_digest, module_digests, replacing
from poolae.settings import Settings

__all__ = [
    "DECIDING",
    "SCORING",
    "changes",
    "code_now",
    "code_of",
    "is_whole",
    "origin",
    "read",
    "seal",
]

DECIDING = ("models", "train/loop", "train/optimisers", "train/parallel")  # the weights, of code
DRAWING = ("data/daisies", "data/decode", "data/colour")  # the images; in their key
SCORING = ("metrics/scores", "data/colour")


def origin(settings: Settings, split: Split) -> dict:
    """Return what a run is made from; its "fingerprint" digests all that decides the weights.

    Except the machine. The names of the data and of the profile do not count, what they stand
    for does; of the code, that of networks and training counts, but not their comments.
    """
    parts = [
        json.dumps({**settings.asdict(), "data": None, "profile": None}, sort_keys=True),
        split.images.key,
        json.dumps([split.train.names, split.test.names]),
        code_digest(*DECIDING),
    ]
    return {
        "settings": settings.asdict(),
        "fingerprint": _digest("\0".join(parts).encode(errors="surrogateescape")),
        "data_key": split.images.key,
        "code": module_digests(*DECIDING, *DRAWING),
        "images": len(split.images.names),
        "training_images": len(split.train.names),
        "test_images": len(split.test.names),
    }


def changes(about: dict | None, settings: Settings, split: Split) -> str:
    """Say what is no longer as it was when a run was trained.

    Parameters
    ----------
    about
        What the finished run says of itself, None if that cannot be read.
    settings, split
        Of the run as it is wanted now.
    """
    if about is None:
        return f"its {RUN_FILE} is damaged, or of another version"
    now = origin(settings, split)
    said = [
        f"{key} {about['settings'][key]} -> {value}"
        for key, value in now["settings"].items()
        if about["settings"][key] != value and key not in ("data", "profile")
    ]
    modules = sorted(about["code"].keys() | now["code"].keys())
    changed = [m for m in modules if about["code"].get(m) != now["code"].get(m)]
    if about["data_key"] != now["data_key"] and not set(changed) & set(DRAWING):
        more = now["images"] - about["images"]
        count = f"{abs(more)} images {'added' if more > 0 else 'removed'}"
        said.append(f"data changed: {count if more else 'as many images, but others'}")
    said += [f"{module}.py changed" for module in changed]
    return "; ".join(said) or "how the images are divided changed"


def code_of(about: dict) -> str:
    """Return a short digest of all the code that a finished run and its scores come from."""
    return _digest(json.dumps([about["code"], about["scored_with"]], sort_keys=True).encode())[:10]


def code_now() -> str:
    """Return what `code_of` is of runs that are trained and scored now."""
    code = module_digests(*DECIDING, *DRAWING)
    return code_of({"code": code, "scored_with": code_digest(*SCORING)})


def seal(folder: Path, about: dict, *names: str) -> None:
    """Write run.json with the digests of files that have just been written, and its own."""
    files = {name: _digest((folder / name).read_bytes()) for name in names}
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


def is_whole(path: Path, about: dict) -> bool:
    """Tell whether a file of a run is there and holds what was written."""
    try:
        stat = path.stat()
        return _file_digest(path, stat.st_size, stat.st_mtime_ns) == about["files"].get(path.name)
    except OSError:
        return False


def _own_digest(about: dict) -> str:
    return _digest(json.dumps(about, sort_keys=True).encode())


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@cache  # whoever reads two files of a run, or one twice
def _file_digest(path: Path, size: int, modified: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
