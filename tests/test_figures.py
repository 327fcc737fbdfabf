"""Names of curves stand beside their ends; what is wide has a form for a telephone."""

import io

import matplotlib as mpl
import numpy as np
import pytest

from poolae.models import build
from poolae.paper import figures, pictures


def test_names_stand_in_the_order_of_the_ends_and_a_line_apart():
    ax = figures.new_figure(4, 3).subplots()
    ends = {"low": 0.1, "high": 0.9, "near": 0.101, "nearer": 0.1005}
    for name, end in ends.items():
        ax.plot([0, 1, 2], [0.5, end, np.nan], label=name)
    ax.axhline(0.5)  # of no name
    figures.label_ends(ax)
    placed = {text.get_text(): text.xyann[1] for text in ax.texts}
    assert sorted(placed, key=placed.get) == sorted(ends, key=ends.get)
    inches = 3 * ax.get_position().height
    heights = sorted(placed.values())
    assert min(np.diff(heights)) * inches * 72 >= 9 and 0 <= heights[0] and heights[-1] <= 1
    assert {text.xy for text in ax.texts} == {(1, end) for end in ends.values()}


def texts_of(figure):
    return [text for ax in figure.axes for text in ax.texts]


def drawing_of(figure):
    """What is drawn, as SVG whose texts are text: what is clipped away is not in it."""
    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg")
    return buffer.getvalue()


def grid(across, down):
    rows = np.full((down, across, 8, 8), 0.5)
    return pictures.picture_grid(
        rows, [f"arm {j}" for j in range(across)], ["best\n0.1", "worst\n0.9"][:down]
    )


def progress(count):
    planes = np.full((count, 2, 8, 8), 0.5, np.float32)
    steps = [20 * (k + 1) for k in range(count)]
    losses = np.linspace(0.2, 0.1, 20 * count)
    return pictures.progress_figure(losses, steps, planes[0, :1], planes[0], planes, "#0072B2")


@pytest.mark.parametrize(
    "figure",
    [grid(6, 2), grid(12, 1), grid(3, 2), progress(20), progress(3)]
    + [figures.architecture_figure(build(depth).stages, 64) for depth in (0, 3)],
)
def test_on_a_telephone_nothing_is_lost_and_nothing_overlaps(figure):
    narrow = figure.narrow()
    narrow.draw_without_rendering()
    assert narrow.get_figwidth() <= figures.TELEPHONE + 0.01
    shown, before = (
        sorted({text.get_text().replace("\n", " ") for text in texts_of(one)})
        for one in (narrow, figure)
    )
    assert shown == before and shown
    for one in (narrow, figure):
        drawn = drawing_of(one)
        assert all(line in drawn for text in texts_of(one) for line in text.get_text().split("\n"))
    boxes = [text.get_window_extent() for text in texts_of(narrow)]
    images = [image.get_window_extent() for ax in narrow.axes for image in ax.images]
    inside = narrow.bbox.padded(0.15 * narrow.dpi)  # what bbox_inches adds
    for k, box in enumerate(boxes):
        assert inside.contains(box.x0, box.y0) and inside.contains(box.x1, box.y1)
        assert not any(box.overlaps(other) for other in boxes[k + 1 :] + images)


def test_all_pictures_of_a_grid_are_on_a_telephone_below_their_headings():
    (ax,) = grid(6, 2).narrow().axes
    assert len(ax.images) == 12
    lefts, _, _, tops = np.round([image.get_extent() for image in ax.images], 6).T
    assert len(set(lefts)) == 3 and len(set(tops)) == 4
    headings = [text for text in ax.texts if text.get_text().startswith("arm")]
    assert (np.array([text.get_position()[1] for text in headings]) >= tops).all()


def test_of_many_snapshots_a_telephone_shows_some_that_are_as_far_apart():
    curve, strip = progress(20).narrow().axes
    lines = [line.get_xdata()[0] for line in curve.lines if len(line.get_xdata()) == 2]
    assert lines == [80, 160, 240, 320, 400]
    assert len(strip.images) == 3 * (1 + 5)
