"""Inpaint batches as diffusers' own pipelines do, faster: networks compiled, texts and controls computed once."""

import contextlib
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import islice

import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor, nn

from anonlib.assets.models import ModelSpec
from anonlib.diffusion.attention import attention_kernels, kernels_of
from anonlib.diffusion.compiling import CompiledModule, runs_by_torch
from anonlib.diffusion.control import are_adapters, control_of
from anonlib.diffusion.denoising import Denoiser, StepCallback, UnetPasses
from anonlib.diffusion.fp8 import check_fp8
from anonlib.diffusion.loading import Parts, read_parts
from anonlib.diffusion.memory import MemoryPlan, free_gpu_memory, memory_need, plan_memory, planned_bytes
from anonlib.diffusion.pipelining import CudaStage, pipelined
from anonlib.diffusion.prompt_encoding import encode_prompt
from anonlib.diffusion.request import DenoisingInputs, InpaintRequest
from anonlib.engine.torch_setup import device


class Inpainter:
    """The networks of a pipeline, ready to inpaint requests with control maps of their conditions.

    Up to rounding the result is that of diffusers' inpainting pipeline with ControlNets or T2I-Adapters. A UNet of 9
    channels takes the mask and the masked image; with one of 4 the unmasked latents are put back after each step.
    With an LCM LoRA, guidance and negative prompt are not used. With an identity function (CAMOUFLaGE, Piano et al.,
    2024) each step predicts eps_idf + a_s (eps_pos - eps_idf), a_s being `InpaintRequest.anonymization_scale`.

    Args:
        parts: The pipeline and its controls.
        batch: Images at once, fewer if memory is short: see `memory_plan.batch`.
        size: Side of an image in pixels, for the memory plan.
        compiled: Whether torch compiles the networks on a GPU.
        at: Device; None: the GPU if there is one.
        fp8: Whether linear layers are 8-bit, see `fp8`.
        fast: Whether attention is run faster, see `attention`; never on a small CPU or with offloading.
    """

    def __init__(
        self,
        parts: Parts,
        batch: int = 8,
        size: int = 128,
        compiled: bool = False,
        at: torch.device | None = None,
        fp8: bool = False,
        fast: bool = True,
    ):
        self.pipeline, self.conditions = parts.pipeline, tuple(parts.controls)
        self.device = at or torch.device(device())
        vae, unet, kind = self.pipeline.vae, self.pipeline.unet, self.device.type
        self.cfg_copies = 1 if parts.use_lcm else 2  # of a batch: without and with the text
        self.takes_mask = unet.config.in_channels == 9
        self.large = unet.config.addition_embed_type == "text_time"  # Stable Diffusion XL
        exact = self.large and bool(vae.config.force_upcast) and unet.dtype != torch.float32  # as diffusers has it
        vae.to(torch.float32 if exact else unet.dtype)
        nets = [*parts.controls.values(), *([parts.identity] if parts.identity else [])]
        texts = [self.pipeline.components.get(name) for name in ("text_encoder", "text_encoder_2")]
        self.parts = {"texts": [net for net in texts if net is not None], "vae": [vae], "unet": [unet, *nets]}
        need = memory_need(self.parts, self.pipeline, size, self.cfg_copies + (parts.identity is not None))
        self.memory_plan = MemoryPlan(batch)
        if kind == "cuda":
            self.memory_plan = plan_memory(free_gpu_memory(self.device), need, batch)
        self.expected = planned_bytes(need, self.memory_plan)
        for part in self.parts.values():
            for net in part:
                net.to("cpu" if self.memory_plan.offloaded else self.device)
        offloaded = self.memory_plan.offloaded
        self.compiled = compiled and kind == "cuda" and not offloaded
        if fp8:
            check_fp8(self.device)
        options = (kind, self.compiled, fast and runs_by_torch(unet, kind) and not offloaded, fp8)
        controls = [control_of(net, *options) for net in nets]
        adapters = are_adapters(parts.name, controls, self.large)
        self.identity = controls.pop() if parts.identity else None
        self.controls = controls
        # not compiled, because they run outside the main thread, where no CUDA graph may be recorded
        self.encoder = CompiledModule(nn.Sequential(vae.encoder, vae.quant_conv), kind, exact=exact)
        self.decoder = CompiledModule(nn.Sequential(vae.post_quant_conv, vae.decoder), kind, exact=exact)
        self.unet = UnetPasses(unet, adapters, *options)
        passes = (self.cfg_copies, self.takes_mask, self.compiled)
        self.denoiser = Denoiser(self.pipeline, self.unet, self.controls, self.identity, *passes)
        rows = self.cfg_copies * self.memory_plan.batch
        self.kernels = kernels_of(unet, size, rows, self.device) if fast else []
        self.before, self.main, self.after = (CudaStage(self.device) for _ in range(3))
        self.text_states: dict[tuple[str, bool], list[Tensor]] = {}
        self.recorded = not self.compiled

    def __call__(self, requests: Iterable[InpaintRequest]) -> Iterator[Tensor]:
        """Yield the inpainted images (B, 3, H, W) float32 in [0, 1] of each request, on the CPU.

        On a GPU the next request is prepared and the last one decoded while the UNet works; not so the first request of
        compiled networks: nothing else may run on the GPU while kernels are measured and CUDA graphs recorded.
        """
        requests = iter(requests)
        overlap = self.device.type != "cpu" and not self.memory_plan.offloaded
        for request in requests if not overlap else islice(requests, 0 if self.recorded else 1):
            images = self.decode(self.denoise(self.prepare(request)))
            self.recorded = True
            yield images
        yield from pipelined(requests, self.prepare, self.denoise, self.decode)

    @torch.inference_mode()
    def prepare(self, request: InpaintRequest) -> DenoisingInputs:
        """Compute what of a request is the same at each step.

        Args:
            request: The batch.

        Returns:
            Inputs of `denoise`.
        """
        vae, factor, generators = self.pipeline.vae, self.pipeline.vae_scale_factor, request.generators
        with self.before():
            images, masks = request.images.to(self.device), request.masks.to(self.device)
            shape = (1, vae.config.latent_channels, images.shape[2] // factor, images.shape[3] // factor)
            draws = [
                torch.cat([randn_tensor(shape, generator, self.device, torch.float32) for generator in generators])
                for _ in range(2)
            ]
            noise, sample = draws if self.takes_mask else draws[::-1]  # in the order of diffusers' pipelines
            pictures = images * 2 - 1
            with self._on_device("vae"):
                context = self._encode(pictures * (masks < 0.5) if self.takes_mask else pictures, sample)
                whole = self.takes_mask and (request.strength is not None or self.identity)
                photo = self._encode(pictures, sample) if whole else context
            mask = nn.functional.interpolate(masks, shape[2:])
            with self._on_device("texts"):
                texts = self._texts(request, images.shape[2:])
            maps = [request.controls[name].to(self.device) for name in self.conditions]
            rows, scales = self.cfg_copies * len(images), request.anonymization_scale
            with self._on_device("unet"):
                controls = [
                    control.prepare(batch, request.scales[name], texts[0][:rows])
                    for control, batch, name in zip(self.controls, maps, self.conditions, strict=True)
                ]
                identity = self.identity.prepare(photo, 1.0, texts[0][rows:]) if self.identity else []
                texts += self.unet.text_keys(texts[0]) if self.unet.text_keys else []
            columns = self._column(request.guidance), self._column(scales) if self.identity else None
            latents = noise, mask, context, photo
            return DenoisingInputs(request, generators, *latents, *columns, texts, controls, identity)

    @torch.inference_mode()
    def denoise(self, inputs: DenoisingInputs, callback: StepCallback | None = None) -> Tensor:
        """Denoise a batch to latents (B, C, h, w); call `callback` after each step.

        Raise AnonlibError if the request's strength leaves no step.
        """
        with self.main(*inputs.tensors), self._on_device("unet"), attention_kernels(self.kernels):
            return self.denoiser(inputs, callback)

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> Tensor:
        """Decode latents to images.

        Args:
            latents: (B, C, h, w).

        Returns:
            (B, 3, H, W) float32 in [0, 1], on the CPU.
        """
        with self.after(latents), self._on_device("vae"):
            pictures = self._in_slices(self.decoder, latents / self.pipeline.vae.config.scaling_factor)
            return pictures.div(2).add(0.5).clamp(0, 1).cpu()

    def _column(self, values: list[float]) -> Tensor:
        return torch.tensor(values, device=self.device, dtype=torch.float32)[:, None, None, None]

    def _texts(self, request: InpaintRequest, size: torch.Size) -> list[Tensor]:
        """Return text states, then sizes and image embeddings if the UNet takes them, for all copies of a batch."""
        negative = [request.negative] * len(request.texts) * (self.cfg_copies - 1)
        empty = [""] * len(request.texts) if self.identity else []
        encoded = [self._encode_text(text, request.weighted and self.large) for text in negative]
        encoded += [self._encode_text(text, request.weighted) for text in request.texts]
        encoded += [self._encode_text(text, False) for text in empty]
        texts = [torch.cat(column) for column in zip(*encoded, strict=True)]
        if self.large:
            sizes = [*size, 0, 0, *size]
            texts.append(torch.tensor([sizes] * len(encoded), device=self.device, dtype=torch.float32))
        if request.embeds is not None:  # the unguided copy has neither the text nor the image
            embeds = request.embeds.to(self.device)
            blank = torch.zeros_like(embeds)
            texts.append(torch.cat([*[blank] * (self.cfg_copies - 1), embeds, *([blank] if self.identity else [])]))
        return texts

    def _encode_text(self, text: str, weighted: bool) -> list[Tensor]:
        """Return the states of one text, with SDXL also the pooled ones; each text is encoded once."""
        if (text, weighted) not in self.text_states:
            self.text_states[text, weighted] = encode_prompt(self.pipeline, text, self.device, weighted)
        return self.text_states[text, weighted]

    @contextlib.contextmanager
    def _on_device(self, part: str) -> Iterator[None]:
        """Keep a part on the device; if parts are offloaded, move it back afterwards."""
        nets = self.parts[part] if self.memory_plan.offloaded else []
        for net in nets:
            net.to(self.device)
        try:
            yield
        finally:
            for net in nets:
                net.to("cpu")

    def _encode(self, pictures: Tensor, sample: Tensor) -> Tensor:
        """Return the latents of pictures in [-1, 1], sampled with given noise."""
        posterior = DiagonalGaussianDistribution(self._in_slices(self.encoder, pictures))
        return (posterior.mean + posterior.std * sample) * self.pipeline.vae.config.scaling_factor

    def _in_slices(self, network: CompiledModule, batch: Tensor) -> Tensor:
        """Run a network on a batch, or image by image if memory is short."""
        return torch.cat([network(part)[0] for part in batch.split(1 if self.memory_plan.sliced else len(batch))])


@lru_cache(maxsize=2)
def load_inpainter(
    bundle: ModelSpec,
    conditions: tuple[str, ...] = (),
    batch: int = 8,
    size: int = 128,
    compiled: bool = False,
    use_lcm: bool = False,
    fp8: bool = False,
) -> Inpainter:
    """Load the inpainter of a model with its controls.

    Args:
        conditions: Control maps to follow; "identity" is CAMOUFLaGE's identity function, "attributes" its adapters.
        batch, size: Maximum images at once, and side of an image in pixels.
        compiled: Whether torch compiles the networks on a GPU.
        use_lcm: Whether to fuse the model's LCM LoRA, for a few steps.
        fp8: Whether linear layers are 8-bit, on a GPU that multiplies it.

    Raises:
        AnonlibError: A part is missing, or does not fit into memory.
    """
    return Inpainter(read_parts(bundle, conditions, use_lcm), batch, size, compiled, fp8=fp8)
