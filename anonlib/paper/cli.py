"""`python -m anonlib.paper.cli`: figures, explain, verify, fetch, anonymize, data, models, clean."""

import argparse
import shutil
import sys
from collections.abc import Callable
from typing import NoReturn

from anonlib import assets, config
from anonlib.config.errors import AnonlibError
from anonlib.config.paths import DEFAULT_DATASET, DEFAULT_PROFILE, cache_root, dataset_name, output_folder
from anonlib.engine import progress

MODEL = "a diffusers folder, or owner/model@commit, in place of the profile's pipeline"


class Parser(argparse.ArgumentParser):
    """An argument parser whose mistakes are one line."""

    def error(self, message: str) -> NoReturn:
        """Raise AnonlibError instead of printing the usage."""
        raise AnonlibError(f"{message}; see {self.prog} --help")


def guarded(function: Callable[[list[str]], int]) -> int:
    """Return the exit code of a command: AnonlibError is one line on stderr and 2, Ctrl-C one line and 130."""
    try:
        return function(sys.argv[1:])
    except AnonlibError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped: what was finished is kept; the same command goes on from there", file=sys.stderr)
        return 130


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what to run: profile, data set, parameters, notebooks."""
    _add_names(parser)
    parser.add_argument("-p", action="append", default=[], metavar="NAME=VALUE", help="change one number, repeatable")
    parser.add_argument(
        "--only", action="append", default=[], metavar="NOTEBOOK", help="run this one alone, repeatable"
    )


def _add_names(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--profile", default="demo", help="smoke, demo or full (default: demo)")
    parser.add_argument("--dataset", default="synthetic", help="a registered name, or a folder of person/image")


def figures(options: argparse.Namespace) -> int:
    """Draw figures and tables again from their saved data; no model and no torch is loaded."""
    from anonlib.paper import html_report, render

    name = dataset_name(options.dataset) if options.dataset else DEFAULT_DATASET
    base = output_folder(DEFAULT_PROFILE, name)
    folders = sorted({file.parent.parent for file in base.glob(f"**/{render.DATA}/*.json")})
    if not folders:
        raise AnonlibError("no figures to draw yet: `make paper` computes what they show")
    for folder in folders:
        print(f"{folder}: {len(html_report.redraw(folder))} files drawn")
    return 0


def explain(options: argparse.Namespace) -> int:
    """Say what is stale and why."""
    from anonlib.paper import explain as words
    from anonlib.paper import plan

    print(words.explain(plan.make(options.profile, options.dataset, options.p, options.only)))
    return 0


def verify(options: argparse.Namespace) -> int:
    """Say of every claim whether the results of a run bear it out; exit with 1 where one fails."""
    from anonlib.paper import claims, provenance

    config.load(options.profile)
    folder = output_folder(options.profile, dataset_name(options.dataset))
    results = provenance.results(folder)
    if not results:
        raise AnonlibError(f"no results of profile {options.profile!r} to verify in {folder}: `make paper` writes them")
    found = claims.verified(results)
    for row in found.itertuples():
        because = f" ({row.reason})" if row.reason else ""
        print(f"{row.verdict:<12} {row.claim}: expected {row.expected}; measured {row.measured}{because}")
    counted = [f"{(found.verdict == word).sum()} {word}" for word in (claims.PASS, claims.FAIL, claims.INCONCLUSIVE)]
    print(", ".join(counted))
    return int((found.verdict == claims.FAIL).any())


def fetch(options: argparse.Namespace) -> int:
    """Fetch what models and data others made, licences listed; what is there already is kept."""
    for name in options.names:
        if name not in assets.ASSETS:
            raise AnonlibError(f"unknown asset {name!r}: {config.nearest(name, assets.ASSETS)}")
    wanted = options.names or sorted(name for name, one in assets.ASSETS.items() if options.list or not one.building)
    if options.list:
        for name in wanted:
            print(f"{name}: {assets.ASSETS[name].use}; licence: {assets.ASSETS[name].licence}")
        return 0
    refused = []
    for number, name in enumerate(wanted, 1):
        progress.status(f"asset {number} of {len(wanted)}: {name}")
        try:
            assets.asset_path(name)
        except AnonlibError as error:
            if not assets.ASSETS[name].noncommercial or name in options.names:
                raise
            refused.append(f"not fetched: {error}")
    print("\n".join([f"{len(wanted) - len(refused)} of {len(wanted)} assets are here", *refused]))
    if options.profile:
        print(f"{_fetch_models(options.profile, options.model, options.method)} models of the hub are here")
    return 0


def _fetch_models(profile: str, model: str, method: str) -> int:
    """Fetch the models of the hub that a profile runs and one more anonymizer needs; return how many those are."""
    from anonlib.anonymizers import DIFFUSION
    from anonlib.assets import models

    settings = _settings(profile, model)
    names = [name for name in settings.anonymize.anonymizers if name in DIFFUSION]
    if method and method not in DIFFUSION:
        raise AnonlibError(f"{method!r} takes no model: {config.nearest(method, DIFFUSION)}")
    conditions = {part for name in [*names, *([method] if method else [])] for part in DIFFUSION[name]}
    return models.fetch(models.model_spec(settings.generator), tuple(sorted(conditions)))


def _settings(profile: str, model: str, camouflage: str = "") -> config.Profile:
    """Return a profile, with a pipeline of the user's own, and parts of CAMOUFLaGE, where he names one."""
    told = {"generator.bundle": model, "generator.camouflage": camouflage}
    return config.load(profile, {name: value for name, value in told.items() if value})


def anonymize(options: argparse.Namespace) -> int:
    """Anonymize the faces in a folder of photos, any size, any number of people, into a new folder."""
    from pathlib import Path

    from anonlib import anonymizers
    from anonlib.anonymizers import photo_folder as album

    # k-Same is of a set in which each person has one photo: nobody knows whether that holds for a folder
    names = [name for name in anonymizers.NAMES if name not in ("noop", *config.KSAME)]
    if options.method not in names:
        raise AnonlibError(f"unknown anonymizer {options.method!r}: {config.nearest(options.method, names)}")
    settings = _settings(options.profile, options.model, options.camouflage)
    table = album.anonymize_folder(Path(options.source), Path(options.target), options.method, settings)
    print(album.summary(table))
    print("Anonymized is no promise of anonymous: attack it first, see the notebooks. What was not painted stays.")
    return 0


def data(options: argparse.Namespace) -> int:
    """Build the embedded faces again."""
    from tools.build import faces as build

    return build.main(options.rest) or 0


def models(options: argparse.Namespace) -> int:
    """Train the small diffusion bundle, and what the compared systems have of their own."""
    from tools.build import train
    from tools.build.compared import Plan, make_compared

    train.main(options.rest)
    make_compared(Plan(), train.drawn(), cache_root() / "train")
    return 0


def camouflage(options: argparse.Namespace) -> int:
    """Train what CAMOUFLaGE has of its own, for a profile's model, on a folder of photos; a killed run goes on."""
    from pathlib import Path

    from tools.build.camouflage_photos import train_on
    from tools.build.train_camouflage import Plan

    train_on(Path(options.photos), Path(options.target), _settings(options.profile, options.model).generator, Plan())
    print(f"use it with: -p generator.camouflage={options.target} -p anonymize.systems={','.join(config.CAMOUFLAGE)}")
    print(f"or: make anonymize PROFILE={options.profile} METHOD={config.CAMOUFLAGE[0]} CAMOUFLAGE={options.target}")
    return 0


def clean(options: argparse.Namespace) -> int:
    """Remove executed notebooks and half-written files; figures, tables and the cache stay."""

    base = output_folder(DEFAULT_PROFILE, DEFAULT_DATASET)
    found = [folder for folder in base.glob("**/notebooks") if folder.is_dir()]
    for folder in found:
        shutil.rmtree(folder)
    for file in base.glob("**/.*.[0-9]*"):
        file.unlink()
    print(f"{len(found)} folders of executed notebooks removed; the cache is kept: {cache_root()}")
    return 0


def main(arguments: list[str]) -> int:
    """Parse the command line and do what it says; return the exit code."""
    parser = Parser(prog="python -m anonlib.paper.cli", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)
    for function in (figures, explain, verify, fetch, anonymize, data, models, camouflage, clean):
        command = commands.add_parser(function.__name__, help=function.__doc__, description=function.__doc__)
        command.set_defaults(function=function)
        if function is explain:
            add_run_options(command)
        elif function is verify:
            _add_names(command)
        elif function is figures:
            command.add_argument("--dataset", default="", help="only those of this data set (default: all)")
        elif function is anonymize:
            command.add_argument("source", help="folder of photos, however deep")
            command.add_argument("target", help="folder that is made")
            command.add_argument("--method", default="ia-depth+hed", help="anonymizer (default: ia-depth+hed)")
            command.add_argument("--profile", default="demo", help="whose generator paints (default: demo)")
            command.add_argument("--model", default="", help=MODEL)
            command.add_argument("--camouflage", default="", help="folder that `make camouflage` trained")
        elif function is camouflage:
            command.add_argument("photos", help="folder of photos, however deep")
            command.add_argument("target", help="folder that is made")
            command.add_argument("--profile", default="full", help="whose generator it is for (default: full)")
            command.add_argument("--model", default="", help=MODEL)
        elif function is fetch:
            command.add_argument("names", nargs="*", help="assets (default: all)")
            command.add_argument("--list", action="store_true", help="only list them")
            command.add_argument("--profile", default="", help="also the models that this profile takes from the hub")
            command.add_argument("--model", default="", help=MODEL)
            command.add_argument("--method", default="", help="and those that this anonymizer needs besides")
    options, rest = parser.parse_known_args(arguments)
    if rest and options.command not in ("data", "models"):
        raise AnonlibError(f"unknown option {rest[0]!r}; see {parser.prog} {options.command} --help")
    options.rest = rest
    return options.function(options)


if __name__ == "__main__":
    sys.exit(guarded(main))
