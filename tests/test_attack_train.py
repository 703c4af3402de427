"""The training loop learns, resumes to the bit, and keeps the state that validation people choose."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from anonlib.attacks import contrastive
from anonlib.attacks import train as tr
from anonlib.attacks.pairs import PhotoPairs
from anonlib.attacks.registry import AttackConfig
from anonlib.config.errors import AnonlibError
from anonlib.engine.torch_setup import autocast, fast_dtype
from anonlib.metrics.identification import rank1_rate, rank_of_true

TINY = AttackConfig(image_size=32, steps=4, batch=6, warmup=1, validate_every=2, projection_dim=16, lr=2e-3)


def blobs(people: int, photos: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return photos of "people": a coarse pattern of each one's own under strong noise and changing light."""
    rng = np.random.default_rng(seed)
    own = np.kron(rng.uniform(30, 220, (people, 1, 4, 4, 3)), np.ones((1, 1, 32, 32, 1)))
    light = rng.uniform(0.7, 1.3, (people, photos, 1, 1, 1))
    images = own * light + rng.normal(0, 25, (people, photos, 128, 128, 3))
    identity = np.repeat([f"{seed}-{i:02d}" for i in range(people)], photos)
    return np.clip(images, 0, 255).astype(np.uint8).reshape(-1, 128, 128, 3), identity


def pairs_of(people: int, photos: int, seed: int = 0) -> PhotoPairs:
    """Return pairs whose anonymizer inverts the colours, which misleads any network that has not learned it."""
    images, identity = blobs(people, photos, seed)
    masks = np.zeros(images.shape[:3], np.uint8)
    masks[:, 20:, 20:108] = 255
    return PhotoPairs(images, identity, 255 - images, np.arange(len(images)), None, masks)


def weights(trained: tr.TrainedAttacker) -> dict[str, torch.Tensor]:
    return trained.network.state_dict()


def same(a: tr.TrainedAttacker, b: tr.TrainedAttacker) -> bool:
    return all(torch.equal(x, y) for x, y in zip(weights(a).values(), weights(b).values(), strict=True))


def test_a_killed_run_continues_to_the_same_bits(tmp_path: Path) -> None:
    train, validation, path = pairs_of(8, 3), pairs_of(4, 3, seed=1), tmp_path / "attack" / "state.pt"
    whole = tr.train_attacker(TINY, train, validation)

    def kill(step: int, steps: int) -> None:
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tr.train_attacker(TINY, train, validation, path, progress=kill)
    steps = []
    resumed = tr.train_attacker(TINY, train, validation, path, progress=lambda step, _: steps.append(step))
    assert steps == [3, 4], "only what is missing is done"
    assert same(whole, resumed) and whole.curve.equals(resumed.curve) and whole.embedding == resumed.embedding
    read = tr.train_attacker(TINY, train, validation, path, progress=kill)
    assert same(whole, read), "a finished run is only read"
    assert [p.name for p in path.parent.iterdir()] == ["state.pt"]
    with pytest.raises(AnonlibError, match="another attacker"):
        tr.train_attacker(replace(TINY, lr=1e-4), train, validation, path)
    with pytest.raises(AnonlibError, match="other data"):
        tr.train_attacker(TINY, pairs_of(8, 3, seed=5), validation, path)


def test_seed_decides_and_the_callers_random_state_stays() -> None:
    train = pairs_of(4, 2)
    short = replace(TINY, steps=1)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = tr.train_attacker(short, train)
    assert torch.equal(torch.get_rng_state(), before)
    assert same(first, tr.train_attacker(short, train))
    assert not same(first, tr.train_attacker(replace(short, seed=1), train))


def test_it_learns_to_see_through_an_anonymizer() -> None:
    train, validation = pairs_of(24, 3), pairs_of(8, 3, seed=1)
    config = replace(TINY, steps=40, batch=16, warmup=3, validate_every=20)
    trained = tr.train_attacker(config, train, validation)
    assert trained.curve.loss.tail(4).mean() < 0.75 * trained.curve.loss.iloc[1:4].mean()
    test = pairs_of(12, 3, seed=2)

    def identified(attacker: tr.TrainedAttacker) -> float:
        probes, references = attacker.embed(test.anonymized), attacker.embed(test.originals)
        assert probes.dtype == np.float32 and np.linalg.norm(probes, axis=1) == pytest.approx(1, abs=1e-5)
        return rank1_rate(rank_of_true(probes, test.identity, test.source, references, test.identity, test.source))

    assert identified(trained) > 0.25, "chance is 0.08"
    assert identified(replace(trained, network=tr.seeded_network(config))) < 0.15


def test_the_state_kept_is_the_best_on_validation() -> None:
    train, validation = pairs_of(6, 3), pairs_of(6, 3, seed=1)
    trained = tr.train_attacker(replace(TINY, steps=6, lr=0.05), train, validation)  # such a rate destroys the network
    measured = trained.curve.set_index("step").filter(regex="_score$").dropna()
    assert sorted(measured) == ["h_max_score", "h_mean_score", "z_max_score", "z_mean_score"]
    assert measured.index.tolist() == [0, 2, 4, 6]
    chosen = f"{trained.embedding}_{trained.fusion}_score"
    assert measured.loc[trained.step, chosen] == measured.to_numpy().max()


def test_training_ends_where_enough_validation_probes_are_all_found() -> None:
    def plain(probes: int) -> PhotoPairs:  # two copies of one photo a person, which nobody anonymized
        images = np.repeat(blobs(probes // 2, 1, seed=1)[0], 2, axis=0)
        return PhotoPairs(images, np.repeat(np.arange(probes // 2), 2), images, np.arange(probes))

    enough, fewer = (tr.train_attacker(TINY, pairs_of(6, 2), plain(tr.STOP_PROBES - less)) for less in (0, 2))
    assert enough.step == 0 and enough.curve.step.tolist() == [0]
    assert fewer.curve.step.max() == TINY.steps, "a few may all be found by luck"


def test_training_goes_on_with_the_weights_that_it_is_given() -> None:
    first = tr.train_attacker(replace(TINY, steps=3, seed=1), pairs_of(6, 3))
    own = replace(TINY, steps=1, lr=1e-9, seed=0)
    found = tr.train_attacker(own, pairs_of(6, 3), init=tr.weights_of(first)).network
    for (name, before), (_, after) in zip(first.network.named_parameters(), found.named_parameters(), strict=True):
        torch.testing.assert_close(before, after, atol=1e-6, rtol=0, msg=name)
    other = tr.seeded_network(own).state_dict()
    assert any((other[name] - value).abs().max() > 1e-3 for name, value in found.state_dict().items())


def test_one_photo_a_person_and_no_validation() -> None:
    single = pairs_of(5, 1)
    trained = tr.train_attacker(replace(TINY, steps=2), single, single)
    assert trained.curve.z_mean_top1.notna().any(), "judged against the person's only photo"
    blind = tr.train_attacker(replace(TINY, steps=2), single)
    assert (blind.step, blind.embedding, blind.fusion) == (2, "z", "max")


def test_one_person_is_refused() -> None:
    with pytest.raises(AnonlibError, match="at least 2 people"):
        tr.train_attacker(TINY, pairs_of(1, 4))


def test_a_diverged_network_is_never_the_best() -> None:
    train, validation = pairs_of(6, 2), pairs_of(6, 2, seed=1)
    with pytest.raises(AnonlibError, match="diverged at step"):
        tr.train_attacker(replace(TINY, lr=1e30), train)
    last = tr.train_attacker(replace(TINY, lr=1e30, steps=1), train, validation)  # only its last update is bad
    assert last.step == 0


@pytest.mark.parametrize(
    ("cpu", "faster"),
    [
        ({"amx_bf16": True, "avx512_bf16": True, "cpu_name": "Intel Xeon"}, torch.bfloat16),
        ({"amx_bf16": False, "avx512_bf16": True, "cpu_name": "Intel Xeon"}, torch.float32),
        ({"avx512_bf16": True, "cpu_name": "AMD EPYC"}, torch.bfloat16),
        ({"avx512_bf16": False, "cpu_name": "AMD Ryzen"}, torch.float32),
        ({}, torch.float32),
    ],
)
def test_products_are_of_the_type_that_the_machine_is_faster_in(cpu: dict, faster: torch.dtype, monkeypatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: cpu)
    assert fast_dtype("cpu") == faster
    network = tr.seeded_network(TINY)
    images = torch.zeros(2, 3, 32, 32)
    for config, wanted in ((TINY, faster), (replace(TINY, dtype="float32"), torch.float32)):
        with tr._autocast(config, "cpu"):
            assert network(images)[0].dtype == wanted


@pytest.mark.parametrize(
    ("capability", "fast", "training"),
    [((9, 0), torch.bfloat16, torch.bfloat16), ((8, 0), torch.bfloat16, torch.bfloat16),
     ((7, 5), torch.float16, torch.float32), ((6, 1), torch.float16, torch.float32)],
)  # fmt: skip
def test_a_gpu_without_bfloat16_takes_float16_but_trains_in_float32(capability, fast, training, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    assert fast_dtype("cuda") == fast and fast_dtype("cuda", training=True) == training
    asked = []
    monkeypatch.setattr(torch, "autocast", lambda device, dtype, enabled: asked.append((device, dtype, enabled)))
    autocast("cuda")
    tr._autocast(TINY, "cuda:0")
    tr._autocast(replace(TINY, dtype="float32"), "cuda")
    assert asked == [
        ("cuda", fast, True), ("cuda", training, training != torch.float32), ("cuda", torch.float32, False)
    ]  # fmt: skip


def test_schedule() -> None:
    shares = [tr.lr_schedule(step, 100, 10) for step in range(100)]
    assert shares[0] == 0.1 and shares[9] == shares[10] == 1 and shares[99] < 0.001
    assert np.all(np.diff(shares[10:]) < 0)


def test_background_only_attacker_cannot_see_people() -> None:
    train, test = pairs_of(6, 2), pairs_of(6, 2, seed=3)
    trained = contrastive.train(train, None, "background-only", steps=1, batch=4, image_size=32, warmup=1)
    blanked = test.originals.copy()
    blanked[test.masks > 0] = 0
    np.testing.assert_array_equal(trained.embed(blanked, test.masks), trained.embed(test.originals, test.masks))


def test_the_training_call_takes_changes_and_refuses_unknown_attackers() -> None:
    trained = contrastive.train(pairs_of(4, 2), steps=1, temperature=0.5, image_size=32)
    assert (trained.config.steps, trained.config.temperature, trained.config.name) == (1, 0.5, "contrastive")
    assert trained.embed(blobs(2, 1)[0]).shape == (2, 128)
    with pytest.raises(AnonlibError, match="unknown attacker"):
        contrastive.attack_config("clairvoyant")
    with pytest.raises(AnonlibError, match="unknown attacker"):
        contrastive.attack_config("sface")


def test_another_backbone_brings_its_own_rate_unless_one_is_given() -> None:
    assert contrastive.attack_config("contrastive", backbone="vit").lr == contrastive.RATES["vit"]
    assert contrastive.attack_config("contrastive", backbone="vit", lr=0.1).lr == 0.1
    face = contrastive.CONFIGS["contrastive-face"]
    assert contrastive.attack_config("contrastive-face", backbone="mobilefacenet") == face
