"""Three stages of a stream of batches at once: the next is prepared and the last one finished meanwhile."""

import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any

import torch


class Lane:
    """Where one stage works: on a GPU a stream of its own, whose work is done when the stage ends; else nothing."""

    def __init__(self, device: torch.device):
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    @contextlib.contextmanager
    def __call__(self, *given: torch.Tensor) -> Iterator[None]:
        """Work here; given: tensors of other lanes that are used, whose memory is not given away before."""
        if self.stream is None:
            yield
            return
        for one in given:
            one.record_stream(self.stream)
        with torch.cuda.stream(self.stream):
            yield
        self.stream.synchronize()


def overlapped(
    items: Iterable[Any],
    before: Callable[[Any], Any],
    main: Callable[[Any], Any],
    after: Callable[[Any], Any],
    ahead: int = 2,
) -> Iterator[Any]:
    """Yield after(main(before(item))) of each item, in order.

    `main` runs in the caller's thread, the others in one thread each, `before` up to `ahead` items early and `after` up
    to as many late. What any of them raises is raised here, and no further item is begun.
    """
    items = iter(items)
    with ThreadPoolExecutor(1) as first, ThreadPoolExecutor(1) as last:
        ready = deque(first.submit(before, item) for item in islice(items, ahead))
        finishing: deque[Future] = deque()
        try:
            while ready:
                prepared = ready.popleft().result()
                ready.extend(first.submit(before, item) for item in islice(items, 1))
                finishing.append(last.submit(after, main(prepared)))
                while finishing and (finishing[0].done() or len(finishing) > ahead):
                    yield finishing.popleft().result()
            while finishing:
                yield finishing.popleft().result()
        finally:
            for one in ready:
                one.cancel()
