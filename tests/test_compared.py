"""The compared systems: what each of them promises, and k-Same's bound as a test of the whole evaluation."""

import numpy as np
import pytest

from anonlib import anonymizers, assets, config, data
from anonlib.anonymizers import dataset, ksame
from anonlib.anonymizers.contract import ERROR, NO_FACE, OK
from anonlib.anonymizers.shards import shard_rows
from anonlib.config.errors import AnonlibError
from anonlib.data.faceset import FaceSet
from anonlib.faces.recognizers import embed
from anonlib.metrics.identification import rank1_rate, rank_of_true


@pytest.fixture(scope="module")
def people() -> FaceSet:
    """Thirty drawn people with three photos each."""
    faces = data.load("synthetic", people={"test": 30, "train": 2, "validation": 2}, images=3)
    return faces.select(split="test")


@pytest.fixture(scope="module")
def one_each(people) -> FaceSet:
    """The same people, one photo each."""
    return people.select(rows=np.unique(people.identity, return_index=True)[1])


def averaged(faces: FaceSet, k: int, rows: np.ndarray) -> tuple[np.ndarray, list[str]]:
    method = anonymizers.create(f"ksame-{k}", pool=faces.images)
    return method(faces.images[rows], faces.masks[rows], [0] * len(rows))


@pytest.mark.parametrize("k", [2, 5, 10])
def test_nobody_finds_more_than_one_in_k_behind_k_same(one_each, k):
    """Newton et al.: whoever searches among exactly the averaged photos gives all k of a group the same answer."""
    made, status = averaged(one_each, k, np.arange(len(one_each)))
    assert status == [OK] * len(one_each)
    for recognizer in ("mobilefacenet", "sface"):
        seen, known = (embed(recognizer, images) for images in (made, one_each.images))
        found = rank1_rate(rank_of_true(seen, one_each.identity, None, known, one_each.identity, None))
        assert found <= 1 / k + 1e-9
        assert found > 0.5 / k, "an average still looks like one of those it is of: the evaluation must find it"


def test_a_group_shares_one_picture_and_has_k_members_or_more(one_each):
    made, _ = averaged(one_each, 5, np.arange(len(one_each)))
    _, sizes = np.unique(made.reshape(len(made), -1), axis=0, return_counts=True)
    assert sizes.min() >= 5 and sizes.max() < 10 and sizes.sum() == len(one_each)


def test_k_same_averages_those_who_look_alike():
    dark, light = np.full((3, 64, 64, 3), 40, np.uint8), np.full((3, 64, 64, 3), 200, np.uint8)
    images = np.concatenate([dark, light])[[0, 3, 1, 4, 2, 5]]
    groups = ksame.partition(images, 3)
    assert sorted(sorted(group.tolist()) for group in groups) == [[0, 2, 4], [1, 3, 5]]


def test_the_nearest_are_taken_first():
    tones = [40, 0, 10, 20, 30, 50, 60, 70, 80]
    images = np.stack([np.full((64, 64, 3), tone, np.uint8) for tone in tones])
    first = ksame.partition(images, 3)[0]
    assert sorted(tones[row] for row in first) == [30, 40, 50]


def test_k_same_does_not_depend_on_order_or_company(one_each):
    together, _ = averaged(one_each, 5, np.arange(len(one_each)))
    method = anonymizers.create("ksame-5", pool=one_each.images[::-1])
    alone, _ = method(one_each.images[7:8], one_each.masks[7:8], [1])
    np.testing.assert_array_equal(alone[0], together[7])


def test_k_same_fails_closed(one_each):
    few, status = anonymizers.create("ksame-10", pool=one_each.images[:9])(
        one_each.images[:2], one_each.masks[:2], [0, 0]
    )
    assert status == [ERROR] * 2 and not few.any(), "nine people hide nobody among ten"
    strange, status = averaged(one_each.select(rows=np.arange(20)), 2, np.arange(3))
    made, told = anonymizers.create("ksame-2", pool=one_each.images[:20])(
        one_each.images[20:21], one_each.masks[20:21], [0]
    )
    assert told == [ERROR] and not made.any(), "who is not in the set is averaged with nobody"
    with pytest.raises(AnonlibError, match="pool"):
        anonymizers.create("ksame-2")
    with pytest.raises(AnonlibError, match="2 faces or more"):
        ksame.KSame(1, one_each.images)


def test_in_a_data_set_nobody_is_twice_in_a_k_same_set(people):
    rows = np.arange(len(people))[::-1]
    sets = shard_rows(anonymizers.get("ksame-5"), people, rows)
    assert sorted(np.concatenate([at for at, _ in sets]).tolist()) == list(range(len(rows)))
    for at, told in sets:
        names = people.identity[rows[at]]
        assert len(set(names)) == len(names) == len(told["pool"])


def test_a_data_set_s_rows_come_back_in_their_order(people):
    rows = np.arange(len(people))[::-1]
    made = dataset.anonymize(people, rows, ("ksame-2", "blur"), config.load("smoke"))
    np.testing.assert_array_equal(made["ksame-2"].source, rows)
    for at, told in shard_rows(anonymizers.get("ksame-2"), people, rows):
        method = anonymizers.create("ksame-2", **told)
        apart, _ = method(people.images[rows[at]], people.masks[rows[at]], [0] * len(at))
        np.testing.assert_array_equal(made["ksame-2"].images[at], apart)
    assert (made["ksame-2"].status == OK).all()
    # averages are nearer to what they are of than to anybody else, so a permuted result would show
    own = np.abs(made["ksame-2"].images.astype(int) - people.images[rows]).mean((1, 2, 3))
    other = np.abs(made["ksame-2"].images.astype(int) - people.images[rows[::-1]]).mean((1, 2, 3))
    assert own.mean() < 0.8 * other.mean()


@pytest.fixture(scope="module")
def untrained(tmp_path_factory):
    """Weights of DeepPrivacy2's generator, untrained."""
    import torch
    from safetensors.torch import save_file

    from anonlib.networks.deepprivacy2 import DeepPrivacy2Generator

    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("gan") / "deepprivacy2.safetensors"
    save_file({name: one.half() for name, one in DeepPrivacy2Generator().state_dict().items()}, file)
    return file


@pytest.fixture
def removed(untrained):
    return anonymizers.create("deepprivacy2", weights=untrained, batch=4)


def test_deepprivacy2_leaves_all_but_the_face_as_it_was(removed, photos):
    from anonlib.anonymizers.face_box import find_face_boxes

    masks = np.full(photos.shape[:3], 255, np.uint8)
    made, status = removed(photos, masks, [1, 2, 3])
    hole = find_face_boxes(photos).hole > 0
    assert status == [OK] * 3 and 0.2 < hole.mean() < 0.7
    np.testing.assert_array_equal(made[~hole], photos[~hole])
    assert np.abs(made[hole].astype(int) - photos[hole]).mean() > 10


def test_deepprivacy2_sees_nothing_of_the_face_but_box_and_points(untrained, photos, monkeypatch):
    """Another face in the same box, with the same points, is given the same face."""
    from anonlib.anonymizers import deepprivacy2, face_box
    from anonlib.anonymizers.face_box import find_face_boxes

    told = find_face_boxes(photos)
    monkeypatch.setattr(face_box, "find_face_boxes", lambda images: told)
    method, masks = deepprivacy2.DeepPrivacy2(weights=untrained), np.full(photos.shape[:3], 255, np.uint8)
    other = np.where(told.hole[..., None] > 0, 255 - photos, photos)
    np.testing.assert_array_equal(method(photos, masks, [1, 2, 3])[0], method(other, masks, [1, 2, 3])[0])


def test_deepprivacy2_keeps_the_contract(removed, photos):
    images = np.concatenate([photos, photos[:, :, ::-1]])
    masks, seeds = np.full(images.shape[:3], 255, np.uint8), list(range(6))
    images[4] = 90  # no face there
    masks[5] = 0
    made, status = removed(images, masks, seeds)
    assert status == [OK] * 4 + [ERROR, NO_FACE] and not made[4:].any()
    alone, _ = removed(images[2:3], masks[2:3], seeds[2:3])
    np.testing.assert_array_equal(alone[0], made[2])
    another, _ = removed(images[2:3], masks[2:3], [99])
    assert np.abs(another[0].astype(int) - made[2]).max() > 0


def test_deepprivacy2_draws_another_person_for_another_seed(photos):
    """Recognizers that its training has not seen tell the two apart."""
    method, masks = anonymizers.create("deepprivacy2"), np.full(photos.shape[:3], 255, np.uint8)
    first, other = (method(photos, masks, seeds)[0] for seeds in ([1, 2, 3], [4, 5, 6]))
    for recognizer in filter(assets.available, ("sface", "w600k")):
        near = (embed(recognizer, first) * embed(recognizer, other)).sum(1)
        assert near.mean() < 0.6


def test_weights_that_are_none_say_what_to_do(tmp_path):
    (tmp_path / "x.safetensors").write_bytes(b"nothing")
    method = anonymizers.create("deepprivacy2", weights=tmp_path / "x.safetensors")
    images = np.zeros((1, 128, 128, 3), np.uint8)
    with pytest.raises(AnonlibError, match="make models"):
        method(images, np.full((1, 128, 128), 255, np.uint8), [0])


def falco(**settings):
    return anonymizers.create("falco", **{"levels": 3, "steps": 3, "fit_levels": 3, "fit_steps": 1} | settings)


def test_falco_leads_away_from_the_identity_and_no_further_than_asked(photos, in_float32):
    masks = np.full(photos.shape[:3], 255, np.uint8)

    def near(**settings) -> np.ndarray:
        made, status = falco(steps=12, levels=4, **settings)(photos, masks, [0] * 3)
        assert status == [OK] * 3
        return (embed("mobilefacenet", made) * embed("mobilefacenet", photos)).sum(1)

    assert np.abs(near()).max() < 0.15
    assert (near(margin=1.0) > 0.15).all()


def test_falco_keeps_the_contract(photos):
    images = np.concatenate([photos, photos[:, :, ::-1]])[:5]
    masks = np.full(images.shape[:3], 255, np.uint8)
    images[3] = 90
    masks[4] = 0
    made, status = falco()(images, masks, [0] * 5)
    assert status == [OK] * 3 + [ERROR, NO_FACE] and not made[3:].any()
    alone, _ = falco()(images[2:3], masks[2:3], [7])
    np.testing.assert_array_equal(alone[0], made[2])


def test_falco_refuses_numbers_that_make_no_sense():
    with pytest.raises(AnonlibError, match="3, 4, 7"):
        falco(levels=5)
    with pytest.raises(AnonlibError, match="from 0 to 1"):
        falco(margin=2.0)


def test_no_judge_is_in_a_loss():
    import inspect

    from anonlib.anonymizers import latent_optimization

    source = inspect.getsource(latent_optimization)
    assert "pretrained_mobilefacenet" in source and not any(name in source for name in ("w600k", "sface", "dlib"))


def test_the_generator_draws_in_torch_what_it_draws_in_openvino():
    import torch

    from anonlib.networks.mobilestylegan import load_synthesis
    from tools.build.pool import pool_styles
    from tools.build.stylespace import load_generator

    generator = load_generator()
    styles = np.stack([pool_styles(generator, seed) for seed in (3, 4)]).astype(np.float32)
    with torch.inference_mode():
        made = load_synthesis()(torch.from_numpy(styles))
    made = ((made.clamp(-1, 1) + 1) * 127.5).round().permute(0, 2, 3, 1).numpy()
    for one, picture in zip(styles, made, strict=True):
        assert np.abs(generator.draw(one) - picture).max() <= 1


def test_the_photos_of_who_is_slow_come_in_small_shards():
    rows = np.arange(200)
    shards = {
        name: [at for at, _ in shard_rows(anonymizers.get(name), None, rows)] for name in ("falco", "deepprivacy2")
    }
    assert all((np.concatenate(parts) == rows).all() for parts in shards.values())
    assert [max(map(len, parts)) for parts in shards.values()] == [32, 128]


def test_a_device_has_networks_of_its_own_so_that_nobody_s_are_moved():
    from anonlib.assets.models import FALCO_WEIGHTS
    from anonlib.networks.facespace import load_space
    from anonlib.networks.lpips import load_lpips

    for at in ("cpu", "meta", "cpu"):
        for net in (load_lpips(at), *load_space(FALCO_WEIGHTS, at)):
            assert {one.device.type for one in (*net.parameters(), *net.buffers())} == {at}


def test_a_picture_is_laid_into_the_frame_of_photos_as_opencv_does(photos):
    import cv2
    import torch

    from anonlib.networks.facespace import DRAWN, _align_pictures

    drawn = cv2.resize(photos[0], (DRAWN, DRAWN), interpolation=cv2.INTER_CUBIC)
    matrix = np.array([[6.8, -0.3, 80.0], [0.3, 6.8, 50.0]], np.float32)
    wanted = cv2.warpAffine(drawn, matrix, (128, 128), flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP)
    given = torch.from_numpy(drawn).permute(2, 0, 1)[None].float()
    found = _align_pictures(given, torch.from_numpy(matrix))[0].permute(1, 2, 0).numpy()
    assert np.abs(found.clip(0, 255) - wanted).mean() < 1


SCRIPT = """
import argparse, pathlib
from PIL import Image, ImageFilter
told = argparse.ArgumentParser()
told.add_argument("recipe"), told.add_argument("-i"), told.add_argument("--output_path"), told.add_argument("--seed")
told = told.parse_args()
print(pathlib.Path(told.recipe).read_text())
out = pathlib.Path(told.output_path)
out.mkdir()
for file in sorted(pathlib.Path(told.i).iterdir()):
    photo = Image.open(file)
    if file.stem == "000001":
        photo.save(out / file.name)  # it found no face, and lets the photo through
    elif file.stem != "000002":  # which it loses
        photo.filter(ImageFilter.GaussianBlur(30)).save(out / file.name)
"""


@pytest.fixture
def checkout(tmp_path):
    (tmp_path / "anonymize.py").write_text(SCRIPT)
    (tmp_path / "configs" / "anonymizers").mkdir(parents=True)
    (tmp_path / "configs" / "anonymizers" / "face.py").write_text("detector = 1")
    return tmp_path


def test_a_checkout_of_deepprivacy2_runs_out_of_process_and_fails_closed(checkout, photos):
    images = np.concatenate([photos, photos[:1, :, ::-1]])
    masks = np.full(images.shape[:3], 255, np.uint8)
    numbers = config.load("smoke", {"compare.deepprivacy2": str(checkout)})
    method = anonymizers.create("deepprivacy2", **anonymizers.get("deepprivacy2").options(numbers))
    made, status = method(images, masks, [0] * 4)
    assert status == [OK, ERROR, ERROR, OK], "one was let through, one was lost"
    assert not made[1:3].any()
    assert 10 < np.abs(made[0].astype(int) - images[0]).mean() < 90, "aligned as it was given, only blurred"


def test_a_checkout_that_fails_says_why(checkout, photos):
    (checkout / "anonymize.py").write_text("raise SystemExit('no detectron2 here')")
    method = anonymizers.create("deepprivacy2", checkout=str(checkout))
    with pytest.raises(AnonlibError, match="no detectron2 here"):
        method(photos[:1], np.full((1, 128, 128), 255, np.uint8), [0])
    (checkout / "anonymize.py").unlink()
    with pytest.raises(AnonlibError, match="no checkout of DeepPrivacy2"):
        anonymizers.create("deepprivacy2", checkout=str(checkout))


def test_a_blended_face_takes_the_light_around_it_and_nothing_from_the_hole(photos):
    from anonlib.anonymizers.deepprivacy2 import blend

    image, other = photos[0], photos[1]
    for rows, columns in (((30, 110), (25, 100)), ((20, 128), (25, 100)), ((30, 110), (0, 100))):
        hole = np.zeros(image.shape[:2], np.uint8)
        hole[slice(*rows), slice(*columns)] = 255
        made = blend(other, image, hole)
        assert (made[hole == 0] == image[hole == 0]).all()
        changed = np.where(hole[..., None] > 0, np.random.default_rng(0).integers(0, 256, image.shape), image)
        assert (blend(other, changed.astype(np.uint8), hole) == made).all(), "the hole is not read"
        own = blend(image, image, hole).astype(int)
        assert np.abs(own - image).mean() < 8, "a face of the same light stays where it is"
        dark = blend(other // 2, image, hole).astype(int)
        assert np.abs(dark - made).mean() < 0.7 * np.abs(other // 2 - other.astype(int)).mean()
    assert (blend(other, image, np.full_like(hole, 255)) == other).all()
