"""Train a contrastive attacker: one loop, resumable to the bit, evaluated on validation people only."""

import itertools
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from anonlib.attacks.loss import contrastive_loss
from anonlib.attacks.model import build_attacker
from anonlib.attacks.pairs import PhotoPairs, apply_view, augment, crop_frame, draw_batch, resize_frame, rows_by_person
from anonlib.attacks.registry import AttackConfig
from anonlib.config.errors import AnonlibError
from anonlib.engine import store
from anonlib.engine.torch_setup import autocast
from anonlib.faces.recognizers import l2_normalize
from anonlib.metrics.gallery import FUSIONS
from anonlib.metrics.identification import hits, mated, rank_of_true

COMPILED_FROM = 1000  # steps from which compiling on a GPU, which takes a minute, pays
STOP_PROBES = 30  # validation probes: fewer may all be identified by chance


@dataclass(frozen=True)
class TrainedAttacker:
    """A trained network and what validation people decided.

    Attributes:
        config: How it was trained.
        network: The network, in evaluation mode.
        embedding: The output that is the embedding, "h" (backbone) or "z" (head).
        fusion: How the references of a person are fused, one of `metrics.gallery.FUSIONS`.
        step: The training step that these weights are of.
        curve: step, loss, and where validated, by output and fusion: h_max_top1, h_max_score ...
    """

    config: AttackConfig
    network: nn.Module
    embedding: str
    fusion: str
    step: int
    curve: pd.DataFrame

    def embed(self, images: np.ndarray, masks: np.ndarray | None = None, batch: int = 64) -> np.ndarray:
        """Embed photos: the embedding of each plus that of its mirror image.

        Args:
            images: Aligned photos (N, 128, 128, 3) uint8; the attacker's view is applied here.
            masks: Person masks, for views that need them.
            batch: Photos of one call of the network.

        Returns:
            (N, d) float32, L2-normalized.
        """
        return l2_normalize(_outputs(self.config, self.network, images, masks, batch, mirror=True)[self.embedding])


class SingleProcess:
    """The processes that train one attacker: here a single one, without communication."""

    rank, size = 0, 1

    def local_slice(self, count: int) -> slice:
        """Return which of `count` pairs this process takes; count is a multiple of the size."""
        part = count // self.size
        return slice(self.rank * part, (self.rank + 1) * part)

    def prepare_network(self, network: nn.Module) -> nn.Module:
        """Return the network to train: its gradients are those of the joined batch."""
        return network

    def all_gather(self, embeddings: Tensor) -> Tensor:
        """Return the embeddings of all processes (K, d), in order, with their gradients."""
        return embeddings

    def broadcast(self, value: Any) -> Any:
        """Return the value of the first process."""
        return value


def train_attacker(
    config: AttackConfig,
    train: PhotoPairs,
    validation: PhotoPairs | None = None,
    checkpoint: Path | None = None,
    init: Mapping[str, np.ndarray] | None = None,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
    context: SingleProcess | None = None,
) -> TrainedAttacker:
    """Train with the first paper's loss on pairs (original, anonymized) of one person, K different people per step.

    The result has the best validation score (mean reciprocal rank, Full-Ref, the probe's own photo excluded where the
    person has another) over both outputs h and z, both fusions of references and all validated steps, step 0 included;
    the later one if equal. So fine-tuning never ends below the recognizer it started from, as far as validation people
    can tell. Training stops early when all of at least STOP_PROBES validation probes are identified. Without
    validation people the result is the last state, z, and the largest cosine.

    The checkpoint is written at every validation. A killed training continues from it to the same weights (with as
    many threads); a finished one is only read. `init` are weights as `weights_of` returns them, instead of those of
    step 0. `progress` is called with (step, steps). `context` holds the processes that train one attacker; the batch
    is that of all.
    """
    context = context or SingleProcess()
    people = rows_by_person(train)
    originals = _network_input(config, train.originals, train.masks).to(device)
    anonymized = _network_input(config, train.anonymized, train.anonymized_masks).to(device)
    network = with_weights(seeded_network(config), init).to(device, memory_format=torch.channels_last)
    learner = context.prepare_network(network)
    if torch.device(device).type == "cuda" and config.steps >= COMPILED_FROM:
        learner = torch.compile(learner)
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=config.lr, weight_decay=config.weight_decay)
    run = _run_of(config, train, validation, init) if checkpoint else {}
    state = _resume(checkpoint, run, network, optimizer) or {"step": 0, "best": None, "curve": []}
    if state["best"] is None and (validation is not None or config.steps == 0):
        _validate(config, network, validation, state, context)
    count = min(config.batch, len(people)) // context.size * context.size
    local = np.arange(count)[context.local_slice(count)]
    for step in range(state["step"], config.steps):
        if validation is not None and len(validation.usable) >= STOP_PROBES and state["best"]["score"] == 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = config.lr * lr_schedule(step, config.steps, config.warmup)
        *rows, augmentation = draw_batch(people, train.source, count, config, step)
        first, second = torch.from_numpy(np.stack(rows)[:, local]).to(device)
        photos = torch.cat([originals[first], anonymized[second]])
        augmentation = augmentation.select_photos(np.append(local, count + local))
        batch = augment(photos, config.frame, config.image_size, augmentation)
        network.train()
        with _autocast(config, device):
            z, z_hat = learner(batch.contiguous(memory_format=torch.channels_last))[1].chunk(2)
        loss = contrastive_loss(context.all_gather(z), context.all_gather(z_hat), config.temperature)
        if not torch.isfinite(loss):
            raise AnonlibError(f"training of {config.name!r} diverged at step {step + 1}: lower its lr ({config.lr:g})")
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)  # here, so that the next step reuses their memory
        state["step"] = step + 1
        state["curve"].append({"step": step + 1, "loss": loss.item()})
        if state["step"] % config.validate_every == 0 or state["step"] == config.steps:
            _validate(config, network, validation, state, context)
            if context.rank == 0:
                weights = {"network": network.state_dict(), "optimizer": optimizer.state_dict()}
                _save(checkpoint, {**run, **state, **weights})
        if progress:
            progress(state["step"], config.steps)
    best, curve = state["best"], pd.DataFrame(state["curve"])
    network.load_state_dict(best["network"])
    return TrainedAttacker(config, network.eval(), best["embedding"], best["fusion"], best["step"], curve)


def weights_of(trained: TrainedAttacker) -> dict[str, np.ndarray]:
    """Return the network's state by name, as arrays."""
    return {name: value.cpu().numpy() for name, value in trained.network.state_dict().items()}


def load_attacker(
    config: AttackConfig, weights: Mapping[str, np.ndarray], embedding: str, fusion: str
) -> TrainedAttacker:
    """Return the attacker with these weights, without its training curve (step -1)."""
    network = with_weights(seeded_network(config), weights)
    return TrainedAttacker(config, network.eval(), embedding, fusion, -1, pd.DataFrame())


def with_weights(network: nn.Module, weights: Mapping[str, np.ndarray] | None) -> nn.Module:
    """Return the network with the state that `weights_of` returned, or as it is for None."""
    if weights is not None:
        network.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in weights.items()})
    return network


def seeded_network(config: AttackConfig) -> nn.Module:
    """Return the network at step 0, the same for the same seed; torch's random state stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return build_attacker(config.backbone, config.projection_dim, config.init, config.image_size, config.frozen)


def lr_schedule(step: int, steps: int, warmup: int) -> float:
    """Return the learning rate of a step as a share of the highest: linear warm-up, then a half cosine to 0."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 + 0.5 * math.cos(math.pi * (step - warmup) / max(1, steps - warmup))


def _network_input(config: AttackConfig, images: np.ndarray, masks: np.ndarray | None) -> Tensor:
    return resize_frame(apply_view(config.view, images, masks), config.frame, config.image_size)


def _autocast(config: AttackConfig, device: str) -> torch.autocast:
    return autocast(torch.device(device).type, getattr(torch, config.dtype) if config.dtype else None, training=True)


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
        for chunk in _network_input(config, images, masks).split(batch):
            x = crop_frame(chunk.to(device), config.frame, config.image_size)
            x = x.contiguous(memory_format=torch.channels_last)
            views = [x, x.flip(3).contiguous(memory_format=torch.channels_last)] if mirror else [x]
            outputs = [network(view) for view in views]
            parts.append([sum(of_views).float().cpu().numpy() for of_views in zip(*outputs, strict=True)])
    return {name: np.concatenate(column) for name, column in zip("hz", zip(*parts, strict=True), strict=True)}


def _validate(
    config: AttackConfig, network: nn.Module, validation: PhotoPairs | None, state: dict, context: SingleProcess
) -> None:
    """Add validation measures to the curve; store the network if it is the best so far or nothing can be compared."""
    result = _scores(config, network, validation) if context.rank == 0 else None
    measures, scores = context.broadcast(result)
    if state["curve"]:
        state["curve"][-1] |= measures
    elif measures:
        state["curve"].append({"step": 0, "loss": float("nan"), **measures})
    best = max(scores, key=scores.__getitem__)
    if state["best"] is None or scores[best] >= state["best"]["score"]:
        weights = state["best"]["network"] if state["best"] else {}  # its memory is reused
        for key, value in network.state_dict().items():
            weights[key] = weights[key].copy_(value) if key in weights else value.detach().clone()
        chosen = {"embedding": best[0], "fusion": best[1], "score": scores[best], "step": state["step"]}
        state["best"] = {"network": weights, **chosen}


def _scores(
    config: AttackConfig, network: nn.Module, validation: PhotoPairs | None
) -> tuple[dict[str, float], dict[tuple[str, str], float]]:
    """Return the measures of validation people, and the score by output and fusion; (z, max) alone without them."""
    if validation is None:
        return {}, {("z", "max"): 0.0}
    rows = validation.usable
    masks = None if validation.masks is None else validation.anonymized_masks[rows]
    probes = _outputs(config, network, validation.anonymized[rows], masks)
    references = _outputs(config, network, validation.originals, validation.masks)
    measures, scores = {}, {}
    for name, fusion in itertools.product("hz", FUSIONS):
        scores[name, fusion] = 0.0
        if np.isfinite(probes[name]).all() and np.isfinite(references[name]).all():
            ranks = _validation_ranks(l2_normalize(probes[name]), l2_normalize(references[name]), validation, fusion)
            scores[name, fusion] = float((1 / mated(ranks)["rank"]).mean())
            measures[f"{name}_{fusion}_top1"] = float(hits(ranks).mean())
            measures[f"{name}_{fusion}_score"] = scores[name, fusion]
    return measures, scores


def _validation_ranks(probes: np.ndarray, references: np.ndarray, validation: PhotoPairs, fusion: str) -> pd.DataFrame:
    identity, source = np.asarray(validation.identity).astype(str), validation.source[validation.usable]
    ranks = rank_of_true(
        probes, identity[source], source, references, identity, np.arange(len(identity)), fusion=fusion
    )
    if ranks.mated.any():
        return ranks
    return rank_of_true(probes, identity[source], None, references, identity, None, fusion=fusion)  # one photo each


def _run_of(config: AttackConfig, train: PhotoPairs, validation: PhotoPairs | None, init: Mapping | None) -> dict:
    """Return what identifies a training, for its checkpoint."""
    data = train.fingerprint() + (validation.fingerprint() if validation else "")
    return {"config": asdict(config), "data": data, "init": store.digest(dict(init)) if init else ""}


def _save(path: Path | None, content: dict) -> None:
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.part{os.getpid()}")
        torch.save(content, part)
        os.replace(part, path)


def _resume(path: Path | None, run: dict, network: nn.Module, optimizer: torch.optim.Optimizer) -> dict | None:
    if path is None or not path.exists():
        return None
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    if any(checkpoint[key] != run[key] for key in run):
        raise AnonlibError(f"checkpoint {path} is of another attacker or other data: delete it, or give another path")
    network.load_state_dict(checkpoint["network"])
    optimizer.load_state_dict(checkpoint["optimizer"])
    return {key: checkpoint[key] for key in ("step", "best", "curve")}
