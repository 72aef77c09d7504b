"""The decoder on the GPU, run by Triton's interpreter: the logits of the reference for every architecture."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from random_adapters import pairs_of, random_adapter
from random_decoders import CONFIGS, GROUPED, Feeder, packed_model, random_tokens
from tercet.errors import ParameterError
from tercet.formats.matrices import PackedMatrix, PlaneMatrix
from tercet.gpu.decoder import Decoder, KvCache
from tercet.kernels.adapter import AdapterUse
from tercet.models.config import ModelConfig
from tercet.models.random_weights import random_weights
from tercet.quantization.planes import planes
from tercet.quantization.ternary_tensor import TernaryTensor
from tercet.reference import ReferenceDecoder

Logits = npt.NDArray[np.float32]
CPU = torch.device("cpu")  # where the interpreter runs
LONG, SHORT = 8, 4
ONE_LAYER = dataclasses.replace(GROUPED, num_layers=1)
# As few as have every kind of layer: the interpreter is slow. The window is shorter than the longer prompt.
FEW_LAYERS = {
    name: config if config.rotation else dataclasses.replace(config, num_layers=1)
    for name, config in CONFIGS.items()
} | {
    "grouped": dataclasses.replace(GROUPED, num_layers=2),
    "gemma3": dataclasses.replace(CONFIGS["gemma3"], num_layers=3, sliding_window=4),
}


def decoder_of(config: ModelConfig) -> Decoder:
    return Decoder(config, packed_model(config), CPU)


def fed(decoder: Decoder, prompts: dict[str, Any], **cache: Any) -> Feeder:
    """Two sequences: their beginnings in one step, then a token of each, with blocks that cut both."""
    feeder = Feeder(decoder, block_tokens=3, make_cache=KvCache, **cache)
    feeder.feed({name: tokens[:-1] for name, tokens in prompts.items()})
    feeder.feed({name: tokens[-1:] for name, tokens in prompts.items()})
    return feeder


def prompts_of(config: ModelConfig) -> dict[str, Any]:
    return {"long": random_tokens(config, LONG), "short": random_tokens(config, SHORT, seed=1)}


def assert_close(got: Logits, expected: Logits, share: float = 1e-5) -> None:
    assert got.shape == expected.shape
    assert np.abs(got - expected).max() < share * np.abs(expected).max()


@pytest.mark.parametrize("name", CONFIGS)
def test_logits_are_those_of_the_reference(name: str) -> None:
    """No activation of these prompts lies so close to the middle of two codes that it rounds otherwise."""
    config = FEW_LAYERS[name]
    prompts = prompts_of(config)
    feeder = fed(decoder_of(config), prompts)
    reference = ReferenceDecoder(config, random_weights(config))
    for one, tokens in prompts.items():
        assert_close(feeder.result(one), reference.logits(tokens))


@pytest.mark.parametrize("rule", ["none", "int4", "int4_int8"])
def test_the_other_rules_for_activations(rule: str) -> None:
    config = dataclasses.replace(ONE_LAYER, quantize_activations=rule != "none")
    if rule != "none":
        config = dataclasses.replace(config, activation_rule=rule)
    tokens = random_tokens(config, SHORT)
    feeder = Feeder(decoder_of(config), make_cache=KvCache)
    feeder.feed({"alone": tokens})
    assert_close(feeder.result("alone"), ReferenceDecoder(config, random_weights(config)).logits(tokens))


@pytest.mark.parametrize(("dtype", "share"), [("f16", 0.01), ("int8", 0.05)])
def test_smaller_caches_are_close(dtype: str, share: float) -> None:
    config = dataclasses.replace(ONE_LAYER, quantize_activations=False)
    prompts = prompts_of(config)
    feeder = fed(decoder_of(config), prompts, dtype=dtype)
    reference = ReferenceDecoder(config, random_weights(config))
    for name, tokens in prompts.items():
        assert_close(feeder.result(name), reference.logits(tokens), share)


def test_long_contexts_are_divided_among_programs() -> None:
    """More positions than a program of attention takes at a time, in a prompt and in a single token."""
    config = ONE_LAYER
    tokens = random_tokens(config, 40)
    feeder = Feeder(decoder_of(config), make_cache=KvCache)
    feeder.feed({"alone": tokens[:-1]})
    feeder.feed({"alone": tokens[-1:]})
    expected = ReferenceDecoder(config, random_weights(config)).logits(tokens)
    assert_close(feeder.result("alone")[-1:], expected[-1:], 1e-4)


def test_hidden_states_are_what_the_head_reads() -> None:
    config = FEW_LAYERS["embedding"]
    tokens = random_tokens(config, SHORT)
    feeder = Feeder(decoder_of(config), hidden_states=True, make_cache=KvCache)
    feeder.feed({"alone": tokens})
    expected = ReferenceDecoder(config, random_weights(config)).hidden_states(tokens)
    assert_close(feeder.result("alone"), expected)


def test_adapters_are_of_their_own_sequence() -> None:
    config = ONE_LAYER
    decoder, added = decoder_of(config), random_adapter(config)
    cache = KvCache(decoder, 2)
    ids = random_tokens(config, 2 * SHORT)
    uses: Any = [AdapterUse(1, decoder.adapter(pairs_of(added)), 1.0)]  # type: ignore[arg-type]
    starts, rows = [0, SHORT, 2 * SHORT], np.arange(2 * SHORT)
    got = decoder.forward(cache, ids, starts, [0, 0], [[0], [1]], rows, adapters=uses)
    weights = random_weights(config)
    assert_close(got[:SHORT], ReferenceDecoder(config, weights).logits(ids[:SHORT]))
    assert_close(got[SHORT:], ReferenceDecoder(config, weights, adapter=added).logits(ids[SHORT:]))
    with pytest.raises(ParameterError, match="is no matrix of a layer"):
        decoder.adapter({"layers.0.norm": pairs_of(added)["layers.0.ffn.up"]})


def test_weights_in_other_types() -> None:
    """Planes in embedding and head, and a projection in floats beside ternary ones."""
    config = dataclasses.replace(GROUPED, num_layers=1, vocab_size=40, eos_token_ids=(1,))
    matrices: dict[str, Any] = packed_model(config)
    weights: dict[str, Any] = dict(random_weights(config))
    table = weights["embedding"]
    codes, scales = planes("int8_planes").quantize(table)
    matrices["embedding"] = PlaneMatrix(
        "int8_planes", *table.shape, planes("int8_planes").pack(codes), scales
    )
    weights["embedding"] = codes * scales[:, None]
    name = "layers.0.attention.k"
    assert isinstance(weights[name], TernaryTensor)
    weights[name] = weights[name].dequantize()
    matrices[name] = type(packed_model(config)["final_norm"])(
        "f32", *weights[name].shape, weights[name].reshape(-1)
    )
    tokens = random_tokens(config, SHORT)
    feeder = Feeder(Decoder(config, matrices, CPU), make_cache=KvCache)  # type: ignore[arg-type]
    feeder.feed({"alone": tokens})
    assert_close(feeder.result("alone"), ReferenceDecoder(config, weights).logits(tokens), 1e-4)


GOOD: dict[str, Any] = {
    "token_ids": [1, 2, 3],
    "sequence_starts": [0, 2, 3],
    "context_lengths": [0, 4],
    "block_tables": [[0, -1], [1, 2]],
    "logit_rows": [2],
}


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("token_ids", [1, 2, 301], r"token_ids should be in \[0, 301\), got 1 to 301"),
        ("token_ids", [], "at least one token"),
        ("token_ids", [1.5, 2.0, 3.0], "whole numbers, got float64"),
        ("sequence_starts", [0, 2], "should rise from 0 to the 3 tokens"),
        ("sequence_starts", [0, 0, 3], "should rise"),
        ("context_lengths", [0], "2 lengths, one for each sequence"),
        ("context_lengths", [0, 512], "at most 512 tokens, got 513"),
        ("block_tables", [[0], [1]], "2 rows of at least 2 blocks"),
        ("block_tables", [[0, 0], [1, -1]], r"should be in \[0, 4\), got -1 to 1"),
        ("block_tables", [[0, 0], [1, 4]], "got 0 to 4"),
        ("logit_rows", [3], r"logit_rows should be in \[0, 3\)"),
    ],
)
def test_an_operand_that_does_not_fit_is_named_before_anything_is_computed(
    name: str, value: object, message: str
) -> None:
    decoder = decoder_of(ONE_LAYER)
    cache = KvCache(decoder, 4, block_tokens=4)
    with pytest.raises(ParameterError, match=message):
        decoder.forward(cache, **GOOD | {name: value})
    assert decoder.steps == 0


def test_a_cache_has_a_size_and_a_type() -> None:
    decoder = decoder_of(ONE_LAYER)
    with pytest.raises(ParameterError, match="at least one block of one token, not 0 of 16"):
        KvCache(decoder, 0)
    with pytest.raises(ParameterError, match="holds f32, f16, int8, not 'f8'"):
        KvCache(decoder, 1, dtype="f8")
    sizes = {dtype: KvCache(decoder, 4, dtype=dtype).nbytes for dtype in ("f32", "f16", "int8")}
    assert sizes["f32"] == 2 * sizes["f16"] == 2 * 4 * 16 * 2 * 32 * 4
    assert sizes["int8"] == sizes["f32"] // 4 + 2 * 4 * 16 * 2 * 4


def test_a_missing_matrix_is_named() -> None:
    matrices = {name: one for name, one in packed_model(GROUPED).items() if name != "layers.1.ffn.up"}
    with pytest.raises(ParameterError, match=r"no tensor layers\.1\.ffn\.up"):
        Decoder(GROUPED, matrices, CPU)
    assert isinstance(matrices["layers.0.ffn.up"], PackedMatrix)
