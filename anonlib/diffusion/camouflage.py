"""CAMOUFLaGE-Base (Piano et al., 2024) as a pipeline in diffusers' own style, small or Stable Diffusion's."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from diffusers import (
    AsymmetricAutoencoderKL,
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
from anonlib.diffusion.inpainting import Inpainter
from anonlib.diffusion.loading import Parts, read_parts
from anonlib.diffusion.request import InpaintRequest

StepEndCallback = Callable[[Any, int, Tensor, dict[str, Tensor]], dict[str, Tensor] | None]


class CamouflagePipeline(StableDiffusionControlNetImg2ImgPipeline):
    """Generate whole images under several ControlNets, at a distance from the original that a scale sets.

    Each step predicts eps = eps_idf + a_s * (eps_pos - eps_idf), where eps_pos is guided by the text and eps_idf comes
    from the identity function, a ControlNet that follows the original's latents and learned to reproduce it. This
    reading of the paper's equation is ours.

    Args:
        vae, text_encoder, tokenizer, unet, scheduler: As in diffusers; the UNet may be for inpainting (9 channels).
        controlnet: One net per control map.
        identity: The identity function.
    """

    def __init__(
        self,
        vae: AutoencoderKL | AsymmetricAutoencoderKL,
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
        self._cached_inpainter: tuple[tuple, Inpainter] | None = None

    @classmethod
    def from_bundle(cls, bundle: ModelSpec, conditions: tuple[str, ...]) -> "CamouflagePipeline":
        """Load a model with the ControlNets of these conditions, in the order in which calls give their maps.

        Raise AnonlibError if a part is missing.
        """
        parts = read_parts(bundle, (*conditions, IDENTITY))
        names = ("vae", "text_encoder", "tokenizer", "unet", "scheduler")
        components = {name: getattr(parts.pipeline, name) for name in names}
        return cls(**components, controlnet=list(parts.controls.values()), identity=parts.identity)

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
        callback_on_step_end: StepEndCallback | None = None,
    ) -> StableDiffusionPipelineOutput | tuple:
        """Anonymize B images; other arguments and the result are those of diffusers' pipelines.

        Args:
            prompt: One for all, or B.
            image: B originals: PIL, arrays or a tensor (B, 3, H, W) in [0, 1].
            control_image: For each ControlNet its B maps.
            anonymization_scale: a_s >= 0, one for all or B; 0 is the original.
            controlnet_conditioning_scale: One for all ControlNets, or one each.
            generator: One per image makes an image the same in any batch.
            output_type: "pil", "np", "pt" or "latent".
            callback_on_step_end: Called with "latents".

        Raises:
            AnonlibError: A scale is below 0, or the number of maps, scales or generators is wrong.
        """
        images = self.image_processor.preprocess(image).float() / 2 + 0.5
        maps = [self.control_image_processor.preprocess(batch).float() for batch in control_image]
        count, nets = len(images), len(self.controlnet.nets)
        scales = _each(anonymization_scale, count, "anonymization_scale")
        weights = _each(controlnet_conditioning_scale, nets, "controlnet_conditioning_scale")
        generators = _each(generator if generator is not None else torch.Generator(), count, "generator")
        if min(scales) < 0:
            raise AnonlibError(f"anonymization_scale is {min(scales):g}: it must be 0 (the original) or more")
        if len(maps) != nets or any(len(batch) != count for batch in maps):
            raise AnonlibError(f"{nets} ControlNets and {count} images: give {nets} maps of each image")
        names = [str(number) for number in range(nets)]
        request = InpaintRequest(
            images=images,
            masks=torch.ones_like(images[:, :1]),
            controls=dict(zip(names, maps, strict=True)),
            scales=dict(zip(names, weights, strict=True)),
            guidance=[guidance_scale] * count,
            texts=_each(prompt, count, "prompt"),
            negative=negative_prompt,
            steps=num_inference_steps,
            seeds=generators,
            strength=strength,
            anonymization_scale=scales,
        )

        def callback(step: int, time: Tensor, latents: Tensor) -> Tensor:
            changed = callback_on_step_end(self, step, time, {"latents": latents}) or {}
            return changed.get("latents", latents)

        inpainter = self._inpainter(names)
        output = latents = inpainter.denoise(inpainter.prepare(request), callback if callback_on_step_end else None)
        if output_type != "latent":
            output = self.image_processor.postprocess(inpainter.decode(latents) * 2 - 1, output_type=output_type)
        return StableDiffusionPipelineOutput(output, None) if return_dict else (output, None)

    def _inpainter(self, names: list[str]) -> Inpainter:
        """Return the inpainter of the present networks; a new one if a network was exchanged or moved."""
        nets = dict(zip(names, self.controlnet.nets, strict=True))
        key = (*map(id, (self.vae, self.unet, self.text_encoder, self.identity, *nets.values())), str(self.device))
        if self._cached_inpainter is None or self._cached_inpainter[0] != key:
            parts = Parts("the pipeline", self, nets, self.identity)
            self._cached_inpainter = (key, Inpainter(parts, at=self.device))
        return self._cached_inpainter[1]


def _listed(nets: ControlNetModel | Sequence[ControlNetModel]) -> list[ControlNetModel]:
    return [nets] if isinstance(nets, ControlNetModel) else list(nets)


def _each(value: Any, count: int, name: str) -> list:
    """Return `count` values, of a list of so many or of one value; AnonlibError for other lengths."""
    values = list(value) if isinstance(value, list | tuple) else [value] * count
    if len(values) != count:
        raise AnonlibError(f"{name}: give one, or {count}, not {len(values)}")
    return values
