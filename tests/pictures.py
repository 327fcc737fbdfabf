"""Pictures, folders of them and the way the tests open them."""

import io

import numpy as np
import pillow_heif
from PIL import Image

from poolae.data import images as opening

SIZE = 32
pillow_heif.register_heif_opener()


def picture(seed=0, size=(80, 60)):
    """A picture with smooth structure of its own, so that no two are near-duplicates."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def encode(image, kind="JPEG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


PHOTOGRAPH = encode(picture(100, (400, 300)), quality=90)


def _adobe_rgb():
    """A colour profile of Adobe RGB's primaries, under D50 as profiles are, and gamma 2.2."""

    def fixed(*values):
        return b"".join(round(65536 * value).to_bytes(4, signed=True) for value in values)

    name = b"Poor man's Adobe RGB\0"
    tags = {
        b"desc": b"desc\0\0\0\0" + len(name).to_bytes(4) + name + bytes(78),
        b"wtpt": b"XYZ \0\0\0\0" + fixed(0.96420, 1, 0.82491),
        b"rXYZ": b"XYZ \0\0\0\0" + fixed(0.60974, 0.31111, 0.01947),
        b"gXYZ": b"XYZ \0\0\0\0" + fixed(0.20528, 0.62567, 0.06087),
        b"bXYZ": b"XYZ \0\0\0\0" + fixed(0.14919, 0.06322, 0.74457),
        **{k + b"TRC": b"curv\0\0\0\0\0\0\0\1\x02\x33\0\0" for k in (b"r", b"g", b"b")},
    }
    table, body, start = len(tags).to_bytes(4), b"", 128 + 4 + 12 * len(tags)
    for key, tag in tags.items():
        table += key + (start + len(body)).to_bytes(4) + len(tag).to_bytes(4)
        body += tag + bytes(-len(tag) % 4)
    head = (start + len(body)).to_bytes(4) + bytes(4) + b"\x02\x10\0\0mntrRGB XYZ " + bytes(12)
    head += b"acsp" + bytes(28) + fixed(0.96420, 1, 0.82491)
    return head.ljust(128, b"\0") + table + body


ADOBE = _adobe_rgb()


def fill(folder, names):
    folder.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(names):
        (folder / name).write_bytes(encode(picture(seed), quality=90))
    return folder


def open_images(source, cache, **options):
    return opening.open_images(source, SIZE, workers=1, cache=cache, **options)


def no_decoding(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("decoded although it is in the cache")

    monkeypatch.setattr(opening, "_produce", refuse)
