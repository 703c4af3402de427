"""Three stages of a stream of batches at once: while the main stage works, others prepare and finish."""

import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any

import torch


class CudaStage:
    """A CUDA stream for one stage, synchronized when the stage ends; without effect on a CPU."""

    def __init__(self, device: torch.device):
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    @contextlib.contextmanager
    def __call__(self, *tensors: torch.Tensor) -> Iterator[None]:
        """Work on this stream; tensors: of other streams that are used here and must not be freed before."""
        if self.stream is None:
            yield
            return
        for tensor in tensors:
            tensor.record_stream(self.stream)
        with torch.cuda.stream(self.stream):
            yield
        self.stream.synchronize()


def pipelined(
    items: Iterable[Any],
    before: Callable[[Any], Any],
    main: Callable[[Any], Any],
    after: Callable[[Any], Any],
    ahead: int = 2,
) -> Iterator[Any]:
    """Yield after(main(before(item))) for each item, in order, with the stages overlapping.

    Args:
        items: Inputs; no further one is begun after an exception in any stage, which is raised here.
        before, after: Run in a thread of their own each, up to `ahead` items early, and late.
        main: Runs in the caller's thread.
        ahead: Items in flight between two stages.

    Yields:
        Results, in the order of the items.
    """
    items = iter(items)
    with ThreadPoolExecutor(1) as first, ThreadPoolExecutor(1) as last:
        ready = deque(first.submit(before, item) for item in islice(items, ahead))
        finishing: deque[Future] = deque()
        try:
            while ready:
                inputs = ready.popleft().result()
                ready.extend(first.submit(before, item) for item in islice(items, 1))
                finishing.append(last.submit(after, main(inputs)))
                while finishing and (finishing[0].done() or len(finishing) > ahead):
                    yield finishing.popleft().result()
            while finishing:
                yield finishing.popleft().result()
        finally:
            for future in ready:
                future.cancel()
