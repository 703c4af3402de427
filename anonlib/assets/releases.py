"""Weights that their authors publish as files of a release: hashed at the first fetch and held to that ever after."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from anonlib.assets import require_licence
from anonlib.assets.download import download
from anonlib.config.errors import AnonlibError
from anonlib.config.files import read_json, sha256_of, update_json
from anonlib.config.paths import cache_root
from anonlib.engine import progress

_FACE_PERCEIVER = "https://github.com/FacePerceiver"
COMMAND = "`make fetch PROFILE=full METHOD=camouflage-light` downloads it"


@dataclass(frozen=True)
class Release:
    """Files of a release.

    Attributes:
        licence, use: What the user is told.
        term: What the user accepts once, see `assets.require_licence`.
        files: The address of each file, by name.
    """

    licence: str
    use: str
    term: str
    files: dict[str, str]


RELEASES = {
    "FacePerceiver/FaRL": Release(
        "MIT, its head trained on CelebA, which is for non-commercial research",
        "FaRL's image encoder and FACER's head of 40 attributes, 1 GB",
        "noncommercial",
        {
            name: f"{_FACE_PERCEIVER}/{place}/{name}"
            for name, place in {
                "FaRL-Base-Patch16-LAIONFace20M-ep64.pth": "FaRL/releases/download/pretrained_weights",
                "face_attribute.farl.celeba.pt": "facer/releases/download/models-v1",
            }.items()
        },
    )
}


def folder(name: str) -> Path:
    """Return the folder of a release's files.

    Args:
        name: A release of RELEASES.

    Raises:
        AnonlibError: A file is not there in the size of its first fetch.
    """
    if missing := _missing(name):
        raise AnonlibError(f"{name}: {missing[0]} is not here yet, or damaged: {COMMAND}")
    return _folder(name)


def pinned(name: str) -> str | None:
    """Return 16 digits of each hash of a release's first fetch, by file name, joined by "+"; None before it."""
    pins = read_json(_pins()).get(name, {})
    return "+".join(pins[file]["sha256"][:16] for file in sorted(pins)) or None


def fetch(names: Iterable[str]) -> None:
    """Download the missing files of releases; print first what they are and their licence.

    An address says nothing about content: the hash of the first fetch is kept, and another file is refused later.

    Args:
        names: Releases of RELEASES.

    Raises:
        AnonlibError: The licence was not accepted, the file differs from the first one, or there is no network.
    """
    for name in names:
        release = RELEASES[name]
        require_licence(release.term, f"{name} is under {release.licence}")
        if missing := _missing(name):
            progress.say(f"to fetch: {name}, {release.use}; licence: {release.licence}")
            if os.environ.get("HF_HUB_OFFLINE"):
                raise AnonlibError(f"HF_HUB_OFFLINE is set, so {name} cannot be fetched: unset it this once")
        for file in missing:
            _fetch_file(name, file)


def _fetch_file(name: str, file: str) -> None:
    pin = read_json(_pins()).get(name, {}).get(file, {})
    path = download(lambda: RELEASES[name].files[file], _folder(name) / file, pin.get("sha256"))
    pin = {"size": path.stat().st_size, "sha256": sha256_of(path)}
    update_json(_pins(), lambda pins: pins | {name: pins.get(name, {}) | {file: pin}})


def _missing(name: str) -> list[str]:
    """Return the files of a release that are not there as they were first fetched."""
    pins, home = read_json(_pins()).get(name, {}), _folder(name)
    return [
        file
        for file in RELEASES[name].files
        if file not in pins or not (home / file).exists() or (home / file).stat().st_size != pins[file]["size"]
    ]


def _folder(name: str) -> Path:
    return cache_root() / "releases" / name.replace("/", "--")


def _pins() -> Path:
    return cache_root() / "releases" / "pins.json"
