"""What several tests share: a real diffusers bundle, untrained and very small."""

import gc
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from anonlib.assets import left_out
from anonlib.assets.models import ModelRef, ModelSpec
from anonlib.config import paths
from anonlib.engine import pool

# Parameters of the smallest run that is still whole.
SMALL = {
    "data.train_people": 8, "data.validation_people": 4, "data.test_people": 6, "data.images": 3, "generator.steps": 1,
    "anonymize.train_photos": 8, "anonymize.validation_photos": 4, "anonymize.train_conditions": None,
    "attack.steps": 2, "attack.tune_steps": 2, "attack.batch": 4, "attack.face_steps": 2, "attack.face_batch": 4,
    "attack.seeds": [0],
}  # fmt: skip
GPUS = pool.gpus()
os.environ["CUDA_VISIBLE_DEVICES"] = ""  # what tests compare with is exact in float32, so a GPU is for those marked gpu


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test that needs assets whose licence was not accepted."""
    for mark in item.iter_markers("assets"):
        if reason := left_out(mark.args):
            pytest.skip(reason)


def forget_networks() -> None:
    """Empty the caches of loaded networks and give their memory back to the system."""
    modules = [vars(module) for name, module in list(sys.modules.items()) if name.startswith("anonlib.")]
    for value in [value for names in modules for value in names.values()]:
        if hasattr(value, "cache_parameters") and value.cache_parameters()["maxsize"]:
            value.cache_clear()
    gc.collect()
    pool.trim_memory()


@pytest.fixture(scope="module", autouse=True)
def freed_networks():
    """Forget the networks that a test file loaded, so that the next one has the memory."""
    yield
    forget_networks()


@pytest.fixture
def in_float32(monkeypatch: pytest.MonkeyPatch):
    """Multiply in float32, whatever this CPU is fastest in: bounds of a few steps hold for one rounding."""
    from anonlib.engine import torch_setup

    torch_setup.prepare_torch(1)
    import torch

    monkeypatch.setattr(torch_setup, "fast_dtype", lambda device, training=False: torch.float32)


def write_tiny_bundle(folder: Path) -> Path:
    """Write a diffusers folder with ControlNets, CAMOUFLaGE's identity function among them, and CAMOUFLaGE-Light in
    `small-camouflage` beside it; return it."""
    from anonlib.engine.torch_setup import prepare_torch

    prepare_torch(1)
    import torch

    from anonlib.diffusion.loading import read_pipeline, save_net
    from anonlib.networks.attributes import EMBEDDING, AttributeHead, save_head
    from tools.build import small_bundle as build
    from tools.build import train_light
    from tools.build.train import save_bundle
    from tools.build.train_vae import build_vae

    torch.manual_seed(0)
    tokenizer = build.build_tokenizer(folder / "words")
    unet = build.build_unet(widths=(16, 32), layers=1)
    names = ("hed", "depth", "canny", "normal", "segmentation", "openpose", "lineart")
    nets = {name: build.build_controlnet(unet) for name in names}
    identity = build.build_identity(unet)
    for net in [*nets.values(), identity]:  # an untrained ControlNet adds exactly nothing: make it add something
        for layer in [*net.controlnet_down_blocks, net.controlnet_mid_block]:
            torch.nn.init.normal_(layer.weight, std=0.5)
    parts = (build_vae((8, 8, 16, 16), 1), unet, build.build_text_encoder(tokenizer), tokenizer, nets)
    bundle = Path(save_bundle(folder / "small", *parts))
    own = bundle.with_name("small-camouflage")
    save_net(identity, own / "identity")
    train_light.save_adapters(
        train_light.Adapters(read_pipeline(ModelSpec(ModelRef(str(bundle)))).unet, EMBEDDING), own
    )
    save_head(AttributeHead(), own / "encoder")
    return bundle


def write_tiny_blip(folder: Path) -> None:
    """Write a captioner of BLIP's architecture, untrained and very small."""
    from anonlib.engine.torch_setup import prepare_torch

    prepare_torch()
    import torch
    from transformers import BertTokenizer, BlipConfig, BlipForConditionalGeneration, BlipImageProcessor, BlipProcessor

    torch.manual_seed(0)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[DEC]", *(f"w{k}" for k in range(27))]
    (folder / "vocab.txt").write_text("\n".join(words))
    tokenizer = BertTokenizer(str(folder / "vocab.txt"))
    small = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = BlipConfig(
        text_config=small | {
            "vocab_size": len(words), "bos_token_id": 4, "eos_token_id": 3, "sep_token_id": 3, "pad_token_id": 0,
            "encoder_hidden_size": 32,
        },
        vision_config=small | {"image_size": 32, "patch_size": 16}, projection_dim=16, image_text_hidden_size=32,
    )  # fmt: skip
    BlipForConditionalGeneration(config).save_pretrained(folder)
    size = {"height": 32, "width": 32}
    BlipProcessor(BlipImageProcessor(size=size), tokenizer).save_pretrained(folder)


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the folder of a tiny bundle."""
    return str(write_tiny_bundle(tmp_path_factory.mktemp("bundle")))


@pytest.fixture
def registered():
    """Restore both registries after a test that adds to them; a file loaded in an earlier test registers again."""
    from anonlib.anonymizers import registry as anonymizers
    from anonlib.attacks import registry as attacks
    from anonlib.engine import plugins

    anonymizers.anonymizers(), attacks.attackers()  # what the package registers is there
    before = {registry: dict(registry._specs) for registry in (anonymizers, attacks)}
    plugins._load_file.cache_clear()
    yield
    for registry, specs in before.items():
        registry._specs.clear()
        registry._specs.update(specs)


@pytest.fixture
def beside_a_gpu() -> dict[str, str]:
    """Return the environment of a process that sees the GPUs."""
    if not GPUS:
        pytest.skip("needs an NVIDIA GPU")
    return os.environ | {"CUDA_VISIBLE_DEVICES": ",".join(GPUS)}


def share_cache(root: Path, *parts: str) -> None:
    """Link parts of the user's cache into a cache at `root`."""
    for part in parts:
        (paths.cache_root() / part).mkdir(parents=True, exist_ok=True)
        (root / part).symlink_to(paths.cache_root() / part)


@pytest.fixture(scope="module")
def own_cache(tmp_path_factory: pytest.TempPathFactory):
    """A cache of the module's own, empty but for assets, converted networks and the licences that the user accepted."""
    user, root = paths.cache_root(), tmp_path_factory.mktemp("cache")
    share_cache(root, "assets", "graphs")
    accepted = user / "accepted-licences.txt"
    (root / accepted.name).write_text(accepted.read_text() if accepted.exists() else "")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ANONLIB_CACHE", str(root))
        patch.setenv("ANONLIB_QUIET", "1")
        yield root


PLACES = ((30, 40, 256), (60, 420, 160), (330, 330, 300))  # top, left and side of each face in the crowd


@pytest.fixture(scope="session")
def photos() -> np.ndarray:
    """Three drawn faces, one a person."""
    from anonlib import data
    from anonlib.data.synthetic import EMBEDDED

    if not EMBEDDED.exists():
        pytest.skip("the embedded faces are not there: make data")
    faces = data.load("synthetic", people={"test": 3, "train": 2, "validation": 2}, images=2).select(split="test")
    return faces.images[np.unique(faces.identity, return_index=True)[1]]


@pytest.fixture(scope="session")
def crowd(photos) -> np.ndarray:
    """One picture of three people at three distances."""
    import cv2

    picture = np.full((660, 700, 3), 110, np.uint8)
    for photo, (top, left, side) in zip(photos, PLACES, strict=True):
        picture[top : top + side, left : left + side] = cv2.resize(photo, (side, side), interpolation=cv2.INTER_CUBIC)
    return picture
