"""Names of curves stand beside their ends, apart enough to be read."""

import numpy as np

from poolae.paper import figures


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
