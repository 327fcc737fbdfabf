"""Executed notebooks merged with nbformat and exported once, by nbconvert, with `template/`."""

from __future__ import annotations

import base64
import hashlib
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath, import_plugin
from nbformat import NotebookNode
from traitlets.config import Config

from poolae.files import replacing
from poolae.paper.page.execute import fault_in
from poolae.paper.page.number import BETWEEN, REFERENCES, finish, mathml, slug
from poolae.paper.show import table_html
from poolae.settings import UserError

TEMPLATE = Path(__file__).parent / "template"

HOISTED = ("abstract", "key-figure")
DROPPED = {"parameters", "injected-parameters", "hide"}
# Richest first. A widget or a script says nothing in a page that runs neither.
SHOWN_TYPES = ("text/html", "text/markdown", "image/svg+xml", "image/png", "image/jpeg")
LANGUAGE = {"name": "python", "pygments_lexer": "ipython3"}
INTERACTIVE = {"application/vnd.jupyter.widget-view+json", "application/javascript"}


@dataclass(frozen=True)
class Section:
    """One executed notebook and its place in the report."""

    path: Path
    prefix: str  # begins the ids of its cells; unique in the report
    parent: str | None = None  # prefix of the chapter it continues, without that one's `once` cells


# Notebooks -------------------------------------------------------------------------------------


def read(path: Path) -> NotebookNode:
    """Read a notebook, and refuse it unless every cell ran without an error."""
    try:
        notebook = nbformat.read(path, as_version=4)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: execute the notebooks first.") from None
    except (nbformat.reader.NotJSONError, nbformat.ValidationError) as error:
        raise UserError(f"{path} is not a notebook ({error}): execute it again.") from None
    if fault := fault_in(notebook):
        raise UserError(f"{path}{fault}: mend it and execute it again.")
    return notebook


def merge(sections: Sequence[Section], notebooks: Sequence[NotebookNode]) -> NotebookNode:
    """Concatenate the sections' published cells, with ids that repeat in every rendering."""
    prefixes = [section.prefix for section in sections]
    if repeated := {prefix for prefix in prefixes if prefixes.count(prefix) > 1}:
        raise UserError(f"Two sections have the prefix {min(repeated)!r}: give each its own.")
    parents = {section.parent for section in sections if section.parent}
    if strangers := parents - set(prefixes):
        raise UserError(f"No section has the prefix {min(strangers)!r}, named as a parent.")
    cells: list[NotebookNode] = []
    for section, notebook in zip(sections, notebooks, strict=True):
        cells += _published(section, notebook, repeats=section.prefix in parents)
    for role in HOISTED:
        tagged = [cell for cell in cells if cell.metadata.poolae.role == role]
        sources = [cell.metadata.poolae.source for cell in tagged]
        if len(sources) > 1:
            raise UserError(f"{sources[0]} and {sources[1]} are both tagged {role!r}: keep one.")
        if tagged and not tagged[0].get("outputs", [tagged[0].source]):
            raise UserError(f"{sources[0]} is tagged {role!r} and shows nothing.")
    return nbformat.v4.new_notebook(cells=cells, metadata={"language_info": LANGUAGE})


def _published(
    section: Section, notebook: NotebookNode, *, repeats: bool
) -> Iterator[NotebookNode]:
    """Yield the cells to publish; `rank` is the level that a cell's topmost headings get.

    Where a chapter repeats a notebook, what is told once stands at the chapter's level, and all
    else one below, in the first run as in those that follow.
    """
    shared = repeats or section.parent
    file = f"{section.path.name} for {section.prefix}" if shared else section.path.name
    for position, cell in enumerate(notebook.cells, start=1):
        tags = set(cell.metadata.get("tags", []))
        if tags & DROPPED or (section.parent and "once" in tags) or cell.cell_type == "raw":
            continue
        following = notebook.cells[position : position + 1]
        if "with-next" in tags and not any(one.get("outputs") for one in following):
            continue
        cell.id = f"{section.prefix}-{position}"
        about = cell.metadata.poolae = NotebookNode(
            section=section.prefix,
            source=f"{file}, cell {position}",
            rank=3 if shared and "once" not in tags else 2,
            role=next((role for role in HOISTED if role in tags), ""),
            listed=False,
        )
        if cell.cell_type == "code":
            cell.outputs = [
                output
                for output in cell.outputs
                if not INTERACTIVE & set(output.get("data", {})) and "hide-output" not in tags
            ]
            shown = [output.get("data", {}).get("text/html", "") for output in cell.outputs]
            draws = any("<figure" in html for html in shown)
            about.listed = (draws or "hide-input" not in tags) and bool(cell.source.strip())
            about.stamp = _stamp(notebook, cell)
        yield cell


def _stamp(notebook: NotebookNode, cell: NotebookNode) -> str:
    """Say what a cell's figures were drawn from, where, and in what time; not what is unknown."""
    about = notebook.metadata.get("poolae", {})
    papermill = notebook.metadata.get("papermill", {})
    given = papermill.get("parameters", {})
    commit, device = about.get("commit", "unknown"), about.get("device")
    seeds = given.get("seeds") or ([given["seed"]] if "seed" in given else [])
    seconds = cell.metadata.get("papermill", {}).get("duration")
    lasted = f"drawn in {_lasting(seconds)}" if seconds is not None else ""
    facts = [
        f"commit {commit}" if commit != "unknown" else "",
        # Of a folder its name: where it lies is nobody else's business.
        f"data {str(given['data']).rstrip('/').rpartition('/')[2]}" if "data" in given else "",
        f"profile {given['profile']}" if "profile" in given else "",
        f"seed{'s' * (len(seeds) > 1)} {_listed(seeds)}" if seeds else "",
        about.get("processor", "") + (f" ({device}, {about['precision']})" if device else ""),
        lasted,
    ]
    return BETWEEN.join(filter(None, facts))


def _listed(numbers: Sequence[int]) -> str:
    if len(numbers) > 2 and list(numbers) == list(range(numbers[0], numbers[-1] + 1)):
        return f"{numbers[0]}–{numbers[-1]}"
    return ", ".join(map(str, numbers))


def _lasting(seconds: float) -> str:
    if seconds < 0.1:
        return "less than 0.1 s"
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{seconds:.2g} s"
    return f"{minutes} min {rest} s" if rest else f"{minutes} min"


# Export ----------------------------------------------------------------------------------------


def export(notebook: NotebookNode, paper: Mapping[str, Any]) -> str:
    """Export the merged notebook through the project's template."""
    exporter, renderer = _exporter(), Renderer()
    exporter.register_filter("prose", renderer.prose)
    exporter.environment.globals["paper"] = {**paper, "notes": renderer.notes}
    return exporter.from_notebook_node(notebook)[0]


@cache  # it compiles the template
def _exporter() -> HTMLExporter:
    return HTMLExporter(
        config=Config({"NbConvertBase": {"display_data_priority": [*SHOWN_TYPES, "text/plain"]}}),
        template_name=TEMPLATE.name,
        extra_template_basedirs=[str(TEMPLATE.parent)],
        filters={"slug": slug, "table": table_html},
    )


class Renderer(IPythonRenderer):
    """Markdown of cells as HTML: mathematics as MathML, footnotes numbered through the page."""

    def __init__(self) -> None:
        super().__init__(escape=False, exclude_anchor_links=True)
        plugins = (*MarkdownWithMath.DEFAULT_PLUGINS, "footnotes")
        self.parser = MarkdownWithMath(self, plugins=map(import_plugin, plugins))
        self.texts = 0
        self.notes: dict[tuple[int, str], dict] = {}  # by text and key, in the order of the calls

    def prose(self, markdown: str, cell: NotebookNode) -> str:
        """Convert a text of a cell; the texts have to come in the order of the page."""
        self.texts += 1
        self.where = cell.metadata.poolae.source
        self.attachments = cell.get("attachments", {})
        html, state = self.parser.parse(markdown)
        defined, called = (state.env.get(key, ()) for key in ("ref_footnotes", "footnotes"))
        if unused := set(defined) - set(called):
            name = min(unused).lower()
            raise UserError(
                f"{self.where} has a footnote [^{name}] that its text never calls: call it."
            )
        return html

    def inline_math(self, body: str) -> str:
        return mathml(body, self.where)

    def block_math(self, body: str) -> str:
        labels: list[str] = []
        body = re.sub(r"\\label\{([\w-]+)\}", lambda match: labels.append(match[1]) or "", body)
        name, body = f'id="{labels[0]}"' if labels else "", mathml(body, self.where, "block")
        # Where it is wider than the screen it scrolls, also from the keyboard.
        return f'<span class="equation" role="group" tabindex="0" {name}>{body}</span>'

    def latex_environment(self, name: str, body: str) -> str:
        # Starred, since the page numbers its equations itself.
        starred = name.rstrip("*") + "*"
        return self.block_math(rf"\begin{{{starred}}}{body}\end{{{starred}}}")

    def footnote_ref(self, key: str, index: int) -> str:
        new = {"number": len(self.notes) + 1, "calls": 0, "source": self.where}
        note = self.notes.setdefault((self.texts, key), new)
        note["calls"] += 1
        number = note["number"]
        return (
            f'<sup><a id="fnref-{number}-{note["calls"]}" href="#fn-{number}" '
            f'role="doc-noteref" aria-label="Footnote {number}">{number}</a></sup>'
        )

    def footnote_item(self, text: str, key: str, index: int) -> str:
        if "doc-noteref" in text:
            raise UserError(f"{self.where} has a footnote in a footnote: write it in the text.")
        self.notes[self.texts, key]["text"] = text
        return ""

    def footnotes(self, text: str) -> str:
        return ""  # the template lists them at the end of the page


LARGEST = 18_000_000  # characters of networks; with more, they get a page of their own


def render(
    sections: Sequence[Section],
    target: Path,
    *,
    title: str,
    authors: Sequence[str],
    provenance: Mapping[str, str | pd.DataFrame],
    subtitle: str | None = None,
    tools: Mapping[str, Any] | None = None,
) -> Path:
    """Render executed notebooks as one self-contained HTML file.

    Cells tagged ``parameters``, ``injected-parameters`` or ``hide`` are left out, and those
    tagged ``once`` where a section continues another, and those tagged ``with-next`` where the
    next cell shows nothing. ``hide-input`` leaves out the code alone,
    but not that of a figure or table; ``hide-output`` what it printed.
    Under each figure and table stand a link to its code and, as far as the notebook's metadata
    tell (`execute.execute_notebook`), what drew it from which data, where and in what time.
    What the cells tagged ``abstract`` and ``key-figure`` show moves to the head of the page.
    Equal notebooks give an equal file.

    Parameters
    ----------
    sections
        The notebooks, in reading order.
    target
        The file to write. It appears whole or not at all.
    title, subtitle, authors
        The head of the page.
    provenance
        The appendix "How this was made": a text or a table for each name.
    tools
        Data of the reader's tools, from `tools.tools`, with any of these keys: `curves` and
        `samples` for the explorer of error bounds (`tools.describe_curves`, a list of
        `tools.describe_sample`); `networks` and `photographs` for colouring a photograph
        (a list of `tools.describe_network`, `tools.photographs`). They become the last
        chapter, "Try it yourself", with the figures `fig-explorer` and `fig-photograph`. If the
        networks are very large, they go to a second file beside `target`, which links to it.

    Returns
    -------
    Path
        `target`.

    Raises
    ------
    UserError
        If a notebook is missing or did not run to its end, a name is used twice, a reference,
        citation or footnote leads nowhere, mathematics cannot be read, an image has no
        alternative text, or the page would load something.
    """
    target, tools = Path(target), dict(tools or {})
    head = {"title": title, "subtitle": subtitle, "authors": authors}
    if sum(len(network["weights"]) for network in tools.get("networks", [])) > LARGEST:
        apart = {name: tools.pop(name) for name in ("networks", "photographs") if name in tools}
        second = target.with_name(f"{target.stem}-photograph.html")
        tools["elsewhere"] = second.name
        _write([], second, {**head, "tools": apart})
    _write(sections, target, {**head, "tools": tools, "provenance": provenance})
    return target


def _write(sections: Sequence[Section], target: Path, paper: Mapping[str, Any]) -> None:
    notebooks = [read(section.path) for section in sections]
    ends = [notebook.metadata.get("papermill", {}).get("end_time") for notebook in notebooks]
    texts = {path.name: path.read_text(encoding="utf-8") for path in TEMPLATE.iterdir()}
    script = texts["page.js"] + (texts["tools.js"] if paper["tools"] else "")
    paper = {
        **paper,
        "date": max((datetime.fromisoformat(end).date() for end in ends if end), default=None),
        "style": texts["style.css"],
        "script": script,
        # By the page's policy the browser itself refuses every other script, and all loading.
        "digest": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        "colouriser": texts["colouriser.js"],
        "appendix": "sec-how-this-was-made",
    }
    references = tomllib.loads(REFERENCES.read_text(encoding="utf-8"))
    page = finish(export(merge(sections, notebooks), paper), references)
    with replacing(target) as draft:
        draft.write_text(page, encoding="utf-8")
