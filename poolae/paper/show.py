"""Figures, tables and computed prose, as notebooks show them and the report collects them.

What a notebook displays through `show` and `table` is a complete ``<figure>``: it reads well in
JupyterLab as it stands, and `poolae.paper.page` numbers it. Captions are plain text, in which the
report understands ``[Figure](#fig-name)``, ``[@key]`` and ``$mathematics$``.

matplotlib, pandas and IPython are imported where they are used, so that importing this costs
nothing.
"""

from __future__ import annotations

import base64
import io
import re
import struct
import warnings
from collections.abc import Callable, Mapping
from html import escape
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure
    from pandas import DataFrame

Format = str | Callable[[Any], str]

PNG_SCALE = 2  # image pixels per CSS pixel: sharp on a laptop's screen
CSS_DPI = 96
MISSING = "–"
UNQUOTED = " !'()*+,/:;=@[]{}|^~$?`"  # what may stand in a data URI in an attribute of HTML
SHORT = 20  # characters that a cell keeps on one line: an interval, an arm's name


def show(fig: Figure, name: str, caption: str, alt: str, source: str = "") -> None:
    """Close a matplotlib figure and display it with its caption and alternative text.

    Parameters
    ----------
    fig
        The figure. It is closed, so that no backend draws it a second time.
    name
        Its name in the report, unique there, referred to as ``[Figure](#fig-name)``.
    caption
        Plain text that says what is seen.
    alt
        What a reader who cannot see the figure needs to know of it.
    source
        The committed file that its numbers are from, if they are not of the runs at hand.

    Raises
    ------
    ValueError
        If `name` is not of lower-case letters, digits and hyphens, or `alt` is empty.
    """
    from matplotlib import pyplot as plt

    html = _of(source, figure_html(fig, name, caption, alt))
    plt.close(fig)
    _display({"text/html": html, "text/plain": f"[Figure {name}: {alt}]"})


def table(
    frame: DataFrame,
    name: str,
    caption: str,
    formats: Mapping[Any, Format] | None = None,
    source: str = "",
) -> None:
    """Display a data frame as a captioned table.

    Parameters
    ----------
    frame
        The table. Its index is shown unless it merely counts the rows.
    name
        Its name in the report, unique there, referred to as ``[Table](#tbl-name)``.
    caption
        Plain text that says what is listed.
    formats
        For a column, a format specification such as ``".3f"`` or a function of the value.
    source
        As in `show`.

    Raises
    ------
    ValueError
        If `name` is not of lower-case letters, digits and hyphens, or `formats` names a column
        that `frame` does not have.
    """
    html = _of(source, table_html(frame, name, caption, formats))
    _display({"text/html": html, "text/plain": f"{caption}\n{frame}"})


def numeral(value: float, form: str) -> str:
    """Write a number by a format specification; what leads a negative one is no hyphen."""
    text = format(value, form)
    return f"−{text[1:]}" if text.startswith("-") else text


def say(markdown_text: str) -> None:
    """Display Markdown, for prose and headings with computed numbers in them."""
    _display({"text/markdown": markdown_text, "text/plain": markdown_text})


def figure_html(fig: Figure, name: str, caption: str, alt: str) -> str:
    """Return the ``<figure>`` that `show` displays; equal figures give equal text.

    A wide one is there twice, the second time as narrow as a telephone: its columns of axes below
    one another, or as its `narrow` draws it. The published page shows what fits.
    """
    identifier = _identifier("fig", name)
    if not alt.strip():
        raise ValueError(f"figure {name!r} needs alternative text, got {alt!r}")
    source, width, height = _drawn(fig)
    narrow = _narrow(fig)
    return (
        f'<figure id="{identifier}">'
        f'<img alt="{escape(alt)}" width="{width}" height="{height}" src="{source}"{narrow}>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def table_html(
    frame: DataFrame, name: str, caption: str, formats: Mapping[Any, Format] | None = None
) -> str:
    """Return the ``<figure>`` that `table` displays."""
    from pandas import RangeIndex
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    identifier = _identifier("tbl", name)
    formats = formats or {}
    if unknown := [column for column in formats if column not in frame.columns]:
        raise ValueError(f"table {name!r} has no column {unknown[0]!r} to format")

    index = frame.index
    counts_rows = isinstance(index, RangeIndex) and index.name is None
    levels = [] if counts_rows else [index.get_level_values(i) for i in range(index.nlevels)]
    numeric = [is_numeric_dtype(kind) and not is_bool_dtype(kind) for kind in frame.dtypes]
    ways = [formats.get(column) for column in frame.columns]

    # A corner without words heads nothing.
    head = [_cell("th", n, scope="col") if n else "<td></td>" for n in index.names[: len(levels)]]
    head += [
        _cell("th", _label(column), scope="col", number=number)
        for column, number in zip(frame.columns, numeric, strict=True)
    ]
    body = []
    for position, row in enumerate(frame.itertuples(index=False, name=None)):
        cells = [_cell("th", _text(level[position]), scope="row") for level in levels]
        cells += [
            _cell("td", _text(value, way), number=number)
            for value, way, number in zip(row, ways, numeric, strict=True)
        ]
        body.append(f"<tr>{''.join(cells)}</tr>")
    return (
        f'<figure class="table" id="{identifier}"><figcaption>{escape(caption)}</figcaption>'
        f"<table><thead><tr>{''.join(head)}</tr></thead>"
        f"<tbody>{''.join(body)}</tbody></table></figure>"
    )


def data_uri(subtype: str, content: bytes) -> str:
    """Return the bytes of an image, such as a "png", as a data URI."""
    return f"data:image/{subtype};base64,{base64.b64encode(content).decode('ascii')}"


def png_uri(picture: np.ndarray) -> str:
    """Return a grey (H, W) or sRGB (H, W, 3) picture in [0, 1] as a PNG in a data URI."""
    from PIL import Image

    file = io.BytesIO()
    pixels = (255 * picture.clip(0, 1)).round().astype("uint8")
    Image.fromarray(pixels).save(file, "PNG", optimize=True)
    return data_uri("png", file.getvalue())


def _drawn(fig: Figure) -> tuple[str, int, int]:
    """Return a figure as a data URI, the shorter of two, with its width and height, CSS pixels."""
    png = _png(fig)
    source = min(_svg_uri(_svg(fig)), data_uri("png", png), key=len)
    return source, *(round(side / PNG_SCALE) for side in struct.unpack(">II", png[16:24]))


def _narrow(fig: Figure) -> str:
    """Return, as attributes, the figure drawn once more for a telephone; "" if it does not fit."""
    from poolae.paper.figures import TELEPHONE

    if fig.get_figwidth() <= TELEPHONE:
        return ""
    if redraw := getattr(fig, "narrow", None):
        fig = redraw()
    elif fig.axes and all(ax.get_subplotspec() for ax in fig.axes):
        _stack(fig)
        fig.set_figwidth(TELEPHONE)
    else:
        return ""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # there is no room for the axes
        try:
            drawn = _drawn(fig)
        except UserWarning:
            return ""
    if drawn[1] > 1.15 * CSS_DPI * TELEPHONE:
        return ""
    return ' data-narrow="{}" data-width="{}" data-height="{}"'.format(*drawn)


def _stack(fig: Figure) -> None:
    """Put the columns of a figure's axes below one another."""
    from matplotlib.gridspec import GridSpec

    places = {ax: ax.get_subplotspec() for ax in fig.axes}
    grid = next(iter(places.values())).get_gridspec()
    names = {place.rowspan.start: ax.get_ylabel() for ax, place in reversed(places.items())}
    ratios = [*(grid.get_height_ratios() or [1] * grid.nrows)] * grid.ncols
    stacked = GridSpec(len(ratios), 1, figure=fig, height_ratios=ratios)
    for ax, place in places.items():
        row = place.rowspan.start
        ax.set_subplotspec(stacked[place.colspan.start * grid.nrows + row])
        ax.tick_params(labelleft=True)
        ax.set_ylabel(ax.get_ylabel() or names[row])
    fig.set_figheight(fig.get_figheight() * grid.ncols)


def _of(source: str, html: str) -> str:
    return html.replace("<figure", f'<figure data-source="{escape(source)}"', 1) if source else html


def _identifier(kind: str, name: str) -> str:
    if not re.fullmatch(r"[a-z0-9-]+", name):
        raise ValueError(f"a name has lower-case letters, digits and hyphens only, got {name!r}")
    return f"{kind}-{name}"


def _svg(fig: Figure) -> str:
    import matplotlib

    buffer = io.BytesIO()
    # Without the salt and the empty date, equal figures would differ in every run.
    with matplotlib.rc_context({"svg.hashsalt": "poolae", "svg.fonttype": "path"}):
        fig.savefig(
            buffer, format="svg", bbox_inches="tight", metadata={"Date": None, "Creator": None}
        )
    return buffer.getvalue().decode("utf-8")


def _png(fig: Figure) -> bytes:
    buffer = io.BytesIO()
    options = {"dpi": PNG_SCALE * CSS_DPI, "metadata": {"Software": None}}
    fig.savefig(buffer, format="png", bbox_inches="tight", **options)
    return buffer.getvalue()


def _svg_uri(svg: str) -> str:
    """Return a drawing as a data URI: as text, which takes a quarter less than base64."""
    svg = re.sub(
        r"<\?xml.*?\?>|<!DOCTYPE.*?>|<!--.*?-->|<metadata>.*?</metadata>", "", svg, flags=re.S
    )
    svg = re.sub(r"\s+", " ", re.sub(r">\s+<", "><", svg)).strip()
    if "'" not in svg:
        svg = svg.replace('"', "'")  # the attribute that it goes into has the others
    return f"data:image/svg+xml,{quote(svg, safe=UNQUOTED)}"


def _cell(tag: str, text: str, *, scope: str | None = None, number: bool = False) -> str:
    text = str(text)
    short = scope != "col" and " " in text and len(text) <= SHORT
    kind = "number" if number else "short" if short else None
    attributes = (f' scope="{scope}"' if scope else "") + (f' class="{kind}"' if kind else "")
    return f"<{tag}{attributes}>{escape(text)}</{tag}>"


def _label(column: Any) -> str:
    return " ".join(map(str, column)) if isinstance(column, tuple) else str(column)


def _text(value: Any, way: Format | None = None) -> str:
    from pandas import isna

    if callable(way):
        return way(value)
    if isna(value) is True:  # an array in a cell gives an array, and is not missing
        return MISSING
    if way is not None or isinstance(value, float):
        return numeral(value, way or ".4g")
    return str(value)


def _display(bundle: dict[str, str]) -> None:
    from IPython.display import display

    display(bundle, raw=True)
