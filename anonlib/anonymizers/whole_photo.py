"""CAMOUFLaGE on whole photos, as its authors run it: everything in them is generated anew, with or without people.

This needs a generator of whole photos and annotators for them; the project's own networks handle aligned faces only.
"""

from functools import partial

import numpy as np

from anonlib.anonymizers import registry
from anonlib.anonymizers.contract import image_seed
from anonlib.anonymizers.multi_face import DetectedFaces, Scene, project_mask, read_people
from anonlib.assets.models import ATTRIBUTES, IDENTITY, ModelSpec
from anonlib.faces import Face
from anonlib.faces.attributes import attribute_predictor

MULTIPLE = 64  # px that divide both sides: 8 of an autoencoder times 8 of a UNet


def handles_whole_photos(name: str, bundle: ModelSpec) -> bool:
    """Return whether an anonymizer generates whole photos with these models, not the frames of faces."""
    spec = registry.get(name)
    if not spec.parts:
        return False
    reader = bundle.captioner if IDENTITY in spec.parts else bundle.reader
    return reader is not None and all(bundle.annotator(condition) for condition in spec.controls)


def anonymize_whole(detected: DetectedFaces, name: str, options: dict, parameters: dict) -> list[Scene]:
    """Anonymize photos of any size with CAMOUFLaGE, each by itself; for `parameters` see `contract.image_seed`.

    A photo without a detected face is "no_face". A photo that is not "ok" is all black, and its faces have its status.
    """
    at, scenes = 0, []
    for photo, faces in zip(detected.photos, detected.faces, strict=True):
        masks = detected.masks[at : at + len(faces)]
        at += len(faces)
        own = {"shape": _inpainted_shape(*photo.shape[:2], options["size"]), "batch": 1, "compiled": False}
        if ATTRIBUTES in registry.get(name).parts:
            predictor = attribute_predictor(options["bundle"])
            own["read_people"] = partial(read_people, detected=[faces], predictor=predictor)
        anonymizer = registry.create(name, **options | own)
        seeds = [image_seed(photo, name, parameters)]
        (image,), (status,) = anonymizer(photo[None], _people_mask(photo, faces, masks)[None], seeds)
        scenes.append(Scene(image, status, (status,) * len(faces)))
    return scenes


def _inpainted_shape(height: int, width: int, size: int) -> tuple[int, int]:
    """Return height and width of the inpainted photo: its aspect ratio, and an area of about `size` px squared."""
    grow = size / np.sqrt(height * width)
    return tuple(max(MULTIPLE, round(side * grow / MULTIPLE) * MULTIPLE) for side in (height, width))


def _people_mask(photo: np.ndarray, faces: list[Face], masks: np.ndarray) -> np.ndarray:
    """Project the masks of aligned faces into their photo; return (H, W) uint8, 255 on the people."""
    people = np.zeros(photo.shape[:2], np.uint8)
    for face, mask in zip(faces, masks, strict=True):
        people[project_mask(mask, face, photo.shape[1::-1])] = 255
    return people
