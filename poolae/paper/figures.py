"""Figures: functions that take axes (or a figure), draw what they are given, and return it.

They compute no result. One colour per arm everywhere, from the palette of Okabe
and Ito, which readers with any colour vision can tell apart; baselines are grey.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Polygon
from matplotlib.ticker import EngFormatter, LogLocator, PercentFormatter

ARM_COLOURS = {
    "pool0": "#0072B2",
    "pool1": "#E69F00",
    "pool2": "#009E73",
    "pool3": "#D55E00",
    # The matched family: the same hues, darker; its controls: others.
    "matched0": "#00456B",
    "matched1": "#8A5F00",
    "matched2": "#005F45",
    "matched3": "#803900",
    "dilated": "#56B4E9",
    "narrow": "#CC79A7",
    "lossless": "#6A3D9A",
    "lossless-ungrouped": "#B39BC8",
    "area2": "#3C8DC0",
    "area4": "#2B5F80",
    "skip": "#999933",
}
BASELINE_STYLES = {
    "grey": dict(color="0.65", linestyle=(0, (1, 1.5))),
    "training median": dict(color="0.5", linestyle=(0, (4, 2))),
    "lightness table": dict(color="0.15", linestyle=(0, (6, 1.5, 1, 1.5))),
    "position table": dict(color="0.4", linestyle=(0, (3, 1, 1, 1, 1, 1))),
    "patch boosting": dict(color="0.0", linestyle=(0, (1, 0.6))),
}
STAGE_COLOURS = {
    "conv": "#CFE8DC",
    "pool": "#F3E6A1",
    "unshuffle": "#F3E6A1",
    "up": "#F6D2AE",
    "bilinear": "#F6D2AE",
    "shuffle": "#F6D2AE",
    "deconv": "#CFD6EE",
    "output": "#EFC4CF",
}
STAGE_NAMES = {
    "conv": "convolution, ReLU, BatchNorm",
    "pool": "pooling",
    "unshuffle": "space to depth",
    "up": "nearest upsampling",
    "bilinear": "bilinear upsampling",
    "shuffle": "depth to space",
    "deconv": "transposed convolution, ReLU, BatchNorm",
    "output": "output convolution",
}
STYLE = {
    "figure.dpi": 100,
    "figure.facecolor": "white",
    "figure.constrained_layout.use": True,
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "0.4",
    "axes.grid": True,
    "grid.color": "0.92",
    "axes.axisbelow": True,
    "lines.linewidth": 1.6,
    "legend.frameon": False,
    "image.interpolation": "nearest",
    "image.composite_image": False,  # those of one axes stay as sharp as they are
    "svg.hashsalt": "poolae",
    "svg.fonttype": "path",
}
CHROMA_RANGE = 50  # units of a or b shown at full colour


def arm_colour(arm: str) -> str:
    """Return the colour of an arm; a variant such as "pool3-max2" is drawn in grey."""
    return ARM_COLOURS.get(re.sub("-(published|cleared)$", "", arm), "0.35")


def new_figure(width: float = 7.2, height: float = 4.0) -> Figure:
    """Return an empty figure of this size in inches, and turn on the paper's style."""
    mpl.rcParams.update(STYLE)
    return Figure(figsize=(width, height), layout="constrained")


@cache
def chroma_colormap(channel: str) -> ListedColormap:
    """Return the colours of `channel` ("a" or "b") over +-50 units, at L = 70, other axis 0."""
    from skimage.color import lab2rgb

    lab = np.zeros((101, 3))
    lab[:, 0] = 70
    lab[:, {"a": 1, "b": 2}[channel]] = np.linspace(-CHROMA_RANGE, CHROMA_RANGE, 101)
    return ListedColormap(np.clip(lab2rgb(lab), 0, 1), name=f"lab_{channel}")


def chroma_picture(plane: np.ndarray, channel: str) -> np.ndarray:
    """Paint one chroma plane (H, W) in [0, 1] in its own colours, as sRGB (H, W, 3)."""
    units = np.asarray(plane, np.float64) * 255 - 128
    return chroma_colormap(channel)((units / CHROMA_RANGE + 1) / 2)[..., :3]


def accuracy_figure(bounds, arms, baselines, published=None, reference="lightness table") -> Figure:
    """Draw `accuracy_curves` above what the arms gain over `reference`, seed by seed."""
    figure = new_figure(7.2, 5.8)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    accuracy_curves(above, bounds, arms, baselines, published)
    gains = {name: curves - baselines[reference] for name, curves in arms.items()}
    accuracy_gains(below, bounds, gains, reference)
    below.set_xlabel(above.get_xlabel())
    above.set_xlabel("")
    return figure


def accuracy_curves(
    ax: Axes,
    bounds: np.ndarray,
    arms: Mapping[str, np.ndarray],
    baselines: Mapping[str, np.ndarray],
    published: Mapping[str, tuple[np.ndarray, np.ndarray]] | None = None,
) -> Axes:
    """Draw accuracy against error bound.

    Parameters
    ----------
    ax
        To draw on.
    bounds : (K,) array
    arms, baselines
        Name to (seeds, K) accuracies; the line is their mean, the band their range.
    published
        Name of an arm to its published (bounds, accuracies), drawn dotted.
    """
    for name, curves in arms.items():
        colour = arm_colour(name)
        ax.fill_between(bounds, curves.min(0), curves.max(0), color=colour, alpha=0.2, linewidth=0)
        ax.plot(bounds, curves.mean(0), color=colour, label=name)
    for name, curves in baselines.items():
        ax.plot(bounds, curves.mean(0), label=name, **BASELINE_STYLES[name])
    for name, (at, accuracy) in (published or {}).items():
        ax.plot(
            at,
            accuracy,
            color=arm_colour(name),
            linestyle="none",
            marker=".",
            markersize=4,
            label=f"{name}, published",
        )
    ax.set(
        xlabel="bound on the absolute error of a and b (share of the range of 255 units)",
        ylabel="values within the bound",
        xlim=(bounds[0], bounds[-1]),
        ylim=(0, 1),
    )
    ax.yaxis.set_major_formatter(PercentFormatter(1, 0))
    ax.legend(loc="lower right", ncols=2 if published else 1)
    return ax


def accuracy_gains(
    ax: Axes, bounds: np.ndarray, arms: Mapping[str, np.ndarray], reference: str
) -> Axes:
    """Draw what each arm gains over the baseline `reference`, in percentage points.

    Parameters
    ----------
    ax
        To draw on.
    bounds : (K,) array
    arms
        Name to (seeds, K) differences of accuracy; the line is their mean, the band their range.
    reference
        Name of the baseline that was subtracted.
    """
    ax.axhline(0, label=reference, **BASELINE_STYLES[reference])
    for name, gains in arms.items():
        points, colour = 100 * gains, arm_colour(name)
        ax.fill_between(bounds, points.min(0), points.max(0), color=colour, alpha=0.2, linewidth=0)
        ax.plot(bounds, points.mean(0), color=colour)
    ax.set(ylabel=f"minus {reference}\n(percentage points)", xlim=(bounds[0], bounds[-1]))
    return ax


def seed_scores(ax: Axes, frame, value: str, baselines: Mapping[str, float], label: str) -> Axes:
    """Draw one dot per run, a bar at each arm's mean, and a line per baseline.

    Parameters
    ----------
    ax
        To draw on.
    frame : DataFrame
        One row per run, with columns `arm` and `value`.
    value
        Column to draw.
    baselines
        Name to its mean value.
    label
        Of the value's axis.
    """
    import seaborn as sns

    arms = list(dict.fromkeys(frame["arm"]))
    palette = {arm: arm_colour(arm) for arm in arms}
    sns.stripplot(
        frame, x=value, y="arm", hue="arm", order=arms, palette=palette, ax=ax, size=6,
        jitter=False, alpha=0.8, legend=False,
    )  # fmt: skip
    means = frame.groupby("arm")[value].mean()[arms]
    ax.plot(means, range(len(arms)), linestyle="none", marker="|", markersize=18, color="0.2")
    for name, at in baselines.items():
        ax.axvline(at, label=name, linewidth=1.4, **BASELINE_STYLES[name])
    ax.set(xlabel=label, ylabel="", ylim=(len(arms) - 0.5, -0.5))
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.28), ncols=len(baselines))
    return ax


def effects(ax: Axes, frame, label: str, margin: float | None = None) -> Axes:
    """Draw effects with their intervals, one below the other.

    Parameters
    ----------
    ax
        To draw on.
    frame : DataFrame
        Indexed by name, with columns `effect`, `low` and `high`.
    label
        Of the effect's axis.
    margin
        Effects within it count as none: drawn as a band around 0.
    """
    rows = np.arange(len(frame))
    if margin:
        ax.axvspan(-margin, margin, color="0.92", linewidth=0, label="counts as no effect")
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.3 * 2.6 / (0.3 * len(frame) + 0.9)))
    ax.axvline(0, color="0.4", linewidth=0.8)
    away = (frame["low"] > 0) | (frame["high"] < 0)
    for chosen, face in ((away, "0.1"), (~away, "white")):
        ax.errorbar(
            frame["effect"][chosen],
            rows[chosen],
            xerr=[
                (frame["effect"] - frame["low"])[chosen],
                (frame["high"] - frame["effect"])[chosen],
            ],
            fmt="o",
            color="0.1",
            markerfacecolor=face,
            markersize=5,
            linewidth=1.2,
        )
    ax.set_yticks(rows, frame.index)
    ax.set(xlabel=label, ylim=(len(frame) - 0.5, -0.5))
    ax.grid(axis="y", visible=False)
    return ax


def detail_figure(panels: Sequence[tuple], floor: np.ndarray | None = None) -> Figure:
    """Draw gain and coherence per band, a column of two axes for each family of arms.

    Parameters
    ----------
    panels
        (title, gain, coherence) of each family: data frames with a row per arm and a column
        per band.
    floor : (bands,) array, optional
        Coherence of lightness itself with the truth.
    """
    figure = new_figure(3.6 * len(panels), 6.4)
    axes = figure.subplots(2, len(panels), sharex=True, sharey="row", squeeze=False)
    for column, (title, gain, coherence) in zip(axes.T, panels, strict=True):
        for ax, frame in zip(column, (gain, coherence), strict=True):
            for arm, values in frame.iterrows():
                ax.plot(frame.columns, values, "o-", markersize=3, color=arm_colour(arm), label=arm)
        column[0].axhline(1, color="0.4", linewidth=0.8)
        if floor is not None:
            column[1].plot(
                gain.columns, floor, color="0.4", linestyle=":", label="lightness itself"
            )
        column[0].set_title(title)
        column[1].set(xlabel="cycles per image")
        column[1].legend(loc="upper center", bbox_to_anchor=(0.5, -0.28), ncols=3, fontsize=7.5)
    axes[0, 0].set(ylabel="gain (1: as the truth)", ylim=(0, None))
    axes[1, 0].set(ylabel="coherence (1: right, 0: chance)", ylim=(0, None))
    return figure


def bandwidth_figure(gains: Mapping[str, Mapping[str, np.ndarray]], bands: Sequence[str]) -> Figure:
    """Draw the gain per band, one axes for each bandwidth that the drawings were given.

    Parameters
    ----------
    gains
        Title of an axes to arm to (bands,) gains; NaN where the drawings hold nothing to gain.
    bands
        Names of the bands.
    """
    figure = new_figure(2.4 * len(gains), 2.9)
    axes = figure.subplots(1, len(gains), sharey=True, squeeze=False)[0]
    for ax, (title, arms) in zip(axes, gains.items(), strict=True):
        for arm, values in arms.items():
            ax.plot(bands, values, "o-", markersize=3, color=arm_colour(arm), label=arm)
        ax.axhline(1, color="0.4", linewidth=0.8)
        ax.set(title=title, xlabel="cycles per image", ylim=(0, None))
    axes[0].set_ylabel("gain")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def surface(ax: Axes, frame) -> Axes:
    """Draw error over steps, a line per arm, from the rows of `comparisons.surface` of one `part`.

    A ring marks weights that were chosen by a validation part.
    """
    for (arm, early), rows in frame.groupby(["arm", "early"], sort=False):
        rows, face = rows.sort_values("steps"), "white" if early else arm_colour(arm)
        look = dict(color=arm_colour(arm), markerfacecolor=face, label=None if early else arm)
        ax.plot(rows["steps"], rows["error"], "o:" if early else "o-", **look)
    ax.set(title=f"{frame['images'].max():.0f} training images", xlabel="steps", xscale="log")
    return ax


def oscillations(curves: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Figure:
    """Draw loss curves, each (losses, smoothed), the smoothed ones heavier."""
    figure = new_figure(7.2, 3.0)
    ax = figure.subplots()
    for (name, (losses, smooth)), colour in zip(
        curves.items(), ("#D55E00", "#0072B2"), strict=False
    ):
        thin = slice(None, None, max(1, len(losses) // 2000))  # what a figure can show
        steps = np.arange(1, len(losses) + 1)[thin]
        ax.plot(steps, losses[thin], color=colour, linewidth=0.4, alpha=0.3)
        ax.plot(steps, smooth[thin], color=colour, label=name)
    _of_loss(ax)
    ax.legend(loc="upper right")
    return figure


def _of_loss(ax: Axes) -> None:
    ax.set(xlabel="step", ylabel="L1 loss", yscale="log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
    ax.yaxis.set_major_formatter("{x:.3g}")
    ax.yaxis.set_minor_formatter("")
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))


def winner_picture(index: np.ndarray, arms: Sequence[str]) -> np.ndarray:
    """Paint which arm is nearest to the truth at each pixel (H, W), as sRGB (H, W, 3)."""
    colours = np.array([mpl.colors.to_rgb(arm_colour(arm)) for arm in arms])
    return colours[index]


def histograms(ax: Axes, centres: np.ndarray, densities: Mapping[str, np.ndarray]) -> Axes:
    """Draw densities over a chroma axis in Lab units; the first is filled, the others lines."""
    for k, (name, density) in enumerate(densities.items()):
        if k == 0:
            ax.fill_between(centres, density, color="#0072B2", alpha=0.35, linewidth=0, label=name)
        else:
            ax.plot(centres, density, color="0.15", linewidth=1.2, label=name)
    ax.set(ylim=(0, None), ylabel="density")
    return ax


def spectra(ax: Axes, bands: Sequence[str], powers: Mapping[str, np.ndarray]) -> Axes:
    """Draw the power in each radial band, in squared Lab units, on a logarithmic axis."""
    for k, (name, power) in enumerate(powers.items()):
        style = dict(color="#0072B2", marker="o") if k == 0 else dict(color="0.15", marker="s")
        ax.plot(range(len(bands)), power, label=name, markersize=4, **style)
    ax.set(yscale="log", xlabel="cycles per image", ylabel="power (squared units)")
    ax.set_xticks(range(len(bands)), bands)
    return ax


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
    figure = new_figure(width, height)
    figure.set_layout_engine("none")
    places = [
        (left + (j + 0.02) * side, height - top - (i + 0.98) * side, picture)
        for i, row in enumerate(rows)
        for j, picture in enumerate(row)
        if picture is not None
    ]
    ax = _place(figure, places, 0.96 * side)
    for j, heading in enumerate(columns):
        at = left + (j + 0.5) * side, height - top - 0.02 * side
        ax.annotate(
            heading, at, (0, 3), textcoords="offset points", ha="center", fontsize=8, weight="bold"
        )
    for i, label in enumerate(labels):
        at = left + 0.02 * side, height - top - (i + 0.5) * side
        ax.annotate(
            label, at, (-6, 0), textcoords="offset points", ha="right", va="center", fontsize=8
        )
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


def progress(
    losses: np.ndarray,
    steps: Sequence[int],
    truth: Sequence[np.ndarray],
    snapshots: Sequence[Sequence[np.ndarray]],
    colour: str,
) -> Figure:
    """Draw the loss over steps with a strip of predictions along it.

    Parameters
    ----------
    losses : (steps,) array
        Loss of every step.
    steps
        After which a snapshot was taken.
    truth
        Three pictures of the shown image: in colour, a, b.
    snapshots
        For each of `steps`, the same three as predicted then.
    colour
        Of the curve.
    """
    n, side = len(steps), 0.46
    width, height = side * (n + 1.9), 5 * side + 2.6
    figure = new_figure(width, height)
    figure.set_layout_engine("none")
    left = 1.55 * side
    total = len(losses)
    low, high = 3 * side + 0.8, height - 3 * side - 1
    ax = figure.add_axes((left / width, low / height, n * side / width, high / height))
    at = np.arange(1, total + 1)
    ax.plot(at, losses, color=colour, linewidth=0.6, alpha=0.45, label="each step")
    window = max(1, total // 50)
    smooth = np.convolve(losses, np.ones(window) / window, "valid")
    ax.plot(at[window - 1 :], smooth, color=colour, label="running mean")
    gap = total / n
    ax.set_xlim(gap / 2, total + gap / 2)
    _of_loss(ax)
    ax.legend(loc="upper right", ncols=2)

    xs = [left - 1.02 * side, *(left + side * (k + 0.03) for k in range(n))]
    places = [
        (x, (2 - row) * side + 0.1, picture)
        for x, pictures in zip(xs, (truth, *snapshots), strict=True)
        for row, picture in enumerate(pictures)
    ]
    strip = _place(figure, places, 0.94 * side)
    for row, label in enumerate(("colour", "a", "b")):
        at = xs[0], (2 - row + 0.47) * side + 0.1
        strip.annotate(
            label, at, (-4, 0), textcoords="offset points", ha="right", va="center", fontsize=8
        )
    figure.text(
        (left - 0.55 * side) / width, (3 * side + 0.13) / height, "truth", ha="center", fontsize=8
    )
    for step in steps:
        ax.axvline(step, color="0.8", linewidth=0.6, zorder=0)
    return figure


def architecture(stages: Sequence, size: int, ax: Axes | None = None) -> Axes:
    """Draw a network as a row of boxes, from the record that its building left.

    A box is what a stage yields: as high and deep as the map's side, as wide as
    the square root of its channels.

    Parameters
    ----------
    stages
        `Autoencoder.stages`.
    size
        Side of the input, pixels.
    ax
        To draw on; a new figure where there is none.
    """
    if ax is None:
        ax = new_figure(10, 2.1).add_subplot()
    x, seen = 0.0, {}
    for stage in stages:
        if stage.kind in ("keep", "add"):  # they yield what they are given
            continue
        side = size / stage.reduction
        wide, lean = 1.1 * np.sqrt(stage.out_channels), 0.32 * side
        low = (size - side) / 2
        face = STAGE_COLOURS[stage.kind]
        corners = np.array([(0, 0), (wide, 0), (wide, side), (0, side)]) + (x, low)
        top = np.array([(0, side), (wide, side), (wide + lean, side + lean), (lean, side + lean)])
        flank = np.array([(wide, 0), (wide + lean, lean), (wide + lean, side + lean), (wide, side)])
        for shape, shade in ((corners, 1.0), (top + (x, low), 0.94), (flank + (x, low), 0.86)):
            patch = Polygon(
                shape,
                facecolor=np.array(mpl.colors.to_rgb(face)) * shade,
                edgecolor="0.25",
                linewidth=0.6,
                label=None if stage.kind in seen else STAGE_NAMES[stage.kind],
            )
            ax.add_patch(patch)
            seen.setdefault(stage.kind, patch)
        ax.text(x + wide / 2, low - 4, stage.out_channels, ha="center", va="top", fontsize=7)
        x += wide + max(0.5 * lean, 3) + 6
    ax.set(xlim=(-3, x + 0.3 * size), ylim=(-14, 1.36 * size), aspect="equal")
    ax.set_axis_off()
    ax.legend(
        loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=3, fontsize=7.5, handlelength=1.2
    )
    return ax


def depths_figure(
    bounds: np.ndarray,
    arms: Mapping[str, np.ndarray],
    baselines: Mapping[str, np.ndarray],
    published: Mapping[str, tuple[np.ndarray, np.ndarray]],
) -> Figure:
    """Draw `accuracy_curves` of each arm beside its own published curve, axes for each."""
    figure = new_figure(7.2, 2.6 * -(-len(arms) // 2) + 0.4)
    grid = figure.subplots(-(-len(arms) // 2), 2, sharex=True, sharey=True, squeeze=False)
    for ax in grid.flat[len(arms) :]:
        ax.remove()
    for ax, (arm, curves) in zip(grid.flat, arms.items(), strict=False):
        own = {arm: published[arm]} if arm in published else None
        accuracy_curves(ax, bounds, {arm: curves}, baselines, own)
        figure.supxlabel(ax.get_xlabel(), fontsize="medium")
        ax.set(title=arm, xlabel="", ylabel="")
        ax.legend(loc="lower right")
    figure.supylabel("values within the bound", fontsize="medium")
    return figure
