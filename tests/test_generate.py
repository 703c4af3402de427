"""The embedded faces can be drawn again from their recipes, and recipes are what they say."""

import numpy as np
import pytest

from anonlib.data.heads import HEADS
from anonlib.data.synthetic import EMBEDDED, _read_pack
from anonlib.metrics.quality import psnr
from tools.build import heads, render
from tools.build.faces import BATCHES, Batch, encode, splits_of


def test_a_recipe_survives_its_json_and_weaker_ones_move_less():
    recipe = render.draw_recipe(np.random.default_rng(3), 7, 1.0)
    assert render.Recipe.from_json(recipe.to_json()) == recipe
    half = render.weaker(recipe, 0.5)
    assert half.fine == recipe.fine and half.coarse[2] == pytest.approx(recipe.coarse[2] / 2, abs=1e-3)
    assert all(abs(half.moves[name]) <= abs(amount) for name, amount in recipe.moves.items())


def test_recipes_of_one_person_differ_in_background_and_light():
    rng = np.random.default_rng(0)
    recipes = [render.draw_recipe(rng, 1, 1.0) for _ in range(6)]
    assert len({recipe.background for recipe in recipes}) == 6 and len({recipe.fine for recipe in recipes}) == 6


def test_people_dropped_by_eye_are_replaced_inside_their_split(monkeypatch, tmp_path):
    from tools.build import faces as build

    batches = (
        Batch("test", 5, 4, 10),
        Batch("validation", 3, 2, 6),
        Batch("train", 4, 3, 6),
        Batch("validation", 2, 1, 6),
    )
    monkeypatch.setattr(build, "BATCHES", batches)
    dropped = tmp_path / "dropped.txt"
    dropped.write_text("12 looks young\n")
    monkeypatch.setattr(build, "DROPPED_BY_EYE", dropped)
    chosen = splits_of(list(range(10, 24)))
    assert [seed for seed, split in chosen.items() if split == "test"] == [10, 11, 13, 14]
    assert [seed for seed, split in chosen.items() if split == "validation"] == [15, 16, 22]
    assert [seed for seed, split in chosen.items() if split == "train"] == [18, 19, 20]


@pytest.mark.skipif(not EMBEDDED.exists(), reason="the embedded faces are not there: make data")
class TestPack:
    def test_it_holds_what_the_build_promises(self):
        encoded, masks, table = _read_pack(EMBEDDED)
        assert EMBEDDED.stat().st_size <= 35e6
        for split in ("test", "validation", "train"):
            part, batches = table[table.split == split], [batch for batch in BATCHES if batch.split == split]
            assert part.identity.nunique() == sum(batch.people for batch in batches)
            assert (part.groupby("identity").size() == batches[0].photos).all()
        assert (masks.reshape(len(masks), -1).mean(1) > 0.15).all()

    def test_a_sample_is_drawn_again_from_its_manifest(self):
        import cv2

        from anonlib.faces import person_mask
        from tools.build.stylespace import load_generator

        encoded, _, table = _read_pack(EMBEDDED)
        generator = load_generator()
        for row in (0, 1, len(table) - 1):
            recipe = render.Recipe.from_json(table.edit.iloc[row])
            face, points = render.draw_face(generator, recipe)
            drawn = render.finish(generator, recipe, face, person_mask(face[None])[0])
            again = cv2.imdecode(np.frombuffer(encode(drawn), np.uint8), cv2.IMREAD_COLOR)
            shipped = cv2.imdecode(np.frombuffer(encoded[row], np.uint8), cv2.IMREAD_COLOR)
            assert psnr(again[None], shipped[None])[0] > 38, table.file.iloc[row]
            expected = table.iloc[row][[f"{axis}{k}" for k in range(5) for axis in "xy"]].to_numpy(float).reshape(5, 2)
            np.testing.assert_allclose(points, expected, atol=0.5)


def test_a_childlike_style_is_refused_and_its_opposite_is_not():
    fitted = render.directions()
    push = fitted["young"] / (fitted["young"] @ fitted["young"])
    middle = (render.YOUNG_LIMIT - fitted["young_bias"]) * push
    assert render.looks_young(middle + 3 * push) and not render.looks_young(middle - 3 * push)


def test_one_step_along_a_direction_is_one_standard_deviation():
    from tools.build.directions import direction

    rng = np.random.default_rng(0)
    styles, slope = rng.standard_normal((400, 20)), rng.standard_normal(20)
    values = 3 + styles @ slope
    step = direction(styles, values)
    assert step @ slope == pytest.approx(values.std(), rel=0.02)


def test_the_young_score_tells_labelled_groups_apart():
    from tools.build.directions import young_score

    rng = np.random.default_rng(0)
    styles = rng.standard_normal((600, 20))
    young = styles[:, 0] + 0.3 * rng.standard_normal(600) > 1.2
    slope, bias = young_score(styles, young)
    scores = styles @ slope + bias
    assert scores[young].min() > np.median(scores) and (scores[young].mean() - scores[~young].mean()) > 2


def test_measures_do_not_change_with_scale_or_place():
    from anonlib.faces import FRAME_POINTS
    from tools.build.directions import landmark_measures

    once, twice = landmark_measures(FRAME_POINTS), landmark_measures(2 * FRAME_POINTS + 30)
    assert once == pytest.approx(twice, rel=1e-4) and abs(once["yaw"]) < 0.05


def test_a_triangle_is_seen_from_the_front_and_the_nearer_one_hides_the_other():
    flat = np.array([(-1, -1, 0), (1, -1, 0), (0, 1, 0)], float)
    points = np.concatenate([flat, flat * 0.5 + (0, 0, 0.3)])
    who, weight = heads.rasterize(points, np.array([(3, 4, 5), (0, 1, 2), (3, 5, 4)]))
    scale = heads.DRAWN / heads.REACH
    assert (who == 0).sum() == pytest.approx(0.5 * scale**2, rel=0.03), "half of a unit's square"
    assert (who >= 0).sum() == pytest.approx(2 * scale**2, rel=0.03)
    assert 2 not in who, "its back"
    at = np.argwhere(who == 1)
    places = (weight[who == 1][..., None] * points[[0, 1, 2]]).sum(1)
    np.testing.assert_allclose(places[:, 0], (at[:, 1] - heads.DRAWN / 2) / scale, atol=1e-6)


def test_a_shipped_head_is_drawn_again():
    from PIL import Image

    body = heads.load_body()
    for number, photo in ((0, 1), (7, 0)):
        again = heads.draw_photo(body, heads.draw_person(body, number), number * heads.PHOTOS + photo)
        shipped = np.asarray(Image.open(HEADS / f"head-{number:02d}" / f"{photo}.png"))
        assert psnr(again[None], shipped[None])[0] > 40
