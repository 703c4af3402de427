"""Every parameter of a profile, its type, unit and range; the values are in profiles/*.yaml."""

from dataclasses import dataclass, field
from typing import Any

BACKBONES = (
    "resnet18", "resnet50", "resnet50-narrow", "convnext", "convnext-tiny", "swin", "swin-tiny", "vit", "vit-shallow"
)  # fmt: skip
EDGES = ("hed", "canny")
PROMPTS = ("small", "published")
VIEWS = (3, 4, 7)  # levels of the face generator that have an image output, of 64, 128 and 1024 px


def limits(**bounds: Any) -> Any:
    """Declare a field with a range: least, above, below or one_of. A whole number without one must be 1 or more."""
    return field(metadata=bounds)


@dataclass(frozen=True, kw_only=True)
class Data:
    """How many people of each split are used, a published split where the data set has one; None: all of all splits."""

    train_people: int | None
    validation_people: int | None
    test_people: int | None
    images: int | None  # original photos per person, the probe's source included

    @property
    def people(self) -> dict[str, int] | None:
        """Return the number of people per split, as `anonlib.data.load` takes it; None (all) if one is None."""
        counts = {"train": self.train_people, "validation": self.validation_people, "test": self.test_people}
        return None if None in counts.values() else counts


@dataclass(frozen=True, kw_only=True)
class Generator:
    """The latent diffusion model. A model is a folder (relative to the project) or owner/model@commit on the hub."""

    bundle: str  # the inpainting pipeline
    size: int  # pixels per side at which the generator works
    steps: int  # of the sampler
    batch: int  # photos
    prompts: str = limits(one_of=PROMPTS)  # the words of the small model, or those of the published code
    guidance: tuple[float, ...]  # of Instance Augmentation: guidance scales, one of which is drawn for each photo
    compiled: bool = False  # on a GPU: compile the networks before the first photo, which takes minutes
    guidance_interval: tuple[float, ...] = ()  # guidance only between these two noise levels sigma; (): always
    controls_every: int = 1  # steps from one run of the ControlNets to the next; 1 is exact
    deep_every: int = 1  # steps from one run of the whole UNet to the next (DeepCache); 1 is exact
    fp8: bool = False  # linear layers in 8 bits, on a GPU of capability 8.9 or more
    controls: tuple[str, ...] = ()  # "condition=model" where the ControlNet is not bundle/controlnet-<condition>
    annotators: tuple[str, ...] = ()  # "condition=model" where the package's own annotator is not used
    lora: str | None = None  # a latent consistency LoRA: sampling in a few steps, without guidance
    few_steps: int | None = None  # 2 to 8: sample with the LoRA in so many steps; None: in `steps`, without it
    camouflage: str | None = None  # the parts that only CAMOUFLaGE has, and its face reader where `reader` is None
    reader: str | None = None  # FaRL and FACER's attributes, for CAMOUFLaGE: a folder or a released model's name
    captioner: str | None = None  # BLIP, for CAMOUFLaGE-Base; None: captions are made from predicted attributes
    safety_checker: str | None = None  # flags nudity; None: that in the bundle's folder, else nothing is filtered


@dataclass(frozen=True, kw_only=True)
class Anonymize:
    """Which anonymizers run, and on how many photos."""

    conditions: tuple[str, ...]  # of Instance Augmentation
    systems: tuple[str, ...]  # the variants of CAMOUFLaGE
    baselines: tuple[str, ...]
    replicates: int  # anonymized versions per photo, each with its own seed
    probes: int | None  # anonymized photos per test person; None: all
    train_photos: int | None  # anonymized photos of the attacker's training people, in total; None: all
    validation_photos: int | None  # the same for its validation people
    train_conditions: int | None  # generative anonymizers applied to one training person; None: all


@dataclass(frozen=True, kw_only=True)
class Attack:
    """How contrastive attackers are trained; `face_*` is contrastive-face, which starts from a face recognizer."""

    backbones: tuple[str, ...]  # trained from scratch
    sizes: tuple[int, ...]  # pixels per side, one per backbone
    steps: int  # from scratch: on original photos where tune_steps > 0, else on anonymized ones
    tune_steps: int = limits(least=0)  # from scratch: on anonymized photos, after `steps`
    batch: int
    face_steps: int
    face_batch: int
    face_frozen: int = limits(least=0)  # of the recognizer's 12 stages, how many first ones keep their weights
    together: bool  # one attacker is trained on all anonymizers; false: one attacker per anonymizer
    seeds: tuple[int, ...]  # of contrastive-face
    scratch_seeds: tuple[int, ...]  # of the other attackers
    transfer_steps: int  # of contrastive-face trained on one anonymizer and tested on the others
    temperature: float = limits(above=0)  # of the contrastive loss
    edges: tuple[str, ...]  # edge maps that black-box attackers are trained and tested on
    edge_batch: int  # of black-box attackers; no stage of theirs is frozen
    edge_photos: int | None  # photos per training person of black-box attackers; None: all


@dataclass(frozen=True, kw_only=True)
class Ablate:
    """What is varied in the attacker, one parameter at a time: backbones from scratch, the rest in contrastive-face."""

    backbones: tuple[str, ...]  # trained as `attack.backbones[0]` is
    temperatures: tuple[float, ...]
    batches: tuple[int, ...]
    face_pairs: int  # pairs per training of contrastive-face, at every batch size
    face_frozen: int = limits(least=0)
    seed: int = limits(least=0)


@dataclass(frozen=True, kw_only=True)
class Boundary:
    """What is varied in the anonymizer: the control's strength, and the detail in the control map."""

    anonymizer: str  # one with a control map
    strengths: tuple[float, ...]  # ControlNet scales; all that follow use the largest
    blurs: tuple[float, ...]  # sigma of the blurred control map, in pixels
    pixels: tuple[int, ...]  # pixels per side of the reduced control map
    hidden: tuple[str, ...]  # regions of the face that are blank in the control map
    guidances: tuple[float, ...]  # classifier-free guidance scales; 1: no guidance
    few_steps: tuple[int, ...]  # sampler steps with the generator's LoRA
    train_photos: int | None  # anonymized photos of the attacker's training people, in total; None: all
    steps: int  # fine-tuning of notebook 03's attackers, on all variants jointly
    seeds: int  # how many of attack.seeds, from the first
    agreement_photos: int | None  # test photos, one per person, whose control agreement is measured; None: all


@dataclass(frozen=True, kw_only=True)
class Compare:
    """The systems that the papers compare with, and how they run."""

    systems: tuple[str, ...]
    probes: int | None  # photos per test person, for all systems in these tables; None: all that are anonymized
    train_photos: int | None  # anonymized photos of the attacker's training people per system; None: all
    validation_photos: int | None  # the same for its validation people
    deepprivacy2: str | None  # folder of a checkout of the original, which replaces the small network
    levels: int = limits(one_of=VIEWS)  # FALCO: levels of its generator that its losses use
    steps: int  # FALCO: optimization steps away from the identity
    fit_levels: int = limits(one_of=VIEWS)  # FALCO: levels used where a latent code is fitted to a photo
    fit_steps: int = limits(least=0)  # FALCO: steps of that fit, after the encoder's guess
    restore_steps: int  # training of the restoration network
    restore_batch: int
    photos: int | None  # test photos for the utility measures; None: all
    downstream_photos: int | None  # photos that classifiers of attributes are trained on; None: all of the training
    varied: int  # test people in the parameter sweeps below, one photo each
    varied_steps: tuple[int, ...]  # FALCO's steps
    varied_margins: tuple[float, ...]  # FALCO's target cosines
    varied_scales: tuple[float, ...]  # anonymization scales of CAMOUFLaGE-Base


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Identification and its intervals."""

    few: int  # reference photos per person in the Few-Ref protocol
    reference_seed: int = limits(least=0)  # of the first draw of Few-Ref and Single-Ref photos, equal for all attackers
    reference_draws: int = limits(least=1)  # draws of these photos, averaged
    draws: int  # bootstrap resamples, by identity
    confidence: float = limits(above=0, below=1)


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Everything that a notebook needs to know about the size of a run."""

    name: str
    minutes: float  # expected on the profile's machine besides reading and anonymizing photos, see paper/estimate.py
    data: Data
    generator: Generator
    anonymize: Anonymize
    attack: Attack
    ablate: Ablate
    boundary: Boundary
    compare: Compare
    evaluate: Evaluate
