"""Pictures, folders of them and the way the tests open them."""

import io

import numpy as np
from PIL import Image

from poolae.data import images as opening

SIZE = 32


def picture(seed=0, size=(80, 60)):
    """A picture with smooth structure of its own, so that no two are near-duplicates."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def encode(image, kind="JPEG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


PHOTOGRAPH = encode(picture(100, (400, 300)), quality=90)


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
