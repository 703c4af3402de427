"""Control maps made weaker before they reach the generator: blurred, coarser, or blank in one region of the face."""

import cv2
import numpy as np

from anonlib.errors import AnonlibError
from anonlib.faces import parse

FACE = (1, 2, 3, 4, 5, 6, 10, 11, 12, 13)  # CelebAMask's classes: skin, brows, eyes, glasses, nose, mouth, lips
PARTS = {"eyes": (2, 3, 4, 5, 6), "nose": (10,), "mouth": (11, 12, 13), "hair": (17, 18)}
REGIONS = (*PARTS, "outline")
GROW = 4  # px around a part, whose edges lie on its border; half the width of the outline


def weakened(
    maps: np.ndarray, images: np.ndarray, blur: float = 0.0, pixels: int | None = None, hidden: str | None = None
) -> np.ndarray:
    """Return control maps (N, H, W, 3) uint8 with less in them.

    images: what the maps were made of, (N, H, W, 3) uint8. blur: sigma of a Gaussian in px. pixels: the side that a map
    is reduced to before it is enlarged again. hidden: one of REGIONS, painted black in the map. Raises AnonlibError.
    """
    if pixels is not None and not 1 <= pixels <= maps.shape[1]:
        raise AnonlibError(f"a control map of {maps.shape[1]} px has 1 to {maps.shape[1]} pixels a side, not {pixels}")
    found = maps.copy()
    if hidden is not None:
        found[region(images, hidden)] = 0
    for row, one in enumerate(found):
        if pixels is not None:
            small = cv2.resize(one, (pixels, pixels), interpolation=cv2.INTER_AREA)
            one = cv2.resize(small, maps.shape[2:0:-1], interpolation=cv2.INTER_LINEAR)
        found[row] = cv2.GaussianBlur(one, (0, 0), blur) if blur else one
    return found


def region(images: np.ndarray, name: str) -> np.ndarray:
    """Return where a region of the face lies in aligned images (N, 128, 128, 3) uint8: (N, 128, 128) bool.

    The outline is a band around the border of the face; raises AnonlibError for an unknown region.
    """
    if name not in REGIONS:
        raise AnonlibError(f"unknown region {name!r}: choose one of {', '.join(REGIONS)}")
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * GROW + 1, 2 * GROW + 1))
    inside = np.isin(parse(images), PARTS.get(name, FACE)).astype(np.uint8)
    grown = np.stack([cv2.dilate(one, kernel) for one in inside])
    if name == "outline":
        grown -= np.stack([cv2.erode(one, kernel) for one in inside])
    return grown > 0
