"""CAMOUFLaGE on whole photos, as its authors run it: everything in them is painted anew, people or not.

That takes a generator of whole photos, and networks that make the maps and captions of them; the project's own know
aligned faces only.
"""

from functools import partial

import numpy as np

from anonlib.anonymizers import registry
from anonlib.anonymizers.contract import image_seed
from anonlib.anonymizers.multi_face import Found, Scene, laid_back, people_of
from anonlib.assets.models import ATTRIBUTES, IDENTITY, ModelSpec
from anonlib.faces import Face
from anonlib.faces.attributes import attribute_predictor

MULTIPLE = 64  # px of which both sides of what is painted are a multiple: an autoencoder's 8 times a UNet's 8


def paints_whole(name: str, bundle: ModelSpec) -> bool:
    """Return whether an anonymizer paints whole photos with these models, not the frames of the faces in them."""
    spec = registry.get(name)
    if not spec.parts:
        return False
    says = bundle.captioner if IDENTITY in spec.parts else bundle.reader
    return says is not None and all(bundle.annotator(condition) for condition in spec.controls)


def painted_shape(height: int, width: int, size: int) -> tuple[int, int]:
    """Return height and width at which a photo is painted: its shape, and about the area of `size` px squared."""
    grow = size / np.sqrt(height * width)
    return tuple(max(MULTIPLE, round(side * grow / MULTIPLE) * MULTIPLE) for side in (height, width))


def anonymize_whole(found: Found, name: str, options: dict, parameters: dict) -> list[Scene]:
    """Return what CAMOUFLaGE makes of photos (H, W, 3) uint8 of any size, each of them by itself.

    options: of the anonymizer; parameters: what the seeds follow from. A photo in which nobody is found is "no_face".
    One that is not "ok" is all black, and all of its faces have its status.
    """
    at, scenes = 0, []
    for photo, faces in zip(found.photos, found.faces, strict=True):
        masks = found.masks[at : at + len(faces)]
        at += len(faces)
        shape = painted_shape(*photo.shape[:2], options["size"])
        told = {"shape": shape, "batch": 1, "compiled": False}
        if ATTRIBUTES in registry.get(name).parts:
            told["seen"] = partial(people_of, faces_found=[faces], reads=attribute_predictor(options["bundle"]))
        method = registry.create(name, **options | told)
        seeds = [image_seed(photo, name, parameters)]
        (made,), (status,) = method(photo[None], _people(photo, faces, masks)[None], seeds)
        scenes.append(Scene(made, status, (status,) * len(faces)))
    return scenes


def _people(photo: np.ndarray, faces: list[Face], masks: np.ndarray) -> np.ndarray:
    """Return where the people of a photo are, (H, W) uint8, 255 or 0: the masks of their aligned frames, put back."""
    found = np.zeros(photo.shape[:2], np.uint8)
    for face, mask in zip(faces, masks, strict=True):
        found[laid_back(mask, face, photo.shape[1::-1])] = 255
    return found
