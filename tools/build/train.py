"""Draw the pool; train the small bundle, its few-step LoRA and CAMOUFLaGE's parts. A stopped run resumes."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import (
    AsymmetricAutoencoderKL,
    AutoencoderKL,
    ControlNetModel,
    StableDiffusionInpaintPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextModel, CLIPTokenizer

from anonlib.assets.models import SMALL, ModelRef, ModelSpec, controlnet_folder
from anonlib.config.paths import cache_root
from anonlib.diffusion.loading import forget_places, read_pipeline, save_net
from anonlib.engine.pool import default_workers
from anonlib.faces import with_mirrors
from anonlib.faces.attributes import ENCODER, SmallAttributePredictor
from anonlib.faces.people import read_person
from tools.build.consistency import REPEATED, Consistency
from tools.build.measure import measure_bundle
from tools.build.pool import HELD_OUT, TURNED, draw_pool, load_pool
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
from tools.build.train_decoder import train_decoder, widen
from tools.build.train_depth import train_depth
from tools.build.train_few_steps import train_few_steps
from tools.build.train_unet import (
    WHOLE_SHARE,
    Latents,
    one_step_predictor,
    prepare_latents,
    train_controlnet,
    train_unet,
)
from tools.build.train_vae import build_vae, train_vae
from tools.build.training import Schedule

CONTROLS = ("hed", "depth", "canny")  # the others start from the first; each has a Schedule in Plan
WHOLE_PHOTO = ("lineart", "segmentation", "openpose", "normal")  # only CAMOUFLaGE-Base uses them
WHOLE_PHOTO_SHARE = 0.7  # of their samples with the whole picture masked, as in CAMOUFLaGE
FIRST = {"train": 0, "held_out": HELD_OUT}  # seeds of the pools
CYCLES = {"hed": 10.0, "depth": 80.0}  # weights of the cycle consistency, of maps in [0, 1]


@dataclass(frozen=True)
class Plan:
    """Number of faces to draw, and the training length of each part."""

    pool_seeds: int = 80_000  # about 60 % of them look adult and are used
    held_out_seeds: int = 4_000
    vae: Schedule = Schedule(5_000, 8, 8e-4)
    decoder: Schedule = Schedule(3_000, 8, 3e-4)
    unet: Schedule = Schedule(9_000, 32, 4e-4)
    hed: Schedule = Schedule(4_000, 32, 2e-3)
    depth: Schedule = Schedule(3_500, 32, 2e-3)
    canny: Schedule = Schedule(600, 32, 2e-3)
    lineart: Schedule = Schedule(1_500, 32, 2e-3)
    segmentation: Schedule = Schedule(1_000, 32, 2e-3)
    openpose: Schedule = Schedule(1_000, 32, 2e-3)
    normal: Schedule = Schedule(1_000, 32, 2e-3)
    depth_network: Schedule = Schedule(3_000, 16, 2e-3)
    attributes: Schedule = Schedule(1_500, 128, 1e-3)
    camouflage: CamouflagePlan = CamouflagePlan(Schedule(3_250, 64, 2e-3), Schedule(1_500, 32, 1e-3))
    chains: int = 3_008  # that the few-step LoRA's teacher samples
    few_steps: Schedule = Schedule(1_500, 32, 1e-3)


def main(start: Path | None = None) -> None:
    """Make the whole bundle, `make models` (hours on 2 CPU cores, minutes on a GPU); a stopped run resumes.

    Args:
        start: A bundle to begin with, see `make_bundle`.
    """
    make_bundle(Plan(), SMALL, default_workers(), start)


def make_bundle(plan: Plan, target: Path, workers: int, start: Path | None = None) -> Path:
    """Draw the pools, train every part, save the bundle in `target` and measure it; return `target`.

    Autoencoder, UNet, text encoder, ControlNets and CAMOUFLaGE's parts begin with the weights of the bundle `start` and
    of what lies beside it, if one is named.
    """
    root = cache_root()
    for name, seeds in (("train", plan.pool_seeds), ("held_out", plan.held_out_seeds)):
        turned = TURNED if name == "train" else 0.0
        draw_pool(root / "drawn" / name, range(FIRST[name], FIRST[name] + seeds), workers, turned)
    pool, checkpoints = load_training_pool(workers), root / "train"
    train_depth(pool, plan.depth_network, checkpoints)
    torch.manual_seed(0)
    if start:
        vae = AsymmetricAutoencoderKL.from_pretrained(start / "vae").float()
    else:
        vae = widen(train_vae(build_vae(), pool["images"], plan.vae, checkpoints))
    tokenizer, text_encoder, unet, latents = start_unet(vae, pool, checkpoints, start)
    train_unet(unet, text_encoder, latents, plan.unet, checkpoints)
    predict = one_step_predictor(unet, text_encoder, latents)
    train_decoder(vae, pool["images"], latents.clean, predict, plan.decoder, checkpoints)
    drawn = root / "drawn" / "train"
    nets = train_controlnets(plan, unet, text_encoder, vae, latents, drawn, checkpoints, workers, start)
    save_bundle(target, vae, unet, text_encoder, tokenizer, nets)

    def load_shipped() -> StableDiffusionInpaintPipeline:
        return read_pipeline(ModelSpec(ModelRef(str(target))))

    parts = target.with_name(f"{target.name}-camouflage")
    train_attributes(pool, plan.attributes, checkpoints, parts / ENCODER)
    both = with_mirrors(pool["images"])
    attributes, embeds = SmallAttributePredictor(parts / ENCODER).predict(both)
    people = [[person] if (person := read_person(*pair)) else [] for pair in zip(both, attributes, strict=True)]
    photos = (latents, people, torch.from_numpy(embeds))
    begin = start.with_name(parts.name) if start else None
    train_camouflage(load_shipped(), *photos, plan.camouflage, checkpoints, parts, begin)
    lora = target.with_name(f"{target.name}-few-steps")
    fresh = load_shipped()
    train_few_steps(fresh.unet, fresh.text_encoder, latents, plan.chains, plan.few_steps, checkpoints, lora)
    measure_bundle(load_pool(root / "drawn" / "held_out", workers=workers), checkpoints, target)
    return target


def load_training_pool(workers: int = 1) -> dict[str, np.ndarray]:
    """Load the training pool of drawn faces, parsed."""
    return load_pool(cache_root() / "drawn" / "train", workers=workers)


def train_controlnets(
    plan: Plan,
    unet: UNet2DConditionModel,
    text_encoder: CLIPTextModel,
    vae: AsymmetricAutoencoderKL,
    latents: Latents,
    drawn: Path,
    checkpoints: Path,
    workers: int,
    start: Path | None = None,
) -> dict[str, ControlNetModel]:
    """Train the ControlNets of all conditions on a folder of drawn faces; return them by condition."""
    nets: dict[str, ControlNetModel] = {}
    for name in (*CONTROLS, *WHOLE_PHOTO):
        nets[name] = build_controlnet(unet)
        if start:
            copy_matching(nets[name], ControlNetModel.from_pretrained(controlnet_folder(start, name)).state_dict())
        elif len(nets) > 1:  # a net of one kind of map learns another one faster
            copy_matching(nets[name], nets[CONTROLS[0]].state_dict())
        whole = WHOLE_PHOTO_SHARE if name in WHOLE_PHOTO else WHOLE_SHARE
        maps = load_pool(drawn, (name,), workers)[name]
        cycle = Consistency(vae, REPEATED[name](), CYCLES[name]) if name in REPEATED else None
        options = {"whole": whole, "consistency": cycle}
        schedule = getattr(plan, name)
        train_controlnet(name, nets[name], unet, text_encoder, latents, maps, schedule, checkpoints, **options)
    return nets


def start_unet(
    vae: AsymmetricAutoencoderKL, pool: dict[str, np.ndarray], folder: Path, start: Path | None
) -> tuple[CLIPTokenizer, CLIPTextModel, UNet2DConditionModel, Latents]:
    """Return the tokenizer, text encoder and UNet, untrained or of the bundle `start`, and the pool's latents."""
    torch.manual_seed(1)
    tokenizer = build_tokenizer(folder / "tokenizer")
    text_encoder, unet = build_text_encoder(tokenizer), build_unet()
    if start:
        copy_matching(unet, UNet2DConditionModel.from_pretrained(start / "unet").state_dict())
        copy_matching(text_encoder, CLIPTextModel.from_pretrained(start / "text_encoder").state_dict())
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
