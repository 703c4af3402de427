"""CAMOUFLaGE-Base over its scale, the distances that are drawn of it, its time, and the panel that steps through it."""

from dataclasses import replace

import numpy as np
import pytest

from anonlib import config
from anonlib.anonymizers import registry
from anonlib.paper import panel
from anonlib.paper.experiments import scale_sweep as sweep

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture(scope="module")
def settings(tiny_bundle) -> config.Profile:
    smoke = config.load("smoke")
    generator = replace(smoke.generator, bundle=tiny_bundle, camouflage=f"{tiny_bundle}-camouflage", lora=None)
    return replace(smoke, generator=replace(generator, steps=2, batch=2))


def test_a_sweep_keeps_the_noise_and_leaves_out_who_has_no_map(settings, photos):
    images = np.concatenate([photos[:2], np.full_like(photos[:1], 90), photos[2:]])
    swept = sweep.sweep(images, (0.0, 1.0, 1), settings)
    assert swept.rows.tolist() == [0, 1, 3] and swept.images.shape == (3, 3, 128, 128, 3)
    assert set(swept.maps) == {"depth", "normal", "segmentation", "openpose", "lineart"}
    np.testing.assert_array_equal(swept.images[1], swept.images[2])
    assert np.abs(swept.images[0].astype(int) - swept.images[1]).mean() > 0.5
    alone = sweep.sweep(photos[1:2], (1.0,), settings)
    np.testing.assert_array_equal(alone.images[0, 0], swept.images[1, 1])


def test_a_step_is_paired_by_photo():
    rng = np.random.default_rng(0)
    spread = rng.normal(0, 5, 200)  # people differ far more than scales do
    values = np.stack([spread + 0.2 * scale + rng.normal(0, 0.05, 200) for scale in range(3)])
    table = sweep.distance_table({"lpips": values}, (0.0, 0.5, 1.0), np.arange(200), 0.95, 500).frame
    assert table.distance.tolist() == pytest.approx(values.mean(1)) and (table.hi - table.lo > 1).all()
    steps = table.dropna(subset=["step"])
    assert len(steps) == 2 and (steps.step_lo > 0.15).all() and (steps.step_hi < 0.25).all()


def test_both_are_timed_with_all_that_they_need(settings, photos):
    taken = sweep.seconds(photos[:2], settings).frame
    assert taken.anonymizer.tolist() == list(registry.names(registry.CAMOUFLAGE)) and (taken.n == 2).all()
    assert (taken.least > 0).all() and (taken.least <= taken.seconds).all() and (taken.seconds <= taken.most).all()


def test_sliders_paint_the_picture_anew(settings, photos, monkeypatch):
    studio = panel.Studio(photos[0], settings)
    strip = studio.strip((0.5, 1.0))
    assert strip.shape == (2, 128, 128, 3) and np.abs(strip[0].astype(int) - strip[1]).mean() > 0.5
    widget = studio.panel()
    pictures, away, *weights, told = widget.children
    original, shown = (one.value for one in pictures.children)
    assert original != shown and told.value.endswith(" s") and len(weights) == 5
    away.value = 0.5
    changed = pictures.children[1].value
    assert changed != shown and pictures.children[0].value == original
    weights[0].value = 0.0
    assert pictures.children[1].value != changed
    studio.maps["normal"] = (studio.maps["normal"][0], np.array([False]))
    away.value = 1.0
    assert told.value == "a control map is empty"
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    assert not panel.live()
    monkeypatch.setenv("JPY_SESSION_NAME", "08_camouflage.ipynb")
    assert panel.live()
