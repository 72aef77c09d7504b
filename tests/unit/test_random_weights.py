"""Random models are reproducible and behave like trained ones, whatever their shape."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tercet.errors import ParameterError
from tercet.models.config import ModelConfig
from tercet.models.random_weights import RandomStyle, random_weights
from tercet.models.shapes import shape
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
    ("style", "scales"),
    [
        (RandomStyle(), ()),
        (RandomStyle(granularity="row"), (320,)),
        (RandomStyle(granularity="group", group_size=32), (320, 4)),
        (RandomStyle(granularity="group", group_size=64, binary=True), (320, 2)),
    ],
)
def test_styles_have_the_same_spread(style: RandomStyle, scales: tuple[int, ...]) -> None:
    weight = random_weights(SMALL, style=style)["layers.0.ffn.up"]
    assert isinstance(weight, TernaryTensor)
    assert weight.scales.shape == scales
    assert (0 in weight.codes) == (not style.binary)
    assert weight.dequantize().std() == pytest.approx(128**-0.5, rel=0.2)  # two sigma of a single scale


def test_embeddings_are_ternary_on_demand() -> None:
    untied = dataclasses.replace(SMALL, tied_embeddings=False)
    floats = random_weights(untied)
    ternary = random_weights(untied, style=RandomStyle(granularity="group", ternary_embeddings=True))
    for name in ("embedding", "output_head"):
        assert not isinstance(floats[name], TernaryTensor)
        assert ternary[name].granularity == "group"
        assert ternary[name].dequantize().std() == pytest.approx(floats[name].std(), rel=0.05)


def test_groups_must_fit() -> None:
    weights = random_weights(SMALL, style=RandomStyle(granularity="group", group_size=96))
    with pytest.raises(ParameterError, match="depth 128 has no whole groups of 96 columns"):
        weights["layers.0.ffn.up"]
    with pytest.raises(ParameterError, match="group_size must be at least 1, not 0"):
        RandomStyle(group_size=0)


@pytest.mark.parametrize(
    "config",
    [
        SMALL,
        dataclasses.replace(SMALL, activation="silu", tied_embeddings=False),
        dataclasses.replace(SMALL, attention_sub_norm=False, ffn_sub_norm=False),
        dataclasses.replace(SMALL, num_layers=12, quantize_activations=False),
        dataclasses.replace(SMALL, qk_norm=True, projection_norms=True),
        dataclasses.replace(SMALL, post_norms=True, embedding_scale=128**0.5, activation="gelu_tanh"),
        dataclasses.replace(SMALL, sliding_window=8, sliding_pattern=2, rope_local_theta=100.0),
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
