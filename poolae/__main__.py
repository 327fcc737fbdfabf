"""The command line behind the Makefile: `python -m poolae --help`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from poolae.building import check_shared, claim, mark_shared, remove_leftovers
from poolae.files import build_folder, cannot_write, replacing
from poolae.settings import PROFILES, UserError, from_name, make_settings


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return its exit code. A `UserError` is printed as its one sentence."""
    parser = argparse.ArgumentParser(prog="python -m poolae", description=__doc__)
    commands = parser.add_subparsers(required=True)
    choice = argparse.ArgumentParser(add_help=False)
    choice.add_argument("--data", default="synthetic")
    choice.add_argument("--profile", default="quick")
    choice.add_argument("--recipe", default="corrected")
    choice.add_argument("--precision", default="auto")
    choice.add_argument("--results", type=Path, required=True)
    choice.add_argument("--depths", type=_numbers, default=[0, 1, 2, 3])
    choice.add_argument("--seeds", type=_numbers, default=[0])
    choice.add_argument("--others", type=str.split, default=[])
    for command in (alone, prepare, execute, train, report, record, figures, verify):
        parents = [] if command in (train, figures, verify) else [choice]
        sub = commands.add_parser(command.__name__, parents=parents, help=command.__doc__)
        sub.set_defaults(command=command)
        if command is alone:
            sub.add_argument("make", nargs=argparse.REMAINDER)
        if command is prepare:
            sub.add_argument("--shared", action="store_true", help="leave a word for `execute`")
        if command is execute:
            sub.add_argument("--seen", help="the word that `prepare` left in the results")
            sub.add_argument("notebook", type=Path)
            sub.add_argument("output", type=Path)
            sub.add_argument("--run", help="name of the run to train")
            sub.add_argument("--timeout", type=int, help="seconds that a cell may take")
            sub.add_argument("-p", nargs=2, action="append", default=[], dest="parameters")
        if command is train:
            sub.add_argument("run", help="its name, such as pool1-seed0")
            sub.add_argument("--data", default="synthetic")
            sub.add_argument("--profile", default="quick")
            sub.add_argument("--precision", default="auto")
            sub.add_argument("--results", type=Path, help="default: build/<data>-<profile>")
        if command is verify:
            sub.add_argument("--record", action="store_true", help="store instead of comparing")
    options = parser.parse_args(arguments)
    try:
        options.command(options)
    except UserError as error:
        print(f"poolae: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"poolae: {cannot_write(error.filename or '.', error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("poolae: interrupted; the same command goes on from here.", file=sys.stderr)
        return 130
    return 0


def alone(options) -> None:
    """Become the make that follows, once no other builds these results."""
    claim(options.results)
    remove_leftovers(build_folder())
    os.execvp(options.make[0], options.make)


def prepare(options) -> None:
    """Check the parameters, decode the data, and note both in inputs.json if they changed."""
    if not options.depths or not options.seeds:
        make_settings(profile=options.profile)  # an unknown profile has no seeds of its own
        raise UserError('DEPTHS and SEEDS each need at least one number, as in DEPTHS="0 1".')
    made = _chosen(options)
    if options.shared:
        mark_shared(options.results)
    from poolae import data

    images = data.open_images(options.data, made[0].size, made[0].images)
    for source, size, n in {(s.data, s.size, s.images) for s in made}:
        data.open_images(source, size, n)  # so that runs at once do not all decode
    noted = {
        "data": options.data,
        "key": images.key,
        "images": len(images),
        "excluded": len(images.excluded),
        "profile": {options.profile: PROFILES[options.profile]},
        "runs": [settings.name for settings in made],
    }
    text = json.dumps(noted, indent=1, ensure_ascii=True)
    path = options.results / "inputs.json"
    if path.exists() and path.read_text() == text:
        return
    with replacing(path) as temporary:
        temporary.write_text(text)
    left_out = f", {len(images.excluded)} left out" if images.excluded else ""
    print(f"{options.data}: {len(images)} images{left_out}; {len(made)} runs", flush=True)


def execute(options) -> None:
    """Execute a notebook with papermill; write the output only if every cell ran."""
    from poolae.paper.page.execute import execute_notebook

    if options.seen is not None:
        check_shared(options.results, options.seen)
    given = {
        "data": options.data,
        "profile": options.profile,
        "recipe": options.recipe,
        "precision": options.precision,
        "results": str(options.results),
        "depths": options.depths,
        "seeds": options.seeds,
        "others": options.others,
    }
    if options.run:
        settings = from_name(options.run, options.data, options.profile).asdict()
        which = ("pool_depth", "seed", "recipe", "profile", "data")
        given |= {
            key: settings[key] for key in (*which, "family", "pooling", "bottleneck", "split")
        }
    for name, value in options.parameters:
        try:
            given[name] = json.loads(value)
        except json.JSONDecodeError:
            given[name] = value
    execute_notebook(
        options.notebook,
        options.output,
        given,
        required=dict(options.parameters),
        timeout=options.timeout,
    )


def train(options) -> None:
    """Train one run, in as many processes as torchrun starts: `torchrun -m poolae train`."""
    from poolae.train import parallel, runs

    with parallel.together():
        settings = from_name(options.run, options.data, options.profile, options.precision)
        results = options.results or runs.results_folder(options.data, options.profile)
        runs.train_together(settings, results)


def report(options) -> None:
    """Render the executed notebooks of one results folder as report.html."""
    from poolae.paper.page.report import render_report

    render_report(options.results, _chosen(options))


def record(options) -> None:
    """Commit the numbers of finished runs: figures/results.csv, and the daisies' description."""
    from poolae import data
    from poolae.paper import record

    settings = make_settings(0, 0, options.recipe, options.data, options.profile)
    images = data.open_images(settings.data, settings.size, settings.images)
    name = "daisies" if images.is_daisies else Path(options.data).name
    for path in record.write_results(options.results, _chosen(options), name):
        print(path)
    if images.is_daisies:
        print(record.describe_daisies(options.data))


def figures(options) -> None:
    """Redraw figures/ from the numbers committed there."""
    from poolae.paper.record import draw_figures

    for path in draw_figures():
        print(path)


def verify(options) -> None:
    """Train the networks of verify.csv again; fail when a number differs."""
    from poolae.paper import verify

    if options.record:
        print(verify.write_record())
        return
    compared = verify.verify()
    print(compared.to_string(index=False))
    if len(differing := compared[~compared["same"]]):
        named = ", ".join(differing["run"] + " " + differing["metric"])
        raise UserError(
            f"{len(differing)} of {len(compared)} numbers differ from {verify.RECORD.name} by more "
            f"than their tolerance ({named}): the code, the packages or the record have changed."
        )


def _chosen(options) -> list:
    from poolae.train import runs

    return runs.choose(
        options.depths,
        options.seeds,
        options.others,
        recipe=options.recipe,
        data=options.data,
        profile=options.profile,
        precision=options.precision,
    )


def _numbers(text: str) -> list[int]:
    try:
        return [int(word) for word in text.split()]
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r}: give whole numbers separated by spaces, as in '0 1 2'"
        ) from None


if __name__ == "__main__":
    sys.exit(main())
