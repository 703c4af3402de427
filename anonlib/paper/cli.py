"""The command line: `anonlib COMMAND`, or `python -m anonlib.paper.cli COMMAND`."""

import argparse
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from anonlib import assets, config
from anonlib.config.errors import AnonlibError
from anonlib.config.paths import DEFAULT_DATASET, DEFAULT_PROFILE, cache_root, dataset_name, figures_root, output_folder
from anonlib.engine import progress


class Parser(argparse.ArgumentParser):
    """An argument parser that reports a mistake in one line."""

    def error(self, message: str) -> NoReturn:
        """Raise AnonlibError instead of printing the usage.

        Args:
            message: argparse's.

        Raises:
            AnonlibError: always.
        """
        raise AnonlibError(f"{message}; see {self.prog} --help")


def _run(options: argparse.Namespace) -> int:
    """Run the notebooks that are not up to date; exit with 1 where one fails."""
    from anonlib.paper import console, plan
    from anonlib.paper import run as driver

    try:
        driver.run(plan.make(options.profile, options.dataset, options.p, options.only))
    except console.NotebookFailedError as failure:
        print(f"\n{failure}", file=sys.stderr)
        return 1
    return 0


def _figures(options: argparse.Namespace) -> int:
    """Draw figures and tables again from their saved data; no model is loaded."""
    from anonlib.paper import html_report, render

    base = figures_root()
    if options.dataset and dataset_name(options.dataset) != DEFAULT_DATASET:
        base /= dataset_name(options.dataset)
    folders = sorted({file.parent.parent for file in base.glob(f"**/{render.DATA}/*.json")})
    if not folders:
        raise AnonlibError("no figures to draw yet: `make paper` computes their data")
    for folder in folders:
        print(f"{folder}: {len(html_report.redraw(folder))} files drawn")
    return 0


def _explain(options: argparse.Namespace) -> int:
    """List what is out of date and why."""
    from anonlib.paper import explain as reasons
    from anonlib.paper import plan

    print(reasons.explain(plan.make(options.profile, options.dataset, options.p, options.only)))
    return 0


def _verify(options: argparse.Namespace) -> int:
    """Compare a run's results with every claim; exit with 1 where one fails."""
    from anonlib.paper import claims, judges, provenance

    config.load(options.profile)
    folder = output_folder(options.profile, dataset_name(options.dataset))
    results = provenance.results(folder)
    if not results:
        raise AnonlibError(f"no results of profile {options.profile!r} to verify in {folder}: `make paper` writes them")
    table = claims.verified(results)
    for row in table.itertuples():
        because = f" ({row.reason})" if row.reason else ""
        print(f"{row.verdict:<12} {row.claim}: expected {row.expected}; measured {row.measured}{because}")
    verdicts = (judges.PASS, judges.FAIL, judges.INCONCLUSIVE)
    print(", ".join(f"{(table.verdict == verdict).sum()} {verdict}" for verdict in verdicts))
    return int((table.verdict == judges.FAIL).any())


def _fetch(options: argparse.Namespace) -> int:
    """Download third-party models and data, with their licences; files that are there already are kept."""
    for name in options.names:
        if name not in assets.ASSETS:
            raise AnonlibError(f"unknown asset {name!r}: {config.nearest(name, assets.ASSETS)}")
    needed = [name for name, asset in assets.ASSETS.items() if options.list or not asset.building]
    names = options.names or sorted(needed)
    if options.list:
        for name in names:
            print(f"{name}: {assets.ASSETS[name].use}; licence: {assets.ASSETS[name].licence}")
        return 0
    refused = []
    for position, name in enumerate(names, 1):
        progress.status(f"asset {position} of {len(names)}: {name}")
        try:
            assets.asset_path(name)
        except AnonlibError as error:
            if not assets.ASSETS[name].noncommercial or name in options.names:
                raise
            refused.append(f"not fetched: {error}")
    print("\n".join([f"{len(names) - len(refused)} of {len(names)} assets are here", *refused]))
    if options.profile:
        print(f"{_fetch_models(options.profile, options.model, options.method)} models of the hub are here")
    return 0


def _anonymize(options: argparse.Namespace) -> int:
    """Anonymize the faces in a folder of photos, any size, any number of people, into a new folder."""
    from anonlib.anonymizers import photo_folder, registry

    # k-Same needs a set with one photo a person, and noop anonymizes nothing
    method = registry.name_or_file(options.method)
    specs = registry.anonymizers().values()
    names = [spec.name for spec in specs if spec.group != registry.CONTROL and spec.k is None]
    if method not in names:
        raise AnonlibError(f"unknown anonymizer {method!r}: {config.nearest(method, names)}")
    settings = load_settings(options.profile, options.model, options.camouflage)
    table = photo_folder.anonymize_folder(Path(options.source), Path(options.target), method, settings)
    print(photo_folder.summary(table))
    print("Anonymized photos may still be re-identified: attack them first, see the notebooks.")
    return 0


def _agreement(options: argparse.Namespace) -> int:
    """Compare anonymized photos with their originals, and predict top-1 from a run's law; exit with 1 on originals."""
    from anonlib.paper import agreement, provenance

    if not (options.originals and options.anonymized):
        raise AnonlibError("name two folders of photos: IN=originals OUT=anonymized")
    evaluate = config.load(options.profile).evaluate
    results = provenance.results(output_folder(options.profile, dataset_name(options.dataset)))
    table = agreement.compare_folders(Path(options.originals), Path(options.anonymized))
    print("\n".join(agreement.summary(table, agreement.stored_laws(results), evaluate)))
    if options.table:
        table.to_csv(options.table, index=False)
    if warning := agreement.passed_through(table):
        print(warning, file=sys.stderr)
    return int(bool(warning))


def _clean(options: argparse.Namespace) -> int:
    """Remove executed notebooks, half-written files and scratch folders; figures, tables and cached steps stay."""
    folders = [folder for folder in figures_root().glob("**/notebooks") if folder.is_dir()]
    for folder in [*folders, cache_root() / "scratch"]:
        shutil.rmtree(folder, ignore_errors=True)
    for file in figures_root().glob("**/.*.[0-9]*"):
        file.unlink()
    print(f"{len(folders)} folders of executed notebooks removed; the cache is kept: {cache_root()}")
    return 0


def load_settings(profile: str, model: str = "", camouflage: str = "") -> config.Profile:
    """Load a profile, with models of the user in place of its own.

    `model` is a pipeline, a folder or owner/model@commit; `camouflage` is a folder with parts of CAMOUFLaGE.
    """
    overrides = {"generator.bundle": model, "generator.camouflage": camouflage}
    return config.load(profile, {name: value for name, value in overrides.items() if value})


def guarded(function: Callable[[list[str]], int]) -> int:
    """Run a command without tracebacks for what a user can mend.

    Args:
        function: a command that takes the arguments.

    Returns:
        Its exit code; 2 after AnonlibError and 130 after Ctrl-C, each with one line on stderr.
    """
    try:
        return function(sys.argv[1:])
    except AnonlibError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped: finished steps are kept; the same command goes on from there", file=sys.stderr)
        return 130


def main(arguments: list[str]) -> int:
    """Parse the command line and run the command.

    Args:
        arguments: of the command line, without the program.

    Returns:
        The exit code of the command.
    """
    parser = Parser(prog="anonlib", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)
    add = {}
    for function in (_run, _figures, _explain, _verify, _fetch, _anonymize, _agreement, _clean):
        command = commands.add_parser(function.__name__[1:], help=function.__doc__, description=function.__doc__)
        command.set_defaults(function=function)
        add[function] = command.add_argument
    for function in (_run, _explain, _verify, _agreement):
        add[function]("--profile", default=DEFAULT_PROFILE, help="smoke, demo, full or xl (default: demo)")
        add[function]("--dataset", default=DEFAULT_DATASET, help="a registered name, or a folder of person/image")
    for function in (_run, _explain):
        add[function]("-p", action="append", default=[], metavar="NAME=VALUE", help="change one number, repeatable")
        add[function]("--only", action="append", default=[], metavar="NOTEBOOK", help="only this one, repeatable")
    model = "a diffusers folder, or owner/model@commit, in place of the profile's pipeline"
    for function in (_fetch, _anonymize):
        add[function]("--model", default="", help=model)
    add[_figures]("--dataset", default="", help="only those of this data set (default: all)")
    add[_fetch]("names", nargs="*", help="assets (default: all)")
    add[_fetch]("--list", action="store_true", help="only list them")
    add[_fetch]("--profile", default="", help="also the hub models of this profile")
    add[_fetch]("--method", default="", help="and those of this anonymizer")
    add[_anonymize]("source", help="folder of photos, searched recursively")
    add[_anonymize]("target", help="folder to create")
    add[_anonymize]("--method", default="ia-depth+hed", help="anonymizer (default: ia-depth+hed)")
    add[_anonymize]("--profile", default=DEFAULT_PROFILE, help="the profile of the generator (default: demo)")
    add[_anonymize]("--camouflage", default="", help="folder of `make camouflage`")
    add[_agreement]("originals", help="folder of photos, searched recursively")
    add[_agreement]("anonymized", help="folder of photos of the same relative names")
    add[_agreement]("--table", default="", help="file to write a row for each photo into, as CSV")
    options = parser.parse_args(arguments)
    return options.function(options)


def _fetch_models(profile: str, model: str, method: str) -> int:
    """Fetch the hub models that a profile runs and one more anonymizer needs; return their number."""
    from anonlib.anonymizers import registry
    from anonlib.assets import models

    settings, specs = load_settings(profile, model), registry.anonymizers()
    generative = [name for name, spec in specs.items() if spec.uses_generator]
    if method and method not in generative:
        raise AnonlibError(f"{method!r} needs no model: {config.nearest(method, generative)}")
    names = [name for name in (*registry.selected(settings.anonymize), method) if name in generative]
    conditions = {part for name in names for part in specs[name].conditions}
    return models.fetch(models.model_spec(settings.generator), tuple(sorted(conditions)))


def main_entry() -> None:
    """Run the command line and exit: the console script."""
    sys.exit(guarded(main))


if __name__ == "__main__":
    main_entry()
