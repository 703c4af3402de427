"""The registry of attackers: trainings, tables, claims and the command line ask it, and keep no names themselves.

Importing it imports neither torch nor diffusers. A file registers its attackers when it is imported.
"""

import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

from anonlib import config
from anonlib.assets import available
from anonlib.config.errors import AnonlibError
from anonlib.engine.plugins import load_plugins

BUILT_IN = ("contrastive", "recognizers", "blackbox", "transfer", "restoration")  # modules of this package
MAIN, SYSTEMS, OWN = "main", "systems", "own"  # suites: every experiment, the comparison of systems, its own notebook

Embed = Callable[[np.ndarray], np.ndarray]  # aligned photos (N, 128, 128, 3) uint8 -> embeddings (N, d)


@dataclass(frozen=True)
class AttackConfig:
    """Everything besides the data that decides what a contrastive attacker becomes."""

    name: str = "contrastive"
    backbone: str = "resnet18"
    init: str | None = None  # "face": starts from a face recognizer; "shipped": from the attacker that is shipped
    frozen: int = 0  # first stages that are not trained; of mobilefacenet with an init
    view: str = "images"  # a key of pairs.VIEWS
    frame: str = "full"  # a key of pairs.FRAMES
    image_size: int = 64  # px
    projection_dim: int = 128
    steps: int = 300
    batch: int = 128  # people of one step, one pair each
    temperature: float = 0.1
    lr: float = 2e-3
    weight_decay: float = 0.05
    warmup: int = 20  # steps
    shift: float = 0.06  # largest translation, as a share of the image
    light: float = 0.2  # largest relative change of brightness and of contrast
    validate_every: int = 50  # steps
    dtype: str | None = None  # of the matrix products, float32 or bfloat16; None: the faster one of this machine
    seed: int = 0


@dataclass(frozen=True)
class TrainingSpec:
    """One attacker to train.

    Attributes:
        train_on: Anonymizers; it is trained on the photos of all of them.
        attacker: Its name in the registry.
        label: Its name in tables: one attacker may have several backbones.
        config: How it is trained, the seed included.
        save_weights: Whether the result holds the network: it will embed other photos, or be trained further.
        test_on: The only anonymizer with probes that it embeds; None: all of `train_on`.
        init_from: Anonymizer and label of another training; it starts from those weights.
    """

    train_on: tuple[str, ...]
    attacker: str
    label: str
    config: AttackConfig
    save_weights: bool = False
    test_on: str | None = None
    init_from: tuple[str, str] | None = None


@dataclass(frozen=True, kw_only=True)
class AttackerSpec:
    """What the rest of the package may ask of an attacker.

    Attributes:
        name: Its name in tables, figures, results and on the command line. A label of a variant is <name>-<variant>.
        knows: The threat model: what it knows and owns, in one sentence.
        kind: "contrastive", "recognizer", "blackbox", "transfer", "restoration" or "user".
        suite: Where it attacks: "main" (everywhere), "systems" (only where systems are compared), "own" (its notebook).
        trainings: (anonymizers, attack settings) -> the trainings of a benchmark.
        recognizer: A public recognizer of `faces.recognizers` that is used as it is.
        embed: A user's attacker without training: photos -> embeddings.
        train: A user's attacker with training: (training pairs, validation pairs or None) -> a function like `embed`.
        results: (faces, anonymized, settings) -> `ranking.AttackResult` list, of an attacker that works otherwise.
        control: Whether it is no attack but a control that must be at chance.
        permutes: An attacker; the control evaluates its results again with permuted identities.
        min_noop_top1: Full-Ref top-1 on photos that nobody anonymized below which it is too weak to say anything.
        needs: Assets; without their licence it is left out.
        order: Its place in tables.
        module: The module that registered it; of a user's attacker its code is part of the cache key.
    """

    name: str
    knows: str
    kind: str = "user"
    suite: str = MAIN
    trainings: Callable[[tuple[str, ...], config.Attack], list[TrainingSpec]] | None = None
    recognizer: str | None = None
    embed: Embed | None = None
    train: Callable[..., Embed] | None = None
    results: Callable[..., list] | None = None
    control: bool = False
    permutes: str | None = None
    min_noop_top1: float | None = None
    needs: tuple[str, ...] = ()
    order: int = 45  # after the package's attackers, before its controls
    module: str = ""


_specs: dict[str, AttackerSpec] = {}


def register(name: str, *, trains: bool = False, **fields) -> Callable:
    """Decorate a function to register it as an attacker.

    Args:
        name: Its name; none that the package uses itself.
        trains: False: the function maps aligned photos (N, 128, 128, 3) uint8 to embeddings (N, d). True: it maps
            training pairs and validation pairs (`attacks.pairs.PhotoPairs`, the latter may be None) to such a function.
        **fields: Fields of `AttackerSpec`. `knows` is the first line of the docstring unless it is given.

    Returns:
        The decorator, which returns the function unchanged.

    Raises:
        AnonlibError: The name is taken.
    """

    def decorate(function: Callable) -> Callable:
        knows = (inspect.getdoc(function) or name).partition("\n")[0]
        spec = {"knows": knows, "module": function.__module__, "train" if trains else "embed": function} | fields
        add_attacker(AttackerSpec(name=name, **spec))
        return function

    return decorate


def add_attacker(spec: AttackerSpec) -> None:
    """Register a spec; a user's one may be registered again. Raises AnonlibError for a name that is taken."""
    if spec.name in _specs and not _specs[spec.name].kind == spec.kind == "user":
        raise AnonlibError(f"{spec.name!r} is an attacker of this package: name yours otherwise")
    _specs[spec.name] = spec


def attackers(*suites: str) -> dict[str, AttackerSpec]:
    """Return the specs by name, in the order of tables: all of them, or those of some suites that may be used.

    An attacker belongs to no suite if it needs an asset with a licence that was not accepted.
    """
    _load_built_in()
    load_plugins()
    ordered = sorted(_specs.values(), key=lambda spec: spec.order)
    if suites:
        ordered = [spec for spec in ordered if spec.suite in suites and all(map(available, spec.needs))]
    return {spec.name: spec for spec in ordered}


def get(name: str) -> AttackerSpec:
    """Return the spec of an attacker.

    Args:
        name: Its name in the registry.

    Raises:
        AnonlibError: There is no such attacker; the message has the nearest name.
    """
    specs = attackers()
    if name not in specs:
        raise AnonlibError(f"unknown attacker {name!r}: {config.nearest(name, specs)}")
    return specs[name]


def spec_of(label: str) -> AttackerSpec | None:
    """Return the spec of the attacker that a label belongs to.

    Args:
        label: In a table, <name> or <name>-<variant>.

    Returns:
        The spec; None where the label is no attacker's, such as the maximum's.
    """
    owners = [spec for name, spec in attackers().items() if f"{label}-".startswith(f"{name}-")]
    return max(owners, key=lambda spec: len(spec.name), default=None)


def kind_of(label: str) -> str:
    """Return the kind of the attacker that a label belongs to.

    Args:
        label: A name in tables.

    Returns:
        See `AttackerSpec`; "" for no attacker, such as the maximum over attackers.
    """
    spec = spec_of(label)
    return spec.kind if spec else ""


def recognizers(*suites: str) -> tuple[str, ...]:
    """Return the names of the attackers of some suites that are public recognizers as they are."""
    return tuple(name for name, spec in attackers(*suites).items() if spec.recognizer)


def required_top1() -> dict[str, float]:
    """Return by attacker the Full-Ref top-1 that it must reach on photos that nobody anonymized."""
    return {name: spec.min_noop_top1 for name, spec in attackers().items() if spec.min_noop_top1 is not None}


def threat_models(*suites: str) -> dict[str, str]:
    """Return what each attacker of some suites knows and owns, one sentence each."""
    return {name: spec.knows for name, spec in attackers(*suites).items()}


@cache
def _load_built_in() -> None:
    for name in BUILT_IN:  # by name: an import statement would make every attack part of every training's cache key
        importlib.import_module(f"anonlib.attacks.{name}")
