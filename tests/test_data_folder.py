import io

import cv2
import numpy as np
import pytest
from PIL import Image

import anonlib.data
from anonlib.config.errors import AnonlibError
from anonlib.data import folder, photos, synthetic

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture(scope="module")
def portraits() -> list[np.ndarray]:
    """Twelve embedded faces of nobody, each another person's, (128, 128, 3) uint8 RGB."""
    if not synthetic.EMBEDDED.is_file():
        pytest.skip("the embedded faces are not built yet: make data")
    encoded, _, table = synthetic._read_pack(synthetic.EMBEDDED)
    rows = table.index[table["replicate"] == 0][:12]
    return [cv2.imdecode(np.frombuffer(encoded[row], np.uint8), cv2.IMREAD_COLOR_RGB) for row in rows]


@pytest.fixture
def album(tmp_path, portraits):
    """Four people of two photos each: album/p0/0.png ... album/p3/1.png."""
    for k in range(8):
        save(tmp_path / "album" / f"p{k // 2}" / f"{k % 2}.png", portraits[k])
    return tmp_path / "album"


def save(path, rgb: np.ndarray, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rgb).save(path, **options)


def reasons(faces) -> dict[str, str]:
    return dict(zip(faces.skipped["file"], faces.skipped["reason"], strict=True))


def nearest(image: np.ndarray, others: list[np.ndarray]) -> int:
    return int(np.argmin([np.abs(image.astype(int) - other).mean() for other in others]))


def face_covered(masks: np.ndarray) -> np.ndarray:
    """Share of the inner face (an ellipse around the template's points) that each mask covers, (N,) in [0, 1]."""
    y, x = np.mgrid[:128, :128]
    inner = ((x - 64) / 24) ** 2 + ((y - 80) / 30) ** 2 < 1
    return (masks[:, inner] == 255).mean(axis=1)


def refusal(path) -> str:
    with pytest.raises(AnonlibError) as caught:
        anonlib.data.load(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_good_folder_is_taken_whole(album, portraits):
    faces = anonlib.data.load(str(album))
    assert faces.table["file"].tolist() == [f"p{k // 2}/{k % 2}.png" for k in range(8)]
    assert sorted(set(faces.identity)) == ["p0", "p1", "p2", "p3"]
    assert sorted(set(faces.split)) == ["test", "train"]
    assert not faces.shareable and faces.skipped.empty and faces.name == "album"
    # The embedded faces are aligned already: aligned again, each still lies over itself better than over any other.
    assert [nearest(image, portraits) for image in faces.images] == list(range(8))
    assert (face_covered(faces.masks) > 0.9).all()
    assert (faces.table["faces"] >= 1).all()


def test_every_unusable_image_is_named_and_the_run_goes_on(album, portraits):
    whole = (album / "p0/0.png").read_bytes()
    save(album / "p0/2.jpg", cv2.resize(portraits[8], (256, 256)), quality=95)
    jpeg = (album / "p0/2.jpg").read_bytes()
    (album / "p0/2.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    (album / "p1/2.png").write_bytes(whole[: len(whole) // 2])
    (album / "p1/3.webp").write_bytes(b"this is no image")
    (album / "p1/4.bmp").write_bytes(b"")
    save(album / "p2/2.png", np.full((200, 200, 3), 120, np.uint8))
    small = np.full((512, 512, 3), 120, np.uint8)
    small[240:272, 240:272] = cv2.resize(portraits[9], (32, 32), interpolation=cv2.INTER_AREA)
    save(album / "p3/2.png", small)
    (album / "p3/3.jpg").symlink_to(album / "nowhere.jpg")
    (album / "p3/notes.txt").write_text("not an image")
    (album / "p3/.hidden.jpg").write_text("not looked at")
    assert len(anonlib.data.fingerprint(album)) == 64
    faces = anonlib.data.load(album)
    assert len(faces) == 8
    said = reasons(faces)
    assert set(said) == {"p0/2.jpg", "p1/2.png", "p1/3.webp", "p1/4.bmp", "p2/2.png", "p3/2.png", "p3/3.jpg"}
    for file in ("p0/2.jpg", "p1/2.png", "p1/3.webp", "p1/4.bmp", "p3/3.jpg"):
        assert said[file].startswith("unreadable: ")
    assert said["p2/2.png"] == "no face found"
    assert said["p3/2.png"].startswith("face too small")


def test_people_with_one_photo_are_left_out_and_named(album, portraits):
    save(album / "lonely/0.png", portraits[8])
    save(album / "spoilt/0.png", portraits[9])
    (album / "spoilt/1.png").write_bytes(b"rubbish")
    faces = anonlib.data.load(album)
    assert sorted(set(faces.identity)) == ["p0", "p1", "p2", "p3"]
    assert reasons(faces)["lonely/0.png"] == "the only photo of this person"
    assert reasons(faces)["spoilt/0.png"] == "the only usable photo of this person"


def test_the_same_photo_of_one_person_counts_once(album):
    (album / "p0/copy.png").write_bytes((album / "p0/0.png").read_bytes())
    with Image.open(album / "p1/0.png") as image:
        image.save(album / "p1/saved-again.jpg", quality=80)
    faces = anonlib.data.load(album)
    assert len(faces) == 8
    assert reasons(faces) == {
        "p0/copy.png": "the same photo as p0/0.png",
        "p1/saved-again.jpg": "the same photo as p1/0.png",
    }


def test_one_photo_under_two_people_is_refused(album):
    (album / "p3/2.png").write_bytes((album / "p0/0.png").read_bytes())
    assert "p0/0.png, p3/2.png" in refusal(album)


def test_one_photo_saved_again_under_two_people_leaks_or_is_warned_of(album):
    before = anonlib.data.load(album)
    split = dict(zip(before.identity, before.split, strict=True))
    trained = next(name for name in split if split[name] == "train")
    first, second = [name for name in split if split[name] == "test"]
    with Image.open(album / first / "0.png") as image:
        image.save(album / trained / "leak.jpg", quality=80)
    assert f"{first}/0.png (test)" in refusal(album) and f"{trained}/leak.jpg (train)" in refusal(album)
    (album / trained / "leak.jpg").rename(album / second / "leak.jpg")
    with pytest.warns(UserWarning, match="leak.jpg"):
        assert len(anonlib.data.load(album)) == 9


def test_missing_empty_and_lonely_folders_are_one_line_each(tmp_path, portraits):
    assert "unknown data set" in refusal(tmp_path / "absent") and "synthetic" in refusal(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    assert "has no images" in refusal(tmp_path / "empty")
    (tmp_path / "file.txt").write_text("")
    assert "a file, not a folder" in refusal(tmp_path / "file.txt")
    save(tmp_path / "loose/0.png", portraits[0])
    assert "not in one folder per person" in refusal(tmp_path / "loose")
    save(tmp_path / "one/ann/0.png", portraits[0])
    save(tmp_path / "one/ann/1.png", portraits[1])
    assert "one person only" in refusal(tmp_path / "one")
    for k in range(3):
        save(tmp_path / f"singles/p{k}/0.png", portraits[k])
    assert "2 usable photos" in refusal(tmp_path / "singles") and "p0/0.png" in refusal(tmp_path / "singles")
    for k in range(4):
        save(tmp_path / f"blank/p{k // 2}/{k}.png", np.full((128, 128, 3), 40 * k, np.uint8))
    assert "no usable face in 4 images (the first: p0/0.png: no face found)" in refusal(tmp_path / "blank")
    save(tmp_path / "one/bob/0.png", portraits[2])
    (tmp_path / "one/bob/1.png").write_bytes(b"rubbish")
    assert "1 left" in refusal(tmp_path / "one")


def test_a_photo_that_would_stay_unmasked_is_left_out_and_named(album, monkeypatch):
    whole = photos.faces.person_mask

    def blind_to_the_last(images):
        masks = whole(images)
        masks[-1] = 0
        return masks

    monkeypatch.setattr(photos.faces, "person_mask", blind_to_the_last)
    faces = anonlib.data.load(album)
    assert reasons(faces) == {
        "p3/1.png": "no person seen by the parser",
        "p3/0.png": "the only usable photo of this person",
    }
    assert len(faces) == 6 and faces.masks.any(axis=(1, 2)).all()


def test_a_larger_bystander_wins_and_several_faces_are_noted(album, portraits):
    crowd = np.full((400, 600, 3), 128, np.uint8)
    crowd[60:340, 20:300] = cv2.resize(portraits[8], (280, 280))
    crowd[150:270, 400:520] = cv2.resize(portraits[9], (120, 120))
    save(album / "p0/crowd.png", crowd)
    faces = anonlib.data.load(album)
    row = faces.table["file"].tolist().index("p0/crowd.png")
    assert faces.table["faces"][row] == 2
    assert nearest(faces.images[row], portraits) == 8


def test_a_part_takes_the_people_asked_for(album):
    faces = anonlib.data.load(album, people=3, images=2, seed=1)
    assert len(set(faces.identity)) == 3 and set(faces.split) == {"test"}
    faces = anonlib.data.load(album, people={"train": 2, "test": 2})
    assert {name: int((faces.split == name).sum()) for name in ("train", "test")} == {"train": 4, "test": 4}


def test_what_was_read_is_kept_until_a_photo_changes(album, portraits, monkeypatch):
    faces = anonlib.data.load(album)
    monkeypatch.setattr(folder, "from_photos", lambda *told: pytest.fail("read again"))
    again = anonlib.data.load(album)
    assert again.content_hash == faces.content_hash and again.shareable == faces.shareable
    monkeypatch.undo()
    save(album / "p0/0.png", portraits[8])
    changed = anonlib.data.load(album)
    assert nearest(changed.images[changed.table["file"].tolist().index("p0/0.png")], portraits) == 8


def test_the_fingerprint_sees_a_changed_photo_and_a_renamed_person(album):
    seen = [anonlib.data.fingerprint(album)]
    (album / "p0").rename(album / "q0")
    seen.append(anonlib.data.fingerprint(album))
    (album / "p1/1.png").write_bytes(b"other")
    seen.append(anonlib.data.fingerprint(album))
    assert len(set(seen)) == 3 and anonlib.data.fingerprint(album) == seen[2]


def encoded(image: Image.Image, form: str, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


@pytest.mark.parametrize("form", ["png", "bmp", "tiff", "jpeg", "webp"])
def test_every_format_is_read(form):
    picture = cv2.resize(np.random.default_rng(0).integers(0, 256, (6, 5, 3), dtype=np.uint8), (60, 72))
    read = photos.read_rgb(encoded(Image.fromarray(picture), form))
    assert read.shape == (72, 60, 3) and read.dtype == np.uint8
    assert np.abs(read.astype(int) - picture).mean() < (1e-9 if form in ("png", "bmp", "tiff") else 8)


def test_grey_deep_and_transparent_images_become_rgb():
    ramp = np.tile(np.arange(256, dtype=np.uint8), (16, 1))
    assert (photos.read_rgb(encoded(Image.fromarray(ramp), "png")) == ramp[..., None]).all()
    deep = Image.fromarray(ramp.astype(np.uint16) * 257)
    assert (photos.read_rgb(encoded(deep, "png")) == ramp[..., None]).all()
    clear = np.zeros((4, 4, 4), np.uint8)
    clear[:2] = [10, 20, 30, 255]
    read = photos.read_rgb(encoded(Image.fromarray(clear), "png"))
    assert (read[:2] == [10, 20, 30]).all() and (read[2:] == 255).all()
    palette = Image.fromarray(ramp).convert("P")
    assert photos.read_rgb(encoded(palette, "png")).shape == (16, 256, 3)


def test_exif_orientation_is_respected():
    picture = Image.fromarray(np.repeat([[[250, 0, 0]], [[0, 0, 250]]], 40, axis=0).repeat(60, axis=1).astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it rotated by 90 degrees clockwise
    turned = photos.read_rgb(encoded(picture, "jpeg", exif=exif))
    assert turned.shape == (60, 80, 3)
    assert turned[30, 70, 0] > 200 and turned[30, 10, 2] > 200
