"""The embedded synthetic faces: one tar of WebP images with packed masks and a manifest, checked on every load."""

import hashlib
import io
import json
import lzma
import os
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from anonlib.config.errors import AnonlibError
from anonlib.data.faceset import FaceSet, Part, Source
from anonlib.data.splits import subset

EMBEDDED = Path(__file__).parent / "embedded" / "faces.tar"
MANIFEST, MASKS = "manifest.csv", "masks.bin.xz"
TEXT = ("file", "identity", "split", "edit", "sha256", "licence")
COLUMNS = (
    "file", "identity", "split", "replicate", "seed", "latent_seed", "edit", "sha256",
    *(f"{axis}{k}" for k in range(5) for axis in "xy"), "licence",
)  # fmt: skip


def _load(part: Part) -> FaceSet:
    """Load the embedded faces, all generated, and check the SHA-256 of every image."""
    encoded, masks, table = _read_pack(EMBEDDED)
    for data, file, expected in zip(encoded, table["file"], table["sha256"], strict=True):
        actual = hashlib.sha256(data).hexdigest()
        if actual != expected:
            raise AnonlibError(
                f"{EMBEDDED.name}: {file} has SHA-256 {actual[:16]}..., the manifest says {expected[:16]}...: "
                "restore the file (git checkout) or rebuild it (make data)"
            )
    rows = subset(table, *part)
    pixels = np.empty((len(rows), 128, 128, 3), np.uint8)
    for target, row in zip(pixels, rows, strict=True):
        target[:] = cv2.imdecode(np.frombuffer(encoded[row], np.uint8), cv2.IMREAD_COLOR_RGB)
    return FaceSet(
        "synthetic", pixels, np.where(masks[rows], 255, 0).astype(np.uint8), table.iloc[rows], shareable=True
    )


def _files() -> list[Path]:
    return [EMBEDDED]


def _outline(part: Part) -> pd.DataFrame:
    table = _read_pack(EMBEDDED)[2][["file", "identity", "split"]]
    return table.iloc[subset(table, *part)]


def write_pack(path: Path, encoded: list[bytes], masks: np.ndarray, table: pd.DataFrame) -> None:
    """Write the pack under a temporary name and rename it; the same content gives the same bytes.

    `encoded` are N WebP files, 128x128 RGB; masks (N, 128, 128) are nonzero on the person. The table has N rows with
    COLUMNS except file and sha256, which are set here, and any further columns; edit may be a dict or its JSON text.
    """
    if not len(encoded) == len(masks) == len(table):
        raise ValueError(f"{len(encoded)} images, {len(masks)} masks and {len(table)} rows: all must be as many")
    table = table.assign(
        file=[f"{row:05d}.webp" for row in range(len(table))],
        sha256=[hashlib.sha256(data).hexdigest() for data in encoded],
        edit=[edit if isinstance(edit, str) else json.dumps(edit, sort_keys=True) for edit in table["edit"]],
    )
    further = [column for column in table if column not in COLUMNS]
    manifest = table[[*COLUMNS, *further]].to_csv(index=False, lineterminator="\n", float_format="%.6g")
    bits = lzma.compress(np.packbits(np.asarray(masks) != 0).tobytes(), preset=6)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".part{os.getpid()}")
    try:
        with tarfile.open(part, "w", format=tarfile.USTAR_FORMAT) as tar:
            for name, data in [
                (MANIFEST, manifest.encode()), (MASKS, bits), *zip(table["file"], encoded, strict=True),
            ]:  # fmt: skip
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _read_pack(path: Path) -> tuple[list[bytes], np.ndarray, pd.DataFrame]:
    """Read a pack: N WebP files, masks (N, 128, 128) bool, and the manifest. Raises AnonlibError if it is damaged."""
    if not path.is_file():
        raise AnonlibError(f"the embedded faces are missing ({path}): restore the file (git checkout) or run make data")
    try:
        content: dict[str, bytes] = {}
        with tarfile.open(path) as tar:
            for member in tar:
                if member.isfile():
                    content[member.name] = tar.extractfile(member).read()
        manifest = io.BytesIO(content[MANIFEST])
        table = pd.read_csv(manifest, dtype=dict.fromkeys(TEXT, str), keep_default_na=False)
        bits = np.frombuffer(lzma.decompress(content[MASKS]), np.uint8)
        masks = np.unpackbits(bits).reshape(len(table), 128, 128).astype(bool)
        return [content[file] for file in table["file"]], masks, table
    except (tarfile.TarError, lzma.LZMAError, KeyError, ValueError, EOFError) as error:
        raise AnonlibError(
            f"{path.name} is damaged ({type(error).__name__}): restore the file (git checkout) or run make data"
        ) from error


SOURCE = Source(_load, _files, _outline, detected=False)
