"""No original passes, however it is disguised; what real systems generate does."""

import cv2
import numpy as np
import pytest

from anonlib import config, data
from anonlib.anonymizers import originals, registry
from anonlib.anonymizers.contract import ERROR, OK, fail_closed
from anonlib.anonymizers.originals import CONSTANT, CORRELATION, DIFFERENCE, RECOGNIZER, is_original, refusals
from anonlib.anonymizers.seeds import image_seed
from anonlib.data.synthetic import EMBEDDED

hypothesis = pytest.importorskip("hypothesis")
from hypothesis import given, settings
from hypothesis import strategies as st

PEOPLE = 16
SYSTEMS = ("blur", "pixelate", "mask", "deepprivacy2", "ia-none", "ia-depth+hed", "camouflage-base", "camouflage-light")
RANDOM = settings(max_examples=150, deadline=None, derandomize=True, database=None)


@pytest.fixture(scope="module")
def faces():
    if not EMBEDDED.exists():
        pytest.skip("the embedded faces are not there: make data")
    chosen = data.load("synthetic", people={"test": PEOPLE, "train": 2, "validation": 2}, images=2)
    chosen = chosen.select(split="test")
    first = np.unique(chosen.identity, return_index=True)[1]
    return chosen.images[first], chosen.masks[first]


def rounded(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def turned(image: np.ndarray, degrees: float = 0, zoom: float = 1, right: float = 0, down: float = 0) -> np.ndarray:
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, zoom)
    matrix[:, 2] += right, down
    return cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REFLECT)


def grey(image: np.ndarray) -> np.ndarray:
    return np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None], 3, 2)


def compressed(image: np.ndarray, quality: int) -> np.ndarray:
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)


def noisy(image: np.ndarray, sigma: float) -> np.ndarray:
    return rounded(image + np.random.default_rng(0).normal(0, sigma, image.shape))


def number(least: float, most: float) -> st.SearchStrategy:
    return st.floats(least, most, allow_nan=False)


colours = st.one_of(
    number(0.5, 1.4).map(lambda gain: lambda image: rounded(image * gain)),
    number(0.5, 2).map(lambda gamma: lambda image: rounded(255 * (image / 255) ** gamma)),
    number(-50, 50).map(lambda offset: lambda image: rounded(image + offset)),
    st.tuples(*[st.integers(0, 2)] * 3).map(lambda order: lambda image: np.ascontiguousarray(image[..., order])),
    st.sampled_from([grey, lambda image: 255 - image]),
)
places = st.tuples(number(-4, 4), number(0.95, 1.05), number(-4, 4), number(-4, 4), st.booleans()).map(
    lambda how: lambda image: turned(image, *how[:4])[:, :: -1 if how[4] else 1].copy()
)
losses = st.one_of(
    st.integers(50, 95).map(lambda quality: lambda image: compressed(image, quality)),
    number(0.3, 1).map(lambda sigma: lambda image: cv2.GaussianBlur(image, (0, 0), sigma)),
    number(1, 5).map(lambda sigma: lambda image: noisy(image, sigma)),
)
rows = st.integers(0, PEOPLE - 1)


def passes(faces: tuple[np.ndarray, np.ndarray], row: int, *disguises) -> bool:
    """Return whether an anonymizer that gives back a disguised original yields "ok"."""

    def anonymizer(images, masks, seeds):
        for disguise in disguises:
            images = np.stack([disguise(image) for image in images])
        return images, [OK] * len(images)

    images, masks = (part[row : row + 1] for part in faces)
    made, (status,) = fail_closed(anonymizer)(images, masks, [0])
    assert status in (OK, ERROR) and made.any() == (status == OK)
    return status == OK


@RANDOM
@given(row=rows, colour=colours, loss=losses)
def test_an_original_in_other_colours_and_a_little_worse_never_passes(faces, row, colour, loss):
    assert not passes(faces, row, colour) and not passes(faces, row, colour, loss)


@RANDOM
@given(row=rows, place=places, loss=losses)
def test_an_original_moved_turned_or_mirrored_never_passes(faces, row, place, loss):
    assert not passes(faces, row, place) and not passes(faces, row, place, loss)


@RANDOM
@given(row=rows, place=places, colour=colours)
def test_an_original_in_another_place_and_other_colours_never_passes(faces, row, place, colour):
    assert not passes(faces, row, colour, place)


@pytest.mark.parametrize(
    "disguise",
    [
        lambda image: image,
        lambda image: image[:, ::-1],
        lambda image: rounded(image * 0.25),
        lambda image: rounded(image * 0.75),
        lambda image: rounded(image * 1.5),
        lambda image: rounded(image + 20.0),
        lambda image: 255 - image,
        lambda image: image[..., ::-1],
        lambda image: image[..., [1, 2, 0]],
        lambda image: image[..., [2, 2, 2]],
        grey,
        *[lambda image, shift=shift: np.roll(image, shift, (0, 1)) for shift in ((2, 0), (0, 3), (4, 4), (-6, 0))],
        lambda image: turned(image, 3),
        lambda image: turned(image, -8),
        lambda image: turned(image, 0, 0.9),
        lambda image: turned(image, 0, 1.1),
        lambda image: compressed(image, 20),
        lambda image: cv2.GaussianBlur(image, (0, 0), 1.5),
        lambda image: noisy(image, 10),
    ],
)
def test_each_disguise_is_refused_for_every_face(faces, disguise):
    assert [row for row in range(PEOPLE) if passes(faces, row, disguise)] == []


def test_a_picture_with_almost_no_content_is_refused(faces):
    black = np.zeros_like(faces[0][0])
    pixel, faint = black.copy(), np.full_like(black, 7)
    pixel[60, 60], faint[::2] = 255, 8
    dark = faces[0][0] // 64
    for picture in (black, pixel, faint, dark):
        (reason,) = refusals(faces[0][:1], picture[None], faces[1][:1])
        assert reason == CONSTANT
    assert refusals(faces[0][:1], noisy(black, 200)[None], faces[1][:1]) == [""]


@pytest.mark.parametrize("name", SYSTEMS)
def test_what_real_systems_generate_passes(faces, name):
    images, masks = (part[:4] for part in faces)
    spec = registry.get(name)
    pictures, status = spec.factory(**spec.options(config.load("demo")))(
        images, masks, [image_seed(image, name, {}) for image in images]
    )
    assert status == [OK] * 4 and refusals(images, pictures, masks) == [""] * 4


def test_two_people_pass_for_each_other(faces):
    images, masks = faces
    assert refusals(images, np.roll(images, 1, 0), masks) == [""] * PEOPLE


@pytest.fixture
def no_correlation(monkeypatch):
    for name in ("_correlate", "_hardly_differ"):
        monkeypatch.setattr(originals, name, lambda *person: False)


def test_the_recognizer_is_a_lock_of_its_own(faces, no_correlation):
    images, masks = faces
    for disguise in (lambda x: turned(x, 5), lambda x: rounded(x * 0.75), lambda x: x[:, ::-1], grey):
        pictures = np.stack([disguise(image) for image in images])
        assert set(refusals(images, pictures, masks)) == {RECOGNIZER}
    assert set(refusals(images, np.roll(images, 1, 0), masks)) == {""}


def test_the_judge_is_never_asked_and_nobody_is_where_nothing_can_be_recognized(faces, no_correlation, monkeypatch):
    asked, embed = [], originals.embed
    monkeypatch.setattr(originals, "_embeddings", {})
    monkeypatch.setattr(
        originals, "embed", lambda name, images: asked.append((name, len(images))) or embed(name, images)
    )
    images, masks = faces
    for name in ("mask", "pixelate"):
        pictures, _ = registry.get(name).factory()(images, masks, [0] * PEOPLE)
        assert refusals(images, pictures, masks) == [""] * PEOPLE
    assert asked == []
    blurred, _ = registry.get("blur").factory()(images, masks, [0] * PEOPLE)
    assert set(refusals(images, blurred, masks)) == {""}
    assert sum(count for _, count in asked) < 2 * PEOPLE / 2, "most of them are too blurred"
    refusals(images, np.roll(images, 1, 0), masks)
    assert {name for name, _ in asked} == {"mobilefacenet"}
    asked.clear()
    refusals(images, np.roll(images, 2, 0), masks)
    assert asked == [("mobilefacenet", PEOPLE)], "the originals are embedded once"


def test_each_lock_names_itself(faces):
    image, mask = faces[0][0], faces[1][0]
    for picture, reason in (
        (image, DIFFERENCE),
        (cv2.GaussianBlur(image, (0, 0), 1), DIFFERENCE),
        (image // 2, CORRELATION),
        (np.full_like(image, 9), CONSTANT),
    ):
        assert refusals(image[None], picture[None], mask[None]) == [reason]
        assert is_original(image, picture, mask) == (reason != CONSTANT)


def crowded(images: list[np.ndarray], mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a photo of people side by side, twice as large as their frames, and their mask."""
    large = [cv2.resize(image, (256, 256), interpolation=cv2.INTER_CUBIC) for image in images]
    person = cv2.resize(mask, (200, 256), interpolation=cv2.INTER_NEAREST)
    masks = [cv2.copyMakeBorder(person, 0, 0, 28, 28, cv2.BORDER_CONSTANT) for _ in images]
    return np.hstack(large), np.hstack(masks)


def test_a_single_person_that_stays_in_a_large_photo_is_refused(faces):
    images, masks = faces
    photo, mask = crowded([images[0], images[1], images[2]], masks[0])
    others, _ = crowded([images[3], images[4], images[5]], masks[0])
    assert refusals(photo[None], others[None], mask[None]) == [""]
    for disguise, reason in ((lambda x: x, DIFFERENCE), (lambda x: x // 2, CORRELATION)):
        picture = others.copy()
        picture[:, 256:512] = disguise(photo[:, 256:512])
        assert refusals(photo[None], picture[None], mask[None]) == [reason]
    assert refusals(photo[None], photo[None, :, ::-1] // 2, mask[None]) == [CORRELATION]


def test_the_best_shift_is_that_of_all_shifts_by_brute_force():
    rng = np.random.default_rng(0)
    image = cv2.GaussianBlur(rng.normal(0, 40, (64, 60)), (0, 0), 2).astype(np.float32)
    inside = np.zeros(image.shape, bool)
    inside[12:50, 10:45] = rng.random((38, 35)) < 0.8
    for down, right, sign in ((0, 0, 1), (3, -5, 1), (-8, 8, 1), (2, 1, -1)):
        picture = sign * np.roll(image, (down, right), (0, 1)) + rng.normal(0, 1, image.shape).astype(np.float32)
        expected = {
            (y, x): abs(np.corrcoef(image[inside], np.roll(picture, (-y, -x), (0, 1))[inside])[0, 1])
            for y in range(-8, 9)
            for x in range(-8, 9)
        }
        most, *shift = originals._best_shift(image, picture, inside)
        assert tuple(shift) == max(expected, key=expected.get) == (down, right)
        assert most == pytest.approx(max(expected.values()), abs=1e-3)
