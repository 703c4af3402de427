"""The registry of anonymizers, which jobs, tables, figures, claims and the command line ask for names.

Neither the registry nor a file that registers an anonymizer imports torch or diffusers.
"""

import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from anonlib import config
from anonlib.anonymizers.contract import Anonymizer, fail_closed
from anonlib.config.errors import AnonlibError
from anonlib.config.paths import METHOD
from anonlib.engine.plugins import is_plugin, load_plugins

GROUPS = CONTROL, IA, CAMOUFLAGE, COMPARED, BASELINE, USER = (
    "control", "ia", "camouflage", "compared", "baseline", "user"
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class AnonymizerSpec:
    """An anonymizer and the facts about it that the rest of the package needs.

    Attributes:
        name: Its name in tables, figures, results and on the command line.
        factory: Creates the anonymizer from its options; imports heavy packages when it is called.
        group: Anonymizers that it is compared with, one of GROUPS; "control" is the no-op.
        description: One sentence for people.
        options: Profile -> keyword arguments of the factory. Raises AnonlibError if a part of the model is missing.
        controls: Control maps that it follows.
        parts: Parts of the model besides its ControlNets, see `assets.models.PARTS`.
        uses_generator: Whether it runs the profile's diffusion model.
        cheap: Whether it takes milliseconds per photo: then it runs in this process, without the cache.
        shard: Photos per shard. Slow anonymizers need small shards, or cores would stay idle.
        repaints_background: Whether it changes the picture around the person too.
        reversible: Whether a restoration network is expected to undo it.
        variations: `compare` of the profile -> options that replace its own, one dict per row of the table of settings.
        k: For a k-anonymous anonymizer of a set with one photo per person: at most 1 / k are re-identified.
        module: The module that registered it; its code is part of the cache key.
    """

    name: str
    factory: Callable[..., Anonymizer]
    group: str = USER
    description: str = ""
    options: Callable[[config.Profile], dict] = lambda settings: {}
    controls: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    uses_generator: bool = False
    cheap: bool = False
    shard: int = 128
    repaints_background: bool = False
    reversible: bool = False
    variations: Callable[[config.Compare], list[dict]] = lambda compare: []
    k: int | None = None
    module: str = ""

    @property
    def conditions(self) -> tuple[str, ...]:
        """Return the conditioning of the diffusion model: control maps and parts of CAMOUFLaGE."""
        return self.controls + self.parts


_specs: dict[str, AnonymizerSpec] = {}

# the names that a profile may hold
config.register_names("anonymize.conditions", lambda: ["+".join(get(name).controls) or "none" for name in names(IA)])
config.register_names("anonymize.systems", lambda: names(CAMOUFLAGE))
config.register_names("anonymize.baselines", lambda: names(BASELINE))
config.register_names("compare.systems", lambda: names(COMPARED, BASELINE))
config.register_names("boundary.anonymizer", lambda: [name for name in names(IA) if get(name).controls])


def register(name: str, **fields) -> Callable:
    """Register the decorated anonymizer: a function under the contract, or a class with such a `__call__`.

    Args:
        name: Its name, different from the names of this package.
        **fields: Fields of `AnonymizerSpec`. The default description is the first line of the docstring.

    Returns:
        The decorator, which returns the anonymizer unchanged.

    Raises:
        AnonlibError: The name is taken.
    """

    def decorate(anonymizer: Callable) -> Callable:
        factory = anonymizer if inspect.isclass(anonymizer) else lambda: anonymizer
        description = (inspect.getdoc(anonymizer) or "").partition("\n")[0]
        spec = {"description": description, "module": anonymizer.__module__} | fields
        add(AnonymizerSpec(name=name, factory=factory, **spec))
        return anonymizer

    return decorate


def add(spec: AnonymizerSpec) -> None:
    """Register a spec. A user's anonymizer may be registered again.

    Args:
        spec: The anonymizer.

    Raises:
        AnonlibError: The name is taken.
    """
    if spec.name in _specs and not _specs[spec.name].group == spec.group == USER:
        raise AnonlibError(f"{spec.name!r} is an anonymizer of this package: name yours otherwise")
    _specs[spec.name] = spec


def get(name: str) -> AnonymizerSpec:
    """Return the spec of an anonymizer.

    Args:
        name: Name in the registry.

    Raises:
        AnonlibError: The name is unknown; the message gives the nearest name.
    """
    specs = anonymizers()
    if name not in specs:
        raise AnonlibError(f"unknown anonymizer {name!r}: {config.nearest(name, specs)}")
    return specs[name]


def find(name: str) -> AnonymizerSpec:
    """Return the spec of an anonymizer, or a plain spec for another tool that has only results.

    Args:
        name: Any name.

    Returns:
        The spec.
    """
    return anonymizers().get(name) or AnonymizerSpec(name=name, factory=partial(get, name))


def anonymizers() -> dict[str, AnonymizerSpec]:
    """Return all specs by name, in the order of GROUPS."""
    _load_built_in()
    load_plugins()
    return dict(sorted(_specs.items(), key=lambda item: GROUPS.index(item[1].group)))


def names(*groups: str) -> tuple[str, ...]:
    """Return the names of some groups, or all names, in the order of GROUPS."""
    return tuple(name for name, spec in anonymizers().items() if not groups or spec.group in groups)


def generative(settings: config.Anonymize) -> tuple[str, ...]:
    """Return the names of Instance Augmentation and CAMOUFLaGE that a profile selects.

    Args:
        settings: Part of the profile.

    Returns:
        Names.
    """
    return (*(f"{IA}-{condition}" for condition in settings.conditions), *settings.systems)


def selected(settings: config.Anonymize) -> tuple[str, ...]:
    """Return all names that a profile selects: no-op, generative, baselines, and all of the user's.

    Args:
        settings: Part of the profile.

    Returns:
        Names.
    """
    return (*names(CONTROL), *generative(settings), *settings.baselines, *names(USER))


def in_every_process(spec: AnonymizerSpec) -> bool:
    """Return whether worker processes know an anonymizer too: not if a notebook's cell registered it."""
    return spec.group != USER or is_plugin(spec.module)


def name_or_file(text: str) -> str:
    """Return the name of an anonymizer, the last one if a file registers several.

    Args:
        text: Its name, or the path of a file (*.py) that registers it.

    Raises:
        AnonlibError: The file registers none.
    """
    if not text.endswith(".py"):
        return text
    os.environ[METHOD] = text
    own = [name for name, spec in anonymizers().items() if spec.module == f"method_{Path(text).stem}"]
    if not own:
        raise AnonlibError(f"METHOD={text}: it registers no anonymizer")
    return own[-1]


def create(name: str, **options) -> Anonymizer:
    """Create an anonymizer that fails closed; only the control "noop" does not, because it returns originals.

    Args:
        name: Name in the registry.
        **options: Its options, see `AnonymizerSpec.options`.

    Raises:
        AnonlibError: The name is unknown.
    """
    spec = get(name)
    anonymizer = spec.factory(**options)
    return anonymizer if spec.group == CONTROL else fail_closed(anonymizer, name)


@cache
def _load_built_in() -> None:
    from anonlib.anonymizers import (  # noqa: F401  # each registers itself
        camouflage,
        deepprivacy2,
        falco,
        instance_augmentation,
        ksame,
        simple,
    )
