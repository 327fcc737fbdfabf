"""The archive of a report: what goes in, what stays out, and what is refused."""

import hashlib
import json
import os
import shlex
import subprocess
import time
import zipfile
from pathlib import Path

import nbformat
import pytest
from processes import needs_make
from test_make import HIDDEN
from tools_of_others import tool

from poolae.__main__ import main
from poolae.paper.archive import write_archive
from poolae.settings import UserError, make_settings
from poolae.train.provenance import seal

ROOT = Path(__file__).parents[1]
LARGE = ("predictions.npy", "weights.safetensors")
CONTEXT = "https://w3id.org/ro/crate/1.1/context"


def settings_of(data="synthetic", depths=(0, 1)):
    return [make_settings(depth, data=data, profile="smoke") for depth in depths]


def executed(path, minute, commit):
    notebook = nbformat.v4.new_notebook(
        metadata={
            "papermill": {
                "start_time": f"2020-05-04T10:{minute:02}:00.123456+00:00",
                "end_time": f"2020-05-04T10:{minute + 1:02}:00.123456+00:00",
            },
            "poolae": {"commit": commit},
        }
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)


@pytest.fixture
def finished(tmp_path):
    """Write what `make report` leaves behind, a page last; return the folder."""

    def write(data="synthetic", name="results"):
        results, made = tmp_path / name, settings_of(data)
        for k, settings in enumerate(made):
            folder = results / "runs" / settings.name
            executed(folder / "02_train.ipynb", k, "aaaaaaaaaa")
            files = {"losses.csv": "step,loss\n1,0.5\n", "scores.csv": f"image,a\nx,{k}\n"}
            for file, text in {**files, **dict.fromkeys(LARGE, "large")}.items():
                (folder / file).write_text(text)
            about = {"settings": settings.asdict(), "commit": "bbbbbbbbbb"}
            seal(folder, about, *files, *LARGE)
        for k, chapter in enumerate(("01_data", "03_evaluate", "04_samples")):
            executed(results / f"{chapter}.ipynb", 10 + k, "cccccccccc")
        (results / "baselines").mkdir()
        for split in (0, 7):
            (results / "baselines" / f"split{split}.csv").write_text("# key\nimage,a\n")
        noted = {"data": data, "runs": [settings.name for settings in made]}
        (results / "inputs.json").write_text(json.dumps(noted))
        (results / "report.html").write_text("<p>page</p>")
        return results

    return write


def pack(results, data="synthetic", depths=(0, 1), **others):
    parameters = {"data": data, "profile": "smoke", "depths": list(depths), "seeds": [0], **others}
    return write_archive(results, settings_of(data, depths), parameters)


def contents(path):
    with zipfile.ZipFile(path) as packed:
        assert packed.testzip() is None
        return {name: packed.read(name) for name in packed.namelist()}


def entities(packed):
    graph = json.loads(packed["ro-crate-metadata.json"])["@graph"]
    assert len({entity["@id"] for entity in graph}) == len(graph)
    return {entity["@id"]: entity for entity in graph}


def test_page_notebooks_numbers_and_provenance_go_in_and_nothing_else(finished):
    results = finished()
    packed = contents(pack(results))
    names = {"report.html", "inputs.json", "baselines/split0.csv"}
    names |= {f"{chapter}.ipynb" for chapter in ("01_data", "03_evaluate", "04_samples")}
    for run in ("pool0-seed0", "pool1-seed0"):
        for file in ("02_train.ipynb", "run.json", "losses.csv", "scores.csv"):
            names.add(f"runs/{run}/{file}")
    for name in names:
        assert packed[name] == (results / name).read_bytes(), name
    provenance = {"environment.yml", "requirements.lock", "CITATION.cff", "LICENSE"}
    for name in provenance:
        assert packed[f"provenance/{name}"] == (ROOT / name).read_bytes(), name
    names |= {f"provenance/{name}" for name in (*provenance, "commits.csv")}
    assert packed.keys() == names | {"README.md", "SHA256SUMS", "ro-crate-metadata.json"}
    commits = packed["provenance/commits.csv"].decode().splitlines()
    assert commits[0] == "file,commit" and len(commits) == 8
    assert "runs/pool1-seed0/run.json,bbbbbbbbbb" in commits
    assert "03_evaluate.ipynb,cccccccccc" in commits


def test_digests_are_those_of_the_files(finished):
    packed = contents(pack(finished()))
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in packed.items()}
    lines = packed["SHA256SUMS"].decode().splitlines()
    assert {line[66:]: line[:64] for line in lines} == {
        name: digest for name, digest in digests.items() if name != "SHA256SUMS"
    }
    files = {key: one for key, one in entities(packed).items() if one["@type"] == "File"}
    assert files.keys() == packed.keys() - {"ro-crate-metadata.json"}
    for name in files.keys() - {"SHA256SUMS"}:
        said = files[name]["sha256"], files[name]["contentSize"]
        assert said == (digests[name], str(len(packed[name])))


def test_equal_reports_give_equal_bytes(finished):
    results = finished()
    first = pack(results).read_bytes()
    later = time.time() - 1000
    for path in results.rglob("*"):
        os.utime(path, (later, later))
    assert pack(results).read_bytes() == first
    (results / "report.html").write_text("<p>another</p>")
    assert pack(results).read_bytes() != first


def test_the_crate_says_how_the_report_was_made(finished):
    packed = contents(pack(finished(), recipe="corrected", others=""))
    described = entities(packed)
    root, action = described["./"], described["#make-report"]
    assert root["datePublished"] == "2020-05-04"
    assert {part["@id"] for part in root["hasPart"]} == packed.keys() - {"ro-crate-metadata.json"}
    assert action["startTime"] == "2020-05-04T10:00:00+00:00"
    assert action["endTime"] == "2020-05-04T10:13:00+00:00"
    given = [described[one["@id"]] for one in action["object"]]
    assert {one["name"]: one["value"] for one in given} == {
        "DATA": "synthetic", "PROFILE": "smoke", "DEPTHS": "0 1", "SEEDS": "0",
        "RECIPE": "corrected", "OTHERS": "",
    }  # fmt: skip
    results = {one["@id"] for one in action["result"]}
    assert "report.html" in results and not any("provenance" in name for name in results)
    version = described["#poolae"]["softwareVersion"]
    assert version.endswith("commit aaaaaaaaaa, bbbbbbbbbb, cccccccccc")

    def links(value):
        if isinstance(value, dict):
            yield from [value["@id"]] if value.keys() == {"@id"} else links(list(value.values()))
        elif isinstance(value, list):
            for one in value:
                yield from links(one)

    known = described.keys() | {"https://w3id.org/ro/crate/1.1"}
    assert set(links([list(one.values()) for one in described.values()])) <= known


def test_who_passes_photographs_on_is_warned_and_their_folder_is_not_named(finished):
    drawn = contents(pack(finished(), "synthetic"))
    assert "licence does not cover" not in drawn["README.md"].decode()
    data = "/home/someone/garden/"
    packed = contents(pack(finished(data, "garden"), data))
    for said in (packed["README.md"].decode(), entities(packed)["./"]["description"]):
        text = " ".join(said.split())
        assert "(garden) are not in this archive, but" in text
        assert "which its licence does not cover" in text
    for name in ("README.md", "ro-crate-metadata.json"):
        assert b"someone" not in packed[name]
    alike = "/home/someone/synthetic"
    packed = contents(pack(finished(alike, "alike"), alike))
    assert "licence does not cover" in packed["README.md"].decode()


def test_the_page_of_large_networks_goes_in_where_the_report_links_to_it(finished):
    results = finished()
    (results / "report-photograph.html").write_text("of an earlier report")
    assert "report-photograph.html" not in contents(pack(results))
    (results / "report.html").write_text('<a href="report-photograph.html">')
    assert "report-photograph.html" in contents(pack(results))


@pytest.mark.fault("`make archive` without a finished report", "one sentence: run `make report`")
@pytest.mark.parametrize(
    "missing", ["report.html", "03_evaluate.ipynb", "runs/pool1-seed0/02_train.ipynb"]
)
def test_what_is_not_finished_is_not_packed(finished, missing, capsys):
    results = finished()
    (results / missing).unlink()
    options = ["--profile", "smoke", "--depths", "0 1", "--results", str(results)]
    assert main(["archive", *options]) == 2
    (sentence,) = capsys.readouterr().err.splitlines()
    assert f"{missing} does not exist: run `make report` first" in sentence
    assert not (results / "archive.zip").exists()


def test_a_report_of_other_runs_is_not_packed(finished):
    results = finished()
    with pytest.raises(UserError, match=r"is of other runs or data than these: run `make report`"):
        pack(results, depths=[0])
    with pytest.raises(UserError, match=r"pool2-seed0 is not in .*`make report`"):
        pack(results, depths=[0, 1, 2])
    with pytest.raises(UserError, match="is of other runs or data"):
        pack(results, "elsewhere/results")


@pytest.mark.parametrize("newer", ["03_evaluate.ipynb", "runs/pool0-seed0/run.json"])
def test_a_page_older_than_what_it_shows_is_not_packed(finished, newer):
    results = finished()
    later = time.time() + 10
    os.utime(results / newer, (later, later))
    with pytest.raises(UserError, match=rf"{newer} is newer than .*report.html: remove .*\.ipynb"):
        pack(results)


def test_scores_that_were_touched_are_not_packed(finished):
    results = finished()
    (results / "runs" / "pool0-seed0" / "scores.csv").write_text("image,a\nx,better\n")
    with pytest.raises(UserError, match=r"scores\.csv is not what was written"):
        pack(results)


@needs_make
def test_make_archive_builds_nothing(finished, capsys):
    environment = {k: v for k, v in os.environ.items() if not k.startswith(HIDDEN)}
    command = ["make", "-n", "archive", "PROFILE=smoke", "DEPTHS=0 1"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    commands = [line for line in done.stdout.splitlines() if " poolae " in line]
    (line,) = commands
    arguments = shlex.split(line)
    options = arguments[arguments.index("archive") :]
    results = finished()
    options[options.index("--results") + 1] = str(results)
    assert main(options) == 0
    assert capsys.readouterr().out == f"{results}/archive.zip\n"


# Gives the validator's cache the context that RO-Crate's own library brings along, so that
# nothing is asked of w3id.org, which a machine that reaches a package index may not reach.
SEED = """
import io, pkgutil, sys
import requests_cache, urllib3
from requests.adapters import HTTPAdapter

class Bundled(HTTPAdapter):
    def send(self, request, **options):
        body = io.BytesIO(pkgutil.get_data("rocrate", "data/ro-crate.jsonld"))
        kind = {"Content-Type": "application/ld+json"}
        answer = urllib3.HTTPResponse(body, kind, 200, preload_content=False)
        return self.build_response(request, answer)

session = requests_cache.CachedSession(sys.argv[1], backend="sqlite", expire_after=-1)
session.mount("https://", Bundled())
session.get(sys.argv[2])
"""


@pytest.mark.slow
def test_the_validator_of_ro_crates_takes_the_archive_for_a_process_run_crate(finished, tmp_path):
    run = tool(tmp_path, "roc-validator==0.13.0", "rocrate==0.16.0")
    cache = str(tmp_path / "cache")
    run("python", "-c", SEED, cache, CONTEXT)
    options = ["validate", "--verbose", "--no-paging", "--offline", "--cache-path", cache]
    options += ["--profile-identifier", "process-run-crate-0.5"]
    archive = pack(finished())
    assert "is a valid process-run-crate-0.5" in run("rocrate-validator", *options, str(archive))
    packed = contents(archive)
    broken = json.loads(packed["ro-crate-metadata.json"])
    for entity in broken["@graph"]:
        entity.pop("instrument", None)
    folder = tmp_path / "broken"
    with zipfile.ZipFile(archive) as whole:
        whole.extractall(folder)
    (folder / "ro-crate-metadata.json").write_text(json.dumps(broken))
    (folder / "report.html").unlink()
    said = " ".join(run("rocrate-validator", *options, str(folder), fails=True).split())
    assert "MUST have an instrument" in said and "report.html" in said
