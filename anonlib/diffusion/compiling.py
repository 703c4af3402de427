"""A network as one graph of fixed shapes, compiled: through OpenVINO on a CPU, through torch on a GPU."""

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
from anonlib.networks.openvino import compiled

if TYPE_CHECKING:
    import openvino as ov

LARGE = 200e6  # parameters from which a CPU runs torch itself: a second copy of the weights would not pay for its place


class Graph:
    """A network that takes tensors and gives one or several, made fast; here always a tuple of float32 tensors.

    On a CPU it goes through OpenVINO, with products in `compat.fast_dtype`. On a GPU, and where it is LARGE or in half
    precision, torch runs it in the type of its weights; float32 ones are multiplied in the fast type, unless it is to
    be exact. device: where the network lies when it is called. compiled=True compiles it at the first call, which takes
    a minute.
    """

    def __init__(self, network: nn.Module, device: str, compiled: bool = False, exact: bool = False):
        self.network, self.device = network.eval().requires_grad_(False), device
        self.dtype = next(network.parameters()).dtype
        self.products = None if self.dtype == torch.float32 and not exact else torch.float32  # None: the fast type
        whole = device == "cpu" and self.dtype == torch.float32
        self.torch = not whole or sum(one.numel() for one in network.parameters()) >= LARGE
        self.requests: dict[tuple, ov.InferRequest] = {}
        if compiled:
            self.network = torch.compile(self.network, mode="reduce-overhead", fullgraph=True)

    @torch.inference_mode()
    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        if not self.torch:
            return self._openvino(inputs)
        given = [one.to(self.dtype) if one.is_floating_point() else one for one in inputs]
        with autocast(self.device, self.products):
            made = self.network(*given)
        return tuple(one.float() for one in ((made,) if isinstance(made, Tensor) else made))

    def _openvino(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        shapes = tuple(tuple(one.shape) for one in inputs)
        if shapes not in self.requests:
            self.requests[shapes] = self._request(inputs)
        found = self.requests[shapes].infer([one.contiguous().numpy() for one in inputs], share_inputs=True)
        return tuple(torch.from_numpy(one) for one in found.values())

    def _request(self, inputs: tuple[Tensor, ...]) -> "ov.InferRequest":
        import openvino as ov

        model = ov.Core().read_model(_converted(self.network, inputs))
        model.reshape({port: list(one.shape) for port, one in zip(model.inputs, inputs, strict=True)})
        precision = "bf16" if fast_dtype("cpu") == torch.bfloat16 else "f32"
        return compiled(model, torch.get_num_threads(), precision).create_infer_request()


def _converted(network: nn.Module, inputs: tuple[Tensor, ...]) -> Path:
    """Return the network as an OpenVINO file in the cache, converted once for its weights, code and libraries."""
    import openvino as ov

    weights = hashlib.blake2b()
    for name, value in network.state_dict().items():
        weights.update(name.encode())
        weights.update(value.contiguous().numpy())
    told = [weights.hexdigest(), str(network), len(inputs), ov.__version__, torch.__version__]
    folder = cache_root() / "graphs" / digest([*told, Path(__file__).read_text()])[:32]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(f"{folder}.lock"):
        if not folder.exists():
            part = Path(f"{folder}.part{os.getpid()}")
            shutil.rmtree(part, ignore_errors=True)
            with warnings.catch_warnings(), torch.no_grad():
                warnings.simplefilter("ignore")  # of tracing: what the sizes decide is decided, and they are fixed
                copies = tuple(one.clone() for one in inputs)  # inference tensors cannot be traced
                ov.save_model(ov.convert_model(network, example_input=copies), part / "network.xml", False)
            part.rename(folder)
    return folder / "network.xml"
