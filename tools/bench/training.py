"""Contrastive training: our loop, lightly's SimCLR loop and pytorch-metric-learning's trainer on the same network."""

import contextlib
import os
import time
from collections.abc import Callable

import numpy as np

from anonlib.engine.torch_setup import autocast, prepare_torch
from tools.bench.race import Watch, serve

PEOPLE, PHOTOS, SIZE, BATCH = (
    256,
    4,
    48,
    128,
)  # photos of 128 px; pixels a side the network sees; pairs a step: the demo's
WARM, STEPS, TEMPERATURE, RATE = 3, 12, 0.1, 1e-3
WORKERS = 0  # processes of the peers' data loaders, the fastest of 0, 1 and 2 on 2 cores, and the leanest


def photos() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return originals and anonymized photos (N, 128, 128, 3) uint8, noise both, and people (N,)."""
    rng = np.random.default_rng(0)
    count = PEOPLE * PHOTOS
    both = rng.integers(0, 256, (2, count, 128, 128, 3), np.uint8)
    return both[0], both[1], np.repeat(np.arange(PEOPLE), PHOTOS)


Race = Callable[[], list[float]]  # runs a training and returns when each step ended


def ours(originals: np.ndarray, anonymized: np.ndarray, people: np.ndarray) -> Race:
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
    """Return the network of the contest, from images (B, 3, SIZE, SIZE) in 0..255 to what the loss compares."""
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


def lightly(originals: np.ndarray, anonymized: np.ndarray, people: np.ndarray) -> Race:
    import torch
    from lightly.loss import NTXentLoss
    from lightly.transforms import SimCLRTransform
    from PIL import Image

    import anonlib.attacks.model  # noqa: F401

    # our augmentations in its words: crops that move, brightness and contrast, mirrored half of the time
    told = {"cj_prob": 1.0, "cj_strength": 1.0, "cj_bright": 0.2, "cj_contrast": 0.2, "cj_sat": 0, "cj_hue": 0}
    change = SimCLRTransform(SIZE, min_scale=0.8, random_gray_scale=0, gaussian_blur=0, normalize=None, **told)

    class Views(torch.utils.data.Dataset):
        def __len__(self):
            return len(people)

        def __getitem__(self, row):
            first, second = (Image.fromarray(images[row]) for images in (originals, anonymized))
            return change.transforms[0](first), change.transforms[1](second)

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


def metric_learning(originals: np.ndarray, anonymized: np.ndarray, people: np.ndarray) -> Race:
    import logging

    import torch
    from pytorch_metric_learning import losses, samplers, trainers
    from torchvision import transforms

    import anonlib.attacks.model  # noqa: F401

    logging.disable(logging.INFO)
    labels = np.concatenate([people, people])
    change = transforms.Compose(
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
            return change(image) * 255, int(labels[row])

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


def timed(contender: Callable[..., Race]) -> Callable[[], dict]:
    """Return a contender that tells its speed after the warm-up, and its memory above that of code and photos."""

    def tell() -> dict:
        run = contender(*photos())
        with Watch() as watch:
            ends = run()
        seconds = ends[WARM + STEPS - 1] - ends[WARM - 1]
        return {"images/s": 2 * BATCH * STEPS / seconds, "GiB": watch.gib}

    return tell


if __name__ == "__main__":
    prepare_torch(int(os.environ["OMP_NUM_THREADS"]))
    contenders = {"ours": ours, "lightly": lightly, "metric-learning": metric_learning}
    serve({name: timed(one) for name, one in contenders.items()})
