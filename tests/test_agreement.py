"""Control agreement: of photos in memory, of systems, and of folders through the command line."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from anonlib import config
from anonlib.anonymizers.dataset import Anonymized
from anonlib.config.errors import AnonlibError
from anonlib.controls import agreement as maps
from anonlib.faces import dilate_masks, person_mask
from anonlib.metrics.law import Law
from anonlib.metrics.quality import map_agreement
from anonlib.paper import agreement as folders
from anonlib.paper import cli
from anonlib.paper.experiments import control_agreement
from anonlib.paper.experiments.control_agreement import CEILING, FLOOR

SMOKE = config.load("smoke")
LAW = Law(8.0, -1.5, 0.5, 0.2, 0.6, 0.3, 0.001, 0.8, 0.005, 0.1, 0.9, 20)


@pytest.fixture(scope="module")
def masks(photos) -> np.ndarray:
    return person_mask(photos)


def test_the_same_photo_agrees_whatever_lies_behind_the_person(photos, masks) -> None:
    behind = dilate_masks(cv2_dilated(masks)) == 0
    outputs = np.where(behind[..., None], photos[:, ::-1], photos)
    values = maps.agreement(photos, outputs, masks)
    assert values.shape == (3, 3)
    np.testing.assert_allclose(maps.agreement(photos, photos, masks), 1, atol=1e-6)
    assert (values[:, 0] > 0.9).all(), "edges inside the person are nearly as before"


def cv2_dilated(masks: np.ndarray) -> np.ndarray:
    """Grow masks by the reach of the edge annotators."""
    return np.stack([cv2.dilate(mask, np.ones((25, 25), np.uint8)) for mask in masks])


def test_another_person_agrees_less_and_an_empty_map_counts_as_none(photos, masks) -> None:
    soft = np.stack([cv2.GaussianBlur(photo, (0, 0), 2) for photo in photos])
    near, far = maps.agreement(photos, soft, masks), maps.agreement(photos, np.roll(photos, -1, 0), masks)
    assert (near > far).all()
    assert np.isnan(maps.agreement(photos, np.zeros_like(photos), masks)).all()


def test_edges_a_pixel_apart_agree_only_when_they_are_smoothed(photos, masks) -> None:
    moved = np.roll(photos, 1, axis=2)
    smoothed = maps.agreement(photos, moved, masks)[:, maps.CONDITIONS.index("canny")]
    raw = [maps.annotate("canny", part)[0][..., 0] for part in (photos, moved)]
    assert (smoothed > map_agreement(*raw, dilate_masks(masks) > 127) + 0.3).all()


def test_sets_are_measured_as_photos_are_and_the_floor_is_the_next_person(photos, masks, own_cache) -> None:
    grey = np.repeat(photos.mean(3, keepdims=True).astype(np.uint8), 3, 3)
    measured, floor = maps.agreement_of_sets(photos, {"grey": grey}, masks)
    np.testing.assert_allclose(measured["grey"], maps.agreement(photos, grey, masks), atol=1e-6)
    np.testing.assert_allclose(floor, maps.agreement(photos, np.roll(photos, -1, 0), masks), atol=1e-6)
    _, alone = maps.agreement_of_sets(photos[:1], {}, masks[:1])
    assert np.isnan(alone).all(), "nobody else is there"


def test_failed_photos_are_counted_beside_ceiling_and_floor(photos, masks, own_cache, monkeypatch) -> None:
    n = len(photos)
    soft = np.stack([cv2.GaussianBlur(photo, (0, 0), 1) for photo in photos])
    blank = soft.copy()
    blank[1] = 0
    part = Anonymized("soft", soft, np.full(n, "ok"), np.arange(n), np.zeros(n, int), np.zeros(n))
    failed = replace(part, name="failed", images=blank, status=np.array(["ok", "error", "ok"]))
    shown = replace(part, name="blank", images=np.zeros_like(soft))
    faces = pd.DataFrame({"identity": list("abc"), "split": "test", "sha256": list("123")})
    faces = type("Faces", (), {"table": faces, "identity": faces.identity.to_numpy(), "split": faces.split.to_numpy(),
                               "images": photos, "masks": masks})()  # fmt: skip
    monkeypatch.setattr(control_agreement, "round_trip", lambda images, settings: images)
    sets = {"noop": replace(part, name="noop", images=photos), "soft": part, "failed": failed, "blank": shown}
    measured = control_agreement.measure(faces, sets, SMOKE)
    assert list(dict.fromkeys(measured.anonymizer)) == [CEILING, "soft", "failed", "blank", FLOOR]
    table = control_agreement.agreement_table(measured, SMOKE.evaluate)
    hed = table.frame[table.frame.condition == "hed"].set_index("anonymizer")
    assert hed.agreement[CEILING] == pytest.approx(1) and hed.agreement[FLOOR] < hed.agreement["soft"] < 1
    assert hed.n.tolist() == [3, 3, 2, 0, 3] and hed.failed.tolist() == [0, 0, 1, 0, 0]
    assert hed.invalid.tolist() == [0, 0, 0, 3, 0] and np.isnan(hed.agreement["blank"])
    assert {"utility/soft/hed_agreement", "agreement/ceiling/canny", "agreement/floor/depth"} <= set(table.entries)
    own = control_agreement.agreement_table(measured, SMOKE.evaluate, ["soft"]).entries
    assert set(own) == {f"utility/soft/{name}_agreement" for name in maps.CONDITIONS}
    wide = control_agreement.by_condition(table).frame.set_index("anonymizer")
    assert wide.hed["soft"] == hed.agreement["soft"] and wide.depth_n["failed"] == 2 and wide.failed["failed"] == 1


def test_the_round_trip_is_that_of_the_profile_s_own_autoencoder(photos, own_cache, tiny_bundle) -> None:
    numbers = config.load("smoke", {"generator.bundle": tiny_bundle, "generator.size": 64})
    decoded = control_agreement.round_trip(photos, numbers)
    assert decoded.shape == photos.shape and decoded.dtype == np.uint8 and (decoded != photos).any()


@pytest.fixture
def pair(tmp_path, photos, monkeypatch, own_cache) -> tuple[Path, Path]:
    """Two folders: three people, one of them black, a landscape, and files without a partner."""
    monkeypatch.setenv("ANONLIB_FIGURES", str(tmp_path / "figures"))
    monkeypatch.setattr(folders, "points_of", _points_of)
    first, second = tmp_path / "originals", tmp_path / "anonymized"
    (first / "ann").mkdir(parents=True), (second / "ann").mkdir(parents=True)
    soft = cv2.GaussianBlur(photos[0], (0, 0), 3)
    large = cv2.resize(soft, (300, 300), interpolation=cv2.INTER_CUBIC)
    plain = np.full((90, 160, 3), 120, np.uint8)
    for folder, name, picture in (
        (first, "ann/1.png", photos[0]), (second, "ann/1.webp", large),
        (first, "2.bmp", photos[1]), (second, "2.bmp.png", np.zeros_like(photos[1])),
        (first, "sea.png", plain), (second, "sea.png", plain),
        (first, "3.png", photos[2]), (second, "3.png", plain),
        (first, "4.png", photos[2]), (second, "5.png", photos[2]),
    ):  # fmt: skip
        Image.fromarray(picture).save(folder / name)
    return first, second


def _points_of(photo: np.ndarray) -> np.ndarray | None:
    from anonlib.faces import FRAME_POINTS

    return FRAME_POINTS.copy() if photo.shape[:2] == (128, 128) else None


def store(folder: Path, law: Law) -> None:
    (folder / "figures").mkdir(exist_ok=True)
    entries = {f"law/hed/{name}": {"value": value, "notebook": "07_boundary"} for name, value in asdict(law).items()}
    weaker = {f"law/depth/{name}": {"value": value} for name, value in asdict(replace(law, explained=0.1)).items()}
    (folder / "figures" / "results.json").write_text(json.dumps(weaker | entries))


def test_folders_are_paired_measured_and_read_off_the_law(pair, tmp_path, own_cache, capsys) -> None:
    store(tmp_path, LAW)
    before = sorted([*tmp_path.rglob("*"), *own_cache.glob("steps/**/*")])
    assert cli.main(["agreement", *map(str, pair)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == (
        "pairs of photos measured: 1; not measured: no face in the original 1, black output 1, output of another shape "
        "than the original 1, original without an output 1, output without an original 1"
    )
    table = folders.compare_folders(*pair)
    value = table.set_index("file").hed["ann/1.png"]
    assert 0.1 < value < 0.9
    assert any(line.split()[:3] == ["HED", "edges", f"{value:.3f}"] for line in lines)
    assert "HED edges (20 settings" in lines[-2] and "gallery of 200" in lines[-2] and "scatter" in lines[-2]
    assert lines[-1].startswith("Caution: this is a prediction") and "does not prove anonymity" in lines[-1]
    after = sorted([*tmp_path.rglob("*"), *own_cache.glob("steps/**/*")])
    assert after == before, "nothing is written"


def test_the_face_is_detected_in_the_original_and_the_same_place_of_the_output_is_measured(tmp_path, photos) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    first.mkdir(), second.mkdir()
    picture = np.full((420, 500, 3), 110, np.uint8)
    picture[60:316, 100:356] = cv2.resize(photos[0], (256, 256), interpolation=cv2.INTER_CUBIC)
    soft = cv2.GaussianBlur(picture, (0, 0), 3)
    outputs = {"near": soft, "large": cv2.resize(soft, (1000, 840)), "moved": np.roll(soft, 24, axis=1)}
    for name, output in outputs.items():
        Image.fromarray(picture).save(first / f"{name}.png")
        Image.fromarray(output).save(second / f"{name}.png")
    table = folders.compare_folders(first, second).set_index("file")
    assert (table.status == "measured").all()
    assert table.same.all(), "neither softer nor moved is anonymous"
    assert table.hed["near.png"] > 0.6 and table.hed["large.png"] == pytest.approx(table.hed["near.png"], abs=0.05)
    assert (table.loc["moved.png", ["hed", "canny"]] < table.loc["near.png", ["hed", "canny"]] - 0.15).all()


def test_outside_of_the_measured_range_there_is_no_number(pair, tmp_path, capsys) -> None:
    store(tmp_path, replace(LAW, lowest=0.95, highest=0.99))
    assert cli.main(["agreement", *map(str, pair)]) == 0
    printed = capsys.readouterr().out
    assert "outside of the measured range, 0.950 to 0.990" in printed and "re-identify" not in printed
    store(tmp_path, LAW)
    (tmp_path / "figures" / "results.json").write_text("{}")
    assert cli.main(["agreement", *map(str, pair)]) == 0
    assert "No law is stored" in capsys.readouterr().out


def test_an_original_that_was_passed_through_is_loud(pair, tmp_path, photos, capsys) -> None:
    store(tmp_path, LAW)
    Image.fromarray(photos[0]).save(pair[1] / "ann/1.webp", lossless=True)
    table = tmp_path / "table.csv"
    assert cli.main(["agreement", *map(str, pair), "--table", str(table)]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("WARNING: 1 of 1 outputs show the ORIGINAL person unchanged, ann/1.png")
    rows = pd.read_csv(table).set_index("file")
    assert rows.same.tolist().count(True) == 1 and rows.hed["ann/1.png"] == pytest.approx(1)
    assert rows.status["sea.png"] == "no face" and len(rows) == 6


def test_what_cannot_be_compared_is_one_line(pair, tmp_path, photos) -> None:
    first, second = map(str, pair)
    empty = tmp_path / "empty"
    empty.mkdir()
    for arguments, words in (
        ((first, str(tmp_path / "none")), "is no folder"),
        ((first, str(empty)), "has no photos"),
        (("", second), "IN=originals OUT=anonymized"),
        ((first, first), "are the same folder"),
        ((first, second, "--dataset", "my photos", "--profile", "smok"), "did you mean 'smoke'"),
    ):
        with pytest.raises(AnonlibError, match=words) as error:
            cli.main(["agreement", *arguments])
        assert "\n" not in str(error.value)
    (pair[1] / "ann/1.webp").unlink()
    with pytest.raises(AnonlibError, match="no pair of photos could be measured: no face in the original 1"):
        cli.main(["agreement", first, second])
    Image.fromarray(photos[0]).save(pair[0] / "ann/1.jpg")
    with pytest.raises(AnonlibError, match="rename one of them"):
        cli.main(["agreement", first, second])
    for file in second, empty:
        assert Path(file).is_dir()
    Image.fromarray(photos[0]).save(empty / "zoe.png")
    (pair[0] / "ann/1.jpg").unlink()
    with pytest.raises(AnonlibError, match="no photo in"):
        cli.main(["agreement", first, str(empty)])


def test_intervals_are_by_folder_where_people_have_folders() -> None:
    rows = [{"file": f"p{k % 2}/{k}.png", "status": "measured", "same": False, "hed": 0.3 + 0.3 * (k % 2),
             "canny": np.nan, "depth": 0.5} for k in range(20)]  # fmt: skip
    by_folder = folders.summary(pd.DataFrame(rows), {}, SMOKE.evaluate)
    alone = [row | {"file": row["file"].replace("/", "-")} for row in rows]
    by_photo = folders.summary(pd.DataFrame(alone), {}, SMOKE.evaluate)
    assert "by folder" in by_folder[1] and "by photo" in by_photo[1]
    assert "[0.300, 0.600]" in by_folder[2] and "[0.300, 0.600]" not in by_photo[2]
    assert "(0 photos)" in by_folder[3] and "—" in by_folder[3]


def test_the_interval_of_a_prediction_contains_that_of_the_agreement() -> None:
    narrow = folders._read_off("hed", LAW, (0.5, 0.49, 0.51), 0.95)
    wide = folders._read_off("hed", LAW, (0.5, 0.3, 0.7), 0.95)
    ends = [
        [float(part.split()[0]) for part in text.split("[")[1].split("]")[0].split(", ")] for text in (narrow, wide)
    ]
    assert ends[1][0] < ends[0][0] < ends[0][1] < ends[1][1]
    assert "no number" in folders._read_off("hed", LAW, None, 0.95)
    assert "scatter" not in folders._read_off("hed", replace(LAW, p=0.5), (0.5, 0.4, 0.6), 0.95)
