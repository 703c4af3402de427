"""The outputs of frozen stages, kept in memory: attackers that share them see the same photos again and again."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import Tensor, nn


class TensorCache:
    """Tensors by key: the most recently used ones, up to `limit` bytes."""

    def __init__(self, limit: int):
        self.limit, self.tensors = limit, OrderedDict[tuple, Tensor]()

    def get_or_run(self, key: tuple, run: Callable[[], Tensor]) -> Tensor:
        """Return the tensor of a key; run() computes it where it is missing."""
        value = self.tensors.pop(key, None)
        self.tensors[key] = value = run() if value is None else value  # the most recent one comes last
        while sum(tensor.nbytes for tensor in self.tensors.values()) > self.limit:
            self.tensors.popitem(last=False)
        return value


# The demo's test and validation photos take half of the first. Training batches would push them out.
INFERENCE, TRAINING = TensorCache(2**30), TensorCache(2**28)


def cached_activations(stages: list[nn.Module], images: Tensor, run: Callable[[], Tensor]) -> Tensor:
    """Run the frozen stages on images (B, 3, s, s), or reuse their output for equal weights, images and precision.

    All attackers embed the same gallery, and two that differ in temperature only see the same batches: three quarters
    of the products or more are saved, and no number changes. Only on the CPU.
    """
    with torch.no_grad():
        if images.device.type != "cpu":
            return run()
        weights = [value for stage in stages for value in stage.state_dict().values()]
        precision = (torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu"))
        key = (_digest(weights), _digest([images]), tuple(images.shape), images.dtype, precision)
        return (INFERENCE if torch.is_inference_mode_enabled() else TRAINING).get_or_run(key, run)


def _digest(tensors: list[Tensor]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for value in tensors:
        digest.update(value.detach().contiguous().numpy())
    return digest.hexdigest()
