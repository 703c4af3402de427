"""Whole photos through CAMOUFLaGE: all of them changes, in their own shape, and in doubt nothing comes out."""

from dataclasses import replace

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from anonlib import config
from anonlib.anonymizers import photo_folder as album
from anonlib.anonymizers import registry
from anonlib.anonymizers import whole_photo as whole
from anonlib.anonymizers.camouflage import BASE
from anonlib.anonymizers.multi_face import find_people, read_people
from anonlib.anonymizers.whole_photo import _inpainted_shape, anonymize_whole, handles_whole_photos
from anonlib.assets import models
from anonlib.assets.models import ModelRef, ModelSpec
from anonlib.controls import annotate
from anonlib.engine.torch_setup import prepare_torch
from anonlib.faces import attributes as readers
from anonlib.paper import cli
from tests.conftest import PLACES, write_tiny_blip

prepare_torch(1)
from anonlib.diffusion.inpainting import Inpainter  # noqa: E402


@pytest.fixture(scope="module")
def bundle(tiny_bundle, tmp_path_factory) -> ModelSpec:
    blip = tmp_path_factory.mktemp("blip")
    write_tiny_blip(blip)
    own = ModelRef(f"{tiny_bundle}-camouflage")
    return ModelSpec(ModelRef(tiny_bundle), camouflage=own, captioner=ModelRef(str(blip)))


@pytest.fixture(scope="module")
def options(bundle) -> dict[str, dict]:
    """Those of both; of a photo of any size lines alone can be drawn without a network."""
    shared = {"steps": 2, "batch": 4, "size": 128, "bundle": bundle, "compiled": True}
    drawn = {"annotator": lambda name, images: annotate("lineart", images)}
    return {"camouflage-base": shared | drawn, "camouflage-light": shared}


def test_a_photo_is_painted_in_its_own_shape_and_the_area_of_the_model():
    assert _inpainted_shape(900, 900, 512) == (512, 512) and _inpainted_shape(100, 100, 512) == (512, 512)
    for height, width in ((480, 640), (4000, 3000), (1080, 1920), (333, 1000)):
        high, wide = _inpainted_shape(height, width, 512)
        assert high % 64 == wide % 64 == 0 and 0.8 < high * wide / 512**2 < 1.25
        assert abs(np.log(high / wide * width / height)) < 0.2
    assert min(_inpainted_shape(10, 4000, 512)) == 64


def test_only_full_size_models_of_whole_photos_paint_them(bundle):
    def handled(name: str, models: ModelSpec, size: int = 512) -> bool:
        return handles_whole_photos(name, {"bundle": models, "size": size})

    read = replace(bundle, annotators=tuple((name, ModelRef("owner/maps", "0" * 40)) for name in BASE))
    assert handled("camouflage-base", read) and not handled("camouflage-base", read, 128)
    assert handled("ia-depth", bundle, 129) and not handled("ia-depth", read, 128), "128 px is the small model's"
    assert not handled("camouflage-base", bundle), "the maps of the demo are of aligned faces"
    assert not handled("camouflage-base", replace(read, captioner=None))
    assert not handled("camouflage-light", read)
    assert handled("camouflage-light", replace(read, reader=read.captioner))
    assert not handles_whole_photos("blur", {}), "it has no generator"
    for profile, expected in (("full", True), ("demo", False), ("smoke", False)):
        generator = config.load(profile).generator
        options = {"bundle": models.model_spec(generator), "size": generator.size}
        for name in registry.names(registry.CAMOUFLAGE, registry.IA):
            assert handles_whole_photos(name, options) is expected


@pytest.mark.parametrize("name", registry.names(registry.CAMOUFLAGE))
def test_everything_in_a_photo_changes_and_its_company_does_not_matter(name, options, crowd, photos, monkeypatch):
    real, sizes = Inpainter.prepare, []
    monkeypatch.setattr(
        Inpainter, "prepare", lambda self, order: sizes.append(tuple(order.images.shape)) or real(self, order)
    )
    tall = cv2.copyMakeBorder(photos[0], 130, 0, 0, 0, cv2.BORDER_REPLICATE)
    nobody = np.random.default_rng(0).integers(0, 256, (90, 70, 3)).astype(np.uint8)
    scenes = anonymize_whole(find_people([crowd, nobody, tall]), name, options[name], {})
    assert [one.status for one in scenes] == ["ok", "no_face", "ok"]
    assert [one.faces for one in scenes] == [("ok",) * 3, (), ("ok",)]
    assert not scenes[1].image.any() and sizes == [(1, 3, 128, 128), (1, 3, 192, 64)]
    for photo, one in ((crowd, scenes[0]), (tall, scenes[2])):
        assert one.image.shape == photo.shape
        changed = np.abs(one.image.astype(int) - photo).max(-1) > 8
        assert changed.mean() > 0.9 and changed[:20, :20].mean() > 0.5, "where nobody is too"
    (alone,) = anonymize_whole(find_people([tall]), name, options[name], {})
    np.testing.assert_array_equal(alone.image, scenes[2].image)
    (other,) = anonymize_whole(find_people([tall]), name, options[name], {"steps": 3})
    assert (other.image != alone.image).any(), "the seed follows from the parameters"


def test_each_photo_has_the_masks_of_its_own_people(bundle, crowd, photos, monkeypatch):
    masks = []
    monkeypatch.setattr(
        whole.registry,
        "create",
        lambda *name, **told: lambda one, mask, seeds: masks.append(mask[0]) or (one, ["error"]),
    )
    tall = cv2.copyMakeBorder(photos[1], 130, 0, 0, 0, cv2.BORDER_REPLICATE)
    for photos_of in ([crowd, tall], [tall], [crowd]):
        anonymize_whole(find_people(photos_of), "camouflage-light", {"size": 128, "bundle": bundle}, {})
    np.testing.assert_array_equal(masks[0], masks[3])
    np.testing.assert_array_equal(masks[1], masks[2])
    assert masks[0].shape == (128, 128) and masks[1].shape == (192, 64), "at the generator's size"
    for top, left, side in PLACES:
        assert masks[0][(top + side // 2) * 128 // 660, (left + side // 2) * 128 // 700] == 255
    assert 0.1 < (masks[0] > 0).mean() < 0.7 and not masks[1][:44].any()


def test_the_nearest_face_stands_for_a_photo(bundle, crowd):
    found = find_people([crowd])
    reads = readers.attribute_predictor(bundle)
    people, embeds = read_people(crowd[None], found.faces, reads)
    _, expected = reads.predict(found.images)
    heights = [np.ptp(one.points[:, 1]) for one in people[0]]
    assert heights == sorted(heights) and np.abs(expected[0] - expected[-1]).max() > 0.01
    np.testing.assert_allclose(embeds[0], expected[-1], atol=1e-5)


def test_a_photo_that_comes_out_as_it_was_is_black_and_so_is_one_without_a_map(options, crowd, monkeypatch):
    base = options["camouflage-base"]
    monkeypatch.setattr(
        "anonlib.anonymizers.diffusion.DiffusionAnonymizer._inpaint",
        lambda self, names, images, *more: (images, ["ok"]),
    )
    (made,) = anonymize_whole(find_people([crowd]), "camouflage-base", base, {})
    assert made.status == "error" and made.faces == ("error",) * 3 and not made.image.any()
    monkeypatch.undo()
    empty = {"annotator": lambda name, images: (np.zeros_like(images), np.zeros(len(images), bool))}
    (made,) = anonymize_whole(find_people([crowd]), "camouflage-base", base | empty, {})
    assert made.status == "error" and not made.image.any()


def test_a_folder_of_photos_is_painted_whole_where_the_models_can(tiny_bundle, crowd, tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    Image.fromarray(crowd).save(tmp_path / "in" / "crowd.png")
    Image.fromarray(crowd[:60, :60]).save(tmp_path / "in" / "nobody.png")
    (tmp_path / "in" / "broken.jpg").write_bytes(b"no photo")
    monkeypatch.setattr(album, "handles_whole_photos", lambda name, options: True)
    told = ["--method", "camouflage-light", "--profile", "smoke", "--model", tiny_bundle]
    told += ["--camouflage", f"{tiny_bundle}-camouflage"]
    assert cli.main(["anonymize", str(tmp_path / "in"), str(tmp_path / "out"), *told]) == 0
    table = pd.read_csv(tmp_path / "out" / album.LIST, index_col="file")
    assert table.status.to_dict() == {"broken.jpg": "error", "crowd.png": "ok", "nobody.png": "no_face"}
    assert table.black.tolist() == [0, 0, 0]
    made = np.asarray(Image.open(tmp_path / "out" / "crowd.png"))
    assert made.shape == crowd.shape and (made[:20, :20] != crowd[:20, :20]).any()
    assert not np.asarray(Image.open(tmp_path / "out" / "nobody.png")).any()
