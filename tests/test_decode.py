"""Strangers' files: pixels or a reason, whatever they hold."""

import io
import os

import numpy as np
import pytest
from pictures import PHOTOGRAPH, SIZE, encode, open_images, picture
from PIL import Image

from poolae.data import decode

ALPHA = Image.new("RGBA", (40, 40), (255, 0, 0, 0))
WHITE, MIDDLE = (Image.new("RGB", (40, 40), colour) for colour in ("white", (128,) * 3))
GREY = picture(0).convert("L")


def sixteen_bit():
    grey = np.asarray(picture(0).convert("L")).astype(np.uint16)
    return Image.fromarray(grey * 257)


def colour_of(content):
    pixels, _ = decode.decode_bytes(content, 16)
    assert pixels.shape == (16, 16, 3) and pixels.dtype == np.uint8
    return pixels.astype(int)


@pytest.mark.fault(
    "truncated, empty, text, HTML, 1 by 1, banner, decompression bomb, pipe",
    "left out, with the reason",
)
def test_unusable_files_are_excluded_with_a_reason(folder, cache):
    bad = {
        "truncated.jpg": (PHOTOGRAPH[: len(PHOTOGRAPH) // 2], "truncated"),
        # a proper end marker after half the data: Pillow alone returns a half-grey picture
        "cut.jpg": (PHOTOGRAPH[: len(PHOTOGRAPH) // 2] + b"\xff\xd9", "lower part is missing"),
        "truncated.png": (encode(picture(), "PNG")[:2000], "truncated"),
        "header-only.jpg": (PHOTOGRAPH[:20], ""),
        "empty.jpg": (b"", "empty"),
        "page.jpg": (b"<!DOCTYPE html><title>404</title>", "not a JPEG"),
        "text.JPG": (b"not an image", "not a JPEG"),
        "pixel.gif": (encode(Image.new("L", (1, 1)), "GIF"), "a side of 1 px"),
        "thin.png": (encode(picture(0, (15, 90)), "PNG"), "a side of 15 px"),
        "banner.png": (encode(picture(0, (20, 300)), "PNG"), "300 by 20 px"),
        "bomb.png": (encode(Image.new("1", (12_000, 12_000)), "PNG"), "more than 89,478,485"),
        "huge-bomb.png": (encode(Image.new("1", (20_000, 20_000)), "PNG"), "more than 89,478,485"),
        "float.tif": (encode(picture().convert("F"), "TIFF"), "range"),
    }
    for name, (content, _) in bad.items():
        (folder / name).write_bytes(content)
    os.symlink("nowhere", folder / "dangling.jpg")
    os.mkfifo(folder / "pipe.jpg")
    os.mkfifo(folder / "pipe")
    images = open_images(folder, cache)
    assert images.names == tuple(f"{k}.jpg" for k in range(6))
    reasons = dict(images.excluded)
    assert set(reasons) == {*bad, "dangling.jpg", "pipe.jpg"}
    for name, (_, reason) in bad.items():
        assert reason in reasons[name], name
    assert reasons["dangling.jpg"] == "No such file or directory"
    assert reasons["pipe.jpg"] == "not a regular file"
    assert images.excluded == tuple(sorted(reasons.items()))
    # the same from the cache
    assert open_images(folder, cache).excluded == images.excluded


MODES = {
    "greyscale": (encode(GREY, quality=95), GREY, 4),
    "16-bit PNG": (encode(sixteen_bit(), "PNG"), GREY, 1),
    "16-bit TIFF": (encode(sixteen_bit(), "TIFF"), GREY, 1),
    "palette": (encode(picture(0).quantize(256), "PNG"), picture(0).quantize(256), 1),
    "CMYK": (encode(picture(0).convert("CMYK"), quality=95), picture(0), 8),
    "WebP": (encode(picture(0), "WEBP", lossless=True), picture(0), 1),
    "BMP": (encode(picture(0), "BMP"), picture(0), 1),
    "progressive": (encode(picture(0), "JPEG", progressive=True), picture(0), 12),
    "RGBA": (encode(ALPHA, "PNG"), WHITE, 0),
    "LA": (encode(ALPHA.convert("LA"), "PNG"), WHITE, 0),
    "transparent palette": (
        encode(Image.new("P", (40, 40)), "PNG", transparency=0), WHITE, 0,
    ),
    "a mid-grey picture is whole": (encode(MIDDLE), MIDDLE, 0),
    "first frame of an animation": (
        encode(picture(1), "GIF", save_all=True, append_images=[picture(2)]),
        picture(1).quantize(256), 40,
    ),
}  # fmt: skip


@pytest.mark.fault(
    "greyscale, palette, CMYK, RGBA, 16-bit, progressive, animated",
    "the colours that a viewer shows",
)
@pytest.mark.parametrize(("content", "expected", "tolerance"), MODES.values(), ids=MODES)
def test_any_mode_becomes_rgb(content, expected, tolerance):
    expected = expected.convert("RGB").resize((16, 16), Image.Resampling.BILINEAR)
    assert np.abs(colour_of(content) - np.asarray(expected)).max() <= tolerance


@pytest.mark.fault("EXIF-rotated photographs", "upright")
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation):
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encode(picture(3), "PNG", exif=exif)
    reference = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    reference = reference.resize((16, 16), Image.Resampling.BILINEAR)
    assert np.array_equal(colour_of(content), np.asarray(reference))


def test_large_photographs_decoded_in_reduced_size_look_the_same(tmp_path):
    large = picture(0, (2400, 1800))
    pixels, bits = decode.decode_bytes(encode(large, quality=95), SIZE)
    plain = np.asarray(large.resize((SIZE, SIZE), Image.Resampling.BILINEAR))
    assert np.abs(pixels.astype(int) - plain).max() <= 4
    # nor does the reduction make or part near-duplicates
    assert np.bitwise_count(decode._perceptual_hash(large) ^ bits).sum() <= 8
