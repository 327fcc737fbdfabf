"""The command line behind the Makefile: `python -m poolae --help`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import click

from poolae.building import check_shared, claim, mark_shared, remove_leftovers
from poolae.files import build_folder, cannot_write, replacing
from poolae.machine import own_cores
from poolae.settings import PROFILES, UserError, from_name, make_settings


def numbers(text: str) -> list[int]:
    """Read whole numbers separated by spaces."""
    try:
        return [int(word) for word in text.split()]
    except ValueError:
        sentence = f"{text!r}: give whole numbers separated by spaces, as in '0 1 2'"
        raise click.BadParameter(sentence) from None


def chosen(command):
    """Give a command the options that say which runs it is about."""
    words = dict(data="synthetic", profile="quick", recipe="corrected", precision="auto", others="")
    for name, default in {"depths": "0 1 2 3", "seeds": "0", **words}.items():
        kind = numbers if name in ("depths", "seeds") else str
        command = click.option(f"--{name}", type=kind, default=default)(command)
    return click.option("--results", type=Path, required=True)(command)


def runs_of(which: dict) -> list:
    """Return the settings of the runs that these options choose."""
    from poolae.train import runs

    bundle = {key: which[key] for key in ("recipe", "data", "profile", "precision")}
    return runs.choose(which["depths"], which["seeds"], which["others"].split(), **bundle)


@click.group(help=__doc__)
def cli() -> None:
    pass


@cli.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("--results", type=Path, required=True)
@click.argument("make", nargs=-1, type=click.UNPROCESSED)
def alone(results, make) -> None:
    """Become the make that follows, once no other builds these results."""
    claim(results)
    remove_leftovers(build_folder())
    os.execvp(make[0], make)


@cli.command()
@chosen
@click.option("--shared", is_flag=True, help="leave a word for `execute`")
def prepare(shared, **which) -> None:
    """Check the parameters, decode the data, and note both in inputs.json if they changed."""
    if not which["depths"] or not which["seeds"]:
        make_settings(profile=which["profile"])  # an unknown profile has no seeds of its own
        raise UserError('DEPTHS and SEEDS each need at least one number, as in DEPTHS="0 1".')
    made = runs_of(which)
    if shared:
        mark_shared(which["results"])
    from poolae import data

    source = which["data"]
    images = data.load_for(made[0]).images
    for settings in {(s.data, s.size, s.images, s.colour_profiles): s for s in made}.values():
        data.load_for(settings)  # so that runs at once do not all decode
    noted = {
        "data": source,
        "key": images.key,
        "images": len(images),
        "excluded": len(images.excluded),
        "profile": {which["profile"]: PROFILES[which["profile"]]},
        "runs": [settings.name for settings in made],
    }
    text = json.dumps(noted, indent=1, ensure_ascii=True)
    path = which["results"] / "inputs.json"
    if path.exists() and path.read_text() == text:
        return
    with replacing(path) as temporary:
        temporary.write_text(text)
    left_out = f", {len(images.excluded)} left out" if images.excluded else ""
    print(f"{source}: {len(images)} images{left_out}; {len(made)} runs", flush=True)


@cli.command()
@chosen
@click.option("--seen", help="the word that `prepare` left in the results")
@click.option("--run", help="name of the run to train")
@click.option("--timeout", type=int, help="seconds that a cell may take")
@click.option("-p", "parameters", nargs=2, multiple=True)
@click.argument("notebook", type=Path)
@click.argument("output", type=Path)
def execute(notebook, output, seen, run, timeout, parameters, **which) -> None:
    """Execute a notebook with papermill; write the output only if every cell ran."""
    from poolae.paper.page.execute import execute_notebook

    if seen is not None:
        check_shared(which["results"], seen)
    given = which | {"results": str(which["results"]), "others": which["others"].split()}
    if run:
        settings = from_name(run, which["data"], which["profile"], which["precision"])
        given |= settings.asdict()
    for name, value in parameters:
        try:
            given[name] = json.loads(value)
        except json.JSONDecodeError:
            given[name] = value
    execute_notebook(notebook, output, given, required=dict(parameters), timeout=timeout)


@cli.command()
@click.argument("run")
@click.option("--data", default="synthetic")
@click.option("--profile", default="quick")
@click.option("--precision", default="auto")
@click.option("--results", type=Path, help="default: build/<data>-<profile>")
def train(run, data, profile, precision, results) -> None:
    """Train one run, in as many processes as torchrun starts: `torchrun -m poolae train`."""
    from poolae import data as images_of
    from poolae.train import parallel, runs

    with parallel.together():
        settings = from_name(run, data, profile, precision)
        with parallel.first_ahead():  # it decodes for all
            images_of.load_for(settings)
        runs.train(settings, results or runs.results_folder(data, profile))


@cli.command()
@click.argument("run")
@click.argument("files", nargs=-1, required=True)
@click.option("--out", required=True, help="folder for the coloured pictures")
@click.option("--force", is_flag=True, help="replace pictures that are there")
@click.option("--data", default="synthetic")
@click.option("--profile", default="quick")
@click.option("--results", type=Path, help="default: build/<data>-<profile>")
def colourise(run, files, out, force, data, profile, results) -> None:
    """Write pictures, files or all in a folder, in the colours of a run such as record/pool1."""
    from poolae.train import colouring, runs

    found = runs.load(run, results or runs.results_folder(data, profile))
    written, left_out = colouring.colourise_files(found, files, out, force)
    for sentence in left_out:
        click.echo(f"left out: {sentence}", err=True)
    if not written:
        raise UserError("No picture was coloured: give files or folders of pictures.")
    print(f"{len(written)} coloured in {out}, {len(left_out)} left out", flush=True)


@cli.command()
@chosen
def report(**which) -> None:
    """Render the executed notebooks of one results folder as report.html."""
    from poolae.paper.page.report import render_report

    render_report(which["results"], runs_of(which))


@cli.command()
@chosen
def archive(results, **which) -> None:
    """Pack a finished report, its numbers and its provenance as archive.zip."""
    from poolae.paper.archive import write_archive

    print(write_archive(results, runs_of(which), which))


@cli.command()
@chosen
def record(**which) -> None:
    """Train what is not on record yet and add its numbers to figures/, run by run."""
    from poolae import data
    from poolae.paper import recording

    wanted = runs_of(which)
    images = data.load_for(wanted[0]).images
    name = "daisies" if images.is_daisies else Path(which["data"]).name
    jobs = int(os.environ.get("JOBS") or 1)
    for path in recording.add_missing(which["results"], wanted, name, jobs):
        print(path)
    if images.is_daisies:
        print(recording.describe_daisies(which["data"]))


@cli.command()
def figures() -> None:
    """Redraw figures/ from the numbers committed there."""
    from poolae.paper.record import draw_figures

    for path in draw_figures():
        print(path)


@cli.command()
@click.option("--record", "store", is_flag=True, help="store instead of comparing")
@click.option("--data", default="synthetic", help="the photographs, to score the networks on")
def verify(store, data) -> None:
    """Train the networks of verify.csv again; fail when a number differs."""
    from pandas import concat

    from poolae.paper import verify

    if store:
        print(verify.write_record())
        return
    compared = verify.verify()
    if data != "synthetic":
        compared = concat([compared, verify.verify_networks(data)])
    print(compared.to_string(index=False))
    if len(differing := compared[~compared["same"]]):
        named = ", ".join(differing["run"] + " " + differing["metric"])
        raise UserError(
            f"{len(differing)} of {len(compared)} numbers differ from those of record by more "
            f"than their tolerance ({named}): the code, the packages or the record have changed."
        )


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return its exit code. A `UserError` is printed as its one sentence."""
    if sys.platform == "win32":
        print("poolae: Windows is not supported: install WSL and run it there.", file=sys.stderr)
        return 2
    # OpenMP takes every core by itself, and its threads wait for one another at work: beside a
    # training, two of them fitted the boosted regression of `quick` in 117 s, one takes 8 s.
    os.environ.setdefault("OMP_NUM_THREADS", str(own_cores()))
    try:
        return cli.main(arguments, prog_name="python -m poolae", standalone_mode=False) or 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (UserError, OSError) as error:
        sentence = error
        if isinstance(error, FileNotFoundError):
            sentence = f"{error.filename} is missing: restore it, then run the same command again."
        elif isinstance(error, OSError):
            sentence = cannot_write(error.filename or ".", error)
        print(f"poolae: {sentence}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, click.Abort):
        print("poolae: interrupted; the same command goes on from here.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
