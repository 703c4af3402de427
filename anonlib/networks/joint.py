"""Work that takes one input after the other, done for many at once: what it asks its networks goes in batches."""

import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor, nn


class Joint:
    """Networks whose callers, a thread an input, wait for one another, so that equal shapes go as one batch.

    A batch runs when nobody is left who still works without waiting; who is done must say so, `left`.
    """

    def __init__(self, callers: int):
        self._callers, self._asked, self._told = callers, [], threading.Condition()

    def network(self, net: nn.Module) -> nn.Module:
        """Return a network that answers as `net`, (1, ...) -> a tensor (1, ...) or a tuple or list of such."""
        return _Asking(net, self)

    def ask(self, net: nn.Module, x: Tensor) -> Any:
        """Return what `net` says to `x`; waits until everybody else waits too or has left."""
        answer: list[Any] = []
        with self._told:
            self._asked.append((net, x, answer))
            self._run_if_all_wait()
            self._told.wait_for(lambda: answer)
        if isinstance(answer[0], Exception):
            raise answer[0]
        return answer[0]

    def left(self) -> None:
        """Say that one caller asks no more."""
        with self._told:
            self._callers -= 1
            self._run_if_all_wait()

    def _run_if_all_wait(self) -> None:
        if len(self._asked) < self._callers:
            return
        alike = defaultdict(list)
        for net, x, answer in self._asked:
            alike[net, x.shape].append((x, answer))
        self._asked = []
        for (net, _), group in alike.items():
            try:
                with torch.inference_mode():
                    made = net(torch.cat([x for x, _ in group]))
                for row, (_, answer) in enumerate(group):
                    answer.append(_row(made, row))
            except Exception as error:  # belongs to those who asked, in their threads
                for _, answer in group:
                    answer.append(error)
        self._told.notify_all()


class _Asking(nn.Module):
    def __init__(self, net: nn.Module, joint: Joint):
        super().__init__()
        self.net, self.joint = net, joint

    def forward(self, x: Tensor) -> Any:
        return self.joint.ask(self.net, x)


def jointly(work: Callable[[Any, Joint], Any], inputs: Sequence[Any]) -> list[Any]:
    """Return work(input, joint) of each input, in threads; work calls its networks through `joint.network`."""
    joint = Joint(len(inputs))

    def one(given: Any) -> Any:
        try:
            return work(given, joint)
        finally:
            joint.left()

    with ThreadPoolExecutor(max(1, len(inputs))) as threads:
        return list(threads.map(one, inputs))


def _row(made: Any, row: int) -> Any:
    if isinstance(made, Tensor):
        return made[row : row + 1]
    return type(made)(_row(part, row) for part in made)
