"""Draw the pool; train the small bundle, its few-step LoRA and CAMOUFLaGE's parts. A stopped run resumes."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, ControlNetModel, StableDiffusionInpaintPipeline, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from anonlib.assets.models import SMALL, ModelRef, ModelSpec, controlnet_folder
from anonlib.config.paths import cache_root
from anonlib.diffusion.loading import forget_places, read_pipeline, save_net
from anonlib.engine.pool import default_workers
from anonlib.faces import with_mirrors
from anonlib.faces.attributes import ENCODER, SmallAttributePredictor
from anonlib.faces.people import read_person
from tools.build.measure import measure_bundle
from tools.build.pool import HELD_OUT, SHARD, draw_shard, load_pool
from tools.build.small_bundle import (
    build_controlnet,
    build_scheduler,
    build_text_encoder,
    build_tokenizer,
    build_unet,
    copy_matching,
)
from tools.build.train_attributes import train_attributes
from tools.build.train_camouflage import CamouflagePlan, train_camouflage
from tools.build.train_decoder import train_decoder
from tools.build.train_few_steps import train_few_steps
from tools.build.train_unet import WHOLE_SHARE, Latents, prepare_latents, train_controlnet, train_unet
from tools.build.train_vae import build_vae, train_vae
from tools.build.training import Schedule

CONTROLS = ("hed", "depth", "canny")  # the others start from the first; each has a Schedule in Plan
PLAIN = ("lineart", "segmentation", "openpose", "normal")  # without attention, half as large, for CAMOUFLaGE-Base
# more steps do not help: on 118 held-out faces the loss is least after 1,500 to 2,000 steps of 64, then it rises
PLAIN_WHOLE = 0.7  # share of their samples with the whole picture masked, as in CAMOUFLaGE


@dataclass(frozen=True)
class Plan:
    """Number of faces to draw, and the training length of each part.

    The shipped bundle differs. Its decoder and first three ControlNets were trained on 1,419 faces, its LoRA on 715,
    CAMOUFLaGE's parts on 2,134 (the identity function on 2,016). The ControlNets were trained in several runs, HED's in
    3,350 steps, the first 1,500 at a rate of 4e-4 on earlier UNet weights. CAMOUFLaGE-Light's rate fell later.
    """

    pool_seeds: int = 4_600  # about 60 % of them look adult and are used
    held_out_seeds: int = 4_000
    vae: Schedule = Schedule(5_000, 8, 8e-4)
    decoder: Schedule = Schedule(2_600, 8, 2e-4)
    unet: Schedule = Schedule(9_000, 32, 4e-4)
    hed: Schedule = Schedule(3_000, 32, 2e-3)
    depth: Schedule = Schedule(2_300, 32, 2e-3)
    canny: Schedule = Schedule(600, 32, 2e-3)
    lineart: Schedule = Schedule(1_500, 32, 2e-3)
    segmentation: Schedule = Schedule(1_000, 32, 2e-3)
    openpose: Schedule = Schedule(1_000, 32, 2e-3)
    normal: Schedule = Schedule(1_000, 32, 2e-3)
    attributes: Schedule = Schedule(1_500, 128, 1e-3)
    camouflage: CamouflagePlan = CamouflagePlan(Schedule(3_250, 64, 2e-3), Schedule(1_500, 32, 1e-3))
    chains: int = 3_008  # that the few-step LoRA's teacher samples
    few_steps: Schedule = Schedule(1_500, 32, 1e-3)


def main() -> None:
    """Make the whole bundle, `make models` (hours on 2 CPU cores, minutes on a GPU); a stopped run resumes."""
    make_bundle(Plan(), SMALL, default_workers())


def make_bundle(plan: Plan, target: Path, workers: int) -> Path:
    """Draw the pools, train every part, save the bundle in `target` and measure it; return `target`."""
    root = cache_root()
    draw_pools(plan, root, workers)
    pool, checkpoints = load_training_pool(), root / "train"
    torch.manual_seed(0)
    vae = train_vae(build_vae(), pool["images"], plan.vae, checkpoints)
    torch.manual_seed(3)
    train_decoder(vae, pool["images"], plan.decoder, checkpoints)
    tokenizer, text_encoder, unet, latents = start_unet(vae, pool, checkpoints)
    train_unet(unet, text_encoder, latents, plan.unet, checkpoints)
    frozen, nets = (unet, text_encoder, latents), {}
    for name in (*CONTROLS, *PLAIN):
        nets[name] = build_controlnet(unet, attention=name in CONTROLS)
        if CONTROLS[0] in nets:  # a net of one kind of map learns another one faster
            copy_matching(nets[name], nets[CONTROLS[0]].state_dict())
        whole = PLAIN_WHOLE if name in PLAIN else WHOLE_SHARE
        train_controlnet(name, nets[name], *frozen, pool[name], getattr(plan, name), checkpoints, whole)
    save_bundle(target, vae, unet, text_encoder, tokenizer, nets)

    def load_shipped() -> StableDiffusionInpaintPipeline:
        return read_pipeline(ModelSpec(ModelRef(str(target))))

    parts = target.with_name(f"{target.name}-camouflage")
    train_attributes(pool, plan.attributes, checkpoints, parts / ENCODER)
    both = with_mirrors(pool["images"])
    attributes, embeds = SmallAttributePredictor(parts / ENCODER).predict(both)
    people = [[person] if (person := read_person(*pair)) else [] for pair in zip(both, attributes, strict=True)]
    train_camouflage(load_shipped(), latents, people, torch.from_numpy(embeds), plan.camouflage, checkpoints, parts)
    lora = target.with_name(f"{target.name}-few-steps")
    fresh = load_shipped()
    train_few_steps(fresh.unet, fresh.text_encoder, tokenizer, latents, plan.chains, plan.few_steps, checkpoints, lora)
    measure_bundle(load_pool(root / "drawn" / "held_out"), checkpoints, target)
    return target


def load_training_pool() -> dict[str, np.ndarray]:
    """Load the training pool of drawn faces."""
    return load_pool(cache_root() / "drawn" / "train")


def draw_pools(plan: Plan, root: Path, workers: int) -> None:
    """Draw the training pool and the held-out set in single-thread processes."""
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    shards = [(first, root / "drawn" / "train" / f"{first:06d}.npz") for first in range(0, plan.pool_seeds, SHARD)]
    held_out = range(HELD_OUT, HELD_OUT + plan.held_out_seeds, SHARD)
    shards += [(first, root / "drawn" / "held_out" / f"{first:06d}.npz") for first in held_out]
    missing = [(first, path) for first, path in shards if not path.exists()]
    print(f"pool: {len(shards) - len(missing)} of {len(shards)} shards are there", flush=True)
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as processes:
        for done, _ in enumerate(processes.map(draw_shard, *zip(*missing, strict=True)) if missing else [], start=1):
            print(f"pool: shard {done} of {len(missing)} drawn", flush=True)


def start_unet(
    vae: AutoencoderKL, pool: dict[str, np.ndarray], folder: Path
) -> tuple[CLIPTokenizer, CLIPTextModel, UNet2DConditionModel, Latents]:
    """Return the tokenizer, an untrained text encoder and UNet, and the pool's latents."""
    torch.manual_seed(1)
    tokenizer = build_tokenizer(folder / "tokenizer")
    text_encoder, unet = build_text_encoder(tokenizer), build_unet()
    latents = prepare_latents(vae, pool["images"], pool["masks"], pool["captions"].tolist(), tokenizer)
    return tokenizer, text_encoder, unet, latents


def save_bundle(
    target: Path,
    vae: AutoencoderKL,
    unet: UNet2DConditionModel,
    text_encoder: CLIPTextModel,
    tokenizer: CLIPTokenizer,
    controlnets: dict[str, ControlNetModel],
) -> Path:
    """Write a diffusers folder in fp16 safetensors with the ControlNets beside it; return it."""
    pipeline = StableDiffusionInpaintPipeline(
        vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, unet=unet, scheduler=build_scheduler(),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipeline.to("cpu", torch.float16).save_pretrained(target, safe_serialization=True)
    for name, net in controlnets.items():
        save_net(net, controlnet_folder(target, name))
    forget_places(target)
    return target
