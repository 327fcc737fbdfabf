"""One stranger's picture, a file or an array: its pixels, or the reason why there are none.

Files are judged by what they hold, not by their names. Embedded colour profiles
are ignored, as in the original.
"""

from __future__ import annotations

import hashlib
import io
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from poolae.settings import UserError

DECODERS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")

MIN_SIDE = 16  # pixels; icons and tracking dots are no photographs
MAX_ASPECT = 10  # longer side over shorter; a banner squashed to a square shows nothing
MAX_PIXELS = 89_478_485  # Pillow's own limit: a quarter of a gibibyte of RGB
MAX_BYTES = 2**28  # of a file


def sniff(path: str) -> bool:
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


def decode_file(path: str, digest: str, size: int) -> tuple[np.ndarray, np.ndarray] | str:
    """Read an image, or say why it cannot be used.

    Parameters
    ----------
    path
        The file.
    digest
        SHA-256 of the content that it must have, hexadecimal.
    size
        Side of the square that it is squashed to, pixels.

    Returns
    -------
    rgb, bits
        (size, size, 3) float32 sRGB in [0, 1], and the (4,) uint64 perceptual hash;
        or the reason in their place.

    Raises
    ------
    UserError
        If the content is not that of `digest`.
    """
    try:
        data = Path(path).read_bytes()
    except OSError:
        data = None
    # What is stored under a digest must be what the digest was taken of.
    if data is None or hashlib.sha256(data).hexdigest() != digest:
        raise UserError(f"{path!r} changed while it was read: start again.")
    try:
        pixels, bits = decode_bytes(data, size)
    except ValueError as error:
        return str(error)
    return pixels.astype(np.float32) / 255, bits


def decode_bytes(data: bytes, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Decode a file's bytes to (size, size, 3) uint8 sRGB and a (4,) uint64 perceptual hash.

    Raises
    ------
    ValueError
        If they are no whole picture, or one that the study does not take; the text says why.
    """
    from PIL import Image

    with _with_reasons():
        image = _open(data)
        short, long = sorted(image.size)
        if short < MIN_SIDE:
            raise ValueError(f"a side of {short} px, under {MIN_SIDE}")
        if long > MAX_ASPECT * short:
            raise ValueError(f"{long} by {short} px, more than {MAX_ASPECT} to 1")
        # A JPEG decoder halves sides almost for free; four times the target loses nothing seen.
        image.draft(None, (max(4 * size, 256),) * 2)
        image = _whole(image)
        pixels = np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))
        return pixels, _perceptual_hash(image)


def read_picture(picture: np.ndarray | str | os.PathLike):
    """Return any picture that is not huge as a Pillow image in 8-bit sRGB, upright, over white.

    Parameters
    ----------
    picture
        A file, or an array: grey (H, W) or sRGB (H, W, 3), uint8 or float in [0, 1].

    Raises
    ------
    UserError
        If the file cannot be read or the array is no picture.
    """
    from PIL import Image

    if isinstance(picture, np.ndarray):
        if picture.ndim != 2 and (picture.ndim != 3 or picture.shape[-1] != 3):
            raise UserError(
                f"An array of shape {picture.shape} is no picture: give (H, W) or (H, W, 3)."
            )
        if picture.dtype != np.uint8:
            picture = np.rint(255 * picture).astype(np.uint8)
        return Image.fromarray(picture).convert("RGB")
    try:
        with _with_reasons():
            return _whole(_open(Path(picture).read_bytes()))
    except ValueError as error:
        raise UserError(f"{picture} cannot be read as an image: {error}.") from None


@contextmanager
def _with_reasons() -> Iterator[None]:
    """Turn all that decoders raise for a damaged file into a `ValueError` that says why."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns about what is excluded or harmless
        try:
            yield
        except MemoryError:
            raise
        except Exception as error:
            raise ValueError(reason(error)) from error


def _open(data: bytes):
    from PIL import Image, UnidentifiedImageError

    if not data:
        raise ValueError("empty file")
    try:
        image = Image.open(io.BytesIO(data), formats=DECODERS)
    except UnidentifiedImageError:
        raise ValueError(f"not a {', '.join(DECODERS[:-1])} or {DECODERS[-1]} file") from None
    except Image.DecompressionBombError:
        raise ValueError(f"more than {MAX_PIXELS:,} pixels") from None
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"more than {MAX_PIXELS:,} pixels")
    return image


def _whole(image):
    """Return an opened image decoded to the end, as RGB, over white, upright."""
    from PIL import ImageOps

    image.load()
    if image.format in ("JPEG", "MPO") and _is_cut_short(image):
        raise ValueError("the lower part is missing")
    with suppress(Exception):  # broken metadata do not make a picture unreadable
        image = ImageOps.exif_transpose(image)
    return _to_rgb(image)


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


def _perceptual_hash(image) -> np.ndarray:
    """Return 256 bits of the low frequencies of a Pillow image's lightness, (4,) uint64."""
    from imagehash import phash

    bits = np.packbits(phash(image, hash_size=16).hash)
    return bits.view(">u8").astype(np.uint64)


def reason(error: Exception) -> str:
    """Return why a file cannot be used, without paths or addresses that differ between runs."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
