"""Train CAMOUFLaGE's own parts for a pipeline: the identity function of Base and the adapters of Light."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import ControlNetModel, DDPMScheduler, DiffusionPipeline
from torch import Tensor

from anonlib.assets.models import IDENTITY, PARTS
from anonlib.diffusion.loading import save_net
from anonlib.faces import with_mirrors
from anonlib.faces.people import Person
from tools.build.small_bundle import build_identity, copy_matching
from tools.build.train_light import train_adapters
from tools.build.train_unet import Latents, tokenize, train_controlnet
from tools.build.train_vae import encode
from tools.build.training import Schedule, device


@dataclass(frozen=True)
class CamouflagePlan:
    """Training lengths of the identity function and of the two adapters; not tried on Stable Diffusion."""

    identity: Schedule = Schedule(20_000, 16, 1e-4)
    light: Schedule = Schedule(50_000, 16, 1e-4)


def train_camouflage(
    pipeline: DiffusionPipeline,
    latents: Latents,
    people: list[list[Person]],
    embeds: Tensor,
    plan: CamouflagePlan,
    checkpoints: Path,
    target: Path,
    start: Path | None = None,
) -> None:
    """Train both parts for a pipeline and save them in `target`; a stopped training resumes from `checkpoints`.

    `people` (2N lists) are those in each picture of `latents`, with points in its pixels; `embeds` (2N, D) are the
    pictures' embeddings. `start`: folder of both parts to begin with.
    """
    unet, text_encoder = pipeline.unet, pipeline.text_encoder
    scheduler = DDPMScheduler.from_config(pipeline.scheduler.config)
    net = build_identity(unet)
    if start:
        copy_matching(net, ControlNetModel.from_pretrained(start / PARTS[IDENTITY]).state_dict())
    frozen = (unet, text_encoder, latents)
    train_controlnet(IDENTITY, net, *frozen, None, plan.identity, checkpoints, whole=1.0, scheduler=scheduler)
    save_net(net, target / PARTS[IDENTITY])
    train_adapters(*frozen, people, embeds, plan.light, checkpoints, target, scheduler, start)


def latents_of(pipeline: DiffusionPipeline, images: np.ndarray) -> Latents:
    """Return the latents of pictures (N, S, S, 3) uint8 and their mirror images, all masked, without captions."""
    both, vae = with_mirrors(images), pipeline.vae.to(device())
    clean, grey = (
        encode(vae, pictures) * vae.config.scaling_factor for pictures in (both, np.full_like(both[:1], 128))
    )
    empty = tokenize(pipeline.tokenizer, [""])
    return Latents(clean, clean, torch.ones_like(clean[:, :1]), grey, empty.expand(len(clean), 1, -1), empty)
