"""What CAMOUFLaGE has of its own for a pipeline, trained into a folder: Base's identity function, Light's adapters."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import DDPMScheduler, DiffusionPipeline
from torch import Tensor

from anonlib.assets.models import IDENTITY, PARTS
from anonlib.diffusion.loading import save_net
from anonlib.faces import with_mirrors
from anonlib.faces.people import Person
from tools.build.small_bundle import build_identity
from tools.build.train_light import train_light
from tools.build.train_unet import Latents, tokenize, train_controlnet
from tools.build.train_vae import encode
from tools.build.training import Schedule, device


@dataclass(frozen=True)
class Plan:
    """How long the identity function and the two adapters are trained; not tried on Stable Diffusion."""

    identity: Schedule = Schedule(20_000, 16, 1e-4)
    light: Schedule = Schedule(50_000, 16, 1e-4)


def train_camouflage(
    pipeline: DiffusionPipeline,
    latents: Latents,
    people: list[list[Person]],
    embeds: Tensor,
    plan: Plan,
    checkpoints: Path,
    target: Path,
) -> None:
    """Train both for a pipeline and save them in `target`; a killed training goes on from `checkpoints`.

    people, embeds: who is in each picture of `latents`, (2N) lists and (2N, D); points in its pixels.
    """
    unet, text_encoder = pipeline.unet, pipeline.text_encoder
    scheduler = DDPMScheduler.from_config(pipeline.scheduler.config)
    net = build_identity(unet)
    told = (unet, text_encoder, latents)
    train_controlnet(IDENTITY, net, *told, None, plan.identity, checkpoints, whole=1.0, scheduler=scheduler)
    save_net(net, target / PARTS[IDENTITY])
    train_light(*told, people, embeds, plan.light, checkpoints, target, scheduler=scheduler)


def latents_of(pipeline: DiffusionPipeline, images: np.ndarray) -> Latents:
    """Return the latents of pictures (N, S, S, 3) uint8 and their mirror images, all of each to be painted, unsaid."""
    both, vae = with_mirrors(images), pipeline.vae.to(device())
    clean, grey = (encode(vae, one) * vae.config.scaling_factor for one in (both, np.full_like(both[:1], 128)))
    silent = tokenize(pipeline.tokenizer, [""])
    return Latents(clean, clean, torch.ones_like(clean[:, :1]), grey, silent.expand(len(clean), 1, -1), silent)
