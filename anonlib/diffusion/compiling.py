"""A network of fixed shapes, compiled: by OpenVINO on a CPU, by torch on a GPU."""

import hashlib
import os
import shutil
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import filelock
import torch
from torch import Tensor, nn

from anonlib.config import digest
from anonlib.config.paths import cache_root
from anonlib.engine.torch_setup import autocast, fast_dtype
from anonlib.networks.openvino import compile_model

if TYPE_CHECKING:
    import openvino as ov

LARGE = 200e6  # parameters from which a CPU runs torch itself: a second copy of the weights would take too much memory


# of torch.compile: kernels chosen by measuring, and recorded as CUDA graphs
INDUCTOR = {
    "max_autotune": True, "coordinate_descent_tuning": True, "conv_1x1_as_mm": True, "triton.cudagraphs": True,
}  # fmt: skip


def runs_by_torch(network: nn.Module, device: str) -> bool:
    """Return whether torch runs a network, not OpenVINO: on a GPU, in half precision, or if it is LARGE."""
    half = next(network.parameters()).dtype != torch.float32
    return device != "cpu" or half or sum(parameter.numel() for parameter in network.parameters()) >= LARGE


class CompiledModule:
    """A network from tensors to one or several tensors, compiled; it always returns a tuple of float32 tensors.

    On a CPU OpenVINO runs it, with products in `torch_setup.fast_dtype`. On a GPU, or if it is LARGE or in half
    precision, torch runs it in the type of its weights; products of float32 weights are in the fast type.

    Args:
        network, device: The network and its device.
        compiled: Whether to compile it with torch at its first calls, which takes minutes. CUDA graphs are recorded in
            the thread that calls: it must be the main one, and no other may work on the GPU then.
        exact: Whether products of float32 weights stay in float32.
        own_type: Whether outputs have the type of the weights, not float32.
    """

    def __init__(
        self, network: nn.Module, device: str, compiled: bool = False, exact: bool = False, own_type: bool = False
    ):
        self.network, self.device = network.eval().requires_grad_(False), device
        self.dtype = next(network.parameters()).dtype
        self.product_dtype = None if self.dtype == torch.float32 and not exact else torch.float32  # None: the fast one
        self.output_dtype = self.dtype if own_type else torch.float32
        self.torch = runs_by_torch(network, device)
        self.requests: dict[tuple, ov.InferRequest] = {}
        if compiled:
            self.network = torch.compile(self.network, options=INDUCTOR, fullgraph=True)

    @torch.inference_mode()
    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        if not self.torch:
            return self._openvino(inputs)
        inputs = [tensor.to(self.dtype) if tensor.is_floating_point() else tensor for tensor in inputs]
        with autocast(self.device, self.product_dtype):
            outputs = self.network(*inputs)
        return tuple(tensor.to(self.output_dtype) for tensor in _tuple(outputs))

    def _openvino(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        shapes = tuple(tuple(tensor.shape) for tensor in inputs)
        if shapes not in self.requests:
            self.requests[shapes] = self._request(inputs)
        arrays = [tensor.contiguous().numpy() for tensor in inputs]
        outputs = self.requests[shapes].infer(arrays, share_inputs=True)
        return tuple(torch.from_numpy(array) for array in outputs.values())

    def _request(self, inputs: tuple[Tensor, ...]) -> "ov.InferRequest":
        import openvino as ov

        model = ov.Core().read_model(_converted(self.network, inputs))
        model.reshape({port: list(tensor.shape) for port, tensor in zip(model.inputs, inputs, strict=True)})
        precision = "bf16" if fast_dtype("cpu") == torch.bfloat16 else "f32"
        return compile_model(model, torch.get_num_threads(), precision).create_infer_request()


def _tuple(outputs: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)


def _converted(network: nn.Module, inputs: tuple[Tensor, ...]) -> Path:
    """Convert a network to an OpenVINO file in the cache, once for its weights, code and libraries."""
    import openvino as ov

    weights = hashlib.blake2b()
    for name, value in network.state_dict().items():
        weights.update(name.encode())
        weights.update(value.contiguous().numpy())
    key = [weights.hexdigest(), str(network), len(inputs), ov.__version__, torch.__version__]
    folder = cache_root() / "graphs" / digest([*key, Path(__file__).read_text()])[:32]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(f"{folder}.lock"):
        if not folder.exists():
            part = Path(f"{folder}.part{os.getpid()}")
            shutil.rmtree(part, ignore_errors=True)
            with warnings.catch_warnings(), torch.no_grad():
                warnings.simplefilter("ignore")  # of tracing: branches depend on sizes only, and these are fixed
                examples = tuple(tensor.clone() for tensor in inputs)  # inference tensors cannot be traced
                traced = torch.jit.trace(network, examples, strict=False, check_trace=False)  # OpenVINO would check
                ov.save_model(ov.convert_model(traced, example_input=examples), part / "network.xml", False)
            part.rename(folder)
    return folder / "network.xml"
