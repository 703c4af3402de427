"""Opt-in approximations that save time at each denoising step; the defaults are exact."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from anonlib.config.errors import AnonlibError

UNGUIDED = (0.0, 0.0)  # the guidance interval of nothing: guidance scale 1 in half the time


@dataclass(frozen=True)
class Shortcuts:
    """What is left out of the denoising steps.

    Attributes:
        guidance_interval: Two noise levels sigma: classifier-free guidance only where low < sigma <= high, else one
            pass with the text (Kynkäänniemi et al., 2024); (): guidance at each step.
        controls_every: ControlNets run at every so many-th step; between, their last residuals are used again.
        deep_every: The whole UNet runs at every so many-th step; between, only its outermost blocks, on the last
            features of the deeper ones (DeepCache, Ma et al., 2024).
    """

    guidance_interval: tuple[float, ...] = ()
    controls_every: int = 1
    deep_every: int = 1

    def __post_init__(self):
        interval = self.guidance_interval
        if interval and (len(interval) != 2 or not 0 <= interval[0] <= interval[1]):
            raise AnonlibError(f"guidance_interval is {list(interval)}: give two noise levels, the lower one first")
        for name in ("controls_every", "deep_every"):
            if getattr(self, name) < 1:
                raise AnonlibError(f"{name} is {getattr(self, name)}: it must be 1 (each step) or more")

    def is_guided(self, sigma: float) -> bool:
        """Return whether a step at this noise level is guided."""
        return not self.guidance_interval or self.guidance_interval[0] < sigma <= self.guidance_interval[1]


class Reused:
    """Tensors of one step that the next steps use again.

    Args:
        period: They are computed at every so many-th step.
    """

    def __init__(self, period: int):
        self.period, self.tensors = period, []

    def is_due(self, step: int, rows: int) -> bool:
        """Return whether a step must make them anew: it is its turn, or the kept ones have too few rows."""
        return step % self.period == 0 or not self.tensors or len(self.tensors[0]) < rows

    def remember(self, tensors: list[Tensor]) -> list[Tensor]:
        """Keep the tensors of this step, and return them."""
        if self.period > 1:
            self.tensors = [tensor.clone() for tensor in tensors]  # a CUDA graph overwrites its outputs
        return tensors

    def recent_rows(self, rows: int) -> list[Tensor]:
        """Return so many last rows of the kept tensors: those with the text, if guidance ended."""
        return [tensor[-rows:] for tensor in self.tensors]

    def recall(self, step: int, rows: int, produce: Callable[[], list[Tensor]]) -> list[Tensor]:
        """Return the tensors of a step, computed or kept."""
        return self.remember(produce()) if self.is_due(step, rows) else self.recent_rows(rows)
