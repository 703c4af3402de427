"""A folder in, a folder out: every photo accounted for, nothing half written, no metadata, no original."""

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from anonlib import anonymizers, config
from anonlib.anonymizers import photo_folder as album
from anonlib.anonymizers import registry
from anonlib.anonymizers.multi_face import compose, find_people
from anonlib.anonymizers.seeds import seed_parameters
from anonlib.config.errors import AnonlibError
from anonlib.paper import cli

SETTINGS = config.load("smoke")


@pytest.fixture
def folder(tmp_path, photos, crowd):
    """Photos as people have them: in folders, of several kinds, one turned by its camera, one broken, one of nobody."""
    source = tmp_path / "in"
    (source / "trip").mkdir(parents=True)
    told = Image.Exif()
    told[0x0112], told[0x010F] = 6, "a camera"  # to be turned by 90 degrees; who made it
    one = cv2.resize(photos[0], (256, 256), interpolation=cv2.INTER_CUBIC)
    Image.fromarray(np.rot90(one).copy()).save(source / "trip" / "turned.jpg", exif=told)
    Image.fromarray(crowd).save(source / "crowd.png")
    Image.fromarray(np.full((70, 90, 3), 110, np.uint8)).save(source / "nobody.bmp")
    (source / "broken.jpg").write_bytes(b"no photo")
    (source / ".hidden.png").write_bytes(b"no photo")
    return source


def test_every_photo_is_accounted_for_and_keeps_its_place_and_size(folder, tmp_path):
    table = album.anonymize_folder(folder, tmp_path / "out", "pixelate", SETTINGS).set_index("file")
    assert table.status.to_dict() == {
        "broken.jpg": "error", "crowd.png": "ok", "nobody.bmp": "no_face", "trip/turned.jpg": "ok",
    }  # fmt: skip
    assert table.faces.to_dict() == {"broken.jpg": 0, "crowd.png": 3, "nobody.bmp": 0, "trip/turned.jpg": 1}
    assert album.summary(table) == "4 photos in: 2 ok, 1 no_face, 0 filtered, 1 error; 4 faces, 0 of them black"
    written = sorted(str(file.relative_to(tmp_path / "out")) for file in (tmp_path / "out").rglob("*.*"))
    assert written == ["anonymized.csv", "crowd.png", "nobody.bmp.png", "trip/turned.jpg"]
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "out" / album.LIST, index_col="file"), table)
    with Image.open(tmp_path / "out" / "trip" / "turned.jpg") as made:
        assert made.size == (256, 256) and not made.getexif()
    assert not np.asarray(Image.open(tmp_path / "out" / "nobody.bmp.png")).any()


def test_a_run_that_breaks_off_leaves_nothing_behind(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(album, "BATCH", 1)
    real, calls = album.registry.create, []

    def stops(*told):
        calls.append(1)
        if len(calls) > 2:
            raise KeyboardInterrupt
        return real(*told)

    monkeypatch.setattr(album.registry, "create", stops)
    with pytest.raises(KeyboardInterrupt):
        album.anonymize_folder(folder, tmp_path / "out", "blur", SETTINGS)
    assert sorted(tmp_path.iterdir()) == [folder]


def test_wrong_folders_and_names_are_one_line(folder, tmp_path):
    for source, target, told in (
        (tmp_path / "none", tmp_path / "out", "is no folder"),
        (folder, folder / "out", "beside it"),
        (folder, folder, "beside it"),
        (tmp_path / "in" / "trip", tmp_path / "in", "exists"),
    ):
        with pytest.raises(AnonlibError, match=told):
            album.anonymize_folder(source, target, "blur", SETTINGS)
    with pytest.raises(AnonlibError, match="did you mean 'pixelate'"):
        cli.main(["anonymize", str(folder), str(tmp_path / "out"), "--method", "pixelat"])
    for name in ("noop", "ksame-5"):  # nobody knows whether each person of a folder is in it once
        with pytest.raises(AnonlibError, match=f"unknown anonymizer '{name}'"):
            cli.main(["anonymize", str(folder), str(tmp_path / "out"), "--method", name])


def test_an_album_is_what_its_photos_are_by_themselves(crowd, photos, tmp_path, tiny_bundle):
    settings = config.load("smoke", {"generator.bundle": tiny_bundle, "generator.steps": 2})
    large = cv2.resize(photos[1], (300, 300), interpolation=cv2.INTER_CUBIC)
    (tmp_path / "in").mkdir()
    for name, photo in (("a", crowd), ("b", large), ("c", np.rot90(large, 2))):
        Image.fromarray(photo).save(tmp_path / "in" / f"{name}.png")
    table = album.anonymize_folder(tmp_path / "in", tmp_path / "out", "ia-hed", settings)
    assert table.file.tolist() == ["a.png", "b.png", "c.png"] and table.status[:2].tolist() == ["ok", "ok"]
    chosen = registry.get("ia-hed").options(settings)
    method = anonymizers.create("ia-hed", **chosen)
    for name, photo in (("a", crowd), ("b", large)):
        people = find_people([photo])
        seeds = people.seeds("ia-hed", seed_parameters(chosen))
        (alone,) = compose(people, *method(people.images, people.masks, seeds))
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out" / f"{name}.png")), alone.image)


def test_two_photos_are_never_written_to_one_name(folder, tmp_path):
    (folder / "nobody.bmp.png").write_bytes((folder / "crowd.png").read_bytes())
    with pytest.raises(AnonlibError, match="nobody.bmp and nobody.bmp.png would be written to one name"):
        album.anonymize_folder(folder, tmp_path / "out", "blur", SETTINGS)
    assert not (tmp_path / "out").exists()


def test_the_command_says_what_came_out_and_that_it_is_no_promise(folder, tmp_path, capsys):
    assert cli.main(["anonymize", str(folder), str(tmp_path / "out"), "--method", "mask"]) == 0
    told = capsys.readouterr().out
    assert "4 photos in: 2 ok" in told and "may still be re-identified" in told


def test_falco_s_frame_takes_the_place_of_what_was_there(photos, tmp_path):
    """It draws what is behind a face too: no edge of the person is left."""
    (tmp_path / "in").mkdir()
    photo = cv2.resize(photos[0], (256, 256), interpolation=cv2.INTER_CUBIC)
    Image.fromarray(photo).save(tmp_path / "in" / "a.png")
    quick = {"compare.levels": 3, "compare.steps": 1, "compare.fit_levels": 3, "compare.fit_steps": 0}
    table = album.anonymize_folder(tmp_path / "in", tmp_path / "out", "falco", config.load("smoke", quick))
    assert table.status.tolist() == ["ok"]
    away = np.abs(np.asarray(Image.open(tmp_path / "out" / "a.png")).astype(int) - photo).mean(2)
    assert (away[40:216, 40:216] > 0).mean() > 0.9
