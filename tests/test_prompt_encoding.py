"""Weighted prompts are encoded as compel 2.0.2 encodes them, which the public code of Instance Augmentation uses."""

from types import SimpleNamespace

import pytest

from anonlib.assets.models import ModelRef, ModelSpec
from anonlib.engine.torch_setup import prepare_torch
from anonlib.faces import published_prompts

prepare_torch()
import torch

from anonlib.diffusion.inpainting import Inpainter
from anonlib.diffusion.loading import read_parts, read_pipeline
from anonlib.diffusion.prompt_encoding import encode_prompt, split_weights
from tests.models import write_xl

CPU = torch.device("cpu")
TEXT = "(person)++, a human being, sharp focus, soft lighting"


@pytest.mark.parametrize(
    ("text", "fragments"),  # what compel 2.0.2's parser makes of these, but for white space
    [
        (TEXT, [("person", 1.21), (", a human being, sharp focus, soft lighting", 1)]),
        ("(person)++, a human being, , ", [("person", 1.21), (", a human being, , ", 1)]),
        (
            published_prompts.NEGATIVE,
            [("3d render, cartoon, background, nsfw, nudity, ", 1), ("18", 1.1),
             (", naked, explicit content, uncensored", 1)],
        ),
        ("a (tall man)+++ (here)", [("a ", 1), ("tall man", 1.331), (" (here)", 1)]),
        ("plain words", [("plain words", 1)]),
        ("", [("", 1)]),
    ],
)  # fmt: skip
def test_weights_are_read_from_the_text(text, fragments):
    assert [(part, pytest.approx(weight)) for part, weight in fragments] == split_weights(text)


@pytest.fixture(scope="module")
def pipelines(tiny_bundle, tmp_path_factory) -> dict:
    xl = write_xl(tmp_path_factory.mktemp("xl"))
    return {name: ModelSpec(ModelRef(str(folder))) for name, folder in {"small": tiny_bundle, "xl": xl}.items()}


def plain(pipeline, text: str) -> list[torch.Tensor]:
    """Return diffusers' own states of a text, and its pooled states if it has two encoders."""
    states, _, *pooled = pipeline.encode_prompt(
        text, device=CPU, num_images_per_prompt=1, do_classifier_free_guidance=False
    )
    return [states, *pooled[:1]]


def by_hand(pipeline, fragments: list[tuple[str, float]], raw: str) -> list[torch.Tensor]:
    """Return the states token by token: those of an empty text, and the weighted way from there to the text's."""
    states, empty = (plain(pipeline, text)[0] for text in ("".join(part for part, _ in fragments), ""))
    weighted, at = states.clone(), 1
    for part, weight in fragments:
        for _ in pipeline.tokenizer(part).input_ids[1:-1]:
            if at < states.shape[1] - 1:
                weighted[0, at] = empty[0, at] + weight * (states[0, at] - empty[0, at])
            at += 1
    return [weighted, *plain(pipeline, raw)[1:]]


@pytest.mark.parametrize("name", ["small", "xl"])
@torch.inference_mode()
def test_states_of_weighted_words_are_further_from_those_of_an_empty_text(pipelines, name):
    pipeline = read_pipeline(pipelines[name])
    cases = {
        "(brown hair)++, hat": [("brown hair", 1.21), (", hat", 1.0)],
        "photo of a (person)+, glasses++": [("photo of a ", 1.0), ("person", 1.1), (", ", 1.0), ("glasses", 1.21)],
        "(photo of a person, )++" * 7: [("photo of a person, ", 1.21)] * 7,  # longer than the encoder takes
    }
    for text, fragments in cases.items():
        states = encode_prompt(pipeline, text, CPU, weighted=True)
        assert len(states) == (1 if name == "small" else 2)
        for ours, oracle in zip(states, by_hand(pipeline, fragments, text), strict=True):
            torch.testing.assert_close(ours, oracle, rtol=1e-5, atol=1e-5)
    unweighted = encode_prompt(pipeline, "brown hair, hat", CPU, weighted=False)
    torch.testing.assert_close(unweighted, plain(pipeline, "brown hair, hat"))
    weighted = encode_prompt(pipeline, "(brown hair)++, hat", CPU, weighted=True)
    assert not torch.equal(weighted[0], unweighted[0])


@pytest.mark.parametrize("name", ["small", "xl"])
def test_the_negative_prompt_has_weights_for_xl_alone(pipelines, name):
    from dataclasses import replace

    from tests.test_inpainting import order

    inpainter = Inpainter(read_parts(pipelines[name], ()))
    request = replace(order(()), texts=["(person)++, hat"] * 3, negative="hat, bald+, person", weighted=True)
    negative, positive = inpainter.prepare(request).texts[0].chunk(2)
    expected = encode_prompt(inpainter.pipeline, "(person)++, hat", CPU, weighted=True)[0]
    torch.testing.assert_close(positive, expected.repeat(3, 1, 1))
    as_text, as_weights = (
        encode_prompt(inpainter.pipeline, request.negative, CPU, weighted) for weighted in (False, True)
    )
    assert not torch.equal(as_text[0], as_weights[0])
    torch.testing.assert_close(negative, (as_weights if name == "xl" else as_text)[0].repeat(3, 1, 1))


# compel 2.0.2's own states of TEXT and of the negative prompt at the first three tokens and four (two) features, by the
# networks of tools/full_size.py, which are random, and its tokenizer
FIRST = [[-0.0460437, 0.7792879, -0.6022973, 0.2708177], [1.8808950, -0.0418893, -0.7770717, 0.1473217],
         [2.8175662, -1.0582919, -0.8884876, 0.2025105]]  # fmt: skip
BOTH = {
    TEXT: ([[-0.0647337, 4.0016289], [8.4116249, 0.1848950], [12.6621599, -4.6483564]], 17.2792515),
    published_prompts.NEGATIVE: ([[-0.0647337, 4.0016289], [11.5627203, -5.7313943], [9.8078318, -10.4645119]],
                                 17.0114765),
}  # fmt: skip


@pytest.mark.slow
@torch.inference_mode()
def test_at_full_size_states_are_compel_s_own(tmp_path):
    from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline

    from tools import full_size as full

    def network(kind: type, settings: dict):
        net = full.random_network(kind, settings).float()
        getattr(net, "text_model", net).embeddings.position_ids = torch.arange(77)[None]
        return net

    def pipeline(kind: type, **parts) -> SimpleNamespace:
        """Return the parts that a pipeline's `encode_prompt` uses."""
        settings = SimpleNamespace(force_zeros_for_empty_prompt=True)
        own = SimpleNamespace(tokenizer=words, text_encoder=first, unet=None, config=settings, **parts)
        own.encode_prompt = lambda *args, **kwargs: kind.encode_prompt(own, *args, **kwargs)
        return own

    words, first = full.full_tokenizer(tmp_path), network(full.CLIPTextModel, full.TEXT)
    (states,) = encode_prompt(pipeline(StableDiffusionPipeline), TEXT, CPU, weighted=True)
    assert states.shape == (1, 77, 768)
    torch.testing.assert_close(states[0, :3, :4], torch.tensor(FIRST), rtol=1e-4, atol=1e-4)
    second = network(full.CLIPTextModelWithProjection, full.XL_TEXT)
    large = pipeline(StableDiffusionXLPipeline, tokenizer_2=words, text_encoder_2=second)
    for text, (corner, deviation) in BOTH.items():
        states, pooled = encode_prompt(large, text, CPU, weighted=True)
        assert states.shape == (1, 77, 2048) and pooled.shape == (1, 1280)
        torch.testing.assert_close(states[0, :3, :2], torch.tensor(corner), rtol=1e-3, atol=1e-3)
        assert float(states.std()) == pytest.approx(deviation, rel=1e-4)
