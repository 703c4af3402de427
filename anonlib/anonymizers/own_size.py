"""People in photos at their own size, inpainted by a full-size generator as Instance Augmentation's public code does.

A photo of a single person goes through whole. Of several people each is cut out with some surroundings, inpainted and
blended in, far to near. Read at commit 621c1cb, image_generator.py; unlike there, the ellipses grow with photos
that are larger than the generator's picture, and a person that cannot be inpainted is black.
"""

from collections import defaultdict
from dataclasses import dataclass

import cv2
import numpy as np

from anonlib.anonymizers import registry
from anonlib.anonymizers.contract import ERROR, NO_FACE, OK
from anonlib.anonymizers.diffusion import resize
from anonlib.anonymizers.multi_face import DetectedFaces, Scene, checked_scene, project_mask
from anonlib.anonymizers.originals import is_original
from anonlib.config.errors import AnonlibError
from anonlib.controls import ALIGNED, annotate, hub
from anonlib.faces import Face, align
from anonlib.faces.body import body_mask, nearest_faces

HOLE, SEAM = 13, 5  # px: ellipses that dilate a mask for inpainting and for blending; the blend's Gaussian has SEAM too
GROW = 0.9  # of the width and height of a person's box, on each side
THRESHOLD = 128  # grey level above which a resized mask is inpainted
MULTIPLE = 64  # px that divide both sides of a picture: 8 of an autoencoder times 8 of a UNet
WHOLE = np.full((128, 128), 255, np.uint8)


@dataclass(eq=False)
class _Person:
    """A person in a photo: index and box (left, top, right, bottom) px of the mask (h, w) uint8 within it."""

    index: int
    box: tuple[int, int, int, int]
    mask: np.ndarray


@dataclass(eq=False)
class _Task:
    """A person to inpaint: the generator's picture and mask of the region (left, top, right, bottom) of a photo."""

    photo: "_Photo"
    person: _Person
    region: tuple[int, int, int, int]
    picture: np.ndarray
    hole: np.ndarray


class _Photo:
    """A photo while its people are replaced.

    Attributes:
        image: Its present pixels (H, W, 3) uint8.
        replaced: (H, W) bool, the people that are no longer the original's.
        people: Those to inpaint, far to near.
        status: Status of each face.
    """

    def __init__(self, photo: np.ndarray, faces: list[Face], frames: np.ndarray, masks: np.ndarray, seeds: list[int]):
        self.image, self.faces, self.frames, self.masks, self.seeds = photo.copy(), faces, frames, masks, seeds
        self.replaced = np.zeros(photo.shape[:2], bool)
        self.status = [ERROR if mask.any() else NO_FACE for mask in masks]
        owners = nearest_faces(photo.shape[:2], faces) if len(faces) > 1 else None
        people = [_person(photo, index, face, masks[index], owners) for index, face in enumerate(faces)]
        self.people = [person for person in people if person]
        for index, person in enumerate(people):
            if not person:
                self.blacken(index)

    def order(self, nearness: np.ndarray) -> None:
        """Sort the people far to near by a map (h, w) of any size, which is larger where the photo is nearer."""
        wide = resize(nearness[None], self.image.shape[:2])[0]
        self.people.sort(key=lambda person: float(wide[_slices(person.box)][person.mask > 0].mean()))

    def task(self, person: _Person, size: int) -> _Task:
        """Cut out what the generator gets for a person: all of the photo if it is its only one."""
        height, width = self.image.shape[:2]
        region = (0, 0, width, height) if len(self.faces) == 1 else _grow(person.box, GROW, width, height)
        cut = self.image[_slices(region)]
        hole = np.zeros(cut.shape[:2], np.uint8)
        hole[_slices(person.box, region)] = person.mask
        hole = cv2.dilate(hole, _ellipse(HOLE, _scale(region, size)))
        shape = picture_shape(*cut.shape[:2], size)
        small = np.where(_fit(hole, shape) > THRESHOLD, np.uint8(255), np.uint8(0))
        return _Task(self, person, region, _fit(cut, shape), small)

    def put(self, task: _Task, picture: np.ndarray, status: str, size: int) -> None:
        """Put an inpainted picture into the photo, or black where it is not "ok"."""
        person, region = task.person, task.region
        self.status[person.index] = status
        if status != OK:
            self.blacken(person.index, person)
            return
        self.replaced[_slices(person.box)] |= person.mask > 0
        generated = _fit(picture, self.image[_slices(region)].shape[:2])
        if len(self.faces) == 1:
            self.image = generated
            return
        scale = _scale(region, size)
        seam = _grow(person.box, 0, *self.image.shape[1::-1], more=round(2 * SEAM * scale))
        mask = np.zeros((seam[3] - seam[1], seam[2] - seam[0]), np.uint8)
        mask[_slices(person.box, seam)] = person.mask
        side = _odd(SEAM * scale)
        soft = cv2.GaussianBlur(cv2.dilate(mask, _ellipse(SEAM, scale)), (side, side), 0)
        # none of the person's own pixels is mixed in
        weight = np.maximum(soft, mask)[..., None].astype(np.float32) / 255
        cut = _intersection(seam, region)
        weight = weight[_slices(cut, seam)]
        blended = weight * generated[_slices(cut, region)] + (1 - weight) * self.image[_slices(cut)]
        self.image[_slices(cut)] = np.rint(blended).astype(np.uint8)

    def blacken(self, index: int, person: _Person | None = None) -> None:
        """Make the whole frame of a face black, and all of its person."""
        black = project_mask(WHOLE, self.faces[index], self.image.shape[1::-1])
        if person:
            black[_slices(person.box)] |= person.mask > 0
        self.image[black], self.replaced[black] = 0, True

    def scene(self) -> Scene:
        """Return the result, an "error" where a person, or a face elsewhere, is still the original's."""
        scene = checked_scene(self.image, self.replaced, tuple(self.status))
        for face, frame, mask, status in zip(self.faces, self.frames, self.masks, self.status, strict=True):
            if status == OK and is_original(frame, align(self.image, face.points), mask):
                return Scene(np.zeros_like(self.image), ERROR, scene.faces)
        return scene


def inpaint_people(detected: DetectedFaces, name: str, options: dict, seeds: list[int], batch: int = 1) -> list[Scene]:
    """Anonymize photos with Instance Augmentation; `seeds` has one for each face.

    A photo of a single person is inpainted in batches of `batch` with others of its shape, people of other photos one
    by one. Raise AnonlibError if a control map needs a network that the model does not name.
    """
    controls, size = registry.get(name).controls, options["size"]
    annotators = {control: options["bundle"].annotator(control) for control in controls}
    if missing := [control for control in controls if control in ALIGNED and not annotators[control]]:
        raise AnonlibError(
            f"{name}: no network draws {missing[0]} in photos of {size} px: name one in generator.annotators, or "
            "choose a generator.size of 128, which works on aligned faces"
        )
    photos = [_Photo(*parts) for parts in _of_photos(detected, seeds)]
    for photo in photos:
        if len(photo.people) > 1 and annotators.get("depth"):
            small = _fit(photo.image, picture_shape(*photo.image.shape[:2], size))
            photo.order(annotate("depth", small[None], annotators["depth"])[0][0, ..., 0])
    for turn in range(max((len(photo.people) for photo in photos), default=0)):
        groups = defaultdict(list)
        for photo in photos:
            if turn < len(photo.people):
                task = photo.task(photo.people[turn], size)
                groups[task.picture.shape[:2], batch if len(photo.faces) == 1 else 1].append(task)
        for (shape, together), tasks in groups.items():
            _inpaint(tasks, name, options | {"shape": shape, "batch": together})
    return [photo.scene() for photo in photos]


def picture_shape(height: int, width: int, size: int) -> tuple[int, int]:
    """Return height and width of the generator's picture of a photo: its long side is `size`, its ratio nearly kept."""
    return rounded_shape(height, width, size / max(height, width))


def rounded_shape(height: int, width: int, grow: float) -> tuple[int, int]:
    """Return height and width of a photo that grows by a factor, as multiples of MULTIPLE."""
    return tuple(max(MULTIPLE, round(side * grow / MULTIPLE) * MULTIPLE) for side in (height, width))


def _inpaint(tasks: list[_Task], name: str, options: dict) -> None:
    """Inpaint pictures of one shape; only the square of the generator's size is compiled, or each shape would be."""
    size = options["size"]
    compiled = options["compiled"] and options["batch"] > 1 and options["shape"] == (size, size)
    anonymizer = registry.create(name, **options | {"compiled": compiled})
    pictures, holes = (np.stack([getattr(task, part) for task in tasks]) for part in ("picture", "hole"))
    results, status = anonymizer(pictures, holes, [task.photo.seeds[task.person.index] for task in tasks])
    for task, picture, word in zip(tasks, results, status, strict=True):
        task.photo.put(task, picture, word, size)


def _of_photos(detected: DetectedFaces, seeds: list[int]) -> list[tuple]:
    """Return the photo, faces, frames, masks and seeds of each photo."""
    ends = np.cumsum([len(faces) for faces in detected.faces])
    parts = [slice(end - len(faces), end) for end, faces in zip(ends, detected.faces, strict=True)]
    return [
        (photo, faces, detected.images[own], detected.masks[own], seeds[own])
        for photo, faces, own in zip(detected.photos, detected.faces, parts, strict=True)
    ]


def _person(
    photo: np.ndarray, index: int, face: Face, frame_mask: np.ndarray, owners: np.ndarray | None
) -> _Person | None:
    """Mask a person: what the parser sees in the aligned frame, and all of the body; None if either misses the face."""
    body = body_mask(photo, face) if frame_mask.any() else np.zeros((1, 1), np.uint8)
    if not body.any():
        return None
    near = project_mask(frame_mask, face, photo.shape[1::-1])
    if owners is not None:
        body[owners != index] = 0
    body[near] = 255
    count, parts = cv2.connectedComponents(body)
    belongs = np.zeros(count, bool)
    belongs[np.unique(parts[near])] = True  # others are specks without a head
    body[~belongs[parts]] = 0
    left, top, width, height = cv2.boundingRect(body)
    box = (left, top, left + width, top + height)
    return _Person(index, box, body[_slices(box)].copy())


def _grow(box: tuple[int, int, int, int], share: float, width: int, height: int, more: int = 0) -> tuple[int, ...]:
    """Grow a box on each side by a share of its width and height and by `more` px, within a photo."""
    left, top, right, bottom = box
    x, y = int(share * (right - left)) + more, int(share * (bottom - top)) + more
    return max(0, left - x), max(0, top - y), min(width, right + x), min(height, bottom + y)


def _intersection(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    return max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])


def _slices(box: tuple[int, ...], inside: tuple[int, ...] = (0, 0, 0, 0)) -> tuple[slice, slice]:
    """Return rows and columns of a box in the coordinates of a box around it."""
    left, top = inside[:2]
    return slice(box[1] - top, box[3] - top), slice(box[0] - left, box[2] - left)


def _scale(region: tuple[int, ...], size: int) -> float:
    """Return px of a photo per px of the ellipses: more than 1 where the generator's picture is smaller."""
    return max(1.0, max(region[2] - region[0], region[3] - region[1]) / size)


def _ellipse(side: int, scale: float) -> np.ndarray:
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (_odd(side * scale),) * 2)


def _odd(side: float) -> int:
    return 2 * round((side - 1) / 2) + 1


def _fit(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Resize to height and width as the public code does, but without its aliasing."""
    return hub.resize(image, shape[::-1])
