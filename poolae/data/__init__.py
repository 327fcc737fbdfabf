"""The study's images: found, drawn or decoded, as planes of Lab, kept, grouped and split."""

from poolae.data.colour import lab01_to_rgb, recolour, rgb_to_lab01
from poolae.data.decode import read_picture
from poolae.data.images import (
    Images,
    Part,
    Split,
    load,
    load_for,
    near_duplicates,
    open_images,
    shuffle_tiles,
    split,
    spread,
)

__all__ = [
    "Images",
    "Part",
    "Split",
    "lab01_to_rgb",
    "load",
    "load_for",
    "near_duplicates",
    "open_images",
    "read_picture",
    "recolour",
    "rgb_to_lab01",
    "shuffle_tiles",
    "split",
    "spread",
]
