"""Whole photos, any size, any number of people: each face found, aligned, anonymized and put back, the far ones first.

What lies outside the aligned frame of a face (body, clothes, place) stays as it is.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from anonlib.anonymizers.contract import ERROR, NO_FACE, OK, Anonymizer, image_seed
from anonlib.faces import Face, align, alignment_matrix, detect, dilate_masks, person_mask
from anonlib.faces.attributes import AttributePredictor
from anonlib.faces.people import Person, read_person

LONGEST = (512, 1536)  # px of the long side at which a photo is searched: large faces are found at one, small at both
NOBODY = np.zeros((0, 128, 128, 3), np.uint8)
SOFT = 5.0  # px of the 128 px frame: sigma of the blend around a person, as in Instance Augmentation


@dataclass(frozen=True, eq=False)
class Scene:
    """One photo: image (H, W, 3) uint8, all zero unless status is "ok"; faces: the status of each, the far ones first.

    A face that is not "ok" is black in the image, its whole frame.
    """

    image: np.ndarray
    status: str
    faces: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Found:
    """The people in some photos: the faces of each, and of all of them aligned images and masks, in that order."""

    photos: list[np.ndarray]
    faces: list[list[Face]]
    images: np.ndarray  # (N, 128, 128, 3) uint8
    masks: np.ndarray  # (N, 128, 128) uint8

    def seeds(self, name: str, parameters: dict) -> list[int]:
        """Return a seed a face; name, parameters: what they follow from, see `contract.image_seed`."""
        return [image_seed(image, name, parameters) for image in self.images]


def anonymize_scenes(photos: list[np.ndarray], method: Anonymizer, name: str, parameters: dict) -> list[Scene]:
    """Return what an anonymizer makes of photos (H, W, 3) uint8 RGB of any size, the faces of all in its batches.

    name, parameters: of the seeds. A photo in which nobody is found is "no_face"; one that shows a face afterwards
    where nothing was painted is an "error": no original passes.
    """
    found = find(photos)
    return composed(found, *method(found.images, found.masks, found.seeds(name, parameters)))


def find(photos: list[np.ndarray]) -> Found:
    """Return the people in photos (H, W, 3) uint8 RGB of any size."""
    faces = [faces_of(photo) for photo in photos]
    frames = [align(photo, face.points) for photo, some in zip(photos, faces, strict=True) for face in some]
    images = np.stack(frames) if frames else np.zeros((0, 128, 128, 3), np.uint8)
    return Found(photos, faces, images, person_mask(images) if frames else images[..., 0])


def composed(found: Found, made: np.ndarray, status: list[str], whole: bool = False) -> list[Scene]:
    """Return the photos with what was made of their faces, images (N, 128, 128, 3) uint8, in their places.

    whole: all of a face's frame takes the place of what was there, else the person in it.
    """
    areas, at, scenes = dilate_masks(found.masks) if len(made) else found.masks, 0, []
    areas = np.full_like(areas, 255) if whole else areas
    areas = np.where((np.array(status) == OK)[:, None, None], areas, 255).astype(np.uint8)
    for photo, faces in zip(found.photos, found.faces, strict=True):
        own = slice(at, at + len(faces))
        scenes.append(_composed(photo, faces, made[own], areas[own], tuple(status[own])))
        at = own.stop
    return scenes


def faces_of(photo: np.ndarray) -> list[Face]:
    """Return the faces of a photo (H, W, 3) uint8 RGB, the smallest, that is the farthest, first."""
    found: list[Face] = []
    for longest in LONGEST if max(photo.shape) > LONGEST[0] else LONGEST[:1]:
        found += [face for face in detect(photo, longest) if not any(_holds(old, _centre(face)) for old in found)]
    return sorted(found, key=lambda face: float(face.box[2] * face.box[3]))


def people_of(
    images: np.ndarray, faces_found: list[list[Face]], reads: AttributePredictor
) -> tuple[list[list[Person]], np.ndarray]:
    """Return who is in each picture (N, H, W, 3) uint8, and the embedding of the nearest of them, 0 where nobody is.

    faces_found: those of each picture, see `faces_of`. reads: who reads the attributes off aligned faces.
    """
    people, embeds = [], []
    for image, faces in zip(images, faces_found, strict=True):
        found = []
        crops = [align(image, face.points) for face in faces]
        attributes, seen = reads.predict(np.stack(crops) if crops else NOBODY)
        for face, crop, told in zip(faces, crops, attributes, strict=True):
            if one := read_person(crop, told):
                back = cv2.invertAffineTransform(alignment_matrix(face.points))
                found.append(Person(told, one.points @ back[:, :2].T + back[:, 2]))
        people.append(found)
        embeds.append(seen[-1] if len(seen) else np.zeros(seen.shape[1], np.float32))  # the nearest comes last
    return people, np.stack(embeds)


def laid_back(mask: np.ndarray, face: Face, size: tuple[int, int]) -> np.ndarray:
    """Return where in a photo, of (width, height), the mask (128, 128) uint8 of a face's frame lies: (H, W) bool."""
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(mask, alignment_matrix(face.points), size, flags=flags) > 0


def _composed(
    photo: np.ndarray, faces: list[Face], made: np.ndarray, areas: np.ndarray, status: tuple[str, ...]
) -> Scene:
    """Return a photo with what was made of its faces in their places."""
    if not faces:
        return _blank(photo, NO_FACE)
    canvas, painted = photo.astype(np.float32), np.zeros(photo.shape[:2], bool)
    size = photo.shape[1::-1]
    for face, picture, area in zip(faces, made, areas, strict=True):
        matrix = alignment_matrix(face.points)
        scale = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
        back = {"flags": cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP}
        there = cv2.warpAffine(picture, matrix, size, borderMode=cv2.BORDER_REPLICATE, **back)
        inside = laid_back(area, face, size)
        soft = cv2.GaussianBlur(inside.astype(np.float32), (0, 0), SOFT / scale)
        weight = np.where(inside, 1.0, soft)[..., None]  # none of the person's own pixels are mixed in
        canvas = weight * there + (1 - weight) * canvas
        painted |= inside
    image = np.rint(canvas).astype(np.uint8)
    seen = np.array([_centre(face) for face in faces_of(image)], int).reshape(-1, 2)
    x, y = np.clip(seen, 0, np.array(size) - 1).T  # of a face that is cut off the centre may lie outside
    if not painted[y, x].all():
        return Scene(np.zeros_like(photo), ERROR, status)
    return Scene(image, OK, status)


def _blank(photo: np.ndarray, status: str) -> Scene:
    return Scene(np.zeros_like(photo), status, ())


def _centre(face: Face) -> tuple[int, int]:
    return int(face.points[:, 0].mean()), int(face.points[:, 1].mean())


def _holds(face: Face, point: tuple[int, int]) -> bool:
    x, y, width, height = face.box
    return bool(x <= point[0] <= x + width and y <= point[1] <= y + height)
