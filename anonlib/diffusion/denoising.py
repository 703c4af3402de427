"""The denoising steps of a batch: what the networks predict, guided, and what the sampler makes of it."""

from collections.abc import Callable
from functools import cached_property

import torch
from diffusers import DiffusionPipeline
from torch import Tensor, nn

from anonlib.diffusion.attention import share_projections
from anonlib.diffusion.compiling import CompiledModule
from anonlib.diffusion.control import Control, repeat_batch, sum_residuals
from anonlib.diffusion.fp8 import use_fp8
from anonlib.diffusion.request import DenoisingInputs
from anonlib.diffusion.sampling import SchedulerSampler, UniPC, start_sampling
from anonlib.diffusion.shortcuts import Reused, Shortcuts
from anonlib.diffusion.unet import DeepUnet, ShallowUnet, Unet

StepCallback = Callable[[int, Tensor, Tensor], Tensor]  # (step, time, latents) -> next latents


class UnetPasses:
    """The UNet of a pipeline as networks that run whole or in part, all with the same weights.

    Args:
        unet: The UNet.
        adapters: Whether its residuals are those of T2I-Adapters.
        device: Its device.
        compiled: Whether torch compiles it.
        fast: Whether projections are shared, see `attention`.
        fp8: Whether its linear layers are 8-bit.
    """

    def __init__(self, unet: nn.Module, adapters: bool, device: str, compiled: bool, fast: bool, fp8: bool):
        unet, keys = share_projections(unet) if fast else (unet, None)
        if fp8:
            use_fp8(unet)
        self.text_keys = CompiledModule(keys, device, own_type=True) if keys else None
        self._parts = (unet, adapters, len(keys.projections) if keys else 0)
        self._options = (device, compiled)
        self.whole = CompiledModule(Unet(*self._parts), *self._options)

    @cached_property
    def deep(self) -> CompiledModule:
        """Return the whole UNet that also returns its deep features."""
        return CompiledModule(DeepUnet(*self._parts), *self._options)

    @cached_property
    def shallow(self) -> CompiledModule:
        """Return its outermost blocks."""
        return CompiledModule(ShallowUnet(*self._parts), *self._options)

    def __call__(
        self, step: int, reused: Reused, sample: Tensor, time: Tensor, states: Tensor, *more: Tensor
    ) -> Tensor:
        """Return the prediction of a step; deep features are reused if the period of `reused` is above 1."""
        if reused.period == 1:
            return self.whole(sample, time, states, *more)[0]
        if reused.is_due(step, len(sample)):
            prediction, deep = self.deep(sample, time, states, *more)
            reused.remember([deep])
            return prediction
        return self.shallow(sample, time, states, *reused.recent_rows(len(sample)), *more)[0]


class _Reuse:
    """What the steps of one batch reuse: residuals and deep features, of both predictions."""

    def __init__(self, shortcuts: Shortcuts):
        self.residuals, self.original_residuals = (Reused(shortcuts.controls_every) for _ in range(2))
        self.deep, self.original_deep = (Reused(shortcuts.deep_every) for _ in range(2))


class Denoiser:
    """The step loop of `Inpainter`.

    Args:
        pipeline: diffusers' pipeline, for its scheduler.
        unet: The UNet.
        controls: Controls in the order of the request's maps.
        identity: CAMOUFLaGE's identity function, if the model has one.
        cfg_copies: 2: predictions without and with the text; 1: without guidance.
        takes_mask: Whether the UNet takes mask and masked image, 9 channels.
        compiled: Whether torch compiles the networks.
    """

    def __init__(
        self,
        pipeline: DiffusionPipeline,
        unet: UnetPasses,
        controls: list[Control],
        identity: Control | None,
        cfg_copies: int,
        takes_mask: bool,
        compiled: bool,
    ):
        self.pipeline, self.unet, self.controls, self.identity = pipeline, unet, controls, identity
        self.cfg_copies, self.takes_mask, self.compiled = cfg_copies, takes_mask, compiled

    def __call__(self, inputs: DenoisingInputs, callback: StepCallback | None = None) -> Tensor:
        """Denoise a batch to latents (B, C, h, w); call `callback` after each step."""
        request = inputs.request
        # latent consistency adds noise at each step
        kwargs = {} if self.cfg_copies == 2 else {"generator": inputs.generators}
        sampler = start_sampling(self.pipeline, request.steps, request.strength, inputs.noise.device, **kwargs)
        return self.run_steps(inputs, sampler, callback)

    def run_steps(
        self, inputs: DenoisingInputs, sampler: UniPC | SchedulerSampler, callback: StepCallback | None = None
    ) -> Tensor:
        """Run all steps; with UniPC none of them waits for the device or copies to it."""
        request = inputs.request
        x = inputs.noise * self.pipeline.scheduler.init_noise_sigma
        if request.strength is not None:
            x = sampler.add_noise(0, inputs.photo_latents, inputs.noise)
        reuse, steps = _Reuse(request.shortcuts), len(sampler.times)
        for step, time in enumerate(sampler.times):
            if self.compiled:
                torch.compiler.cudagraph_mark_step_begin()  # the last step's outputs may be overwritten
            guided = self.cfg_copies == 2 and request.shortcuts.is_guided(sampler.sigmas[step])
            scaled = sampler.scale_input(step, x)
            x = sampler.take_step(step, self._predict(inputs, scaled, time[None], step, guided, reuse), x)
            if not self.takes_mask:
                unmasked = inputs.context_latents
                if step + 1 < steps:
                    unmasked = sampler.add_noise(step + 1, unmasked, inputs.noise)
                x = (1 - inputs.mask) * unmasked + inputs.mask * x
            x = callback(step, time, x) if callback else x
        return x

    def _predict(
        self, inputs: DenoisingInputs, x: Tensor, time: Tensor, step: int, guided: bool, reuse: _Reuse
    ) -> Tensor:
        """Predict noise, or velocity, for latents x at a time."""
        total = self.cfg_copies * len(x)
        sample = repeat_batch(x, 2 if guided else 1)
        rows = slice(total - len(sample), total)  # without guidance those with the text, the last ones
        states, *more = (tensor[rows] for tensor in inputs.texts)

        def residuals() -> list[Tensor]:
            pairs = zip(self.controls, inputs.controls, strict=True)
            parts = ((control, _rows_of(prepared, rows)) for control, prepared in pairs)
            return sum_residuals(control.residuals(sample, time, states, part) for control, part in parts)

        current = reuse.residuals.recall(step, len(sample), residuals)
        predicted = self._run(inputs, step, reuse.deep, sample, time, states, *more, *current)
        if guided:
            without, predicted = predicted.chunk(2)
            predicted = without + inputs.guidance * (predicted - without)
        if not self.identity:
            return predicted
        states, *more = (tensor[total:] for tensor in inputs.texts)
        current = reuse.original_residuals.recall(
            step, len(x), lambda: self.identity.residuals(x, time, states, inputs.identity)
        )
        original = self._run(inputs, step, reuse.original_deep, x, time, states, *more, *current)
        # lerp is exact at both ends: text and controls alone at scale 1, the identity function alone at 0
        return torch.lerp(original, predicted, inputs.anonymization_scale)

    def _run(self, inputs: DenoisingInputs, step: int, reused: Reused, sample: Tensor, *rest: Tensor) -> Tensor:
        if self.takes_mask:
            extra = torch.cat([inputs.mask, inputs.context_latents], dim=1)
            sample = torch.cat([sample, repeat_batch(extra, len(sample) // len(extra))], dim=1)
        return self.unet(step, reused, sample, *rest)


def _rows_of(prepared: list[Tensor], rows: slice) -> list[Tensor]:
    """Return the rows of what a control prepared for all copies; a scale has no rows."""
    return [tensor[rows] if tensor.dim() > 1 else tensor for tensor in prepared]
