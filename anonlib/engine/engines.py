"""Engines compute the shards of a step: the process pool of this machine, or another one by its module's name."""

import importlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from anonlib.config.errors import AnonlibError

ENGINE = "ANONLIB_ENGINE"  # the name of an engine, or the module of one: my_cluster.engine
ENGINES = {"local": "anonlib.engine.pool"}


class Engine(Protocol):
    """What a module has to define to be an engine."""

    def default_workers(self, gpus_each: int = 1) -> int:
        """Return how many shards to compute at once.

        Args:
            gpus_each: GPUs of each worker, where there are GPUs.

        Returns:
            1 or more.
        """

    def map_shards(
        self,
        compute: Callable[[Any, Mapping[str, Any]], Any],
        shards: Sequence[Any],
        inputs: Mapping[str, Any],
        *,
        label: str,
        module: str,
        workers: int,
        gpus_each: int,
        log: Path,
    ) -> Iterator[tuple[int, Any]]:
        """Yield (index of the shard, compute(shard, inputs)) in the order in which the shards are finished.

        `compute` stores the result of its shard in the cache, so all workers must see the folder $ANONLIB_CACHE.

        Args:
            compute: A function that can be pickled; it and the shards travel to the workers.
            shards: What `compute` gets, one after the other.
            inputs: What every shard reads: arrays, frames, tensors, dataclasses and nested dictionaries of them.
            label: The step's name, for messages.
            module: The module that `compute` needs most; a worker may load it in advance.
            workers, gpus_each: Shards to compute at once, and GPUs that each worker has for itself.
            log: The file for what workers print.

        Raises:
            AnonlibError: A worker died, or there are fewer GPUs than a worker needs.
        """


def load_engine() -> Engine:
    """Return the engine that $ANONLIB_ENGINE names, "local" by default; raise AnonlibError for an unknown one."""
    name = os.environ.get(ENGINE) or "local"
    try:
        return importlib.import_module(ENGINES.get(name, name))
    except ModuleNotFoundError as error:
        raise AnonlibError(f"{ENGINE}={name}: {error}: name {', '.join(ENGINES)} or the module of an engine") from None
