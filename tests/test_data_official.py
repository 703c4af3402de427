"""CelebA, CelebA-HQ and LFW in the layouts of their authors, written small from faces that a network drew."""

import shutil

import cv2
import numpy as np
import pytest
from PIL import Image

import anonlib.data
from anonlib.config.errors import AnonlibError
from anonlib.data import archive, celeba, lfw, photos, splits
from anonlib.data.faceset import Part
from tests.test_data_folder import nearest, portraits, refusal, save  # noqa: F401
from tools.bench.reading import write_photo

pytestmark = pytest.mark.usefixtures("own_cache")

PEOPLE = {1: "2880", 2: "7", 3: "2880", 4: "15", 5: "7", 6: "15", 7: "9000", 8: "9000"}  # photo -> CelebA's number
PARTITION = {"2880": 0, "7": 1, "15": 2, "9000": 2}
SPLIT = {"celeba-2880": "train", "celeba-7": "validation", "celeba-15": "test", "celeba-9000": "test"}


@pytest.fixture
def celeba_copy(tmp_path, portraits):  # noqa: F811
    """Eight photos of four people as CelebA's authors arrange them; the lists are not in the order of the files."""
    root = tmp_path / "CelebA"
    (root / "img_align_celeba").mkdir(parents=True)
    for number, image in zip(PEOPLE, portraits, strict=False):
        write_photo(image, root / f"img_align_celeba/{number:06d}.jpg")
    lines = [f"{number:06d}.jpg {person}" for number, person in PEOPLE.items()]
    (root / "identity_CelebA.txt").write_text("\n".join(reversed(lines)) + "\n")
    parts = [f"{number:06d}.jpg {PARTITION[person]}" for number, person in PEOPLE.items()]
    (root / "list_eval_partition.txt").write_text("\n".join(parts) + "\n")
    return root


@pytest.fixture
def hq_copy(tmp_path, celeba_copy):
    """The eight photos as CelebAMask-HQ arranges them: photo k of CelebA-HQ is photo 8 - k of CelebA."""
    root = tmp_path / "CelebAMask-HQ"
    (root / "CelebA-HQ-img").mkdir(parents=True)
    rows = ["idx         orig_idx    orig_file"]
    for k in range(8):
        shutil.copy(celeba_copy / f"img_align_celeba/{8 - k:06d}.jpg", root / f"CelebA-HQ-img/{k}.jpg")
        rows.append(f"{k:<12}{7 - k:<12}{8 - k:06d}.jpg")
    (root / "CelebA-HQ-to-CelebA-mapping.txt").write_text("\n".join(rows) + "\n")
    for name in ("identity_CelebA.txt", "list_eval_partition.txt"):
        shutil.copy(celeba_copy / name, root / name)
    return root


@pytest.fixture
def lfw_copy(tmp_path, portraits):  # noqa: F811
    """Eight photos of four people as LFW's authors arrange them, with a list of all people in two folds."""
    root = tmp_path / "faces"
    for k in range(8):
        person = ("Ann_Lee", "Bo_Day", "Cy_Fox", "Di_Ray")[k // 2]
        (root / "lfw" / person).mkdir(parents=True, exist_ok=True)
        write_photo(portraits[k], root / "lfw" / person / f"{person}_{k % 2 + 1:04d}.jpg")
    (root / "people.txt").write_text("2\n2\nAnn_Lee\t2\nBo_Day\t2\n2\nCy_Fox\t2\nDi_Ray\t2\n")
    return root


def split_of(faces) -> dict[str, str]:
    return dict(zip(faces.identity, faces.split, strict=True))


def test_celeba_has_the_listed_people_in_the_official_splits(celeba_copy, portraits):  # noqa: F811
    faces = anonlib.data.load(celeba_copy)
    assert faces.name == "celeba" and not faces.shareable and faces.skipped.empty
    assert faces.table["file"].tolist() == [f"{number:06d}.jpg" for number in PEOPLE]
    assert faces.identity.tolist() == [f"celeba-{person}" for person in PEOPLE.values()]
    assert split_of(faces) == SPLIT
    assert [nearest(image, portraits) for image in faces.images] == list(range(8))
    assert set(faces.table["licence"]) == {"CelebA: non-commercial research only"}


@pytest.mark.parametrize("form", ["csv", "nested", "sorted into folders", "the folder of photos"])
def test_celeba_is_read_as_its_copies_are_packed(celeba_copy, form):
    expected, place = anonlib.data.load(celeba_copy), celeba_copy
    if form == "csv":
        lines = (celeba_copy / "list_eval_partition.txt").read_text().replace(" ", ",")
        (celeba_copy / "list_eval_partition.csv").write_text("image_id,partition\n" + lines)
        (celeba_copy / "list_eval_partition.txt").unlink()
    elif form == "nested":
        (celeba_copy / "img_align_celeba").rename(celeba_copy / "inner")
        (celeba_copy / "img_align_celeba").mkdir()
        (celeba_copy / "inner").rename(celeba_copy / "img_align_celeba/img_align_celeba")
    elif form == "sorted into folders":
        for name, folder in (("identity_CelebA.txt", "Anno"), ("list_eval_partition.txt", "Eval"),
                             ("img_align_celeba", "Img")):  # fmt: skip
            (celeba_copy / folder).mkdir()
            (celeba_copy / name).rename(celeba_copy / folder / name)
    else:
        place = celeba_copy / "img_align_celeba"
    faces = anonlib.data.load(place)
    assert faces.content_hash == expected.content_hash
    if form != "csv":  # another list is another copy
        assert anonlib.data.fingerprint(place) == anonlib.data.fingerprint(celeba_copy)


def test_celeba_without_a_partition_is_split_by_seed(celeba_copy):
    (celeba_copy / "list_eval_partition.txt").unlink()
    faces = anonlib.data.load(celeba_copy, people={"train": 2, "test": 2})
    people = faces.table.drop_duplicates("identity")["split"].value_counts().to_dict()
    assert people == {"train": 2, "test": 2}


def test_a_part_of_celeba_keeps_the_official_splits(celeba_copy):
    faces = anonlib.data.load(celeba_copy, people={"train": 1, "validation": 0, "test": 1})
    assert len(faces) == 4 and set(split_of(faces).items()) <= set(SPLIT.items())
    assert sorted(set(faces.split)) == ["test", "train"]


def test_landmarks_say_which_face_is_meant(celeba_copy, portraits):  # noqa: F811
    crowd = np.full((400, 600, 3), 128, np.uint8)
    crowd[60:340, 20:300] = cv2.resize(portraits[8], (280, 280))
    crowd[150:270, 400:520] = cv2.resize(portraits[0], (120, 120))
    Image.fromarray(crowd).save(celeba_copy / "img_align_celeba/000001.jpg", quality=95)
    assert nearest(anonlib.data.load(celeba_copy).images[0], portraits) == 8
    small = photos.faces.FRAME_POINTS / 128 * 120 + [400, 150]
    lines = [f"{number:06d}.jpg  " + " ".join(f"{v:.0f}" for v in small.ravel()) for number in PEOPLE]
    header = "lefteye_x lefteye_y righteye_x righteye_y nose_x nose_y leftmouth_x leftmouth_y rightmouth_x rightmouth_y"
    (celeba_copy / "list_landmarks_align_celeba.txt").write_text("\n".join(["8", header, *lines]) + "\n")
    assert nearest(anonlib.data.load(celeba_copy).images[0], portraits) == 0


def test_celeba_hq_has_the_people_of_the_celeba_photos(hq_copy, portraits):  # noqa: F811
    faces = anonlib.data.load(hq_copy)
    assert faces.name == "celeba-hq" and faces.table["file"].tolist() == [f"{k}.jpg" for k in range(8)]
    assert faces.identity.tolist() == [f"celeba-{PEOPLE[8 - k]}" for k in range(8)]
    assert split_of(faces) == SPLIT
    assert [nearest(image, portraits) for image in faces.images] == [7 - k for k in range(8)]


def test_lfw_has_a_person_a_folder(lfw_copy):
    faces = anonlib.data.load(lfw_copy)
    assert faces.name == "lfw" and sorted(set(faces.identity)) == ["Ann_Lee", "Bo_Day", "Cy_Fox", "Di_Ray"]
    assert faces.table["file"].tolist()[:2] == ["Ann_Lee/Ann_Lee_0001.jpg", "Ann_Lee/Ann_Lee_0002.jpg"]
    assert anonlib.data.load(lfw_copy / "lfw").content_hash == faces.content_hash
    (lfw_copy / "lfw").rename(lfw_copy / "lfw-deepfunneled")
    assert anonlib.data.load(lfw_copy).content_hash == faces.content_hash


@pytest.mark.parametrize("kind", ["people", "pairs"])
def test_lfw_is_split_as_its_first_view(lfw_copy, kind):
    lists = {
        "people": ("2\nDi_Ray\t2\nBo_Day\t2\n", "1\nAnn_Lee\t2\n"),
        "pairs": ("1\nDi_Ray\t1\t2\nDi_Ray\t2\tBo_Day\t1\n", "1\nAnn_Lee\t1\t2\n"),
    }[kind]
    for side, text in zip(("Train", "Test"), lists, strict=True):
        (lfw_copy / f"{kind}Dev{side}.txt").write_text(text)
    split = split_of(anonlib.data.load(lfw_copy))
    assert split["Ann_Lee"] == "test" and {split["Di_Ray"], split["Bo_Day"]} <= {"train", "validation"}
    (lfw_copy / f"{kind}DevTest.txt").write_text(lists[0])
    assert "among its training and its test people" in refusal(lfw_copy)


def test_a_pair_of_lfw_without_its_photo_is_refused(lfw_copy):
    (lfw_copy / "pairs.txt").write_text("10\t300\nAnn_Lee\t1\t2\nAnn_Lee\t1\tBo_Day\t3\n")
    assert "pairs.txt names 1 photos that are missing, the first Bo_Day/Bo_Day_0003.jpg" in refusal(lfw_copy)
    (lfw_copy / "pairs.txt").write_text("10\t300\nAnn_Lee\t1\tx\n")
    assert "pairs.txt is damaged" in refusal(lfw_copy)


def test_missing_files_are_one_line_with_source_and_terms(celeba_copy, hq_copy, lfw_copy):
    (hq_copy / "identity_CelebA.txt").unlink()
    said = refusal(hq_copy)
    assert "missing beside CelebA-HQ-img: identity_CelebA.txt" in said and "non-commercial research only" in said
    (hq_copy / "CelebA-HQ-to-CelebA-mapping.txt").unlink()
    assert "CelebA-HQ-to-CelebA-mapping.txt, identity_CelebA.txt" in refusal(hq_copy)
    (celeba_copy / "identity_CelebA.txt").rename(celeba_copy / "elsewhere.txt")
    said = refusal(celeba_copy)
    assert "identity_CelebA.txt" in said and "http://mmlab.ie.cuhk.edu.hk/projects/CelebA.html" in said
    shutil.rmtree(celeba_copy / "img_align_celeba")
    assert "its photos are missing: no folder img_align_celeba" in refusal(celeba_copy)
    (lfw_copy / "people.txt").unlink()
    said = refusal(lfw_copy)
    assert "8 of 13,233 photos and 4 of 5,749 people" in said and "http://vis-www.cs.umass.edu/lfw" in said


def test_photos_and_lists_that_differ_are_one_line_with_the_first_of_them(celeba_copy, hq_copy, lfw_copy):
    (celeba_copy / "img_align_celeba/000003.jpg").unlink()
    said = refusal(celeba_copy)
    assert "1 of 8 photos are missing, the first 000003.jpg" in said and "out of identity_CelebA.txt" in said
    text = (celeba_copy / "identity_CelebA.txt").read_text()
    (celeba_copy / "identity_CelebA.txt").write_text(
        text.replace("000003.jpg 2880\n", "").replace("000004.jpg 15\n", "")
    )
    assert "does not name 1 of 7 photos, the first 000004.jpg" in refusal(celeba_copy)
    (celeba_copy / "identity_CelebA.txt").write_text(text.replace("000003.jpg 2880\n", ""))
    assert len(anonlib.data.load(celeba_copy)) == 6, "a stated part: one person has a single photo left"
    (celeba_copy / "list_eval_partition.txt").write_text("000001.jpg 0\n")
    assert "no partition 0, 1 or 2 to 000002.jpg" in refusal(celeba_copy)
    (celeba_copy / "identity_CelebA.txt").write_text("000001.jpg\n")
    assert "identity_CelebA.txt is damaged" in refusal(celeba_copy)
    (hq_copy / "identity_CelebA.txt").write_text("000001.jpg 2880\n")
    assert "identity_CelebA.txt does not name 7 photos" in refusal(hq_copy)
    (lfw_copy / "lfw/Bo_Day/Bo_Day_0002.jpg").unlink()
    assert "1 of 8 photos are missing, the first Bo_Day/Bo_Day_0002.jpg" in refusal(lfw_copy)


def test_a_person_in_two_partitions_is_refused(celeba_copy):
    text = (celeba_copy / "list_eval_partition.txt").read_text()
    (celeba_copy / "list_eval_partition.txt").write_text(text.replace("000001.jpg 0", "000001.jpg 2"))
    assert "in more than one split: celeba-2880" in refusal(celeba_copy)


def test_a_photo_of_two_people_in_two_splits_is_left_out(celeba_copy, portraits):  # noqa: F811
    root = celeba_copy / "img_align_celeba"
    with Image.open(root / "000001.jpg") as image:  # of 2880, who trains
        image.save(root / "000009.jpg", quality=70)
    for name, line in (("identity_CelebA.txt", "000009.jpg 15\n"), ("list_eval_partition.txt", "000009.jpg 2\n")):
        (celeba_copy / name).write_text((celeba_copy / name).read_text() + line)
    faces = anonlib.data.load(celeba_copy)
    said = dict(zip(faces.skipped["file"], faces.skipped["reason"], strict=True))
    assert said == {
        "000001.jpg": "the same photo as 000009.jpg, another person's",
        "000009.jpg": "the same photo as 000001.jpg, another person's",
        "000003.jpg": "the only usable photo of this person",
    }
    assert len(faces) == 6 and len(splits.check_splits(faces)) == 0


def test_two_users_can_tell_that_they_have_the_same_copy(celeba_copy, tmp_path):
    other = tmp_path / "elsewhere" / "my_faces"
    shutil.copytree(celeba_copy, other)
    first, second = anonlib.data.load(celeba_copy), anonlib.data.load(other)
    assert first.origin == second.origin and first.left_out().startswith(first.origin)
    assert "8 of 202,599 photos and 4 of 10,177 people" in first.origin
    assert "identity_CelebA.txt" in first.origin and "(not the published file)" in first.origin
    assert anonlib.data.fingerprint(other)[:16] in first.origin
    (other / "img_align_celeba/000001.jpg").write_bytes((other / "img_align_celeba/000008.jpg").read_bytes())
    assert anonlib.data.fingerprint(other) != anonlib.data.fingerprint(celeba_copy)


def test_published_counts_and_hashes():
    """The counts are those of the data sets' own pages; the MD5s are torchvision 0.28's, in celeba.py and lfw.py."""
    assert (celeba.CELEBA.photos, celeba.CELEBA.people) == (202_599, 10_177)
    assert (lfw.LFW.photos, lfw.LFW.people) == (13_233, 5_749) and celeba.CELEBA_HQ.photos == 30_000
    assert celeba.CELEBA.lists["identity_CelebA.txt"] == "32bd1bd63d3c78cd57e08160ec5ed1e2"
    assert lfw.LFW.lists["pairs.txt"] == "9f1ba174e4e1c508ff7cdf10ac338a7d"


def test_a_registered_name_is_read_from_the_folder_of_real_faces(celeba_copy, tmp_path, monkeypatch):
    monkeypatch.setenv(archive.VARIABLE, str(tmp_path))
    faces = anonlib.data.load("celeba")
    assert faces.content_hash == anonlib.data.load(celeba_copy).content_hash
    assert anonlib.data.fingerprint("celeba") == anonlib.data.fingerprint(celeba_copy)
    for name in ("lfw", "celeba-hq"):
        with pytest.raises(AnonlibError, match="not found.*ANONLIB_REAL_FACES"):
            anonlib.data.load(name)


def test_only_its_own_data_set_may_have_a_registered_name(celeba_copy, lfw_copy):
    assert "celeba" not in anonlib.data.reserved_names(celeba_copy) and "lfw" in anonlib.data.reserved_names(
        celeba_copy
    )
    assert "lfw" not in anonlib.data.reserved_names(lfw_copy)
    assert set(anonlib.data.SOURCES) == set(anonlib.data.reserved_names("celeba"))


def test_two_data_sets_in_a_folder_are_refused(celeba_copy, lfw_copy):
    (celeba_copy / "img_align_celeba").rename(lfw_copy / "img_align_celeba")
    assert "holds CelebA and LFW" in refusal(lfw_copy)


def test_the_outline_is_what_is_read(celeba_copy, lfw_copy):
    part = Part({"train": 1, "validation": 1, "test": 1}, 2)
    for root in (celeba_copy, lfw_copy):
        outline = anonlib.data.source_of(root).outline(part)
        faces = anonlib.data.load(root, part.people, part.images)
        columns = ["file", "identity", "split"]
        assert outline[columns].to_numpy().tolist() == faces.table[columns].to_numpy().tolist()


def test_many_photos_are_read_in_shards_and_a_stopped_run_goes_on(celeba_copy, monkeypatch):
    whole = anonlib.data.load(celeba_copy)
    original, calls = photos.cache.map_shards, []

    def stopped_once(name, function, items, shard_size):
        calls.append((name, photos.cache.count_missing(name, function, items, shard_size=shard_size)))
        if len(calls) == 1:
            part = {key: column[:shard_size] for key, column in items.items()}
            original(name, function, part, shard_size=shard_size, workers=1)
            raise KeyboardInterrupt
        return original(name, function, items, shard_size=shard_size, workers=1)

    monkeypatch.setattr(photos, "SHARD", 4)
    monkeypatch.setattr(photos.cache, "map_shards", stopped_once)
    source = anonlib.data.source_of(celeba_copy)
    with pytest.raises(KeyboardInterrupt):
        source.load(Part())
    assert source.load(Part()).content_hash == whole.content_hash
    assert calls == [("photos", 2), ("photos", 1), ("masks", 2)]


def test_an_unusable_photo_of_celeba_is_named(celeba_copy):
    save(celeba_copy / "img_align_celeba/000001.jpg", np.full((218, 178, 3), 120, np.uint8))
    faces = anonlib.data.load(celeba_copy)
    said = dict(zip(faces.skipped["file"], faces.skipped["reason"], strict=True))
    assert said["000001.jpg"] == "no face found" and set(faces.identity) == set(SPLIT) - {"celeba-2880"}
