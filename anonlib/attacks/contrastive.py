"""The first paper's attackers: contrastive training on pairs of an original and an anonymized photo of one person.

"contrastive" starts from scratch, "contrastive-face" from a face recognizer; two controls are trained or evaluated
likewise. The measurements behind all constants are in docs/decisions.md.
"""

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from anonlib import config
from anonlib.attacks.registry import AttackConfig, AttackerSpec, TrainingSpec, add_attacker
from anonlib.config.errors import AnonlibError

if TYPE_CHECKING:
    from anonlib.attacks.pairs import PhotoPairs
    from anonlib.attacks.train import TrainedAttacker

SCRATCH, FACE, BACKGROUND, PERMUTED = "contrastive", "contrastive-face", "background-only", "permuted"
OWN_FACE = f"{FACE}-own"  # trained on one anonymizer only, where FACE is trained on all together
ORIGINALS = ("noop",)  # the training data of attackers that see un-anonymized photos only

# Learning rate of a network from scratch, by backbone. resnet50, vit and the -tiny ones are not tuned yet.
RATES = {
    "resnet18": 5e-3, "resnet50": 2e-3, "resnet50-narrow": 4e-3, "convnext": 4e-3, "convnext-tiny": 1e-3,
    "swin": 3e-3, "swin-tiny": 1e-3, "vit": 1e-3, "vit-shallow": 1.5e-3,
}  # fmt: skip
# Cost of a photo at equal size; that of resnet18 is 1.
COSTS = {"resnet50": 6.0, "resnet50-narrow": 0.9, "convnext": 0.7, "swin": 0.5, "vit": 5.0, "vit-shallow": 1.1}
FINETUNING, FINETUNING_RATE = {"warmup": 5, "validate_every": 20}, 0.2  # the rate is a share of that from scratch

CONFIGS = {
    SCRATCH: AttackConfig(lr=RATES["resnet18"], shift=0.03, light=0.1),
    FACE: AttackConfig(
        name=FACE,
        backbone="mobilefacenet",
        init="face",
        frame="face",
        image_size=112,
        steps=120,
        batch=48,
        lr=1.2e-3,
        warmup=5,
        validate_every=40,
    ),
}
CONFIGS[BACKGROUND] = replace(CONFIGS[SCRATCH], name=BACKGROUND, view="background")


def train(
    pairs: "PhotoPairs", validation: "PhotoPairs | None" = None, attacker: str = SCRATCH, **changes: int | float | str
) -> "TrainedAttacker":
    """Train one attacker; its method `embed` maps photos to embeddings.

    Args:
        pairs: Pairs of the attacker's own people.
        validation: Pairs of other people, which select the best state.
        attacker: A key of CONFIGS.
        **changes: Fields of `AttackConfig`, such as steps=100, temperature=0.2, backbone="resnet50".

    Returns:
        The attacker, in memory only.
    """
    from anonlib.attacks.train import train_attacker

    return train_attacker(attack_config(attacker, **changes), pairs, validation)


def attack_config(attacker: str = SCRATCH, **changes: int | float | str) -> AttackConfig:
    """Change fields of an attacker's configuration; a backbone brings its own learning rate.

    Args:
        attacker: A key of CONFIGS.
        **changes: Fields of `AttackConfig`.

    Raises:
        AnonlibError: The attacker is unknown or not trained with the contrastive loss.
    """
    if attacker not in CONFIGS:
        raise AnonlibError(f"unknown attacker {attacker!r}: choose one of {', '.join(CONFIGS)}")
    if "backbone" in changes:
        changes = {"lr": RATES.get(changes["backbone"], CONFIGS[attacker].lr)} | changes
    return replace(CONFIGS[attacker], **changes)


def scratch_config(settings: config.Attack, backbone: str, image_size: int, seed: int, attacker: str = SCRATCH):
    """Return the configuration of an attacker from scratch in a profile.

    Args:
        backbone, image_size, seed: See `AttackConfig`.
        attacker: SCRATCH or BACKGROUND.

    Returns:
        An `AttackConfig`.
    """
    return attack_config(
        attacker, backbone=backbone, image_size=image_size, seed=seed,
        steps=settings.steps, batch=settings.batch, temperature=settings.temperature,
    )  # fmt: skip


def face_config(settings: config.Attack, **changes: int | float | str) -> AttackConfig:
    """Return the configuration of an attacker from a face recognizer in a profile.

    Args:
        **changes: Fields of `AttackConfig`.

    Returns:
        The configuration.
    """
    profile = {"batch": settings.face_batch, "temperature": settings.temperature, "frozen": settings.face_frozen}
    return attack_config(FACE, **{"steps": settings.face_steps} | profile | changes)


def finetune_config(scratch: AttackConfig, steps: int) -> AttackConfig:
    """Return the configuration of a training that continues one from scratch for so many steps."""
    return replace(scratch, steps=steps, lr=FINETUNING_RATE * scratch.lr, **FINETUNING)


def cost(training: TrainingSpec) -> float:
    """Estimate how long a training takes, to start the longest first.

    Args:
        training: Its steps, batch, image size and backbone count.

    Returns:
        A time in arbitrary units.
    """
    chosen = training.config
    return chosen.steps * chosen.batch * chosen.image_size**2 * COSTS.get(chosen.backbone, 1.0)


def training_groups(anonymizers: Iterable[str], settings: config.Attack) -> list[tuple[str, ...]]:
    """Group anonymizers: an attacker is trained on all photos of its group.

    Args:
        anonymizers: Their names.
        settings: Trainings of the profile; `together` puts all but originals into one group, else each has its own.

    Returns:
        The groups; originals always have their own.
    """
    if not settings.together:
        return [(name,) for name in anonymizers]
    others = tuple(name for name in anonymizers if name not in ORIGINALS)
    return [group for group in (ORIGINALS, others) if group and set(group) <= set(anonymizers)]


def scratch_trainings(
    groups: Iterable[tuple[str, ...]], attacker: str, label: str, scratch: AttackConfig, tune_steps: int
) -> list[TrainingSpec]:
    """List one training per group: from scratch, or for tune_steps > 0 continued from the one on originals.

    Args:
        groups: Of `training_groups`.
        attacker, label: See `TrainingSpec`.
        scratch, tune_steps: Configuration of a training from scratch, and steps of a continued training.

    Returns:
        The trainings, in the order of the groups.
    """
    trainings = []
    for group in groups:
        if group == ORIGINALS or not tune_steps:
            trainings.append(TrainingSpec(group, attacker, label, scratch, save_weights=bool(tune_steps)))
        else:
            finetune = finetune_config(scratch, tune_steps)
            trainings.append(TrainingSpec(group, attacker, label, finetune, init_from=(*ORIGINALS, label)))
    return trainings


def _face_trainings(anonymizers: tuple[str, ...], settings: config.Attack) -> list[TrainingSpec]:
    joint = [
        TrainingSpec(group, FACE, FACE, face_config(settings, seed=seed), save_weights=group != ORIGINALS)
        for seed in settings.seeds
        for group in training_groups(anonymizers, settings)
    ]
    return joint + own_trainings(anonymizers, settings)


def own_trainings(anonymizers: Iterable[str], settings: config.Attack) -> list[TrainingSpec]:
    """List one training per anonymizer, from a face recognizer, on the photos of that one only.

    Args:
        anonymizers, settings: Their names, and trainings of the profile.

    Returns:
        The trainings, labelled OWN_FACE; their weights are saved.
    """
    chosen = face_config(settings, steps=settings.transfer_steps, seed=settings.seeds[0])
    return [TrainingSpec((name,), FACE, OWN_FACE, chosen, save_weights=True) for name in anonymizers]


def _scratch_trainings(
    anonymizers: tuple[str, ...], settings: config.Attack, attacker: str = SCRATCH
) -> list[TrainingSpec]:
    groups = training_groups(anonymizers, settings)
    backbones = list(zip(settings.backbones, settings.sizes, strict=True))
    if attacker == BACKGROUND:
        groups, backbones = _backgrounds(groups), backbones[:1]
    trainings = []
    for seed in settings.scratch_seeds:
        for place, (backbone, size) in enumerate(backbones):
            label = attacker if place == 0 else f"{attacker}-{backbone}"
            scratch = scratch_config(settings, backbone, size, seed, attacker)
            trainings += scratch_trainings(groups, attacker, label, scratch, settings.tune_steps)
    return trainings


def _backgrounds(groups: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Return the groups with each anonymizer that repaints the background in one of its own."""
    from anonlib.anonymizers import registry

    repaints = {name: registry.find(name).repaints_background for group in groups for name in group}
    others = [tuple(name for name in group if not repaints[name]) for group in groups]
    return [*(group for group in others if group), *((name,) for name, alone in repaints.items() if alone)]


add_attacker(
    AttackerSpec(
        name=SCRATCH,
        knows="Owns the anonymizer and photos of other people: trains a network from scratch on photo and anonymized "
        "photo, on photo and photo before where that pays.",
        kind="contrastive",
        trainings=_scratch_trainings,
        min_noop_top1=0.80,
        order=10,
    )
)
add_attacker(
    AttackerSpec(
        name=FACE,
        knows="As contrastive, but starts from a public face recognizer and fine-tunes it.",
        kind="contrastive",
        trainings=_face_trainings,
        min_noop_top1=0.90,
        order=11,
    )
)
add_attacker(
    AttackerSpec(
        name=BACKGROUND,
        knows="Control, trained as contrastive: sees the pixels around the person only, so it must be at chance.",
        kind="control",
        trainings=partial(_scratch_trainings, attacker=BACKGROUND),
        control=True,
        order=90,
    )
)
add_attacker(
    AttackerSpec(
        name=PERMUTED,
        knows="Control: contrastive, judged with the probes' names permuted among people, so it must be at chance.",
        kind="control",
        permutes=SCRATCH,
        control=True,
        order=91,
    )
)
