"""The published page: one HTML file that loads nothing.

A pass over what `export` made numbers sections, figures, tables and equations, says under each
figure what drew it, and turns cross references, citations and mathematics into what a reader
expects. Whatever cannot be published (a reference to nothing, an image without alternative text,
anything that would be loaded from elsewhere) is refused, with its notebook and cell.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from copy import copy
from html import escape
from itertools import chain, count
from typing import Any

from bs4 import BeautifulSoup, NavigableString, Tag
from latex2mathml.converter import convert as latex_to_mathml

from poolae.files import REFERENCE
from poolae.paper.page.themed import DRAWING, themed
from poolae.settings import UserError

REFERENCES = REFERENCE / "citations.toml"
BETWEEN = "\N{NO-BREAK SPACE}· "  # the parts of a stamp
LONGEST = 25  # rows of a table; one with more is folded

# What stands for the number in JupyterLab, which knows none.
UNNUMBERED = ("", "Figure", "Table", "Section", "Equation")
CROSS_REFERENCE = re.compile(rf"\[(?:{'|'.join(UNNUMBERED)})\]\(#([\w-]+)\)")
FOOTNOTE = re.compile(r"\[\^[^\]\s]+\]")
CITATION = re.compile(r"\[(@[\w-]+(?:\s*;\s*@[\w-]+)*)\]")
# Pandoc's rule: no space inside the dollars and no digit after, so that prices stay prices.
INLINE_MATHS = re.compile(r"(?<![\\$])\$(?![\s$])([^$\n]+?)(?<![\s\\])\$(?![\d$])")
LITERAL = ("pre", "code", "script", "style", "math", "svg")
CAPTIONED = 'figure[id^="fig-"], figure[id^="tbl-"]'
HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
LISTED = "#body h2, #body h3, #footnotes h2, #references h2, #provenance h2"


# The pass over the page ------------------------------------------------------------------------


def finish(html: str, references: Mapping[str, Mapping[str, Any]]) -> str:
    """Number, link and check an exported page."""
    soup = BeautifulSoup(html, "html.parser")
    main = soup.find(id="main")
    for element in main(["script", "noscript"]):
        element.decompose()
    _stamp_figures(main)
    _check_names(main)
    labels = _number_headings(soup) | _number_figures(main) | _number_equations(main)
    _name_code(main, labels)
    _finish_footnotes(main)
    # Captions and column heads are plain text.
    plain = main.select('figcaption, figure.table th[scope="col"]')
    _rewrite(plain, INLINE_MATHS, lambda latex, node: _nodes(mathml(latex, _where(node))))
    _cite(main, references)
    _resolve(soup, main, labels)
    _make_scrollable(main, labels)
    for image in main.select(f'[src^="{DRAWING}"], [srcset^="{DRAWING}"]'):
        source = "src" if image.name == "img" else "srcset"
        image[source], image["class"] = themed(image[source]), "drawing"
    _list_contents(soup)
    _check_images(main)
    _check_loads_nothing(soup)
    return f"{soup}\n"


def _stamp_figures(main: Tag) -> None:
    """Put the stamp of its cell, with a link to the cell's code, under each figure and table."""
    for outputs in main(class_="outputs", attrs={"data-stamp": True}):
        stamp, code = outputs.attrs.pop("data-stamp"), outputs.attrs.pop("data-code")
        for figure in outputs.select(CAPTIONED):
            parts = stamp.split(BETWEEN) if stamp else []
            if source := figure.attrs.pop("data-source", ""):  # whatever runs are at hand
                parts = [f"numbers of {source}", *(p for p in parts if p.startswith("drawn in"))]
            said = escape("".join(BETWEEN + part for part in parts))
            line = _nodes(
                f'<small class="stamp"><a class="its-code" href="#{code}" '
                f'title="{escape(_where(figure))}">Code</a>{said}</small>'
            )
            # A caption has to be the first or the last of its figure, so the line joins it there.
            (figure if "table" in figure.get("class", []) else figure.figcaption).extend(line)


def _check_names(main: Tag) -> None:
    """Refuse two figures or tables of one name, and drop other ids that repeat."""
    seen: dict[str, Tag] = {}
    for element in main.find_all(id=True):
        first = seen.setdefault(element["id"], element)
        if first is element:
            continue
        if element.name == "figure" or "equation" in element.get("class", []):
            raise UserError(
                f"{element['id']!r} names something in {_where(first)} and again in "
                f"{_where(element)}: give each its own name."
            )
        del element["id"]


def _number_headings(soup: BeautifulSoup) -> dict[str, str]:
    headings = soup.find(id="body")(HEADINGS)
    cells = [heading.find_parent(class_="cell") for heading in headings]
    groups = [(cell["data-section"], int(cell["data-rank"])) for cell in cells]
    top: dict[tuple[str, int], int] = {}
    for heading, group in zip(headings, groups, strict=True):
        top[group] = min(top.get(group, 6), int(heading.name[1]))

    labels: dict[str, str] = {}
    taken = {element["id"] for element in soup.find_all(id=True)}
    counters = [0, 0, 0]  # chapter, section, subsection
    for heading, (prefix, rank) in zip(headings, groups, strict=True):
        level = min(int(heading.name[1]) + rank - top[prefix, rank], 6)
        name = slug(heading.get_text())
        names = chain([name, f"{prefix}-{name}"], (f"{prefix}-{name}-{n}" for n in count(2)))
        identifier = next(f"sec-{name}" for name in names if f"sec-{name}" not in taken)
        taken.add(identifier)
        heading.name, heading["id"] = f"h{level}", identifier
        if level - 2 < len(counters):
            counters[level - 2 :] = [counters[level - 2] + 1, *[0] * (4 - level)]
            number = ".".join(map(str, counters[: level - 1]))
            labels[identifier] = f"Section {number}"
            _prepend(heading, identifier, "number", number)
    if provenance := soup.find(id="provenance"):
        labels[provenance.h2["id"]] = "Appendix A"
        _prepend(provenance.h2, provenance.h2["id"], "number", "A")
    return labels


def _number_figures(main: Tag) -> dict[str, str]:
    labels: dict[str, str] = {}
    for kind, word in (("fig-", "Figure"), ("tbl-", "Table")):
        for number, figure in enumerate(main.select(f'figure[id^="{kind}"]'), start=1):
            label = labels[figure["id"]] = f"{word} {number}"
            _prepend(figure.figcaption, figure["id"], "label", f"{label}.")
    return labels


def _number_equations(main: Tag) -> dict[str, str]:
    labels: dict[str, str] = {}
    for number, equation in enumerate(main(class_="equation"), start=1):
        equation.extend(_nodes(f'<span class="number">({number})</span>'))
        equation["aria-label"] = f"Equation {number}"
        if "id" in equation.attrs:
            labels[equation["id"]] = equation["aria-label"]
    return labels


def _prepend(element: Tag, identifier: str, kind: str, text: str) -> None:
    """Put a number, which links to what it counts, before the text of a heading or caption."""
    element.insert(0, *_nodes(f'<a class="{kind}" href="#{identifier}">{text}</a> '))


def _name_code(main: Tag, labels: Mapping[str, str]) -> None:
    """Say on the folded code what it drew, and on the links to it whose code it is."""
    drawn: dict[str, list[str]] = {}
    for link in main("a", class_="its-code"):
        label = labels[link.find_parent("figure")["id"]]
        link["aria-label"] = f"Code of {label}"
        drawn.setdefault(link["href"], []).append(label)
    for link, (*first, last) in drawn.items():
        code = main.select_one(link).find_parent("details")
        code["class"] = ["code", "linked"]
        names = f"{', '.join(first)} and {last}" if first else last
        code.summary.contents[0].replace_with(f"Code of {names} ")


def _finish_footnotes(main: Tag) -> None:
    """Give each call of a footnote the note's text as its title; refuse calls of none."""
    for node in _text_nodes(main, FOOTNOTE):
        name = FOOTNOTE.search(node)[0]
        raise UserError(f"{_where(node)} calls the footnote {name}, which it does not define.")
    for call in main("a", role="doc-noteref"):
        note = main.select_one(call["href"]).get_text()
        call["title"] = " ".join(note.replace("↩", "").split())


def _cite(main: Tag, references: Mapping[str, Mapping[str, Any]]) -> None:
    cited: list[str] = []

    def link(key: str, node: NavigableString) -> str:
        if key not in references:
            raise UserError(
                f"{_where(node)} cites @{key}, which is not in {REFERENCES.name}: add it there."
            )
        if key not in cited:
            cited.append(key)
        title = escape(f"{references[key]['authors']}: {references[key]['title']}")
        return (
            f'<a class="citation" href="#ref-{key}" role="doc-biblioref" title="{title}">'
            f"{cited.index(key) + 1}</a>"
        )

    def build(keys: str, node: NavigableString) -> list[Any]:
        links = (link(key, node) for key in re.findall(r"@([\w-]+)", keys))
        return _nodes(f"[{', '.join(links)}]")

    _rewrite([main], CITATION, build)
    for node in _text_nodes(main, re.compile(r"\[@")):
        raise UserError(f"{_where(node)} has a citation that is not [@key] or [@a; @b]: {node}")
    section = main.find(id="references")
    if not cited:
        section.decompose()
        return
    entries = "".join(f'<li id="ref-{key}">{_entry(references[key])}</li>' for key in cited)
    section.extend(_nodes(f"<ol>{entries}</ol>"))


def _entry(work: Mapping[str, Any]) -> str:
    title = f'<a href="{escape(work["url"])}"><cite>{escape(work["title"])}</cite></a>'
    published = ", ".join(escape(str(work[field])) for field in ("venue", "year") if field in work)
    return f"{escape(work['authors'].rstrip('.'))}. {title}. {published}."


def _resolve(soup: BeautifulSoup, main: Tag, labels: Mapping[str, str]) -> None:
    """Give every link that waits for a number its number, and refuse links to nothing."""
    _rewrite([main], CROSS_REFERENCE, lambda name, _: _nodes(f'<a href="#{name}"></a>'))
    known = {element["id"] for element in soup.find_all(id=True)}
    for link in main.select('a[href^="#"]'):
        target = link["href"][1:]
        numbered = link.get_text(strip=True) in UNNUMBERED
        if target not in (labels if numbered else known):
            fault = "has no number" if target in known else "is nowhere in the report"
            raise UserError(f"{_where(link)} refers to #{target}, which {fault}.")
        if numbered:
            link.string = labels[target].replace(" ", "\N{NO-BREAK SPACE}")
            link["class"] = "reference"


def _make_scrollable(main: Tag, labels: Mapping[str, str]) -> None:
    """Put pictures and tables in boxes that scroll sideways, and fold long tables."""
    box = '<div class="scroll" role="{}" tabindex="0" aria-label="{}"></div>'
    for image in main.select(f":is({CAPTIONED}) > img"):
        (outside,) = _nodes(box.format("group", labels[image.parent["id"]]))
        if "width" in image.attrs:
            outside["style"] = f"--natural: {image['width']}px"
        image.wrap(outside)
        if "data-narrow" in image.attrs:
            sides = {side: image.attrs.pop(f"data-{side}") for side in ("width", "height")}
            narrow = image.attrs.pop("data-narrow").replace(" ", "%20")
            (both,) = _nodes("<picture><source></picture>")
            both.source.attrs = {"media": "(max-width: 40rem)", "srcset": narrow, **sides}
            image.wrap(both)
    for number, table in enumerate(main("table"), start=1):
        name = labels.get(table.parent.get("id"), f"Unnamed {number}")
        inside = table.wrap(*_nodes(box.format("region", f"{name}, table")))
        rows = len(table.select("tbody > tr"))
        if rows > LONGEST:
            folded = '<details class="rows"><summary>All {} rows</summary></details>'
            inside.wrap(*_nodes(folded.format(rows)))
    for text in main("pre"):
        text["tabindex"] = "0"


def _list_contents(soup: BeautifulSoup) -> None:
    contents = soup.select_one("nav.contents details").append(soup.new_tag("ol"))
    for heading in soup.select(LISTED):
        link = copy(heading)
        for anchor in link("a"):
            anchor.name, anchor.attrs = "span", {"class": anchor.get("class", [])}
        link.name, link.attrs = "a", {"href": f"#{heading['id']}"}
        place = contents
        if heading.name == "h3" and contents.contents:
            chapter = contents.contents[-1]
            place = chapter.ol or chapter.append(soup.new_tag("ol"))
        place.append(soup.new_tag("li")).append(link)


def _check_images(main: Tag) -> None:
    for image in main.select('.outputs > img[alt=""]'):
        raise UserError(
            f"{_where(image)} shows an image without alternative text: "
            "draw it with poolae.paper.show.show."
        )


def _check_loads_nothing(soup: BeautifulSoup) -> None:
    """Refuse whatever a browser would load; the content policy would leave it blank."""
    for element in soup.find_all(True):
        for name in ("src", "srcset", "poster", "data", "background", "href", "xlink:href"):
            value = element.get(name, "data:")
            inside = value.startswith("#") and name.endswith("href")
            if element.name in ("a", "area") or inside or value.startswith("data:"):
                continue
            raise UserError(
                f"{_where(element)} would load {value}: the report must hold it itself."
            )
        style = f"{element.get('style', '')}{element.string if element.name == 'style' else ''}"
        if re.search(r"@import|url\(\s*['\"]?(?!['\"]?(?:data:|#))", style):
            raise UserError(f"{_where(element)} has a style that loads a file: take it out.")


# Small helpers ---------------------------------------------------------------------------------


def _nodes(markup: str) -> list[Any]:
    return BeautifulSoup(markup, "html.parser").contents[:]


def _text_nodes(root: Tag, pattern: re.Pattern[str]) -> list[NavigableString]:
    """Return the texts under `root` in which `pattern` occurs, but for code and mathematics."""
    return [
        node
        for node in root.find_all(string=pattern)
        if type(node) is NavigableString and not node.find_parent(LITERAL)
    ]


def _rewrite(
    roots: list[Tag],
    pattern: re.Pattern[str],
    build: Callable[[str, NavigableString], list[Any]],
) -> None:
    """Replace what matches in the texts under `roots` by what `build` makes of its one group."""
    for node in chain.from_iterable(_text_nodes(root, pattern) for root in roots):
        parts = enumerate(pattern.split(node))
        pieces = [build(part, node) if k % 2 else [part] for k, part in parts]
        node.replace_with(*filter(None, chain.from_iterable(pieces)))


def _where(node: Tag | NavigableString) -> str:
    """Name the notebook and cell that a part of the page came from."""
    owner = node.find_parent(attrs={"data-source": True})
    return owner["data-source"] if owner else "The page"


def slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "untitled"


def mathml(latex: str, where: str, display: str = "inline") -> str:
    """Convert LaTeX to MathML; what the converter would pass over in silence is an error."""
    latex = latex.strip()
    try:
        markup = latex_to_mathml(latex, display=display)
    except Exception as error:  # the converter's own, of many unrelated classes
        raise UserError(f"{where}: cannot read ${latex}$ ({type(error).__name__}).") from None
    if unknown := re.search(r"\\[A-Za-z]+", markup):
        raise UserError(f"{where}: {unknown[0]} in ${latex}$ is not known; write it otherwise.")
    bare = re.sub(r"\\[{}]", "", latex)
    if bare.count("{") != bare.count("}"):
        raise UserError(f"{where}: the braces of ${latex}$ do not match.")
    return markup
