"""CAMOUFLaGE: the scale goes from the original to what the controls paint and beyond; people are not mixed up."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from anonlib.assets.models import ATTRIBUTES, IDENTITY, IP_ADAPTER, ModelRef, ModelSpec
from anonlib.engine.torch_setup import prepare_torch

prepare_torch()
import torch  # noqa: E402
from diffusers import (  # noqa: E402
    ControlNetModel,
    StableDiffusionControlNetImg2ImgPipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)

from anonlib import config
from anonlib.anonymizers import multi_face as scene
from anonlib.anonymizers.camouflage import BASE, CamouflageBase, CamouflageLight  # noqa: E402
from anonlib.anonymizers.contract import ERROR, OK  # noqa: E402
from anonlib.config.errors import AnonlibError  # noqa: E402
from anonlib.diffusion import compiling as graphs  # noqa: E402
from anonlib.diffusion.camouflage import CamouflagePipeline  # noqa: E402
from anonlib.diffusion.inpainting import Inpainter  # noqa: E402
from anonlib.diffusion.loading import Parts, read_parts, read_pipeline  # noqa: E402
from anonlib.diffusion.request import InpaintRequest  # noqa: E402
from anonlib.faces import attributes as readers
from anonlib.faces.people import CHANNELS, Person, spatial_code  # noqa: E402
from anonlib.networks.celeba_attributes import NAMES  # noqa: E402
from tests.test_inpainting import order  # noqa: E402
from tools.build import camouflage_photos as train_scenes  # noqa: E402
from tools.build import small_bundle as build
from tools.build import (
    train_light,
    train_unet,
    training,  # noqa: E402
)
from tools.build.train_camouflage import CamouflagePlan  # noqa: E402

CONDITIONS = ("depth", "hed")


@pytest.fixture(autouse=True)
def exact(monkeypatch):
    """Compute in float32: what is compared may differ by rounding only."""
    monkeypatch.setattr(graphs, "fast_dtype", lambda device: torch.float32)


@pytest.fixture(scope="module")
def bundle(tiny_bundle) -> ModelSpec:
    return ModelSpec(ModelRef(tiny_bundle), camouflage=ModelRef(f"{tiny_bundle}-camouflage"))


@pytest.fixture(scope="module")
def identified(bundle) -> Inpainter:
    return Inpainter(read_parts(bundle, (*CONDITIONS, IDENTITY)))


def whole(away: float, strength: float | None = 1.0, conditions: tuple[str, ...] = CONDITIONS) -> InpaintRequest:
    """Return an order of whole pictures."""
    given = order(conditions)
    return replace(given, masks=torch.ones_like(given.masks), strength=strength, anonymization_scale=[away] * 3)


def test_a_scale_of_one_is_exactly_what_the_controls_alone_paint(bundle, identified):
    alone = next(Inpainter(read_parts(bundle, CONDITIONS))([whole(1.0)]))
    assert torch.equal(next(identified([whole(1.0)])), alone)
    for away in (0.0, 0.5, 1.25):
        assert (next(identified([whole(away)])) - alone).abs().mean() > 1e-3
    apart = next(identified([replace(whole(1.0), anonymization_scale=[0.0, 1.0, 1.25])]))
    for row, away in enumerate((0, 1, 1.25)):
        assert torch.equal(apart[row], next(identified([whole(away)]))[row]), "each image has a scale of its own"


@pytest.mark.parametrize("away", [0.0, 0.5, 1.5])
def test_each_step_goes_from_the_identity_function_towards_the_guided_controls(bundle, identified, away):
    """The paper's equation, written out with plain networks and diffusers' scheduler."""
    given = whole(away)
    prepared, parts = identified.prepare(given), read_parts(bundle, (*CONDITIONS, IDENTITY))
    pipeline, found = parts.pipeline, []
    with torch.inference_mode():
        for row in range(3):
            say = lambda text: pipeline.encode_prompt(text, "cpu", 1, False)[0]  # noqa: E731
            noise, photo, seen = (
                one[row : row + 1] for one in (prepared.noise, prepared.photo_latents, prepared.context_latents)
            )
            pipeline.scheduler.set_timesteps(given.steps)
            x = pipeline.scheduler.add_noise(photo, noise, pipeline.scheduler.timesteps[:1])

            def predicted(states, controls, x, time, seen=seen, row=row):
                total = None
                for net, condition, scale in controls:
                    down, middle = net(x, time, states, condition, scale, return_dict=False)
                    new = [*down, middle]
                    total = new if total is None else [one + more for one, more in zip(total, new, strict=True)]
                extra = torch.cat([x, torch.ones(1, 1, *x.shape[2:]), seen], 1)
                options = {"down_block_additional_residuals": total[:-1], "mid_block_additional_residual": total[-1]}
                return parts.pipeline.unet(extra, time, states, **options).sample

            positive = [
                (parts.controls[name], given.controls[name][row : row + 1], given.scales[name]) for name in CONDITIONS
            ]
            for time in pipeline.scheduler.timesteps:
                told, without = (predicted(say(text), positive, x, time) for text in (given.texts[row], given.negative))
                guided = without + given.guidance[row] * (told - without)
                original = predicted(say(""), [(parts.identity, photo, 1.0)], x, time)
                x = pipeline.scheduler.step(original + away * (guided - original), time, x).prev_sample
            found.append(x)
    made = identified.denoise(prepared)
    torch.testing.assert_close(made, torch.cat(found), atol=2e-4, rtol=1e-3)


def test_positive_controls_alone_are_diffusers_image_to_image_pipeline(bundle):
    torch.manual_seed(0)
    parts = read_parts(bundle, CONDITIONS)
    config = dict(parts.pipeline.unet.config) | {"in_channels": 4}
    unet = UNet2DConditionModel.from_config(config)  # as Stable Diffusion 1.5: it sees no mask
    told = {name: getattr(parts.pipeline, name) for name in ("vae", "text_encoder", "tokenizer", "scheduler")}
    given = replace(whole(1.0, strength=0.7), anonymization_scale=None)
    stock = StableDiffusionControlNetImg2ImgPipeline(
        **told, unet=unet, controlnet=list(parts.controls.values()), safety_checker=None, feature_extractor=None,
        requires_safety_checker=False,
    )  # fmt: skip
    stock.set_progress_bar_config(disable=True)
    made = next(Inpainter(Parts("stock", stock, parts.controls))([given]))
    for row in range(3):
        (one,) = stock(
            prompt=given.texts[row], negative_prompt=given.negative, image=given.images[row : row + 1],
            control_image=[given.controls[name][row : row + 1] for name in CONDITIONS],
            controlnet_conditioning_scale=[given.scales[name] for name in CONDITIONS], strength=0.7,
            num_inference_steps=given.steps, guidance_scale=given.guidance[row], output_type="pt",
            generator=torch.Generator().manual_seed(given.seeds[row]),
        ).images  # fmt: skip
        torch.testing.assert_close(made[row], one, atol=5e-4, rtol=0)


def test_light_sees_the_image_and_the_code_as_diffusers_ip_adapter_does(bundle):
    given = replace(whole(1.0, None, ()), anonymization_scale=None, embeds=torch.randn(3, 128))
    control = torch.rand(3, CHANNELS, 64, 64)
    given = replace(given, controls={ATTRIBUTES: control}, scales={ATTRIBUTES: 0.8})
    parts = read_parts(bundle, (ATTRIBUTES,))
    for one in parts.controls[ATTRIBUTES].parameters():
        torch.nn.init.normal_(one, std=0.05)
    made = next(Inpainter(parts)([given]))
    bare = read_pipeline(bundle)
    stock = StableDiffusionPipeline(
        bare.vae, bare.text_encoder, bare.tokenizer, bare.unet, bare.scheduler, None, None, None, False
    )
    stock.load_ip_adapter(bundle.camouflage.folder, subfolder="", weight_name=IP_ADAPTER, image_encoder_folder=None)
    stock.set_progress_bar_config(disable=True)
    blank = bare.vae.encode(torch.zeros(1, 3, 64, 64)).latent_dist
    for row in range(3):
        generator = torch.Generator().manual_seed(given.seeds[row])
        noise, sample = (torch.randn(1, 4, 8, 8, generator=generator) for _ in range(2))
        seen = (blank.mean + blank.std * sample) * bare.vae.config.scaling_factor
        beside = torch.cat([torch.ones(2, 1, 8, 8), seen.repeat(2, 1, 1, 1)], 1)
        features = [0.8 * one.repeat(2, 1, 1, 1) for one in parts.controls[ATTRIBUTES](control[row : row + 1])]

        def more(unet, args, kwargs, beside=beside, features=features):
            kwargs["down_intrablock_additional_residuals"] = list(features)
            return (torch.cat([args[0], beside], 1), *args[1:]), kwargs

        hook = stock.unet.register_forward_pre_hook(more, with_kwargs=True)
        embed = given.embeds[row][None, None]
        with torch.inference_mode():
            (one,) = stock(
                prompt=given.texts[row], negative_prompt=given.negative, guidance_scale=given.guidance[row],
                ip_adapter_image_embeds=[torch.cat([torch.zeros_like(embed), embed])], latents=noise, height=64,
                width=64, num_inference_steps=given.steps, output_type="pt",
            ).images  # fmt: skip
        hook.remove()
        torch.testing.assert_close(made[row], one, atol=2e-3, rtol=0)
    for unlike in ({"embeds": -given.embeds}, {"scales": {ATTRIBUTES: 0.0}}):
        assert (next(Inpainter(parts)([replace(given, **unlike)])) - made).abs().max() > 0.02


def test_the_pipeline_is_saved_and_read_and_watched(bundle, tmp_path):
    pipeline = CamouflagePipeline.from_bundle(bundle, CONDITIONS)
    given = whole(1.25)
    told = {
        "image": given.images, "control_image": list(given.controls.values()), "prompt": "photo", "strength": 0.9,
        "num_inference_steps": 3, "output_type": "pt",
    }  # fmt: skip

    def drawn() -> list[torch.Generator]:
        return [torch.Generator().manual_seed(seed) for seed in given.seeds]

    made = pipeline(generator=drawn(), **told).images
    pipeline.save_pretrained(tmp_path)
    again = CamouflagePipeline.from_pretrained(tmp_path)(generator=drawn(), **told).images
    assert torch.equal(made, again)
    seen = []

    def watch(pipe, number, time, tensors):
        seen.append((number, int(time)))
        return {"latents": tensors["latents"] * (number < 1)}

    changed = pipeline(generator=drawn(), callback_on_step_end=watch, **told).images
    assert [number for number, _ in seen] == list(range(len(seen))) and len(seen) >= 2
    assert sorted((time for _, time in seen), reverse=True) == [time for _, time in seen]
    assert (changed - made).abs().mean() > 1e-3 and changed.std(0).max() < 1e-3, "its latents are gone on with"
    one = slice(1, 2)
    part = told | {"image": given.images[one], "control_image": [maps[one] for maps in given.controls.values()]}
    alone = pipeline(generator=drawn()[one], **part).images
    torch.testing.assert_close(alone[0], made[1], atol=1e-5, rtol=0)
    assert pipeline(generator=drawn(), **(told | {"output_type": "pil"})).images[0].size == (64, 64)
    for wrong, said in (
        ({"anonymization_scale": -0.5}, "must be 0 .the original. or more"),
        ({"control_image": told["control_image"][:1]}, "2 ControlNets and 3 images"),
        ({"anonymization_scale": [1.0]}, "give one, or 3, not 1"),
    ):
        with pytest.raises(AnonlibError, match=said):
            pipeline(**(told | wrong))


def test_two_people_are_not_mixed():
    rng = np.random.default_rng(0)
    face = np.stack([rng.uniform(0, 40, 68), rng.uniform(0, 50, 68)], axis=1)
    first, second = Person(np.full(40, 0.9), face + (15, 40)), Person(np.full(40, 0.2), face + (75, 30))
    both = spatial_code([first, second], 128, 128)
    assert both.shape == (CHANNELS, 128, 128) and set(np.unique(both[:40])) == set(np.float32([0, 0.2, 0.9]))
    assert (both[:40] == both[0]).all()
    left, right = both[0] == np.float32(0.9), both[0] == np.float32(0.2)
    assert left[:, :40].sum() > 500 and not left[:, 80:].any() and right[:, 90:].sum() > 500 and not right[:, :50].any()
    other = spatial_code([first, replace_attributes(second)], 128, 128)
    np.testing.assert_array_equal(both[:, left], other[:, left])
    alone = spatial_code([first], 128, 128)
    np.testing.assert_array_equal(alone[:, left], both[:, left])
    dots = both[40:].max(0) > 0
    assert dots[left].sum() > 30 and dots[right].sum() > 30 and not dots[~left & ~right].any()
    close = Person(np.full(40, 0.2), face + (45, 38))  # they overlap: a pixel is of whose face is nearer
    np.testing.assert_array_equal(spatial_code([first, close], 128, 128), spatial_code([close, first], 128, 128))
    shared = spatial_code([first, close], 128, 128)[0]
    taken = (spatial_code([close], 128, 128)[0] > 0) & left
    assert taken.sum() > 200 and 0.2 < (shared[taken] == np.float32(0.2)).mean() < 0.8
    assert not spatial_code([], 8, 8).any()


def replace_attributes(person: Person) -> Person:
    return Person(np.linspace(0, 1, 40), person.points)


def test_both_adapters_learn_and_the_rest_is_frozen(bundle, tmp_path):
    from tests.test_diffusion import latents_of

    tokenizer, data = latents_of(tmp_path)
    unet, text = build.build_unet(widths=(16, 32)), build.build_text_encoder(tokenizer)
    before = {name: one.clone() for name, one in (unet.state_dict() | text.state_dict()).items()}
    count, rng = len(data.clean), np.random.default_rng(0)
    train_light.train_adapters(
        unet, text, data, [[Person(rng.random(40), rng.uniform(20, 100, (68, 2)))] for _ in range(count)],
        torch.randn(count, 16), training.Schedule(3, 4, 1e-2), tmp_path, tmp_path / "light",
    )  # fmt: skip
    after = unet.state_dict() | text.state_dict()
    assert all(torch.equal(one, after[name]) for name, one in before.items())
    learned = {name for name, one in unet.named_parameters() if one.requires_grad}
    assert learned and all("_ip" in name or "encoder_hid_proj" in name for name in learned)
    assert all(one.grad is None for name, one in unet.named_parameters() if name not in learned)
    assert all(one.grad is None for one in text.parameters())
    fresh = build.build_unet(widths=(16, 32))
    fresh.load_state_dict(before, strict=False)
    stock = replace_unet(bundle, fresh)
    stock.load_ip_adapter(tmp_path / "light", subfolder="", weight_name=IP_ADAPTER, image_encoder_folder=None)
    image = next(one for name, one in stock.unet.named_parameters() if "to_k_ip" in name)
    trained = next(one for name, one in unet.named_parameters() if "to_k_ip" in name)
    torch.testing.assert_close(image, trained.half().float())
    assert (tmp_path / "light" / "adapter" / "config.json").exists()


def replace_unet(bundle: ModelSpec, unet: UNet2DConditionModel) -> StableDiffusionPipeline:
    bare = read_pipeline(bundle)
    return StableDiffusionPipeline(
        bare.vae, bare.text_encoder, bare.tokenizer, unet, bare.scheduler, None, None, None, False
    )


def test_what_cannot_be_asked_for_is_one_line(bundle, tiny_bundle, photos):
    for settings, said in (
        ({"anonymization_scale": -0.1}, "the anonymization scale is -0.1: it must lie between 0 and 4"),
        ({"weights": {"depth": 3.0}}, "the weight of depth is 3"),
        ({"weights": {"hed": 0.5}}, "follows no hed"),
        ({"strength": 2.0}, "strength is 2"),
    ):
        with pytest.raises(AnonlibError, match=said):
            CamouflageBase(steps=2, **settings)
    with pytest.raises(AnonlibError, match="spatial code is 5"):
        CamouflageLight(steps=2, weight=5.0)
    masks, bare = np.full(photos.shape[:3], 255, np.uint8), ModelSpec(ModelRef(tiny_bundle))
    for kind, said in ((CamouflageBase, "no attribute network"), (CamouflageLight, "no attribute network")):
        with pytest.raises(AnonlibError, match=said):
            kind(steps=2, bundle=bare)(photos, masks, [0] * len(photos))
    empty = replace(bundle, camouflage=ModelRef(tiny_bundle))
    with pytest.raises(AnonlibError, match="no attribute network"):
        CamouflageLight(steps=2, bundle=empty)(photos, masks, [0] * len(photos))


def test_a_map_that_comes_out_empty_is_an_error_and_a_weight_of_nothing_is_not_followed(bundle, photos):
    masks, seeds, asked = np.full(photos.shape[:3], 255, np.uint8), list(range(len(photos))), []

    def annotator(name, images):
        asked.append(name)
        return np.random.default_rng(1).integers(0, 256, images.shape).astype(np.uint8), np.array(
            [True, name != "depth", True]
        )

    method = CamouflageBase(steps=2, bundle=bundle, batch=2, annotator=annotator)
    made, status = method(photos, masks, seeds)
    assert status == [OK, ERROR, OK] and not made[1].any() and made[0].any() and asked == list(BASE)
    freer = replace(method, weights={"depth": 0.0, "lineart": 1.0})
    assert freer(photos, masks, seeds)[1] == [OK] * 3 and asked[len(BASE) :] == ["lineart"]


def test_a_reader_says_half_of_what_it_never_learned(bundle, photos):
    attributes, embeds = readers.attribute_predictor(bundle).predict(photos)
    assert attributes.shape == (3, len(NAMES)) and embeds.shape == (3, 128) and np.isfinite(embeds).all()
    assert ((attributes >= 0) & (attributes <= 1)).all()
    texts = readers.caption_images(bundle, photos)
    assert all(text.startswith("photo of a person, ") for text in texts)


def test_the_identity_function_needs_controlnets_beside_it(bundle):
    parts = read_parts(bundle, (ATTRIBUTES,))
    with pytest.raises(AnonlibError, match="ControlNets, or all T2I-Adapters"):
        Inpainter(
            replace(parts, identity=ControlNetModel.from_config(read_parts(bundle, ("hed",)).controls["hed"].config))
        )


def test_its_own_parts_are_trained_for_another_model_on_a_folder_of_photos(
    bundle, tiny_bundle, crowd, photos, tmp_path
):
    (tmp_path / "in" / "trip").mkdir(parents=True)
    for name, photo in (("crowd.png", crowd), ("trip/one.jpg", photos[0]), ("trip/none.png", crowd[:60, :60])):
        Image.fromarray(photo).save(tmp_path / "in" / name)
    (tmp_path / "in" / "broken.jpg").write_bytes(b"no photo")
    images = train_scenes.squares(tmp_path / "in", 128)
    assert images.shape == (3, 128, 128, 3)
    people, embeds = scene.read_people(
        images, [scene.detect_faces(one) for one in images], readers.attribute_predictor(bundle)
    )
    assert [len(one) for one in people] == [3, 0, 1], "the crowd, nobody, one"
    middle = people[2][0].points.mean(0)
    assert np.abs(middle - (64, 78)).max() < 12 and embeds.shape == (3, 128) and not embeds[1].any()
    generator = config.load("smoke", {"generator.bundle": tiny_bundle}).generator
    generator = replace(generator, camouflage=f"{tiny_bundle}-camouflage", size=64)
    plan = CamouflagePlan(training.Schedule(2, 2, 1e-2), training.Schedule(2, 2, 1e-2))
    train_scenes.train_on(tmp_path / "in", tmp_path / "own", generator, plan)
    made = ModelSpec(bundle.pipeline, camouflage=ModelRef(str(tmp_path / "own")))
    for conditions in ((IDENTITY,), (ATTRIBUTES,)):
        assert read_parts(made, conditions).pipeline
    with pytest.raises(AnonlibError, match="exists: name a new folder"):
        train_scenes.train_on(tmp_path / "in", tmp_path / "own", generator, plan)
    with pytest.raises(AnonlibError, match="no attribute network"):
        train_scenes.train_on(tmp_path / "in", tmp_path / "new", replace(generator, camouflage=None), plan)
    (tmp_path / "empty").mkdir()
    with pytest.raises(AnonlibError, match="no photos that can be read"):
        train_scenes.train_on(tmp_path / "empty", tmp_path / "new", generator, plan)


def test_a_model_that_predicts_noise_and_sees_no_mask_is_taught_noise():
    from diffusers import DDPMScheduler

    latents = train_unet.Latents(
        torch.randn(4, 4, 8, 8), torch.randn(4, 4, 8, 8), torch.ones(4, 1, 8, 8), torch.zeros(1, 4, 8, 8),
        torch.zeros(4, 1, 24, dtype=torch.long), torch.zeros(1, 24, dtype=torch.long),
    )  # fmt: skip
    told = train_unet.TrainingSampler(latents, 0, 1.0, 1.0, DDPMScheduler(prediction_type="epsilon"))(torch.arange(4))
    kept = DDPMScheduler().alphas_cumprod[told["times"]].view(-1, 1, 1, 1)
    torch.testing.assert_close(told["noisy"], kept.sqrt() * latents.clean + (1 - kept).sqrt() * told["target"])
    nine = build.build_unet(widths=(16, 32))
    four = UNet2DConditionModel.from_config(dict(nine.config) | {"in_channels": 4})
    assert train_unet.unet_input(four, told).shape[1] == 4 and train_unet.unet_input(nine, told).shape[1] == 9
