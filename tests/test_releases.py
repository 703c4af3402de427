"""Files of a release: terms first, hashed once, refused when they change, mended when they are cut."""

import http.server
import threading
from functools import partial

import pytest

from anonlib import config
from anonlib.assets import models, releases
from anonlib.assets.models import ATTRIBUTES, ModelRef, ModelSpec
from anonlib.config.errors import AnonlibError

NAME = "toy/release"


@pytest.fixture
def distant(tmp_path, monkeypatch):
    """Serve two files from a folder of this machine; yield the folder."""
    place = tmp_path / "distant"
    place.mkdir()
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(place))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    files = {name: f"http://127.0.0.1:{server.server_port}/{name}" for name in ("image.pth", "head.pt")}
    for name in files:
        (place / name).write_bytes(name.encode() * 100)
    monkeypatch.setenv("ANONLIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ANONLIB_ACCEPT", "")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setitem(releases.RELEASES, NAME, releases.Release("a licence", "a toy", "noncommercial", files))
    yield place
    server.shutdown()


@pytest.fixture
def accepted(distant, monkeypatch):
    monkeypatch.setenv("ANONLIB_ACCEPT", "noncommercial")
    return distant


def test_terms_come_before_the_download(distant):
    with pytest.raises(AnonlibError, match="ANONLIB_ACCEPT=noncommercial"):
        releases.fetch([NAME])
    with pytest.raises(AnonlibError, match=r"image.pth is not here yet.*make fetch"):
        releases.folder(NAME)
    assert releases.pinned(NAME) is None


def test_a_bundle_reads_from_where_a_release_was_fetched_to(accepted):
    source = ModelRef.of(NAME)
    bundle = ModelSpec(ModelRef("here"), reader=source)
    assert source.released and source in bundle.sources((ATTRIBUTES,))
    releases.fetch([NAME])
    for file in accepted.iterdir():
        assert (source.folder / file.name).read_bytes() == file.read_bytes()
    assert source.label == f"{NAME}@{releases.pinned(NAME)}"
    assert not [one.name for one in source.folder.iterdir() if "part" in one.name]


def test_a_cut_file_is_noticed_and_fetched_again(accepted):
    releases.fetch([NAME])
    cut, pin = releases.folder(NAME) / "head.pt", releases.pinned(NAME)
    whole = cut.read_bytes()
    cut.write_bytes(whole[:10])
    with pytest.raises(AnonlibError, match="head.pt is not here yet, or damaged"):
        releases.folder(NAME)
    (accepted / "image.pth").unlink()  # what is whole is not asked for again
    releases.fetch([NAME])
    assert cut.read_bytes() == whole and releases.pinned(NAME) == pin


def test_a_file_that_was_changed_by_its_authors_is_refused(accepted):
    releases.fetch([NAME])
    gone, pin = releases.folder(NAME) / "head.pt", releases.pinned(NAME)
    gone.unlink()
    (accepted / "head.pt").write_bytes(b"another" * 100)
    with pytest.raises(AnonlibError, match="does not match the known hash"):
        releases.fetch([NAME])
    assert not gone.exists() and releases.pinned(NAME) == pin
    assert sorted(one.name for one in gone.parent.iterdir()) == ["image.pth"]


def test_no_network_and_a_wrong_address_are_one_line(accepted, monkeypatch):
    (accepted / "image.pth").unlink()
    with pytest.raises(AnonlibError, match="image.pth could not be fetched.*run again"):
        releases.fetch([NAME])
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(AnonlibError, match="HF_HUB_OFFLINE"):
        releases.fetch([NAME])


def test_what_is_needed_to_train_camouflage_can_be_fetched_before_there_is_a_camouflage():
    full = models.model_spec(config.load("full").generator)
    light = {one.name for one in full.sources((ATTRIBUTES,))}
    always = {full.pipeline.name, full.lora.name, full.checker.name}
    assert full.camouflage is None and light == always | {"FacePerceiver/FaRL"}
    base = {one.name for one in full.sources(("depth", models.IDENTITY))}
    assert "Salesforce/blip-image-captioning-base" in base and "FacePerceiver/FaRL" not in base
