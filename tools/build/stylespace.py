"""The face generator of the asset table (MobileStyleGAN, 1024 px) with a style per layer, its W+ style space."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from anonlib.assets import asset_path
from anonlib.networks.openvino import compile_model

LAYERS = 23  # modulated layers, from 4 px to 512 px
WIDTH = 512


@dataclass(frozen=True, eq=False)
class Generator:
    """`to_style`: z (512,) -> w (512,); `draw`: styles (23, 512) -> image (1024, 1024, 3) uint8 RGB; `mean`: (512,)."""

    to_style: Callable[[np.ndarray], np.ndarray]
    draw: Callable[[np.ndarray], np.ndarray]
    mean: np.ndarray


@lru_cache(maxsize=1)
def load_generator(threads: int = 1) -> Generator:
    """Compile the generator for this CPU with a free style for each layer (W+)."""
    import openvino as ov

    folder = asset_path("face-generator")
    mapping = compile_model(str(folder / "MappingNetwork.xml"), threads)
    synthesis = compile_model(_per_layer(ov.Core().read_model(str(folder / "SynthesisNetwork.xml"))), threads)

    def to_style(z: np.ndarray) -> np.ndarray:
        return next(iter(mapping(z.reshape(1, WIDTH).astype(np.float32)).values()))[0].copy()

    def draw(styles: np.ndarray) -> np.ndarray:
        image = next(iter(synthesis(styles.astype(np.float32)).values()))[0]
        return np.rint((image.clip(-1, 1) + 1) * 127.5).astype(np.uint8).transpose(1, 2, 0)

    probes = np.random.default_rng(0).standard_normal((1024, WIDTH))
    return Generator(to_style, draw, np.mean([to_style(z) for z in probes], axis=0))


def _per_layer(model):
    """Return the model with one input (23, 512): row k is the style of layer k, by depth."""
    import openvino as ov
    from openvino import opset13 as op

    single = model.inputs[0].get_node()
    transforms = [
        node
        for node in model.get_ordered_ops()
        if node.get_type_name() == "MatMul"
        and node.input_value(0).get_node().get_friendly_name() == single.get_friendly_name()
    ]
    transforms.sort(key=lambda node: int(re.search(r"\d+", node.get_friendly_name()).group()))  # numbered by depth
    if len(transforms) != LAYERS:
        raise ValueError(f"the generator has {len(transforms)} style layers, expected {LAYERS}")
    styles = op.parameter([LAYERS, WIDTH], np.float32, name="styles")
    for k, node in enumerate(transforms):
        row = op.gather(styles, op.constant(np.array([k], np.int64)), op.constant(np.int64(0)))
        node.input(0).replace_source_output(row.output(0))
    first_row = op.gather(styles, op.constant(np.array([0], np.int64)), op.constant(np.int64(0)))
    for target in single.output(0).get_target_inputs():  # the remaining ones read only the batch size
        target.replace_source_output(first_row.output(0))
    return ov.Model([result.input_value(0) for result in model.get_results()], [styles], "synthesis")
