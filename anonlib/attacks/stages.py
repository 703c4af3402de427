"""The stages of a recognizer that no attacker trains: what they make of a photo is worked out once a process."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import Tensor, nn


class Memory:
    """Tensors by key: those that were asked for last, up to `limit` bytes."""

    def __init__(self, limit: int):
        self.limit, self.kept = limit, OrderedDict[tuple, Tensor]()

    def recall(self, key: tuple, run: Callable[[], Tensor]) -> Tensor:
        """Return what run() gave for this key before, or gives now."""
        value = self.kept.pop(key, None)
        self.kept[key] = value = run() if value is None else value  # the last one now
        while sum(one.nbytes for one in self.kept.values()) > self.limit:
            self.kept.popitem(last=False)
        return value


# The demo's test people and validation take half of it. What is trained on is apart: it would push these out.
SEEN, LEARNED = Memory(2**30), Memory(2**28)


def recalled(stages: list[nn.Module], images: Tensor, run: Callable[[], Tensor]) -> Tensor:
    """Return run(), what these untrained stages make of images; from memory if weights and images were the same before.

    Every attacker asks for the same gallery, and two that differ in their temperature alone for the same batches: three
    quarters of the products, or more, and no number changes. On the CPU only; elsewhere it is worked out.
    """
    with torch.no_grad():
        if images.device.type != "cpu":
            return run()
        weights = [value for stage in stages for value in stage.state_dict().values()]
        types = (torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu"))
        key = (_digest(weights), _digest([images]), tuple(images.shape), images.dtype, types)
        return (SEEN if torch.is_inference_mode_enabled() else LEARNED).recall(key, run)


def _digest(tensors: list[Tensor]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for value in tensors:
        digest.update(value.detach().contiguous().numpy())
    return digest.hexdigest()
