"""Text states of prompts; weights inside a prompt are read and applied as compel 2.0 does.

compel is what the public code of Instance Augmentation encodes its prompts with. The part of its syntax that those
prompts use is here: `(words)++` and `word+`.
"""

import re

import torch
from diffusers import DiffusionPipeline
from torch import Tensor
from transformers import CLIPTokenizer

PLUS = 1.1  # weight of one plus sign
_WEIGHTED = re.compile(r"\(([^()]*)\)(\++)|(\w+)(\++)")


def encode_prompt(pipeline: DiffusionPipeline, text: str, device: torch.device, weighted: bool) -> list[Tensor]:
    """Return the states (1, L, D) of a prompt and, with Stable Diffusion XL, the pooled states (1, D), in float32.

    If `weighted`, the states follow the weights in the text: e0 + w (e - e0), where e0 are the states of an empty
    prompt. Pooled states are those of the text as it stands, weights included: so does compel.
    """
    fragments = split_weights(text) if weighted else [(text, 1.0)]
    states, pooled = _encode(pipeline, "".join(part for part, _ in fragments), device)
    if not weighted:
        return [states, *pooled]
    empty, _ = _encode(pipeline, "", device)
    weights = _token_weights(pipeline.tokenizer, fragments).to(device)[:, None]
    return [empty + (states - empty) * weights, *_encode(pipeline, text, device)[1]]


def split_weights(text: str) -> list[tuple[str, float]]:
    """Split a prompt into fragments and their weights: PLUS to the power of the plus signs after them, else 1."""
    fragments, at = [], 0
    for match in _WEIGHTED.finditer(text):
        words, plus = match[1] or match[3], match[2] or match[4]
        fragments += [(text[at : match.start()], 1.0), (words, PLUS ** len(plus))]
        at = match.end()
    return [(part, weight) for part, weight in [*fragments, (text[at:], 1.0)] if part.strip()] or [("", 1.0)]


def _encode(pipeline: DiffusionPipeline, text: str, device: torch.device) -> tuple[Tensor, list[Tensor]]:
    """Return the states of a plain text, and a list of its pooled states or an empty one."""
    options = {"device": device, "num_images_per_prompt": 1, "do_classifier_free_guidance": False}
    states, _, *pooled = pipeline.encode_prompt(text, **options)
    return states.float(), [tensor.float() for tensor in pooled[:1]]


def _token_weights(tokenizer: CLIPTokenizer, fragments: list[tuple[str, float]]) -> Tensor:
    """Return the weight (L,) of each token; those of start, end and padding, and of cut-off tokens, are 1."""
    lengths = [len(tokenizer(part, add_special_tokens=False).input_ids) for part, _ in fragments]
    inner = [weight for (_, weight), length in zip(fragments, lengths, strict=True) for _ in range(length)]
    weights = torch.ones(tokenizer.model_max_length)
    inner = inner[: len(weights) - 2]
    weights[1 : len(inner) + 1] = torch.tensor(inner)
    return weights
