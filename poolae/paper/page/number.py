"""The published page: one HTML file that loads nothing.

A pass over what `export` made numbers sections, figures, tables, equations and footnotes,
says under each figure what drew it, and turns cross references, citations and mathematics into
what a reader expects. Whatever cannot be published (a notebook that failed, a reference to
nothing, an image without alternative text, anything that would be loaded from
elsewhere) is refused, with its notebook and cell.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from bs4 import BeautifulSoup, NavigableString, Tag
from latex2mathml.converter import convert as latex_to_mathml

from poolae.files import REFERENCE
from poolae.settings import UserError

REFERENCES = REFERENCE / "citations.toml"
LONGEST = 25  # rows of a table; one with more is folded

HOISTED = ("abstract", "key-figure")

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


# The pass over the page ------------------------------------------------------------------------


def finish(html: str, references: Mapping[str, Mapping[str, Any]]) -> str:
    """Number, link and check an exported page."""
    soup = BeautifulSoup(html, "html.parser")
    main = soup.find(id="main")
    for element in main(["script", "noscript"]):
        element.decompose()
    _stamp_figures(soup, main)
    _hoist(soup)
    _check_names(main)
    _gather_footnotes(soup, main)
    labels = _number_headings(soup)
    labels |= _number_figures(soup, main)
    labels |= _number_equations(soup, main)
    _typeset_captions(soup, main)
    _cite(soup, main, references)
    _resolve(soup, main, labels)
    _make_scrollable(soup, main)
    _list_contents(soup)
    _check_images(main)
    _check_loads_nothing(soup)
    return f"{soup}\n"


def _stamp_figures(soup: BeautifulSoup, main: Tag) -> None:
    """Put the stamp of its cell, with a link to the cell's code, under each figure and table."""
    for cell in main(class_="cell", attrs={"data-stamp": True}):
        stamp = cell.attrs.pop("data-stamp")
        for figure in cell.select(CAPTIONED):
            line = soup.new_tag("small", attrs={"class": "stamp"})
            link = {
                "class": "its-code",
                "href": f"#{cell.find(class_='listing')['id']}",
                "title": cell["data-source"],
            }
            line.append(soup.new_tag("a", attrs=link, string="Code"))
            line.append(f"\N{NO-BREAK SPACE}· {stamp}" if stamp else "")
            # A caption has to be the first or the last of its figure, so the line joins it there.
            (figure if "table" in figure.get("class", []) else figure.figcaption).append(line)


def _hoist(soup: BeautifulSoup) -> None:
    """Move the abstract and the key figure to the head; their code stays where it was."""
    for role in HOISTED:
        place = soup.find(id=role)
        cell = soup.find(class_="cell", attrs={"data-role": role})
        if cell is None:
            place.decompose()
            continue
        content = cell.find(class_="outputs") if "code" in cell["class"] else cell
        if content is None:
            raise UserError(f"{cell['data-source']} is tagged {role!r} and shows nothing.")
        content["data-source"] = cell["data-source"]
        place.append(content.extract())
        if not cell.find(True):
            cell.extract()
    front = soup.find(class_="front")
    if not front.find(True):
        front.decompose()


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
    body = soup.find(id="body")
    groups: dict[tuple[str, str], list[Tag]] = {}
    for heading in body(HEADINGS):
        cell = heading.find_parent(class_="cell")
        groups.setdefault((cell["data-section"], cell["data-rank"]), []).append(heading)
    for (_, rank), headings in groups.items():
        shift = int(rank) - min(int(heading.name[1]) for heading in headings)
        for heading in headings:
            heading.name = f"h{min(int(heading.name[1]) + shift, 6)}"

    labels: dict[str, str] = {}
    taken = {element["id"] for element in soup.find_all(id=True)}
    counters = [0, 0, 0]  # chapter, section, subsection
    for heading in body(HEADINGS):
        prefix = heading.find_parent(class_="cell")["data-section"]
        heading["id"] = _free_id(slug(heading.get_text()), prefix, taken)
        taken.add(heading["id"])
        depth = int(heading.name[1]) - 2
        if depth < len(counters):
            counters = [*counters[:depth], counters[depth] + 1, *[0] * (len(counters) - depth - 1)]
            number = ".".join(map(str, counters[: depth + 1]))
            labels[heading["id"]] = f"Section {number}"
            _prepend_number(soup, heading, number)
    if provenance := soup.find(id="provenance"):
        labels[provenance.h2["id"]] = "Appendix A"
        _prepend_number(soup, provenance.h2, "A")
    return labels


def _prepend_number(soup: BeautifulSoup, heading: Tag, number: str) -> None:
    link = soup.new_tag("a", href=f"#{heading['id']}", attrs={"class": "number"}, string=number)
    heading.insert(0, link)
    link.insert_after(" ")


def _number_figures(soup: BeautifulSoup, main: Tag) -> dict[str, str]:
    labels: dict[str, str] = {}
    for kind, word in (("fig-", "Figure"), ("tbl-", "Table")):
        figures = [figure for figure in main("figure", id=True) if figure["id"].startswith(kind)]
        for number, figure in enumerate(figures, start=1):
            label = labels[figure["id"]] = f"{word} {number}"
            link = soup.new_tag(
                "a", href=f"#{figure['id']}", attrs={"class": "label"}, string=f"{label}."
            )
            figure.figcaption.insert(0, link)
            link.insert_after(" ")
    _name_code(soup, main)
    return labels


def _name_code(soup: BeautifulSoup, main: Tag) -> None:
    """Say on the folded code what it drew, and on the links to it whose code it is."""
    drawn: dict[str, list[str]] = {}
    for link in main("a", class_="its-code"):
        label = link.find_parent("figure").find(class_="label").get_text().rstrip(".")
        link["aria-label"] = f"Code of {label}"
        drawn.setdefault(link["href"][1:], []).append(label)
    for identifier, labels in drawn.items():
        code = soup.find(id=identifier).find_parent("details")
        code["class"] = ["code", "linked"]
        *first, last = labels
        names = f"{', '.join(first)} and {last}" if first else last
        code.summary.contents[0].replace_with(f"Code of {names} ")


def _number_equations(soup: BeautifulSoup, main: Tag) -> dict[str, str]:
    labels: dict[str, str] = {}
    for number, equation in enumerate(main(class_="equation"), start=1):
        equation.append(soup.new_tag("span", attrs={"class": "number"}, string=f"({number})"))
        # Where it is wider than the screen it scrolls, also from the keyboard.
        equation.attrs |= {"role": "group", "tabindex": "0", "aria-label": f"Equation {number}"}
        if "id" in equation.attrs:
            labels[equation["id"]] = f"Equation {number}"
    return labels


def _gather_footnotes(soup: BeautifulSoup, main: Tag) -> None:
    """Number the footnotes through the page and list them at its end, linked both ways."""
    for node in _text_nodes(main, FOOTNOTE):
        name = FOOTNOTE.search(node)[0]
        raise UserError(f"{_where(node)} calls the footnote {name}, which it does not define.")
    calls: dict[int, list[Tag]] = {}  # by the identity of their note; equal notes are equal tags
    notes: list[Tag] = []
    for call in main("a", class_="noteref"):
        if call.find_parent(class_="notes"):
            raise UserError(f"{_where(call)} has a footnote in a footnote: write it in the text.")
        # The notes of a text stand at its end, so that the next list is its own.
        note = call.find_next("ol", class_="notes").find(attrs={"data-note": call["data-note"]})
        if id(note) not in calls:
            notes.append(note)
        calls.setdefault(id(note), []).append(call)
    section = soup.find(id="footnotes")
    if not notes:
        section.decompose()
        return
    listed = soup.new_tag("ol")
    for number, note in enumerate(notes, start=1):
        source, text = _where(note), " ".join(note.get_text().split())
        last = note("p")[-1] if note("p") else note
        for k, call in enumerate(calls[id(note)], start=1):
            place = f"fnref-{number}-{k}"
            call.string = str(number)
            call.attrs = {
                "id": place,
                "href": f"#fn-{number}",
                "role": "doc-noteref",
                "aria-label": f"Footnote {number}",
                "title": text,
            }
            name = f"Back to call {k} of footnote {number}"
            link = {"href": f"#{place}", "role": "doc-backlink", "aria-label": name}
            last.extend(["\N{NO-BREAK SPACE}", soup.new_tag("a", attrs=link, string="↩")])
        note.attrs = {"id": f"fn-{number}", "data-source": source}
        listed.append(note.extract())
    for emptied in main("ol", class_="notes"):
        emptied.decompose()
    section.append(listed)


def _typeset_captions(soup: BeautifulSoup, main: Tag) -> None:
    """Turn the mathematics of captions and column heads, which are plain text, into MathML."""

    def build(match: re.Match[str], node: NavigableString) -> list[Any]:
        return [BeautifulSoup(mathml(match[1], _where(node)), "html.parser").math]

    for element in main.select('figcaption, figure.table th[scope="col"]'):
        _rewrite(element, INLINE_MATHS, build)


def _cite(soup: BeautifulSoup, main: Tag, references: Mapping[str, Mapping[str, Any]]) -> None:
    cited: dict[str, int] = {}

    def build(match: re.Match[str], node: NavigableString) -> list[Any]:
        links: list[Any] = []
        for key in re.findall(r"@([\w-]+)", match[1]):
            if key not in references:
                raise UserError(
                    f"{_where(node)} cites @{key}, which is not in {REFERENCES.name}: add it there."
                )
            number = cited.setdefault(key, len(cited) + 1)
            work = references[key]
            attributes = {
                "class": "citation",
                "title": f"{work['authors']}: {work['title']}",
                "role": "doc-biblioref",
            }
            links += [
                ", ",
                soup.new_tag("a", href=f"#ref-{key}", attrs=attributes, string=str(number)),
            ]
        return ["[", *links[1:], "]"]

    _rewrite(main, CITATION, build)
    for node in _text_nodes(main, re.compile(r"\[@")):
        raise UserError(f"{_where(node)} has a citation that is not [@key] or [@a; @b]: {node}")
    section = main.find(id="references")
    if not cited:
        section.decompose()
        return
    entries = "".join(f'<li id="ref-{key}">{_entry(references[key])}</li>' for key in cited)
    section.append(BeautifulSoup(f"<ol>{entries}</ol>", "html.parser"))


def _entry(work: Mapping[str, Any]) -> str:
    title = f"<cite>{escape(work['title'])}</cite>"
    if url := work.get("url"):
        title = f'<a href="{escape(url)}">{title}</a>'
    published = ", ".join(escape(str(work[field])) for field in ("venue", "year") if field in work)
    return f"{escape(work['authors'].rstrip('.'))}. {title}. {published}."


def _resolve(soup: BeautifulSoup, main: Tag, labels: Mapping[str, str]) -> None:
    """Give every link that waits for a number its number, and refuse links to nothing."""

    def build(match: re.Match[str], node: NavigableString) -> list[Any]:
        return [soup.new_tag("a", href=f"#{match[1]}")]

    _rewrite(main, CROSS_REFERENCE, build)
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


def _make_scrollable(soup: BeautifulSoup, main: Tag) -> None:
    """Put pictures and tables in boxes that scroll sideways, and fold long tables."""
    for figure in main.select(CAPTIONED):
        for image in figure("img", recursive=False):
            name = figure.find(class_="label").get_text().rstrip(".")
            box = {"class": "scroll", "role": "group", "tabindex": "0", "aria-label": name}
            if "width" in image.attrs:
                box["style"] = f"--natural: {image['width']}px"
            image.wrap(soup.new_tag("div", attrs=box))
    for number, table in enumerate(main("table"), start=1):
        caption = table.parent.figcaption if table.parent.name == "figure" else None
        name = caption.a.get_text().rstrip(".") if caption and caption.a else f"Unnamed {number}"
        box = {"class": "scroll", "role": "region", "tabindex": "0", "aria-label": f"{name}, table"}
        inside = table.wrap(soup.new_tag("div", attrs=box))
        rows = len(table.select("tbody > tr"))
        if rows > LONGEST:
            folded = inside.wrap(soup.new_tag("details", attrs={"class": "rows"}))
            folded.insert(0, soup.new_tag("summary", string=f"All {rows} rows"))
    for text in main("pre"):
        text["tabindex"] = "0"


def _list_contents(soup: BeautifulSoup) -> None:
    top = soup.new_tag("ol")
    inner: Tag | None = None
    for heading in soup.select("#body h2, #body h3, #footnotes h2, #references h2, #provenance h2"):
        item = soup.new_tag("li")
        link = soup.new_tag("a", href=f"#{heading['id']}")
        for child in BeautifulSoup(heading.decode_contents(), "html.parser").contents[:]:
            link.append(child)
        for anchor in link("a"):
            anchor.name, anchor.attrs = "span", {"class": anchor.get("class", [])}
        item.append(link)
        if heading.name == "h2" or not top.contents:
            top.append(item)
            inner = None
            continue
        if inner is None:
            inner = soup.new_tag("ol")
            top.contents[-1].append(inner)
        inner.append(item)
    soup.select_one("nav.contents details").append(top)


def _check_images(main: Tag) -> None:
    for image in main.select(".outputs > img"):
        if not image["alt"]:
            raise UserError(
                f"{_where(image)} shows an image without alternative text: "
                "draw it with poolae.display.show."
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


def _text_nodes(root: Tag, pattern: re.Pattern[str]) -> list[NavigableString]:
    """Return the texts under `root` in which `pattern` occurs, but for code and mathematics."""
    return [
        node
        for node in root.find_all(string=pattern)
        if type(node) is NavigableString and not node.find_parent(LITERAL)
    ]


def _rewrite(
    root: Tag,
    pattern: re.Pattern[str],
    build: Callable[[re.Match[str], NavigableString], list[Any]],
) -> None:
    """Replace what matches in the texts under `root` by the nodes that `build` returns."""
    for node in _text_nodes(root, pattern):
        pieces: list[Any] = []
        end = 0
        for match in pattern.finditer(node):
            pieces += [node[end : match.start()], *build(match, node)]
            end = match.end()
        node.replace_with(*filter(None, [*pieces, node[end:]]))


def _where(node: Tag | NavigableString) -> str:
    """Name the notebook and cell that a part of the page came from."""
    owner = node.find_parent(attrs={"data-source": True})
    return owner["data-source"] if owner else "The page"


def slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "untitled"


def _free_id(slug: str, prefix: str, taken: set[str]) -> str:
    candidates = [f"sec-{slug}", f"sec-{prefix}-{slug}"]
    candidates += [f"sec-{prefix}-{slug}-{n}" for n in range(2, len(taken) + 3)]
    return next(candidate for candidate in candidates if candidate not in taken)


def first_repeated(values: Sequence[str]) -> str | None:
    return next((value for value in values if values.count(value) > 1), None)


def load_references(path: Path = REFERENCES) -> dict[str, dict[str, Any]]:
    """Read the works that may be cited, by key."""
    works = tomllib.loads(path.read_text(encoding="utf-8"))["work"]
    if repeated := first_repeated([work["key"] for work in works]):
        raise UserError(f"{path.name} has the key {repeated!r} twice: keep one.")
    return {work["key"]: work for work in works}


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
