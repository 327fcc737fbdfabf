"""The report: what is published, what is refused, and how the page is put together."""

import json
import re
import tomllib
from urllib.parse import unquote

import nbformat
import pandas as pd
import pytest
from browsing import chromium  # noqa: F401 - a fixture
from bs4 import BeautifulSoup

from poolae.paper.page import export, themed
from poolae.paper.page.export import Section, render
from poolae.paper.page.number import REFERENCES, mathml
from poolae.paper.show import table_html
from poolae.settings import UserError

PIXEL = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"


def markdown(source, *tags):
    return nbformat.v4.new_markdown_cell(source, metadata={"tags": list(tags)})


def code(source, *outputs, tags=(), ran=True):
    return nbformat.v4.new_code_cell(
        source,
        outputs=list(outputs),
        execution_count=1 if ran else None,
        metadata={"tags": list(tags)},
    )


def html(text, kind="text/html", **metadata):
    return nbformat.v4.new_output("display_data", {kind: text}, metadata=metadata)


def prints(text):
    return nbformat.v4.new_output("stream", name="stdout", text=text)


def figure(name, caption="A caption."):
    return html(
        f'<figure id="fig-{name}"><img alt="alt of {name}" src="{PIXEL}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def table(name, **columns):
    return html(table_html(pd.DataFrame(columns or {"n": [1]}), name, "A table."))


@pytest.fixture
def page(tmp_path):
    """Render notebooks given as lists of cells, by prefix; `parents` maps prefix to parent."""

    def build(parents=None, provenance=None, tools=None, metadata=None, **notebooks):
        sections = []
        for prefix, cells in notebooks.items():
            notebook = nbformat.v4.new_notebook(cells=cells)
            notebook.metadata.update((metadata or {}).get(prefix, {}))
            notebook.metadata.papermill = {
                **notebook.metadata.get("papermill", {}),
                "end_time": "2020-05-04T10:00:00.123456",
            }
            path = tmp_path / f"{prefix}.ipynb"
            nbformat.write(notebook, path)
            sections.append(Section(path, prefix, parent=(parents or {}).get(prefix)))
        target = render(
            sections,
            tmp_path / "out" / "index.html",
            title="A title & more",
            authors=["A. Author", "B. Author"],
            provenance=provenance or {},
            tools=tools,
        )
        return BeautifulSoup(target.read_text(encoding="utf-8"), "html.parser")

    return build


def headings(soup):
    return [
        (heading.name, heading.get_text())
        for heading in soup.find(id="body")(["h1", "h2", "h3", "h4", "h5", "h6"])
    ]


# What is published


def test_head_of_the_page(page):
    soup = page(a=[markdown("# One")])
    assert soup.html["lang"] == "en-GB"
    assert soup.title.string == soup.h1.string == "A title & more"
    assert soup.find(class_="authors").string == "A. Author, B. Author"
    assert soup.time["datetime"] == "2020-05-04"
    assert soup.time.get_text() == "4 May 2020"
    assert len(soup("h1")) == 1


def test_the_head_says_how_to_cite_the_page(page, tmp_path):
    # What Google Scholar and Zotero read: an author for each tag, dates as year/month/day.
    soup = page(a=[markdown("# One")])
    said = [
        (tag["name"], tag["content"])
        for tag in soup.head("meta", attrs={"name": re.compile("^citation_")})
    ]
    assert said == [
        ("citation_title", "A title & more"),
        ("citation_author", "A. Author"),
        ("citation_author", "B. Author"),
        ("citation_publication_date", "2020/05/04"),
        ("citation_language", "en"),
    ]
    path = render([], tmp_path / "undated.html", title='"', authors=["<A>"], provenance={})
    head = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser").head
    assert head.find(attrs={"name": "citation_title"})["content"] == '"'
    assert head.find(attrs={"name": "citation_author"})["content"] == "<A>"
    assert head.find(attrs={"name": "citation_publication_date"}) is None


@pytest.mark.parametrize("tag", ["parameters", "injected-parameters", "hide"])
def test_dropped_cells_leave_no_trace(page, tag):
    soup = page(a=[code("secret = 1", prints("secret output"), tags=[tag]), markdown("kept")])
    assert "secret" not in soup.get_text()
    assert "kept" in soup.get_text()


def test_an_introduction_goes_with_what_it_introduces(page):
    cells = [
        markdown("## Of nothing", "with-next"),
        code("if found: show()", tags=["hide-input"]),
        markdown("## Of something", "with-next"),
        code("show()", prints("shown"), tags=["hide-input"]),
    ]
    text = page(a=cells).get_text()
    assert "Of something" in text and "Of nothing" not in text


def test_hide_input_keeps_the_output_alone(page):
    soup = page(a=[code("secret = 1", prints("shown"), tags=["hide-input"])])
    assert "secret" not in soup.get_text()
    assert soup.find(class_="stream").string == "shown"


def test_code_is_folded_under_its_output(page):
    soup = page(a=[code("x = 1", prints("shown"))])
    outputs, folded = soup.find(class_="cell").find_all(True, recursive=False)
    assert outputs["class"] == ["outputs"]
    assert folded.name == "details"
    assert "open" not in folded.attrs
    assert folded.find("pre").get_text().strip() == "x = 1"
    assert "a.ipynb, cell 1" in folded.summary.get_text()


@pytest.mark.parametrize("top", ["#", "##", "###"])
def test_a_repeated_notebook_tells_once_what_is_said_once(page, top):
    def training(name):
        return [
            markdown("# Training\n\nThe recipe.", "once"),
            code("", html(f"{top} {name}", "text/markdown"), tags=["hide-input"]),
            markdown(f"{top}# Curves"),
        ]

    soup = page(
        data=[markdown("# Data")],
        pool0=training("No pooling"),
        pool1=training("One pooling layer"),
        parents={"pool1": "pool0"},
    )
    assert headings(soup) == [
        ("h2", "1 Data"),
        ("h2", "2 Training"),
        ("h3", "2.1 No pooling"),
        ("h4", "2.1.1 Curves"),
        ("h3", "2.2 One pooling layer"),
        ("h4", "2.2.1 Curves"),
    ]
    assert soup.get_text().count("The recipe.") == 1
    identifiers = [heading["id"] for heading in soup.find(id="body")("h4")]
    assert identifiers == ["sec-curves", "sec-pool1-curves"]
    assert soup.find(id="cell-pool1-2")["data-source"] == "pool1.ipynb for pool1, cell 2"


def test_abstract_and_key_figure_lead_and_are_not_repeated(page):
    soup = page(
        a=[markdown("# Data"), code("", figure("data"))],
        b=[
            code("say()", html("In **short**.", "text/markdown"), tags=["abstract", "hide-input"]),
            code("draw()", figure("key"), tags=["key-figure"]),
        ],
    )
    front = soup.find(class_="front")
    assert front.find(id="abstract").p.get_text() == "In short."
    assert front.find(id="key-figure").figure["id"] == "fig-key"
    assert front.find(class_="label").string == "Figure 1."
    body = soup.find(id="body")
    assert [element["id"] for element in body("figure")] == ["fig-data"]
    assert body.find(class_="label").string == "Figure 2."
    assert "In short." not in body.get_text()
    link = front.find(class_="its-code")["href"][1:]
    assert "draw()" in soup.find(id=link).get_text()
    assert "Code of Figure 1" in soup.find(id=link).find_parent("details").summary.get_text()


def test_a_figure_of_record_is_not_said_to_be_of_this_run(page):
    of_record = figure("x").data["text/html"]
    of_record = of_record.replace("<figure", '<figure data-source="figures/results.csv"')
    drawn = code("draw()", html(of_record))
    drawn.metadata.papermill = {"duration": 1.26}
    given = {"data": "daisies", "profile": "quick", "seeds": [0]}
    soup = page(a=[drawn], metadata={"a": {"papermill": {"parameters": given}}})
    (stamp,) = soup(class_="stamp")
    said = stamp.get_text().replace("\xa0", " ")
    assert said == "Code · numbers of figures/results.csv · drawn in 1.3 s"


def test_a_figure_says_what_drew_it_as_far_as_is_known(page):
    about = {"commit": "0123456789+", "processor": "A <fast> one"}
    about |= {"device": "cuda", "precision": "float32"}
    given = {"data": "/home/someone/daisies/", "profile": "quick", "seeds": [0, 1, 2]}
    known = code("draw()", figure("x"), table("x"), tags=["hide-input"])
    known.metadata.papermill = {"duration": 1.26}
    soup = page(
        a=[known, markdown("x")],
        b=[code("x = 1", prints("x"), tags=["hide-input"]), code("draw()", figure("y"))],
        metadata={"a": {"poolae": about, "papermill": {"parameters": given}}},
    )
    stamps = [stamp.get_text().replace("\xa0", " ") for stamp in soup(class_="stamp")]
    assert stamps == [
        "Code · commit 0123456789+ · data daisies · profile quick · seeds 0–2 · "
        "A <fast> one (cuda, float32) · drawn in 1.3 s"
    ] * 2 + ["Code"]
    assert "someone" not in str(soup)
    links = [stamp.a for stamp in soup(class_="stamp")]
    assert [link["aria-label"] for link in links] == [
        "Code of Figure 1",
        "Code of Table 1",
        "Code of Figure 2",
    ]
    assert [link["title"] for link in links] == ["a.ipynb, cell 1"] * 2 + ["b.ipynb, cell 2"]
    listings = [soup.find(id=link["href"][1:]) for link in links]
    assert {listing.get_text().strip() for listing in listings} == {"draw()"}
    assert listings[0] is listings[1] is not listings[2]
    names = [listing.find_parent("details").summary.get_text() for listing in listings[1:]]
    assert [name.partition(" a")[0] for name in names] == ["Code of Figure 1"] + names[1:]
    assert names[0].startswith("Code of Figure 1 and Table 1 ")
    assert "x = 1" not in soup.get_text()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.04, "less than 0.1 s"),
        (0.46, "0.46 s"),
        (9.94, "9.9 s"),
        (59.6, "1 min"),
        (75, "1 min 15 s"),
    ],
)
def test_times_are_told_with_two_digits(seconds, words):
    assert export._lasting(seconds) == words


def test_lists_of_seeds_are_short():
    assert [export._listed(seeds) for seeds in ([4], [0, 1], [1, 2, 3, 4], [0, 2, 3])] == [
        "4",
        "0, 1",
        "1–4",
        "0, 2, 3",
    ]


def test_footnotes_are_numbered_through_the_page_and_linked_both_ways(page):
    soup = page(
        a=[
            markdown(
                "# One\n\nA.[^a] B.[^b] A again.[^a]\n\n[^b]: Of *B*.\n[^a]: See [](#sec-one)."
            )
        ],
        b=[
            code("say()", html("C.[^a]\n\n[^a]: Of $c$.", "text/markdown"), tags=["abstract"]),
            markdown("`x[^not]` and [^d].\n\n[^d]: First.\n\n    Second."),
        ],
    )
    calls = soup(role="doc-noteref")
    assert [call.get_text() for call in calls] == ["1", "2", "3", "2", "4"]  # the abstract leads
    section = soup.find(role="doc-endnotes")
    assert section.h2.get_text() == "Footnotes"
    notes = section.ol("li", recursive=False)
    texts = [" ".join(note.get_text().replace("\xa0", " ").split()) for note in notes]
    assert texts == ["Of c. ↩", "See Section 1. ↩ ↩", "Of B. ↩", "First. Second. ↩"]
    assert [call["href"] for call in calls] == ["#fn-1", "#fn-2", "#fn-3", "#fn-2", "#fn-4"]
    assert [note["id"] for note in notes] == ["fn-1", "fn-2", "fn-3", "fn-4"]
    backs = [[back["href"] for back in note(role="doc-backlink")] for note in notes]
    assert sorted(sum(backs, [])) == sorted(f"#{call['id']}" for call in calls)
    assert backs[1] == [f"#{calls[1]['id']}", f"#{calls[3]['id']}"]
    assert "Footnotes" in soup.find("nav").get_text()
    assert soup.find(class_="notes") is None
    assert page(a=[markdown("none")]).find(role="doc-endnotes") is None


def test_long_tables_are_folded_and_say_how_long_they_are(page):
    soup = page(a=[code("", table("x", n=range(25)), table("y", n=range(26)))])
    (folded,) = soup("details", class_="rows")
    assert folded.summary.get_text() == "All 26 rows"
    assert len(folded("tr")) == 27
    assert folded.find_parent("figure")["id"] == "tbl-y"


def test_provenance_is_the_appendix(page):
    packages = pd.DataFrame({"Package": ["torch"], "Version": ["2.9"]})
    soup = page(a=[markdown("x")], provenance={"Commit": "abc <b>", "Packages": packages})
    section = soup.find(id="provenance")
    assert section.h2.get_text() == "A How this was made"
    assert [section.dt.string, section.dd.string] == ["Commit", "abc <b>"]
    assert section.figcaption.get_text() == "Table 1. Packages"


def test_contents_list_chapters_and_sections(page):
    soup = page(a=[markdown("# One\n\n## Two\n\n### Three"), markdown("# Four [@zhang2016]")])
    contents = soup.find("nav", class_="contents")
    assert [link.get_text() for link in contents("a")] == [
        "1 One",
        "1.1 Two",
        "2 Four [1]",
        "References",
    ]
    assert contents.ol.li.ol.li.get_text() == "1.1 Two"
    assert all(soup.find(id=link["href"][1:]) for link in contents("a"))


# Numbers and links


def test_figures_tables_and_equations_are_numbered_apart(page):
    soup = page(
        a=[
            code("", figure("one"), table("one"), figure("two"), table("two")),
            markdown("$$a = b \\label{eq-first}$$\n\n$$c = d$$"),
        ]
    )
    labels = {element["id"]: element.find(class_="label").string for element in soup("figure")}
    assert labels == {
        "fig-one": "Figure 1.",
        "tbl-one": "Table 1.",
        "fig-two": "Figure 2.",
        "tbl-two": "Table 2.",
    }
    equations = soup(class_="equation")
    assert [equation.find(class_="number").string for equation in equations] == ["(1)", "(2)"]
    assert equations[0]["id"] == "eq-first"
    assert equations[0]["aria-label"] == "Equation 1"
    assert equations[0].math["display"] == "block"


def test_cross_references_in_prose_captions_and_tables(page):
    soup = page(
        a=[
            markdown(
                "# Here we go\n\nSee [Figure](#fig-x), [Table](#tbl-x), [](#sec-here-we-go), "
                "[](#eq-x)."
            ),
            markdown("$$a \\label{eq-x}$$"),
            code("", figure("x", "After [Table](#tbl-x).")),
            code("", table("x", where=["in [](#fig-x)"])),
        ]
    )
    references = [(link["href"], link.get_text()) for link in soup(class_="reference")]
    assert references == [
        ("#fig-x", "Figure\xa01"),
        ("#tbl-x", "Table\xa01"),
        ("#sec-here-we-go", "Section\xa01"),
        ("#eq-x", "Equation\xa01"),
        ("#tbl-x", "Table\xa01"),
        ("#fig-x", "Figure\xa01"),
    ]


def test_citations_are_numbered_by_first_mention_and_only_they_are_listed(page):
    soup = page(a=[markdown("A [@zhang2016; @isola2017]. B [@isola2017]. C [@luo2016].")])
    assert "A [1, 2]. B [2]. C [3]." in soup.get_text()
    entries = soup.find(id="references")("li")
    assert [entry["id"] for entry in entries] == ["ref-zhang2016", "ref-isola2017", "ref-luo2016"]
    assert "Colorful Image Colorization" in entries[0].get_text()
    assert entries[0].a["href"] == "https://arxiv.org/abs/1603.08511"


def test_code_is_no_place_for_citations_or_mathematics(page):
    soup = page(a=[markdown("`[@nobody] $x$`"), code("'[@nobody] [](#fig-none)'", prints("[@no]"))])
    assert "[@nobody] $x$" in soup.get_text()
    assert soup.math is None


def test_mathematics_of_prose_and_captions_is_mathml(page):
    soup = page(
        a=[
            markdown("Where $a < b$ costs \\$5 or \\$6."),
            code("", figure("x", "Bound $t$ at $5 and $6.")),
        ]
    )
    prose = soup.find(class_="markdown")
    assert [part.get_text() for part in prose.math(["mi", "mo"])] == ["a", "<", "b"]
    assert "costs $5 or $6." in prose.get_text()
    assert soup.figcaption.math.mi.string == "t"
    assert "at $5 and $6." in soup.figcaption.get_text()


def test_no_id_occurs_twice(page):
    cells = [markdown("# Same\n\n## Same"), code("", html('<p id="x">1</p><p id="x">2</p>'))]
    soup = page(a=cells, b=cells)
    identifiers = [element["id"] for element in soup.find_all(id=True)]
    assert len(identifiers) == len(set(identifiers))


# The reader's tools

LINE = {"name": "pool1", "colour": "#E69F00", "dash": "", "accuracy": [0, 1]}
CURVES = {"bounds": [0, 0.1], "lines": [LINE]}
NETWORK = {"name": "pool1", "size": 64, "ops": [{"kind": "up"}], "weights": "AAAA"}


def test_tools_are_the_last_chapter_and_can_be_referred_to(page):
    cells = [markdown("# First\n\nSee [](#fig-photograph)."), code("", figure("x"))]
    soup = page(a=cells, tools={"curves": CURVES, "networks": [NETWORK]})
    assert headings(soup)[1:] == [
        ("h2", "2 Try it yourself"),
        ("h3", "2.1 What an error bound lets through"),
        ("h3", "2.2 Colour a photograph of your own"),
    ]
    assert soup.find(class_="reference").get_text() == "Figure\xa03"
    assert "64 × 64 pixels" in soup.find(id="fig-photograph").get_text(" ")
    assert "2 Try it yourself" in soup.find("nav").get_text()


def test_only_what_is_given_is_embedded(page):
    cells = [markdown("x")]
    assert len(page(a=cells)("script")) == 1
    curves = page(a=cells, tools={"curves": CURVES})
    assert [script.get("id") for script in curves("script")] == [None, "data-explorer"]
    assert curves.find(id="fig-photograph") is None
    networks = page(a=cells, tools={"networks": [NETWORK]})
    identifiers = [script.get("id") for script in networks("script")]
    assert identifiers == [None, "data-networks", "data-colouriser"]
    assert json.loads(networks.find(id="data-networks").string) == [NETWORK]
    assert networks.find(id="fig-explorer") is None


def test_embedded_text_cannot_end_its_script(page):
    hostile = "</script><script>alert(1)</script><!--"
    curves = {**CURVES, "lines": [{**LINE, "name": hostile}]}
    soup = page(a=[markdown("x")], tools={"curves": curves})
    assert len(soup("script")) == 2
    assert json.loads(soup.find(id="data-explorer").string)["curves"] == curves


def test_large_networks_get_a_page_of_their_own(page, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "LARGEST", 3)
    soup = page(a=[markdown("# First")], tools={"curves": CURVES, "networks": [NETWORK]})
    assert soup.find(id="data-networks") is None
    assert soup.find(id="fig-explorer")
    link = soup.find(id="cell-tools").p.find_next("a", href="index-photograph.html")
    text = (tmp_path / "out" / link["href"]).read_text(encoding="utf-8")
    second = BeautifulSoup(text, "html.parser")
    assert json.loads(second.find(id="data-networks").string) == [NETWORK]
    assert second.title.string == soup.title.string
    assert second.find(id="fig-explorer") is None


# Safety and self-containment


def test_hostile_text_stays_text(page):
    hostile = "<script>alert(1)</script>"
    escaped = hostile.replace("<", "&lt;")
    soup = page(
        a=[code("", figure("x", escaped), table("x", **{hostile: [hostile]}), prints(hostile))],
        provenance={hostile: hostile},
    )
    assert len(soup("script")) == 1  # the page's own
    assert soup.get_text().count(hostile) == 6


def test_the_page_loads_nothing(page):
    soup = page(a=[markdown("[a link](https://example.org) [@mamaev] $x$"), code("", figure("x"))])
    for element in soup.find_all(True):
        for name in ("src", "srcset", "href", "data", "poster"):
            if element.name != "a" and element.get(name):
                assert element[name].startswith("data:")
    assert not re.search(r"url\(|@import", soup.style.string)
    policy = soup.find("meta", attrs={"http-equiv": "Content-Security-Policy"})["content"]
    assert policy.startswith("default-src 'none'")


@pytest.mark.parametrize(
    "markup",
    [
        '<img alt="a" src="https://example.org/a.png">',
        '<img alt="a" src="figure.png">',
        '<link rel="stylesheet" href="https://example.org/a.css">',
        '<iframe src="https://example.org"></iframe>',
        "<style>p { background: url('https://example.org/a.png') }</style>",
        '<style>@import "a.css";</style>',
        '<p style="background: url(a.png)">',
    ],
)
def test_what_would_load_is_refused(page, markup):
    with pytest.raises(UserError, match=r"a\.ipynb, cell 1"):
        page(a=[code("", html(markup))])


def test_scripts_and_widgets_of_notebooks_are_left_out(page):
    widget = nbformat.v4.new_output(
        "display_data",
        {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}, "text/plain": "0%| |"},
    )
    soup = page(a=[code("", widget, html("<script>evil()</script><p>kept</p>"))])
    assert "0%" not in soup.get_text()
    assert "evil" not in str(soup)
    assert "kept" in soup.get_text()


def test_an_image_without_alternative_text_is_refused(page):
    with pytest.raises(UserError, match=r"a\.ipynb, cell 1 .*alternative text"):
        page(a=[code("", html("iVBORw0KGgo=", "image/png"))])
    soup = page(a=[code("", html("iVBORw0KGgo=", "image/png", **{"image/png": {"alt": "A"}}))])
    assert soup.img["alt"] == "A"


# What is refused


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (
            [code("1/0", nbformat.v4.new_output("error", ename="E", evalue="", traceback=[]))],
            "cell 1 ended in an error",
        ),
        ([markdown("x"), code("x = 1", ran=False)], "cell 2 did not run"),
        ([markdown("banner", "papermill-error-cell-tag")], "cell 1 is papermill's report"),
        ([markdown("[](#fig-none)")], "cell 1 refers to #fig-none, which is nowhere"),
        ([markdown("[text](#nowhere)")], "cell 1 refers to #nowhere, which is nowhere"),
        ([code("", figure("x", "[](#tbl-none)"))], "cell 1 refers to #tbl-none"),
        ([markdown("[@nobody1999]")], "cell 1 cites @nobody1999"),
        ([markdown("[@zhang2016, p. 3]")], "cell 1 has a citation that is not"),
        ([markdown("x"), markdown("A[^1].")], r"cell 2 calls the footnote \[\^1\]"),
        ([markdown("A.\n\n[^b]: B.")], r"cell 1 has a footnote \[\^b\] that its text never"),
        ([markdown("A[^a].\n\n[^a]: B[^b].\n[^b]: C.")], "cell 1 has a footnote in a footnote"),
        ([markdown("$\\nosuch{x}$")], r"cell 1: \\nosuch in"),
        ([markdown("$\\frac{a$")], "cell 1: the braces"),
        ([markdown("$\\left( x$")], "cell 1: cannot read"),
        (
            [markdown("x"), code("", figure("x")), code("", figure("x"))],
            r"'fig-x' names something in a.ipynb, cell 2 and again in a.ipynb, cell 3",
        ),
        (
            [code("", prints("a"), tags=["abstract"]), code("", prints("b"), tags=["abstract"])],
            "cell 1 and a.ipynb, cell 2 are both tagged 'abstract'",
        ),
        ([code("x = 1", tags=["key-figure"])], "'key-figure' and shows nothing"),
    ],
)
def test_what_cannot_be_published_is_refused(page, cells, message):
    with pytest.raises(UserError, match=message):
        page(a=cells)


def test_a_notebook_that_stopped_early_is_refused(tmp_path):
    notebook = nbformat.v4.new_notebook(metadata={"papermill": {"exception": True}})
    nbformat.write(notebook, tmp_path / "a.ipynb")
    with pytest.raises(UserError, match="stopped before its end"):
        render([Section(tmp_path / "a.ipynb", "a")], tmp_path / "o", title="", authors=[], **NONE)
    assert not (tmp_path / "o").exists()


NONE = {"provenance": {}}


@pytest.mark.parametrize(("text", "message"), [(None, "does not exist"), ("{", "not a notebook")])
def test_a_file_that_is_no_notebook_is_refused(tmp_path, text, message):
    path = tmp_path / "a.ipynb"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=message):
        render([Section(path, "a")], tmp_path / "o", title="", authors=[], **NONE)


def test_sections_must_tell_themselves_apart(page, tmp_path):
    with pytest.raises(UserError, match="'elsewhere', named as a parent"):
        page(a=[markdown("x")], parents={"a": "elsewhere"})
    twice = [Section(tmp_path / "a.ipynb", "a")] * 2
    with pytest.raises(UserError, match="prefix 'a'"):
        render(twice, tmp_path / "o", title="", authors=[], **NONE)


def test_a_refused_report_leaves_the_last_one_alone(page, tmp_path):
    page(a=[markdown("first")])
    before = (tmp_path / "out" / "index.html").read_bytes()
    with pytest.raises(UserError):
        page(a=[markdown("[](#fig-none)")])
    assert (tmp_path / "out" / "index.html").read_bytes() == before
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["index.html"]


def test_equal_notebooks_give_an_equal_file(page):
    def build():  # the cells' own ids are random
        cells = [markdown("# A $x$ [@mamaev]"), code("x", prints("y"), figure("x"), table("x"))]
        return str(page(a=cells, provenance={"Commit": "abc"}))

    assert build() == build()


def test_every_reference_is_complete():
    for key, work in tomllib.loads(REFERENCES.read_text("utf-8")).items():
        assert re.fullmatch(r"[\w-]+", key)
        assert set(work) | {"year"} == {"authors", "title", "venue", "year", "url"}
        assert work["url"].startswith("https://")


def test_mathml_of_a_fraction():
    fraction = BeautifulSoup(mathml(r"\frac{a}{2}", "here"), "html.parser").mfrac
    assert [part.get_text() for part in fraction.find_all(["mi", "mn"])] == ["a", "2"]


# In a browser


@pytest.mark.browser
def test_the_page_works_from_disk(page, tmp_path, chromium):  # noqa: F811
    wide = {f"column {n}": [f"a fairly long value {n}"] for n in range(12)}
    filler = "\n\n".join(["Text."] * 40)
    page(
        a=[
            markdown(f"# First\n\n{filler}"),
            code("draw()", figure("key"), tags=["key-figure"]),
            markdown(f"# Second $x$\n\n{filler}"),
            code("", table("wide", **wide)),
        ]
    )
    address = (tmp_path / "out" / "index.html").as_uri()
    for width in (1440, 768, 390):
        context = chromium.new_context(
            viewport={"width": width, "height": 800}, color_scheme="dark", reduced_motion="reduce"
        )
        tab = context.new_page()
        requests, complaints = [], []
        tab.on("request", lambda request, to=requests: to.append(request.url))
        tab.on("console", lambda message, to=complaints: to.append(message.text))
        tab.on("pageerror", lambda error, to=complaints: to.append(str(error)))
        tab.goto(address)
        assert [url for url in requests if not url.startswith("data:")] == [address]
        assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")

        # The contents are open beside the text, or folded above it.
        is_open = tab.evaluate("document.querySelector('.contents details').open")
        assert is_open == (width == 1440)

        background = "getComputedStyle(document.body).backgroundColor"
        dark = tab.evaluate(background)
        for expected in ("Theme: light", "Theme: dark"):
            tab.click("button.theme")
            assert tab.inner_text("button.theme") == expected
            assert (tab.evaluate(background) == dark) == expected.endswith("dark")
        tab.reload()
        assert tab.inner_text("button.theme") == "Theme: dark"

        tab.evaluate("document.getElementById('sec-second-x').scrollIntoView()")
        tab.wait_for_selector(".contents a[href='#sec-second-x'][aria-current]", state="attached")
        for _ in range(2):  # the same link works again after the code was folded
            tab.click(".its-code")
            assert tab.locator("details.code[open]").count() == 1
            assert tab.locator("details.code .listing").first.is_visible()
            tab.locator("details.code > summary").first.click()
            assert tab.locator("details.code[open]").count() == 0
        assert complaints == []
        context.close()


@pytest.mark.browser
@pytest.mark.fault("#100% in the page's address", "the page works")
def test_an_address_that_is_no_encoding_stops_nothing(page, tmp_path, chromium):  # noqa: F811
    page(a=[markdown("# First"), code("draw()", figure("x"))])
    tab = chromium.new_page()
    complaints = []
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.goto((tmp_path / "out" / "index.html").as_uri() + "#100%")
    tab.click(".its-code")  # what opens code is set up after the address is read
    tab.locator("details.code .listing").wait_for(state="visible")
    tab.evaluate("location.hash = '#99%'")
    tab.evaluate("() => new Promise(requestAnimationFrame)")
    assert complaints == []
    tab.close()


@pytest.mark.browser
def test_tables_sort_by_their_headers(page, tmp_path, chromium):  # noqa: F811
    columns = {
        "word": ["b", "a", "C", "d"],
        "value": ["10 ± 1", "–", "−2", "1,000"],
        "[](#tbl-x)": [1, 2, 3, 4],  # a header with a link stays as it is
    }
    page(a=[code("", table("x", **columns))])
    tab = chromium.new_page()
    tab.goto((tmp_path / "out" / "index.html").as_uri())

    def words():
        return "".join(tab.locator("tbody tr td:first-child").all_inner_texts())

    value = tab.get_by_role("columnheader", name="value")
    orders = [("ascending", "Cbda"), ("descending", "dbCa"), (None, "baCd"), ("ascending", "Cbda")]
    for state, order in orders:
        value.get_by_role("button").press("Enter")
        assert value.get_attribute("aria-sort") == state
        assert words() == order
    tab.get_by_role("button", name="word").click()
    assert value.get_attribute("aria-sort") is None
    assert words() == "abCd"
    assert tab.locator("thead button").count() == 2
    tab.close()


@pytest.mark.browser
def test_the_page_reads_without_scripts(page, tmp_path, chromium):  # noqa: F811
    page(a=[markdown("# First"), code("draw()", figure("x"))])
    context = chromium.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.goto((tmp_path / "out" / "index.html").as_uri())
    assert tab.locator("#fig-x img").is_visible()
    assert tab.locator(".contents a").first.is_visible()
    assert tab.locator("button.theme").is_hidden()
    context.close()


def test_drawings_take_the_pages_colours_and_a_telephone_gets_the_narrow_one(page):
    drawing = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg'%3E{}%3C/svg%3E"
    wide = drawing.format("%3Cpath style='fill: %23ffffff; stroke: %2300456b'/%3E")
    shown = f'<img alt="x" width="700" height="90" src="{wide}" data-narrow="{wide}" '
    shown += 'data-width="370" data-height="95">'
    cell = html(f'<figure id="fig-x">{shown}<figcaption>C.</figcaption></figure>')
    picture = page(a=[markdown("# First"), code("1", cell)]).find(id="fig-x").picture
    assert picture.source["media"] == "(max-width: 40rem)"
    assert (picture.source["width"], picture.img["width"]) == ("370", "700")
    assert " " not in picture.source["srcset"]
    for source in (picture.source["srcset"], picture.img["src"]):
        svg = unquote(source)
        assert "style='fill: var(--cffffff); stroke: var(--c00456b)'" in svg
        light, dark = svg.split("@media (prefers-color-scheme:dark)")
        assert "--cffffff:#ffffff;" in light and "--c000000:#1d1e20;" in light
        assert "--cffffff:#15171a;" in dark and "--c000000:#e3e1dc;" in dark  # paper and ink
        assert "--c00456b:#00456b;" in light  # dark blue, which dark paper would swallow
        assert luminance(re.search("--c00456b:#(.{6})", dark)[1]) > 0.17


def luminance(colour):
    return themed.luminance(bytes.fromhex(colour))
