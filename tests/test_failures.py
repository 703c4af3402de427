"""Failures are loud: counted by reason, logged, reported once, and a systematic one stops the run."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from anonlib import config, data
from anonlib.anonymizers import dataset, failures, originals, photo_folder, registry, shards
from anonlib.anonymizers.contract import ERROR, NO_FACE, OK, STATUSES, fail_closed
from anonlib.config.errors import AnonlibError
from anonlib.config.paths import METHOD
from anonlib.engine import progress
from tests.test_anonymizers import scene

IMAGES, MASKS, SEEDS = scene(6)


@pytest.fixture(autouse=True)
def own_logs(tmp_path, monkeypatch):
    """A folder for logs; the cache itself stays the user's unless a test replaces it."""
    monkeypatch.setattr(failures, "cache_root", lambda: tmp_path)
    monkeypatch.setattr(failures, "_logged", set())
    return tmp_path / "logs"


@pytest.fixture
def lines(monkeypatch) -> list[str]:
    """What the user reads."""
    printed = []
    monkeypatch.setattr(progress, "say", printed.append)
    return printed


def drawn(images, masks, seeds):
    """Draw noise, which has nothing of the photo."""
    rngs = [np.random.default_rng(seed) for seed in seeds]
    return np.stack([rng.integers(0, 256, images.shape[1:]).astype(np.uint8) for rng in rngs]), [OK] * len(images)


def breaks_on(bad: list[int], message: str = "out of luck"):
    def anonymizer(images, masks, seeds):
        if set(bad) & set(seeds):
            raise RuntimeError(message.format(seeds[0]))
        return drawn(images, masks, seeds)

    return anonymizer


def test_a_bad_image_costs_only_itself_and_is_one_line_with_a_traceback_in_a_log(own_logs, lines):
    made, status = fail_closed(breaks_on([SEEDS[1]]), "mine")(IMAGES, MASKS, SEEDS)
    assert status == [OK, ERROR, OK, OK, OK, OK] and not made[1].any() and made[2].any()
    (line,) = lines
    assert line.startswith("mine: 1 of 6 pictures are errors: it raised RuntimeError: out of luck")
    log = own_logs / "mine.log"
    assert str(log) in line and "\n" not in line
    assert "Traceback" in log.read_text() and "raise RuntimeError" in log.read_text()


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (lambda images, masks, seeds: 1 / 0, "ZeroDivisionError: division by zero"),
        (lambda images, masks, seeds: (images[:, 1:], [OK] * len(images)), "it returned"),
        (lambda images, masks, seeds: (np.full(images.shape, np.nan), [OK] * len(images)), "float64"),
        (lambda images, masks, seeds: (255 - images, ["fine"] * len(images)), "one of ok, no_face"),
        (lambda images, masks, seeds: (255 - images, []), "for each image"),
        (lambda images, masks, seeds: None, "TypeError"),
        (breaks_on(SEEDS, "photo {0} at 0x7f{0}"), "RuntimeError: photo"),
    ],
)
def test_what_fails_alike_on_a_whole_batch_stops_the_run_in_one_line(broken, words, own_logs, lines):
    with pytest.raises(AnonlibError, match="mine fails alike on all 6 pictures of a batch") as caught:
        fail_closed(broken, "mine")(IMAGES, MASKS, SEEDS)
    assert words in str(caught.value) and str(own_logs / "mine.log") in str(caught.value)
    assert "\n" not in str(caught.value) and lines == []
    assert (own_logs / "mine.log").read_text().count("Traceback") == 1


def test_a_single_image_or_different_failures_are_errors_not_a_stop(lines):
    made, status = fail_closed(lambda i, m, s: 1 / 0)(IMAGES[:1], MASKS[:1], SEEDS[:1])
    assert status == [ERROR] and not made.any()
    masks = MASKS.copy()
    masks[1:] = 0
    made, status = fail_closed(lambda i, m, s: 1 / 0)(IMAGES, masks, SEEDS)
    assert status == [ERROR] + [NO_FACE] * 5 and not made.any()

    def differently(images, masks, seeds):
        raise (ValueError if seeds[0] == SEEDS[0] else KeyError)("bad")

    _, status = fail_closed(differently)(IMAGES, MASKS, SEEDS)
    assert status == [ERROR] * 6
    assert "5 of" not in lines[-1] and "6 of 6" in lines[-1] and "KeyError" in lines[-1] and "ValueError" in lines[-1]


def test_the_counts_add_up_whatever_the_anonymizer_does():
    def mixed(images, masks, seeds):
        if len(images) > 1 or seeds[0] == SEEDS[2]:
            raise RuntimeError("no")
        if seeds[0] == SEEDS[3]:
            return images.copy(), [OK]
        return (*drawn(images, masks, seeds)[:1], ["filtered" if seeds[0] == SEEDS[4] else OK])

    masks = MASKS.copy()
    masks[5] = 0
    result, status = fail_closed(mixed)(IMAGES, masks, SEEDS)
    assert status == [OK, OK, ERROR, ERROR, "filtered", NO_FACE] and set(status) <= set(STATUSES)
    assert [bool(picture.any()) for picture in result] == [word == OK for word in status]


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, MemoryError])
def test_the_batch_is_halved_when_memory_runs_out_which_is_no_failure(error, lines):
    sizes = []

    def large(images, masks, seeds):
        sizes.append(len(images))
        if len(images) > 2:
            raise error("CUDA out of memory")
        return drawn(images, masks, seeds)

    result, status = fail_closed(large)(IMAGES, MASKS, SEEDS)
    assert status == [OK] * 6 and lines == [] and sizes == [6, 3, 2, 1, 3, 2, 1]
    np.testing.assert_array_equal(result, drawn(IMAGES, MASKS, SEEDS)[0])


@dataclass(frozen=True)
class Padded:
    """An anonymizer that fills each of its own batches up, as diffusion does."""

    room: int
    batch: int = 8

    def __call__(self, images, masks, seeds):
        if self.batch > self.room:
            raise torch.OutOfMemoryError(f"{np.random.default_rng().integers(99)} MiB are missing")
        return drawn(images, masks, seeds)


def test_its_own_batch_is_halved_too_down_to_a_single_image(lines):
    for room in (1, 2, 4):
        assert fail_closed(Padded(room))(IMAGES, MASKS, SEEDS)[1] == [OK] * 6
        assert fail_closed(Padded(room))(IMAGES[:1], MASKS[:1], SEEDS[:1])[1] == [OK]
    assert lines == []
    with pytest.raises(AnonlibError, match="OutOfMemoryError: the memory is too small for a single picture"):
        fail_closed(Padded(0))(IMAGES, MASKS, SEEDS)


def test_a_failure_that_is_no_lack_of_memory_halves_nothing():
    sizes = []

    def fails(images, masks, seeds):
        sizes.append(len(images))
        raise RuntimeError("CUDA error: out of memory is not this")

    with pytest.raises(AnonlibError):
        fail_closed(fails)(IMAGES, MASKS, SEEDS)
    assert sizes == [6] + [1] * 6


def test_a_report_counts_and_leaves_out_what_an_anonymizer_reports_itself(lines):
    failures.report("mine", Counter({failures.REPORTED: 3}), 10)
    assert lines == []
    failures.report("mine", Counter({failures.REPORTED: 10}), 10)
    failures.report("mine", Counter({failures.RAISED + "KeyError: x": 2, "the picture is almost constant": 3}), 10)
    assert lines[0] == "mine: 10 of 10 pictures are errors: it reports an error itself"
    assert lines[1].startswith(
        "mine: 5 of 10 pictures are errors: the picture is almost constant (3); it raised KeyError"
    )


def test_without_anything_wrong_nothing_is_printed(lines):
    assert fail_closed(drawn)(IMAGES, MASKS, SEEDS)[1] == [OK] * 6 and lines == []


METHODS = """
import numpy as np
from anonlib.anonymizers import OK, register

def drawn(images, seeds):
    pictures = [np.random.default_rng(seed).integers(0, 256, images.shape[1:]).astype(np.uint8) for seed in seeds]
    return np.stack(pictures), [OK] * len(images)

@register("always-fails", shard=4)
def always_fails(images, masks, seeds):
    raise RuntimeError("no weights")

@register("fails-sometimes", shard=4)
def fails_sometimes(images, masks, seeds):
    if min(int(image.sum()) % 3 for image in images) == 0:
        raise RuntimeError("unlucky")
    return drawn(images, seeds)

@register("gives-originals", shard=4)
def gives_originals(images, masks, seeds):
    return images // 2, [OK] * len(images)
"""


@pytest.fixture
def methods(tmp_path, monkeypatch, registered):
    """Three anonymizers of a user's file, and a cache of their own."""
    (tmp_path / "failing.py").write_text(METHODS)
    monkeypatch.setenv(METHOD, str(tmp_path / "failing.py"))
    return registry.names(registry.USER)


@pytest.fixture
def faces(own_cache):
    return data.load("synthetic", people={"test": 4, "train": 2, "validation": 2}, images=3)


def test_a_data_set_that_fails_alike_stops_and_nothing_is_cached(methods, faces, own_cache, lines):
    settings = config.load("smoke")
    for _ in range(2):
        with pytest.raises(AnonlibError, match="always-fails fails alike on all 4 pictures of a batch: .*no weights"):
            dataset.anonymize(faces, np.arange(8), ("always-fails",), settings)
    assert not list((own_cache / "steps" / "anonymize").glob("*/entry.json"))


def test_errors_over_shards_are_reported_once_with_a_count_also_from_the_cache(methods, faces, lines):
    settings, rows = config.load("smoke"), np.arange(12)
    bad = int((faces.images[rows].sum((1, 2, 3)) % 3 == 0).sum())
    assert 0 < bad < len(rows)
    for _ in range(2):
        lines.clear()
        result = dataset.anonymize(faces, rows, ("fails-sometimes",), settings)["fails-sometimes"]
        assert (result.status == ERROR).sum() == bad and not result.images[result.status == ERROR].any()
        mine = [line for line in lines if line.startswith("fails-sometimes: ")]
        assert len(mine) == 1 and mine[0].startswith(f"fails-sometimes: {bad} of 12 pictures are errors")


def test_a_data_set_that_is_all_errors_says_so_each_time(methods, faces, lines):
    for _ in range(2):
        lines.clear()
        result = dataset.anonymize(faces, np.arange(4), ("gives-originals",), config.load("smoke"))["gives-originals"]
        assert set(result.status) == {ERROR}
        assert [line for line in lines if "4 of 4 pictures are errors: the original passes" in line]


@pytest.fixture
def folder(tmp_path, photos):
    from PIL import Image

    (tmp_path / "in").mkdir()
    for index, photo in enumerate(photos):
        Image.fromarray(photo).resize((200, 200)).save(tmp_path / "in" / f"{index}.png")
    return tmp_path / "in"


def test_a_folder_that_fails_alike_stops_and_leaves_nothing_behind(methods, folder, tmp_path, lines):
    before = sorted(tmp_path.iterdir())
    with pytest.raises(AnonlibError, match="always-fails fails alike on all 3 pictures"):
        photo_folder.anonymize_folder(folder, tmp_path / "out", "always-fails", config.load("smoke"))
    assert [path for path in sorted(tmp_path.iterdir()) if path not in before] == [tmp_path / "logs"]
    assert "no weights" in (tmp_path / "logs" / "always-fails.log").read_text()


def test_a_folder_reports_its_refusals_in_one_line(methods, folder, tmp_path, lines):
    table = photo_folder.anonymize_folder(folder, tmp_path / "out", "gives-originals", config.load("smoke"))
    assert (table.black == table.faces).all()
    mine = [line for line in lines if line.startswith("gives-originals")]
    assert mine == [f"gives-originals: 3 of 3 pictures are errors: {originals.CORRELATION}"]
    assert "3 of them black" in photo_folder.summary(table)


def test_whole_photos_that_fail_alike_stop_too(methods, folder, tmp_path, monkeypatch, lines):
    def one_by_one(detected, name, options, parameters):
        from anonlib.anonymizers.multi_face import Scene

        scenes = []
        for photo, mask in zip(detected.images, detected.masks, strict=True):
            (image,), (status,) = registry.create(name, **options)(photo[None], mask[None], [0])
            scenes.append(Scene(image, status, (status,)))
        return scenes

    monkeypatch.setattr(photo_folder, "anonymize_whole", one_by_one)
    monkeypatch.setattr(photo_folder._Stages, "whole", True)
    with pytest.raises(AnonlibError, match="always-fails fails alike on all 3 pictures"):
        photo_folder.anonymize_folder(folder, tmp_path / "out", "always-fails", config.load("smoke"))
    assert not (tmp_path / "out").exists()


def test_photos_of_a_data_set_that_fail_one_by_one_stop_too(monkeypatch):
    def one_by_one(images, masks, seeds, **more):
        broken = fail_closed(breaks_on(SEEDS, "no weights"), "mine")
        single = [slice(row, row + 1) for row in range(len(images))]
        results = [broken(images[row], masks[row], seeds[row]) for row in single]
        return np.concatenate([image for image, _ in results]), [word for _, (word,) in results]

    monkeypatch.setattr(shards, "anonymize_rows", one_by_one)
    shard = {"name": "mine", "images": IMAGES, "masks": MASKS, "seeds": SEEDS, "photos": None}
    with pytest.raises(AnonlibError, match="mine fails alike on all 6 pictures of a batch: RuntimeError: no weights"):
        shards._anonymize_shards([shard])
    first = {"images": IMAGES[:1], "masks": MASKS[:1], "seeds": SEEDS[:1]}
    (output,) = shards._anonymize_shards([shard | first])
    assert output["status"].tolist() == [ERROR] and output["failures"] == {"it raised RuntimeError: no weights": 1}
