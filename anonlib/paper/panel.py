"""A panel to explore CAMOUFLaGE-Base in JupyterLab: sliders for the anonymization scale and for each control."""

import io
import os
import time
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from anonlib import config
from anonlib.anonymizers import image_seed, registry
from anonlib.anonymizers.camouflage import BASE, WEIGHTS, CamouflageBase
from anonlib.anonymizers.seeds import seed_parameters
from anonlib.controls import ParsedImages, annotate
from anonlib.controls.maps import Maps, lookup

if TYPE_CHECKING:
    import ipywidgets

FURTHEST, STEP = 2.0, 0.05  # of the sliders
SHOWN = 256  # px a side


def live() -> bool:
    """Return whether a person has the notebook open: JupyterLab sets a variable in its kernels, papermill does not."""
    return "JPY_SESSION_NAME" in os.environ


class Studio:
    """Generate one aligned photo (128, 128, 3) uint8 at changing scales; its control maps and noise stay the same."""

    def __init__(self, image: np.ndarray, settings: config.Profile):
        self.image, self.name = image, "camouflage-base"
        self.options = registry.get(self.name).options(settings) | {"batch": 1}
        parsed, bundle = ParsedImages(image[None]), self.options["bundle"]
        self.maps: Maps = {name: annotate(name, parsed, bundle.annotator(name)) for name in BASE}
        self.seed = image_seed(image, self.name, seed_parameters(self.options))

    def generate(self, scale: float, weights: dict[str, float]) -> np.ndarray | None:
        """Generate the picture.

        Args:
            scale, weights: the anonymization scale, and the scale of each control.

        Returns:
            (128, 128, 3) uint8; None where a control map is empty.
        """
        annotator = lookup(self.image[None], self.maps)
        method = CamouflageBase(anonymization_scale=scale, weights=weights, annotator=annotator, **self.options)
        images, status = method(self.image[None], np.full((1, *self.image.shape[:2]), 255, np.uint8), [self.seed])
        return images[0] if status == ["ok"] else None

    def strip(self, scales: tuple[float, ...]) -> np.ndarray:
        """Generate the picture at several scales.

        Args:
            scales: anonymization scales.

        Returns:
            (S, 128, 128, 3) uint8; all zero where a control map is empty.
        """
        images = [self.generate(scale, WEIGHTS) for scale in scales]
        return np.stack([np.zeros_like(self.image) if image is None else image for image in images])

    def panel(self) -> "ipywidgets.Widget":
        """Return sliders beside the original and the picture, which is generated again when a slider is released."""
        import ipywidgets as widgets

        def slider(name: str, value: float) -> widgets.FloatSlider:
            style = {"description": name, "style": {"description_width": "7em"}, "continuous_update": False}
            return widgets.FloatSlider(value, min=0, max=FURTHEST, step=STEP, **style)

        scale, weights = slider("a_s", 1.25), {name: slider(name, weight) for name, weight in WEIGHTS.items()}
        size = {"width": SHOWN, "height": SHOWN, "format": "png"}
        picture, label = widgets.Image(value=_png(self.image), **size), widgets.Label()

        def show(_: object = None) -> None:
            start = time.perf_counter()
            image = self.generate(scale.value, {name: control.value for name, control in weights.items()})
            picture.value = _png(np.zeros_like(self.image) if image is None else image)
            label.value = "a control map is empty" if image is None else f"{time.perf_counter() - start:.1f} s"

        for control in (scale, *weights.values()):
            control.observe(show, "value")
        show()
        pictures = widgets.HBox([widgets.Image(value=_png(self.image), **size), picture])
        return widgets.VBox([pictures, scale, *weights.values(), label])


def _png(image: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "png")
    return stream.getvalue()
