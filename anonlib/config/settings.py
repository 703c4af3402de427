"""The numbers of a profile, in frozen groups, and what may be named in them."""

from dataclasses import dataclass

CONDITIONS = ("none", "depth", "hed", "canny", "depth+hed")  # that the small bundle can follow
MORE_CONDITIONS = (
    "normal", "lineart", "sketch", "openpose", "segmentation",
    "depth+hed+normal", "depth+sketch", "depth+sketch+lineart",
)  # fmt: skip
CAMOUFLAGE = ("camouflage-base", "camouflage-light")
KSAME = ("ksame-2", "ksame-5", "ksame-10")
BASELINES = ("blur", "pixelate", "mask")
COMPARED = ("deepprivacy2", "falco", *KSAME, *BASELINES)  # systems that both papers, or their users, compare with
SCENES = (*CAMOUFLAGE, "falco")  # who draw what is behind people anew too
BACKBONES = (
    "resnet18", "resnet50", "resnet50-narrow", "convnext", "convnext-tiny", "swin", "swin-tiny", "vit", "vit-shallow"
)  # fmt: skip
EDGES = ("hed", "canny")
VIEWS = (3, 4, 7)  # levels of the face generator after which a picture can be taken: of 64, 128 and 1024 px


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
class Compare:
    """The systems that the papers' own are compared with, and how they are run."""

    systems: tuple[str, ...]
    probes: int | None  # photos a test person, of all systems in these tables; None: all that are anonymized
    train_photos: int | None  # of attacker-train that each of these systems gets, in all; None: all
    validation_photos: int | None  # likewise
    deepprivacy2: str | None  # a checkout of the original, which then takes the place of the small one
    levels: int  # of FALCO's generator that its losses see, one of VIEWS
    steps: int  # FALCO's, that lead away from the identity
    fit_levels: int  # likewise, that are seen where a latent code is fitted to a photo
    fit_steps: int  # that do so, after the encoder's guess
    restore_steps: int  # of a network that learns to give originals back
    restore_batch: int
    photos: int | None  # test photos of which it is measured what is kept; None: all
    varied: int  # test people who see the settings below, a photo each
    varied_steps: tuple[int, ...]  # FALCO's
    varied_margins: tuple[float, ...]  # likewise, the cosines that it aims at
    varied_scales: tuple[float, ...]  # of CAMOUFLaGE-Base


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
    compare: Compare
    evaluate: Evaluate
