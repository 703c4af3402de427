"""Train an attacker: one loop, resumable to the bit, judged on validation people only."""

import itertools
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from anonlib.attacks.distributed import Alone
from anonlib.attacks.losses import contrastive_loss
from anonlib.attacks.models import build_attacker
from anonlib.attacks.pairs import Pairs, augment, draw_pairs, drawn_changes, framed, people_of, see, window
from anonlib.config.errors import AnonlibError
from anonlib.engine import store
from anonlib.engine.torch_setup import autocast
from anonlib.faces.recognizers import l2_normalize
from anonlib.metrics.gallery import FUSIONS
from anonlib.metrics.identification import hits, mated, rank_of_true

ALONE = Alone()
COMPILED_FROM = 1000  # steps from which on a GPU compiling, which takes a minute, pays
ENOUGH = 30  # validation probes: fewer may all be found by luck


@dataclass(frozen=True)
class AttackConfig:
    """Everything that decides what an attacker becomes, besides its data; `temperature` 0.1 as design.md's table."""

    name: str = "contrastive"
    backbone: str = "resnet18"
    init: str | None = None  # "face": start from a face recognizer
    frozen: int = 0  # of its stages, the first ones that stay as they are
    sees: str = "images"  # a key of pairs.VIEWS
    frame: str = "full"  # a key of pairs.FRAMES
    image_size: int = 64
    projection_dim: int = 128
    steps: int = 300
    batch: int = 128  # people a step, one pair each
    temperature: float = 0.1
    lr: float = 2e-3
    weight_decay: float = 0.05
    warmup: int = 20  # steps
    shift: float = 0.06
    light: float = 0.2
    validate_every: int = 50  # steps
    dtype: str | None = None  # of the products, float32 or bfloat16; None: whichever this machine is faster in
    seed: int = 0


@dataclass(frozen=True)
class TrainedAttacker:
    """A network, which of its outputs is the embedding, how references are fused, its step, and how training went."""

    config: AttackConfig
    network: nn.Module
    embedding: str  # "h" or "z"
    fusion: str  # one of identification.FUSIONS
    step: int
    curve: pd.DataFrame  # step, loss, and where validated, by output and fusion: h_max_top1, h_max_score ...


def train_attacker(
    config: AttackConfig,
    train: Pairs,
    validation: Pairs | None = None,
    checkpoint: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    device: str = "cpu",
    start: Mapping[str, np.ndarray] | None = None,
    team: Alone = ALONE,
) -> TrainedAttacker:
    """Train with P1's loss on pairs (original, anonymized) of the same person; K different people a step.

    The state kept is the one with the best validation score (mean reciprocal rank, Full-Ref, the probe's own photo
    excluded where the person has another), over both outputs h and z, over both fusions of a person's references, and
    over step 0; the later one when equal. So an attacker never ends below the recognizer it came from, as far as
    validation people can tell; where ENOUGH probes are all found, training ends. Without validation people it is the
    last state, z and the largest cosine. checkpoint: written at every validation; a killed run continues from it to
    the same weights (same thread count), a finished one is only read. progress: called with (step, steps). start: a
    state, as `weights_of` gives it, in the place of step 0's. team: the processes that train it together; the batch is
    that of all, and the first one validates and writes.
    Raises AnonlibError for fewer than 2 people or a checkpoint of another run.
    """
    people = people_of(train)
    photos = _prepared(config, train.originals, train.masks).to(device)
    anonymized = _prepared(config, train.anonymized, train.anonymized_masks).to(device)
    network = with_weights(seeded_network(config), start).to(device, memory_format=torch.channels_last)
    learner = team.prepared(network)
    if torch.device(device).type == "cuda" and config.steps >= COMPILED_FROM:
        learner = torch.compile(learner)
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=config.lr, weight_decay=config.weight_decay)
    run = {"config": asdict(config), "data": _fingerprint(train, validation) if checkpoint else ""}
    run["start"] = store.digest(dict(start)) if start and checkpoint else ""
    state = _resumed(checkpoint, run, network, optimizer) or {"step": 0, "best": None, "curve": []}
    if state["best"] is None and (validation is not None or config.steps == 0):
        _validate(config, network, validation, state, team)
    pairs = min(config.batch, len(people)) // team.size * team.size
    for step in range(state["step"], config.steps):
        if validation is not None and len(validation.usable) >= ENOUGH and state["best"]["score"] == 1:
            break  # everybody is found: there is nothing left to choose by
        for group in optimizer.param_groups:
            group["lr"] = config.lr * schedule(step, config.steps, config.warmup)
        rng = np.random.default_rng([config.seed, step])  # a step's randomness depends on its number only
        rows = np.stack(draw_pairs(people, train.source, pairs, rng))
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        changes = drawn_changes(2 * pairs, config.image_size, config.shift, config.light, generator)
        own = np.arange(pairs)[team.share(pairs)]
        first, second = torch.from_numpy(rows[:, own]).to(device)
        stored = torch.cat([photos[first], anonymized[second]])
        batch = augment(stored, config.frame, config.image_size, changes.select(np.append(own, pairs + own)))
        batch = batch.contiguous(memory_format=torch.channels_last)
        network.train()
        with _autocast(config, device):
            z, z_hat = learner(batch)[1].chunk(2)
        loss = contrastive_loss(team.joined(z), team.joined(z_hat), config.temperature)
        if not torch.isfinite(loss):
            raise AnonlibError(f"training of {config.name!r} diverged at step {step + 1}: lower its lr ({config.lr:g})")
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)  # here: the next step's activations take their place
        state["step"] = step + 1
        state["curve"].append({"step": step + 1, "loss": loss.item()})
        if state["step"] % config.validate_every == 0 or state["step"] == config.steps:
            _validate(config, network, validation, state, team)
            if team.rank == 0:
                saved = {"network": network.state_dict(), "optimizer": optimizer.state_dict()}
                _save(checkpoint, {**run, **state, **saved})
        if progress:
            progress(state["step"], config.steps)
    best = state["best"]
    network.load_state_dict(best["network"])
    chosen = (best["embedding"], best["fusion"], best["step"])
    return TrainedAttacker(config, network.eval(), *chosen, pd.DataFrame(state["curve"]))


def embed(trained: TrainedAttacker, images: np.ndarray, masks: np.ndarray | None = None, batch: int = 64) -> np.ndarray:
    """Return (N, d) float32, L2-normalized: the attacker's embedding of each photo plus that of its mirror image.

    images: (N, 128, 128, 3) uint8 as the attacker finds them; its own view (`sees`) is applied here, with the masks.
    """
    return l2_normalize(_outputs(trained.config, trained.network, images, masks, batch, mirror=True)[trained.embedding])


def weights_of(trained: TrainedAttacker) -> dict[str, np.ndarray]:
    """Return the network's state by name, as arrays."""
    return {name: value.cpu().numpy() for name, value in trained.network.state_dict().items()}


def restored(config: AttackConfig, weights: Mapping[str, np.ndarray], embedding: str, fusion: str) -> TrainedAttacker:
    """Return the attacker that has these weights, without its training curve (step -1)."""
    network = with_weights(seeded_network(config), weights)
    return TrainedAttacker(config, network.eval(), embedding, fusion, -1, pd.DataFrame())


def with_weights(network: nn.Module, weights: Mapping[str, np.ndarray] | None) -> nn.Module:
    """Return the network with the state that `weights_of` gave, as it is for None."""
    if weights is not None:
        network.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in weights.items()})
    return network


def seeded_network(config: AttackConfig) -> nn.Module:
    """Return the network at step 0, the same for the same seed; torch's own random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return build_attacker(config.backbone, config.projection_dim, config.init, config.image_size, config.frozen)


def schedule(step: int, steps: int, warmup: int) -> float:
    """Return the learning rate of a step as a share of the highest: linear warm-up, then a half cosine to 0."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 + 0.5 * math.cos(math.pi * (step - warmup) / max(1, steps - warmup))


def _fingerprint(train: Pairs, validation: Pairs | None) -> str:
    return train.fingerprint() + (validation.fingerprint() if validation else "")


def _prepared(config: AttackConfig, images: np.ndarray, masks: np.ndarray | None) -> Tensor:
    return framed(see(config.sees, images, masks), config.frame, config.image_size)


def _autocast(config: AttackConfig, device: str) -> torch.autocast:
    return autocast(torch.device(device).type, getattr(torch, config.dtype) if config.dtype else None)


def _outputs(
    config: AttackConfig,
    network: nn.Module,
    images: np.ndarray,
    masks: np.ndarray | None,
    batch: int = 64,
    mirror: bool = False,
) -> dict[str, np.ndarray]:
    """Return h and z of each image, (N, d) each; mirror: the sums over it and its mirror image."""
    network.eval()
    device = next(network.parameters()).device
    parts = []
    with torch.inference_mode(), _autocast(config, device):
        for stored in _prepared(config, images, masks).split(batch):
            x = window(stored.to(device), config.frame, config.image_size).contiguous(memory_format=torch.channels_last)
            seen = [x, x.flip(3).contiguous(memory_format=torch.channels_last)] if mirror else [x]
            both = [network(one) for one in seen]
            parts.append([sum(outputs).float().cpu().numpy() for outputs in zip(*both, strict=True)])
    return {name: np.concatenate(column) for name, column in zip("hz", zip(*parts, strict=True), strict=True)}


def _validate(
    config: AttackConfig, network: nn.Module, validation: Pairs | None, state: dict, team: Alone = ALONE
) -> None:
    """Add validation measures to the curve; keep the network if it is the best so far or there is no validation."""
    found = _scores(config, network, validation) if team.rank == 0 else None
    measured, scores = team.agreed(found)
    if state["curve"]:
        state["curve"][-1] |= measured
    elif measured:
        state["curve"].append({"step": 0, "loss": float("nan"), **measured})
    name, fusion = way = max(scores, key=scores.__getitem__)
    if state["best"] is None or scores[way] >= state["best"]["score"]:
        kept = state["best"]["network"] if state["best"] else {}  # its memory is used again
        for key, value in network.state_dict().items():
            kept[key] = kept[key].copy_(value) if key in kept else value.detach().clone()
        chosen = {"embedding": name, "fusion": fusion, "score": scores[way], "step": state["step"]}
        state["best"] = {"network": kept, **chosen}


def _scores(
    config: AttackConfig, network: nn.Module, validation: Pairs | None
) -> tuple[dict[str, float], dict[tuple[str, str], float]]:
    """Return what is told of validation people, and the score by output and fusion; (z, max) alone without them."""
    ways = [("z", "max")] if validation is None else list(itertools.product("hz", FUSIONS))
    measured, scores = {}, dict.fromkeys(ways, 0.0)
    if validation is not None:
        rows = validation.usable
        masks = None if validation.masks is None else validation.anonymized_masks[rows]
        probes = _outputs(config, network, validation.anonymized[rows], masks)
        references = _outputs(config, network, validation.originals, validation.masks)
        for name, fusion in ways:
            if not (np.isfinite(probes[name]).all() and np.isfinite(references[name]).all()):
                continue
            ranks = _validation_ranks(l2_normalize(probes[name]), l2_normalize(references[name]), validation, fusion)
            scores[name, fusion] = float((1 / mated(ranks)["rank"]).mean())
            measured[f"{name}_{fusion}_top1"] = float(hits(ranks).mean())
            measured[f"{name}_{fusion}_score"] = scores[name, fusion]
    return measured, scores


def _validation_ranks(probes: np.ndarray, references: np.ndarray, validation: Pairs, fusion: str) -> pd.DataFrame:
    identity, source = np.asarray(validation.identity).astype(str), validation.source[validation.usable]
    given = (probes, identity[source], source, references, identity, np.arange(len(identity)))
    ranks = rank_of_true(*given, fusion=fusion)
    if ranks.mated.any():
        return ranks
    return rank_of_true(probes, identity[source], None, references, identity, None, fusion=fusion)  # one photo each


def _save(path: Path | None, content: dict) -> None:
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.part{os.getpid()}")
        torch.save(content, part)
        os.replace(part, path)


def _resumed(path: Path | None, run: dict, network: nn.Module, optimizer: torch.optim.Optimizer) -> dict | None:
    if path is None or not path.exists():
        return None
    saved = torch.load(path, map_location="cpu", weights_only=True)
    if any(saved[key] != run[key] for key in run):
        raise AnonlibError(f"checkpoint {path} is of another attacker or other data: delete it, or give another path")
    network.load_state_dict(saved["network"])
    optimizer.load_state_dict(saved["optimizer"])
    return {key: saved[key] for key in ("step", "best", "curve")}
