"""Photos of any size through generators of full size, of a folder or of a data set.

CAMOUFLaGE generates all of a photo anew, with or without people; Instance Augmentation inpaints the people, see
`own_size`. The small generator, and other anonymizers, work on the aligned frames of faces.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TypeVar

import cv2
import numpy as np

from anonlib.anonymizers import registry
from anonlib.anonymizers.contract import ERROR, OK
from anonlib.anonymizers.diffusion import resize
from anonlib.anonymizers.multi_face import DetectedFaces, Scene, find_people, project_mask, read_people
from anonlib.anonymizers.own_size import inpaint_people, rounded_shape
from anonlib.anonymizers.seeds import image_seed
from anonlib.assets.models import ATTRIBUTES, IDENTITY
from anonlib.data.source_photo import SourcePhoto
from anonlib.faces import FRAME_POINTS, SIZE, Face, align
from anonlib.faces.attributes import attribute_predictor

T = TypeVar("T")
PIXELS = 32_000_000  # of the photos that are held in memory together
SAME_CROP = 2.0  # grey levels: mean difference up to which a face in a photo is that of the data set
FRAME = Face(FRAME_POINTS, np.array([34, 40, 60, 76], np.float32), 1.0)  # the face of an aligned image


def handles_whole_photos(name: str, options: dict) -> bool:
    """Return whether an anonymizer with these options works on photos at their own size, not on frames of faces.

    A generator of more than the frame's 128 px does; CAMOUFLaGE needs networks that read whole photos too.
    """
    spec = registry.get(name)
    if not spec.uses_generator or options["size"] <= SIZE:
        return False
    bundle = options["bundle"]
    reader = bundle.captioner if IDENTITY in spec.parts else bundle.reader
    return not spec.parts or (reader is not None and all(bundle.annotator(condition) for condition in spec.controls))


def anonymize_rows(
    photos: list[SourcePhoto] | None,
    images: np.ndarray,
    masks: np.ndarray,
    replicates: list[int],
    name: str,
    options: dict,
    parameters: dict,
) -> tuple[np.ndarray, list[str]]:
    """Anonymize the photos of N rows at their own size; cut out the aligned face by the original's alignment.

    `images` and `masks` are the data set's aligned faces. Return images (N, 128, 128, 3) uint8 and statuses.
    """
    results, status = np.zeros_like(images), [ERROR] * len(images)
    whole = (photo.pixels() for photo in photos) if photos else iter(images)
    for part in in_memory(enumerate(whole), lambda numbered: numbered[1].shape[0] * numbered[1].shape[1]):
        rows = [row for row, _ in part]
        detected, places = _of_rows([photo for _, photo in part], images[rows], masks[rows], bool(photos))
        versions = [replicates[row] for row in rows]
        scenes = anonymize_whole(detected, name, options, parameters, versions, options["batch"])
        for row, scene, faces, place in zip(rows, scenes, detected.faces, places, strict=True):
            if place is not None:
                status[row] = scene.faces[place] if scene.status == OK else scene.status
            if status[row] == OK:
                results[row] = align(scene.image, faces[place].points)
    return results, status


def anonymize_whole(
    detected: DetectedFaces,
    name: str,
    options: dict,
    parameters: dict,
    replicates: list[int] | None = None,
    batch: int = 1,
) -> list[Scene]:
    """Anonymize photos at their own size; for `parameters` see `seeds.image_seed`.

    `replicates` are the versions of the photos. A photo without a detected face is "no_face". A photo that is not "ok"
    is all black. Photos of `batch` single people are inpainted together.
    """
    if not registry.get(name).parts:
        return inpaint_people(detected, name, options, detected.seeds(name, parameters, replicates), batch)
    replicates = replicates or [0] * len(detected.photos)
    at, scenes = 0, []
    for photo, faces, number in zip(detected.photos, detected.faces, replicates, strict=True):
        masks = detected.masks[at : at + len(faces)]
        at += len(faces)
        shape = _inpainted_shape(*photo.shape[:2], options["size"])
        own = {"shape": shape, "batch": 1, "compiled": False}
        picture = resize(photo[None], shape)
        if ATTRIBUTES in registry.get(name).parts:
            predictor, smaller = attribute_predictor(options["bundle"]), _scaled(faces, photo.shape, shape)
            own["read_people"] = partial(read_people, detected=[smaller], predictor=predictor)
        anonymizer = registry.create(name, **options | own)
        seeds = [image_seed(photo, name, parameters, number)]
        people = resize(_people_mask(photo, faces, masks)[None], shape, cv2.INTER_NEAREST)
        generated, (status,) = anonymizer(picture, people, seeds)
        scenes.append(Scene(resize(generated, photo.shape[:2])[0], status, (status,) * len(faces)))
    return scenes


def _of_rows(
    photos: list[np.ndarray], images: np.ndarray, masks: np.ndarray, detect: bool
) -> tuple[DetectedFaces, list[int | None]]:
    """Find all people in photos, and the place of the data set's face among those of each; None if it is not there."""
    if not detect:
        alone = [[FRAME] for _ in photos]
        return DetectedFaces(photos, alone, images, masks), [0] * len(photos)
    detected, places, at = find_people(photos), [], 0
    for image, faces in zip(images, detected.faces, strict=True):
        frames = detected.images[at : at + len(faces)].astype(np.int16)
        at += len(faces)
        differences = np.abs(frames - image).mean((1, 2, 3))
        same = bool(len(faces)) and differences.min() <= SAME_CROP
        places.append(int(differences.argmin()) if same else None)
    return detected, places


def in_memory(items: Iterable[T], pixels_of: Callable[[T], int], most: int | None = None) -> Iterator[list[T]]:
    """Group photos so that a group has PIXELS pixels and `most` photos at most, or one photo."""
    group, pixels = [], 0
    for item in items:
        own = pixels_of(item)
        if group and (len(group) == most or pixels + own > PIXELS):
            yield group
            group, pixels = [], 0
        group.append(item)
        pixels += own
    if group:
        yield group


def _scaled(faces: list[Face], old: tuple[int, ...], new: tuple[int, ...]) -> list[Face]:
    """Return the faces of a photo of an old height and width in one of a new height and width."""
    scale = np.array(new[1::-1], np.float32) / np.array(old[1::-1], np.float32)
    return [Face(face.points * scale, face.box * np.tile(scale, 2), face.score) for face in faces]


def _inpainted_shape(height: int, width: int, size: int) -> tuple[int, int]:
    """Return height and width of CAMOUFLaGE's picture: the photo's ratio, and an area of about `size` px squared."""
    return rounded_shape(height, width, size / np.sqrt(height * width))


def _people_mask(photo: np.ndarray, faces: list[Face], masks: np.ndarray) -> np.ndarray:
    """Project the masks of aligned faces into their photo; return (H, W) uint8, 255 on the people."""
    people = np.zeros(photo.shape[:2], np.uint8)
    for face, mask in zip(faces, masks, strict=True):
        people[project_mask(mask, face, photo.shape[1::-1])] = 255
    return people
