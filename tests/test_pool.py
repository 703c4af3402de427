"""The pool of drawn faces that the small models are trained on."""

import cv2
import numpy as np
import pytest

from tools.build import pool


@pytest.fixture(scope="module")
def generator():
    from tools.build.stylespace import load_generator

    return load_generator()


def test_the_half_size_picture_is_the_whole_one_averaged(generator):
    styles = pool.pool_styles(generator, 3)
    whole, half = generator.draw(styles), generator.draw_half(styles)
    averaged = cv2.resize(whole, (512, 512), interpolation=cv2.INTER_AREA)
    difference = np.abs(averaged.astype(int) - half)
    assert half.shape == (512, 512, 3) and difference.mean() < 0.6  # they differ where the whole one is clipped
    assert (difference <= 1).mean() > 0.97


def test_a_pool_is_drawn_once_and_annotated_when_asked(tmp_path, monkeypatch, generator):
    monkeypatch.setattr(pool, "SHARD", 3)
    monkeypatch.setattr(pool, "run_calls", lambda function, calls, label, workers: [function(*call) for call in calls])
    folder = tmp_path / "train"
    pool.draw_pool(folder, range(0, 6), 1)
    first = pool.load_pool(folder, ())
    assert first.keys() == {"images", "seeds"} and first["images"].shape[1:] == (128, 128, 3)
    times = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    pool.draw_pool(folder, range(0, 6), 1)
    loaded = pool.load_pool(folder, (pool.PARSING, "hed", "segmentation"))
    assert all(path.stat().st_mtime_ns == time for path, time in times.items()), "nothing is drawn again"
    assert (loaded["images"] == first["images"]).all()
    count = len(first["images"])
    assert loaded["masks"].shape == loaded["labels"].shape == loaded["hed"].shape == (count, 128, 128)
    assert loaded["segmentation"].shape == (count, 128, 128, 3) and len(loaded["captions"]) == count
    assert loaded["hed"].std((1, 2)).min() > 2 and all("photo of a person" in text for text in loaded["captions"])


def test_turned_heads_look_to_the_side_that_was_drawn_and_stay_the_same_people(generator):
    from anonlib.faces import detect
    from anonlib.faces.recognizers import embed

    def yaw(face):
        points = detect(face)[0].points
        return (points[2] - points[:2].mean(0))[0] / np.linalg.norm(points[0] - points[1])

    amounts, changes, pairs = [], [], []
    for seed in range(12):
        plain, turned = (pool.draw_pool_face(generator, seed, share) for share in (0.0, 1.0))
        if plain is None or turned is None:
            continue
        styles = pool.pool_styles(generator, seed)
        step = pool.directions()["yaw"]
        amounts.append((pool.turn_head(styles, seed, 1.0) - styles)[0] @ step / (step @ step))
        changes.append(yaw(turned) - yaw(plain))
        pairs.append((plain, turned))
        assert pool.turn_head(styles, seed, 0.0) is styles
    far = np.abs(amounts) > 1
    assert far.sum() >= 4 and (np.sign(amounts) == np.sign(changes))[far].all()
    own, other = (embed("mobilefacenet", np.stack(faces)) for faces in zip(*pairs, strict=True))
    cosines = own @ other.T
    assert np.diag(cosines).mean() > cosines[~np.eye(len(own), dtype=bool)].mean() + 0.2


def test_depth_layers_put_glasses_before_the_face_and_hair_before_the_background(photos):
    from anonlib.controls import ParsedImages
    from anonlib.faces import GLASSES, HAIR, NOSE
    from tools.build.train_depth import layered_depth

    parsed = ParsedImages(photos)
    for image, mask, labels in zip(photos, parsed.masks, parsed.labels, strict=True):
        depth = layered_depth(image, mask, labels)
        assert depth.shape == (128, 128) and depth.min() >= 0 and depth.max() <= 1
        inside = cv2.erode(mask, np.ones((5, 5), np.uint8)) > 0
        outside = cv2.dilate(mask, np.ones((7, 7), np.uint8)) == 0
        assert depth[outside].max(initial=0) < 0.02 < depth[inside].min()
        nose, hair = np.isin(labels, NOSE), np.isin(labels, HAIR)
        assert depth[nose].mean() > depth[hair].mean() > 0.2
        worn = labels.copy()
        worn[60:70, 45:83] = GLASSES[0]
        assert (layered_depth(image, mask, worn) - depth)[63:67, 50:78].mean() > 0.03
    assert layered_depth(np.full_like(photos[0], 90), parsed.masks[0], parsed.labels[0]) is None


def test_the_depth_network_draws_what_mesh_and_parser_say_and_sees_glasses(photos):
    from anonlib.controls import ParsedImages
    from anonlib.networks.depth import inverse_depth_maps
    from tools.build.train_depth import layered_depth

    parsed = ParsedImages(photos)
    wanted = [layered_depth(*each) for each in zip(photos, parsed.masks, parsed.labels, strict=True)]
    drawn = inverse_depth_maps(photos) / 255
    assert drawn.shape == photos.shape[:3]
    for own, target, mask in zip(drawn, wanted, parsed.masks, strict=True):
        assert np.corrcoef(own.ravel(), target.ravel())[0, 1] > 0.95
        inside = cv2.erode(mask, np.ones((5, 5), np.uint8)) > 0
        assert np.corrcoef(own[inside], target[inside])[0, 1] > 0.85
    np.testing.assert_array_equal(inverse_depth_maps(photos, batch=1), inverse_depth_maps(photos, batch=8))
    assert len(inverse_depth_maps(photos[:0])) == 0
