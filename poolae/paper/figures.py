"""Figures: functions that take axes (or a figure), draw what they are given, and return it.

They compute no result. One colour per arm everywhere, from the palette of Okabe
and Ito, which readers with any colour vision can tell apart; baselines are grey.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Polygon
from matplotlib.ticker import EngFormatter, LogLocator, PercentFormatter

from poolae.paper.facts import band_names, histogram_edges

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
TELEPHONE = 3.9  # inches
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


def arm_colour(arm: str) -> str:
    """Return the colour of an arm; a variant such as "pool3-max2" is drawn in grey."""
    return ARM_COLOURS.get(re.sub("-(published|cleared)$", "", arm), "0.35")


def new_figure(
    width: float = 7.2, height: float = 4.0, narrow: Callable[[], Figure] | None = None
) -> Figure:
    """Return an empty figure of this size in inches, and turn on the paper's style.

    `narrow` draws it another way, `TELEPHONE` wide, where putting its axes below one another would
    not do.
    """
    mpl.rcdefaults()  # whatever a user's own matplotlibrc says
    mpl.rcParams.update(STYLE)
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.narrow = narrow
    return figure


def label_ends(ax: Axes) -> Axes:
    """Write the name of each line beside the axes, level with its end or as near as there is room.

    To be called when all is drawn.
    """
    from scipy.optimize import isotonic_regression

    lines = [line for line in ax.lines if not line.get_label().startswith("_")]
    ends = []
    for line in lines:
        x, y = line.get_data(orig=False)
        last = np.flatnonzero(np.isfinite(y))[-1]
        ends.append((min(x[last], ax.get_xlim()[1]), y[last]))
    heights = ax.transAxes.inverted().transform(ax.transData.transform(ends))[:, 1]
    inches = ax.figure.get_figheight() * ax.get_position().height
    order = np.argsort(heights, kind="stable")
    gaps = 1.2 * mpl.rcParams["font.size"] / 72 / inches * np.arange(len(lines))
    placed = isotonic_regression(heights[order] - gaps).x + gaps
    placed += min(0, 1 - placed[-1])
    placed += max(0, -placed[0])
    for k, height in zip(order, placed, strict=True):
        leader = dict(arrowstyle="-", linewidth=0.8, shrinkA=0, shrinkB=0)
        ax.annotate(
            lines[k].get_label(),
            ends[k],
            (1.04, height),
            textcoords="axes fraction",
            verticalalignment="center",
            annotation_clip=False,
            arrowprops=leader | dict(color=lines[k].get_color(), relpos=(0, 0.5)),
        )
    return ax


def accuracy_figure(bounds, arms, baselines, published=None, reference="lightness table") -> Figure:
    """Draw `accuracy_curves` above what the arms gain over `reference`, in percentage points."""
    figure = new_figure(7.2, 5.8)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    accuracy_curves(above, bounds, arms, baselines, published)
    below.axhline(0, label=reference, **BASELINE_STYLES[reference])
    _ranges(below, bounds, {k: 100 * (v - baselines[reference]) for k, v in arms.items()})
    below.set(ylabel=f"minus {reference}\n(percentage points)", xlim=(bounds[0], bounds[-1]))
    below.set_xlabel(above.get_xlabel())
    above.set_xlabel("")
    label_ends(below)
    return figure


def _ranges(ax: Axes, x: np.ndarray, arms: Mapping[str, np.ndarray]) -> None:
    """Draw the mean of each arm's curves (seeds, K) as a line, and their range as a band."""
    for name, curves in arms.items():
        colour = arm_colour(name)
        ax.fill_between(x, curves.min(0), curves.max(0), color=colour, alpha=0.2, linewidth=0)
        ax.plot(x, curves.mean(0), color=colour, label=name)


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
    _ranges(ax, bounds, arms)
    for name, curves in baselines.items():
        ax.plot(bounds, curves.mean(0), label=name, **BASELINE_STYLES[name])
    dots = dict(linestyle="none", marker=".", markersize=4)
    for name, (at, accuracy) in (published or {}).items():
        ax.plot(at, accuracy, color=arm_colour(name), **dots)
    ax.set(
        xlabel="bound on the error of a and b, of the range",
        ylabel="values within the bound",
        xlim=(bounds[0], bounds[-1]),
        ylim=(0, 1),
    )
    ax.yaxis.set_major_formatter(PercentFormatter(1, 0))
    return label_ends(ax)


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
    figure.supylabel("values within the bound", fontsize="medium")
    return figure


def seeds_figure(frame: pd.DataFrame, value: str, baselines: Mapping, label: str) -> Figure:
    """Draw one dot per run, a bar at each arm's mean, and a line per baseline.

    Parameters
    ----------
    frame
        One row per run, with columns `arm` and `value`.
    value
        Column to draw.
    baselines
        Name to its mean value.
    label
        Of the value's axis.
    """
    import seaborn as sns

    figure = new_figure(7.2, 2.6)
    ax = figure.subplots()
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
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.28), ncols=2)
    return figure


FILLED = {"lower": "0.1", "higher": "0.1", "none": "0.7", "open": "white"}  # by reading


def effects_figure(effects: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw effects with their intervals, one below the other: axes for each metric.

    Parameters
    ----------
    effects
        From `Study.effects`: name of a metric to its contrasts, the same for each. The margin is a
        band around 0; a dot is full where the interval lies beyond, pale where it lies within.
    """
    count = len(next(iter(effects.values())))
    figure = new_figure(2.4 + 2.4 * len(effects), 0.3 * count + 1)
    axes = figure.subplots(1, len(effects), sharey=True, squeeze=False)[0]
    for ax, (label, frame) in zip(axes, effects.items(), strict=True):
        margin, unit = frame["margin"].iloc[0], frame["unit"].iloc[0]
        ax.axvspan(-margin, margin, color="0.92", linewidth=0)
        ax.axvline(0, color="0.4", linewidth=0.8)
        for row, (_, one) in enumerate(frame.iterrows()):
            ax.plot([one["low"], one["high"]], [row, row], color="0.1", linewidth=1.2)
            face = FILLED[one["reading"]]
            ax.plot(one["effect"], row, "o", color="0.1", markerfacecolor=face, markersize=5)
        ax.set_yticks(range(count), frame.index)
        ax.set(xlabel=f"{label}, {unit}", ylim=(count - 0.5, -0.5))
        ax.locator_params(axis="x", nbins=4)
        ax.grid(axis="y", visible=False)
    return figure


def detail_figure(panels: Sequence[tuple], floor: np.ndarray | None = None) -> Figure:
    """Draw coherence above gain per band, a column of two axes for each family of arms.

    Parameters
    ----------
    panels
        (title, gain, coherence, Nyquist) of each family: two data frames with a row per arm and a
        column per band; and arm to the highest band that its narrowest map can carry, which gets
        a ring.
    floor : (bands,) array, optional
        Coherence of lightness itself with the truth.
    """
    figure = new_figure(1 + 3.8 * len(panels), 6)
    axes = figure.subplots(2, len(panels), sharex=True, sharey="row", squeeze=False)
    for column, (title, gain, coherence, nyquist) in zip(axes.T, panels, strict=True):
        for ax, frame in zip(column, (coherence, gain), strict=True):
            for arm, values in frame.iterrows():
                colour = arm_colour(arm)
                ax.plot(frame.columns, values, "o-", markersize=3, color=colour, label=arm)
                band = nyquist.get(arm)
                if band in values:
                    ax.plot(band, values[band], "o", color=colour, fillstyle="none", markersize=9)
        column[1].axhline(1, color="0.4", linewidth=0.8)
        if floor is not None:
            style = dict(color="0.4", linestyle=":", label="lightness itself")
            column[0].plot(gain.columns, floor, **style)
        column[0].set_title(title)
        column[1].set(xlabel="cycles per image")
    axes[0, 0].set(ylabel="coherence (1: right, 0: chance)", ylim=(0, None))
    axes[1, 0].set(ylabel="gain (1: as the truth)", ylim=(0, None))
    for ax in axes.flat:
        label_ends(ax)
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
    figure = new_figure(2.8 * len(gains), 2.6)
    axes = figure.subplots(1, len(gains), sharey=True, squeeze=False)[0]
    for ax, (title, arms) in zip(axes, gains.items(), strict=True):
        for arm, values in arms.items():
            ax.plot(bands, values, "o-", markersize=3, color=arm_colour(arm), label=arm)
        ax.axhline(1, color="0.4", linewidth=0.8)
        ax.set(title=title, xlabel="cycles per image", ylim=(0, None))
    axes[0].set_ylabel("gain")
    for ax in axes:
        label_ends(ax)
    return figure


def loss_curve(ax: Axes, losses: np.ndarray, colour: str) -> Axes:
    """Draw the loss of every step, and heavier its running mean over a fiftieth of them."""
    window = max(1, len(losses) // 50)
    smooth = np.convolve(losses, np.ones(window) / window, "valid")
    steps = np.arange(1, len(losses) + 1)
    ax.plot(steps, losses, color=colour, linewidth=0.6, alpha=0.45, label="each step")
    ax.plot(steps[window - 1 :], smooth, color=colour, label="running mean")
    return of_loss(ax)


def of_loss(ax: Axes) -> Axes:
    """Give axes the scales and labels of losses over steps."""
    ax.set(xlabel="step", ylabel="L1 loss", yscale="log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
    ax.yaxis.set_major_formatter("{x:.3g}")
    ax.yaxis.set_minor_formatter("")
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))
    return ax


def surface_figure(frame: pd.DataFrame) -> Figure:
    """Draw error over steps, a line per arm, in a panel for each number of training images.

    A ring marks weights that were chosen by a validation part.

    Parameters
    ----------
    frame
        From `comparisons.surface`.
    """
    parts = [
        rows
        for _, rows in frame.sort_values("part", key=lambda part: part.replace(0, np.inf)).groupby(
            "part", sort=False
        )
    ]
    figure = new_figure(7.2, 3.2)
    figure.subplots(1, len(parts), sharey=True)
    for ax, part in zip(figure.axes, parts, strict=True):
        for (arm, early), rows in part.groupby(["arm", "early"], sort=False):
            rows, face = rows.sort_values("steps"), "white" if early else arm_colour(arm)
            look = dict(color=arm_colour(arm), markerfacecolor=face, label=None if early else arm)
            ax.plot(rows["steps"], rows["error"], "o:" if early else "o-", **look)
        ax.set(title=f"{part['images'].max():.0f} training images", xlabel="steps", xscale="log")
        ax.set_xticks(at := sorted(part["steps"].unique()), [f"{step:,}" for step in at])
        ax.minorticks_off()
    figure.axes[0].set_ylabel("mean absolute error")
    for ax in figure.axes:
        label_ends(ax)
    return figure


def oscillations(curves: Mapping[str, tuple]) -> Figure:
    """Draw loss curves, each (losses, smoothed, period), the smoothed ones heavier."""
    figure = new_figure(7.2, 3.0)
    ax = figure.subplots()
    for (name, (losses, smooth, _)), colour in zip(
        curves.items(), ("#D55E00", "#0072B2"), strict=False
    ):
        thin = slice(None, None, max(1, len(losses) // 2000))  # what a figure can show
        steps = np.arange(1, len(losses) + 1)[thin]
        ax.plot(steps, losses[thin], color=colour, linewidth=0.4, alpha=0.3)
        ax.plot(steps, smooth[thin], color=colour, label=name)
    label_ends(of_loss(ax))
    return figure


def colours_figure(described: Mapping[str, Mapping]) -> Figure:
    """Draw how often each a and b occurs, and the power of each at every scale.

    Parameters
    ----------
    described
        Name to `facts.describe_data`; the first is filled, the others lines.
    """
    figure = new_figure(7.2, 5.2)
    axes = figure.subplots(2, 2)
    edges, bands = histogram_edges(), band_names(next(iter(described.values()))["size"])
    centres = (edges[:-1] + edges[1:]) / 2
    for (often, power), channel in zip(axes, "ab", strict=True):
        for k, (name, one) in enumerate(described.items()):
            density = one["histogram"][channel]
            style = dict(color="#0072B2", marker="o") if k == 0 else dict(color="0.15", marker="s")
            if k == 0:
                shade = dict(color="#0072B2", alpha=0.35, linewidth=0)
                often.fill_between(centres, density, label=name, **shade)
            else:
                often.plot(centres, density, label=name, color="0.15", linewidth=1.2)
            power.plot(bands, one["spectrum"][channel], label=name, markersize=4, **style)
        often.set(xlim=(-70, 90), ylim=(0, None), xlabel=f"{channel}, Lab units", ylabel="density")
        often.set_title(f"{channel}: how often")
        power.set(yscale="log", xlabel="cycles per image", ylabel="power (squared units)")
        power.set_title(f"{channel}: power at each scale")
    axes[0, 0].legend()
    return figure


def architecture_figure(stages: Sequence, size: int) -> Figure:
    """Draw a network as a row of boxes, from the record that its building left.

    A box is what a stage yields: as high and deep as the map's side, as wide as
    the square root of its channels.

    Parameters
    ----------
    stages
        `Autoencoder.stages`.
    size
        Side of the input, pixels.
    """
    stages = [stage for stage in stages if stage.kind not in ("keep", "add")]  # they yield no map
    lines = 1 + len(stages) // 8  # on a telephone

    def narrow() -> Figure:
        return _draw_architecture(new_figure(TELEPHONE, 1 + lines), lines, stages, size)

    figure = new_figure(10, 2.1, narrow)
    return _draw_architecture(figure, 1, stages, size)


def _draw_architecture(figure: Figure, lines: int, stages: Sequence, size: int) -> Figure:
    """Draw the boxes in so many lines below one another, with one legend for all."""
    axes = figure.subplots(lines, 1, sharex=True, squeeze=False)[:, 0]
    wide, seen = 0.0, {}
    for ax, part in zip(axes, np.array_split(np.arange(len(stages)), lines), strict=True):
        x = 0.0
        for stage in (stages[k] for k in part):
            x = _draw_box(ax, x, stage, size, seen)
        wide = max(wide, x)
    for ax in axes:
        ax.set(xlim=(-3, wide + 0.3 * size), ylim=(-14, 1.36 * size), aspect="equal")
        ax.set_axis_off()
    axes[-1].legend(
        handles=seen.values(),
        loc="upper center",
        bbox_to_anchor=(0.5, 0.0),
        ncols=3 if figure.get_figwidth() > TELEPHONE else 2,
        fontsize=7.5,
        handlelength=1.2,
    )
    return figure


def _draw_box(ax: Axes, x: float, stage, size: int, seen: dict) -> float:
    """Draw what a stage yields from `x` on, note the first of its kind, return where it ends."""
    side = size / stage.reduction
    wide, lean = 1.1 * np.sqrt(stage.out_channels), 0.32 * side
    low = (size - side) / 2
    face = np.array(mpl.colors.to_rgb(STAGE_COLOURS[stage.kind]))
    front = np.array([(0, 0), (wide, 0), (wide, side), (0, side)])
    top = np.array([(0, side), (wide, side), (wide + lean, side + lean), (lean, side + lean)])
    flank = np.array([(wide, 0), (wide + lean, lean), (wide + lean, side + lean), (wide, side)])
    for shape, shade in ((front, 1.0), (top, 0.94), (flank, 0.86)):
        label = None if stage.kind in seen else STAGE_NAMES[stage.kind]
        style = dict(facecolor=face * shade, edgecolor="0.25", linewidth=0.6, label=label)
        patch = ax.add_patch(Polygon(shape + (x, low), **style))
        seen.setdefault(stage.kind, patch)
    ax.text(x + wide / 2, low - 4, stage.out_channels, ha="center", va="top", fontsize=7)
    return x + wide + max(0.5 * lean, 3) + 6
