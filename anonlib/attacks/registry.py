"""The attackers as data: what each one knows, how it is trained, and one function that attacks with any of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from anonlib.attacks.launch import processes, train_together
from anonlib.attacks.pairs import Pairs
from anonlib.attacks.train import AttackConfig, TrainedAttacker, embed, train_attacker
from anonlib.config.errors import AnonlibError
from anonlib.faces import recognizers
from anonlib.metrics.identification import permuted_identities


@dataclass(frozen=True)
class Attacker:
    """One row of the attack table: `config` for one that is trained, `recognizer` for one that is not."""

    knows: str  # the threat model, a sentence for tables
    config: AttackConfig | None = None
    recognizer: str | None = None
    control: bool = False  # no attack: it must come out at chance
    permuted_labels: bool = False  # the probes' labels are permuted among people before the evaluation


# Of a network from scratch, by backbone. ResNet-18's was chosen on attacker-train people set aside: 180 steps on 550
# people's originals find 87 % of 200 others at 5e-3. Likewise in 120 steps: ConvNeXt 90 %, Swin 89 %, the narrow
# ResNet-50 79 %; the shallow ViT in 180 steps 87 % (93 % with six blocks instead of four, in half as much time again,
# there 89 % at 1e-3). Those of resnet50, vit and the -tiny ones are not tuned yet.
RATES = {
    "resnet18": 5e-3, "resnet50": 2e-3, "resnet50-narrow": 4e-3, "convnext": 4e-3, "convnext-tiny": 1e-3,
    "swin": 3e-3, "swin-tiny": 1e-3, "vit": 1e-3, "vit-shallow": 1.5e-3,
}  # fmt: skip
COSTS = {  # a step; resnet18's: 1
    "resnet50": 6.0, "resnet50-narrow": 0.9, "convnext": 0.7, "swin": 0.5, "vit": 5.0, "vit-shallow": 1.1
}  # fmt: skip
# A network that was trained on photos goes on with these on what an anonymizer made, at this share of its rate. On
# people set aside 60 steps find more on ia-depth+hed than 180 from nothing (mean reciprocal rank .189, .126) and about
# as many on ia-hed (.108, .126), where both find few; a rate of .4 is no better (.174, .111).
TUNING, TUNING_RATE = {"warmup": 5, "validate_every": 20}, 0.2
# Chosen likewise, in 240 steps at 4.5e-3: 88 % with these shifts and light, 85 % with twice as much of both.
_SCRATCH = AttackConfig(lr=RATES["resnet18"], shift=0.03, light=0.1)
_FACE = AttackConfig(
    name="contrastive-face",
    backbone="mobilefacenet",
    init="face",
    frame="face",
    image_size=112,
    steps=120,
    batch=48,
    lr=1.2e-3,  # chosen likewise, on ia-depth+hed: 14 % at 1.5e-3 and 12 % at 1e-3; 60 steps at 3e-4 find 8 %
    warmup=5,
    validate_every=40,
)

ATTACKERS: dict[str, Attacker] = {
    "contrastive": Attacker(
        "Owns the anonymizer and photos of other people: trains a network from scratch on photo and anonymized photo, "
        "on photo and photo before where that pays.",
        _SCRATCH,
    ),
    "contrastive-face": Attacker("As contrastive, but starts from a public face recognizer and fine-tunes it.", _FACE),
    "sface": Attacker("Knows nothing of the anonymizer: the public recognizer SFace as it is.", recognizer="sface"),
    "w600k": Attacker("Knows nothing of the anonymizer: the public recognizer w600k_mbf as it is.", recognizer="w600k"),
    "dlib": Attacker(
        "Knows nothing of the anonymizer: the public recognizer of dlib as it is; asked where systems are compared.",
        recognizer="dlib",
    ),
    "background-only": Attacker(
        "Control, trained as contrastive: sees the pixels around the person only, so it must be at chance.",
        replace(_SCRATCH, name="background-only", sees="background"),
        control=True,
    ),
    "permuted": Attacker(
        "Control: contrastive, judged with the probes' names permuted among people, so it must be at chance.",
        _SCRATCH,
        control=True,
        permuted_labels=True,
    ),
}


@dataclass(frozen=True, eq=False)
class Embeddings:
    """What an attack sees: probes (P, d) and references (R, d), L2-normalized; `trained` is None for a recognizer."""

    probes: np.ndarray
    references: np.ndarray
    trained: TrainedAttacker | None


def attack_config(name: str, **changes: int | float | str) -> AttackConfig | None:
    """Return how the attacker of this name is trained, with some numbers replaced; None if it is not trained.

    Another backbone brings its own learning rate, unless one is given.
    Raises AnonlibError for an unknown attacker, ValueError (TypeError) for changes that make no sense.
    """
    if name not in ATTACKERS:
        raise AnonlibError(f"unknown attacker {name!r}: choose one of {', '.join(ATTACKERS)}")
    config = ATTACKERS[name].config
    if config is None:
        return None
    if "backbone" in changes:
        changes = {"lr": RATES.get(changes["backbone"], config.lr)} | changes
    return replace(config, **changes)


def tuned(changes: dict, steps: int) -> dict:
    """Return the changes of a training that goes on with a network trained with `changes`, for so many steps."""
    rate = attack_config("contrastive", **changes).lr
    return changes | TUNING | {"steps": steps, "lr": TUNING_RATE * rate}


def attack(
    name: str,
    train: Pairs | None,
    validation: Pairs | None,
    probes: np.ndarray,
    references: np.ndarray,
    probe_masks: np.ndarray | None = None,
    reference_masks: np.ndarray | None = None,
    checkpoint: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    start: Mapping[str, np.ndarray] | None = None,
    threads: int = 1,
    device: str = "cpu",
    **changes: int | float | str,
) -> Embeddings:
    """Train the attacker of this name on `train` (if it is one that trains) and embed anonymized probes and references.

    probes: anonymized photos (P, 128, 128, 3) uint8, blank ones included. references: original photos (R, 128, 128, 3)
    uint8, or (R, d) float32 where a recognizer has embedded them before. Masks are those of the originals, for the
    attackers that need them. start: weights to begin with instead of the attacker's own. threads: of a recognizer.
    Where $ANONLIB_TOGETHER names several processes, they train it together.
    changes: fields of AttackConfig. Raises AnonlibError.
    """
    config = attack_config(name, **changes)
    if config is None:
        recognizer = ATTACKERS[name].recognizer
        known = references if references.ndim == 2 else recognizers.embed(recognizer, references, threads=threads)
        return Embeddings(recognizers.embed(recognizer, probes, threads=threads), known, None)
    if train is None:
        raise AnonlibError(
            f"attacker {name!r} has to be trained: give it pairs of photos and their anonymized versions"
        )
    if (count := processes()) > 1:
        trained = train_together(count, config, train, validation, checkpoint, start)
        trained.network.to(device)
    else:
        trained = train_attacker(config, train, validation, checkpoint, progress, device, start)
    return Embeddings(embed(trained, probes, probe_masks), embed(trained, references, reference_masks), trained)


def probe_labels(name: str, identity: np.ndarray, seed: int = 0) -> np.ndarray:
    """Return the identities to judge this attacker's probes by: the true ones, or for "permuted" permuted ones."""
    return permuted_identities(identity, seed) if ATTACKERS[name].permuted_labels else np.asarray(identity)
