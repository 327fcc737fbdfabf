"""`poolae colourise`: whole files and folders in a run's colours, each kept as it was."""

import io

import numpy as np
import pytest
from pictures import ADOBE, encode, fill, picture
from PIL import Image, ImageCms
from skimage.color import rgb2lab

from poolae import make_settings
from poolae.__main__ import main
from poolae.data.decode import read_picture
from poolae.train import colouring, runs

MUTED = picture(0, (90, 60)).point(lambda value: 90 + value // 4)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A network of a few steps, whose colours are arbitrary."""
    settings = make_settings(0, profile="smoke", size=16, steps=3, base_width=2, images=12)
    return runs.train(settings, tmp_path_factory.mktemp("results"))


@pytest.fixture
def orange(monkeypatch):
    """Let every network see the same strong colours."""
    chroma = np.stack([np.full((4, 4), 0.56, np.float32), np.full((4, 4), 0.64, np.float32)])
    monkeypatch.setattr(runs.Run, "chroma_for", lambda self, image: chroma)


def lightness(image):
    return rgb2lab(np.asarray(image))[..., 0]


def photographs(folder):
    """One picture as many kinds of file, with what each of them can hold."""
    folder.mkdir(parents=True)
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "A camera", 6  # turned clockwise to be seen
    turned = MUTED.transpose(Image.Transpose.ROTATE_90)
    clear = MUTED.copy()
    clear.putalpha(Image.linear_gradient("L").resize(MUTED.size))
    files = {
        "a.jpg": (MUTED, "JPEG", dict(quality=98, exif=exif)),
        "b.png": (clear, "PNG", {}),
        "c.webp": (clear, "WEBP", dict(lossless=True)),
        "d.tif": (MUTED, "TIFF", dict(exif=exif)),
        "e.avif": (MUTED, "AVIF", dict(quality=98)),
        "f.heic": (MUTED, "HEIF", dict(quality=98)),
        "g.jp2": (MUTED, "JPEG2000", {}),
        "h.ppm": (MUTED, "PPM", {}),
        "i.png": (MUTED.convert("L"), "PNG", {}),
        "JPEG.PNG": (MUTED, "JPEG", dict(quality=98)),
    }
    for name, (image, kind, options) in files.items():
        image = turned if "exif" in options else image
        (folder / name).write_bytes(encode(image, kind, **options))
    return list(files)


@pytest.mark.fault(
    "pictures of ten kinds, coloured", "size, lightness, alpha, EXIF, kind, name kept"
)
def test_a_folder_is_coloured_as_it_was(run, orange, tmp_path):
    names = photographs(tmp_path / "in" / "deep")
    (tmp_path / "in" / "notes.txt").write_text("no picture")
    (tmp_path / "in" / "broken.jpg").write_bytes(b"")
    written, left_out = colouring.colourise_files(run, [tmp_path / "in"], tmp_path / "out")
    assert {path.relative_to(tmp_path / "out" / "deep").as_posix() for path in written} == set(
        names
    )
    (sentence,) = left_out
    assert "broken.jpg cannot be read as an image: empty file." in sentence
    for name in names:
        before = read_picture(tmp_path / "in" / "deep" / name)
        after = read_picture(tmp_path / "out" / "deep" / name)
        assert after.original.format == before.original.format and after.image.size == MUTED.size, (
            name
        )
        grey = MUTED.convert("L") if name == "i.png" else MUTED
        difference = lightness(after.image) - lightness(grey.convert("RGB"))
        # of 100; lossy kinds move single pixels
        assert np.abs(difference).mean() < 0.7, name
        if name in ("b.png", "c.webp"):
            np.testing.assert_array_equal(np.asarray(after.alpha), np.asarray(before.alpha))
        if name in ("a.jpg", "d.tif"):
            exif = after.original.getexif()
            assert exif[0x010F] == "A camera" and exif.get(0x0112, 1) == 1
    colours = rgb2lab(np.asarray(read_picture(tmp_path / "out" / "deep" / "b.png").image))[..., 1:]
    expected = [255 * 0.56 - 128, 255 * 0.64 - 128]
    assert np.abs(colours - expected).max() < 1.5  # of bytes


@pytest.mark.fault(
    "a picture in Adobe RGB, or in a grey space, coloured", "its space kept, or sRGB"
)
def test_the_colour_space_is_kept(run, orange, tmp_path):
    srgb, adobe = ImageCms.createProfile("sRGB"), ImageCms.ImageCmsProfile(io.BytesIO(ADOBE))
    wide = ImageCms.profileToProfile(MUTED, srgb, adobe)
    (tmp_path / "wide.png").write_bytes(encode(wide, "PNG", icc_profile=ADOBE))
    (tmp_path / "plain.png").write_bytes(encode(MUTED, "PNG"))
    (tmp_path / "cmyk.tif").write_bytes(encode(MUTED.convert("CMYK"), "TIFF", icc_profile=ADOBE))
    written, _ = colouring.colourise_files(run, [tmp_path], tmp_path / "out")
    found = {path.name: Image.open(io.BytesIO(path.read_bytes())) for path in written}
    assert found["wide.png"].info["icc_profile"] == ADOBE
    assert not any("icc_profile" in found[name].info for name in ("plain.png", "cmyk.tif"))
    assert found["cmyk.tif"].mode == "RGB"
    seen = [np.asarray(read_picture(path).image).astype(int) for path in sorted(written)[1:]]
    assert np.abs(seen[0] - seen[1]).max() <= 4
    assert np.abs(np.asarray(found["wide.png"], int) - seen[0]).max() > 4


@pytest.mark.fault("colourise over files that are there, over the pictures themselves", "refused")
def test_nothing_is_overwritten_unasked(run, tmp_path):
    folder = fill(tmp_path / "in", ["1.jpg", "2.jpg"])
    other = fill(tmp_path / "other", ["1.jpg"])
    before = {path: path.read_bytes() for path in folder.iterdir()}
    for force in (False, True):
        written, left_out = colouring.colourise_files(run, [folder], folder, force)
        assert not written and all("replaced itself" in sentence for sentence in left_out)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before

    out = folder / "coloured"  # within, and not taken for more pictures
    written, left_out = colouring.colourise_files(run, [folder, other], out)
    assert [path.name for path in written] == ["1.jpg", "2.jpg"]
    assert len(left_out) == 1 and "another picture was written as" in left_out[0]
    written, left_out = colouring.colourise_files(run, [folder], out)
    assert not written and len(left_out) == 2 and "--force" in left_out[0]
    (out / "1.jpg").write_bytes(b"old")
    written, left_out = colouring.colourise_files(run, [folder], out, force=True)
    assert len(written) == 2 and not left_out and (out / "1.jpg").read_bytes() != b"old"


def test_the_command_names_what_it_left_out(run, tmp_path, capsys):
    folder = fill(tmp_path / "in", ["1.jpg"])
    (folder / "raw.nef").write_bytes(b"")
    results = run.folder.parents[1]
    given = [
        "colourise",
        run.name,
        str(folder),
        str(tmp_path / "gone.jpg"),
        "--results",
        str(results),
    ]
    assert main([*given, "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr()
    assert "1 coloured" in said.out and "2 left out" in said.out
    assert "raw.nef cannot be read as an image: empty file." in said.err
    assert "gone.jpg cannot be read as an image: No such file or directory." in said.err
    assert main([*given, "--out", str(tmp_path / "out")]) == 2  # they are there
    assert "No picture was coloured" in capsys.readouterr().err
    assert main([*given[:2], "x", "--out", "y"]) == 2  # there is no such run
    assert "pool0-seed0 is not in" in capsys.readouterr().err
