"""Photos at their own size: pictures of the generator's size go in, photos of their own size come out.

Facts of the public code of Instance Augmentation, pipeline/image_generator.py: a mask is dilated by an ellipse of 13 px
and inpainted above 128 after resizing; a photo with one mask goes through whole; of several, each box grows by 0.9 of
its width and height a side, and is blended with 5 px; control maps are those of the resized picture.
"""

import hashlib
import io
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from anonlib import config, data
from anonlib.anonymizers import dataset, originals, own_size, whole_photo
from anonlib.anonymizers.contract import ERROR, NO_FACE, OK
from anonlib.anonymizers.multi_face import find_people, project_mask
from anonlib.anonymizers.photo_folder import anonymize_folder, anonymize_photos
from anonlib.assets.models import ModelRef, ModelSpec
from anonlib.config.errors import AnonlibError
from anonlib.controls import degrade
from anonlib.data.heads import HEADS
from anonlib.data.source_photo import SourcePhoto, source_photos
from anonlib.engine import store
from anonlib.faces import SIZE, Face, align, alignment_matrix, detect, warp
from anonlib.faces.body import body_mask, nearest_faces

SIDE = 256
OVAL = cv2.ellipse(np.zeros((SIZE, SIZE), np.uint8), (64, 78), (28, 38), 0, 0, 360, 255, -1)  # of a face in its frame


@pytest.fixture(scope="module")
def heads() -> list[np.ndarray]:
    """Rendered heads of nobody, (224, 224, 3) each."""
    return [np.asarray(Image.open(file).convert("RGB")) for file in sorted(HEADS.rglob("*.*"))]


def enlarged(head: np.ndarray, side: int) -> np.ndarray:
    return cv2.resize(head, (side, side), interpolation=cv2.INTER_CUBIC)


@pytest.fixture(scope="module")
def portrait(heads) -> np.ndarray:
    """One person in a photo of 677 x 1013 px."""
    return cv2.copyMakeBorder(enlarged(heads[0], 677), 0, 336, 0, 0, cv2.BORDER_REPLICATE)


@pytest.fixture(scope="module")
def pair(heads) -> np.ndarray:
    """Two people at two distances in a photo of 1013 x 677 px."""
    photo = np.full((677, 1013, 3), 120, np.uint8)
    photo[377:677, 40:340], photo[100:677, 436:1013] = enlarged(heads[0], 300), enlarged(heads[6], 577)
    return photo


def settings(bundle: str, **more) -> config.Profile:
    own = {"generator.bundle": bundle, "generator.steps": 1, "generator.size": SIDE, "generator.batch": 1}
    return config.load("smoke", own | {f"generator.{key}": value for key, value in more.items()})


class Generator:
    """In the place of an anonymizer: notes what goes in, and returns the negative, or what a function makes of it.

    A negative shows where each pixel came from. It is an original in disguise, so its correlation is not looked at.
    """

    def __init__(self, monkeypatch, change=lambda picture: 255 - picture, status=lambda number: OK):
        self.change, self.status, self.pictures, self.holes, self.options = change, status, [], [], []
        monkeypatch.setattr(own_size.registry, "create", self.create)
        monkeypatch.setattr(originals, "_correlate", lambda *person: False)

    def create(self, name, **options):
        self.options.append(options)
        return self

    def __call__(self, images, masks, seeds):
        words = [self.status(len(self.pictures) + number) for number in range(len(images))]
        self.pictures += list(images)
        self.holes += list(masks)
        return np.stack([self.change(image) for image in images]), words


def run(photos: list[np.ndarray], name: str = "ia-none", **more):
    options = {"size": SIDE, "compiled": True, "bundle": ModelSpec(ModelRef("unused"))} | more
    return whole_photo.anonymize_whole(find_people(photos), name, options, {})


def test_the_generators_picture_of_the_usual_photos_is_that_of_the_public_code():
    """Long side 768, the other side in multiples: 3:2, 4:3 and squares exactly, others within 32 px."""
    for (height, width), expected in {
        (250, 250): (768, 768), (3000, 4000): (576, 768), (6000, 4000): (768, 512), (218, 178): (768, 640),
    }.items():  # fmt: skip
        assert own_size.picture_shape(height, width, 768) == expected
    assert own_size.picture_shape(20, 3000, 768) == (64, 768)


def test_a_single_person_goes_through_whole_and_comes_out_at_the_photos_size(portrait, heads, monkeypatch):
    generator = Generator(monkeypatch)
    tiny = cv2.resize(heads[4], (90, 81), interpolation=cv2.INTER_AREA)
    scenes = run([portrait, tiny, np.rot90(portrait[:, ::-1])])
    assert [picture.shape for picture in generator.pictures[:2]] == [(256, 192, 3), (256, 256, 3)]
    for photo, scene in zip((portrait, tiny), scenes, strict=False):
        assert (scene.status, scene.faces, scene.image.shape) == (OK, (OK,), photo.shape)
        assert np.abs(255 - scene.image.astype(int) - photo).mean() < 4, "all of it is the generator's, no blend"
    assert scenes[2].image.shape == (677, 1013, 3)
    hole = cv2.resize(generator.holes[0], portrait.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    face = detect(portrait)[0]
    assert set(np.unique(generator.holes[0])) == {0, 255}
    x, y, width, height = face.box.astype(int)
    assert (hole[project_mask(OVAL, face, portrait.shape[1::-1])] > 0).all(), "the face"
    assert (hole[y - height // 12, x + width // 4 : x + 3 * width // 4] > 0).all(), "the hair"
    assert (hole[660, 40:637] > 0).all() and not hole[:40].any(), "the shoulders, not the sky"


def test_of_several_people_each_box_grows_and_what_is_away_from_them_stays(pair, monkeypatch):
    generator = Generator(monkeypatch)
    (scene,) = run([pair])
    assert scene.status == OK and scene.faces == (OK, OK) and scene.image.shape == pair.shape
    detected = find_people([pair])
    area, boxes = np.zeros(pair.shape[:2], bool), []
    owners = nearest_faces(pair.shape[:2], detected.faces[0])
    for index, (face, mask) in enumerate(zip(detected.faces[0], detected.masks, strict=True)):
        person = (body_mask(pair, face) > 0) & (owners == index) | project_mask(mask, face, pair.shape[1::-1])
        area |= person
        boxes.append(cv2.boundingRect(person.astype(np.uint8)))
    changed = (scene.image != pair).any(2)
    side = 2 * round(2 * 2.5 * 1013 / SIDE) + 1  # twice 5 px of the generator's picture, half on each side
    reach = cv2.dilate(area.astype(np.uint8), np.ones((side, side))) > 0
    assert not changed[~reach].any() and changed[area].mean() > 0.98
    assert changed[:90, :300].sum() == 0, "the farther person's surroundings"
    assert [picture.shape[:2] for picture in generator.pictures] == [
        own_size.picture_shape(
            min(677, y + height + int(0.9 * height)) - max(0, y - int(0.9 * height)),
            min(1013, x + width + int(0.9 * width)) - max(0, x - int(0.9 * width)),
            SIDE,
        )
        for x, y, width, height in boxes
    ]


def test_the_mask_is_dilated_by_13_px_of_the_photo_or_of_the_generators_picture(heads, monkeypatch):
    """As published in a photo smaller than the generator's picture, and never less in a larger one."""
    generator = Generator(monkeypatch)
    photos = [enlarged(heads[6], side) for side in (SIDE, 128, 1024)]
    run(photos)
    for photo, hole in zip(photos, generator.holes, strict=True):
        face, mask = detect(photo)[0], find_people([photo]).masks[0]
        person = body_mask(photo, face) | np.where(project_mask(mask, face, photo.shape[1::-1]), 255, 0).astype(
            np.uint8
        )
        own = cv2.resize(person, (SIDE, SIDE), interpolation=cv2.INTER_AREA) > 128
        column = own[:, SIDE // 2]
        above, top = np.flatnonzero(hole[:, SIDE // 2])[0], np.flatnonzero(column)[0]
        expected = 6 * max(1, SIDE / photo.shape[0])
        assert abs((top - above) - expected) <= 1 + 0.2 * expected


def test_several_are_inpainted_far_to_near_by_their_depth_or_size(pair, monkeypatch):
    generator = Generator(monkeypatch)
    run([pair])
    small, large = (picture.shape for picture in generator.pictures)
    ramp = np.zeros((1, 192, 256, 3), np.uint8) + np.arange(256, dtype=np.uint8)[::-1, None]  # the left is near
    monkeypatch.setattr(own_size, "annotate", lambda name, images, network: (ramp, np.ones(1, bool)))
    bundle = ModelSpec(ModelRef("unused"), annotators=(("depth", ModelRef("unused")),))
    run([pair], "ia-depth", bundle=bundle)
    assert [picture.shape for picture in generator.pictures[2:]] == [large, small]


def test_a_person_who_fails_is_black_and_in_doubt_nothing_comes_out(pair, portrait, monkeypatch):
    Generator(monkeypatch, status=lambda number: (OK, ERROR)[number])
    (scene,) = run([pair])
    assert scene.status == OK and scene.faces == (OK, ERROR)
    face = find_people([pair]).faces[0][1]
    x, y, width, height = face.box.astype(int)
    assert not scene.image[y : y + height, x : x + width].any(), "never the original"
    Generator(monkeypatch, change=lambda picture: picture)
    for photo in (pair, portrait):
        (scene,) = run([photo])
        assert scene.status == ERROR and not scene.image.any(), "an original passes"
    Generator(monkeypatch)
    monkeypatch.setattr(own_size, "body_mask", lambda photo, face: np.zeros(photo.shape[:2], np.uint8))
    (scene,) = run([portrait])
    assert scene.faces == (ERROR,), "the mask misses the face"
    assert not align(scene.image, detect(portrait)[0].points).any()
    (scene,) = run([np.full((90, 130, 3), 110, np.uint8)])
    assert scene.status == NO_FACE and not scene.image.any()


def test_a_face_outside_of_the_mask_stops_the_photo(portrait, heads, monkeypatch):
    """A generator that draws somebody where nobody was, or a face that was overlooked at first."""

    def drawing(picture: np.ndarray) -> np.ndarray:
        drawn = 255 - picture
        drawn[:96, :96] = cv2.resize(heads[9], (96, 96), interpolation=cv2.INTER_AREA)
        return drawn

    wide = cv2.copyMakeBorder(portrait, 0, 0, 900, 0, cv2.BORDER_REPLICATE)
    for change, expected in ((drawing, ERROR), (lambda picture: 255 - picture, OK)):
        Generator(monkeypatch, change)
        (scene,) = run([wide])
        assert scene.status == expected and scene.image.any() == (expected == OK)


def test_a_body_mask_misses_no_face_and_is_empty_where_there_is_none(heads, portrait):
    for head in heads[::5]:
        face = detect(head)[0]
        assert (body_mask(head, face)[project_mask(OVAL, face, head.shape[1::-1])] > 0).mean() > 0.95
    face, wide = detect(portrait)[0], cv2.copyMakeBorder(portrait, 0, 0, 0, 900, cv2.BORDER_REPLICATE)
    away = Face(face.points / 2 + np.float32([1000, 100]), face.box / 2 + np.float32([1000, 100, 0, 0]), 0.9)
    assert not body_mask(wide, away).any()
    turn = cv2.getRotationMatrix2D((338, 338), 30, 1)
    turned = cv2.warpAffine(portrait, turn, portrait.shape[1::-1], borderMode=cv2.BORDER_REPLICATE)
    back = cv2.warpAffine(body_mask(turned, detect(turned)[0]), turn, portrait.shape[1::-1], flags=cv2.WARP_INVERSE_MAP)
    assert (back[:600, 100:577] > 127)[body_mask(portrait, face)[:600, 100:577] > 0].mean() > 0.93, (
        "of a leaning head too"
    )


def test_a_map_needs_a_network_where_the_packages_own_needs_an_aligned_face(portrait, tiny_bundle):
    with pytest.raises(AnonlibError, match=r"no network draws depth in photos of 256 px: name one in generator.annot"):
        anonymize_photos([portrait], "ia-depth", settings(tiny_bundle))


def test_canny_s_map_is_that_of_the_generators_picture(portrait, tiny_bundle, monkeypatch):
    """As many pixels are lit as cv2.Canny lights at 768 px; of an enlarged map of 128 px, ten times as many."""
    from anonlib.diffusion import inpainting

    class Stop(Exception):
        pass

    seen = []

    def prepare(self, request):
        seen.append(request)
        raise Stop

    monkeypatch.setattr(inpainting.Inpainter, "prepare", prepare)
    anonymize_photos([portrait], "ia-canny", settings(tiny_bundle, size=768))
    request = seen[0]
    assert request.images.shape == (1, 3, 768, 512) == request.controls["canny"].shape
    picture = (request.images[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    expected = cv2.Canny(picture, 60, 140) > 0
    lit = request.controls["canny"][0, 0].numpy()
    np.testing.assert_array_equal(lit > 0.5, expected)
    assert set(np.unique(lit)) == {0, 1} and request.masks.unique().tolist() == [0, 1]
    frame = align(portrait, detect(portrait)[0].points)
    coarse = cv2.resize(cv2.Canny(frame, 60, 140), (768, 768), interpolation=cv2.INTER_CUBIC)
    assert (coarse > 0).mean() > 3 * expected.mean()


def test_a_real_pipeline_draws_detail_that_a_frame_of_128_px_cannot_hold(heads, tiny_bundle):
    """What repeats within less than two of the frame's pixels is lost there: it is compared in a frame of 512 px."""
    photo = enlarged(heads[6], 1024)
    face, fine = detect(photo)[0], {}
    frequency = np.fft.fftfreq(192)
    beyond = np.maximum(np.abs(frequency[:, None]), np.abs(frequency)) > 0.5 * SIZE / 512
    for size in (512, SIZE):
        (scene,) = anonymize_photos([photo], "ia-none", settings(tiny_bundle, size=size))
        assert scene.status == OK and scene.image.shape == photo.shape
        frame = warp(scene.image, alignment_matrix(face.points) * 4, 512)[200:392, 160:352].mean(2)
        spectrum = np.abs(np.fft.fft2((frame - frame.mean()) * np.hanning(192)[:, None] * np.hanning(192))) ** 2
        fine[size] = spectrum[beyond].sum() / spectrum.sum()
    assert fine[512] > 5 * fine[SIZE], fine


def test_a_folder_comes_out_at_its_own_size(portrait, pair, tiny_bundle, tmp_path, monkeypatch):
    Generator(monkeypatch)
    (tmp_path / "in").mkdir()
    for name, photo in (("a", portrait), ("b", pair)):
        Image.fromarray(photo).save(tmp_path / "in" / f"{name}.png")
    table = anonymize_folder(tmp_path / "in", tmp_path / "out", "ia-none", settings(tiny_bundle))
    assert table.status.tolist() == [OK, OK] and table.faces.tolist() == [1, 2] and not table.black.any()
    (alone,) = anonymize_photos([pair], "ia-none", settings(tiny_bundle))
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out" / "b.png")), alone.image)
    assert Image.open(tmp_path / "out" / "a.png").size == (677, 1013)


def test_a_photo_of_too_many_pixels_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    from anonlib.data import photos

    Image.new("RGB", (300, 200)).save(tmp_path / "large.png")
    assert photos.read_photo(tmp_path / "large.png").shape == (200, 300, 3)
    assert photos.photo_pixels(tmp_path / "large.png") == 60_000
    monkeypatch.setattr(photos, "MOST_PIXELS", 59_999)
    with pytest.raises(ValueError, match="300 x 200 pixels, at most"):
        photos.read_rgb((tmp_path / "large.png").read_bytes())
    assert photos.read_photo(tmp_path / "large.png") is None


@pytest.fixture
def people(tmp_path, heads) -> Path:
    """Six people with two photos each, of several sizes."""
    for number in range(12):
        folder = tmp_path / "people" / f"p{number // 2}"
        folder.mkdir(parents=True, exist_ok=True)
        photo = enlarged(heads[number], 300)
        if number == 3:  # a second person, who is smaller
            photo = cv2.copyMakeBorder(photo, 0, 0, 0, 200, cv2.BORDER_CONSTANT, value=(120, 120, 120))
            photo[100:300, 300:500] = enlarged(heads[18], 200)
        Image.fromarray(photo).save(folder / f"{number}.png")
    return tmp_path / "people"


def test_a_data_set_is_anonymized_at_its_own_size_and_attackers_get_the_aligned_crop(people, tiny_bundle, own_cache):
    faces = data.load(people)
    profile = settings(tiny_bundle)
    rows = np.array([np.flatnonzero(faces.table["faces"] == count)[0] for count in (2, 1)])
    result = dataset.anonymize(faces, rows, ("ia-none",), profile)["ia-none"]
    assert result.status.tolist() == [OK] * 2 and result.images.shape == (2, SIZE, SIZE, 3)
    photo = np.asarray(Image.open(people / faces.table["file"][rows[1]]))
    (scene,) = anonymize_photos([photo], "ia-none", profile)
    np.testing.assert_array_equal(result.images[1], align(scene.image, detect(photo)[0].points))
    copy = people.with_name("moved")
    people.rename(copy)
    moved = data.load(copy)
    photos = [source_photos(part, rows) for part in (faces, moved)]
    assert store.digest(photos[0]) == store.digest(photos[1]), "by content, not by place"
    with pytest.raises(AnonlibError, match="cannot be read any more"):
        photos[0][0].pixels()
    pickle.loads(pickle.dumps(photos[1][0])).pixels()
    (copy / photos[1][0].file).write_bytes(b"another")
    with pytest.raises(AnonlibError, match="has changed since"):
        photos[1][0].pixels()


def test_a_face_that_is_not_where_it_was_is_an_error(portrait, monkeypatch):
    Generator(monkeypatch)
    image = align(portrait, detect(portrait)[0].points)
    stream = io.BytesIO()
    Image.fromarray(portrait).save(stream, "PNG")
    photo = SourcePhoto(hashlib.sha256(stream.getvalue()).hexdigest(), "a", lambda file: stream.getvalue())
    options = {"size": SIDE, "compiled": False, "batch": 1, "bundle": ModelSpec(ModelRef("unused"))}
    masks = np.full((2, SIZE, SIZE), 255, np.uint8)
    images = np.stack([image, np.roll(image, 20, axis=1)])
    result, status = whole_photo.anonymize_rows([photo, photo], images, masks, [0, 0], "ia-none", options, {})
    assert status == [OK, ERROR] and result[0].any() and not result[1].any()


def test_a_set_of_aligned_faces_goes_in_at_the_generators_size(photos, monkeypatch):
    generator = Generator(monkeypatch)
    options = {"size": SIDE, "compiled": True, "batch": 4, "bundle": ModelSpec(ModelRef("unused"))}
    masks = find_people(list(photos)).masks[: len(photos)]
    result, status = whole_photo.anonymize_rows(None, photos, masks, [0] * 3, "ia-none", options, {})
    assert [picture.shape for picture in generator.pictures] == [(SIDE, SIDE, 3)] * 3
    assert generator.options[0]["shape"] == (SIDE, SIDE) and generator.options[0]["compiled"]
    assert status == [OK] * 3 and np.abs(255 - result.astype(int) - photos).mean() < 4


def test_photos_wait_for_memory():
    sizes = [side * 4000 for side in (3000, 4000, 2000, 9000)]
    groups = list(whole_photo.in_memory(range(4), sizes.__getitem__))
    assert groups == [[0, 1], [2], [3]], "28, 8 and 36 million pixels"


def test_lengths_of_degraded_maps_are_those_of_the_aligned_frame(portrait):
    """A blurred map of a photo, aligned, is the blurred map of the aligned face."""
    rng = np.random.default_rng(0)
    points = detect(portrait)[0].points
    control = rng.integers(0, 256, portrait.shape[:2]).astype(np.uint8)[..., None].repeat(3, 2)
    control = cv2.GaussianBlur(control, (0, 0), 6) * 4
    frame = align(control, points)
    for kwargs in ({"blur": 3.0}, {"pixels": 16}):
        large = align(degrade.degrade_control(control[None], portrait[None], **kwargs)[0], points)
        small = degrade.degrade_control(frame[None], align(portrait, points)[None], **kwargs)[0]
        inner = slice(24, 104)
        assert np.corrcoef(large[inner, inner, 0].ravel(), small[inner, inner, 0].ravel())[0, 1] > 0.8
    hidden = degrade.region(portrait[None], "mouth")[0]
    expected = degrade.region(align(portrait, points)[None], "mouth")[0]
    seen = align(np.where(hidden, 255, 0).astype(np.uint8)[..., None].repeat(3, 2), points)[..., 0] > 127
    assert expected.any() and (seen ^ expected).sum() < 0.1 * expected.sum()
    assert not degrade.region(np.full_like(portrait, 127)[None], "mouth").any()
