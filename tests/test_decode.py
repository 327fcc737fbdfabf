"""Strangers' files: pixels or a reason, whatever they hold."""

import io
import os
import re
import zlib

import numpy as np
import pytest
from pictures import ADOBE, PHOTOGRAPH, SIZE, encode, open_images, picture
from PIL import Image, ImageCms

from poolae import UserError, make_settings
from poolae.data import decode, load_for, rgb_to_lab01

ALPHA = Image.new("RGBA", (40, 40), (255, 0, 0, 0))
WHITE, MIDDLE = (Image.new("RGB", (40, 40), colour) for colour in ("white", (128,) * 3))
GREY = picture(0).convert("L")


def sixteen_bit():
    grey = np.asarray(picture(0).convert("L")).astype(np.uint16)
    return Image.fromarray(grey * 257)


def colour_of(content):
    pixels, *_ = decode.decode_bytes(content, 16)
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
        "float.tif": (encode(picture().convert("F"), "TIFF"), "a range that is not known"),
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
    pixels, bits, _ = decode.decode_bytes(encode(large, quality=95), SIZE)
    plain = np.asarray(large.resize((SIZE, SIZE), Image.Resampling.BILINEAR))
    assert np.abs(pixels.astype(int) - plain).max() <= 4
    # nor does the reduction make or part near-duplicates
    assert np.bitwise_count(decode._perceptual_hash(large) ^ bits).sum() <= 8


# --- Colour profiles -----------------------------------------------------------------


def in_adobe_rgb(image):
    """Return an image's colours in Adobe RGB, by LittleCMS."""
    adobe = ImageCms.ImageCmsProfile(io.BytesIO(ADOBE))
    return ImageCms.profileToProfile(image, ImageCms.createProfile("sRGB"), adobe)


MUTED = picture(0).point(lambda value: 64 + value // 2)  # within every gamut


def test_adobe_rgb_is_what_its_definition_says():
    # Adobe RGB (1998): gamma 2.19921875; its matrix and sRGB's, both under D65, after Lindbloom
    adobe = np.array(
        [[0.57667, 0.18556, 0.18823], [0.29734, 0.62736, 0.07529], [0.02703, 0.07069, 0.99134]]
    )
    srgb = np.array(
        [[0.41246, 0.35758, 0.18044], [0.21267, 0.71515, 0.07217], [0.01933, 0.11919, 0.95030]]
    )
    stored = np.array([120, 160, 90])
    linear = np.linalg.inv(srgb) @ adobe @ (stored / 255) ** 2.19921875
    expected = 255 * (1.055 * linear ** (1 / 2.4) - 0.055)
    content = encode(Image.new("RGB", (20, 20), tuple(stored)), "PNG", icc_profile=ADOBE)
    assert np.abs(colour_of(content)[8, 8] - expected).max() <= 1


@pytest.mark.fault(
    "a colour profile that is not sRGB", "converted to sRGB, as browsers do; counted"
)
def test_profiles_are_obeyed_counted_and_kept_in_the_cache(folder, cache):
    wide = encode(in_adobe_rgb(MUTED), "PNG", icc_profile=ADOBE)
    assert np.abs(colour_of(wide) - colour_of(encode(MUTED, "PNG"))).max() <= 2
    (folder / "wide.png").write_bytes(wide)
    own = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    (folder / "own.png").write_bytes(encode(picture(8), "PNG", icc_profile=own))
    (folder / "broken.png").write_bytes(encode(picture(9), "PNG", icc_profile=b"no profile"))
    images = open_images(folder, cache)
    (name, why, nothing), (_, profile, moved) = images.profiles
    assert (name, nothing) == ("broken.png", 0) and why.startswith("broken, values taken as sRGB: ")
    assert profile == "Poor man's Adobe RGB" and len(images) == 9 and not images.excluded
    square = [
        rgb_to_lab01(np.asarray(one.resize((SIZE, SIZE), Image.Resampling.BILINEAR)))[1]
        for one in (MUTED, in_adobe_rgb(MUTED))
    ]
    assert moved == pytest.approx(np.abs(square[0] - square[1]).mean(), abs=1e-3) and moved > 0.005
    assert open_images(folder, cache).profiles == images.profiles  # from the cache


@pytest.mark.fault("the recipe of the original, which ignored colour profiles", "ignores them too")
def test_the_published_recipe_ignores_profiles(folder, monkeypatch):
    (folder / "wide.png").write_bytes(encode(in_adobe_rgb(MUTED), "PNG", icc_profile=ADOBE))
    obeyed, ignored = (
        load_for(make_settings(recipe=recipe, profile="smoke", data=str(folder))).images
        for recipe in ("corrected", "published")
    )
    assert len(obeyed.profiles) == 1 and not ignored.profiles and obeyed.key != ignored.key
    differs = [not np.array_equal(*pair) for pair in zip(obeyed.lab, ignored.lab, strict=True)]
    assert [obeyed.names[row] for row in np.flatnonzero(differs)] == ["wide.png"]


@pytest.mark.fault("a colour profile for another kind of picture", "left unused, with the reason")
@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_a_profile_that_does_not_fit(mode):
    content = encode(picture(0).convert(mode), "TIFF", icc_profile=ADOBE)
    *_, told = decode.decode_bytes(content, 16)
    plain = colour_of(encode(picture(0).convert(mode), "TIFF"))
    if mode == "L":  # grey values are colours of any RGB profile
        assert told == "Poor man's Adobe RGB"
    else:
        assert told.endswith("it is for RGB and the picture is CMYK")
        np.testing.assert_array_equal(colour_of(content), plain)


@pytest.mark.fault("a TIFF in CIE Lab", "the colours that a viewer shows")
def test_lab_becomes_rgb():
    spaces = [ImageCms.createProfile(name) for name in ("sRGB", "LAB")]
    lab = ImageCms.profileToProfile(MUTED, *spaces, outputMode="LAB")
    assert np.abs(colour_of(encode(lab, "TIFF")) - colour_of(encode(MUTED, "PNG"))).max() <= 4


# --- Kinds ---------------------------------------------------------------------------


@pytest.mark.fault("AVIF, HEIC, JPEG 2000, PPM under any name", "decoded")
@pytest.mark.parametrize(
    ("kind", "options", "tolerance"),
    [
        ("AVIF", dict(quality=95), 10),
        ("HEIF", dict(quality=95), 6),
        ("JPEG2000", {}, 0),
        ("PPM", {}, 0),
    ],
)
def test_newer_kinds_are_decoded(folder, cache, kind, options, tolerance):
    content = encode(picture(7), kind, **options)
    name = "photograph.ppm" if kind == "PPM" else "no suffix"
    (folder / name).write_bytes(content)
    images = open_images(folder, cache)
    assert name in images.names and not images.excluded
    assert np.abs(colour_of(content) - colour_of(encode(picture(7), "PNG"))).max() <= tolerance


@pytest.mark.fault(
    "pictures of kinds that are not read: raw, JPEG XL, Targa, ...", "listed as such"
)
def test_no_picture_is_left_out_in_silence(folder, cache):
    preview = {254: 1}  # NewSubfileType: a smaller version of another picture in the file
    raws = {"a.NEF": {}, "b.dng": {}, "c.tif": preview, "camera": {50706: b"\1\4\0\0"}}
    for name, tags in raws.items():
        (folder / name).write_bytes(encode(picture(1), "TIFF", tiffinfo=tags))
    (folder / "d.cr3").write_bytes(b"\0\0\0\x18ftypcrx \0\0\0\1")
    others = {"e.jxl": "JPEG XL", "f.tga": "Targa", "g.svg": "SVG", "h.psd": "Photoshop"}
    for name in others:
        (folder / name).write_bytes(b"\xff\x0a whatever")
    (folder / "i.HEIC").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    (folder / "j.raw").write_bytes(PHOTOGRAPH)  # a JPEG after all
    images = open_images(folder, cache)
    reasons = dict(images.excluded)
    assert set(reasons) == {*raws, "d.cr3", *others, "i.HEIC"} and "j.raw" in images.names
    assert all(reasons[name].startswith("camera raw") for name in (*raws, "d.cr3"))
    assert all(reasons[name].startswith(f"{kind}, which is not") for name, kind in others.items())
    assert "Invalid input" in reasons["i.HEIC"]  # libheif's words


@pytest.mark.fault(
    "a folder of nothing but broken HEIC or another kind", "one sentence that says so"
)
def test_a_folder_of_one_kind_is_told_of(tmp_path, cache):
    for k in range(5):
        (tmp_path / f"{k}.jxl").write_bytes(b"\xff\x0a")
    with pytest.raises(UserError, match=r"no readable images \(all 5: JPEG XL, which is not read"):
        open_images(tmp_path, cache)


# --- Pictures that look damaged, and that do not -------------------------------------


def on_canvas(canvas, at=(0, 0), size=(160, 120)):
    image = Image.new("RGB", size, canvas)
    image.paste(picture(3), at)
    return image


WHOLE = {
    "studio grey": on_canvas((128,) * 3),
    "studio grey below and above": on_canvas((128,) * 3, (40, 30)),
    "other grey": on_canvas((127,) * 3),
    "letterbox, black": on_canvas("black", (40, 30)),
    "letterbox, brown": on_canvas((128, 100, 90), (40, 30)),
    "overexposed": on_canvas("white", (40, 60)),
    "grey alone": Image.new("RGB", (160, 120), (128,) * 3),
}
ENCODINGS = {
    "baseline": {},
    "progressive": dict(progressive=True),
    "restarts": dict(restart_marker_blocks=4),
    "no subsampling": dict(subsampling=0),
}


@pytest.mark.fault("photographs on mid-grey, in letterboxes, overexposed", "taken for whole")
@pytest.mark.parametrize("options", ENCODINGS.values(), ids=ENCODINGS)
@pytest.mark.parametrize("image", WHOLE.values(), ids=WHOLE)
def test_no_false_alarm_on_even_corners(image, options):
    for mode in ("RGB", "L", "CMYK"):
        for size in (16, 64):
            decode.decode_bytes(encode(image.convert(mode), quality=90, **options), size)


@pytest.mark.fault("a JPEG cut anywhere and given a proper end", "left out, with the reason")
@pytest.mark.parametrize("options", ENCODINGS.values(), ids=ENCODINGS)
def test_no_cut_short_photograph_is_taken(options):
    for image in (picture(100, (400, 300)), WHOLE["studio grey below and above"]):
        content = encode(image, quality=90, **options)
        start, seen = content.rindex(b"\xff\xda") if not options.get("progressive") else 1500, []
        rows = np.asarray(Image.open(io.BytesIO(content)))
        for end in range(start + 40, len(content) - 60, max(1, (len(content) - start) // 12)):
            cut = content[:end] + b"\xff\xff\xd9"  # a marker may have more than one
            try:
                decode.decode_bytes(cut, 64)
            except ValueError as error:
                seen.append(str(error))
            else:  # no more is missing than lies in even grey
                assert np.array_equal(np.asarray(Image.open(io.BytesIO(cut))), rows), end
        assert "the lower part is missing" in seen


@pytest.mark.fault("a progressive JPEG without its last scans", "left out, with the reason")
def test_missing_detail_is_noticed():
    content = encode(picture(100, (400, 300)), quality=90, progressive=True)
    scans = [found.start() for found in re.finditer(rb"\xff\xda", content)]
    assert len(scans) > 5
    for start in scans[1:]:
        with pytest.raises(ValueError, match="the lower part is missing"):
            decode.decode_bytes(content[:start] + b"\xff\xd9", 64)


def chunk(kind, body, wrong=0):
    checksum = (zlib.crc32(kind + body) ^ wrong).to_bytes(4)
    return len(body).to_bytes(4) + kind + body + checksum


@pytest.mark.fault(
    "a PNG with megabytes of text, or a wrong checksum where there are no pixels", "decoded"
)
def test_a_png_is_judged_by_its_pixels():
    from PIL.PngImagePlugin import PngInfo

    content, header = encode(picture(0), "PNG"), 33  # bytes of signature and IHDR
    long = zlib.compress(bytes(2**23))
    for extra in (
        chunk(b"tEXt", b"Comment\0" + b"x" * 2**21),
        chunk(b"zTXt", b"Comment\0\0" + long),
        chunk(b"pHYs", bytes(9), wrong=1),
        chunk(b"eXIf", b"MM", wrong=1),
    ):
        for at in (header, len(content) - 12):
            changed = content[:at] + extra + content[at:]
            np.testing.assert_array_equal(colour_of(changed), colour_of(content))
    with pytest.raises(ValueError, match="a wrong checksum in its chunk 'IHDR'"):
        decode.decode_bytes(content[:32] + b"x" + content[33:], 16)
    info = PngInfo()
    info.add_text("Comment", "x" * 2**21)
    assert colour_of(encode(picture(0), "PNG", pnginfo=info)).any()


# --- One decoder ---------------------------------------------------------------------


def float_tiff(rgb):
    import tifffile

    file = io.BytesIO()
    tifffile.imwrite(file, rgb, photometric="rgb")
    return file.getvalue()


def turned(image):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    return encode(image.transpose(Image.Transpose.ROTATE_90), "PNG", exif=exif)


@pytest.mark.fault("one picture in 8 bits, 16, floats, AVIF, Adobe RGB, turned", "one answer")
def test_one_picture_has_one_colour(tmp_path):
    import tifffile

    rgb = np.asarray(MUTED)
    wide, unit = rgb.astype(np.uint16) * 257, rgb / np.float32(255)
    sixteen = io.BytesIO()
    tifffile.imwrite(sixteen, wide, photometric="rgb")
    files = {
        "8.png": (encode(MUTED, "PNG"), 0),
        "8.tif": (encode(MUTED, "TIFF"), 0),
        "16.tif": (sixteen.getvalue(), 1),
        "float.tif": (float_tiff(unit), 1),
        "fine.avif": (encode(MUTED, "AVIF", quality=100, subsampling="4:4:4"), 3),
        "wide.png": (encode(in_adobe_rgb(MUTED), "PNG", icc_profile=ADOBE), 2),
        "turned.png": (turned(MUTED), 0),
    }
    sources = [(array, 0) for array in (rgb, wide, unit, unit.astype(float))]
    for name, (content, tolerance) in files.items():
        (tmp_path / name).write_bytes(content)
        sources.append((tmp_path / name, tolerance))
    for source, tolerance in sources:
        seen = np.asarray(decode.read_picture(source).over_white()).astype(int)
        assert np.abs(seen - rgb).max() <= tolerance, source
    grey = np.asarray(GREY)
    for source in (grey, grey.astype(np.uint16) * 257, grey / 255):
        seen = np.asarray(decode.read_picture(source).image)
        np.testing.assert_array_equal(seen, np.repeat(grey[..., None], 3, axis=-1))
    clear = np.dstack([rgb, np.zeros(rgb.shape[:2], np.uint8)])
    assert (np.asarray(decode.read_picture(clear).over_white()) == 255).all()


@pytest.mark.fault("arrays of other shapes, ranges and types, huge files", "one sentence")
def test_what_is_no_picture_is_told_in_one_sentence(tmp_path):
    refused = {
        "0 to 255, a range": np.full((4, 4, 3), 255.0),
        "from nan": np.full((4, 4), np.nan),
        "type int64": np.zeros((4, 4), int),
        r"shape is \(4, 4, 2\)": np.zeros((4, 4, 2)),
        r"shape is \(0, 4\)": np.zeros((0, 4), np.uint8),
        "more than 89,478,485 pixels": np.broadcast_to(np.uint8(0), (20_000, 10_000)),
    }
    refused["0 to 255, a range"][0] = 0
    (tmp_path / "huge.png").write_bytes(encode(Image.new("1", (20_000, 10_000)), "PNG"))
    (tmp_path / "no.png").write_text("no picture")
    refused |= {"huge.png cannot be read.*pixels": tmp_path / "huge.png"}
    refused |= {"no.png cannot.*not a JPEG": tmp_path / "no.png"}
    refused |= {"gone.png cannot be read as an image: No such file": tmp_path / "gone.png"}
    for said, source in refused.items():
        with pytest.raises(UserError, match=said) as caught:
            decode.read_picture(source)
        assert "\n" not in str(caught.value) and str(caught.value).endswith(".")
