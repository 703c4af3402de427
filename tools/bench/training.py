"""Contrastive training: our loop, lightly's SimCLR loop and pytorch-metric-learning's trainer on the same network."""

import contextlib
import os
import time
from collections.abc import Callable

import numpy as np

from anonlib.engine.torch_setup import autocast, prepare_torch
from tools.bench.race import AddedMemory, serve

PEOPLE, PHOTOS = 256, 4  # photos of 128 px per person
SIZE, BATCH = 48, 128  # side of the network's input in px, pairs per step, as in the demo
WARM, STEPS, TEMPERATURE, RATE = 3, 12, 0.1, 1e-3
WORKERS = 0  # processes of the peers' data loaders; of 0, 1 and 2 the fastest on 2 cores, with the least memory


def photos() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return originals and anonymized photos (N, 128, 128, 3) uint8, both of noise, and people (N,)."""
    rng = np.random.default_rng(0)
    count = PEOPLE * PHOTOS
    both = rng.integers(0, 256, (2, count, 128, 128, 3), np.uint8)
    return both[0], both[1], np.repeat(np.arange(PEOPLE), PHOTOS)


Training = Callable[[], list[float]]  # runs a training and returns the time at the end of each step


def train_ours(originals: np.ndarray, anonymized: np.ndarray, people: np.ndarray) -> Training:
    """Return our training."""
    from anonlib.attacks.pairs import PhotoPairs
    from anonlib.attacks.registry import AttackConfig
    from anonlib.attacks.train import train_attacker

    settings = {"image_size": SIZE, "batch": BATCH, "steps": WARM + STEPS, "validate_every": 1000, "lr": RATE}

    def run() -> list[float]:
        pairs, ends = PhotoPairs(originals, people, anonymized, np.arange(len(people))), []
        train_attacker(AttackConfig(**settings), pairs, progress=lambda *_: ends.append(time.perf_counter()))
        return ends

    return run


def network():
    """Return the network of all contenders: images (B, 3, SIZE, SIZE) in 0..255 to projections (B, 128)."""
    import torch

    from anonlib.attacks.model import build_attacker

    class Projected(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.network = build_attacker("resnet18", 128, None, SIZE)

        def forward(self, images):
            with autocast("cpu"):
                return self.network(images)[1].float()

    return Projected()


def train_lightly(originals: np.ndarray, anonymized: np.ndarray, people: np.ndarray) -> Training:
    """Return lightly's training: its SimCLR loss and transform in a plain loop."""
    import torch
    from lightly.loss import NTXentLoss
    from lightly.transforms import SimCLRTransform
    from PIL import Image

    import anonlib.attacks.model  # noqa: F401

    # our augmentations: random crops, brightness and contrast, a mirror image half of the time
    jitter = {"cj_prob": 1.0, "cj_strength": 1.0, "cj_bright": 0.2, "cj_contrast": 0.2, "cj_sat": 0, "cj_hue": 0}
    transform = SimCLRTransform(SIZE, min_scale=0.8, random_gray_scale=0, gaussian_blur=0, normalize=None, **jitter)

    class Views(torch.utils.data.Dataset):
        def __len__(self):
            return len(people)

        def __getitem__(self, row):
            first, second = (Image.fromarray(images[row]) for images in (originals, anonymized))
            return transform.transforms[0](first), transform.transforms[1](second)

    def run() -> list[float]:
        model, criterion = network(), NTXentLoss(temperature=TEMPERATURE)
        optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
        loader = torch.utils.data.DataLoader(Views(), BATCH, shuffle=True, drop_last=True, num_workers=WORKERS)
        ends: list[float] = []
        while len(ends) < WARM + STEPS:
            for first, second in loader:
                loss = criterion(model(first * 255), model(second * 255))
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
                ends.append(time.perf_counter())
        return ends

    return run


def train_metric_learning(originals: np.ndarray, anonymized: np.ndarray, people: np.ndarray) -> Training:
    """Return the training of pytorch-metric-learning: its trainer, sampler and NT-Xent loss."""
    import logging

    import torch
    from pytorch_metric_learning import losses, samplers, trainers
    from torchvision import transforms

    import anonlib.attacks.model  # noqa: F401

    logging.disable(logging.INFO)
    labels = np.concatenate([people, people])
    transform = transforms.Compose(
        [
            transforms.ToPILImage(),
            transforms.RandomResizedCrop(SIZE, scale=(0.8, 1.0)),
            transforms.RandomHorizontalFlip(),
            transforms.ColorJitter(0.2, 0.2),
            transforms.ToTensor(),
        ]
    )

    class Labelled(torch.utils.data.Dataset):
        def __len__(self):
            return len(labels)

        def __getitem__(self, row):
            image = originals[row] if row < len(people) else anonymized[row - len(people)]
            return transform(image) * 255, int(labels[row])

    def run() -> list[float]:
        model, ends = network(), []
        trainer = trainers.MetricLossOnly(
            models={"trunk": model},
            optimizers={"trunk_optimizer": torch.optim.AdamW(model.parameters(), lr=RATE)},
            batch_size=2 * BATCH,
            loss_funcs={"metric_loss": losses.NTXentLoss(temperature=TEMPERATURE)},
            dataset=Labelled(),
            sampler=samplers.MPerClassSampler(labels, 2, 2 * BATCH, len(labels)),
            dataloader_num_workers=WORKERS,
            end_of_iteration_hook=lambda trainer: ends.append(time.perf_counter()),
            data_device="cpu",
        )
        trainer.iterations_per_epoch = WARM + STEPS
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):  # its bars
            trainer.train(num_epochs=1)
        return ends

    return run


def timed(contender: Callable[..., Training]) -> Callable[[], dict]:
    """Return a function that measures a contender: speed after the warm-up, memory above code and photos."""

    def measure() -> dict:
        run = contender(*photos())
        with AddedMemory() as watch:
            ends = run()
        seconds = ends[WARM + STEPS - 1] - ends[WARM - 1]
        return {"images/s": 2 * BATCH * STEPS / seconds, "GiB": watch.gib}

    return measure


if __name__ == "__main__":
    prepare_torch(int(os.environ["OMP_NUM_THREADS"]))
    contenders = {"ours": train_ours, "lightly": train_lightly, "metric-learning": train_metric_learning}
    serve({name: timed(contender) for name, contender in contenders.items()})
