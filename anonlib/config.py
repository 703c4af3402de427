"""What a run is made of: frozen groups of numbers, three profiles that differ in nothing else, strict overrides."""

import ast
import dataclasses
import difflib
import hashlib
import json
import types
import typing
from dataclasses import dataclass

from anonlib.errors import AnonlibError

CONDITIONS = ("none", "depth", "hed", "canny", "depth+hed")  # that the small bundle can follow
MORE_CONDITIONS = (
    "normal", "lineart", "sketch", "openpose", "segmentation",
    "depth+hed+normal", "depth+sketch", "depth+sketch+lineart",
)  # fmt: skip
CAMOUFLAGE = ("camouflage-base", "camouflage-light")
BASELINES = ("blur", "pixelate", "mask")
BACKBONES = (
    "resnet18", "resnet50", "resnet50-narrow", "convnext", "convnext-tiny", "swin", "swin-tiny", "vit", "vit-shallow"
)  # fmt: skip
EDGES = ("hed", "canny")


@dataclass(frozen=True)
class Data:
    """How much of each split is used; None means everything there is."""

    train_people: int | None
    validation_people: int | None
    test_people: int | None
    images: int | None  # original photos a person, the probe's source among them

    @property
    def people(self) -> dict[str, int] | None:
        """Return the people by split as `anonlib.data.load` takes them; None (all) unless all three are given."""
        counts = {"train": self.train_people, "validation": self.validation_people, "test": self.test_people}
        return None if None in counts.values() else counts


@dataclass(frozen=True)
class Generator:
    """The latent diffusion model and how it is run. A model is a folder (relative to the project) or owner/model@commit
    on the hub."""

    bundle: str
    size: int  # pixels a side at which the generator works
    steps: int
    batch: int
    compiled: bool = False  # on a GPU: compile the networks before the first photo, which takes minutes
    controls: tuple[
        str, ...
    ] = ()  # "condition=model", where the bundle's own folder controlnet-<condition> is not meant
    annotators: tuple[str, ...] = ()  # "condition=model", where the project's own do not make the maps
    lora: str | None = None  # a latent consistency LoRA, with which the model paints in a few steps
    few_steps: int | None = None  # how many, 2 to 8, where it is to be used: instead of `steps`, and unguided
    camouflage: str | None = None  # what CAMOUFLaGE has of its own, and what reads a face where no `reader` is named
    reader: str | None = None  # FaRL and FACER's attributes, for CAMOUFLaGE: a folder, or a name of `releases`
    captioner: str | None = None  # BLIP, for CAMOUFLaGE-Base; none: captions are made of predicted attributes


@dataclass(frozen=True)
class Anonymize:
    """Which anonymizers, and how many photos each of them gets."""

    conditions: tuple[str, ...]
    systems: tuple[str, ...]
    baselines: tuple[str, ...]
    replicates: int  # anonymized versions of one photo, each with its own seed
    probes: int | None  # anonymized photos a test person
    train_photos: int | None  # of attacker-train that are anonymized, in all: its people take turns; None: all
    validation_photos: int | None  # likewise
    train_conditions: int | None  # by how many of those that paint each of these people is painted; None: all

    @property
    def anonymizers(self) -> tuple[str, ...]:
        """Return the registry names: the no-op control, those that paint, the baselines."""
        return ("noop", *self.painted, *self.baselines)

    @property
    def painted(self) -> tuple[str, ...]:
        """Return the registry names of those that paint: Instance Augmentation by condition, the other systems."""
        return (*(f"ia-{condition}" for condition in self.conditions), *self.systems)


@dataclass(frozen=True)
class Attack:
    """Training of the contrastive attackers; `face_*` is the one that starts from a face recognizer."""

    backbones: tuple[str, ...]
    sizes: tuple[int, ...]  # pixels a side, one per backbone
    steps: int
    tune_steps: (
        int  # from scratch, `steps` go on photos and these then on what the anonymizer made; 0: all on the latter
    )
    batch: int
    face_steps: int
    face_batch: int
    face_frozen: int  # of the recognizer's 12 stages, the first ones that stay as they are: faster, and no weaker
    together: bool  # one attacker learns from what all anonymizers made, else there is one for each
    seeds: tuple[int, ...]  # of contrastive-face, which leads
    scratch_seeds: tuple[int, ...]  # of all others
    transfer_steps: int  # of contrastive-face where it knows one anonymizer and is tested on all others
    temperature: float
    edges: tuple[str, ...]  # that black-box attackers train on and are tested on
    edge_batch: int  # theirs, from a face recognizer of which no stage is kept
    edge_photos: int | None  # theirs of each person of attacker-train; None: all


@dataclass(frozen=True)
class Ablate:
    """What is varied in the attacker, one number at a time: backbones from scratch, the others of contrastive-face."""

    backbones: tuple[str, ...]  # trained as `attack.backbones[0]` is
    temperatures: tuple[float, ...]
    batches: tuple[int, ...]
    face_pairs: int  # that each training of contrastive-face sees, whatever its batch
    face_frozen: int
    seed: int


@dataclass(frozen=True)
class Boundary:
    """What is varied in the anonymizer: how strong its control is, and how much is left in the control map."""

    anonymizer: str
    strengths: tuple[float, ...]  # of every control map
    blurs: tuple[float, ...]  # px, at the largest strength, as all that follow
    pixels: tuple[int, ...]  # a side of the control map
    hidden: tuple[str, ...]  # regions of the face that are blank in the control map
    few_steps: tuple[int, ...]  # of the generator's LoRA, at the largest strength
    train_photos: int | None  # of attacker-train that are painted, in all; None: all
    steps: int  # that an attacker of notebook 03 is trained on, on all of these together
    seeds: int  # of attack.seeds, the first ones: whose attackers these are


@dataclass(frozen=True)
class Evaluate:
    """Identification and its intervals."""

    few: int  # reference photos a person in Few-Ref
    reference_seed: int  # draws the Few-Ref and Single-Ref photos, the same ones for every attacker and anonymizer
    draws: int  # bootstrap draws, by identity
    confidence: float


@dataclass(frozen=True)
class Profile:
    """Everything a notebook needs to know about the size of a run."""

    name: str
    minutes: float  # expected on the profile's machine with an empty cache; only for the first time-left message
    data: Data
    generator: Generator
    anonymize: Anonymize
    attack: Attack
    ablate: Ablate
    boundary: Boundary
    evaluate: Evaluate


_SMALL = Generator(
    bundle="anonlib/diffusion/small",
    size=128,
    steps=5,
    batch=8,
    lora="anonlib/diffusion/small-few-steps",
    camouflage="anonlib/diffusion/small-camouflage",
)

_DEMO = Profile(
    name="demo",
    minutes=63,
    data=Data(train_people=750, validation_people=50, test_people=200, images=12),
    generator=_SMALL,
    anonymize=Anonymize(
        conditions=CONDITIONS,
        systems=CAMOUFLAGE,
        baselines=(),
        replicates=1,
        probes=2,
        train_photos=750,
        validation_photos=50,
        train_conditions=4,
    ),
    attack=Attack(
        backbones=("resnet18",),
        sizes=(48,),
        steps=180,
        tune_steps=60,
        batch=128,
        face_steps=120,
        face_batch=48,
        face_frozen=5,
        together=True,
        seeds=(0, 1, 2),
        scratch_seeds=(0,),
        transfer_steps=40,
        temperature=0.1,
        edges=EDGES,
        edge_batch=32,
        edge_photos=4,
    ),
    ablate=Ablate(
        backbones=("resnet18", "resnet50-narrow", "convnext", "swin", "vit-shallow"),
        temperatures=(0.02, 0.05, 0.07, 0.1, 0.2, 0.5, 1.0),
        batches=(8, 16, 32, 48, 96),
        face_pairs=1440,
        face_frozen=6,
        seed=0,
    ),
    boundary=Boundary(
        anonymizer="ia-hed",
        strengths=(0.1, 0.25, 0.5, 0.75, 1.0),
        blurs=(2.0, 5.0),
        pixels=(32, 16),
        hidden=("eyes", "nose", "mouth", "outline", "hair"),
        few_steps=(4,),
        train_photos=400,
        steps=60,
        seeds=2,
    ),
    evaluate=Evaluate(few=5, reference_seed=0, draws=2000, confidence=0.95),
)

_SMOKE = dataclasses.replace(
    _DEMO,
    name="smoke",
    minutes=6,
    data=Data(train_people=20, validation_people=6, test_people=12, images=6),
    generator=dataclasses.replace(_SMALL, steps=4),
    anonymize=dataclasses.replace(_DEMO.anonymize, train_photos=20, validation_photos=6),
    attack=dataclasses.replace(
        _DEMO.attack,
        steps=14,
        tune_steps=6,
        batch=16,
        face_steps=12,
        face_batch=16,
        transfer_steps=6,
        edge_batch=16,
        edges=("hed",),
    ),
    ablate=dataclasses.replace(
        _DEMO.ablate,
        backbones=("resnet18", "swin"),
        temperatures=(0.02, 0.1),
        batches=(4, 16),
        face_pairs=64,
    ),
    boundary=dataclasses.replace(
        _DEMO.boundary,
        strengths=(0.1, 1.0),
        blurs=(5.0,),
        pixels=(16,),
        hidden=("eyes", "hair"),
        few_steps=(2,),
        train_photos=20,
        steps=6,
        seeds=1,
    ),
    evaluate=dataclasses.replace(_DEMO.evaluate, draws=200),
)

_ANNOTATORS = "lllyasviel/Annotators@982e7edaec38759d914a963c48c4726685de7d96"
_DEPTH = "depth=LiheYoung/depth-anything-large-hf@27ccb0920352c0c37b3a96441873c8d37bd52fb6"

# "@first": its commit could not be looked up; it is that of the first fetch, and stays, see `hub.pinned`
_FULL = Profile(
    name="full",
    minutes=1440,
    data=Data(train_people=None, validation_people=None, test_people=None, images=None),
    generator=Generator(
        bundle="stable-diffusion-v1-5/stable-diffusion-inpainting@8a4288a76071f7280aedbdb3253bdb9e9d5d84bb",
        size=512,
        steps=40,
        batch=16,
        compiled=True,
        controls=(
            "depth=lllyasviel/control_v11f1p_sd15_depth@539f99181d33db39cf1af2e517cd8056785f0a87",
            "hed=lllyasviel/control_v11p_sd15_softedge@b5bcad0c48e9b12f091968cf5eadbb89402d6bc9",
            "canny=lllyasviel/control_v11p_sd15_canny@115a470d547982438f70198e353a921996e2e819",
            "normal=lllyasviel/control_v11p_sd15_normalbae@cb7296e6587a219068e9d65864e38729cd862aa8",
            "lineart=lllyasviel/control_v11p_sd15_lineart@8a158f547e031c5b8fbca19ead09a74767ff4db0",
            "openpose=lllyasviel/control_v11p_sd15_openpose@9ae9f970358db89e211b87c915f9535c6686d5ba",
            "segmentation=lllyasviel/control_v11p_sd15_seg@first",
        ),
        annotators=(
            _DEPTH,
            *(f"{name}={_ANNOTATORS}" for name in ("hed", "normal", "lineart", "openpose")),
            "segmentation=openmmlab/upernet-convnext-small@first",
        ),
        lora="latent-consistency/lcm-lora-sdv1-5@first",
        reader="FacePerceiver/FaRL",
        captioner="Salesforce/blip-image-captioning-base@first",
    ),
    anonymize=Anonymize(
        conditions=CONDITIONS,
        systems=(),  # their parts for Stable Diffusion have to be trained first
        baselines=BASELINES,
        replicates=1,
        probes=None,
        train_photos=None,
        validation_photos=None,
        train_conditions=None,
    ),
    attack=Attack(
        backbones=("resnet18", "resnet50", "vit"),
        sizes=(128, 128, 128),
        steps=20000,
        tune_steps=0,
        batch=128,
        face_steps=5000,
        face_batch=128,
        face_frozen=0,
        together=False,
        seeds=(0, 1, 2, 3, 4),
        scratch_seeds=(0, 1, 2, 3, 4),
        transfer_steps=5000,
        temperature=0.1,
        edges=EDGES,
        edge_batch=128,
        edge_photos=None,
    ),
    ablate=Ablate(
        backbones=("resnet18", "resnet50", "convnext-tiny", "swin-tiny", "vit"),
        temperatures=(0.02, 0.05, 0.07, 0.1, 0.2, 0.5, 1.0),
        batches=(16, 32, 64, 128, 256, 512),
        face_pairs=640000,
        face_frozen=0,
        seed=0,
    ),
    boundary=Boundary(
        anonymizer="ia-depth+hed",
        strengths=(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
        blurs=(1.0, 2.0, 3.0, 5.0, 8.0),
        pixels=(64, 48, 32, 24, 16, 8),
        hidden=("eyes", "nose", "mouth", "outline", "hair"),
        few_steps=(4, 8),
        train_photos=None,
        steps=10000,
        seeds=5,
    ),
    evaluate=Evaluate(few=5, reference_seed=0, draws=10000, confidence=0.95),
)

# Instance Augmentation's second generator.
_XL = dataclasses.replace(
    _FULL,
    name="xl",
    minutes=4320,
    generator=Generator(
        bundle="SG161222/RealVisXL_V3.0@11ee564ebf4bd96d90ed5d473cb8e7f2e6450bcf",
        size=1024,
        steps=40,
        batch=4,
        compiled=True,
        controls=tuple(
            f"{condition}=TencentARC/t2i-adapter-{name}-sdxl-1.0@first"
            for condition, name in {"depth": "depth-midas", "sketch": "sketch", "lineart": "lineart"}.items()
        ),
        annotators=(_DEPTH, *(f"{name}={_ANNOTATORS}" for name in ("sketch", "lineart"))),
        lora="latent-consistency/lcm-lora-sdxl@first",
    ),
    anonymize=dataclasses.replace(_FULL.anonymize, conditions=("none", "depth", "sketch", "lineart", "depth+sketch")),
    boundary=dataclasses.replace(_FULL.boundary, anonymizer="ia-depth+sketch"),
)

PROFILES: dict[str, Profile] = {profile.name: profile for profile in (_SMOKE, _DEMO, _FULL, _XL)}
_LEAST = {
    "attack.face_frozen": 0,
    "attack.tune_steps": 0,
    "ablate.face_frozen": 0,
    "ablate.seed": 0,
    "evaluate.reference_seed": 0,
}  # of every other whole number 1
_GROUPS = ("data", "generator", "anonymize", "attack", "ablate", "boundary", "evaluate")
_CHOICES = {
    "anonymize.conditions": CONDITIONS + MORE_CONDITIONS,
    "anonymize.systems": CAMOUFLAGE,
    "anonymize.baselines": BASELINES,
    "attack.backbones": BACKBONES,
    "attack.edges": EDGES,
    "ablate.backbones": BACKBONES,
    # those that have a control to be made weaker
    "boundary.anonymizer": tuple(f"ia-{one}" for one in CONDITIONS + MORE_CONDITIONS if one != "none"),
}


def load(name: str, overrides: dict[str, typing.Any] | None = None) -> Profile:
    """Return a profile, with single numbers replaced: load("smoke", {"attack.steps": 50}).

    Raises AnonlibError for an unknown profile or number (naming the nearest) and for a value of another type or range.
    """
    if name not in PROFILES:
        raise AnonlibError(f"unknown profile {name!r}: {nearest(name, PROFILES)}")
    profile = PROFILES[name]
    overrides = dict(overrides or {})
    if "generator.bundle" in overrides:
        overrides.setdefault("generator.lora", None)  # a LoRA is of its own model, and so is what CAMOUFLaGE has
        overrides.setdefault("anonymize.systems", [])
    if "generator.lora" in overrides and overrides["generator.lora"] is None:
        overrides.setdefault("boundary.few_steps", [])
    for key, value in overrides.items():
        check_name(key)
        group, field = key.split(".")
        checked = _typed(key, value, field_types()[key])
        profile = dataclasses.replace(
            profile, **{group: dataclasses.replace(getattr(profile, group), **{field: checked})}
        )
    _check(profile)
    return profile


def parse(name: str, text: str) -> typing.Any:
    """Return the value of `-p NAME=TEXT` for one of the profile's numbers, in its own type (lists as JSON types)."""
    check_name(name)
    try:
        value = _typed(name, literal(text), field_types()[name])
    except AnonlibError:
        value = _typed(
            name, text, field_types()[name]
        )  # "none" is a conditioning too, and a revision may be all digits
    return list(value) if isinstance(value, tuple) else value


def literal(text: str) -> typing.Any:
    """Return what a command line means by `text`: a number, true, null, a list ..., else the text itself."""
    named = {"true": True, "false": False, "null": None, "none": None, "all": None}
    if text.lower() in named:
        return named[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def field_types() -> dict[str, typing.Any]:
    """Return the type of every number that can be overridden: "attack.steps" -> int."""
    groups = typing.get_type_hints(Profile)
    return {f"{group}.{name}": hint for group in _GROUPS for name, hint in typing.get_type_hints(groups[group]).items()}


def values(profile: Profile) -> dict[str, typing.Any]:
    """Return every number of a profile by its full name, tuples as lists: "attack.steps" -> 400."""
    return json.loads(json.dumps({key: _get(profile, key) for key in field_types()}))


def check_name(name: str) -> None:
    """Raise AnonlibError, naming the nearest, when a profile has no number called `name`."""
    if name not in field_types():
        raise AnonlibError(f"unknown parameter {name!r}: {nearest(name, field_types())}")


def nearest(name: str, known: typing.Iterable[str]) -> str:
    """Return "did you mean ...?", or the list of what there is when nothing is near."""
    plain = {key.lower().replace("_", "."): key for key in sorted(known)}
    near = difflib.get_close_matches(name.lower().replace("_", "."), plain, n=1, cutoff=0.6)
    return f"did you mean {plain[near[0]]!r}?" if near else f"choose one of {', '.join(plain.values())}"


def canonical(value: typing.Any) -> str:
    """Return the one JSON spelling of a value: keys sorted, no blanks, dataclasses as objects, tuples as lists."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, default=_plain)


def digest(value: typing.Any) -> str:
    """Return the SHA-256 of a value's canonical JSON as 64 hex digits."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def _plain(value: typing.Any) -> typing.Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    raise TypeError(f"parameters are numbers, texts, lists and dictionaries, not {type(value).__name__}")


def _get(profile: Profile, key: str) -> typing.Any:
    group, field = key.split(".")
    return getattr(getattr(profile, group), field)


def _typed(name: str, value: typing.Any, hint: typing.Any) -> typing.Any:
    """Return `value` as the type that the field has; only int -> float and list -> tuple are converted."""
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    for option in options:
        if typing.get_origin(option) is tuple:
            inner = typing.get_args(option)[0]
            if isinstance(value, list | tuple) and all(_is(item, inner) for item in value):
                return tuple(value)
            if isinstance(value, str) and inner is str:
                return tuple(part.strip() for part in value.split(",") if part.strip())
        elif option is float and _is(value, int):
            return float(value)
        elif _is(value, option):
            return value
    raise AnonlibError(f"parameter {name} must be {spelled(hint)}, not {value!r}")


def _is(value: typing.Any, kind: type) -> bool:
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def spelled(hint: typing.Any) -> str:
    """Return a type in words."""
    if isinstance(hint, types.UnionType):
        return " or ".join(
            "all (None)" if option is type(None) else spelled(option) for option in typing.get_args(hint)
        )
    if typing.get_origin(hint) is tuple:
        return f"a list of {spelled(typing.get_args(hint)[0])}"
    return {int: "int", float: "float", str: "str", bool: "bool", list: "list", dict: "dict"}[hint]


def _check(profile: Profile) -> None:
    for key in field_types():
        value = _get(profile, key)
        if key in _CHOICES:
            for item in value if isinstance(value, tuple) else (value,):
                if item not in _CHOICES[key]:
                    raise AnonlibError(f"parameter {key}: unknown {item!r}: {nearest(item, _CHOICES[key])}")
        elif _is(value, int) and value < (least := _LEAST.get(key, 1)):
            raise AnonlibError(f"parameter {key} must be {least} or more, not {value}")
    if not 0 < profile.evaluate.confidence < 1:
        raise AnonlibError(f"parameter evaluate.confidence must be between 0 and 1, not {profile.evaluate.confidence}")
    if profile.attack.temperature <= 0:
        raise AnonlibError(f"parameter attack.temperature must be above 0, not {profile.attack.temperature}")
    if len(profile.attack.sizes) != len(profile.attack.backbones):
        raise AnonlibError("parameter attack.sizes must give one size for each of attack.backbones")
