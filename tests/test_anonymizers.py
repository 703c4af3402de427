"""Anonymizers on a tiny bundle: they fail closed, follow seed and condition; test_contract.py has the contract."""

import cv2
import numpy as np
import pytest

from anonlib import anonymizers
from anonlib.anonymizers.contract import ERROR, FILTERED, NO_FACE, OK, fail_closed
from anonlib.anonymizers.seeds import image_seed
from anonlib.assets.models import ModelRef, ModelSpec
from anonlib.config.errors import AnonlibError
from anonlib.controls import annotate, maps
from anonlib.faces import person_mask, with_mirrors


def scene(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Smooth random pictures with an oval person in each."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, 8, 8, 3)).astype(np.uint8)
    images = coarse.repeat(16, 1).repeat(16, 2)
    rows, columns = np.mgrid[0:128, 0:128]
    oval = ((rows - 70) / 50) ** 2 + ((columns - 64) / 36) ** 2 < 1
    masks = np.repeat(np.where(oval, 255, 0).astype(np.uint8)[None], count, 0)
    return images, masks, [image_seed(image, "test", {}) for image in images]


@pytest.fixture
def every(tiny_bundle):
    """Return the anonymizer of a name with two steps on the tiny bundle."""

    def make(name: str):
        own = ModelRef(f"{tiny_bundle}-camouflage")
        settings = {"bundle": ModelSpec(ModelRef(tiny_bundle), camouflage=own), "steps": 2, "batch": 4}
        return anonymizers.create(name, **settings if anonymizers.get(name).uses_generator else {})

    return make


@pytest.fixture
def subjects(photos):
    """Return so many pictures for an anonymizer, with masks and seeds: faces, mirrored too, for one that reads them.

    Blurred blocks are all alike to a recognizer, so blur gets faces too.
    """

    def make(name: str, count: int):
        if name not in (*anonymizers.names("camouflage"), "blur"):
            return scene(count)
        images = with_mirrors(photos)[:count]
        return images, person_mask(images), [image_seed(image, "test", {}) for image in images]

    return make


# depth needs a face: see test_without_a_face
CONDITIONED = (
    "ia-none",
    "ia-hed",
    "ia-canny",
    *anonymizers.names("camouflage"),
)
ALL = (*CONDITIONED, "blur", "pixelate", "mask")


@pytest.mark.parametrize("name", CONDITIONED)
def test_another_seed_gives_another_picture(every, subjects, name):
    images, masks, seeds = subjects(name, 1)
    first, _ = every(name)(images, masks, seeds)
    second, _ = every(name)(images, masks, [seeds[0] + 1])
    assert np.abs(first.astype(int) - second).mean() > 1


@pytest.mark.parametrize("name", ALL)
def test_no_person_gives_a_blank_and_is_counted(every, subjects, name):
    images, masks, seeds = subjects(name, 3)
    masks[1] = 0
    made, status = every(name)(images, masks, seeds)
    assert status == [OK, NO_FACE, OK] and not made[1].any() and made[0].any()


def test_a_constant_map_is_an_error_never_an_unconditioned_guess(every):
    images, masks, seeds = scene(2)
    images[0] = 90
    made, status = every("ia-canny")(images, masks, seeds)
    assert status == [ERROR, OK] and not made[0].any()


@pytest.mark.parametrize("name", ["ia-depth+hed", *anonymizers.names("camouflage")])
def test_without_a_face_it_is_an_error(every, name):
    made, status = every(name)(*scene(1))
    assert status == [ERROR] and not made.any()


def test_the_condition_reaches_the_picture(every):
    images, masks, seeds = scene(1)
    without, _ = every("ia-none")(images, masks, seeds)
    with_edges, _ = every("ia-hed")(images, masks, seeds)
    assert np.abs(without.astype(int) - with_edges).max() > 0


def test_a_photo_is_painted_at_the_generator_s_size_and_given_back_at_its_own(tiny_bundle):
    def detail(size: int) -> float:
        made, status = anonymizers.create("ia-hed", bundle=ModelSpec(ModelRef(tiny_bundle)), steps=2, size=size)(
            *scene(1)
        )
        assert status == [OK] and made.shape == (1, 128, 128, 3)
        half = cv2.resize(made[0], (64, 64), interpolation=cv2.INTER_AREA)
        return float(np.abs(cv2.resize(half, (128, 128), interpolation=cv2.INTER_CUBIC).astype(int) - made[0]).mean())

    assert detail(64) < 0.5 * detail(128), "painted at 64 px there is little between the pixels"


def test_what_the_user_can_mend_is_passed_on():
    def refuses(batch, person, batch_seeds):
        raise AnonlibError("no bundle")

    with pytest.raises(AnonlibError, match="no bundle"):
        fail_closed(refuses)(*scene(1))


def test_a_filtered_image_is_blank_even_if_pixels_came_with_it():
    images, masks, seeds = scene(1)
    made, status = fail_closed(lambda i, m, s: (255 - i, [FILTERED]))(images, masks, seeds)
    assert status == [FILTERED] and not made.any()


def test_inputs_that_do_not_fit_together_are_refused():
    images, masks, seeds = scene(2)
    with pytest.raises(ValueError, match="seeds"):
        fail_closed(lambda i, m, s: (i, [OK]))(images, masks, seeds[:1])


def test_seed_follows_pixels_method_parameters_and_replicate():
    image = scene(1)[0][0]
    base = image_seed(image, "ia-hed", {"steps": 10})
    assert base == image_seed(image.copy(), "ia-hed", {"steps": 10})
    others = [
        image_seed(image + 1, "ia-hed", {"steps": 10}),
        image_seed(image, "ia-none", {"steps": 10}),
        image_seed(image, "ia-hed", {"steps": 11}),
        image_seed(image, "ia-hed", {"steps": 10}, replicate=1),
    ]
    assert len({base, *others}) == 5 and 0 <= base < 1 << 63


def test_unknown_names_are_refused_in_one_line():
    with pytest.raises(AnonlibError, match="ia-depth"):
        anonymizers.create("ia-deth")


def test_maps_that_were_made_before_paint_the_same_pictures(every, tiny_bundle) -> None:
    images, masks, seeds = scene(3)
    annotator = maps.lookup(images[::-1], {"hed": annotate("hed", images[::-1])})
    settings = {"bundle": ModelSpec(ModelRef(tiny_bundle)), "steps": 2, "batch": 4, "annotator": annotator}
    painted, status = anonymizers.create("ia-hed", **settings)(images, masks, seeds)
    np.testing.assert_array_equal(painted, every("ia-hed")(images, masks, seeds)[0])
    assert status == [OK] * 3
    stranger = np.roll(images[:1], 5, axis=1)
    blank, status = anonymizers.create("ia-hed", **settings)(stranger, masks[:1], seeds[:1])
    assert status == [ERROR] and not blank.any(), "a picture without a known map is never painted freely"
