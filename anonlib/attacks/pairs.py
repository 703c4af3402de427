"""What an attacker is trained on: pairs of photos, what it may see of them, and augmentation."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from anonlib.config.errors import AnonlibError

FRAMES = {"full": (0, 0, 128), "face": (10, 8, 112)}  # top, left, side in the aligned 128 px image


@dataclass(frozen=True, eq=False)
class Pairs:
    """Original photos of people and what an anonymizer made of some or all of them, once or several times.

    originals: (N, 128, 128, 3) uint8 RGB; identity: (N,). anonymized: (M, 128, 128, 3) uint8, where row i was made from
    originals[source[i]] with status[i] as the anonymizer's contract says; status None means all "ok".
    masks: (N, 128, 128) uint8 of the originals, 255 = person; only views that need them ask for them.
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
        wanted = [(self.identity, n), (self.masks, n), (self.source, m), (self.status, m)]
        if any(part is not None and len(part) != size for part, size in wanted):
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
        return None if self.masks is None else self.masks[self.source]

    def fingerprint(self) -> str:
        """Return a hash of all that training depends on."""
        digest = hashlib.blake2b(digest_size=16)
        labels = np.asarray(self.identity).astype(str)
        for part in (self.originals, labels, self.anonymized, self.source, self.usable, self.masks):
            digest.update(b"none" if part is None else np.ascontiguousarray(part).tobytes())
        return digest.hexdigest()


def see_background(images: np.ndarray, masks: np.ndarray | None, margin: int = 8) -> np.ndarray:
    """Return images in which the person is gone: the mask, grown by `margin` px, is filled from the background only.

    The fill is a wide blur of the background around it, not a flat colour: a flat one would show the outline of the
    person's hair and shoulders, which says who it is. An image without background becomes plain grey.
    """
    if masks is None:
        raise AnonlibError("an attacker that sees the background only needs the person masks")
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * margin + 1, 2 * margin + 1))
    seen = np.empty_like(images)
    for row, (image, mask) in enumerate(zip(images, masks, strict=True)):
        background = (cv2.dilate(mask, kernel) < 128).astype(np.float32)
        if not background.any():
            seen[row] = 128
            continue
        fill, weight = _wide_blur(image * background[..., None]), _wide_blur(background)
        blurred = np.clip(np.rint(fill / weight[..., None]), 0, 255)
        seen[row] = np.where(background[..., None] > 0, image, blurred).astype(np.uint8)
    return seen


def _wide_blur(x: np.ndarray) -> np.ndarray:
    """Return a mean whose weights fall with distance but never to nothing; at a quarter of the size, for speed."""
    small = cv2.resize(x, (x.shape[1] // 4, x.shape[0] // 4), interpolation=cv2.INTER_AREA)
    wide = sum(cv2.GaussianBlur(small, (0, 0), sigma, borderType=cv2.BORDER_REFLECT) / sigma for sigma in (1, 3, 7))
    return cv2.resize(wide + 1e-3 * small.mean(axis=(0, 1)), x.shape[1::-1], interpolation=cv2.INTER_LINEAR)


View = Callable[[np.ndarray, np.ndarray | None], np.ndarray]  # images, masks -> images of the same shape
VIEWS: dict[str, View] = {"images": lambda images, masks: images, "background": see_background}


def see(sees: str, images: np.ndarray, masks: np.ndarray | None = None) -> np.ndarray:
    """Return what an attacker with this view gets of images (N, 128, 128, 3) uint8; raises AnonlibError if unknown."""
    if sees not in VIEWS:
        raise AnonlibError(f"unknown view {sees!r}: an attacker sees one of {', '.join(sorted(VIEWS))}")
    return VIEWS[sees](images, masks)


def people_of(pairs: Pairs) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return for each person its rows of originals and of usable anonymized photos; people without one are left out."""
    names, person = np.unique(np.asarray(pairs.identity).astype(str), return_inverse=True)
    anonymized = {p: pairs.usable[person[pairs.source[pairs.usable]] == p] for p in range(len(names))}
    people = [(np.flatnonzero(person == p), rows) for p, rows in anonymized.items() if len(rows)]
    if len(people) < 2:
        raise AnonlibError(f"training an attacker needs at least 2 people with an anonymized photo, got {len(people)}")
    return people


def draw_pairs(
    people: list[tuple[np.ndarray, np.ndarray]], source: np.ndarray, batch: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return rows of originals and rows of anonymized photos of min(batch, people) different people, one pair each.

    The original is another photo than the one that was anonymized wherever the person has another, as in the attack
    itself, where the probe's own photo is never in the gallery; a person with one photo is paired with itself.
    """
    first, second = [], []
    for originals, anonymized in (people[p] for p in rng.permutation(len(people))[:batch]):
        second.append(rng.choice(anonymized))
        others = originals[originals != source[second[-1]]]
        first.append(rng.choice(others if len(others) else originals))
    return np.array(first), np.array(second)


def framed(images: np.ndarray, frame: str, size: int) -> Tensor:
    """Return images as (N, 3, S, S) uint8, scaled so that `frame` is `size` px wide; the rest stays, to shift into."""
    if frame not in FRAMES:
        raise AnonlibError(f"unknown frame {frame!r}: choose one of {', '.join(FRAMES)}")
    side = round(128 * size / FRAMES[frame][2])
    if side != images.shape[1]:
        images = np.stack([cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA) for image in images])
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2)  # a view: thousands of photos, once


def window(
    stored: Tensor, frame: str, size: int, down: Tensor | int = 0, right: Tensor | int = 0, flip: Tensor | None = None
) -> Tensor:
    """Cut the frame out of framed images (B, 3, S, S), moved by so many px, mirrored where flip; edges repeat."""
    top, left, side = FRAMES[frame]
    steps = torch.arange(size, device=stored.device)
    none = torch.zeros(len(stored), 1, dtype=torch.long, device=stored.device)
    rows = round(top * size / side) + steps + none + (down[:, None] if isinstance(down, Tensor) else down)
    columns = steps + none
    if flip is not None:
        columns = torch.where(flip[:, None], size - 1 - columns, columns)
    columns = round(left * size / side) + columns + (right[:, None] if isinstance(right, Tensor) else right)
    last = stored.shape[-1] - 1
    rows, columns = rows.clamp(0, last), columns.clamp(0, last)
    image = torch.arange(len(stored), device=stored.device)[:, None, None]
    return stored.permute(0, 2, 3, 1)[image, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


@dataclass(frozen=True)
class Changes:
    """How some photos are changed: moved by px (2, B), mirrored (B,), contrast and brightness (2, B, 1, 1, 1)."""

    moves: Tensor
    mirrored: Tensor
    light: Tensor

    def select(self, rows: slice | Tensor) -> "Changes":
        """Return the changes of these photos."""
        return Changes(self.moves[:, rows], self.mirrored[rows], self.light[:, rows])


def drawn_changes(count: int, size: int, shift: float, light: float, generator: torch.Generator) -> Changes:
    """Draw changes: mirrored half of the time, moved, and with changed light.

    shift: largest move as a share of the size. light: largest relative change of brightness and of contrast.
    Everything random comes from `generator` (on the CPU), so that a seed gives the same batch anywhere.
    """
    far = round(shift * size)
    moves = torch.randint(-far, far + 1, (2, count), generator=generator)
    mirrored = torch.rand(count, generator=generator) < 0.5
    return Changes(moves, mirrored, (2 * torch.rand(2, count, 1, 1, 1, generator=generator) - 1) * light)


def augment(stored: Tensor, frame: str, size: int, changes: Changes) -> Tensor:
    """Return framed photos (B, 3, S, S) changed, (B, 3, size, size) float32 in 0..255."""
    moves, mirrored, light = (one.to(stored.device) for one in (changes.moves, changes.mirrored, changes.light))
    x = window(stored, frame, size, moves[0], moves[1], mirrored).float()
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    return ((x - mean) * (1 + light[0]) + mean * (1 + light[1])).clamp(0, 255)
