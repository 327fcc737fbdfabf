"""How the study is cited: files for people and machines that say the same."""

import json
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from tools_of_others import tool

ROOT = Path(__file__).parents[1]


def words(text):
    """Return a text without its line breaks."""
    return " ".join(text.split())


@pytest.fixture(scope="module")
def said():
    """What each file says, by its name."""
    files = {name: (ROOT / name).read_text("utf-8") for name in ("CITATION.cff", "metadata.yaml")}
    said = {name: yaml.safe_load(text) for name, text in files.items()}
    for name in ("codemeta.json", ".zenodo.json"):
        said[name] = json.loads((ROOT / name).read_text("utf-8"))
    said["pyproject.toml"] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    return said


def test_versions_and_dates_agree(said):
    names = ("CITATION.cff", "codemeta.json", ".zenodo.json")
    versions = {name: said[name]["version"] for name in names}
    assert versions == dict.fromkeys(names, said["pyproject.toml"]["project"]["version"])
    cff, codemeta, zenodo = (said[name] for name in names)
    day = cff["date-released"].isoformat()
    assert (
        day == codemeta["datePublished"] == codemeta["dateModified"] == zenodo["publication_date"]
    )


def test_titles_abstracts_keywords_and_licences_agree(said):
    cff, codemeta, zenodo, rescience = (
        said[name] for name in ("CITATION.cff", "codemeta.json", ".zenodo.json", "metadata.yaml")
    )
    assert cff["title"] == codemeta["name"] == zenodo["title"] == rescience["title"]
    abstract = words(cff["abstract"])
    assert abstract == codemeta["description"] == zenodo["description"]
    assert abstract == words(rescience["abstract"])
    keywords = cff["keywords"]
    assert keywords == codemeta["keywords"] == zenodo["keywords"]
    assert keywords == rescience["keywords"].split(", ")
    licence = said["pyproject.toml"]["project"]["license"]
    assert licence == cff["license"] == zenodo["license"]
    assert codemeta["license"] == f"https://spdx.org/licenses/{licence}"
    assert (ROOT / "LICENSE").read_text().startswith(f"{licence} License")


def test_the_authors_are_no_invented_persons(said):
    lists = [
        said["CITATION.cff"]["authors"],
        said["codemeta.json"]["author"],
        said[".zenodo.json"]["creators"],
        said["metadata.yaml"]["authors"],
    ]
    holder = re.search(r"Copyright \(c\) \d+ (.+)", (ROOT / "LICENSE").read_text())[1]
    assert [[author["name"] for author in authors] for authors in lists] == [[holder]] * 4


def test_all_name_the_original_and_its_photographs(said):
    references = ROOT / "poolae" / "paper" / "reference" / "citations.toml"
    works = tomllib.loads(references.read_text("utf-8"))
    original, photographs = works["original2020"], works["mamaev"]
    for name in ("CITATION.cff", "codemeta.json", ".zenodo.json", "metadata.yaml"):
        text = (ROOT / name).read_text("utf-8")
        assert original["url"] in text and photographs["url"] in text, name
    cited = said["CITATION.cff"]["references"][0]
    (author,) = cited["authors"]
    assert f"{author['given-names']} {author['family-names']}" == original["authors"]
    assert (cited["title"], cited["year"]) == (original["title"], original["year"])
    (sentence,) = (one["cite"] for one in said["metadata.yaml"]["replication"] if "cite" in one)
    for part in (original["authors"], original["title"], str(original["year"])):
        assert part in sentence


def test_the_python_of_codemeta_is_the_one_required(said):
    least = said["pyproject.toml"]["project"]["requires-python"].removeprefix(">=")
    assert said["codemeta.json"]["runtimePlatform"] == f"Python {least} or newer"


@pytest.mark.slow
def test_cffconvert_takes_the_citation_for_valid_and_reads_in_it_what_the_others_say(
    said, tmp_path
):
    run = tool(tmp_path, "cffconvert==2.0.0")
    path = str(ROOT / "CITATION.cff")
    assert "are valid according to schema version 1.2.0" in run(
        "cffconvert", "--validate", "-i", path
    )
    zenodo = json.loads(run("cffconvert", "-f", "zenodo", "-i", path))
    codemeta = json.loads(run("cffconvert", "-f", "codemeta", "-i", path))
    for key in ("title", "version", "publication_date", "keywords", "creators"):
        assert zenodo[key] == said[".zenodo.json"][key], key
    for key in ("name", "version", "datePublished", "keywords", "license"):
        assert codemeta[key] == said["codemeta.json"][key], key
    broken = tmp_path / "broken.cff"
    broken.write_text((ROOT / "CITATION.cff").read_text("utf-8").replace("title:", "titel:", 1))
    run("cffconvert", "--validate", "-i", str(broken), fails=True)
