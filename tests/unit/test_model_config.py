"""A config is checked when it is made, survives a file, and counts what a model has."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import numpy as np
import pytest

from tercet.errors import FormatError, ParameterError
from tercet.models.config import ModelConfig
from tercet.models.rotation import Rotation
from tercet.models.shapes import SHAPES, shape
from tercet.models.tensor_names import (
    is_ternary,
    layer_name,
    tensor_shapes,
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
    rules = {"activation_rule", "weight_rule"}
    assert set(values) | rules == {field.name for field in dataclasses.fields(ModelConfig)}
    assert not rules & set(values)


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
        ({"sliding_window": 0}, "sliding_window must be a whole number from 1 to 16777216, not 0"),
        ({"sliding_pattern": 2}, "sliding_pattern is given, and there is no sliding_window"),
        ({"sliding_window": 4, "sliding_pattern": 0}, "sliding_pattern must be a whole number from 1"),
        ({"embedding_scale": None}, "embedding_scale must be a positive number, not None"),
        ({"attention_scale": 0.0}, "attention_scale must be a positive number, not 0.0"),
        ({"rope_local_theta": -1}, "rope_local_theta must be a positive number, not -1"),
        ({"rope_theta": 10**400}, r"rope_theta must be at most 3.4e[+]38"),
        ({"qk_norm": 1}, "qk_norm must be true or false, not 1"),
        ({"pooling": "mean"}, "pooling must be one of last, not 'mean'"),
        (
            {"normalize_embeddings": True},
            "normalize_embeddings is true, and there is no pooling that makes embeddings",
        ),
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


LINEAR = {"kind": "linear", "factor": 2}
LLAMA3 = {
    "kind": "llama3", "factor": 8.0, "original_max_context": 8192,
    "low_freq_factor": 1.0, "high_freq_factor": 4.0,
}  # fmt: skip
YARN = {
    "kind": "yarn", "factor": 4.0, "original_max_context": 4096,
    "beta_fast": 32.0, "beta_slow": 1.0, "attention_factor": 1.1,
}  # fmt: skip


@pytest.mark.parametrize(
    ("scaling", "message"),
    [
        ({"kind": "dynamic", "factor": 2.0}, "the kind 'dynamic' is not supported: its frequencies change"),
        ({"kind": "longrope"}, "rope_scaling.kind must be one of linear, llama3, yarn, factors"),
        ({"factor": 2.0}, "rope_scaling lacks: kind"),
        ({"kind": "linear"}, "rope_scaling.factor must be a positive number, not None"),
        (LINEAR | {"factor": 0}, "rope_scaling.factor must be a positive number, not 0"),
        (LINEAR | {"factor": -2.0}, "rope_scaling.factor must be a positive number, not -2.0"),
        (LINEAR | {"factor": 1e39}, "rope_scaling.factor must be at most 3.4e[+]38"),
        (LINEAR | {"factor": 1e-320}, "the RoPE frequencies that follow .* are not finite"),
        (LINEAR | {"beta_fast": 2.0}, "beta_fast is given, which scaling of the kind linear has not"),
        (LINEAR | {"mscale": 2.0}, "rope_scaling has unknown keys: mscale"),
        (LLAMA3 | {"high_freq_factor": 1.0}, "low_freq_factor must be smaller than high_freq_factor"),
        (LLAMA3 | {"original_max_context": 0}, "original_max_context must be a whole number from 1"),
        (LLAMA3 | {"original_max_context": 8192.0}, "original_max_context must be a whole number from 1"),
        (YARN | {"beta_slow": 32.0}, "beta_slow must be smaller than beta_fast, not 32.0 and 32.0"),
        (
            {"kind": "factors", "factors": [1.0] * 9},
            "rope_scaling.factors must be 10 numbers, half of head_dim",
        ),
        ({"kind": "factors", "factors": [1.0] * 9 + [0]}, "rope_scaling.factors must be a positive number"),
        ({"kind": "factors", "factors": []}, "rope_scaling.factors must be a sequence of positive numbers"),
        ([2.0], "rope_scaling must be a RopeScaling or None, not"),
    ],
)
def test_scalings_that_cannot_be(scaling: Any, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        ModelConfig.from_dict(SMALL.to_dict() | {"rope_scaling": scaling})


def test_yarn_needs_frequencies_that_differ() -> None:
    with pytest.raises(FormatError, match=r"rope_theta must be larger than 1 with yarn, not 1.0"):
        ModelConfig.from_dict(SMALL.to_dict() | {"rope_scaling": YARN, "rope_theta": 1.0})


TURNED = {"block_size": 16, "inputs": ["layers.1.attention.q", "output_head"], "outputs": ["embedding"],
          "signs": {"64": "00" * 7 + "ff"}}  # fmt: skip


def test_a_rotation_says_its_signs() -> None:
    config = ModelConfig.from_dict(SMALL.to_dict() | {"rotation": TURNED})
    assert config.rotation is not None
    assert config.rotation.signs_of(64).tolist() == [1] * 56 + [-1] * 8
    assert config.to_dict()["rotation"] == TURNED
    without = Rotation.of_signs(4, ["layers.0.ffn.down"])
    assert without.signs_of(96).tolist() == [1] * 96


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"block_size": 24}, "rotation.block_size must be a power of two, not 24"),
        ({"block_size": 1}, "rotation.block_size must be a whole number from 2"),
        ({"block_size": 128}, "turns blocks of 128 elements, and layers.1.attention.q has 64"),
        ({"signs": {"64": "00" * 7}}, "signs of width 64 must be 64 bits in 16 hex digits"),
        ({"signs": {"64": "zz" * 8}}, "signs of width 64 must be 64 bits in 16 hex digits"),
        ({"signs": {"63": "ff" * 8}}, "signs of width 63 must be 63 bits"),
        ({"signs": {"096": "00" * 12}}, "has the width '096'"),
        ({"signs": {"-1": ""}}, "must map widths in decimal to signs, not '-1'"),
        ({"signs": {"99999999": ""}}, "has the width '99999999', expected 1 to 16777216"),
        ({"signs": {"96": "00" * 12}}, "no signs for layers.1.attention.q, whose width is 64"),
        ({"signs": [1, -1]}, "rotation.signs must map widths to signs"),
        ({"inputs": ["embedding"]}, "names 'embedding', which is no matrix of the model"),
        ({"inputs": ["layers.2.ffn.up"]}, "names 'layers.2.ffn.up', which is no matrix of the model"),
        ({"inputs": ["layers.0.ffn_norm"]}, "names 'layers.0.ffn_norm', which is no matrix"),
        ({"inputs": ["layers.00.ffn.up"]}, "names 'layers.00.ffn.up', which is no matrix"),
        ({"inputs": ["output_head", "output_head"]}, "rotation.inputs names a tensor twice"),
        ({"inputs": "output_head"}, "rotation.inputs must be a sequence of tensor names"),
        ({"outputs": ["output_head"]}, "rotation.outputs may name the embedding, not 'output_head'"),
        ({"version": 1}, "rotation has unknown keys: version"),
    ],
)
def test_rotations_that_cannot_be(change: dict[str, Any], message: str) -> None:
    with pytest.raises(FormatError, match=message):
        ModelConfig.from_dict(SMALL.to_dict() | {"rotation": TURNED | change})


def test_signs_are_as_many_as_inputs() -> None:
    with pytest.raises(ParameterError, match=r"inputs of width 8 must be 8 times -1 or [+]1"):
        Rotation.of_signs(8, [], signs={8: np.array([1, -1] * 3, np.int8)})
    with pytest.raises(ParameterError, match=r"inputs of width 2 must be 2 times -1 or [+]1"):
        Rotation.of_signs(2, [], signs={2: np.array([1, 0], np.int8)})


def test_a_file_of_the_first_release_reads_as_before() -> None:
    """The keys that native files of version 1 had when they were first written."""
    old = (
        "architecture", "hidden_size", "ffn_size", "num_layers", "num_heads", "num_kv_heads", "head_dim",
        "vocab_size", "max_context", "rope_theta", "rms_norm_eps", "activation", "attention_sub_norm",
        "ffn_sub_norm", "tied_embeddings", "quantize_activations", "bos_token_id", "eos_token_ids",
        "pad_token_id",
    )  # fmt: skip
    config = shape("2b4t")
    values = config.to_dict()
    assert ModelConfig.from_dict({name: values[name] for name in old}) == config
    assert config.layer_windows == (None,) * 30
    assert (config.rope_attention_factor, config.first_token_id) == (1.0, 128_000)


def test_layers_take_turns_with_windows() -> None:
    gemma = dataclasses.replace(SMALL, num_layers=7, sliding_window=512, sliding_pattern=3)
    assert gemma.layer_windows == (512, 512, None, 512, 512, None, 512)
    assert dataclasses.replace(gemma, sliding_pattern=None).layer_windows == (512,) * 7
    assert dataclasses.replace(gemma, sliding_pattern=1).layer_windows == (None,) * 7


def test_published_sizes() -> None:
    """As their cards and papers count them: 8.03 billion, 1.72, 4.02 and 8.19 billion, 100 billion."""
    names = ("llama3-8b", "bonsai-1.7b", "bonsai-4b", "bonsai-8b", "100b")
    billions = [round(shape(name).num_parameters / 1e9, 2) for name in names]
    assert billions == [8.03, 1.72, 4.02, 8.19, 100.23]


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
    with pytest.raises(ParameterError, match="there is no shape '8b'; the shapes are tiny, 125m"):
        shape("8b")


def test_optional_tensors_are_listed_where_the_model_has_them() -> None:
    names = set(tensor_shapes(SMALL))
    assert {"output_head", "layers.1.attention.sub_norm"} <= names
    assert "layers.0.ffn.sub_norm" not in names
    assert "output_head" not in tensor_shapes(shape("2b4t"))
    assert tensor_shapes(SMALL)["layers.0.attention.o"] == (64, 80)
    assert tensor_shapes(SMALL)["layers.0.attention.k"] == (40, 64)


def test_only_the_seven_matrices_of_a_layer_are_ternary() -> None:
    assert is_ternary(layer_name(12, "ffn.down"))
    assert not any(
        is_ternary(name) for name in ("embedding", "output_head", "layers.0.ffn_norm", "layers.0.ffn")
    )


def test_numpy_numbers_are_no_surprise() -> None:
    with pytest.raises(ParameterError, match="hidden_size must be a whole number"):
        dataclasses.replace(SMALL, hidden_size=np.float32(64))
