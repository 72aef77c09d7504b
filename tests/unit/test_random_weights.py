"""Random models are reproducible and behave like trained ones, whatever their shape."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tercet.models.config import ModelConfig, shape
from tercet.models.random_weights import random_weights
from tercet.models.tensor_names import is_ternary, tensor_shapes
from tercet.quantization.ternary_tensor import TernaryTensor
from tercet.reference import ReferenceDecoder

SMALL = dataclasses.replace(
    shape("tiny"), hidden_size=128, ffn_size=320, num_layers=3, num_heads=4, head_dim=32, vocab_size=512
)


def test_every_tensor_is_there_in_its_shape_and_always_the_same() -> None:
    weights, again = random_weights(SMALL, seed=3), random_weights(SMALL, seed=3)
    other = random_weights(SMALL, seed=4)
    assert list(weights) == list(tensor_shapes(SMALL))
    for name in reversed(list(weights)):
        left, right, third = weights[name], again[name], other[name]
        assert isinstance(left, TernaryTensor) == is_ternary(name)
        assert left.shape == tensor_shapes(SMALL)[name]
        for one, same, different in [
            (left.codes, right.codes, third.codes)
            if isinstance(left, TernaryTensor)
            else (left, right, third)
        ]:
            assert np.array_equal(one, same)
            assert not np.array_equal(one, different)


def test_codes_have_the_proportions_of_the_official_model() -> None:
    codes = random_weights(shape("tiny"))["layers.0.ffn.up"].codes
    shares = [float((codes == code).mean()) for code in (-1, 0, 1)]
    assert shares == pytest.approx([0.289, 0.422, 0.289], abs=0.005)  # 5 sigma is 0.004 of 393,216 codes


@pytest.mark.parametrize(
    "config",
    [
        SMALL,
        dataclasses.replace(SMALL, activation="silu", tied_embeddings=False),
        dataclasses.replace(SMALL, attention_sub_norm=False, ffn_sub_norm=False),
        dataclasses.replace(SMALL, num_layers=12, quantize_activations=False),
    ],
)
def test_logits_are_spread_and_depend_on_the_context(config: ModelConfig) -> None:
    decoder = ReferenceDecoder(config, dict(random_weights(config, seed=1)))
    tokens = np.random.default_rng(0).integers(0, config.vocab_size, 40)
    logits = decoder.logits(tokens)
    assert 2 < logits.std() < 4
    assert (logits.argmax(axis=1) == tokens).mean() < 0.2
    elsewhere = decoder.logits(np.concatenate([tokens[20:39], tokens[-1:]]))
    assert np.abs(elsewhere[-1] - logits[-1]).max() > 0.1
