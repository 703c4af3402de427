"""Start processes that train one attacker together, a GPU each: $ANONLIB_TOGETHER says how many."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from anonlib.attacks.pairs import Pairs
from anonlib.attacks.train import AttackConfig, TrainedAttacker, restored, train_attacker, weights_of
from anonlib.config.errors import AnonlibError
from anonlib.engine import store
from anonlib.engine.torch_setup import prepare_torch


def processes() -> int:
    """Return how many processes train one attacker together; the attacker is the same but for rounding."""
    named = os.environ.get("ANONLIB_TOGETHER", "1")
    if not named.isdecimal() or int(named) < 1:
        raise AnonlibError(f"ANONLIB_TOGETHER must be a number of processes, 1 or more, not {named!r}")
    return int(named)


def train_together(
    count: int,
    config: AttackConfig,
    train: Pairs,
    validation: Pairs | None = None,
    checkpoint: Path | None = None,
    start: Mapping[str, np.ndarray] | None = None,
) -> TrainedAttacker:
    """Return what `train_attacker` makes of these, trained by `count` processes on GPUs, else on the CPU.

    Raises AnonlibError where one of them fails, with its last words.
    """
    with tempfile.TemporaryDirectory() as place:
        given, made = Path(place, "given"), Path(place, "made")
        given.mkdir(), made.mkdir()
        told = {"config": config, "train": train, "validation": validation, "start": dict(start) if start else None}
        store.save(told | {"checkpoint": str(checkpoint) if checkpoint else None}, given)
        command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(count), "--standalone"]
        done = subprocess.run([*command, "-m", __name__, str(place)], capture_output=True, text=True)
        if done.returncode:
            words = [line for line in done.stderr.splitlines() if "Error" in line] or done.stderr.splitlines()[-1:]
            raise AnonlibError(f"training {config.name!r} in {count} processes failed: {' '.join(words[:1])}")
        found = store.load(made)
    one = restored(config, found["weights"], found["embedding"], found["fusion"])
    return replace(one, step=found["step"], curve=found["curve"])


def main(place: Path) -> None:
    """Train as one of the processes; the first writes what became of it."""
    prepare_torch()
    import torch

    from anonlib.attacks.distributed import Team

    team, given = Team(cpu=not torch.cuda.is_available()), store.load(place / "given")
    checkpoint = Path(given.pop("checkpoint")) if given["checkpoint"] else given.pop("checkpoint")
    found = train_attacker(**given, checkpoint=checkpoint, device=team.device, team=team)
    if team.rank == 0:
        told = {"embedding": found.embedding, "fusion": found.fusion, "step": found.step}
        curve = pd.DataFrame(found.curve)
        store.save(told | {"curve": curve, "weights": weights_of(found)}, place / "made")
    team.end()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
