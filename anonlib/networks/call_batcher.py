"""Batch the network calls of code that takes one input at a time: one thread per input, joined at each call."""

import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor, nn


class CallBatcher:
    """Let threads that call networks wait for one another, so that equal shapes run as one batch.

    A batch runs when no thread is left that works without waiting; a thread that has ended must call `leave`.
    """

    def __init__(self, callers: int):
        self._callers, self._calls, self._changed = callers, [], threading.Condition()

    def batch(self, net: nn.Module) -> nn.Module:
        """Wrap a network so that its calls are batched.

        Args:
            net: (1, ...) -> a tensor (1, ...) or a tuple or list of such.

        Returns:
            A module with the same interface.
        """
        return _BatchedCalls(net, self)

    def call(self, net: nn.Module, x: Tensor) -> Any:
        """Call a network in a batch; blocks until all other threads wait too or have left.

        Args:
            x: (1, ...).

        Returns:
            Its output for x.
        """
        result: list[Any] = []
        with self._changed:
            self._calls.append((net, x, result))
            self._run_if_all_wait()
            self._changed.wait_for(lambda: result)
        if isinstance(result[0], Exception):
            raise result[0]
        return result[0]

    def leave(self) -> None:
        """Announce that one thread makes no further calls."""
        with self._changed:
            self._callers -= 1
            self._run_if_all_wait()

    def _run_if_all_wait(self) -> None:
        if len(self._calls) < self._callers:
            return
        batches = defaultdict(list)
        for net, x, result in self._calls:
            batches[net, x.shape].append((x, result))
        self._calls = []
        for (net, _), calls in batches.items():
            try:
                with torch.inference_mode():
                    output = net(torch.cat([x for x, _ in calls]))
                for row, (_, result) in enumerate(calls):
                    result.append(_row(output, row))
            except Exception as error:  # is raised in the threads that called
                for _, result in calls:
                    result.append(error)
        self._changed.notify_all()


class _BatchedCalls(nn.Module):
    def __init__(self, net: nn.Module, batcher: CallBatcher):
        super().__init__()
        self.net, self.batcher = net, batcher

    def forward(self, x: Tensor) -> Any:
        return self.batcher.call(self.net, x)


def run_batched(work: Callable[[Any, CallBatcher], Any], inputs: Sequence[Any]) -> list[Any]:
    """Run a function on each input in a thread of its own, batching its network calls.

    Args:
        work: (input, batcher) -> result; it calls its networks through `batcher.batch`.
        inputs: N inputs.

    Returns:
        N results.
    """
    batcher = CallBatcher(len(inputs))

    def run(item: Any) -> Any:
        try:
            return work(item, batcher)
        finally:
            batcher.leave()

    with ThreadPoolExecutor(max(1, len(inputs))) as threads:
        return list(threads.map(run, inputs))


def _row(output: Any, row: int) -> Any:
    if isinstance(output, Tensor):
        return output[row : row + 1]
    return type(output)(_row(part, row) for part in output)
