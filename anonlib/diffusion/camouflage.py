"""CAMOUFLaGE-Base (Piano et al., 2024) as a pipeline in diffusers' own style, small or Stable Diffusion's."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    MultiControlNetModel,
    StableDiffusionControlNetImg2ImgPipeline,
    UNet2DConditionModel,
)
from diffusers.pipelines.stable_diffusion import StableDiffusionPipelineOutput
from diffusers.schedulers import KarrasDiffusionSchedulers
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from anonlib.assets.models import IDENTITY, ModelSpec
from anonlib.config.errors import AnonlibError
from anonlib.diffusion.inpainting import Painter
from anonlib.diffusion.loading import Parts, read_parts
from anonlib.diffusion.request import Order

Step = Callable[[Any, int, Tensor, dict[str, Tensor]], dict[str, Tensor] | None]


class CamouflagePipeline(StableDiffusionControlNetImg2ImgPipeline):
    """Paint whole pictures anew under several ControlNets, at a distance from the original that a scale sets.

    controlnet: one net a control map. identity: a ControlNet that follows the latent of the original and learned to
    reproduce it; each step predicts eps = eps_idf + a_s * (eps_pos - eps_idf), where eps_pos is guided by the text.
    This reading of the paper's equation is ours. The UNet may be an inpainting one, of 9 channels.
    """

    def __init__(
        self,
        vae: AutoencoderKL,
        text_encoder: CLIPTextModel,
        tokenizer: CLIPTokenizer,
        unet: UNet2DConditionModel,
        controlnet: ControlNetModel | Sequence[ControlNetModel] | MultiControlNetModel,
        scheduler: KarrasDiffusionSchedulers,
        identity: ControlNetModel,
        safety_checker: None = None,
        feature_extractor: None = None,
        image_encoder: None = None,
        requires_safety_checker: bool = False,
    ):
        nets = controlnet if isinstance(controlnet, MultiControlNetModel) else MultiControlNetModel(_listed(controlnet))
        more = (safety_checker, feature_extractor, image_encoder, requires_safety_checker)
        super().__init__(vae, text_encoder, tokenizer, unet, nets, scheduler, *more)
        self.register_modules(identity=identity)
        self._painter: tuple[tuple, Painter] | None = None

    @classmethod
    def from_bundle(cls, bundle: ModelSpec, conditions: tuple[str, ...]) -> "CamouflagePipeline":
        """Return the pipeline of a bundle that follows these conditions, in this order; AnonlibError for a lack."""
        parts = read_parts(bundle, (*conditions, IDENTITY))
        found = {
            name: getattr(parts.pipeline, name) for name in ("vae", "text_encoder", "tokenizer", "unet", "scheduler")
        }
        return cls(**found, controlnet=list(parts.controls.values()), identity=parts.identity)

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | list[str],
        image: Any,
        control_image: Sequence[Any],
        anonymization_scale: float | list[float] = 1.25,
        controlnet_conditioning_scale: float | list[float] = 1.0,
        strength: float = 1.0,
        num_inference_steps: int = 50,
        guidance_scale: float = 7.5,
        negative_prompt: str = "",
        generator: torch.Generator | list[torch.Generator] | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: Step | None = None,
    ) -> StableDiffusionPipelineOutput | tuple:
        """Return pictures (PIL, or "np", "pt", "latent") of as many originals.

        image: B originals, PIL, arrays or a tensor (B, 3, H, W) in [0, 1]. control_image: for each ControlNet its B
        maps. anonymization_scale: 0 or more, one for all or one an image. generator: one an image makes a picture the
        same in any batch. callback_on_step_end: called as diffusers' pipelines do, with "latents". Raises AnonlibError
        for a scale below 0 or a number of maps, scales or generators that does not fit.
        """
        shown = self.image_processor.preprocess(image).float() / 2 + 0.5
        maps = [self.control_image_processor.preprocess(one).float() for one in control_image]
        count, nets = len(shown), len(self.controlnet.nets)
        away = _each(anonymization_scale, count, "anonymization_scale")
        weights = _each(controlnet_conditioning_scale, nets, "controlnet_conditioning_scale")
        generators = _each(generator if generator is not None else torch.Generator(), count, "generator")
        if min(away) < 0:
            raise AnonlibError(f"anonymization_scale is {min(away):g}: it is 0, the original, or more")
        if len(maps) != nets or any(len(one) != count for one in maps):
            raise AnonlibError(f"{nets} ControlNets and {count} images: give {nets} maps of each image")
        names = [str(number) for number in range(nets)]
        order = Order(
            images=shown,
            masks=torch.ones_like(shown[:, :1]),
            controls=dict(zip(names, maps, strict=True)),
            scales=dict(zip(names, weights, strict=True)),
            guidance=[guidance_scale] * count,
            texts=_each(prompt, count, "prompt"),
            negative=negative_prompt,
            steps=num_inference_steps,
            seeds=generators,
            strength=strength,
            away=away,
        )

        def watch(number: int, time: Tensor, latents: Tensor) -> Tensor:
            told = callback_on_step_end(self, number, time, {"latents": latents}) or {}
            return told.get("latents", latents)

        brush = self._brush(names)
        latents = brush.denoised(brush.prepared(order), watch if callback_on_step_end else None)
        made = latents
        if output_type != "latent":
            made = self.image_processor.postprocess(brush.decoded(latents) * 2 - 1, output_type=output_type)
        return StableDiffusionPipelineOutput(made, None) if return_dict else (made, None)

    def _brush(self, names: list[str]) -> Painter:
        """Return the painter of the networks as they are now, made anew where one was exchanged or moved."""
        nets = dict(zip(names, self.controlnet.nets, strict=True))
        key = (*map(id, (self.vae, self.unet, self.text_encoder, self.identity, *nets.values())), str(self.device))
        if self._painter is None or self._painter[0] != key:
            parts = Parts("the pipeline", self, nets, self.identity)
            self._painter = (key, Painter(parts, at=self.device))
        return self._painter[1]


def _listed(nets: ControlNetModel | Sequence[ControlNetModel]) -> list[ControlNetModel]:
    return [nets] if isinstance(nets, ControlNetModel) else list(nets)


def _each(value: Any, count: int, name: str) -> list:
    """Return one value a place; AnonlibError where there are others."""
    found = list(value) if isinstance(value, list | tuple) else [value] * count
    if len(found) != count:
        raise AnonlibError(f"{name}: give one, or {count}, not {len(found)}")
    return found
