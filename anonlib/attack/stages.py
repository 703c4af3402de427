"""The stages of a recognizer that no attacker trains: what they make of a photo is worked out once a process."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import Tensor, nn

LIMIT = 2**30  # bytes; the demo's test people and validation take half of it

_recent: OrderedDict[tuple, Tensor] = OrderedDict()


def recalled(stages: list[nn.Module], images: Tensor, run: Callable[[], Tensor]) -> Tensor:
    """Return run(), what these stages make of images; from memory where they have the same weights and images again.

    Every attacker on one gallery asks for the same: three quarters of an embedding, or more, that changes no number.
    Only for CPU tensors in inference mode; anything else is worked out. Keeps the last LIMIT bytes.
    """
    if not torch.is_inference_mode_enabled() or images.device.type != "cpu":
        return run()
    weights = [value for stage in stages for value in stage.state_dict().values()]
    types = (torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu"))
    key = (_digest(weights), _digest([images]), tuple(images.shape), images.dtype, types)
    value = _recent.pop(key, None)
    _recent[key] = value = run() if value is None else value  # the last one now
    while sum(kept.nbytes for kept in _recent.values()) > LIMIT:
        _recent.popitem(last=False)
    return value


def _digest(tensors: list[Tensor]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for value in tensors:
        digest.update(value.detach().contiguous().numpy())
    return digest.hexdigest()
