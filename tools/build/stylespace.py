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
    """The face generator.

    Attributes:
        to_style: z (512,) -> w (512,).
        draw: Styles (23, 512) -> image (1024, 1024, 3) uint8 RGB.
        draw_half: The same picture at half its size, (512, 512, 3), in a third of the time.
        mean: Mean style (512,).
    """

    to_style: Callable[[np.ndarray], np.ndarray]
    draw: Callable[[np.ndarray], np.ndarray]
    draw_half: Callable[[np.ndarray], np.ndarray]
    mean: np.ndarray


@lru_cache(maxsize=1)
def load_generator(threads: int = 1, precision: str = "f32") -> Generator:
    """Compile the generator for this CPU with a free style for each layer (W+).

    `precision` "bf16" is faster on a CPU that multiplies bfloat16; pixels differ a little, see docs/decisions.md.
    """
    import openvino as ov

    folder = asset_path("face-generator")
    mapping = compile_model(str(folder / "MappingNetwork.xml"), threads)
    whole, other = (_per_layer(ov.Core().read_model(str(folder / "SynthesisNetwork.xml"))) for _ in range(2))
    draw, draw_half = (_drawer(compile_model(graph, threads, precision)) for graph in (whole, _half_size(other)))

    def to_style(z: np.ndarray) -> np.ndarray:
        return next(iter(mapping(z.reshape(1, WIDTH).astype(np.float32)).values()))[0].copy()

    probes = np.random.default_rng(0).standard_normal((1024, WIDTH))
    return Generator(to_style, draw, draw_half, np.mean([to_style(z) for z in probes], axis=0))


def _drawer(synthesis: Callable) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function from styles (23, 512) to the picture of a compiled graph, (H, W, 3) uint8."""

    def draw(styles: np.ndarray) -> np.ndarray:
        image = next(iter(synthesis(styles.astype(np.float32)).values()))[0]
        return np.rint((image.clip(-1, 1) + 1) * 127.5).astype(np.uint8).transpose(1, 2, 0)

    return draw


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


def _half_size(model):
    """Return a graph of `_per_layer` that ends at 512 px: the last inverse Haar transform's averages.

    The other inverse Haar transforms of 32 px and more, six transposed convolutions each, become one 1x1 convolution
    and a rearrangement of its channels.
    """
    import openvino as ov
    from openvino import opset13 as op

    nodes = {node.get_friendly_name(): node for node in model.get_ordered_ops()}
    for level in range(2, 7):
        styled, depthwise = nodes[f"Mul_{100 * level + 56}"], nodes[f"Conv_{100 * level + 87}"]
        multiply, side = depthwise.input_value(0).get_node(), depthwise.output(0).get_shape()[2]
        shapes = [port.get_source_output().get_partial_shape() for port in multiply.inputs()]
        place = [len(shape) == 4 and shape[2] == side for shape in shapes].index(True)
        matrix = op.constant(_haar_matrix(shapes[place][1].get_length()))
        mixed = op.convolution(styled.output(0), matrix, [1, 1], [0, 0], [0, 0], [1, 1])
        multiply.input(place).replace_source_output(op.depth_to_space(mixed, "blocks_first", 2).output(0))
    (port,) = nodes["Conv_753"].output(0).get_target_inputs()  # its bias
    first, last, step, axis = (op.constant(np.array([value])) for value in (0, 3, 1, 1))
    averages = op.slice(port.get_node().output(0), first, last, step, axis)
    half = op.multiply(averages, op.constant(np.float32(0.5)))
    return ov.Model([half.output(0)], model.get_parameters(), "half")


def _haar_matrix(channels: int) -> np.ndarray:
    """Return the weights (4C, 4C, 1, 1) of an inverse Haar transform to C channels, see `mobilestylegan.haar`."""
    weights = np.zeros((4, channels, 4 * channels, 1, 1), np.float32)
    signs = ((1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1))  # of the details, in the four pixels of a block
    for pixel, own in enumerate(signs):
        for channel in range(channels):
            weights[pixel, channel, channel] = 0.5
            weights[pixel, channel, channels + 3 * channel + np.arange(3), 0] = np.array(own)[:, None] / 2
    return weights.reshape(4 * channels, 4 * channels, 1, 1)
