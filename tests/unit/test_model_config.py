"""A config is checked when it is made, survives a file, and counts what a model has."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import numpy as np
import pytest

from tercet.errors import FormatError, ParameterError
from tercet.models.config import SHAPES, ModelConfig, shape
from tercet.models.tensor_names import (
    from_huggingface,
    is_ternary,
    layer_name,
    tensor_shapes,
    to_huggingface,
)

SMALL = ModelConfig(
    hidden_size=64,
    ffn_size=96,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=20,
    vocab_size=100,
    max_context=32,
    rope_theta=10_000,
    rms_norm_eps=1e-5,
    activation="silu",
    attention_sub_norm=True,
    ffn_sub_norm=False,
    tied_embeddings=False,
    bos_token_id=None,
    eos_token_ids=(),
)


@pytest.mark.parametrize("config", [*SHAPES.values(), SMALL])
def test_a_config_survives_json(config: ModelConfig) -> None:
    values = json.loads(json.dumps(config.to_dict()))
    assert ModelConfig.from_dict(values) == config
    assert set(values) == {field.name for field in dataclasses.fields(ModelConfig)}


def test_the_official_model_has_the_published_size() -> None:
    """The safetensors index of microsoft/bitnet-b1.58-2B-4T-bf16 counts 2,412,820,480 parameters."""
    assert shape("2b4t").num_parameters == 2_412_820_480
    assert shape("2b4t").num_ternary_weights == 2_084_044_800


@pytest.mark.parametrize("config", [*SHAPES.values(), SMALL])
def test_counts_agree_with_the_tensors(config: ModelConfig) -> None:
    shapes = tensor_shapes(config)
    assert sum(math.prod(size) for size in shapes.values()) == config.num_parameters
    ternary = [math.prod(size) for name, size in shapes.items() if is_ternary(name)]
    assert sum(ternary) == config.num_ternary_weights
    assert len(ternary) == 7 * config.num_layers


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": 0}, "hidden_size must be a whole number from 1 to 16777216, not 0"),
        ({"hidden_size": 64.0}, "hidden_size must be a whole number from 1 to 16777216, not 64.0"),
        ({"num_layers": True}, "num_layers must be a whole number from 1 to 1024, not True"),
        ({"ffn_size": 2**24 + 1}, "ffn_size must be a whole number"),
        ({"vocab_size": "100"}, "vocab_size must be a whole number"),
        ({"num_kv_heads": 3}, "num_heads must be a multiple of num_kv_heads, not 4 and 3"),
        ({"head_dim": 21}, "head_dim must be even"),
        ({"head_dim": 2**23}, r"num_heads \* head_dim must be at most 16777216"),
        ({"rope_theta": math.nan}, "rope_theta must be a positive number, not nan"),
        ({"rope_theta": 0}, "rope_theta must be a positive number, not 0"),
        ({"rms_norm_eps": math.inf}, "rms_norm_eps must be a positive number, not inf"),
        ({"rms_norm_eps": "1e-5"}, "rms_norm_eps must be a positive number"),
        ({"activation": "gelu"}, "activation must be one of relu2, silu, gelu_tanh, not 'gelu'"),
        ({"architecture": ["bitnet"]}, "architecture must be one of bitnet"),
        ({"tied_embeddings": 1}, "tied_embeddings must be true or false, not 1"),
        ({"bos_token_id": 100}, "bos_token_id must be a whole number from 0 to 99, not 100"),
        ({"pad_token_id": -1}, "pad_token_id must be a whole number from 0 to 99, not -1"),
        ({"eos_token_ids": (1, 100)}, "eos_token_ids must be a whole number from 0 to 99, not 100"),
        ({"eos_token_ids": 2}, "eos_token_ids must be a sequence of token ids, not 2"),
    ],
)
def test_values_are_checked_in_code_and_in_files(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        dataclasses.replace(SMALL, **change)
    with pytest.raises(FormatError, match="the model config is not valid: " + message):
        ModelConfig.from_dict(SMALL.to_dict() | change)


def test_numbers_are_stored_in_one_type() -> None:
    assert isinstance(SMALL.rope_theta, float)
    assert dataclasses.replace(SMALL, eos_token_ids=[1, 2]).eos_token_ids == (1, 2)


def test_files_with_other_keys_are_refused() -> None:
    with pytest.raises(
        FormatError, match=r"unknown keys: extra, wings\. The file was written by a newer release"
    ):
        ModelConfig.from_dict(SMALL.to_dict() | {"wings": 2, "extra": 1})
    values = SMALL.to_dict()
    del values["ffn_size"], values["vocab_size"]
    with pytest.raises(FormatError, match="the model config lacks: ffn_size, vocab_size"):
        ModelConfig.from_dict(values)
    with pytest.raises(FormatError, match="a model config is a mapping of names to values, not list"):
        ModelConfig.from_dict([])  # type: ignore[arg-type]


def test_an_unknown_shape_lists_the_known() -> None:
    with pytest.raises(ParameterError, match="there is no shape '7b'; the shapes are tiny, 125m"):
        shape("7b")


def test_optional_tensors_are_listed_where_the_model_has_them() -> None:
    names = set(tensor_shapes(SMALL))
    assert {"output_head", "layers.1.attention.sub_norm"} <= names
    assert "layers.0.ffn.sub_norm" not in names
    assert "output_head" not in tensor_shapes(shape("2b4t"))
    assert tensor_shapes(SMALL)["layers.0.attention.o"] == (64, 80)
    assert tensor_shapes(SMALL)["layers.0.attention.k"] == (40, 64)


@pytest.mark.parametrize("config", [shape("tiny"), SMALL])
def test_names_translate_both_ways(config: ModelConfig) -> None:
    for name in tensor_shapes(config):
        theirs = to_huggingface(name)
        assert theirs is not None
        assert from_huggingface(theirs) == name


@pytest.mark.parametrize("name", ["", "model.layers.x.mlp.up_proj.weight", "model.layers.0.mlp.up_proj.bias"])
def test_names_that_are_not_known(name: str) -> None:
    assert from_huggingface(name) is None
    assert to_huggingface(name) is None
    assert not is_ternary(name)


def test_only_the_seven_matrices_of_a_layer_are_ternary() -> None:
    assert is_ternary(layer_name(12, "ffn.down"))
    assert not any(
        is_ternary(name) for name in ("embedding", "output_head", "layers.0.ffn_norm", "layers.0.ffn")
    )


def test_numpy_numbers_are_no_surprise() -> None:
    with pytest.raises(ParameterError, match="hidden_size must be a whole number"):
        dataclasses.replace(SMALL, hidden_size=np.float32(64))
