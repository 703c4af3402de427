"""`python -m tools.build faces|models|attackers|camouflage`: build what the project ships, or CAMOUFLaGE's parts."""

import argparse
import sys
from pathlib import Path

from anonlib.anonymizers import registry
from anonlib.config.paths import cache_root
from anonlib.paper import cli


def _faces(options: argparse.Namespace) -> None:
    """Draw the embedded faces again; a stopped run resumes."""
    from tools.build import faces as build

    build.main()


def _models(options: argparse.Namespace) -> None:
    """Train the small diffusion model, the compared systems' parts and the attackers again; a stopped run resumes."""
    from tools.build import train
    from tools.build.compared import ComparedPlan, make_compared

    train.main(Path(options.start) if options.start else None)
    make_compared(ComparedPlan(), train.load_training_pool(), cache_root() / "train")
    _attackers(options)


def _attackers(options: argparse.Namespace) -> None:
    """Train the shipped attackers alone, the last part of models; a stopped run resumes."""
    from anonlib.engine.pool import default_workers
    from tools.build.train_attackers import AttackersPlan, make_attackers

    make_attackers(AttackersPlan(), default_workers())


def _camouflage(options: argparse.Namespace) -> None:
    """Train CAMOUFLaGE's own parts for a profile's model on a folder of photos; a stopped run resumes."""
    from tools.build.camouflage_photos import train_on
    from tools.build.train_camouflage import CamouflagePlan

    settings = cli.load_settings(options.profile, options.model)
    train_on(Path(options.photos), Path(options.target), settings.generator, CamouflagePlan())
    names = registry.names(registry.CAMOUFLAGE)
    print(f"use them with: -p generator.camouflage={options.target} -p anonymize.systems={','.join(names)}")
    print(f"or: make anonymize PROFILE={options.profile} METHOD={names[0]} CAMOUFLAGE={options.target}")


def main(arguments: list[str]) -> int:
    """Parse the command line and build.

    Args:
        arguments: of the command line, without the program.

    Returns:
        The exit code.
    """
    parser = cli.Parser(prog="python -m tools.build", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=cli.Parser)
    for function in (_faces, _models, _attackers, _camouflage):
        command = commands.add_parser(function.__name__[1:], help=function.__doc__, description=function.__doc__)
        command.set_defaults(function=function)
        if function is _models:
            command.add_argument("--start", default="", help="begin with the weights of this bundle")
        if function is _camouflage:
            command.add_argument("photos", help="folder of photos, searched recursively")
            command.add_argument("target", help="folder to create")
            command.add_argument("--profile", default="full", help="profile of the model (default: full)")
            command.add_argument("--model", default="", help="a diffusers folder, or owner/model@commit")
    options = parser.parse_args(arguments)
    options.function(options)
    return 0


if __name__ == "__main__":
    sys.exit(cli.guarded(main))
