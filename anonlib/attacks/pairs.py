"""The data of an attacker: pairs of photos, its view of them, batches and augmentation."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from anonlib.attacks.registry import AttackConfig
from anonlib.config.errors import AnonlibError

FRAMES = {"full": (0, 0, 128), "face": (10, 8, 112)}  # top, left, side in the aligned 128 px image
People = list[tuple[np.ndarray, np.ndarray]]  # of each person, rows of originals and of anonymized photos


@dataclass(frozen=True, eq=False)
class PhotoPairs:
    """Original photos of people, and what an anonymizer made of some or all of them, once or several times.

    Attributes:
        originals: (N, 128, 128, 3) uint8 RGB.
        identity: (N,) the person.
        anonymized: (M, 128, 128, 3) uint8.
        source: (M,) the row of `originals` that each was made from.
        status: (M,) as in the anonymizer's contract; None: all are "ok".
        masks: (N, 128, 128) uint8 of the originals, 255 = person; only some views need them.
    """

    originals: np.ndarray
    identity: np.ndarray
    anonymized: np.ndarray
    source: np.ndarray
    status: np.ndarray | None = None
    masks: np.ndarray | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "source", np.asarray(self.source, np.int64))
        n, m = len(self.originals), len(self.anonymized)
        lengths = [(self.identity, n), (self.masks, n), (self.source, m), (self.status, m)]
        if any(column is not None and len(column) != length for column, length in lengths):
            raise ValueError(
                f"{n} originals need {n} identities and masks, {m} anonymized photos {m} sources and statuses"
            )
        if m and not 0 <= self.source.min() <= self.source.max() < n:
            raise ValueError(f"a source is the row of an original, 0 to {n - 1}")

    @property
    def usable(self) -> np.ndarray:
        """Rows of the anonymized photos that are not blank."""
        return np.arange(len(self.source)) if self.status is None else np.flatnonzero(np.asarray(self.status) == "ok")

    @property
    def anonymized_masks(self) -> np.ndarray | None:
        """Masks of the anonymized photos, those of their originals."""
        return None if self.masks is None else self.masks[self.source]

    def fingerprint(self) -> str:
        """Return a hash of all that training depends on."""
        digest = hashlib.blake2b(digest_size=16)
        labels = np.asarray(self.identity).astype(str)
        for part in (self.originals, labels, self.anonymized, self.source, self.usable, self.masks):
            digest.update(b"none" if part is None else np.ascontiguousarray(part).tobytes())
        return digest.hexdigest()


def background_view(images: np.ndarray, masks: np.ndarray | None, margin: int = 8) -> np.ndarray:
    """Return images without the person: the mask, dilated by `margin` px, is filled from the background only.

    The fill is a wide blur of the background around it. A flat colour would show the outline of hair and shoulders,
    which identifies people. An image without background becomes plain grey.

    Args:
        images: (N, H, W, 3) uint8.
        masks: (N, H, W) uint8 of the person.
        margin: Pixels by which the person is dilated.

    Returns:
        (N, H, W, 3) uint8.

    Raises:
        AnonlibError: There are no masks.
    """
    if masks is None:
        raise AnonlibError("an attacker that sees the background only needs the person masks")
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * margin + 1, 2 * margin + 1))
    result = np.empty_like(images)
    for row, (image, mask) in enumerate(zip(images, masks, strict=True)):
        background = (cv2.dilate(mask, kernel) < 128).astype(np.float32)
        if not background.any():
            result[row] = 128
            continue
        fill, weight = _wide_blur(image * background[..., None]), _wide_blur(background)
        blurred = np.clip(np.rint(fill / weight[..., None]), 0, 255)
        result[row] = np.where(background[..., None] > 0, image, blurred).astype(np.uint8)
    return result


def _wide_blur(x: np.ndarray) -> np.ndarray:
    """Return a blur with weights that fall with distance but never to 0; at a quarter of the size, for speed."""
    small = cv2.resize(x, (x.shape[1] // 4, x.shape[0] // 4), interpolation=cv2.INTER_AREA)
    wide = sum(cv2.GaussianBlur(small, (0, 0), sigma, borderType=cv2.BORDER_REFLECT) / sigma for sigma in (1, 3, 7))
    return cv2.resize(wide + 1e-3 * small.mean(axis=(0, 1)), x.shape[1::-1], interpolation=cv2.INTER_LINEAR)


View = Callable[[np.ndarray, np.ndarray | None], np.ndarray]  # images, masks -> images of the same shape
VIEWS: dict[str, View] = {"images": lambda images, masks: images, "background": background_view}


def apply_view(view: str, images: np.ndarray, masks: np.ndarray | None = None) -> np.ndarray:
    """Return images (N, 128, 128, 3) uint8 in a view of VIEWS; some views need the person masks (N, 128, 128) uint8."""
    if view not in VIEWS:
        raise AnonlibError(f"unknown view {view!r}: an attacker sees one of {', '.join(sorted(VIEWS))}")
    return VIEWS[view](images, masks)


def rows_by_person(pairs: PhotoPairs) -> People:
    """Return each person's rows of originals and of usable anonymized photos; people without the latter are left out.

    Raise AnonlibError if fewer than two people are left.
    """
    names, person = np.unique(np.asarray(pairs.identity).astype(str), return_inverse=True)
    anonymized = {p: pairs.usable[person[pairs.source[pairs.usable]] == p] for p in range(len(names))}
    people = [(np.flatnonzero(person == p), rows) for p, rows in anonymized.items() if len(rows)]
    if len(people) < 2:
        raise AnonlibError(f"training an attacker needs at least 2 people with an anonymized photo, got {len(people)}")
    return people


def draw_pairs(
    people: People, source: np.ndarray, batch: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return rows of originals and rows of anonymized photos of min(batch, people) different people, one pair each.

    The original is another photo than the anonymized one wherever the person has another, as in the attack itself,
    where the probe's own photo is never in the gallery. A person with one photo is paired with that photo.
    """
    originals, anonymized = [], []
    for own, own_anonymized in (people[p] for p in rng.permutation(len(people))[:batch]):
        anonymized.append(rng.choice(own_anonymized))
        others = own[own != source[anonymized[-1]]]
        originals.append(rng.choice(others if len(others) else own))
    return np.array(originals), np.array(anonymized)


@dataclass(frozen=True)
class Augmentation:
    """How B photos are changed: translation in px (2, B), flip (B,), contrast and brightness (2, B, 1, 1, 1)."""

    moves: Tensor
    flips: Tensor
    light: Tensor

    def select_photos(self, rows: slice | Tensor | np.ndarray) -> "Augmentation":
        """Return the augmentation of these photos."""
        return Augmentation(self.moves[:, rows], self.flips[rows], self.light[:, rows])


def sample_augmentation(count: int, size: int, shift: float, light: float, generator: torch.Generator) -> Augmentation:
    """Draw an augmentation of `count` photos of `size` px: half of them flipped, all translated, with changed light.

    `shift` is the largest translation, as a share of the size; `light` the largest relative change of brightness and
    of contrast. The generator is on the CPU, so that a seed gives the same batch on any device.
    """
    far = round(shift * size)
    moves = torch.randint(-far, far + 1, (2, count), generator=generator)
    flips = torch.rand(count, generator=generator) < 0.5
    return Augmentation(moves, flips, (2 * torch.rand(2, count, 1, 1, 1, generator=generator) - 1) * light)


def draw_batch(
    people: People, source: np.ndarray, count: int, config: AttackConfig, step: int
) -> tuple[np.ndarray, np.ndarray, Augmentation]:
    """Return a step's rows of originals (K,) and of anonymized photos (K,), and the augmentation of both, (2K) photos.

    All of it follows from the seed and the number of the step, so a resumed training draws the same batches.
    """
    rng = np.random.default_rng([config.seed, step])
    originals, anonymized = draw_pairs(people, source, count, rng)
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    size = config.image_size
    return originals, anonymized, sample_augmentation(2 * len(originals), size, config.shift, config.light, generator)


def resize_frame(images: np.ndarray, frame: str, size: int) -> Tensor:
    """Return images as (N, 3, S, S) uint8 in which `frame` is `size` px wide; the margin stays, to translate into."""
    if frame not in FRAMES:
        raise AnonlibError(f"unknown frame {frame!r}: choose one of {', '.join(FRAMES)}")
    side = round(128 * size / FRAMES[frame][2])
    if side != images.shape[1]:
        images = np.stack([cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA) for image in images])
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2)  # a view: no copy of all photos


def crop_frame(
    images: Tensor, frame: str, size: int, down: Tensor | int = 0, right: Tensor | int = 0, flip: Tensor | None = None
) -> Tensor:
    """Cut the frame out of resized images (B, 3, S, S), translated by px, flipped where `flip`; edges repeat."""
    top, left, side = FRAMES[frame]
    steps = torch.arange(size, device=images.device)
    none = torch.zeros(len(images), 1, dtype=torch.long, device=images.device)
    rows = round(top * size / side) + steps + none + (down[:, None] if isinstance(down, Tensor) else down)
    columns = steps + none
    if flip is not None:
        columns = torch.where(flip[:, None], size - 1 - columns, columns)
    columns = round(left * size / side) + columns + (right[:, None] if isinstance(right, Tensor) else right)
    last = images.shape[-1] - 1
    rows, columns = rows.clamp(0, last), columns.clamp(0, last)
    image = torch.arange(len(images), device=images.device)[:, None, None]
    return images.permute(0, 2, 3, 1)[image, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def augment(images: Tensor, frame: str, size: int, augmentation: Augmentation) -> Tensor:
    """Return resized photos (B, 3, S, S) augmented, (B, 3, size, size) float32 in 0..255."""
    parts = (augmentation.moves, augmentation.flips, augmentation.light)
    moves, flips, light = (part.to(images.device) for part in parts)
    x = crop_frame(images, frame, size, moves[0], moves[1], flips).float()
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    return ((x - mean) * (1 + light[0]) + mean * (1 + light[1])).clamp(0, 255)


def batch_example(
    pairs: PhotoPairs, config: AttackConfig, count: int = 8, step: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return the pairs of a training step as the network gets them, for a picture.

    Args:
        pairs: Training pairs.
        config: The attacker's; its view, frame, image size, augmentation and seed.
        count: Pairs; of different people, so there may be fewer.
        step: Number of the step; with count=config.batch it is the very batch of that step.

    Returns:
        Originals and anonymized photos, each (K, size, size, 3) uint8; row k of both shows the same person.
    """
    originals, anonymized, augmentation = draw_batch(rows_by_person(pairs), pairs.source, count, config, step)
    masks = (None, None) if pairs.masks is None else (pairs.masks[originals], pairs.anonymized_masks[anonymized])
    photos = zip((pairs.originals[originals], pairs.anonymized[anonymized]), masks, strict=True)
    resized = [resize_frame(apply_view(config.view, *part), config.frame, config.image_size) for part in photos]
    batch = augment(torch.cat(resized), config.frame, config.image_size, augmentation)
    return tuple(half.permute(0, 2, 3, 1).round().byte().numpy() for half in batch.chunk(2))
