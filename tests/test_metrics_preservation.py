"""What is kept: equal photos keep all, measures move the way they should, and what failed is counted."""

from dataclasses import replace

import cv2
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score

from anonlib import config
from anonlib.assets.models import OWN
from anonlib.faces import parse, person_mask
from anonlib.faces.attributes import attribute_predictor
from anonlib.faces.features import ImageFeatures, _feature_shards
from anonlib.metrics import downstream, fairness
from anonlib.metrics import preservation as measures
from anonlib.networks.attributes import parser_features
from anonlib.paper import tables
from anonlib.paper.experiments import preservation
from anonlib.paper.experiments.preservation import Photos

EVALUATE = config.load("smoke", {"evaluate.draws": 50}).evaluate


def expression(points: np.ndarray, other: np.ndarray) -> float:
    return measures.expression_error(points[None], preservation._aligned(other, points)[None]).item()


def photographed(images: np.ndarray, ok: np.ndarray | None = None) -> Photos:
    (found,) = _feature_shards([images], OWN)
    return Photos(images, ImageFeatures(**found), np.ones(len(images), bool) if ok is None else ok)


@pytest.fixture(scope="module")
def original(photos) -> Photos:
    return photographed(photos)


def test_one_pass_reads_what_the_single_readers_read(photos, original):
    read = original.features
    np.testing.assert_array_equal(read.parts, parse(photos))
    np.testing.assert_allclose(read.attributes, attribute_predictor(OWN).predict(photos)[0], atol=1e-5)
    np.testing.assert_allclose(read.parser_features, parser_features(photos).numpy(), atol=0.05, rtol=1e-2)
    assert read.detected.all() and np.isfinite(read.points).all() and read.inception.shape == (3, 2048)


def test_an_untouched_photo_keeps_everything(photos, original):
    found = preservation.photo_measures(original, person_mask(photos), original)
    assert set(found) == set(measures.MEASURES)
    for name in ("detected", "attribute_agreement", "age_group_kept", "parts_kept", "scene_similarity"):
        np.testing.assert_allclose(found[name], 1, atol=1e-5, err_msg=name)
    for name in ("expression_error", "pose_error", "lpips", "background_change"):
        np.testing.assert_allclose(found[name], 0, atol=1e-5, err_msg=name)


def test_each_measure_sees_its_own_change(photos, original):
    masks = person_mask(photos)
    mirrored = preservation.photo_measures(original, masks, photographed(photos[:, :, ::-1].copy()))
    assert (mirrored["pose_error"] > 2).any() and (mirrored["parts_kept"] < 0.99).all()
    behind = np.where((masks > 0)[..., None], photos, 255 - photos)
    behind = preservation.photo_measures(original, masks, photographed(behind))
    assert (behind["background_change"] > 20).all() and (behind["expression_error"] < 0.1).all()
    swapped = preservation.photo_measures(original, masks, photographed(photos[[1, 2, 0]]))
    assert (swapped["lpips"] > 0.1).all() and (swapped["expression_error"] > 0.02).all()
    assert swapped["attribute_agreement"].mean() < 1


def test_the_expression_is_measured_beside_where_and_how_large_a_face_is():
    rng = np.random.default_rng(0)
    points = rng.uniform(20, 100, (68, 2))
    turn = cv2.getRotationMatrix2D((64, 64), 20, 1.3)
    moved = points @ turn[:, :2].T + turn[:, 2] + 5
    assert expression(points, moved) == pytest.approx(0, abs=1e-9)
    smiling = points.copy()
    smiling[48:68] += (0, 6)
    assert expression(points, smiling) > 0.01
    assert np.isnan(expression(points, np.full((68, 2), np.nan)))


def test_what_failed_closed_is_counted_and_shows_nothing(photos, original):
    images = photos.copy()
    images[1] = 0
    made = {"x": photographed(images, np.array([True, False, True]))}
    found = preservation.table(original, person_mask(photos), np.array(list("abc")), made, EVALUATE).frame.iloc[0]
    assert (found.photos, found.failed) == (3, 1)
    assert found.detected == pytest.approx(2 / 3) and found.detected_n == 3
    assert found.detected_lo < 0.3 and found.age_group_kept_lo < found.age_group_kept == 1, "two are few to be sure"
    assert found.lpips == pytest.approx(0, abs=1e-6) and found.lpips_n == 2
    assert np.isnan(found.fid) and np.isnan(found.kid), "two photos are no distribution"


def test_downstream_learns_what_the_photos_show_and_nothing_from_noise():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, (300, 2)).astype(float)
    looks = np.concatenate([labels + 0.3 * rng.standard_normal((300, 2)), rng.standard_normal((300, 6))], axis=1)
    identity = np.repeat([f"p{k}" for k in range(50)], 2)
    told = (looks[200:], labels[200:], ["a", "b"], identity, 0.95, 100)
    good = downstream.train_on_anonymized(looks[:200], labels[:200], *told).set_index("attribute")
    assert (good.balanced_accuracy > 0.9).all()
    bad = downstream.train_on_anonymized(rng.standard_normal((200, 8)), labels[:200], *told).set_index("attribute")
    assert bad.balanced_accuracy["mean"] < 0.7
    few = downstream.train_on_anonymized(looks[:200], np.zeros((200, 2)), *told)
    assert few.empty, "an attribute that nobody has cannot be learned"


def test_downstream_s_score_is_scikit_learn_s():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, (260, 1)).astype(float)
    looks = labels + rng.standard_normal((260, 3))
    found = downstream.train_on_anonymized(
        looks[:200], labels[:200], looks[200:], labels[200:], ["a"], np.arange(60).astype(str), 0.95, 50
    )
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    net = make_pipeline(StandardScaler(), LogisticRegression(C=downstream.STRENGTH, class_weight="balanced"))
    said = net.fit(looks[:200].astype(np.float32), labels[:200, 0] > 0.5).predict(looks[200:].astype(np.float32))
    expected = balanced_accuracy_score(labels[200:, 0] > 0.5, said)
    assert found.balanced_accuracy[0] == pytest.approx(expected)


def test_groups_add_up_and_a_group_that_is_found_more_often_shows():
    people = np.array([f"p{k:02d}" for k in range(40)])
    dark = np.arange(40) < 20
    rows = []
    for name, hit in (("noop", np.ones(40, bool)), ("x", dark)):
        part = pd.DataFrame({"identity": people, "source": people, "status": "ok", "mated": True, "people": 40})
        part = part.assign(
            better=np.where(hit, 0, 9), tied=0, anonymizer=name, attacker="sface", seed=0, draw=0, validation_mrr=1.0
        )
        rows.append(part.assign(protocol="full", control=False, references=3, rank=np.where(hit, 1, 10)))
    ranks = pd.concat(rows, ignore_index=True)
    groups = pd.DataFrame({"skin": np.where(dark, "dark", "light"), "hat": ["yes"] * 3 + ["no"] * 37}, index=people)
    found = fairness.by_group(
        ranks, tables.strongest_attackers(tables.attack_table(ranks, n_bootstrap=50)), groups, n_bootstrap=50
    )
    x = found[found.anonymizer == "x"].set_index(["attribute", "group"])
    assert x.top1["skin", "dark"] == 1 and x.top1["skin", "light"] == 0
    assert x.lo["skin", "dark"] > 0.8 and x.hi["skin", "light"] < 0.2
    assert np.isnan(x.top1["hat", "yes"]) and x.people["hat", "yes"] == 3, "three people tell nothing"
    assert found.groupby(["anonymizer", "attribute"]).people.sum().eq(40).all()


def test_readings_are_selected_row_by_row(original):
    picked = original.features.select(np.array([2, 0]))
    assert len(picked) == 2
    np.testing.assert_array_equal(picked.parts[0], original.features.parts[2])
    assert replace(original, ok=np.zeros(3, bool)).ok.sum() == 0
