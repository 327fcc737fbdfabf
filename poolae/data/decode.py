"""One stranger's picture, a file or an array: its colours in sRGB, or why there are none.

Files are judged by what they hold; their names only say of what kind an unreadable one may be.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from poolae.settings import UserError

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

DECODERS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "HEIF", "JPEG2000", "PPM")
RAW = "camera raw"
# Pictures of other kinds, which are listed and not passed over in silence.
RAWS = ("3fr", "arw", "cr2", "cr3", "dng", "nef", "nrw", "orf", "pef", "raf", "raw", "rw2", "srw")
UNREAD = {
    **{f".{suffix}": RAW for suffix in RAWS},
    ".jxl": "JPEG XL", ".jxr": "JPEG XR", ".tga": "Targa", ".psd": "Photoshop", ".svg": "SVG",
    ".exr": "OpenEXR", ".hdr": "Radiance", ".ico": "icon", ".qoi": "QOI", ".pcx": "PCX",
}  # fmt: skip
# Major brands of files in boxes: AVIF, HEIC and its kin, and Canon's raw.
BRANDS = b"avif avis heic heix heim heis hevc hevx mif1 msf1 crx ".split(b" ")

MIN_SIDE = 16  # pixels; icons and tracking dots are no photographs
MAX_ASPECT = 10  # longer side over shorter; a banner squashed to a square shows nothing
MAX_PIXELS = 89_478_485  # Pillow's own limit: a quarter of a gibibyte of RGB
MAX_BYTES = 2**28  # of a file

TEXTS = (b"tEXt", b"zTXt", b"iTXt")  # of PNG; Pillow refuses pictures for the length of theirs
REDUCED, DNG = 254, 50706  # TIFF's NewSubfileType, whose lowest bit marks a preview; DNGVersion
HUFFMAN = BASELINE, EXTENDED, PROGRESSIVE = 0xC0, 0xC1, 0xC2  # JPEG's frames coded by Huffman
SCAN, END = 0xDA, 0xD9  # JPEG's markers before coded data and after the last
CODED = re.compile(rb"(?:[^\xff]+|\xff+[\0\xd0-\xd7])*")  # up to the next marker
RESTART = re.compile(rb"\xff+[\xd0-\xd7]")
SPACES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}  # Pillow's modes for those of profiles
MORE = bytes(range(1, 255))  # coded data that no picture ends in, without a marker


class Picture(NamedTuple):
    """A picture as a viewer shows it, upright, and what it takes to write it as it was."""

    image: PillowImage  # "RGB": 8-bit sRGB, regardless of transparency
    alpha: PillowImage | None = None  # "L"
    told: str = ""  # the name of a colour profile that is not sRGB, or why it was not used
    profile: bytes = b""  # the colour profile, if it is for RGB
    back: object | None = None  # LittleCMS's transform from sRGB to that profile, if it differs
    original: PillowImage | None = None  # with format and metadata

    def over_white(self) -> PillowImage:
        """Return the picture laid over white."""
        from PIL import Image

        if self.alpha is None:
            return self.image
        return Image.composite(self.image, Image.new("RGB", self.image.size, "white"), self.alpha)


def sniff(path: str) -> bool:
    """Return whether a file starts like an image of a kind that we decode or list."""
    try:
        with open(path, "rb") as file:
            head = file.read(16)
    except OSError:
        return False
    starts = (
        b"\xff\xd8\xff",
        b"\x89PNG\r\n\x1a\n",
        b"GIF8",
        b"II*\0",
        b"MM\0*",
        b"\xff\x4f\xff\x51",
    )
    return (
        head.startswith(starts)
        or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")
        or (head[:2] == b"BM" and head[6:10] == bytes(4))
        or (head[4:8] == b"ftyp" and head[8:12] in BRANDS)
        or head[4:12] in (b"jP  \r\n\x87\n", b"JXL \r\n\x87\n")
    )


def decode_file(path: str, digest: str, size: int, colour_profiles: bool = True) -> tuple | str:
    """Return what `decode_bytes` makes of a file, or why it cannot be used.

    Parameters
    ----------
    path
        The file.
    digest
        SHA-256 of the content that it must have, hexadecimal.
    size, colour_profiles
        As in `decode_bytes`.

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
        return decode_bytes(data, size, colour_profiles, path)
    except ValueError as error:
        return str(error)


def decode_bytes(
    data: bytes, size: int, colour_profiles: bool = True, name: str = ""
) -> tuple[np.ndarray, np.ndarray, str]:
    """Decode a file's bytes to what a data set keeps of them.

    Parameters
    ----------
    data
        The bytes.
    size
        Side of the square that the picture is squashed to, pixels.
    colour_profiles
        Whether embedded profiles are obeyed; the original ignored them.
    name
        The file's, which may tell its kind.

    Returns
    -------
    rgb, bits, told
        (size, size, 3) uint8 sRGB, the (4,) uint64 perceptual hash, and the name of a colour
        profile that is not sRGB, or why it was not used; else nothing.

    Raises
    ------
    ValueError
        If they are no whole picture, or one that the study does not take; the text says why.
    """
    from PIL import Image

    # A JPEG decoder halves sides almost for free; four times the target loses nothing seen.
    picture = _picture(data, name, draft=max(4 * size, 256), colour_profiles=colour_profiles)
    image = picture.over_white()
    rgb = np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))
    return rgb, _perceptual_hash(image), picture.told


def read_picture(source: np.ndarray | str | os.PathLike) -> Picture:
    """Decode any picture at its own size.

    Parameters
    ----------
    source
        A file, or an array: grey (H, W), sRGB (H, W, 3) or with alpha (H, W, 4); uint8, uint16
        or floats in [0, 1].

    Raises
    ------
    UserError
        If the file cannot be read or the array is no picture.
    """
    if isinstance(source, np.ndarray):
        try:
            return _seen(_from_array(source))
        except ValueError as error:
            raise UserError(f"The array is no picture: {error}.") from None
    try:
        if os.path.getsize(source) > MAX_BYTES:
            raise ValueError(f"larger than {MAX_BYTES >> 20} MiB")
        return _picture(Path(source).read_bytes(), os.fspath(source))
    except (OSError, ValueError) as error:
        raise UserError(f"{source} cannot be read as an image: {reason(error)}.") from None


def reason(error: Exception) -> str:
    """Return why a file cannot be used, without paths or addresses that differ between runs."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


# --- From bytes to an upright picture ------------------------------------------------


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


def _picture(data: bytes, name: str, draft: int = 0, colour_profiles: bool = True) -> Picture:
    """Decode a file to its end; with `draft`, to no more than about that side, as the study's."""
    with _with_reasons():
        image = _open(data, name)
        if draft:
            short, long = sorted(image.size)
            if short < MIN_SIDE:
                raise ValueError(f"a side of {short} px, under {MIN_SIDE}")
            if long > MAX_ASPECT * short:
                raise ValueError(f"{long} by {short} px, more than {MAX_ASPECT} to 1")
            image.draft(None, (draft, draft))
        image.load()
        if image.format in ("JPEG", "MPO") and _is_cut_short(data, image, draft):
            raise ValueError("the lower part is missing")
        return _seen(image, colour_profiles)


def _open(data: bytes, name: str) -> PillowImage:
    import pillow_heif
    from PIL import Image, UnidentifiedImageError

    if not data:
        raise ValueError("empty file")
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        data = _necessary_chunks(data)
    pillow_heif.register_heif_opener()
    kind = UNREAD.get(Path(name).suffix.lower())
    unread = f"{kind}, which is not read: save it as PNG or TIFF"
    try:
        image = Image.open(io.BytesIO(data), formats=DECODERS)
    except UnidentifiedImageError:
        if data.startswith((b"II*\0", b"MM\0*")) and kind != RAW:
            return _open_floats(data)
        if data[4:8] == b"ftyp" and data[8:12] in BRANDS and kind != RAW:
            pillow_heif.open_heif(data)  # raises with the reason
        kinds = f"{', '.join(DECODERS[:-1])} or {DECODERS[-1]}"
        raise ValueError(unread if kind else f"not a {kinds} file") from None
    except Image.DecompressionBombError:
        raise ValueError(f"more than {MAX_PIXELS:,} pixels") from None
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"more than {MAX_PIXELS:,} pixels")
    if image.format == "TIFF":
        tags = image.tag_v2
        if kind == RAW or DNG in tags or tags.get(REDUCED, 0) & 1:
            raise ValueError(f"{RAW}, of which only the preview can be read: save it as TIFF")
    return image


def _necessary_chunks(png: bytes) -> bytes:
    """Leave out a PNG's texts, and what is damaged and holds no pixels: Pillow refuses for both."""
    kept, at = [png[:8]], 8
    while at + 12 <= len(png):
        end = at + 12 + int.from_bytes(png[at : at + 4])
        chunk, kind = png[at:end], png[at + 4 : at + 8]
        whole = end <= len(png) and zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:])
        needed = kind[:1].isupper() or kind == b"tRNS"
        if needed and not whole and end <= len(png):
            raise ValueError(f"a wrong checksum in its chunk {kind.decode('latin-1')!r}")
        if needed or (whole and kind not in TEXTS):
            kept.append(chunk)
        at = end
    return b"".join(kept)


def _open_floats(tiff: bytes) -> PillowImage:
    """Open a TIFF of several floating-point samples, for which Pillow has no mode."""
    import tifffile
    from PIL import ExifTags

    page = tifffile.TiffFile(io.BytesIO(tiff)).pages.first
    if page.imagewidth * page.imagelength > MAX_PIXELS:
        raise ValueError(f"more than {MAX_PIXELS:,} pixels")
    array = page.asarray()
    image = _from_array(np.moveaxis(array, 0, -1) if page.axes == "SYX" else array)
    image.format = "TIFF"
    image.getexif()[ExifTags.Base.Orientation] = page.tags.valueof("Orientation", 1)
    image.info["icc_profile"] = page.tags.valueof("InterColorProfile")
    return image


def _from_array(array: np.ndarray) -> PillowImage:
    from PIL import Image

    if not array.size or array.ndim not in (2, 3) or array.shape[2:] not in ((), (3,), (4,)):
        raise ValueError(f"its shape is {array.shape}; give (H, W), (H, W, 3) or (H, W, 4)")
    if array.shape[0] * array.shape[1] > MAX_PIXELS:
        raise ValueError(f"more than {MAX_PIXELS:,} pixels")
    return Image.fromarray(_eight_bits(array))


def _eight_bits(array: np.ndarray) -> np.ndarray:
    """Return samples as uint8: of 16 bits, or floats in [0, 1], whose range can be told."""
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.uint16:
        return ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if array.dtype.kind != "f":
        raise ValueError(f"samples of type {array.dtype}, whose range is not known")
    low, high = array.min(), array.max()
    if not (low >= 0 and high <= 1.001):  # nor if one is not a number
        raise ValueError(f"its samples go from {low:g} to {high:g}, a range that is not known")
    return np.rint(255 * array.clip(0, 1)).astype(np.uint8)


def _is_cut_short(jpeg: bytes, image: PillowImage, draft: int) -> bool:
    """Return whether the coded data of a JPEG ended before its picture did.

    A file that stops is refused by Pillow, but where data end early in a proper marker, libjpeg
    puts grey, or leaves out detail, in silence. With more data put before each marker, such a
    picture changes and a whole one does not.
    """
    from PIL import Image

    at, frame, components, scans, sent, longer = 2, 0, 0, 0, {}, [jpeg[:2]]
    while jpeg[at : at + 1] == b"\xff" and jpeg[at + 1] != END:
        kind, end = jpeg[at + 1], at + 2 + int.from_bytes(jpeg[at + 2 : at + 4])
        if kind == 0xFF:  # a marker may begin with any number of these
            end = at + 1
        segment = jpeg[at + 4 : end]
        longer.append(jpeg[at:end])
        if kind in HUFFMAN:
            frame, components = kind, segment[5]
        elif kind == SCAN:
            *named, first, last, bits = segment[1:]
            if frame != PROGRESSIVE:
                first, last, bits = 0, 63, 0
            scans += 1
            # How many low bits of each coefficient have not come yet.
            sent |= {(c, k): bits & 15 for c in named[::2] for k in range(first, last + 1)}
            coded = CODED.match(jpeg, end)
            longer.append(RESTART.sub(MORE + rb"\g<0>", coded[0]) + MORE)
            end = coded.end()
        at = end
    if frame not in HUFFMAN:  # coded arithmetically, where an encoder may drop what is zero
        return False
    if len(sent) < 64 * components or any(sent.values()):
        return True
    corner = image.getpixel((image.width - 1, image.height - 1))
    if scans == 1 and image.mode != "CMYK" and set(np.atleast_1d(corner).tolist()) != {128}:
        return False
    again = Image.open(io.BytesIO(b"".join(longer) + jpeg[at:]), formats=("JPEG",))
    again.draft(None, (draft, draft) if draft else None)
    return again.tobytes() != image.tobytes()


# --- Colours -------------------------------------------------------------------------


def _seen(image: PillowImage, colour_profiles: bool = True) -> Picture:
    """Turn a decoded image of any mode upright and into sRGB."""
    from PIL import Image, ImageOps

    with suppress(Exception):  # broken metadata do not make a picture unreadable
        ImageOps.exif_transpose(image, in_place=True)
    plain, alpha = image, None
    if image.mode[0] in "IF":
        array = np.asarray(image)
        wide = image.format == "PPM" and image.mode == "I"  # 16 bits, held in 32
        plain = Image.fromarray(_eight_bits(array.astype(np.uint16) if wide else array))
    elif image.has_transparency_data:
        plain = image.convert("RGBA")
        alpha = plain.getchannel("A")
        plain = plain.convert("L" if image.mode in ("LA", "La") else "RGB")
    elif image.mode not in ("L", "CMYK"):
        plain = image.convert("RGB")
    profile = image.info.get("icc_profile")
    if not profile or not colour_profiles:
        return Picture(plain.convert("RGB"), alpha, original=image)
    try:
        mode, name, forth, back = _transforms(profile)
        if plain.mode != mode and (plain.mode, mode) != ("L", "RGB"):
            raise ValueError(f"it is for {mode} and the picture is {plain.mode}")
        rgb = forth.apply(plain.convert(mode)) if forth else plain.convert("RGB")
        return Picture(rgb, alpha, name, profile if mode == "RGB" else b"", back, image)
    except Exception as error:  # LittleCMS's, in Pillow's words
        told = f"broken, values taken as sRGB: {reason(error)}"
        return Picture(plain.convert("RGB"), alpha, told, original=image)


@lru_cache(maxsize=64)
def _transforms(profile: bytes) -> tuple:
    """Return a profile's mode, its name, and transforms from it to sRGB and, for RGB, back.

    For one that would move no byte by more than rounding, as sRGB's own, there is no name and
    no transform.
    """
    from PIL import Image, ImageCms

    opened, srgb = ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB")
    space = opened.profile.xcolor_space.strip()
    if space not in SPACES:
        raise ValueError(f"it is for {space}")
    mode = SPACES[space]
    forth, back = ImageCms.buildTransform(opened, srgb, mode, "RGB"), None
    if mode != "CMYK":
        steps = np.arange(0, 256, 15, dtype=np.uint8)  # of every channel, in all combinations
        grid = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(1, -1, 3)
        probe = Image.fromarray(grid).convert(mode)
        moved = np.asarray(forth.apply(probe), int) - np.asarray(probe.convert("RGB"))
        if np.abs(moved).max() <= 1:
            return mode, "", None, None
    if mode == "RGB":
        back = ImageCms.buildTransform(srgb, opened, "RGB", "RGB")
    name = " ".join(ImageCms.getProfileDescription(opened).split())
    return mode, name or "unnamed", forth, back


def _perceptual_hash(image: PillowImage) -> np.ndarray:
    """Return 256 bits of the low frequencies of a Pillow image's lightness, (4,) uint64."""
    from imagehash import phash

    bits = np.packbits(phash(image, hash_size=16).hash)
    return bits.view(">u8").astype(np.uint64)
