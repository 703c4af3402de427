"""Whole photos of any size with any number of people: each face is detected, aligned, anonymized and put back.

Everything outside the aligned frame of a face (body, clothes, background) stays unchanged.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from anonlib.anonymizers.contract import ERROR, NO_FACE, OK
from anonlib.anonymizers.seeds import image_seed
from anonlib.faces import Face, align, alignment_matrix, detect, dilate_masks, person_mask, scale_of
from anonlib.faces.attributes import AttributePredictor
from anonlib.faces.people import Person, read_person

LONGEST = (512, 1536)  # px of the long side at which large and small faces are detected
NOBODY = np.zeros((0, 128, 128, 3), np.uint8)
SOFT = 5.0  # px of the 128 px frame: sigma of the blend around a person, as in Instance Augmentation


@dataclass(frozen=True, eq=False)
class Scene:
    """An anonymized photo (H, W, 3) uint8, all zero unless its status is "ok".

    `faces` are the status of each face, the farthest first. A face that is not "ok" is black, its whole frame.
    """

    image: np.ndarray
    status: str
    faces: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class DetectedFaces:
    """The faces of photos, (H, W, 3) uint8 RGB each.

    `images` (N, 128, 128, 3) uint8 are all faces, aligned, in the order of `faces`; `masks` (N, 128, 128) uint8 are the
    people in them.
    """

    photos: list[np.ndarray]
    faces: list[list[Face]]
    images: np.ndarray
    masks: np.ndarray

    def seeds(self, name: str, parameters: dict, replicates: list[int] | None = None) -> list[int]:
        """Derive a seed for each face.

        Args:
            name: Anonymizer.
            parameters: See `seeds.image_seed`.
            replicates: Number of the anonymized version of each photo; None: 0.

        Returns:
            N seeds.
        """
        replicates = replicates or [0] * len(self.photos)
        by_face = [number for number, faces in zip(replicates, self.faces, strict=True) for _ in faces]
        return [image_seed(image, name, parameters, number) for image, number in zip(self.images, by_face, strict=True)]


def find_people(photos: list[np.ndarray]) -> DetectedFaces:
    """Detect, align and mask the people in photos, (H, W, 3) uint8 RGB each, of any size."""
    faces = [detect_faces(photo) for photo in photos]
    frames = [align(photo, face.points) for photo, some in zip(photos, faces, strict=True) for face in some]
    images = np.stack(frames) if frames else NOBODY
    return DetectedFaces(photos, faces, images, person_mask(images) if frames else images[..., 0])


def compose(detected: DetectedFaces, images: np.ndarray, status: list[str], whole: bool = False) -> list[Scene]:
    """Put anonymized faces (N, 128, 128, 3) uint8 back into their photos: if `whole` the frame, else the person in it.

    A photo without a face is "no_face". A photo that still shows a face in an unchanged place is an "error".
    """
    areas, at, scenes = dilate_masks(detected.masks) if len(images) else detected.masks, 0, []
    areas = np.full_like(areas, 255) if whole else areas
    areas = np.where((np.array(status) == OK)[:, None, None], areas, 255).astype(np.uint8)
    for photo, faces in zip(detected.photos, detected.faces, strict=True):
        own = slice(at, at + len(faces))
        scenes.append(_compose_photo(photo, faces, images[own], areas[own], tuple(status[own])))
        at = own.stop
    return scenes


def detect_faces(photo: np.ndarray) -> list[Face]:
    """Detect the faces of a photo (H, W, 3) uint8 RGB at several sizes; return the smallest (farthest) first."""
    faces: list[Face] = []
    for longest in LONGEST if max(photo.shape) > LONGEST[0] else LONGEST[:1]:
        faces += [face for face in detect(photo, longest) if not any(_contains(old, _centre(face)) for old in faces)]
    return sorted(faces, key=lambda face: float(face.box[2] * face.box[3]))


def read_people(
    images: np.ndarray, detected: list[list[Face]], predictor: AttributePredictor
) -> tuple[list[list[Person]], np.ndarray]:
    """Read the attributes and points of all people that `detect_faces` detected in pictures (N, H, W, 3) uint8.

    Return the people of each picture, and the embedding (N, D) of its nearest person, 0 if there is none.
    """
    people, embeds = [], []
    for image, faces in zip(images, detected, strict=True):
        in_picture = []
        crops = [align(image, face.points) for face in faces]
        attributes, embeddings = predictor.predict_faces(image, [face.points for face in faces])
        for face, crop, values in zip(faces, crops, attributes, strict=True):
            if person := read_person(crop, values):
                back = cv2.invertAffineTransform(alignment_matrix(face.points))
                in_picture.append(Person(values, person.points @ back[:, :2].T + back[:, 2]))
        people.append(in_picture)
        # the nearest person is the last
        embeds.append(embeddings[-1] if len(embeddings) else np.zeros(embeddings.shape[1], np.float32))
    return people, np.stack(embeds)


def project_mask(mask: np.ndarray, face: Face, size: tuple[int, int]) -> np.ndarray:
    """Project the mask (128, 128) uint8 of a face's frame into a photo of `size`, width and height: (H, W) bool."""
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(mask, alignment_matrix(face.points), size, flags=flags) > 0


def _compose_photo(
    photo: np.ndarray, faces: list[Face], images: np.ndarray, areas: np.ndarray, status: tuple[str, ...]
) -> Scene:
    """Put the anonymized faces of one photo back."""
    if not faces:
        return Scene(np.zeros_like(photo), NO_FACE, ())
    canvas, replaced = photo.astype(np.float32), np.zeros(photo.shape[:2], bool)
    size = photo.shape[1::-1]
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    for face, picture, area in zip(faces, images, areas, strict=True):
        matrix = alignment_matrix(face.points)
        scale = scale_of(matrix)
        projected = cv2.warpAffine(picture, matrix, size, borderMode=cv2.BORDER_REPLICATE, flags=flags)
        inside = project_mask(area, face, size)
        soft = cv2.GaussianBlur(inside.astype(np.float32), (0, 0), SOFT / scale)
        weight = np.where(inside, 1.0, soft)[..., None]  # none of the person's own pixels are mixed in
        canvas = weight * projected + (1 - weight) * canvas
        replaced |= inside
    return checked_scene(np.rint(canvas).astype(np.uint8), replaced, status)


def checked_scene(image: np.ndarray, replaced: np.ndarray, status: tuple[str, ...]) -> Scene:
    """Return an anonymized photo with the status of its faces.

    It is "no_face" if there is none, and an "error" if it shows a face outside of the replaced region (H, W) bool.
    """
    if not status:
        return Scene(np.zeros_like(image), NO_FACE, ())
    centres = np.array([_centre(face) for face in detect_faces(image)], int).reshape(-1, 2)
    x, y = np.clip(centres, 0, np.array(image.shape[1::-1]) - 1).T  # the centre of a cut-off face may lie outside
    if not replaced[y, x].all():
        return Scene(np.zeros_like(image), ERROR, status)
    return Scene(image, OK, status)


def _centre(face: Face) -> tuple[int, int]:
    return int(face.points[:, 0].mean()), int(face.points[:, 1].mean())


def _contains(face: Face, point: tuple[int, int]) -> bool:
    x, y, width, height = face.box
    return bool(x <= point[0] <= x + width and y <= point[1] <= y + height)
