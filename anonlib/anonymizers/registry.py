"""The registry of anonymizers: jobs, tables, figures, claims and the command line ask it, and keep no names themselves.

Importing it, and every file that registers itself, imports neither torch nor diffusers.
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
    """What the rest of the package may ask of an anonymizer.

    Attributes:
        name: Its name in tables, figures, results and on the command line.
        factory: Returns the anonymizer from its options; imports what is heavy when it is called.
        group: What it is compared with, one of GROUPS; "control" is the no-op.
        description: One sentence for people.
        options: Profile -> keyword arguments of the factory. Raises AnonlibError where a part of the model is missing.
        controls: Control maps that it follows.
        parts: Parts of the model besides its ControlNets, see `assets.models.PARTS`.
        uses_generator: Whether it runs the profile's diffusion model.
        cheap: Whether it takes milliseconds a photo: it is then neither cached nor given to a worker process.
        shard: Photos of one shard. Slow anonymizers need small ones, or cores would stay idle.
        repaints_background: Whether it changes the picture around the person too.
        k: Of a k-anonymous one, that is made from a set with one photo a person: at most 1 / k are re-identified.
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
    k: int | None = None
    module: str = ""

    @property
    def conditions(self) -> tuple[str, ...]:
        """Return all that conditions the diffusion model: control maps, and parts of CAMOUFLaGE."""
        return self.controls + self.parts


_specs: dict[str, AnonymizerSpec] = {}

# the names that a profile may hold
config.register_names("anonymize.conditions", lambda: ["+".join(get(name).controls) or "none" for name in names(IA)])
config.register_names("anonymize.systems", lambda: names(CAMOUFLAGE))
config.register_names("anonymize.baselines", lambda: names(BASELINE))
config.register_names("compare.systems", lambda: names(COMPARED, BASELINE))
config.register_names("boundary.anonymizer", lambda: [name for name in names(IA) if get(name).controls])


def register(name: str, **fields) -> Callable:
    """Decorate an anonymizer to register it: a function under the contract, or a class whose instances are called.

    Args:
        name: Its name; none that the package uses itself.
        **fields: Fields of `AnonymizerSpec`. The description is the first line of the docstring unless it is given.

    Returns:
        The decorator, which returns the anonymizer unchanged.

    Raises:
        AnonlibError: the name is taken.
    """

    def decorate(anonymizer: Callable) -> Callable:
        factory = anonymizer if inspect.isclass(anonymizer) else lambda: anonymizer
        description = (inspect.getdoc(anonymizer) or "").partition("\n")[0]
        spec = {"description": description, "module": anonymizer.__module__} | fields
        add(AnonymizerSpec(name=name, factory=factory, **spec))
        return anonymizer

    return decorate


def add(spec: AnonymizerSpec) -> None:
    """Register a spec; one of the user's may be registered again. Raises AnonlibError for a name that is taken."""
    if spec.name in _specs and not _specs[spec.name].group == spec.group == USER:
        raise AnonlibError(f"{spec.name!r} is an anonymizer of this package: name yours otherwise")
    _specs[spec.name] = spec


def get(name: str) -> AnonymizerSpec:
    """Return the spec of an anonymizer; AnonlibError, with the nearest name, where there is none."""
    specs = anonymizers()
    if name not in specs:
        raise AnonlibError(f"unknown anonymizer {name!r}: {config.nearest(name, specs)}")
    return specs[name]


def find(name: str) -> AnonymizerSpec:
    """Return the spec of an anonymizer; a plain one for another tool, of which only the results are there."""
    return anonymizers().get(name) or AnonymizerSpec(name=name, factory=partial(get, name))


def anonymizers() -> dict[str, AnonymizerSpec]:
    """Return all specs by name, in the order of GROUPS."""
    load_methods()
    return dict(sorted(_specs.items(), key=lambda item: GROUPS.index(item[1].group)))


def names(*groups: str) -> tuple[str, ...]:
    """Return the names of some groups, or all names, in the order of GROUPS."""
    return tuple(name for name, spec in anonymizers().items() if not groups or spec.group in groups)


def generative(numbers: config.Anonymize) -> tuple[str, ...]:
    """Return the names that a profile selects of Instance Augmentation and CAMOUFLaGE."""
    return (*(f"{IA}-{condition}" for condition in numbers.conditions), *numbers.systems)


def selected(numbers: config.Anonymize) -> tuple[str, ...]:
    """Return all names that a profile selects: no-op, generative, baselines, and whatever the user has registered."""
    return (*names(CONTROL), *generative(numbers), *numbers.baselines, *names(USER))


def in_every_process(spec: AnonymizerSpec) -> bool:
    """Return whether worker processes know an anonymizer too: not one that a notebook's cell has registered."""
    return spec.group != USER or is_plugin(spec.module)


def name_or_file(text: str) -> str:
    """Return the name of an anonymizer.

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
    """Return an anonymizer that fails closed; the control "noop" alone is not wrapped, since it returns originals.

    Args:
        name: Of the registry; AnonlibError for an unknown name.
        **options: Of the anonymizer, see the `options` of its spec.
    """
    spec = get(name)
    anonymizer = spec.factory(**options)
    return anonymizer if spec.group == CONTROL else fail_closed(anonymizer)


def load_methods() -> None:
    """Import all that registers itself: this package's files, installed packages and the files in $ANONLIB_METHOD."""
    _load_built_in()
    load_plugins()


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
