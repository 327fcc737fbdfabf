"""Figures, tables and prose as a notebook displays them."""

import base64
import io
import re
import subprocess
import sys
from urllib.parse import unquote
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from matplotlib import pyplot as plt
from PIL import Image

from poolae.paper import show

matplotlib.use("Agg")


@pytest.fixture
def displayed(monkeypatch):
    bundles = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw: bundles.append(data))
    return bundles


@pytest.fixture
def figure():
    fig, ax = plt.subplots(figsize=(2, 1))
    ax.plot([0, 1], [0, 1])
    yield fig
    plt.close(fig)


def image_of(html: str) -> tuple[str, bytes]:
    source = BeautifulSoup(html, "html.parser").img["src"]
    kind, base64_, content = re.fullmatch(r"data:(image/[a-z+]+)(;base64)?,(.+)", source).groups()
    return kind, base64.b64decode(content) if base64_ else unquote(content).encode()


def noise_figure():
    fig, ax = plt.subplots(figsize=(2, 2))
    x, y = np.random.default_rng(0).random((2, 3000))
    ax.scatter(x, y, s=4)
    return fig


def test_show_displays_one_captioned_figure_and_closes_it(figure, displayed):
    show.show(figure, "line", "A line.", "A rising line")
    assert not plt.fignum_exists(figure.number)
    (bundle,) = displayed
    element = BeautifulSoup(bundle["text/html"], "html.parser").figure
    assert element["id"] == "fig-line"
    assert element.img["alt"] == "A rising line"
    assert element.figcaption.string == "A line."
    assert "A rising line" in bundle["text/plain"]


def test_text_cannot_become_markup(figure):
    hostile = '"><script>alert(1)</script>'
    element = BeautifulSoup(show.figure_html(figure, "x", hostile, hostile), "html.parser")
    assert element.script is None
    assert element.img["alt"] == hostile
    assert element.figcaption.string == hostile


def test_the_smaller_of_svg_and_png_is_kept(figure):
    kind, content = image_of(show.figure_html(figure, "x", "", "a line"))
    assert kind == "image/svg+xml"
    assert ElementTree.fromstring(content).tag == "{http://www.w3.org/2000/svg}svg"
    assert len(list(ElementTree.fromstring(content).iter("{http://www.w3.org/2000/svg}path"))) > 4
    noise = noise_figure()
    kind, content = image_of(show.figure_html(noise, "x", "", "noise"))
    plt.close(noise)
    assert kind == "image/png"
    assert Image.open(io.BytesIO(content)).format == "PNG"


def test_png_has_two_pixels_per_css_pixel():
    noise = noise_figure()
    html = show.figure_html(noise, "x", "", "noise")
    plt.close(noise)
    pixels = Image.open(io.BytesIO(image_of(html)[1])).size
    element = BeautifulSoup(html, "html.parser").img
    assert [int(element["width"]), int(element["height"])] == [round(side / 2) for side in pixels]


def test_a_wide_figure_is_there_once_more_with_its_columns_below_one_another():
    fig, axes = plt.subplots(2, 2, figsize=(8, 4), sharey="row", layout="constrained")
    axes[0, 0].set_ylabel("above")
    image = BeautifulSoup(show.figure_html(fig, "x", "", "four axes"), "html.parser").img
    assert int(image["width"]) > 700 > 400 > int(image["data-width"])
    assert int(image["data-height"]) > 1.8 * int(image["height"])
    tops = [ax.get_position().y1 for ax in (*axes[:, 0], *axes[:, 1])]  # column by column
    assert tops == sorted(tops, reverse=True) and len(set(tops)) == 4
    assert axes[0, 1].get_ylabel() == "above" and axes[0, 1].yaxis.get_tick_params()["labelleft"]
    plt.close(fig)


def test_what_a_telephone_has_no_room_for_is_drawn_once(figure):
    figure.set_figwidth(8)
    figure.axes[0].set_xlabel("many words " * 9)
    figure.set_layout_engine("constrained")
    assert "data-narrow" not in show.figure_html(figure, "x", "", "a line")


def test_equal_figures_give_equal_text():
    def draw():
        fig, ax = plt.subplots()
        ax.plot([0, 1], label="a")  # clips at the axes, so its ids come from the salt
        html = show.figure_html(fig, "x", "", "a line")
        plt.close(fig)
        return html

    first, second = draw(), draw()
    assert first == second
    assert b"<dc:date>" not in image_of(first)[1]


@pytest.mark.parametrize("name", ["", "Upper", "two words", "under_score", 'x"y', "ä", "x\n"])
def test_a_name_that_is_no_identifier_is_refused(name, figure):
    with pytest.raises(ValueError, match="lower-case"):
        show.show(figure, name, "", "alt")
    with pytest.raises(ValueError, match="lower-case"):
        show.table(pd.DataFrame({"a": [1]}), name, "")


def test_a_figure_without_alternative_text_is_refused(figure):
    with pytest.raises(ValueError, match="alternative text"):
        show.show(figure, "x", "A caption.", " ")


def rows(html: str) -> list[list[str]]:
    table = BeautifulSoup(html, "html.parser").table
    return [[cell.get_text() for cell in row(["th", "td"])] for row in table("tr")]


def test_table_formats_its_values(displayed):
    frame = pd.DataFrame({"arm": ["pool0", "pool1"], "n": [12, 3], "mae": [0.0396123, np.nan]})
    show.table(frame, "mae", "Errors.", {"mae": ".4f", "n": lambda n: f"{n} runs"})
    html = displayed[0]["text/html"]
    assert rows(html) == [
        ["arm", "n", "mae"],
        ["pool0", "12 runs", "0.0396"],
        ["pool1", "3 runs", show.MISSING],
    ]
    assert "style=" not in html


def test_table_marks_heads_and_numbers():
    frame = pd.DataFrame({"n": [1], "yes": [True], "text": ["a"]}, index=pd.Index(["r"], name="k"))
    table = BeautifulSoup(show.table_html(frame, "t", "c"), "html.parser").table
    assert [cell["scope"] for cell in table("th")] == ["col"] * 4 + ["row"]
    assert [cell.get("class") for cell in table("td")] == [["number"], None, None]
    assert rows(str(table))[0] == ["k", "n", "yes", "text"]


def test_table_writes_a_minus_and_no_hyphen():
    frame = pd.DataFrame({"gap": [-0.25, 1e-6], "own": [-0.5, 2.0], "arm": ["-x", "pool1-max2"]})
    assert rows(show.table_html(frame, "t", "c", {"gap": "+.3f"}))[1:] == [
        ["−0.250", "−0.5", "-x"],
        ["+0.000", "2", "pool1-max2"],
    ]


def test_table_shows_every_level_of_an_index():
    index = pd.MultiIndex.from_tuples([("a", 0), ("a", 1)], names=["arm", "seed"])
    frame = pd.DataFrame({("mae", "mean"): [0.5, 0.25]}, index=index)
    assert rows(show.table_html(frame, "t", "c")) == [
        ["arm", "seed", "mae mean"],
        ["a", "0", "0.5"],
        ["a", "1", "0.25"],
    ]


def test_table_escapes_heads_cells_index_and_caption():
    hostile = "<script>alert(1)</script>"
    frame = pd.DataFrame({hostile: [hostile]}, index=pd.Index([hostile], name=hostile))
    soup = BeautifulSoup(show.table_html(frame, "t", hostile), "html.parser")
    assert soup.script is None
    assert soup.get_text().count(hostile) == 5


def test_table_refuses_a_format_for_no_column():
    with pytest.raises(ValueError, match="'mea'"):
        show.table(pd.DataFrame({"mae": [1.0]}), "t", "c", {"mea": ".3f"})


def test_say_displays_markdown(displayed):
    show.say("**4** seeds")
    assert displayed == [{"text/markdown": "**4** seeds", "text/plain": "**4** seeds"}]


def test_importing_display_is_cheap():
    heavy = "{'torch', 'nbconvert', 'matplotlib', 'pandas', 'IPython'}"
    code = f"import sys, poolae.paper.show; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
