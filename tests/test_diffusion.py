"""The small bundle's parts: real diffusers networks, very small, trained for a few steps."""

from pathlib import Path

import numpy as np
import pytest

from anonlib.engine.torch_setup import prepare_torch

prepare_torch(1)

import torch  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

from anonlib.assets.models import LORA  # noqa: E402
from anonlib.faces import captions  # noqa: E402
from tools.build import small_bundle as build
from tools.build import (
    train_few_steps,
    train_unet,
    training,  # noqa: E402
)
from tools.build.train_vae import build_vae, train_vae  # noqa: E402


def pictures(count: int = 12) -> np.ndarray:
    """Smooth coloured gradients."""
    rng = np.random.default_rng(0)
    corners = rng.integers(0, 256, (count, 2, 2, 3)).astype(np.float32)
    t = np.linspace(0, 1, 128, dtype=np.float32)
    rows = corners[:, 0, None] * (1 - t)[None, :, None, None] + corners[:, 1, None] * t[None, :, None, None]
    across = t[None, None, :, None]
    return (rows[:, :, 0, None] * (1 - across) + rows[:, :, 1, None] * across).astype(np.uint8)


def tiny_unet():
    torch.manual_seed(0)
    return build.build_unet(widths=(16, 32), layers=1)


def test_every_known_word_is_one_token_and_a_caption_fits(tmp_path):
    tokenizer = build.build_tokenizer(tmp_path)
    for word in captions.vocabulary():
        assert len(tokenizer(word).input_ids) == 3, word  # start, word, end
    longest = f"photo of a person, contrasty, {captions.LIGHTS[0]}, brown hair, glasses, hat"
    assert len(tokenizer(longest).input_ids) <= tokenizer.model_max_length
    assert tokenizer("photo of a person").input_ids != tokenizer("person of a photo").input_ids


def test_prompts_use_only_known_words_and_follow_the_seed():
    told = {captions.random_prompt(np.random.default_rng(seed)) for seed in range(60)}
    assert len(told) > 10
    known = set(captions.vocabulary())
    assert all(set(text.replace(",", "").split()) <= known for text in told)
    assert captions.random_prompt(np.random.default_rng(3)) == captions.random_prompt(np.random.default_rng(3))


def test_loose_captions_keep_what_is_seen_and_redraw_style_and_light_at_their_rate():
    text = "photo of a person, muted, cold light, red hair, hat"
    rng = np.random.default_rng(0)
    told = [captions.randomize_style(text, rng).split(", ") for _ in range(3000)]
    assert all(parts[0] == "photo of a person" and parts[3:] == ["red hair", "hat"] for parts in told)
    for place, words in ((1, captions.STYLES), (2, captions.LIGHTS)):
        true = np.mean([parts[place] == text.split(", ")[place] for parts in told])
        assert true == pytest.approx(1 - captions.RANDOM_SHARE * (1 - 1 / len(words)), abs=0.03)
        assert {parts[place] for parts in told} == set(words)


def test_captions_name_what_is_in_the_picture():
    image, labels = np.full((128, 128, 3), 120, np.uint8), np.ones((128, 128), np.uint8)
    assert "glasses" not in captions.caption(image, labels) and "hair" not in captions.caption(image, labels)
    labels[:30], labels[60:70] = 17, 6
    image[:30] = (15, 12, 10)
    text = captions.caption(image, labels)
    assert "black hair" in text and "glasses" in text and "hat" not in text


def test_a_new_controlnet_changes_nothing_and_sees_four_channels():
    unet, states = tiny_unet(), torch.randn(1, 24, 128)
    net = build.build_controlnet(unet)
    down, middle = net(
        torch.randn(1, 4, 16, 16), 5, states, controlnet_cond=torch.rand(1, 3, 128, 128), return_dict=False
    )
    assert net.config.in_channels == 4 and unet.config.in_channels == 9
    assert all(not row.any() for row in down) and not middle.any()


def test_checkpoints_resume_to_the_same_weights(tmp_path):
    images = pictures(8)

    def run(folder: Path, stops: list[int]) -> dict:
        for steps in stops:
            torch.manual_seed(0)
            vae = build_vae((8, 8, 8, 16), 1)
            state = training.load_checkpoint(folder / "vae.pt")
            noise = torch.Generator()

            def loss(rows, step, vae=vae, noise=noise):
                noise.manual_seed(step)
                x = torch.from_numpy(images[rows.numpy()]).permute(0, 3, 1, 2).float() / 255
                y = vae(x, sample_posterior=True, generator=noise).sample
                return (y - x).pow(2).mean(), {}

            assert (state is None) == (steps == stops[0])
            training.train("test", vae, loss, 8, training.Schedule(6, 2, 1e-3), checkpoint=folder / "vae.pt",
                           every=steps, seconds=0 if steps < 6 else float("inf"))  # fmt: skip
        return vae.state_dict()

    whole = run(tmp_path / "whole", [6])
    parts = run(tmp_path / "parts", [1, 6])
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_the_autoencoder_learns_and_scales_its_latents(tmp_path):
    images = pictures()
    torch.manual_seed(0)
    vae = train_vae(build_vae((8, 16, 16, 16), 1), images, training.Schedule(40, 4, 3e-3), tmp_path)
    log = training.load_checkpoint(tmp_path / "vae.pt")["log"]
    assert log[-1]["psnr"] > 8
    from tools.build.train_vae import encode

    assert float((encode(vae, images) * vae.config.scaling_factor).std()) == pytest.approx(1, abs=0.15)


def test_a_wider_decoder_starts_where_the_old_one_is_and_leaves_the_latents_alone(tmp_path, monkeypatch):
    from tools.build import train_decoder
    from tools.build.train_vae import encode

    monkeypatch.setattr(train_decoder, "WIDTHS", (16, 32, 64, 128))
    torch.manual_seed(0)
    vae, images = build_vae((8, 16, 32, 64), 1).eval(), pictures(4)
    wide = train_decoder.widen(vae).eval()
    assert wide.decoder.conv_out.weight.shape[1] == 2 * vae.decoder.conv_out.weight.shape[1]
    with torch.no_grad():
        latents = torch.randn(2, 4, 16, 16)
        torch.testing.assert_close(wide.decode(latents).sample, vae.decode(latents).sample, atol=1e-4, rtol=1e-3)
    before, latents = wide.decoder.conv_out.weight.detach().clone(), encode(vae, images)
    clean, predicted = encode(wide, train_decoder.with_mirrors(images)) * wide.config.scaling_factor, []

    def predict(rows, step):
        predicted.extend(rows.tolist())
        return clean[rows]

    train_decoder.train_decoder(wide, images, clean, predict, training.Schedule(3, 2, 1e-3), tmp_path)
    assert len(predicted) == 3, "half of the latents are predictions"
    torch.testing.assert_close(encode(wide, images), latents, atol=1e-3, rtol=1e-3)
    assert not torch.equal(wide.decoder.conv_out.weight, before)
    (log,) = training.load_checkpoint(tmp_path / "decoder.pt")["log"]
    assert log.keys() >= {"psnr", "lpips", "true", "false"}, "the last steps have the discriminator's loss"


@pytest.fixture(scope="module")
def latents(tmp_path_factory):
    return latents_of(tmp_path_factory.mktemp("latents"))


def latents_of(folder: Path):
    """Return a tokenizer, written to a folder, and the latents of a dozen pictures."""
    torch.manual_seed(0)
    vae, images = build_vae((8, 8, 8, 16), 1), pictures()
    masks = np.zeros(images.shape[:3], np.uint8)
    masks[:, 40:, 20:70] = 255
    words = ["photo of a person, strong, warm light"] * len(images)
    tokenizer = build.build_tokenizer(folder)
    return tokenizer, train_unet.prepare_latents(vae.eval(), images, masks, words, tokenizer)


def test_latents_hold_every_photo_and_its_mirror_with_matching_masks(latents):
    _, data = latents
    assert len(data.clean) == 24 and data.clean.shape[1:] == (4, 16, 16)
    left, right = data.mask[0, 0, 8], data.mask[1, 0, 8]  # the person stands at columns 20 to 70, then at 58 to 108
    assert left[4] == left[8] == 1 and left[12] == 0 and right[12] == 1 and right[4] == right[0] == 0


def test_draws_drop_pictures_and_captions_at_their_rates(latents):
    _, data = latents
    draws = train_unet.TrainingSampler(data, seed=0)
    d = draws(torch.zeros(4000, dtype=torch.long))
    whole = (d["extra"][:, 0].mean((1, 2)) == 1).float().mean().item()
    silent = (d["tokens"] == data.no_tokens).all(1).float().mean().item()
    assert whole == pytest.approx(train_unet.WHOLE_SHARE, abs=0.03)
    assert silent == pytest.approx(train_unet.NO_CAPTION_SHARE, abs=0.02)


def test_a_mirror_image_has_the_mirrored_map():
    maps = np.random.default_rng(0).integers(0, 256, (3, 8, 8)).astype(np.uint8)
    rows = train_unet.mirrored(maps, np.array([0, 1, 4, 5]))
    assert (rows[0] == maps[0]).all() and (rows[1] == maps[0][:, ::-1]).all()
    assert (rows[2] == maps[2]).all() and (rows[3] == maps[2][:, ::-1]).all()


def test_the_clean_latent_is_read_off_the_velocity(latents):
    _, data = latents
    draws = train_unet.TrainingSampler(data, seed=0)
    d = draws(torch.arange(24))
    torch.testing.assert_close(train_unet.predict_clean(d, d["target"], draws.scheduler), data.clean, atol=1e-4, rtol=0)


def test_cycle_consistency_is_zero_for_the_pictures_own_map_and_teaches_at_low_noise_only():
    from tools.build.consistency import LATEST, Consistency

    torch.manual_seed(0)
    vae = build_vae((8, 8, 8, 16), 1)
    cycle = Consistency(vae, lambda pictures: pictures.mean(1, keepdim=True), weight=2.0, rows=2)
    clean = torch.randn(3, 4, 16, 16, requires_grad=True)
    with torch.no_grad():
        pictures = vae.decode(clean / vae.config.scaling_factor).sample.clamp(-1, 1) / 2 + 0.5
    own = pictures.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    times = torch.tensor([LATEST + 1, 5, LATEST])
    assert cycle(clean, times, own)[0].item() == pytest.approx(0, abs=1e-9)
    distance, measures = cycle(clean, times, 1 - own)
    distance.backward()
    assert distance.item() == pytest.approx(2 * measures["cycle"]) and distance > 0
    assert not clean.grad[0].any() and clean.grad[1].any() and clean.grad[2].any()
    clean.grad = None
    few = Consistency(vae, lambda pictures: pictures.mean(1, keepdim=True), rows=1)
    few(clean, torch.tensor([5, LATEST, 400]), 1 - own)[0].backward()
    assert clean.grad[1].any() and not clean.grad[0].any() and not clean.grad[2].any(), "the noisiest come first"
    late, nothing = cycle(clean, torch.full((3,), LATEST + 1), own)
    assert late == 0 and nothing == {}


def test_unet_then_controlnet_train_and_the_unet_stays_frozen(latents, tmp_path):
    tokenizer, data = latents
    unet, text = tiny_unet(), build.build_text_encoder(tokenizer)
    before = {name: value.clone() for name, value in text.state_dict().items()}
    train_unet.train_unet(unet, text, data, training.Schedule(3, 4, 1e-3), tmp_path)
    assert any(not torch.equal(before[name], value) for name, value in text.state_dict().items())
    frozen = {name: value.clone() for name, value in unet.state_dict().items()}
    grey = np.random.default_rng(0).integers(0, 256, (len(data.clean) // 2, 128, 128)).astype(np.uint8)
    for name, net, maps in (
        ("hed", build.build_controlnet(unet), grey),
        ("normal", build.build_controlnet(unet), np.stack([grey] * 3, axis=-1)),
        ("identity", build.build_identity(unet), None),
    ):
        train_unet.train_controlnet(name, net, unet, text, data, maps, training.Schedule(3, 4, 1e-2), tmp_path)
        assert all(torch.equal(frozen[name], value) for name, value in unet.state_dict().items())
        assert net.controlnet_mid_block.weight.abs().sum() > 0


def test_few_steps_are_distilled_into_a_lora_that_leaves_the_unet_as_it_was(latents, tmp_path):
    tokenizer, data = latents
    unet, text = tiny_unet(), build.build_text_encoder(tokenizer)
    before = {name: value.clone() for name, value in unet.state_dict().items()}
    target = tmp_path / "lora"
    schedule = training.Schedule(30, 16, 1e-2)
    train_few_steps.train_few_steps(unet, text, data, 32, schedule, tmp_path, target)
    kept = {name.replace(".base_layer", ""): value for name, value in unet.state_dict().items() if "lora_" not in name}
    assert all(torch.equal(before[name], value) for name, value in kept.items())
    saved = load_file(target / LORA)
    assert len(saved) > 20 and all(value.dtype == torch.float16 for value in saved.values())
    jumps = train_few_steps.teacher_jumps(unet, text, data, 32, tmp_path / "few-steps")

    def missed(net):
        with torch.no_grad():
            states = text(jumps["tokens"]).last_hidden_state
            velocity = net(torch.cat([jumps["x"], jumps["extra"]], 1), jumps["times"], states).sample
        kept = build.build_scheduler().alphas_cumprod[jumps["times"]].view(-1, 1, 1, 1)
        return float((kept.sqrt() * jumps["x"] - (1 - kept).sqrt() * velocity - jumps["end"]).abs().mean())

    assert missed(unet) < 0.9 * missed(tiny_unet()), "one jump comes nearer to the end than before"
    log = torch.load(tmp_path / "few-steps.pt", weights_only=True)["log"]
    again = tiny_unet()
    train_few_steps.train_few_steps(again, text, data, 32, schedule, tmp_path, target)
    assert log == torch.load(tmp_path / "few-steps.pt", weights_only=True)["log"]
    for name, value in load_file(target / LORA).items():
        torch.testing.assert_close(value, saved[name])  # a finished training is only read


def test_jumps_end_where_the_path_does_and_begin_where_the_last_one_ended(latents, tmp_path, monkeypatch):
    monkeypatch.setattr(train_few_steps, "autocast", lambda: torch.autocast("cpu", torch.bfloat16, enabled=False))
    tokenizer, data = latents
    torch.manual_seed(0)
    unet, text = tiny_unet().eval(), build.build_text_encoder(tokenizer).eval()
    jumps = train_few_steps.teacher_jumps(unet, text, data, 33, tmp_path)
    n = train_few_steps.CHAINS
    assert len(jumps["x"]) == 2 * 4 * n and len(list(tmp_path.iterdir())) == 2, "whole files"
    assert (jumps["times"][:n] == 999).all() and len(set(jumps["times"].tolist())) <= 7
    pure, ends = jumps["x"][:n], jumps["end"][:n]
    assert abs(pure.std() - 1) < 0.02 and abs(pure.mean()) < 0.02, "the first jump is from noise alone"
    alphas = build.build_scheduler().alphas_cumprod
    for k in range(1, 4):
        part = slice(k * n, (k + 1) * n)
        kept = alphas[jumps["times"][part]].view(-1, 1, 1, 1)
        left = (jumps["x"][part] - kept.sqrt() * ends) / (1 - kept).sqrt()
        assert abs(left.std() - 1) < 0.03 and abs((left * ends).mean()) < 0.05, "the last end, and noise of the time"
        assert (jumps["times"][part] < jumps["times"][part.start - 1]).all()
        ends = jumps["end"][part]

    def solved(row):
        """The definition: DDIM in so many steps that its path has converged."""
        x, time = jumps["x"][row : row + 1], int(jumps["times"][row])
        extra, states = jumps["extra"][row : row + 1], text(jumps["tokens"][row : row + 1]).last_hidden_state
        times = np.unique(np.linspace(0, time, 200).round().astype(int))[::-1]
        for now, then in zip(times, [*times[1:], None], strict=True):
            velocity = unet(torch.cat([x, extra], 1), torch.tensor(now), states).sample
            signal, noise = alphas[now].sqrt(), (1 - alphas[now]).sqrt()
            clean, seen = signal * x - noise * velocity, noise * x + signal * velocity
            x = clean if then is None else alphas[then].sqrt() * clean + (1 - alphas[then]).sqrt() * seen
        return x

    with torch.no_grad():
        for row in (0, n, 2 * n, 3 * n):
            wanted = solved(row)
            missed = (jumps["end"][row : row + 1] - wanted).abs().mean() / wanted.abs().mean()
            assert missed < 0.1
