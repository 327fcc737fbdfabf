"""One zip of a finished report, which is described as an RO-Crate."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from poolae.files import RUN_FILE, replacing
from poolae.paper.cards import template
from poolae.settings import BANDED, Settings, UserError
from poolae.train import runs

ROOT = Path(__file__).parents[2]
PACKED = ("environment.yml", "requirements.lock", "CITATION.cff", "LICENSE")  # of the checkout
CRATE, SUMS = "ro-crate-metadata.json", "SHA256SUMS"
PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
KINDS = {
    ".csv": "text/csv",
    ".html": "text/html",
    ".ipynb": "application/x-ipynb+json",
    ".json": "application/json",
    ".md": "text/markdown",
    ".yml": "application/yaml",
}


def write_archive(
    results: Path, wanted: Sequence[Settings], parameters: Mapping[str, object]
) -> Path:
    """Write `results/archive.zip`: page, notebooks, numbers, provenance, digests.

    Data, predictions and weights stay out. Equal reports give equal bytes.

    Parameters
    ----------
    results
        Folder of a finished report.
    wanted
        The runs that it is about.
    parameters
        What the Makefile was given, by the names of the options.

    Raises
    ------
    UserError
        If there is no report of these runs, or something is newer than the page.
    """
    files, made = gather(results, wanted)
    about = json.loads((ROOT / "codemeta.json").read_text("utf-8"))
    source = str(parameters["data"])
    drawn = source == "synthetic" or source.startswith(BANDED)
    data = source.rstrip("/").rpartition("/")[2]  # of a folder its name, not where it lies
    given = {key.upper(): _worded(value) for key, value in {**parameters, "data": data}.items()}
    command = " ".join(f'{key}="{value}"' for key, value in given.items())
    texts = {
        "name": f"{about['name']} ({results.name})",
        "made": f"Made by `make report {command}` and finished on {made['end'][:10]}.",
    }
    readme = template("archive").make_module({**texts, "drawn": drawn, "data": data})
    files["README.md"] = str(readme).encode()
    for name in PACKED:
        files[f"provenance/{name}"] = (ROOT / name).read_bytes()
    crate = json.dumps(
        describe(files, about, given, {**made, **texts, "pictures": readme.pictures.strip()}),
        indent=1,
    )
    files[CRATE] = crate.encode()
    sums = [f"{_digest(content)}  {name}\n" for name, content in sorted(files.items())]
    files[SUMS] = "".join(sums).encode()
    target = results / "archive.zip"
    with (
        replacing(target) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name, content in sorted(files.items()):
            entry = zipfile.ZipInfo(name)  # of 1980, whenever it is packed
            entry.compress_type, entry.create_system = zipfile.ZIP_DEFLATED, 3
            entry.external_attr = 0o100644 << 16
            packed.writestr(entry, content)
    return target


def gather(
    results: Path, wanted: Sequence[Settings]
) -> tuple[dict[str, bytes], dict[str, str | list[str]]]:
    """Return what a report consists of, by its name in the archive, and when and of what commit.

    Raises
    ------
    UserError
        As `write_archive`.
    """
    page, first = (
        results / "report.html",
        "run `make report` first, with the variables of this command.",
    )
    if not page.exists():
        raise UserError(f"{page} does not exist: {first}")
    found = runs.find(results, wanted)
    inputs = results / "inputs.json"  # of the last `make report` here
    trained = json.loads(inputs.read_text())
    source = wanted[0].data
    if (trained["data"], trained["runs"]) != (source, [run.name for run in found]):
        raise UserError(f"{page} is of other runs or data than these: {first}")
    notebooks = [results / f"{name}.ipynb" for name in ("01_data", "03_evaluate", "04_samples")]
    notebooks += [run.folder / "02_train.ipynb" for run in found]
    paths = [inputs, *notebooks, *(run.folder / RUN_FILE for run in found)]
    for path in paths:
        if not path.exists():
            raise UserError(f"{path} does not exist: {first}")
        if path.stat().st_mtime > page.stat().st_mtime:
            raise UserError(f"{path} is newer than {page}: remove {results}/*.ipynb, then {first}")
    paths += [page, *(run.path(name) for run in found for name in ("losses.csv", "scores.csv"))]
    splits = {run.settings.split for run in found}
    scores = [results / "baselines" / f"split{split}.csv" for split in splits]
    paths += [path for path in scores if path.exists()]
    files = {path.relative_to(results).as_posix(): path.read_bytes() for path in paths}
    second = "report-photograph.html"  # where networks are large, the page links to it
    if second.encode() in files[page.name]:
        files[second] = (results / second).read_bytes()
    abouts = {path: json.loads(path.read_bytes())["metadata"] for path in notebooks}
    commits = {path: about["poolae"]["commit"] for path, about in abouts.items()}
    commits |= {run.folder / RUN_FILE: run.about["commit"] for run in found}
    rows = [f"{path.relative_to(results).as_posix()},{commit}" for path, commit in commits.items()]
    files["provenance/commits.csv"] = "\n".join(["file,commit", *sorted(rows), ""]).encode()
    times = [about["papermill"] for about in abouts.values()]
    return files, {
        "start": _to_the_second(min(time["start_time"] for time in times)),
        "end": _to_the_second(max(time["end_time"] for time in times)),
        "commits": sorted(set(commits.values())),
    }


def describe(
    files: Mapping[str, bytes], about: Mapping, given: Mapping[str, str], made: Mapping
) -> dict:
    """Return the metadata of an RO-Crate 1.1: a Process Run Crate whose action is `make report`.

    Parameters
    ----------
    files
        All but the metadata itself and the digests.
    about
        codemeta.json.
    given
        The Makefile's variables.
    made
        `name`, `pictures`, `start`, `end`, `commits`.
    """
    (author,) = about["author"]
    of_make = [name for name in files if name != "README.md" and not name.startswith("provenance/")]
    variables = {
        f"#{name}": {"@type": "PropertyValue", "name": name, "value": value}
        for name, value in given.items()
    }
    described = {
        CRATE: {
            "@type": "CreativeWork",
            "conformsTo": _link("https://w3id.org/ro/crate/1.1"),
            "about": _link("./"),
        },
        "./": {
            "@type": "Dataset",
            "conformsTo": _link(PROFILE),
            "name": made["name"],
            "description": f"{about['description']} {made['pictures']}",
            "datePublished": made["end"][:10],
            "license": _link(about["license"]),
            "author": _link("#authors"),
            "keywords": ", ".join(about["keywords"]),
            "hasPart": [_link(name) for name in sorted([*files, SUMS])],
            "mentions": _link("#make-report"),
        },
        PROFILE: {"@type": "CreativeWork", "name": "Process Run Crate", "version": "0.5"},
        "#authors": {"@type": author["type"], "name": author["name"]},
        about["license"]: {
            "@type": "CreativeWork",
            "name": about["license"].rpartition("/")[2],
            "description": "The licence of code, text and numbers.",
        },
        "#poolae": {
            "@type": "SoftwareApplication",
            "name": "poolae",
            "softwareVersion": f"{about['version']}, commit {', '.join(made['commits'])}",
        },
        "#make-report": {
            "@type": "CreateAction",
            "name": "make report",
            "description": made["made"],
            "instrument": _link("#poolae"),
            "startTime": made["start"],
            "endTime": made["end"],
            "object": [_link(name) for name in variables],
            "result": [_link(name) for name in sorted(of_make)],
        },
        **variables,
        **{name: _file(name, content) for name, content in sorted(files.items())},
        SUMS: {"@type": "File", "name": SUMS, "encodingFormat": "text/plain"},
    }
    return {
        # RO-Crate 1.1 is older than this term of schema.org.
        "@context": [
            "https://w3id.org/ro/crate/1.1/context",
            {"sha256": "http://schema.org/sha256"},
        ],
        "@graph": [{"@id": name, **entity} for name, entity in described.items()],
    }


def _file(name: str, content: bytes) -> dict:
    return {
        "@type": "File",
        "name": name.rpartition("/")[2],
        "encodingFormat": KINDS.get(Path(name).suffix, "text/plain"),
        "contentSize": str(len(content)),
        "sha256": _digest(content),
    }


def _link(name: str) -> dict[str, str]:
    return {"@id": name}


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _to_the_second(time: str) -> str:
    return datetime.fromisoformat(time).isoformat(timespec="seconds")


def _worded(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
