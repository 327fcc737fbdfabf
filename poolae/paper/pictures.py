"""Pictures side by side: chroma planes painted in their own colours, and grids of them."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from functools import cache

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from poolae.data.colour import lab01_to_rgb
from poolae.paper import figures

CHROMA_RANGE = 50  # units of a or b shown at full colour


@cache
def chroma_colormap(channel: str) -> ListedColormap:
    """Return the colours of `channel` ("a" or "b") over +-50 units, at L = 70, other axis 0."""
    from skimage.color import lab2rgb

    lab = np.zeros((101, 3))
    lab[:, 0] = 70
    lab[:, {"a": 1, "b": 2}[channel]] = np.linspace(-CHROMA_RANGE, CHROMA_RANGE, 101)
    return ListedColormap(np.clip(lab2rgb(lab), 0, 1), name=f"lab_{channel}")


def chroma_picture(plane: np.ndarray, channel: str) -> np.ndarray:
    """Paint chroma planes (..., H, W) in [0, 1] in their own colours, as sRGB (..., H, W, 3)."""
    units = np.asarray(plane, np.float64) * 255 - 128
    return chroma_colormap(channel)((units / CHROMA_RANGE + 1) / 2)[..., :3]


def looks_of(lightness: np.ndarray, chroma: np.ndarray) -> list[np.ndarray]:
    """Paint a picture (1, H, W), (2, H, W) in colour, its a and its b, as sRGB (H, W, 3) each."""
    painted = [chroma_picture(plane, c) for plane, c in zip(chroma, "ab", strict=True)]
    return [lab01_to_rgb(lightness, chroma), *painted]


def winner_picture(index: np.ndarray, arms: Sequence[str]) -> np.ndarray:
    """Paint which arm is nearest to the truth at each pixel (..., H, W), as sRGB (..., H, W, 3)."""
    colours = np.array([mpl.colors.to_rgb(figures.arm_colour(arm)) for arm in arms])
    return colours[index]


def colours_grid(
    lightness: np.ndarray, chromas: Mapping[str, np.ndarray], labels: Sequence[str]
) -> Figure:
    """Draw pictures in colour: a row each, with its lightness behind the first of `chromas`.

    Parameters
    ----------
    lightness : (N, 1, H, W) array in [0, 1]
    chromas
        Heading to chroma (N, 2, H, W) in [0, 1], such as the truth and predictions.
    labels
        Left of the rows.
    """
    columns = {}
    for name, chroma in chromas.items():
        columns[name] = lab01_to_rgb(lightness, chroma)
        columns.setdefault("lightness", lightness[:, 0])  # behind the first
    return picture_grid(list(zip(*columns.values(), strict=True)), list(columns), labels)


def chroma_grid(
    chromas: Mapping[str, np.ndarray], labels: Sequence[str], channels: str = "ab"
) -> Figure:
    """Draw the planes of `channels` of pictures in their own colours, as `colours_grid` does."""
    columns = {
        f"{c}: {name}" if len(channels) > 1 else name: chroma_picture(chroma[:, "ab".index(c)], c)
        for c in channels
        for name, chroma in chromas.items()
    }
    return picture_grid(list(zip(*columns.values(), strict=True)), list(columns), labels, side=0.85)


def picture_grid(
    rows: Sequence[Sequence[np.ndarray]],
    columns: Sequence[str] = (),
    labels: Sequence[str] = (),
    side: float = 1.15,
) -> Figure:
    """Draw pictures in a grid with headings above the columns and labels left of the rows.

    Parameters
    ----------
    rows
        Of square sRGB (S, S, 3) or grey (S, S) pictures in [0, 1]; None leaves a place empty.
    columns, labels
        Headings, each as many as there are columns and rows, or none.
    side
        Of a picture, inches.
    """
    across, down = max(map(len, rows)), len(rows)
    left, top = (1.1 if labels else 0.0), (0.25 if columns else 0.0)
    width, height = left + side * across, top + side * down
    figure = figures.new_figure(width, height, lambda: _narrow_grid(rows, columns, labels, side))
    figure.set_layout_engine("none")
    places = [
        (left + (j + 0.02) * side, height - top - (i + 0.98) * side, picture)
        for i, row in enumerate(rows)
        for j, picture in enumerate(row)
        if picture is not None
    ]
    ax = _place(figure, places, 0.96 * side)
    style = dict(textcoords="offset points", fontsize=8)
    for j, heading in enumerate(columns):
        at = left + (j + 0.5) * side, height - top - 0.02 * side
        ax.annotate(heading, at, (0, 3), ha="center", weight="bold", **style)
    for i, label in enumerate(labels):
        at = left + 0.02 * side, height - top - (i + 0.5) * side
        ax.annotate(label, at, (-6, 0), ha="right", va="center", **style)
    return figure


def _narrow_grid(rows, columns, labels, side: float) -> Figure:
    """Draw the pictures of `picture_grid` as wide as a telephone: its rows become a few lines each.

    Above each picture stands its heading, above each row its label.
    """
    across = max(map(len, rows))
    lines = -(-across // 4)
    each = -(-across // lines)
    side = min(figures.TELEPHONE / each, side)
    wrapped = [textwrap.fill(heading, round(15 * side)) for heading in columns]
    over = 0.05 + 0.13 * max((heading.count("\n") + 1 for heading in wrapped), default=0)
    label = 0.28 if labels else 0.05
    block = label + lines * (side + over)
    height = block * len(rows)
    figure = figures.new_figure(each * side, height)
    figure.set_layout_engine("none")
    places, texts = [], []
    for i, row in enumerate(rows):
        top = height - i * block
        if labels:
            texts.append((0.02 * side, top - 0.2, labels[i].replace("\n", " "), "left", "bold"))
        for j, picture in enumerate(row):
            line, at = divmod(j, each)
            y = top - label - (line + 1) * (side + over)
            if picture is not None:
                places.append(((at + 0.02) * side, y + 0.02 * side, picture))
            if columns and (picture is not None or not i):
                texts.append(((at + 0.5) * side, y + side + 0.02, wrapped[j], "center", "normal"))
    ax = _place(figure, places, 0.96 * side)
    for x, y, text, where, weight in texts:
        ax.text(x, y, text, ha=where, va="bottom", weight=weight, fontsize=7.5)
    return figure


def _place(figure: Figure, places: Sequence[tuple[float, float, np.ndarray]], side: float) -> Axes:
    """Draw square pictures whose lower left corners are (x, y), all in inches.

    They share one axes, whose units are inches too. With an axes for each, sixty take 1.5 s, with
    one 0.3 s.
    """
    across, up, pictures = zip(*places, strict=True)
    x, y = min(across), min(up)
    wide, high = max(across) + side - x, max(up) + side - y
    width, height = figure.get_size_inches()
    box = (x / width, y / height, wide / width, high / height)
    ax = figure.add_axes(box, frameon=False, xticks=[], yticks=[])
    for x_, y_, picture in places:
        extent = (x_, x_ + side, y_, y_ + side)
        ax.imshow(np.clip(picture, 0, 1), "gray", vmin=0, vmax=1, extent=extent, aspect="auto")
    ax.set(xlim=(x, x + wide), ylim=(y, y + high))
    return ax


def progress_figure(
    losses: np.ndarray,
    steps: Sequence[int],
    lightness: np.ndarray,
    truth: np.ndarray,
    snapshots: Sequence[np.ndarray],
    colour: str,
) -> Figure:
    """Draw the loss over steps with a strip of predictions along it: in colour, a and b.

    Parameters
    ----------
    losses : (steps,) array
        Loss of every step.
    steps
        After which a snapshot was taken.
    lightness, truth : (1, H, W) and (2, H, W) arrays in [0, 1]
        The shown image.
    snapshots
        For each of `steps`, its chroma as predicted then.
    colour
        Of the curve.
    """
    every = -(-len(steps) // 5)  # on a telephone
    few = slice((len(steps) - 1) % every, None, every)
    given = losses, steps[few], lightness, truth, snapshots[few], colour
    side = figures.TELEPHONE / (len(steps[few]) + 1.9)
    figure = figures.new_figure(0, 0, lambda: _draw_progress(figures.new_figure(), side, *given))
    return _draw_progress(figure, 0.46, losses, steps, lightness, truth, snapshots, colour)


def _draw_progress(
    figure: Figure, side: float, losses, steps, lightness, truth, snapshots, colour
) -> Figure:
    n = len(steps)
    width, height = side * (n + 1.9), 5 * side + 2.6
    figure.set_size_inches(width, height)
    figure.set_layout_engine("none")
    left = 1.55 * side
    low, high = 3 * side + 0.8, height - 3 * side - 1
    ax = figure.add_axes((left / width, low / height, n * side / width, high / height))
    figures.loss_curve(ax, losses, colour).legend(loc="upper right", ncols=2)
    half = len(losses) / n / 2
    ax.set_xlim(half, len(losses) + half)
    for step in steps:
        ax.axvline(step, color="0.8", linewidth=0.6, zorder=0)

    xs = [left - 1.02 * side, *(left + side * (k + 0.03) for k in range(n))]
    places = [
        (x, (2 - row) * side + 0.1, picture)
        for x, chroma in zip(xs, (truth, *snapshots), strict=True)
        for row, picture in enumerate(looks_of(lightness, chroma))
    ]
    strip = _place(figure, places, 0.94 * side)
    style = dict(va="center", fontsize=8, textcoords="offset points", annotation_clip=False)
    for row, label in enumerate(("colour", "a", "b")):
        strip.annotate(label, (xs[0], (2 - row + 0.47) * side + 0.1), (-4, 0), ha="right", **style)
    strip.annotate("truth", (left - 0.55 * side, 3 * side + 0.17), (0, 0), ha="center", **style)
    return figure
