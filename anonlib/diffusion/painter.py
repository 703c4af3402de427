"""Inpaint a batch as diffusers' own pipelines do, faster: compiled networks, texts and controls worked out once."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

import torch
from diffusers import DiffusionPipeline
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor, nn

from anonlib.bundles import Bundle, check
from anonlib.compat import device, fast_dtype
from anonlib.diffusion.bundle import read_control, read_pipeline, weights_bytes
from anonlib.diffusion.control import copied, follower, summed
from anonlib.diffusion.graphs import LARGE, Graph
from anonlib.diffusion.overlap import Lane, overlapped
from anonlib.diffusion.placement import (
    UNET_VALUES,
    VAE_VALUES,
    Need,
    Placement,
    check_memory,
    image_bytes,
    placed,
    taken,
)
from anonlib.errors import AnonlibError


@dataclass(frozen=True)
class Order:
    """A batch to paint: images (B, 3, H, W) in [0, 1], masks (B, 1, H, W), 1 where to paint, else 0.

    controls, scales: by condition, maps (B, 3, H, W) in [0, 1] and how strong they are. guidance, texts, seeds: one an
    image. strength: in (0, 1]; below 1 painting starts from the noised original, as Instance Augmentation has it for
    Stable Diffusion XL.
    """

    images: Tensor
    masks: Tensor
    controls: Mapping[str, Tensor]
    scales: Mapping[str, float]
    guidance: list[float]
    texts: list[str]
    negative: str
    steps: int
    seeds: list[int]
    strength: float = 1.0


@dataclass(frozen=True, eq=False)
class Prepared:
    """An order with everything that is the same at each step: noise, mask, latents of the photo (of what is not masked,
    where the UNet sees them); as often as the UNet sees a batch: texts and controls. generators: what draws more."""

    order: Order
    generators: list[torch.Generator]
    noise: Tensor
    mask: Tensor
    latents: Tensor
    texts: list[Tensor]  # the states; with Stable Diffusion XL the pooled ones and the sizes too
    controls: list[list[Tensor]]

    @property
    def tensors(self) -> list[Tensor]:
        return [self.noise, self.mask, self.latents, *self.texts, *(one for part in self.controls for one in part)]


class Painter:
    """The networks of an inpainting pipeline, ready to paint orders whose control maps are of these conditions.

    The result is that of diffusers' inpainting pipeline, with ControlNets or T2I-Adapters, up to rounding. A UNet of 9
    channels sees the mask and what is not masked; with one of 4 these pixels are put back after each step. With
    few steps the order's guidance and negative text are not used.
    """

    def __init__(
        self,
        bundle: Bundle,
        conditions: tuple[str, ...],
        batch: int = 8,
        size: int = 128,
        compiled: bool = False,
        few: bool = False,
    ):
        check(bundle, conditions, few)
        dtype, self.device = _dtype(bundle), torch.device(device())
        check_memory(bundle.pipeline.name, weights_bytes(bundle, conditions, dtype))
        self.pipeline, self.conditions = read_pipeline(bundle, conditions, dtype, few), conditions
        vae, unet, kind = self.pipeline.vae, self.pipeline.unet, self.device.type
        self.copies = 1 if few else 2  # of a batch, for classifier-free guidance without and with the text
        self.sees_mask = unet.config.in_channels == 9
        self.large = unet.config.addition_embed_type == "text_time"  # Stable Diffusion XL
        exact = self.large and bool(vae.config.force_upcast) and dtype != torch.float32  # as diffusers has it
        vae.to(torch.float32 if exact else dtype)
        nets = [read_control(bundle, name, dtype) for name in conditions]
        texts = [self.pipeline.components.get(name) for name in ("text_encoder", "text_encoder_2")]
        parts = {"texts": [one for one in texts if one is not None], "vae": [vae], "unet": [unet, *nets]}
        need = _need(parts, self.pipeline, size, self.copies)
        self.placement = placed(torch.cuda.mem_get_info()[0], need, batch) if kind == "cuda" else Placement(batch)
        self.expected = taken(need, self.placement)  # bytes
        self.compiled = compiled and kind == "cuda" and not self.placement.in_turns
        self.controls = [follower(net, kind, self.compiled) for net in nets]
        adapters = _check_kinds(bundle, conditions, [one.adapter for one in self.controls], self.large)
        self.parts = parts | {"unet": [unet, *(module for one in self.controls for module in one.modules)]}
        # these two work beside the main thread, where no CUDA graph may be recorded: they are not compiled
        self.encoder = Graph(nn.Sequential(vae.encoder, vae.quant_conv), kind, exact=exact)
        self.decoder = Graph(nn.Sequential(vae.post_quant_conv, vae.decoder), kind, exact=exact)
        self.unet = Graph(_Unet(unet, self.large, adapters), kind, self.compiled)
        self.before, self.main, self.after = (Lane(self.device) for _ in range(3))
        self.known: dict[str, list[Tensor]] = {}
        for part in self.parts.values():
            for net in part:
                net.to("cpu" if self.placement.in_turns else self.device)

    def __call__(self, orders: Iterable[Order]) -> Iterator[Tensor]:
        """Yield the painted images (B, 3, H, W) float32 in [0, 1] of each order, on the CPU.

        On a GPU texts, maps and photos of the next order are prepared, and the last one's pictures decoded, while the
        UNet works.
        """
        if self.device.type == "cpu" or self.placement.in_turns:
            return (self.decoded(self.denoised(self.prepared(order))) for order in orders)
        return overlapped(orders, self.prepared, self.denoised, self.decoded)

    @torch.inference_mode()
    def prepared(self, order: Order) -> Prepared:
        """Return an order with everything that is the same at each step."""
        vae, factor = self.pipeline.vae, self.pipeline.vae_scale_factor
        generators = [torch.Generator().manual_seed(seed) for seed in order.seeds]
        with self.before():
            images, masks = order.images.to(self.device), order.masks.to(self.device)
            shape = (1, vae.config.latent_channels, images.shape[2] // factor, images.shape[3] // factor)
            drawn = [
                torch.cat([randn_tensor(shape, one, self.device, torch.float32) for one in generators])
                for _ in range(2)
            ]
            noise, sample = drawn if self.sees_mask else drawn[::-1]  # in the order of diffusers' pipelines
            shown = images * 2 - 1
            with self._aboard("vae"):
                moments = self._by_image(self.encoder, shown * (masks < 0.5) if self.sees_mask else shown)
            posterior = DiagonalGaussianDistribution(moments)
            latents = (posterior.mean + posterior.std * sample) * vae.config.scaling_factor
            mask = nn.functional.interpolate(masks, shape[2:])
            with self._aboard("texts"):
                negative = [order.negative] * len(order.texts) * (self.copies - 1)
                told = [self._told(text) for text in negative + order.texts]
            texts = [torch.cat(column) for column in zip(*told, strict=True)]
            if self.large:
                sizes = [*images.shape[2:], 0, 0, *images.shape[2:]]
                texts.append(torch.tensor([sizes] * len(told), device=self.device, dtype=torch.float32))
            maps = [order.controls[name].to(self.device) for name in self.conditions]
            with self._aboard("unet"):
                controls = [
                    control.prepared(one, order.scales[name], self.copies)
                    for control, one, name in zip(self.controls, maps, self.conditions, strict=True)
                ]
            return Prepared(order, generators, noise, mask, latents, texts, controls)

    @torch.inference_mode()
    def denoised(self, given: Prepared) -> Tensor:
        """Return the latents of the painted images (B, C, H, W)."""
        with self.main(*given.tensors), self._aboard("unet"):
            return self._denoised(given)

    @torch.inference_mode()
    def decoded(self, latents: Tensor) -> Tensor:
        """Return the images (B, 3, H, W) float32 in [0, 1] of latents, on the CPU."""
        with self.after(latents), self._aboard("vae"):
            made = self._by_image(self.decoder, latents / self.pipeline.vae.config.scaling_factor)
            return made.div(2).add(0.5).clamp(0, 1).cpu()

    def _denoised(self, given: Prepared) -> Tensor:
        scheduler, order = self.pipeline.scheduler, given.order
        scheduler.set_timesteps(order.steps, device=self.device)
        times, _ = self.pipeline.get_timesteps(order.steps, order.strength, self.device)
        if not len(times):
            raise AnonlibError(f"strength {order.strength:g} leaves nothing of {order.steps} steps: raise one of them")
        guidance = torch.tensor(order.guidance, device=self.device)[:, None, None, None]
        states, *more = given.texts
        beside = copied(torch.cat([given.mask, given.latents], dim=1), self.copies)
        # latent consistency adds noise at each step
        drawn = {} if self.copies == 2 else {"generator": given.generators}
        x = given.noise * scheduler.init_noise_sigma
        if order.strength < 1:
            x = scheduler.add_noise(given.latents, given.noise, times[:1].repeat(len(x)))
        for number, time in enumerate(times):
            if self.compiled:
                torch.compiler.cudagraph_mark_step_begin()  # what the last step gave may be written over
            seen = scheduler.scale_model_input(copied(x, self.copies), time)
            parts = zip(self.controls, given.controls, strict=True)
            residuals = summed(one.residuals(seen, time[None], states, part) for one, part in parts)
            seen = torch.cat([seen, beside], dim=1) if self.sees_mask else seen
            told = self.unet(seen, time[None], states, *more, *residuals)[0]
            if self.copies == 2:
                without, told = told.chunk(2)
                told = without + guidance * (told - without)
            x = scheduler.step(told, time, x, return_dict=False, **drawn)[0]
            if not self.sees_mask:
                last = number + 1 == len(times)
                kept = (
                    given.latents if last else scheduler.add_noise(given.latents, given.noise, times[number + 1][None])
                )
                x = (1 - given.mask) * kept + given.mask * x
        return x

    @contextlib.contextmanager
    def _aboard(self, part: str) -> Iterator[None]:
        """Have a part where it works; where parts take turns it leaves again."""
        moved = self.parts[part] if self.placement.in_turns else []
        for net in moved:
            net.to(self.device)
        try:
            yield
        finally:
            for net in moved:
                net.to("cpu")

    def _by_image(self, graph: Graph, images: Tensor) -> Tensor:
        """Return what a network makes of a batch, one image after the other where memory is short."""
        return torch.cat([graph(one)[0] for one in images.split(1 if self.placement.sliced else len(images))])

    def _told(self, text: str) -> list[Tensor]:
        """Return what the text encoders say of one text, worked out once: states, with SDXL pooled ones too."""
        if text not in self.known:
            options = {"device": self.device, "num_images_per_prompt": 1, "do_classifier_free_guidance": False}
            states, _, *pooled = self.pipeline.encode_prompt(text, **options)
            self.known[text] = [one.float() for one in (states, *pooled[:1])]
        return self.known[text]


@lru_cache(maxsize=2)
def painter(
    bundle: Bundle,
    conditions: tuple[str, ...] = (),
    batch: int = 8,
    size: int = 128,
    compiled: bool = False,
    few: bool = False,
) -> Painter:
    """Return the painter of a bundle with the controls of `conditions`, for so many images of `size` px at once.

    few: with the bundle's LoRA, in a few steps. Its `placement.batch` is how many the free memory has room for. Raises
    AnonlibError where a part is missing, or has no room at all.
    """
    return Painter(bundle, conditions, batch, size, compiled, few)


def _dtype(bundle: Bundle) -> torch.dtype:
    """Return the type to hold weights in: that of the products on a GPU and for large networks, else float32."""
    size = sum(file.stat().st_size for file in (bundle.pipeline.folder / "unet").glob("*"))
    return torch.float32 if device() == "cpu" and size < 2 * LARGE else fast_dtype(device())


def _check_kinds(bundle: Bundle, conditions: tuple[str, ...], adapters: list[bool], large: bool) -> bool:
    """Return whether the controls are T2I-Adapters; AnonlibError where they are of two kinds, or not of the model's."""
    if len(set(adapters)) > 1 or (large and False in adapters):
        raise AnonlibError(
            f"{bundle.pipeline.name} is to follow {', '.join(conditions)}: it wants all of them as "
            f"{'T2I-Adapters' if large else 'ControlNets, or all as T2I-Adapters'}"
        )
    return any(adapters)


def _need(parts: dict[str, list[nn.Module]], pipeline: DiffusionPipeline, size: int, copies: int) -> Need:
    """Return the memory that a pipeline takes for images of `size` px."""
    weights = {
        name: sum(one.numel() * one.element_size() for net in part for one in net.parameters())
        for name, part in parts.items()
    }
    vae, unet = pipeline.vae, pipeline.unet
    vae_image = image_bytes(size, vae.config.block_out_channels[0], VAE_VALUES, vae.dtype.itemsize)
    told = {"factor": pipeline.vae_scale_factor, "copies": copies}
    unet_image = image_bytes(size, unet.config.block_out_channels[0], UNET_VALUES, unet.dtype.itemsize, **told)
    return Need(**weights, vae_image=vae_image, unet_image=unet_image)


class _Unet(nn.Module):
    """The UNet. more: with Stable Diffusion XL the pooled texts and the sizes, then the residuals of the controls."""

    def __init__(self, unet: nn.Module, large: bool, adapters: bool):
        super().__init__()
        self.unet, self.large, self.adapters = unet, large, adapters

    def forward(self, sample: Tensor, time: Tensor, states: Tensor, *more: Tensor) -> tuple[Tensor]:
        told, residuals = {}, list(more[2:] if self.large else more)
        if self.large:
            told["added_cond_kwargs"] = {"text_embeds": more[0], "time_ids": more[1]}
        if self.adapters:
            told["down_intrablock_additional_residuals"] = residuals
        elif residuals:
            *down, told["mid_block_additional_residual"] = residuals
            told["down_block_additional_residuals"] = down
        return self.unet(sample, time, states, return_dict=False, **told)
