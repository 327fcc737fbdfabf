"""The study's images: found, drawn or decoded, as planes of Lab, kept, grouped and split."""

from poolae.data.colour import lab01_to_rgb, rgb_to_lab01
from poolae.data.images import (
    Data,
    Images,
    Part,
    load,
    load_for,
    near_duplicates,
    open_images,
    shuffle_tiles,
    split,
    spread,
)

__all__ = [
    "Data",
    "Images",
    "Part",
    "lab01_to_rgb",
    "load",
    "load_for",
    "near_duplicates",
    "open_images",
    "rgb_to_lab01",
    "shuffle_tiles",
    "split",
    "spread",
]
