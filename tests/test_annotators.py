"""The papers' annotators with random weights: a batch gives what controlnet-aux gives of its images one by one."""

import types

import cv2
import numpy as np
import pytest

from anonlib import anonymizers
from anonlib.assets.models import ModelRef, ModelSpec
from anonlib.config.errors import AnonlibError
from anonlib.controls import annotate
from anonlib.controls import hub as annotators
from anonlib.engine.torch_setup import autocast
from anonlib.networks.imagenet import normalize_imagenet
from tests.test_anonymizers import scene


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A folder with the file of each annotator, every network as it is initialized."""
    from anonlib.engine.torch_setup import prepare_torch

    prepare_torch()
    import controlnet_aux  # noqa: F401
    import torch
    from controlnet_aux.hed import ControlNetHED_Apache2
    from controlnet_aux.lineart import Generator
    from controlnet_aux.normalbae import NNET
    from controlnet_aux.pidi.model import pidinet

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("annotators")
    told = types.SimpleNamespace(
        mode="client", architecture="BN", pretrained="scannet", sampling_ratio=0.4, importance_ratio=0.7
    )
    for file, state in {
        "ControlNetHED.pth": ControlNetHED_Apache2().state_dict(),
        "table5_pidinet.pth": {"state_dict": pidinet().state_dict()},
        "sk_model.pth": Generator(3, 1, 3).state_dict(),
        "sk_model2.pth": Generator(3, 1, 3).state_dict(),
        "scannet.pt": {"model": NNET(told).state_dict()},
    }.items():
        torch.save(state, folder / file)
    return folder


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (3, 16, 16, 3)).astype(np.uint8).repeat(8, 1).repeat(8, 2)


@pytest.mark.parametrize("name", ["hed", "sketch", "lineart", "normal"])
def test_a_batch_gives_what_the_library_gives_one_by_one(weights, pictures, name, monkeypatch):
    import controlnet_aux
    import torch

    monkeypatch.setattr(annotators, "RESOLUTION", 128)
    monkeypatch.setattr(annotators, "autocast", lambda device: torch.autocast(device, enabled=False))
    made = annotators.maps(name, pictures, weights, batch=2)
    library = getattr(controlnet_aux, annotators.KINDS[name].detector).from_pretrained(weights)
    theirs = [library(one, detect_resolution=128, image_resolution=128, output_type="np") for one in pictures]
    ours = made if made.ndim == 4 else np.repeat(made[..., None], 3, 3)
    assert np.std(theirs) > 0
    assert np.abs(ours.astype(int) - np.stack(theirs)).max() <= 1


def test_nearness_is_a_share_of_each_image_s_largest_and_has_its_size(pictures, tmp_path):
    from anonlib.engine.torch_setup import prepare_torch

    prepare_torch()
    import torch
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config

    backbone = Dinov2Config(
        hidden_size=32, num_hidden_layers=4, num_attention_heads=2, intermediate_size=64, image_size=518, patch_size=14,
        out_features=["stage1", "stage2", "stage3", "stage4"], reshape_hidden_states=False, apply_layernorm=True,
    )  # fmt: skip
    config = DepthAnythingConfig(
        backbone_config=backbone, reassemble_hidden_size=32, neck_hidden_sizes=[8, 8, 16, 16], fusion_hidden_size=16,
        head_hidden_size=8,
    )  # fmt: skip
    net = DepthAnythingForDepthEstimation(config)
    net.save_pretrained(tmp_path)
    net.head.conv3.bias.data.fill_(0.05)  # nothing is infinitely far: what was stretched would show
    net.save_pretrained(tmp_path / "near")
    large = np.stack([cv2.resize(one, (518, 518)) for one in pictures])
    large[1] //= 4
    made = annotators.maps("depth", large, tmp_path, batch=2)
    assert made.shape == (3, 518, 518) and made.dtype == np.uint8
    seen = torch.from_numpy(large[:1]).permute(0, 3, 1, 2).float() / 255
    with torch.inference_mode(), autocast("cpu"):
        near = annotators._depth_network(tmp_path / "near")(normalize_imagenet(seen)).predicted_depth[0].float()
    found = annotators.maps("depth", large[:1], tmp_path / "near")[0]
    np.testing.assert_array_equal(found, (near / near.max() * 255).to(torch.uint8))
    assert found.min() > 0 and (made.reshape(3, -1).max(1) == 255).all(), "not stretched, as Instance Augmentation"
    np.testing.assert_array_equal(annotators.maps("depth", large[2:], tmp_path)[0], made[2])
    alone = np.concatenate([annotators.maps("depth", one[None], tmp_path) for one in large])
    assert np.abs(alone.astype(int) - made).max() <= 1, "each map by itself"
    maps, valid = annotate("depth", pictures[:2], ModelRef(str(tmp_path)))
    assert valid.all() and maps.shape == (2, 128, 128, 3)


def test_segments_have_the_colours_of_their_classes(pictures, tmp_path):
    import torch
    from controlnet_aux.util import ade_palette
    from transformers import ConvNextConfig, UperNetConfig, UperNetForSemanticSegmentation

    stages = ["stage1", "stage2", "stage3", "stage4"]
    backbone = ConvNextConfig(depths=[1, 1, 1, 1], hidden_sizes=[8, 8, 16, 16], out_features=stages)
    torch.manual_seed(0)
    net = UperNetForSemanticSegmentation(
        UperNetConfig(backbone_config=backbone, hidden_size=16, num_labels=150, pool_scales=[1, 2])
    )
    net.decode_head.classifier.weight.data.mul_(100)  # several classes win
    net.save_pretrained(tmp_path)
    made = annotators.maps("segmentation", pictures, tmp_path, batch=2)
    seen = {tuple(colour) for colour in made.reshape(-1, 3).tolist()}
    assert made.shape == pictures.shape and len(seen) > 1 and seen <= {tuple(one) for one in ade_palette()}
    alone = np.concatenate([annotators.maps("segmentation", one[None], tmp_path) for one in pictures])
    assert (alone == made).mean() > 0.99  # rounding moves a border
    large = np.stack([cv2.resize(pictures[0], (640, 768), interpolation=cv2.INTER_CUBIC)])
    maps, _ = annotate("segmentation", large, ModelRef(str(tmp_path)))
    assert maps.shape == large.shape, "the generator's picture"
    assert {tuple(colour) for colour in maps.reshape(-1, 3).tolist()} <= {tuple(one) for one in ade_palette()}


def test_poses_are_drawn_by_the_library_and_networks_see_batches(pictures, tmp_path, monkeypatch):
    import torch

    annotators.library()
    from controlnet_aux.open_pose import Body, body, face, hand

    torch.manual_seed(0)
    for file, module in zip(annotators.POSE[:2], (body.bodypose_model(), hand.handpose_model()), strict=True):
        inner = {name.split(".", 1)[1]: value for name, value in module.state_dict().items()}
        torch.save(inner, tmp_path / file)
    net = face.FaceNet()
    net.Mconv7_stage6.bias.data += 1  # that it sees all points, each somewhere
    torch.save(net.state_dict(), tmp_path / annotators.POSE[2])
    detector, seen = annotators._pose_detector(tmp_path), []
    for name in ("body_estimation", "face_estimation"):
        model = getattr(detector, name).model
        model.register_forward_hook(lambda net, given, made, name=name: seen.append((name, len(given[0]))))
    maps, valid = annotate("openpose", pictures[:2], ModelRef(str(tmp_path)))
    assert maps.shape == (2, 128, 128, 3) and not valid.any(), "untrained networks see nobody"
    assert seen == [("body_estimation", 2)]
    joints = [(250, 200), (250, 330), (150, 350)]
    joints += [(220, 180), (280, 180), (190, 200), (310, 200)]  # eyes, ears
    joints = np.array([[x, y, 0.9, number] for number, (x, y) in enumerate(joints)])
    members = np.array([[0, 1, 2, *[-1] * 11, 3, 4, 5, 6, 6.0, 7.0]])
    monkeypatch.setattr(Body, "__call__", lambda self, image: (joints, members))
    seen.clear()
    maps, valid = annotate("openpose", pictures[:2], ModelRef(str(tmp_path)))
    assert valid.all() and seen == [("face_estimation", 2)]
    told = {"include_hand": True, "include_face": True, "output_type": "np"}
    for image, made in zip(pictures[:2], maps, strict=True):
        alone = cv2.resize(detector(image, **told), (128, 128), interpolation=cv2.INTER_AREA)
        assert (np.abs(alone.astype(int) - made) > 1).mean() < 0.002  # rounding may move a point
    with pytest.raises(AnonlibError, match="has no body_pose_model.pth"):
        annotate("openpose", pictures[:1], ModelRef(str(tmp_path.parent)))


@pytest.mark.assets("yunet")
def test_a_pose_at_the_photo_s_side_is_valid_and_one_where_nobody_is_is_not(photos, monkeypatch):
    wide = np.full((256, 900, 3), 120, np.uint8)
    wide[64:192, :128] = photos[0]
    drawn = {"side": (slice(90, 170), slice(40, 90)), "nobody": (slice(100, 200), slice(500, 600)), "empty": None}
    poses = np.zeros((3, *wide.shape), np.uint8)
    for pose, place in zip(poses, drawn.values(), strict=True):
        if place:
            pose[place] = 200
    monkeypatch.setattr(annotators, "maps", lambda name, images, folder: poses)
    _, valid = annotate("openpose", np.stack([wide] * 3), ModelRef("."))
    assert valid.tolist() == [True, False, False]
    plain = np.full_like(wide, 120)  # no face is detected: what the network draws is where people are
    _, valid = annotate("openpose", np.stack([plain] * 3), ModelRef("."))
    assert valid.tolist() == [True, True, False]
    monkeypatch.setattr(annotators, "maps", lambda name, images, folder: poses[:2])
    _, valid = annotate("hed", np.stack([wide] * 2), ModelRef("."))
    assert valid.tolist() == [False, True], "other maps are still judged in the middle"


def test_threads_calls_of_a_network_go_as_one_batch_and_its_errors_to_whoever_asked():
    import torch

    from anonlib.networks.call_batcher import run_batched

    torch.manual_seed(0)
    net, sizes = torch.nn.Conv2d(1, 2, 3), []
    net.register_forward_hook(lambda net, given, made: sizes.append(len(given[0])))
    pair = torch.nn.Module()
    pair.forward = lambda x: (x + 1, [x * 2])

    def work(given, batcher):
        asked, both = batcher.batch(net), batcher.batch(pair)
        found = [asked(torch.full((1, 1, 5, 5), float(given + k))) for k in range(given)]
        first, (second,) = both(torch.full((1, 3), float(given)))
        return [one.sum().item() for one in [*found, first, second]]

    made = run_batched(work, [1, 3, 2])
    assert sizes == [3, 2, 1], "who has finished is not waited for"
    with torch.no_grad():
        for given, found in zip([1, 3, 2], made, strict=True):
            alone = [net(torch.full((1, 1, 5, 5), float(given + k))).sum().item() for k in range(given)]
            np.testing.assert_allclose(found, [*alone, 3 * (given + 1), 6 * given], rtol=1e-5)
    assert run_batched(work, []) == []
    seen = []

    def wrong(given, batcher):
        try:
            return batcher.batch(net)(torch.zeros(1, given, 5, 5)).sum().item()
        except RuntimeError:
            seen.append(given)
            raise

    with pytest.raises(RuntimeError, match="channels"):
        run_batched(wrong, [1, 2, 2])
    assert seen == [2, 2]


def test_what_a_network_finds_empty_is_not_valid(weights, pictures):
    flat = np.full_like(pictures[:1], 127)
    _, valid = annotate("hed", np.concatenate([flat, pictures[:1]]), ModelRef(str(weights)))
    assert not valid[0]


def test_an_anonymizer_follows_the_maps_of_the_network_that_its_bundle_names(weights, tiny_bundle, monkeypatch):
    from anonlib.anonymizers import instance_augmentation

    seen, degrade_control = [], instance_augmentation.degrade_control
    monkeypatch.setattr(
        instance_augmentation, "degrade_control", lambda maps, *told: seen.append(maps) or degrade_control(maps, *told)
    )
    images, masks, seeds = scene(1)
    for networks in ((("hed", ModelRef(str(weights))),), ()):
        bundle = ModelSpec(ModelRef(tiny_bundle), annotators=networks)
        _, status = anonymizers.create("ia-hed", bundle=bundle, steps=1, batch=1)(images, masks, seeds)
        assert status == ["ok"]
    np.testing.assert_array_equal(seen[0], annotate("hed", images, ModelRef(str(weights)))[0])
    np.testing.assert_array_equal(seen[1], annotate("hed", images)[0])
    assert (seen[0] != seen[1]).any()


def test_a_missing_or_damaged_file_is_one_line(weights, pictures, tmp_path):
    with pytest.raises(AnonlibError, match=r"no ControlNetHED.pth: `make fetch"):
        annotators.maps("hed", pictures, tmp_path)
    (tmp_path / "ControlNetHED.pth").write_bytes(b"nothing")
    with pytest.raises(AnonlibError, match="damaged or not for HEDdetector"):
        annotators.maps("hed", pictures, tmp_path)
    with pytest.raises(AnonlibError, match="no depth network"):
        annotators.maps("depth", pictures, tmp_path)
    with pytest.raises(AnonlibError, match="unknown condition 'sketch'"):
        annotate("sketch", pictures)
