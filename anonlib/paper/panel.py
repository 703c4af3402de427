"""A panel to step through CAMOUFLaGE-Base in JupyterLab: sliders for the scale and each control, painted at once."""

import io
import os
import time
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from anonlib import config
from anonlib.anonymizers import image_seed, registry
from anonlib.anonymizers.builtin import BASE
from anonlib.anonymizers.camouflage import WEIGHTS, CamouflageBase
from anonlib.anonymizers.seed_keys import seed_parameters
from anonlib.controls import Seen, annotate
from anonlib.controls.maps import Maps, lookup

if TYPE_CHECKING:
    import ipywidgets

FURTHEST, STEP = 2.0, 0.05  # of the sliders
SHOWN = 256  # px a side


def live() -> bool:
    """Return whether somebody sits at the notebook: JupyterLab tells its kernels, runs without a browser do not."""
    return "JPY_SESSION_NAME" in os.environ


class Studio:
    """One aligned photo (128, 128, 3) uint8 and its control maps, painted again and again; the noise stays the same."""

    def __init__(self, image: np.ndarray, settings: config.Profile):
        self.image, self.name = image, "camouflage-base"
        self.options = registry.get(self.name).options(settings) | {"batch": 1}
        seen, bundle = Seen(image[None]), self.options["bundle"]
        self.maps: Maps = {name: annotate(name, seen, bundle.annotator(name)) for name in BASE}
        self.seed = image_seed(image, self.name, seed_parameters(self.options))

    def paint(self, away: float, weights: dict[str, float]) -> np.ndarray | None:
        """Return the picture at a scale and weights of the controls, None where a map that is followed is empty."""
        annotator = lookup(self.image[None], self.maps)
        method = CamouflageBase(anonymization_scale=away, weights=weights, annotator=annotator, **self.options)
        made, status = method(self.image[None], np.full((1, *self.image.shape[:2]), 255, np.uint8), [self.seed])
        return made[0] if status == ["ok"] else None

    def strip(self, scales: tuple[float, ...]) -> np.ndarray:
        """Return the picture at each of these scales, (S, 128, 128, 3); all zero where there is none."""
        blank = np.zeros_like(self.image)
        painted = [self.paint(scale, WEIGHTS) for scale in scales]
        return np.stack([blank if one is None else one for one in painted])

    def panel(self) -> "ipywidgets.Widget":
        """Return sliders beside the original and the picture, which is painted anew whenever one is let go."""
        import ipywidgets as widgets

        def slider(name: str, value: float) -> widgets.FloatSlider:
            told = {"description": name, "style": {"description_width": "7em"}, "continuous_update": False}
            return widgets.FloatSlider(value, min=0, max=FURTHEST, step=STEP, **told)

        away, weights = slider("a_s", 1.25), {name: slider(name, weight) for name, weight in WEIGHTS.items()}
        size = {"width": SHOWN, "height": SHOWN, "format": "png"}
        shown, told = widgets.Image(value=_png(self.image), **size), widgets.Label()

        def show(_: object = None) -> None:
            start = time.perf_counter()
            made = self.paint(away.value, {name: one.value for name, one in weights.items()})
            shown.value = _png(np.zeros_like(self.image) if made is None else made)
            told.value = "a control map is empty" if made is None else f"{time.perf_counter() - start:.1f} s"

        for one in (away, *weights.values()):
            one.observe(show, "value")
        show()
        pictures = widgets.HBox([widgets.Image(value=_png(self.image), **size), shown])
        return widgets.VBox([pictures, away, *weights.values(), told])


def _png(image: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "png")
    return stream.getvalue()
