"""Weaker control: the maps, the points, and which of them no other beats."""

import itertools
from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import pytest

from anonlib import config, data
from anonlib.attacks.ranking import AttackResult
from anonlib.config.errors import AnonlibError
from anonlib.controls import degrade as control
from anonlib.data.synthetic import EMBEDDED
from anonlib.faces import GLASSES, HAIR, detect
from anonlib.paper.experiments import boundary
from anonlib.plotting import maps as drawn

DEMO = config.load("demo")


def noise(n: int = 2) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, 128, 128, 3), dtype=np.uint8)


def test_a_whole_map_is_the_map_itself_and_a_copy() -> None:
    maps = noise()
    same = control.degrade_control(maps, maps)
    np.testing.assert_array_equal(same, maps)
    same[:] = 0
    assert maps.any()


def test_blur_and_fewer_pixels_are_opencvs() -> None:
    maps = noise()
    blurred = control.degrade_control(maps, maps, blur=3.0)
    np.testing.assert_array_equal(blurred[1], cv2.GaussianBlur(maps[1], (0, 0), 3.0))
    coarse = control.degrade_control(maps, maps, pixels=16)
    cells = maps.reshape(2, 16, 8, 16, 8, 3).mean(axis=(2, 4))
    again = cv2.resize(coarse[0], (16, 16), interpolation=cv2.INTER_AREA)
    assert np.abs(again.astype(float) - cells[0]).mean() < 12 < np.abs(cells[0] - cells[0].mean()).max()
    assert coarse.std() < blurred.std() * 3 < maps.std()
    np.testing.assert_array_equal(control.degrade_control(maps, maps, pixels=128), maps)
    with pytest.raises(AnonlibError, match="1 to 128"):
        control.degrade_control(maps, maps, pixels=200)


def test_a_hidden_region_is_black_in_the_map_and_nothing_else_changes(monkeypatch) -> None:
    angle = np.linspace(0, 2 * np.pi, 36, endpoint=False)
    points = np.full((468, 3), 64.0)
    for group, (x, y, radius) in zip(
        [part for parts in control.POINTS.values() for part in parts],
        [(50, 55, 6), (78, 55, 6), (64, 68, 7), (64, 85, 8), (64, 64, 40)],
        strict=True,
    ):
        turn = angle[: len(group)] * 36 / len(group)
        points[group, :2] = np.stack([x + radius * np.cos(turn), y + radius * np.sin(turn)], 1)
    labels = np.zeros((2, 128, 128), np.uint8)
    labels[:, 5:20, 40:90] = HAIR[0]
    labels[:, 70:72, 44:56] = GLASSES[0]
    monkeypatch.setattr(control, "parse", lambda images: labels)
    monkeypatch.setattr(control, "face_mesh", lambda image: points if image.any() else None)
    maps = np.full((2, 128, 128, 3), 200, np.uint8)
    for name in control.REGIONS:
        inside = control.region(maps, name)
        seen = control.degrade_control(maps, maps, hidden=name)
        assert inside.any() and not seen[inside].any() and (seen[~inside] == 200).all()
    eyes, outline, hair = (control.region(maps, name)[0] for name in ("eyes", "outline", "hair"))
    assert eyes[55 - 6 - control.GROW, 50] and not eyes[55 - 6 - control.GROW - 3, 50] and not eyes[55, 64]
    assert eyes[71, 50] and not hair[71, 50] and not outline[71, 50], "the rim of the glasses"
    assert outline[104 + control.GROW, 64] and outline[104 - control.GROW + 2, 64] and not outline[64, 64]
    assert hair[12, 60] and not hair[60, 60]
    assert not control.region(np.zeros_like(maps), "nose").any(), "nobody is there"
    with pytest.raises(AnonlibError, match="ears"):
        control.region(maps, "ears")


def test_the_regions_lie_where_the_detector_sees_eyes_nose_and_mouth() -> None:
    if not EMBEDDED.exists():
        pytest.skip("the embedded faces are not there: make data")
    photos = data.load("synthetic", people={"test": 6, "train": 2, "validation": 2}, images=2).images
    seen = {name: control.region(photos, name) for name in control.REGIONS}
    assert len(photos) >= 10 and all(one.reshape(len(photos), -1).any(1).all() for one in seen.values())
    touched = 0
    for row, photo in enumerate(photos):
        points = np.rint(detect(photo)[0].points).astype(int)  # two eyes, the nose's tip, two corners of the mouth
        for name, rows in {"eyes": points[:2], "nose": points[2:3], "mouth": points[3:]}.items():
            for x, y in rows:
                assert seen[name][row, y, x], f"{name} of photo {row}"
                assert not any(seen[other][row, y, x] for other in {"eyes", "mouth"} - {name})
        touched += seen["outline"][row, points[2, 1], points[2, 0]]
    assert touched <= 0.1 * len(photos), "a band around the face: only a nose in profile lies on it"


def test_points_weaken_one_thing_at_a_time_at_full_strength() -> None:
    chosen = boundary.points(replace(DEMO.boundary, anonymizer="ia-depth+hed"))
    assert len({one.name for one in chosen}) == len(chosen) == 4 + 2 + 2 + 5 + 3 + 1
    for one in chosen:
        scales = one.options["scales"]
        assert set(scales) == {"depth", "hed"}
        assert set(scales.values()) == {one.value if one.axis == "strength" else 1.0}
        option = "lcm_steps" if one.axis == "few_steps" else one.axis  # the axis is a column of the published table
        assert {key for key in one.options if key != "scales"} == ({option} - {"strength"})
        if one.axis == "guidance":
            assert one.options["guidance"] == (one.value,), "scales of which one is drawn for each image"
    guidances = {one.value for one in chosen if one.axis == "guidance"}
    assert guidances == {2.0, 3.0, 7.0} and guidances.isdisjoint(DEMO.generator.guidance), "else one setting is twice"
    assert chosen[-1].axis == "few_steps", "docs/results.md calls it the last row"


def test_the_front_is_what_no_other_point_beats() -> None:
    rng = np.random.default_rng(2)
    leak, kept = rng.integers(0, 6, 40) / 5, rng.integers(0, 6, 40) / 5
    found = boundary.pareto_front(leak, kept)
    for k in range(40):
        beaten = any(
            leak[o] <= leak[k] and kept[o] >= kept[k] and (leak[o], kept[o]) != (leak[k], kept[k]) for o in range(40)
        )
        assert found[k] == (not beaten)
    assert boundary.pareto_front(np.array([0.1, 0.1]), np.array([0.5, 0.5])).all(), "equal ones are both on it"


def test_the_attackers_of_the_first_seeds_go_on_and_each_is_tested_on_every_point(monkeypatch) -> None:
    def train(faces, made, todo, known):
        assert known == "those of notebook 03" and set(made) == {"noop", "ia-hed", "mixed"}
        return [AttackResult("mixed", job.label, job.config.seed, None, None, training=job, weights={}) for job in todo]

    monkeypatch.setattr(boundary.benchmark, "run_trainings", train)
    told = {"a": np.full((1, 2), 1.0), "b": np.full((1, 2), 2.0)}
    monkeypatch.setattr(
        boundary, "embed_all", lambda all_of, photos: [{k: told[k] + one.seed for k in photos[0]} for one in all_of]
    )
    probes = {name: SimpleNamespace(images=None) for name in told}
    settings = replace(DEMO, attack=replace(DEMO.attack, seeds=(7, 3, 5)))
    given = (None, "mixed photos", probes, {"noop": None, "ia-hed": None}, "those of notebook 03", settings)
    found = boundary.attack(*given)
    assert [(one.seed, one.anonymizer, one.probes[0, 0]) for one in found] == [
        (7, "a", 8), (7, "b", 9), (3, "a", 4), (3, "b", 5)
    ]  # fmt: skip
    assert {one.training.init_from for one in found} == {(DEMO.boundary.anonymizer, "contrastive-face")}
    assert {one.training.train_on for one in found} == {("mixed", "ia-hed")}


def test_both_pictures_are_drawn() -> None:
    frame = pd.DataFrame(
        {"axis": ["strength", "strength", "blur"], "value": ["0.1", "1.0", "5"], "kept": [0.2, 0.8, 0.5],
         "top1": [0.05, 0.3, 0.1], "lo": [0.02, 0.25, 0.06], "hi": [0.1, 0.36, 0.15], "front": [True, True, False]}
    )  # fmt: skip
    names = {"x": "kept", "y": "top1", "lo": "lo", "hi": "hi", "series": "axis", "text": "value", "front": "front"}
    axes = drawn.frontier(frame, **names, xlabel="kept", ylabel="top-1").axes[0]
    np.testing.assert_allclose(axes.lines[0].get_xdata(), [0.2, 0.8])
    assert {note.get_text() for note in axes.texts} == {"0.1", "1.0", "5"}
    beside = [frame.assign(kept=frame.kept + 0.015 * step, top1=0.3) for step in (-1, 0, 1, 2)]
    crowd = pd.concat([frame, frame.assign(kept=frame.kept + 0.015), *beside])
    axes = drawn.frontier(crowd, **names, xlabel="kept", ylabel="top-1").axes[0]
    axes.figure.draw_without_rendering()
    boxes = [note.get_window_extent().padded(-0.5) for note in axes.texts if note.get_text()]  # they may touch
    assert any(note.arrow_patch for note in axes.texts), "a label far from its point has no line to it"
    for spot in axes.transData.transform(crowd[["kept", "top1"]].to_numpy()):
        assert not any(box.contains(*spot) for box in boxes), "a label hides a point"
    assert len(boxes) == len(crowd) and not any(one.overlaps(two) for one, two in itertools.combinations(boxes, 2))
    table = pd.DataFrame({"value": ["eyes", "mouth"], "difference": [-0.2, 0.05]})
    masks = np.zeros((2, 128, 128), bool)
    masks[0, 50:60, 40:90], masks[1, 90:100, 50:80] = True, True
    face = {"table": table, "image": np.full((128, 128, 3), 128, np.uint8), "masks": masks}
    figure = drawn.regions(face, name="value", value="difference", label="change of top-1")
    painted = figure.axes[1].images[0].get_array()
    eyes, mouth, rest = painted[55, 60].astype(int), painted[95, 60].astype(int), painted[20, 20].astype(int)
    assert eyes[2] > eyes[0] and mouth[0] > mouth[2] and np.ptp(rest) <= 1


def test_what_strength_gives_away_is_recorded_with_its_sign() -> None:
    row = {"people": 9, "faces": 8, "kept": 0.5}
    frame = pd.DataFrame(
        [
            row | {"anonymizer": "a-1.0", "axis": "strength", "value": "1.0"},
            row | {"anonymizer": "a-0.1", "axis": "strength", "value": "0.1", "difference": -0.2, "difference_lo": -0.3}
            | {"difference_hi": -0.05, "p_holm": 0.01, "p_holm_lo": 0.002},
            row | {"anonymizer": "a-blur", "axis": "blur", "value": "2.0", "difference": -0.9, "p_holm": 0.5},
        ]
    )  # fmt: skip
    numbers = boundary._numbers(frame, "ia-hed")
    assert numbers["boundary/ia-hed/gain_of_strength"] == (0.2, 0.05, 0.3, 9, "", "")
    assert numbers["boundary/ia-hed/gain_of_strength_p"] == (0.01, 0.002, None, 9, "", "")
    assert numbers["utility/a-blur/attributes_kept"] == (0.5, None, None, 8, "", "") and len(numbers) == 5
    assert list(boundary._numbers(frame.iloc[:1], "ia-hed")) == ["utility/a-1.0/attributes_kept"]
