"""Attributes of drawn faces: what labels them, what reads them, and how well that is measured."""

import numpy as np
import pandas as pd
import pytest

from anonlib.engine.torch_setup import prepare_torch
from anonlib.metrics.attributes import MEAN, attribute_table
from anonlib.networks.celeba_attributes import NAMES

prepare_torch()
import torch  # noqa: E402

from anonlib.config.errors import AnonlibError  # noqa: E402
from anonlib.faces import captions
from anonlib.networks import attributes as network  # noqa: E402
from tools.build import (
    labels,  # noqa: E402
    train_attributes,  # noqa: E402
    training,  # noqa: E402
)


@pytest.fixture
def seen() -> labels.ParsedFaces:
    """Sixty faces of one shape: the mesh's points in a circle, hair above, each a little wider than the last."""
    rng, count = np.random.default_rng(0), 60
    angle = np.linspace(0, 2 * np.pi, 468, endpoint=False)
    circle = np.stack([64 + 30 * np.cos(angle), 70 + 35 * np.sin(angle), 0 * angle], axis=1)
    points = np.repeat(circle[None], count, axis=0) + rng.normal(0, 0.01, (count, 468, 3))
    classes = np.ones((count, 128, 128), np.uint8)
    classes[:, :25] = 17
    classes[:, 100:104] = 12
    images = np.full((count, 128, 128, 3), 120, np.uint8)
    images[:20, :25], images[20:40, :25], images[40:, :25] = (10, 10, 10), (110, 70, 40), (150, 148, 150)
    return labels.ParsedFaces(images, classes, points)


def test_what_can_be_measured_is_measured(seen):
    told = labels._measured_labels(seen)
    assert told["Black_Hair"][:20].all() and told["Brown_Hair"][20:40].all() and told["Gray_Hair"][40:].all()
    assert (told["Black_Hair"] + told["Brown_Hair"] + told["Gray_Hair"] + told["Blond_Hair"] == 1).all()
    assert not told["Eyeglasses"].any() and not told["Wearing_Hat"].any()
    seen.classes[0, 60:70], seen.classes[1, :25] = 6, 18
    seen.points[2, [61, 291], 1] -= 5  # the corners of the mouth go up
    told = labels._measured_labels(seen)
    assert told["Eyeglasses"][0] == 1 and told["Wearing_Hat"][1] == 1 and told["Smiling"][2] == 1
    assert np.isnan(told["Bald"][1]) and np.isnan(told["Black_Hair"][1]), "a hat hides the hair"
    assert set(told) < set(NAMES)
    assert told["Big_Nose"].mean() == pytest.approx(0.3, abs=0.02), "the pool says where big begins"


def test_what_was_told_by_eye_is_carried_over_where_it_is_sure():
    rng = np.random.default_rng(1)
    features = rng.normal(size=(400, 8))
    positive, told = features[:, 0] > 0, np.arange(400) < 200
    found = labels._transfer_labels(positive & told, told, features * 5)
    np.testing.assert_array_equal(found[:200], positive[:200])
    sure = np.isfinite(found[200:])
    assert 100 < sure.sum() < 200 and (found[200:][sure] == positive[200:][sure]).mean() > 0.95
    assert np.abs(features[200:][~sure][:, 0]).mean() < np.abs(features[200:][sure][:, 0]).mean()


def test_told_by_eye_is_one_row_a_seed_of_known_letters():
    table = pd.read_csv(labels.BY_EYE)
    assert table.seed.is_unique and len(table) >= 400
    for column, letters in {"sex": "fm-", "age": "yo", "beard": "nstgb", "hair": "swk"}.items():
        assert set(table[column]) == set(letters)


def test_the_head_learns_what_has_labels_and_says_half_of_the_rest(tmp_path, monkeypatch):
    torch.manual_seed(0)
    count = 96
    features = torch.randn(count, network.FEATURES)
    wanted = torch.full((count, len(NAMES)), float("nan"))
    wanted[:, 31] = (features[:, 0] > 0).float()
    wanted[::3, 31] = float("nan")
    features[:, :600] += 3 * (2 * (features[:, :1] > 0) - 1)
    stored = {"features": features, "labels": wanted, "words": torch.ones(count, 2)}
    training.save_checkpoint(tmp_path / "attributes-data.pt", **stored)
    train_attributes.train_attributes({}, training.Schedule(60, 32, 1e-3), tmp_path, tmp_path / "head")
    monkeypatch.setattr(network, "parser_features", lambda images: features)
    head = network.load_head(tmp_path / "head")
    with torch.inference_mode():
        embedding, logits = head(features)
    right = (logits[:, 31] > 0) == (features[:, 0] > 0)
    assert right.float().mean() > 0.9 and embedding.shape == (count, network.EMBEDDING)
    others = [column for column in range(len(NAMES)) if column != 31]
    assert not logits[:, others].any()
    network.load_head.cache_clear()
    (tmp_path / "head" / network.WEIGHTS).write_bytes(b"damaged")
    with pytest.raises(AnonlibError, match="no attribute network"):
        network.load_head(tmp_path / "head")


def test_a_spoiled_photo_is_another_one_of_the_same_kind():
    rng = np.random.default_rng(3)
    image = np.repeat(rng.integers(0, 256, (8, 8, 3)), 16, 0).repeat(16, 1).astype(np.uint8)
    first, second = (train_attributes.degrade(image, rng) for _ in range(2))
    assert first.shape == image.shape and first.dtype == np.uint8 and (first != second).any()
    alike = [np.corrcoef(image.mean(2).ravel(), one.mean(2).ravel())[0, 1] for one in (first, second)]
    assert min(alike) > 0.5


def test_a_caption_is_made_of_predicted_attributes():
    image, told = np.full((128, 128, 3), 120, np.uint8), dict.fromkeys(NAMES, 0.1)
    told |= {"Gray_Hair": 0.4, "Eyeglasses": 0.9}
    text = captions.caption_from_attributes(image, np.array(list(told.values())))
    assert text.endswith("grey hair, glasses") and set(text.replace(",", "").split()) <= set(captions.vocabulary())
    bald = captions.caption_from_attributes(image, np.array(list((told | {"Bald": 0.8, "Wearing_Hat": 0.7}).values())))
    assert "hair" not in bald and bald.endswith("glasses, hat")


def test_balanced_accuracy_is_that_of_scikit_learn_and_rare_ones_are_left_out():
    from sklearn.metrics import balanced_accuracy_score

    rng = np.random.default_rng(4)
    labels_ = rng.integers(0, 2, (300, 3)).astype(float)
    labels_[:, 2] = np.arange(300) < 5
    labels_[rng.random(300) < 0.2, 0] = np.nan
    said = np.clip(np.nan_to_num(labels_) * 0.5 + rng.random((300, 3)) * 0.6, 0, 1)
    people = np.repeat(np.arange(60), 5)
    table = attribute_table(said, labels_, ["a", "b", "rare"], people, 0.95, 500)
    assert table.attribute.tolist() == ["a", "b", MEAN]
    for column, name in enumerate("ab"):
        known = np.isfinite(labels_[:, column])
        expected = balanced_accuracy_score(labels_[known, column], said[known, column] > 0.5)
        row = table.set_index("attribute").loc[name]
        assert row.balanced_accuracy == pytest.approx(expected) and row.lo < expected < row.hi and row.n == known.sum()
    mean = table.iloc[-1]
    assert mean.balanced_accuracy == pytest.approx(table.balanced_accuracy[:2].mean())
    assert attribute_table(said, labels_ * 0, ["a", "b", "rare"], people, 0.95, 10).empty


def test_the_interval_is_that_of_people_not_of_photos():
    people, present = np.repeat(np.arange(60), 6), np.tile([0.0, 1.0], 180)[:, None]
    said = np.where((people % 2 == 0)[:, None], present, 1 - present)  # of a person all photos are read, or none is
    row = attribute_table(said, present, ["a"], people, 0.95, 2000).iloc[0]
    assert row.balanced_accuracy == 0.5 and row.hi - row.lo == pytest.approx(2 * 1.96 * 0.5 / np.sqrt(60), rel=0.15)
