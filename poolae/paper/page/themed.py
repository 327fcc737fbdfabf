"""Drawings in the colours of the page around them, on light and on dark."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import quote, unquote

from poolae.paper.show import UNQUOTED

DRAWING = "data:image/svg+xml,"
# Of the page, as in template/style.css: ink, which is black in a drawing, and paper, its white.
LIGHT = ((0x1D, 0x1E, 0x20), (0xFF, 0xFF, 0xFF))
DARK = ((0xE3, 0xE1, 0xDC), (0x15, 0x17, 0x1A))
DEEP = 0.17  # luminance below which a colour is hard to tell from dark paper


def themed(uri: str) -> str:
    """Return a drawing, an SVG as text in a data URI, in colours that turn with the page's.

    Greys lie as far between the page's ink and its paper as between black and white; on dark,
    deep colours become lighter.
    """
    svg = unquote(uri.removeprefix(DRAWING))
    found = sorted({"#000000", *re.findall(r"#[0-9a-f]{6}\b", svg)})
    light, dark = (
        "".join(f"--c{colour[1:]}:{turned(colour, *scheme)};" for colour in found)
        for scheme in (LIGHT, DARK)
    )
    svg = re.sub(r"#([0-9a-f]{6})\b", r"var(--c\1)", svg)
    style = (
        f"<style>:root{{{light}fill:var(--c000000)}}"
        f"@media (prefers-color-scheme:dark){{:root{{{dark}}}}}</style>"
    )
    unquoted = UNQUOTED if " " in uri else UNQUOTED.replace(" ", "")
    return DRAWING + quote(svg.replace(">", f">{style}", 1), safe=unquoted)


def turned(colour: str, ink: Sequence[int], paper: Sequence[int]) -> str:
    """Return what "#rrggbb", drawn in black on white, is in a page of this ink and paper."""
    channels = bytes.fromhex(colour[1:])
    if len(set(channels)) == 1:
        return mixed(ink, paper, channels[0] / 255)
    deep = luminance(channels) < DEEP
    return mixed(channels, ink, 0.45) if deep and paper[0] < ink[0] else colour


def mixed(one: Sequence[int], other: Sequence[int], share: float) -> str:
    """Return a colour between two of sRGB, nearer to the other the more it has a share."""
    return "#" + bytes(round(a + share * (b - a)) for a, b in zip(one, other, strict=True)).hex()


def luminance(channels: Sequence[int]) -> float:
    """Return the relative luminance of sRGB, in [0, 1], by WCAG 2.2."""
    linear = [
        c / 12.92 if (c := value / 255) <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
        for value in channels
    ]
    return float(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
