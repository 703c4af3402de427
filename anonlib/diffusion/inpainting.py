"""Paint a batch as diffusers' own pipelines do, faster: compiled networks, texts and controls worked out once."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache

import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor, nn

from anonlib.assets.models import ModelSpec
from anonlib.config.errors import AnonlibError
from anonlib.diffusion.compiling import Graph
from anonlib.diffusion.control import check_kinds, copied, follower, summed
from anonlib.diffusion.loading import Parts, read_parts
from anonlib.diffusion.memory import Placement, needed, placed, taken
from anonlib.diffusion.pipelining import Lane, overlapped
from anonlib.diffusion.request import Order, Prepared
from anonlib.diffusion.unet import Unet
from anonlib.engine.torch_setup import device

Watcher = Callable[[int, Tensor, Tensor], Tensor]  # of a step: its number, its time, latents -> latents to go on with


class Painter:
    """The networks of a pipeline, ready to paint orders whose control maps are of these parts' conditions.

    The result is that of diffusers' inpainting pipeline, with ControlNets or T2I-Adapters, up to rounding. A UNet of 9
    channels sees the mask and what is not masked; with one of 4 these pixels are put back after each step. With
    few steps the order's guidance and negative text are not used. at: where it works; None: on the GPU where there is
    one.

    With an identity function (CAMOUFLaGE, Piano et al., 2024) each step goes from what that predicts, which is the
    original, towards what text and controls do, `Order.away` of the way.
    """

    def __init__(
        self,
        parts: Parts,
        batch: int = 8,
        size: int = 128,
        compiled: bool = False,
        at: torch.device | None = None,
    ):
        self.pipeline, self.conditions = parts.pipeline, tuple(parts.controls)
        self.device = at or torch.device(device())
        vae, unet, kind = self.pipeline.vae, self.pipeline.unet, self.device.type
        self.copies = 1 if parts.few else 2  # of a batch, for classifier-free guidance without and with the text
        self.sees_mask = unet.config.in_channels == 9
        self.large = unet.config.addition_embed_type == "text_time"  # Stable Diffusion XL
        exact = self.large and bool(vae.config.force_upcast) and unet.dtype != torch.float32  # as diffusers has it
        vae.to(torch.float32 if exact else unet.dtype)
        nets = [*parts.controls.values(), *([parts.identity] if parts.identity else [])]
        texts = [self.pipeline.components.get(name) for name in ("text_encoder", "text_encoder_2")]
        self.parts = {"texts": [one for one in texts if one is not None], "vae": [vae], "unet": [unet, *nets]}
        need = needed(self.parts, self.pipeline, size, self.copies + (parts.identity is not None))
        self.placement = placed(torch.cuda.mem_get_info()[0], need, batch) if kind == "cuda" else Placement(batch)
        self.expected = taken(need, self.placement)  # bytes
        self.compiled = compiled and kind == "cuda" and not self.placement.in_turns
        followers = [follower(net, kind, self.compiled) for net in nets]
        adapters = check_kinds(parts.name, followers, self.large)
        self.identity = followers.pop() if parts.identity else None
        self.controls = followers
        # these two work beside the main thread, where no CUDA graph may be recorded: they are not compiled
        self.encoder = Graph(nn.Sequential(vae.encoder, vae.quant_conv), kind, exact=exact)
        self.decoder = Graph(nn.Sequential(vae.post_quant_conv, vae.decoder), kind, exact=exact)
        self.unet = Graph(Unet(unet, adapters), kind, self.compiled)
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
        vae, factor, generators = self.pipeline.vae, self.pipeline.vae_scale_factor, order.generators
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
                seen = self._encoded(shown * (masks < 0.5) if self.sees_mask else shown, sample)
                whole = self.sees_mask and (order.strength is not None or self.identity)
                photo = self._encoded(shown, sample) if whole else seen
            mask = nn.functional.interpolate(masks, shape[2:])
            with self._aboard("texts"):
                negative = [order.negative] * len(order.texts) * (self.copies - 1)
                silent = [""] * len(order.texts) if self.identity else []
                told = [self._told(text) for text in negative + order.texts + silent]
            texts = [torch.cat(column) for column in zip(*told, strict=True)]
            if self.large:
                sizes = [*images.shape[2:], 0, 0, *images.shape[2:]]
                texts.append(torch.tensor([sizes] * len(told), device=self.device, dtype=torch.float32))
            if order.embeds is not None:  # classifier-free guidance goes without the text and without the image
                embeds = order.embeds.to(self.device)
                blank = torch.zeros_like(embeds)
                after = [blank] if self.identity else []
                texts.append(torch.cat([*[blank] * (self.copies - 1), embeds, *after]))
            maps = [order.controls[name].to(self.device) for name in self.conditions]
            with self._aboard("unet"):
                controls = [
                    control.prepared(one, order.scales[name], self.copies)
                    for control, one, name in zip(self.controls, maps, self.conditions, strict=True)
                ]
                identity = self.identity.prepared(photo, 1.0, 1) if self.identity else []
            return Prepared(order, generators, noise, mask, seen, photo, texts, controls, identity)

    @torch.inference_mode()
    def denoised(self, given: Prepared, watch: Watcher | None = None) -> Tensor:
        """Return the latents of the painted images (B, C, H, W); watch: called after each step."""
        with self.main(*given.tensors), self._aboard("unet"):
            return self._denoised(given, watch)

    @torch.inference_mode()
    def decoded(self, latents: Tensor) -> Tensor:
        """Return the images (B, 3, H, W) float32 in [0, 1] of latents, on the CPU."""
        with self.after(latents), self._aboard("vae"):
            made = self._by_image(self.decoder, latents / self.pipeline.vae.config.scaling_factor)
            return made.div(2).add(0.5).clamp(0, 1).cpu()

    def _denoised(self, given: Prepared, watch: Watcher | None) -> Tensor:
        scheduler, order = self.pipeline.scheduler, given.order
        scheduler.set_timesteps(order.steps, device=self.device)
        strength = 1.0 if order.strength is None else order.strength
        times, _ = self.pipeline.get_timesteps(order.steps, strength, self.device)
        if not len(times):
            raise AnonlibError(f"strength {strength:g} leaves nothing of {order.steps} steps: raise one of them")
        # latent consistency adds noise at each step
        drawn = {} if self.copies == 2 else {"generator": given.generators}
        x = given.noise * scheduler.init_noise_sigma
        if order.strength is not None:
            x = scheduler.add_noise(given.photo, given.noise, times[:1].repeat(len(x)))
        for number, time in enumerate(times):
            if self.compiled:
                torch.compiler.cudagraph_mark_step_begin()  # what the last step gave may be written over
            x = scheduler.step(self._predicted(given, x, time), time, x, return_dict=False, **drawn)[0]
            if not self.sees_mask:
                last = number + 1 == len(times)
                kept = given.seen if last else scheduler.add_noise(given.seen, given.noise, times[number + 1][None])
                x = (1 - given.mask) * kept + given.mask * x
            x = watch(number, time, x) if watch else x
        return x

    def _predicted(self, given: Prepared, x: Tensor, time: Tensor) -> Tensor:
        """Return what the networks make of latents: noise, or velocity."""
        order, times = given.order, time[None]
        x = self.pipeline.scheduler.scale_model_input(x, time)
        seen = copied(x, self.copies)
        states, *more = (one[: len(seen)] for one in given.texts)
        controls = zip(self.controls, given.controls, strict=True)
        residuals = summed(one.residuals(seen, times, states, part) for one, part in controls)
        told = self._unet(given, seen, times, states, *more, *residuals)
        if self.copies == 2:
            without, told = told.chunk(2)
            told = without + self._column(order.guidance) * (told - without)
        if not self.identity:
            return told
        states, *more = (one[len(seen) :] for one in given.texts)
        residuals = self.identity.residuals(x, times, states, given.identity)
        # exactly what text and controls predict where the scale is 1, what the identity function does where it is 0
        return torch.lerp(self._unet(given, x, times, states, *more, *residuals), told, self._column(order.away))

    def _unet(self, given: Prepared, seen: Tensor, *told: Tensor) -> Tensor:
        if self.sees_mask:
            beside = torch.cat([given.mask, given.seen], dim=1)
            seen = torch.cat([seen, copied(beside, len(seen) // len(beside))], dim=1)
        return self.unet(seen, *told)[0]

    def _column(self, numbers: list[float]) -> Tensor:
        return torch.tensor(numbers, device=self.device, dtype=torch.float32)[:, None, None, None]

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

    def _encoded(self, shown: Tensor, sample: Tensor) -> Tensor:
        """Return the latents of pictures in [-1, 1], drawn by a sample of noise."""
        posterior = DiagonalGaussianDistribution(self._by_image(self.encoder, shown))
        return (posterior.mean + posterior.std * sample) * self.pipeline.vae.config.scaling_factor

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
    bundle: ModelSpec,
    conditions: tuple[str, ...] = (),
    batch: int = 8,
    size: int = 128,
    compiled: bool = False,
    few: bool = False,
) -> Painter:
    """Return the painter of a bundle with the controls of `conditions`, for so many images of `size` px at once.

    Among the conditions "identity" is CAMOUFLaGE's identity function, "attributes" its adapters. few: with the bundle's
    LoRA, in a few steps. `placement.batch` of what is returned is how many the free memory has room for. Raises
    AnonlibError where a part is missing, or has no room at all.
    """
    return Painter(read_parts(bundle, conditions, few), batch, size, compiled)
