"""The photos that the faces of a data set were cut from, at their own size: none is read before it is needed."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from anonlib.config.errors import AnonlibError
from anonlib.data.faceset import FaceSet
from anonlib.data.photos import read_rgb
from anonlib.engine.store import UNCACHED


@dataclass(frozen=True, eq=False)
class SourcePhoto:
    """The photo of a row of a data set; a cache key knows it by its content, not by its place.

    Attributes:
        sha256: Hash of its file.
        file, read: The file in the data set's table, and what reads its bytes.
    """

    sha256: str
    file: str = field(default="", metadata=UNCACHED)
    read: Callable[[str], bytes] | None = field(default=None, metadata=UNCACHED)

    def pixels(self) -> np.ndarray:
        """Read the photo.

        Returns:
            (H, W, 3) uint8 RGB.

        Raises:
            AnonlibError: The file is not what it was when the data set was loaded.
        """
        try:
            content = self.read(self.file)
        except OSError as error:
            reason = f"{self.file} cannot be read any more ({error}): keep the data set in its place"
            raise AnonlibError(reason) from error
        if hashlib.sha256(content).hexdigest() != self.sha256:
            raise AnonlibError(f"{self.file} has changed since the data set was loaded: start the run again")
        return read_rgb(content)


def source_photos(faces: FaceSet, rows: np.ndarray) -> list[SourcePhoto] | None:
    """List the photos of rows without reading them.

    Args:
        faces, rows: Data set, and rows of it.

    Returns:
        One photo per row; None for a data set that has aligned faces only.
    """
    if faces.read is None:
        return None
    table = faces.table.iloc[rows]
    return [SourcePhoto(*photo, faces.read) for photo in zip(table["sha256"], table["file"], strict=True)]
