"""Inpaint a batch as diffusers' own pipelines do, faster: compiled networks, texts and controls worked out once."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor, nn

from anonlib.bundles import Bundle
from anonlib.compat import device, fast_dtype
from anonlib.diffusion.bundle import read_pipeline
from anonlib.diffusion.graphs import Graph
from anonlib.diffusion.overlap import Lane, overlapped


@dataclass(frozen=True)
class Order:
    """A batch to paint: images (B, 3, H, W) in [0, 1], masks (B, 1, H, W), 1 where to paint, else 0.

    controls, scales: by condition, maps (B, 3, H, W) in [0, 1] and how strong they are. guidance, texts, seeds: one an
    image.
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


@dataclass(frozen=True, eq=False)
class Prepared:
    """An order with everything that is the same at each step: noise, mask and masked photo beside it, the texts'
    states, the embedded control maps; all but the noise once without and once with the text."""

    order: Order
    noise: Tensor
    beside: Tensor
    states: Tensor
    embedded: list[Tensor]


class Painter:
    """The networks of an inpainting pipeline, ready to paint orders whose control maps are of these conditions.

    The result is that of diffusers' StableDiffusion(ControlNet)InpaintPipeline at strength 1, up to rounding.
    """

    def __init__(self, bundle: Bundle, conditions: tuple[str, ...], compiled: bool = False):
        dtype = torch.float32 if device() == "cpu" else fast_dtype(device())
        self.pipeline, self.conditions = read_pipeline(bundle, conditions, dtype), conditions
        self.device, vae = self.pipeline.device, self.pipeline.vae
        self.compiled = compiled and self.device.type != "cpu"
        self.encoder = Graph(nn.Sequential(vae.encoder, vae.quant_conv))  # beside the main thread, so not compiled
        self.decoder = Graph(nn.Sequential(vae.post_quant_conv, vae.decoder))
        self.unet = Graph(_Unet(self.pipeline.unet), self.compiled)
        nets = list(self.pipeline.controlnet.nets) if conditions else []
        self.embeddings = [Graph(net.controlnet_cond_embedding) for net in nets]
        for net in nets:
            net.controlnet_cond_embedding = nn.Identity()  # embedded once an image, not once a step
        self.controls = [Graph(_Control(net), self.compiled) for net in nets]
        self.before, self.main, self.after = (Lane(self.device) for _ in range(3))
        self.states: dict[str, Tensor] = {}

    def __call__(self, orders: Iterable[Order]) -> Iterator[Tensor]:
        """Yield the painted images (B, 3, H, W) float32 in [0, 1] of each order, on the CPU.

        On a GPU texts, maps and photos of the next order are prepared, and the last one's pictures decoded, while the
        UNet works.
        """
        if self.device.type == "cpu":
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
            noise, drawn = (
                torch.cat([randn_tensor(shape, one, self.device, torch.float32) for one in generators])
                for _ in range(2)
            )
            hidden = (images * 2 - 1) * (masks < 0.5)
            posterior = DiagonalGaussianDistribution(self.encoder(hidden)[0])
            latents = (posterior.mean + posterior.std * drawn) * vae.config.scaling_factor
            beside = torch.cat([nn.functional.interpolate(masks, shape[2:]), latents], dim=1)
            texts = [order.negative] * len(order.texts) + order.texts
            states = torch.cat([self._state(text) for text in texts])
            return Prepared(order, noise, torch.cat([beside, beside]), states, self._embedded(order))

    @torch.inference_mode()
    def denoised(self, given: Prepared) -> Tensor:
        """Return the latents of the painted images (B, C, H, W)."""
        with self.main(given.noise, given.beside, given.states, *given.embedded):
            return self._denoised(given)

    @torch.inference_mode()
    def decoded(self, latents: Tensor) -> Tensor:
        """Return the images (B, 3, H, W) float32 in [0, 1] of latents, on the CPU."""
        with self.after(latents):
            made = self.decoder(latents / self.pipeline.vae.config.scaling_factor)[0]
            return made.div(2).add(0.5).clamp(0, 1).cpu()

    def _denoised(self, given: Prepared) -> Tensor:
        scheduler, order = self.pipeline.scheduler, given.order
        scheduler.set_timesteps(order.steps, device=self.device)
        latents = given.noise * scheduler.init_noise_sigma
        guidance = torch.tensor(order.guidance, device=self.device)[:, None, None, None]
        scales = [torch.tensor([order.scales[name]], device=self.device) for name in self.conditions]
        for time in scheduler.timesteps:
            if self.compiled:
                torch.compiler.cudagraph_mark_step_begin()  # what the last step gave may be written over
            seen = scheduler.scale_model_input(torch.cat([latents, latents]), time)
            residuals: list[Tensor] = []
            for control, about, scale in zip(self.controls, given.embedded, scales, strict=True):
                found = control(seen, time[None], given.states, about, scale)
                residuals = [a + b for a, b in zip(residuals, found, strict=True)] if residuals else list(found)
            both = self.unet(torch.cat([seen, given.beside], dim=1), time[None], given.states, *residuals)[0]
            without, told = both.chunk(2)
            guided = without + guidance * (told - without)
            latents = scheduler.step(guided, time, latents, return_dict=False)[0]
        return latents

    def _state(self, text: str) -> Tensor:
        """Return what the text encoder says of one text, worked out once."""
        if text not in self.states:
            told = {"device": self.device, "num_images_per_prompt": 1, "do_classifier_free_guidance": False}
            self.states[text] = self.pipeline.encode_prompt(text, **told)[0].float()
        return self.states[text]

    def _embedded(self, order: Order) -> list[Tensor]:
        maps = [order.controls[name].to(self.device) for name in self.conditions]
        made = [embedding(one)[0] for embedding, one in zip(self.embeddings, maps, strict=True)]
        return [torch.cat([one, one]) for one in made]


@lru_cache(maxsize=2)
def painter(bundle: Bundle, conditions: tuple[str, ...] = (), compiled: bool = False) -> Painter:
    """Return the painter of a bundle with the ControlNets of `conditions`; AnonlibError where a part is missing."""
    return Painter(bundle, conditions, compiled)


class _Unet(nn.Module):
    """The UNet; residuals: of the ControlNets, those of the down blocks and the middle block's."""

    def __init__(self, unet: nn.Module):
        super().__init__()
        self.unet = unet

    def forward(self, sample: Tensor, time: Tensor, states: Tensor, *residuals: Tensor) -> tuple[Tensor]:
        told = {}
        if residuals:
            told["down_block_additional_residuals"], told["mid_block_additional_residual"] = (
                residuals[:-1],
                residuals[-1],
            )
        return self.unet(sample, time, states, return_dict=False, **told)


class _Control(nn.Module):
    """A ControlNet: what it adds to the down blocks of the UNet, and last to its middle block."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, sample: Tensor, time: Tensor, states: Tensor, about: Tensor, scale: Tensor) -> tuple[Tensor, ...]:
        down, middle = self.net(sample, time, states, about, scale, return_dict=False)
        return (*down, middle)
