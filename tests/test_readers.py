"""Who reads faces: FaRL and FACER's head as their own code runs them, BLIP, and what is said where a file is wrong."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from anonlib.assets import releases
from anonlib.assets.models import ATTRIBUTES, IDENTITY, OWN, ModelRef
from anonlib.engine.torch_setup import prepare_torch
from anonlib.faces import attributes as readers

prepare_torch()
import torch  # noqa: E402
from torch import nn  # noqa: E402

from anonlib.config.errors import AnonlibError  # noqa: E402
from anonlib.faces import FRAME_POINTS, similarity_transform  # noqa: E402
from anonlib.networks import captioner, farl  # noqa: E402
from tests.conftest import write_tiny_blip  # noqa: E402

WIDTH, LAYERS = 64, 2


class Block(nn.Module):
    """A block of CLIP's image encoder in OpenAI's layout, an oracle."""

    def __init__(self):
        super().__init__()
        self.attn = nn.MultiheadAttention(WIDTH, 1, batch_first=True)
        self.ln_1, self.ln_2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.mlp = nn.Module()
        self.mlp.c_fc, self.mlp.c_proj = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x):
        seen = self.ln_1(x)
        x = x + self.attn(seen, seen, seen, need_weights=False)[0]
        wide = self.mlp.c_fc(self.ln_2(x))
        return x + self.mlp.c_proj(wide * torch.sigmoid(1.702 * wide))


class Vision(nn.Module):
    """CLIP's image encoder in OpenAI's layout."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, WIDTH, 16, 16, bias=False)
        self.class_embedding = nn.Parameter(torch.randn(WIDTH))
        self.positional_embedding = nn.Parameter(torch.randn(197, WIDTH))
        self.ln_pre, self.ln_post = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.transformer = nn.Module()
        self.transformer.resblocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.proj = nn.Parameter(torch.randn(WIDTH, 32))

    def forward(self, x):
        x = self.conv1(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_embedding.expand(len(x), 1, -1), x], 1) + self.positional_embedding
        x = self.ln_pre(x)
        for block in self.transformer.resblocks:
            x = block(x)
        return x


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Write both files as their authors do, with random weights; return the folder and what they were made of."""
    folder = tmp_path_factory.mktemp("farl")
    torch.manual_seed(0)
    image, trunk, head = Vision(), Vision(), farl.Attributes(WIDTH)
    nn.init.normal_(head.weights)
    torch.save({"state_dict": {f"visual.{name}": one for name, one in image.state_dict().items()}}, folder / farl.IMAGE)
    kept = {
        f"backbone.{name}": one for name, one in trunk.state_dict().items() if "ln_post" not in name and name != "proj"
    }
    torch.save(kept | {f"head.{name}": one for name, one in head.state_dict().items()}, folder / farl.ATTRIBUTES)
    return folder, image, trunk, head


def test_farl_and_its_head_are_those_of_the_published_layout(files):
    folder, image, trunk, head = files
    net, faces = farl._load_farl(folder), torch.randn(2, 3, 224, 224)
    with torch.inference_mode():
        attributes, embedding = net(faces)
        last = trunk(faces)
        parts = torch.stack(
            [head.norm_0(last[:, 1:].mean(1)), head.norm_1(last[:, 1:].amax(1)), head.norm_2(last[:, 0])], 1
        )
        expected = head.final_fc((parts * head.weights.softmax(1)).sum(1)).sigmoid()
        torch.testing.assert_close(attributes, expected, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(embedding, image.ln_post(image(faces)[:, 0]) @ image.proj, atol=1e-3, rtol=1e-4)


def test_faces_are_laid_where_facer_has_them(files):
    matrix = similarity_transform(FRAME_POINTS, farl.POINTS)
    moved = FRAME_POINTS @ matrix[:, :2].T + matrix[:, 2]
    assert np.abs(moved - farl.POINTS).max() < 4, "two templates of one face"
    images = np.random.default_rng(0).integers(0, 256, (3, 128, 128, 3)).astype(np.uint8)
    bundle = replace(OWN, reader=ModelRef(str(files[0])))
    attributes, embeds = readers.attribute_predictor(bundle).predict(images)
    assert attributes.shape == (3, 40) and embeds.shape == (3, 32) and attributes.dtype == np.float32
    alone, _ = readers.attribute_predictor(bundle).predict(images[1:2])
    np.testing.assert_allclose(alone[0], attributes[1], atol=1e-5)


def test_facer_sees_the_photo_around_a_face_as_its_own_code_samples_it():
    # facer/face_attribute/farl.py, facer/transform.py of FacePerceiver/facer: its five points, scaled by 224 / 500;
    # grid = inverse matrix @ (x, y, 1) / (w, h) * 2 - 1, bilinear, align_corners False, black outside
    rng = np.random.default_rng(0)
    photo = rng.integers(0, 256, (20, 30, 3)).astype(np.uint8).repeat(20, 0).repeat(20, 1)
    points = FRAME_POINTS * 1.5 + (310, 120)
    assert farl.POINTS[0].tolist() == pytest.approx([(85.83 - 128 + 250) * 224 / 500, (115.78 - 128 + 250) * 224 / 500])
    matrix = similarity_transform(points, farl.POINTS)
    (found,) = farl.crop_faces(photo[None], matrix[None])
    inverse = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))
    for x, y in [(0, 0), (112, 110), (223, 5), (30, 200), (200, 223)]:
        across, down = (inverse @ (x, y, 1))[:2] - 0.5
        left, top = int(np.floor(across)), int(np.floor(down))
        a, b = across - left, down - top
        expected = np.zeros(3)
        for i, j, weight in [(0, 0, (1 - a) * (1 - b)), (1, 0, a * (1 - b)), (0, 1, (1 - a) * b), (1, 1, a * b)]:
            if 0 <= left + i < 600 and 0 <= top + j < 400:
                expected += weight * photo[top + j, left + i] / 255
        np.testing.assert_allclose(found[:, y, x], expected, atol=2e-3)


def test_a_face_in_a_photo_is_read_with_its_surroundings_and_an_aligned_one_ends_at_its_frame(files):
    rng = np.random.default_rng(1)
    photo = cv2.resize(rng.integers(0, 256, (40, 40, 3)).astype(np.uint8), (400, 400), interpolation=cv2.INTER_CUBIC)
    points = [FRAME_POINTS + (130, 120), FRAME_POINTS + (30, 200)]
    predictor = readers.attribute_predictor(replace(OWN, reader=ModelRef(str(files[0]))))
    attributes, embeds = predictor.predict_faces(photo, points)
    assert attributes.shape == (2, 40) and embeds.shape == (2, 32)
    alone, _ = predictor.predict_faces(photo, points[:1])
    np.testing.assert_allclose(alone[0], attributes[0], atol=1e-5)
    around = photo.copy()
    around[:118, :], around[250:, :] = 0, 255  # outside the aligned frame of the first face
    assert np.abs(predictor.predict_faces(around, points[:1])[0] - alone).max() > 1e-5
    frame = photo[120:248, 130:258]
    black = np.zeros_like(photo)
    black[120:248, 130:258] = frame
    np.testing.assert_allclose(
        predictor.predict(frame[None])[0], predictor.predict_faces(black, points[:1])[0], atol=2e-3
    )
    empty, nothing = predictor.predict_faces(photo, [])
    assert empty.shape == (0, 40) and nothing.shape == (0, 32)


def test_a_missing_or_foreign_file_is_one_line(files, tmp_path):
    with pytest.raises(AnonlibError, match="has no FaRL-Base"):
        farl._load_farl(tmp_path)
    for name in (farl.IMAGE, farl.ATTRIBUTES):
        (tmp_path / name).write_bytes((files[0] / name).read_bytes())
    foreign = torch.load(tmp_path / farl.ATTRIBUTES)
    foreign.pop("backbone.ln_pre.weight")
    torch.save(foreign, tmp_path / farl.ATTRIBUTES)
    with pytest.raises(AnonlibError, match="weights do not fit"):
        farl._load_farl(tmp_path)


def test_the_released_files_are_those_that_farl_is_read_from():
    assert set(releases.RELEASES["FacePerceiver/FaRL"].files) == {farl.IMAGE, farl.ATTRIBUTES}


def test_what_has_to_be_there_depends_on_who_reads():
    far, said = ModelRef("owner/farl", "0" * 40), ModelRef("owner/blip", "0" * 40)
    base, light = (IDENTITY,), (ATTRIBUTES,)
    assert (
        OWN.camouflage in OWN.sources(base)
        and OWN.camouflage in OWN.sources(light)
        and OWN.camouflage not in OWN.sources(("hed",))
    )
    told = replace(OWN, reader=far, captioner=said)
    assert said in told.sources(base) and far not in told.sources(base) and OWN.camouflage in told.sources(base)
    assert {far, OWN.camouflage} <= set(told.sources(light)) and said not in told.sources(light)
    distant = replace(OWN, camouflage=ModelRef("owner/light", "0" * 40))
    assert distant.camouflage in distant.sources(light), "known before it is fetched"


def test_blip_says_the_same_of_a_picture_in_any_company(tmp_path):
    write_tiny_blip(tmp_path)
    images = np.random.default_rng(1).integers(0, 256, (3, 64, 64, 3)).astype(np.uint8)
    bundle = replace(OWN, captioner=ModelRef(str(tmp_path)))
    texts = readers.caption_images(bundle, images)
    assert len(texts) == 3 and all(text for text in texts)
    assert readers.caption_images(bundle, images[2:]) == texts[2:]
    captioner._captioner.cache_clear()
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(AnonlibError, match="holds no captioner"):
        readers.caption_images(bundle, images)
