"""Weights that their authors publish as files of a release: fetched once, hashed then, and held to that ever after."""

import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.error import URLError

from anonlib.assets import require_licence
from anonlib.assets.hub import File
from anonlib.config.errors import AnonlibError, first_line
from anonlib.config.files import read_json, sha256_of, update_json
from anonlib.config.paths import cache_root
from anonlib.engine import progress

_FACE_PERCEIVER = "https://github.com/FacePerceiver"
AGAIN = "`make fetch PROFILE=full METHOD=camouflage-light` downloads it"


@dataclass(frozen=True)
class Release:
    """On which terms files are offered, what they are here for, and by name where each of them lies.

    term: what the user has to accept once, see `assets.require_licence`.
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
    """Return where the files of a release lie; AnonlibError unless all are there in the size of the first fetch."""
    if lacking := _lacking(name):
        raise AnonlibError(f"{name}: {lacking[0]} is not here yet, or damaged: {AGAIN}")
    return _home(name)


def pinned(name: str) -> str | None:
    """Return the hashes of a release's files in one word, those of the first fetch; None before it."""
    known = _known(name)
    return "+".join(known[file].sha256[:16] for file in sorted(known)) or None


def fetch(names: Iterable[str]) -> None:
    """Download the files of releases that are not here yet; what they are and their licence is said first.

    A release's address says nothing of its content: the hash of the first fetch is kept, and a file that differs from
    it later is refused. Raises AnonlibError for that, a licence that was not accepted, or no network.
    """
    for name in names:
        one = RELEASES[name]
        require_licence(one.term, f"{name} is under {one.licence}")
        if lacking := _lacking(name):
            progress.say(f"to fetch: {name}, {one.use}; licence: {one.licence}")
        for file in lacking:
            _download(name, one.files[file], _home(name) / file)


def _download(name: str, url: str, target: Path) -> None:
    from torch.hub import download_url_to_file

    if os.environ.get("HF_HUB_OFFLINE"):
        raise AnonlibError(f"HF_HUB_OFFLINE is set, so {name} cannot be fetched: unset it this once")
    part, known = target.with_suffix(f".part{os.getpid()}"), _known(name)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        download_url_to_file(url, str(part), progress=False)
        found = File(part.stat().st_size, sha256_of(part))
        if found != known.get(target.name, found):
            raise AnonlibError(f"{url} is not the file that was fetched first: ask its authors, or clear {_pins()}")
        update_json(_pins(), lambda pins: pins | {name: pins.get(name, {}) | {target.name: asdict(found)}})
        part.replace(target)
    except (URLError, OSError) as error:
        raise AnonlibError(f"{url} could not be fetched ({first_line(error)}): run the same command again") from error
    finally:
        part.unlink(missing_ok=True)


def _lacking(name: str) -> list[str]:
    """Return the files of a release that are not there as they were first fetched."""
    home, known = _home(name), _known(name)

    def whole(file: str) -> bool:
        return file in known and (home / file).exists() and (home / file).stat().st_size == known[file].size

    return [file for file in RELEASES[name].files if not whole(file)]


def _known(name: str) -> dict[str, File]:
    return {file: File(**told) for file, told in read_json(_pins()).get(name, {}).items()}


def _home(name: str) -> Path:
    return cache_root() / "releases" / name.replace("/", "--")


def _pins() -> Path:
    return cache_root() / "releases" / "pins.json"
