"""Samplers with all coefficients on the host before the first step: no step waits for the GPU or copies to it."""

from typing import NamedTuple

import torch
from diffusers import DiffusionPipeline, UniPCMultistepScheduler
from torch import Tensor

from anonlib.config.errors import AnonlibError

# what `UniPC` computes; a scheduler with other settings runs as diffusers has it
UNIPC = {
    "solver_order": 2, "solver_type": "bh2", "predict_x0": True, "lower_order_final": True, "disable_corrector": [],
    "thresholding": False, "use_flow_sigmas": False, "solver_p": None,
}  # fmt: skip
PREDICTIONS = ("epsilon", "v_prediction")


class SchedulerSampler:
    """Any scheduler of diffusers, run as it is.

    Args:
        scheduler: With its timesteps set.
        times: (T,) timesteps of the steps.
        kwargs: Arguments of its steps.
    """

    def __init__(self, scheduler: object, times: Tensor, kwargs: dict):
        self.scheduler, self.times, self.kwargs = scheduler, times, kwargs
        sigmas = getattr(scheduler, "sigmas", None)
        first = len(scheduler.timesteps) - len(times)
        self.sigmas = [0.0] * len(times) if sigmas is None else sigmas[first : first + len(times)].tolist()

    def add_noise(self, step: int, latents: Tensor, noise: Tensor) -> Tensor:
        """Return latents under the noise with which a step begins."""
        return self.scheduler.add_noise(latents, noise, self.times[step][None])

    def scale_input(self, step: int, x: Tensor) -> Tensor:
        """Return the network's input of a step."""
        return self.scheduler.scale_model_input(x, self.times[step])

    def take_step(self, step: int, prediction: Tensor, x: Tensor) -> Tensor:
        """Return the latents after a step; steps come in order."""
        return self.scheduler.step(prediction, self.times[step], x, return_dict=False, **self.kwargs)[0]


class _Update(NamedTuple):
    """Coefficients of one update from x at a noise level to the next: ratio x - mean m0 - change (a D1 + b D1_t)."""

    ratio: float
    mean: float
    change: float
    distance: float | None = None  # of the earlier prediction, in steps; None: order 1
    weights: tuple[float, float] = (0.0, 0.5)


class UniPC:
    """UniPC of order 2 with B2(h) that predicts x0 (Zhao et al., 2023), bit for bit as diffusers computes it on a CPU.

    Args:
        scheduler: diffusers' scheduler with its timesteps set.
        times: (T,) timesteps of the steps, its last ones.
    """

    def __init__(self, scheduler: UniPCMultistepScheduler, times: Tensor):
        self.times, self.velocity = times, scheduler.config.prediction_type == "v_prediction"
        sigmas = scheduler.sigmas.cpu()[-len(times) - 1 :]
        self.sigmas, steps = sigmas.tolist(), range(len(times))
        self.levels = [tuple(value.item() for value in _level(sigma)) for sigma in sigmas]
        last = len(times) - 1
        self.predictors = [_update(sigmas, k + 1, k, k - 1 if 0 < k < last else None) for k in steps]
        self.correctors = [None] + [_update(sigmas, k, k - 1, k - 2 if k > 1 else None, True) for k in steps[1:]]
        self.predicted: list[Tensor] = []  # x0 of the last two steps
        self.last = None

    def add_noise(self, step: int, latents: Tensor, noise: Tensor) -> Tensor:
        """Return latents under the noise with which a step begins."""
        alpha, sigma = self.levels[step]
        return alpha * latents + sigma * noise

    def scale_input(self, step: int, x: Tensor) -> Tensor:
        """Return the network's input of a step: the latents."""
        return x

    def take_step(self, step: int, prediction: Tensor, x: Tensor) -> Tensor:
        """Return the latents after a step; steps come in order."""
        alpha, sigma = self.levels[step]
        x0 = alpha * x - sigma * prediction if self.velocity else (x - sigma * prediction) / alpha
        if step:
            x = self._apply(self.correctors[step], self.last, x0)
        self.predicted, self.last = [*self.predicted[-1:], x0], x
        return self._apply(self.predictors[step], x)

    def _apply(self, update: _Update, x: Tensor, corrected: Tensor | None = None) -> Tensor:
        m0, total = self.predicted[-1], None
        if update.distance is not None:
            total = update.weights[0] * ((self.predicted[-2] - m0) / update.distance)
        if corrected is not None:
            last = update.weights[1] * (corrected - m0)
            total = last if total is None else total + last
        moved = update.ratio * x - update.mean * m0
        return moved if total is None else moved - update.change * total


def _level(sigma: Tensor) -> tuple[Tensor, Tensor]:
    """Return alpha and sigma of the variance-preserving process at a noise level."""
    alpha = 1 / ((sigma**2 + 1) ** 0.5)
    return alpha, sigma * alpha


def _update(sigmas: Tensor, to: int, at: int, earlier: int | None, corrector: bool = False) -> _Update:
    """Compute the update between two noise levels, of order 2 if there is an earlier one."""
    (alpha_to, sigma_to), (alpha_at, sigma_at) = _level(sigmas[to]), _level(sigmas[at])
    start = torch.log(alpha_at) - torch.log(sigma_at)
    h = torch.log(alpha_to) - torch.log(sigma_to) - start
    phi = torch.expm1(-h)
    update = _Update(*(value.item() for value in (sigma_to / sigma_at, alpha_to * phi, alpha_to * phi)))
    if earlier is None:
        return update
    alpha, sigma = _level(sigmas[earlier])
    distance = (torch.log(alpha) - torch.log(sigma) - start) / h
    weights = (0.5, 0.0)
    if corrector:
        first = phi / -h - 1
        second = first / -h - 1 / 2
        rows = torch.stack([torch.ones(2), torch.stack([distance, torch.ones(())])])
        weights = tuple(torch.linalg.solve(rows, torch.stack([first * 1 / phi, second * 2 / phi])).tolist())
    return update._replace(distance=distance.item(), weights=weights)


def start_sampling(
    pipeline: DiffusionPipeline, steps: int, strength: float | None, device: torch.device, **kwargs: object
) -> SchedulerSampler | UniPC:
    """Set a pipeline's scheduler to some steps and return their sampler; `kwargs` are of a step of the scheduler.

    Raise AnonlibError if the strength leaves no step.
    """
    scheduler, strength = pipeline.scheduler, 1.0 if strength is None else strength
    scheduler.set_timesteps(steps, device=device)
    times, _ = pipeline.get_timesteps(steps, strength, device)
    if not len(times):
        raise AnonlibError(f"strength {strength:g} leaves nothing of {steps} steps: raise one of them")
    config = dict(scheduler.config)
    supported = type(scheduler) is UniPCMultistepScheduler and config["prediction_type"] in PREDICTIONS
    if supported and {name: config[name] for name in UNIPC} == UNIPC:
        return UniPC(scheduler, times)
    return SchedulerSampler(scheduler, times, kwargs)
