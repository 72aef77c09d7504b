"""What a GGUF file means: fields, names, row order, vocabulary, rotation; and what is refused, by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gguf_files as g
from gguf_files import (
    Tensor,
    array,
    container,
    float_tensor,
    metadata,
    model_tensors,
    q2_0_projection,
    scalar,
    string,
)
from tercet.errors import FormatError, UnsupportedFormatError, UnsupportedModelError
from tercet.formats.gguf import GgufModel, TokenType, open_gguf
from tercet.formats.gguf.tensor_names import from_gguf, to_gguf
from tercet.models.config import ModelConfig
from tercet.models.tensor_names import tensor_shapes

Change = tuple[int, bytes] | None


def u32(value: int) -> Change:
    return g.UINT32, scalar(g.UINT32, value)


def f32(value: float) -> Change:
    return g.FLOAT32, scalar(g.FLOAT32, value)


def flag(value: bool) -> Change:
    return g.BOOL, g.scalar(g.BOOL, value)


def text(value: str) -> Change:
    return g.STRING, string(value)


@pytest.fixture
def opened(tmp_path: Path) -> Any:
    def made(
        architecture: str = "bitnet",
        changes: Mapping[str, Change] | None = None,
        tensors: list[Tensor] | None = None,
        extra: tuple[Tensor, ...] = (),
    ) -> GgufModel:
        path = tmp_path / "x.gguf"
        path.unlink(missing_ok=True)
        of_model = model_tensors(q2_0_projection) if tensors is None else tensors
        path.write_bytes(container(metadata(architecture, changes), [*of_model, *extra]))
        return open_gguf(path)

    return made


def test_fields_are_those_of_a_config(opened: Any) -> None:
    model = opened("bitnet-b1.58")
    assert model.fields == {
        "architecture": "bitnet",
        "hidden_size": 256,
        "ffn_size": 512,
        "num_layers": 1,
        "num_heads": 4,
        "num_kv_heads": 2,
        "head_dim": 64,
        "vocab_size": 8,
        "max_context": 64,
        "rope_theta": 10000.0,
        "rms_norm_eps": 1e-5,
        "activation": "relu2",
        "attention_sub_norm": True,
        "ffn_sub_norm": True,
        "tied_embeddings": True,
        "quantize_activations": True,
        "bos_token_id": 1,
        "eos_token_ids": (2,),
        "pad_token_id": None,
    }
    config = ModelConfig.from_dict(model.fields)
    assert set(model.names) == set(tensor_shapes(config))
    for name, shape in tensor_shapes(config).items():
        assert model.stored(name).shape == shape
    assert model.unknown_tensors == ()
    assert opened("bitnet").fields["activation"] == "silu"
    assert opened("bitnet-25").fields["activation"] == "relu2"


def test_names_go_both_ways(opened: Any) -> None:
    for name in opened().names.values():
        assert to_gguf(str(from_gguf(name))) == name
    for theirs, ours in [
        ("blk.12.attn_q_norm.weight", "layers.12.attention.q_norm"),
        ("blk.0.attn_output_norm_in.weight", "layers.0.attention.o.input_norm"),
        ("blk.0.ffn_down_norm_in.weight", "layers.0.ffn.down.input_norm"),
        ("output.weight", "output_head"),
        ("rope_freqs.weight", "rope_factors"),
    ]:
        assert from_gguf(theirs) == ours
        assert to_gguf(ours) == theirs
    for strange in (
        "blk.0.attn_q.bias",
        "blk.00.attn_q.weight",
        "blk.-1.attn_q.weight",
        "token_embd",
        "blk.0.x.weight",
    ):
        assert from_gguf(strange) is None
    assert to_gguf("layers.0.attention.x") is None
    assert to_gguf("x") is None


def test_options_show_only_where_they_are(opened: Any) -> None:
    norms = tuple(float_tensor(f"blk.0.attn_{part}_norm.weight", 64) for part in "qk")
    model = opened("qwen3", extra=norms)
    assert model.fields["qk_norm"] is True
    assert model.fields["architecture"] == "qwen3"
    model = opened(
        "llama", extra=(float_tensor("output.weight", 8, 256), float_tensor("rope_freqs.weight", 32))
    )
    assert model.fields["tied_embeddings"] is False
    assert model.fields["rope_factors"] is True
    assert model.float32("rope_factors").shape == (32,)
    model = opened("gemma3", {"gemma3.attention.sliding_window": u32(512), "gemma3.pooling_type": u32(3)},
                   extra=(float_tensor("blk.0.attn_q_norm_in.weight", 256),))  # fmt: skip
    assert model.fields["embedding_scale"] == 16.0
    assert model.fields["sliding_window"] == 512
    assert (model.fields["sliding_pattern"], model.fields["rope_local_theta"]) == (6, 10000.0)
    assert model.fields["pooling"] == "last"
    assert model.fields["projection_norms"] is True
    assert model.fields["activation"] == "gelu_tanh"


def test_rope_scaling_is_reported(opened: Any) -> None:
    for changes in (
        {"bitnet.rope.scaling.type": text("linear"), "bitnet.rope.scaling.factor": f32(1.0)},
        {"bitnet.rope.scaling.type": text("none"), "bitnet.rope.scaling.factor": f32(4.0)},
        {"bitnet.rope.scale_linear": f32(0.0)},
    ):
        assert "rope_scaling" not in opened(changes=changes).fields
    changes = {
        "bitnet.rope.scaling.type": text("yarn"),
        "bitnet.rope.scaling.factor": f32(4.0),
        "bitnet.rope.scaling.original_context_length": u32(2048),
        "bitnet.rope.scaling.yarn_beta_fast": f32(32.0),
    }
    assert opened(changes=changes).fields["rope_scaling"] == {
        "kind": "yarn",
        "factor": 4.0,
        "original_max_context": 2048,
        "beta_fast": 32.0,
    }


def test_activations_are_rounded_where_a_matrix_has_one_scale(opened: Any) -> None:
    def grouped(name: str, shape: tuple[int, int]) -> Tensor:
        tensor = q2_0_projection(name, shape)
        data = bytearray(tensor.data)
        data[0:2] = g.half(0.5)
        return Tensor(name, tensor.dims, 42, bytes(data))

    def real(name: str, shape: tuple[int, int]) -> Tensor:
        return float_tensor(name, *shape)

    def ternary_floats(name: str, shape: tuple[int, int]) -> Tensor:
        return Tensor(name, shape[::-1], 1, g.TYPES["F16"][1](g.random_codes(*shape), 0.25))

    assert opened().fields["quantize_activations"] is True
    assert opened(tensors=model_tensors(ternary_floats)).fields["quantize_activations"] is True
    assert opened(tensors=model_tensors(grouped)).fields["quantize_activations"] is False
    model = opened(tensors=model_tensors(real))
    assert model.fields["quantize_activations"] is False
    assert not model.is_ternary("layers.0.attention.q")
    assert not model.is_ternary("final_norm")
    assert opened(tensors=model_tensors(ternary_floats)).is_ternary("layers.0.attention.q")


def test_queries_and_keys_of_llama_come_in_our_order(opened: Any) -> None:
    """RoPE turns the pairs (0, 1), (2, 3) of the file, and (i, i + half) of ours."""
    model, raw = opened("llama"), opened("bitnet")
    for name, heads in (("layers.0.attention.q", 4), ("layers.0.attention.k", 2)):
        stored = raw.ternary(name).codes.reshape(heads, 32, 2, 256)
        found = model.ternary(name).codes.reshape(heads, 2, 32, 256)
        assert np.array_equal(found[:, 0], stored[:, :, 0])
        assert np.array_equal(found[:, 1], stored[:, :, 1])
        assert np.array_equal(model.float32(name), model.ternary(name).dequantize())
        assert np.array_equal(model.float32(name, slice(3, 9)), model.ternary(name).dequantize()[3:9])
    assert np.array_equal(
        model.ternary("layers.0.attention.v").codes, raw.ternary("layers.0.attention.v").codes
    )


def test_the_vocabulary_is_data(opened: Any) -> None:
    changes = {
        "tokenizer.ggml.pre": text("llama-bpe"),
        "tokenizer.ggml.merges": (g.ARRAY, array(g.STRING, ["a b"])),
        "tokenizer.ggml.precompiled_charsmap": (g.ARRAY, array(g.UINT8, [1, 2, 255])),
        "tokenizer.ggml.add_space_prefix": (g.BOOL, scalar(g.BOOL, False)),
        "tokenizer.ggml.eot_token_id": u32(5),
        "tokenizer.ggml.padding_token_id": u32(6),
        "tokenizer.chat_template.tool_use": text("other"),
        "general.sampling.temp": f32(0.5),
        "general.sampling.top_k": (g.INT32, scalar(g.INT32, 40)),
    }
    model = opened(changes=changes)
    vocabulary = model.vocabulary
    assert vocabulary is not None
    assert vocabulary.tokens == tuple(g.VOCABULARY)
    assert (vocabulary.model, vocabulary.pre, vocabulary.merges) == ("llama", "llama-bpe", ("a b",))
    assert vocabulary.precompiled_charsmap == b"\1\2\xff"
    assert vocabulary.flags == {"add_bos_token": True, "add_space_prefix": False}
    assert vocabulary.special_ids == {"bos": 1, "eos": 2, "eot": 5, "padding": 6}
    assert vocabulary.types is not None
    assert vocabulary.types[2] == TokenType.CONTROL
    assert vocabulary.end_ids == (2, 5) == model.fields["eos_token_ids"]
    assert model.fields["pad_token_id"] == 6
    assert vocabulary.chat_templates == {"default": "{{ messages[0].content }}", "tool_use": "other"}
    assert model.chat_template == "{{ messages[0].content }}"
    assert model.generation == {"temperature": 0.5, "top_k": 40}


def test_every_end_of_turn_is_found(opened: Any) -> None:
    """Files declare one end, and chat models use another."""
    tokens = ["<unk>", "<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>", "<|im_end|>", "a", "b", "c"]
    types = [2, 3, 3, 3, 1, 1, 1, 1]  # <|im_end|> is ordinary text here
    model = opened(
        changes={
            "tokenizer.ggml.tokens": (g.ARRAY, array(g.STRING, tokens)),
            "tokenizer.ggml.token_type": (g.ARRAY, array(g.INT32, types)),
        }
    )
    assert model.fields["eos_token_ids"] == (2, 3)


def test_a_file_may_come_without_a_vocabulary(opened: Any) -> None:
    none = {key: None for key, _, _ in metadata() if key.startswith("tokenizer.")}
    model = opened(changes=none)
    assert model.vocabulary is None
    assert model.chat_template is None
    assert model.fields["vocab_size"] == 8
    assert model.fields["eos_token_ids"] == ()


OTHER = UnsupportedModelError
WRONG: list[tuple[str, dict[str, Change], type[Exception], str]] = [
    ("qwen35", {}, OTHER, "'qwen35' is not supported: most of its layers are Gated-DeltaNet"),
    ("qwen3next", {}, OTHER, "Gated-DeltaNet"),
    ("qwen3moe", {}, OTHER, "mixture of experts"),
    ("mamba2", {}, OTHER, "state-space"),
    ("falcon", {}, OTHER, "this release runs bitnet, bitnet-b1.58"),
    ("bitnet", {"general.architecture": None}, FormatError, "general.architecture is missing"),
    ("bitnet", {"general.type": text("adapter")}, UnsupportedFormatError, "no model but a GGUF 'adapter'"),
    ("bitnet", {"split.count": (g.UINT16, scalar(g.UINT16, 3))}, UnsupportedFormatError, "one of 3 parts"),
    ("bitnet", {"bitnet.expert_count": u32(8)}, OTHER, "bitnet.expert_count = 8"),
    ("bitnet", {"bitnet.expert_count": (g.ARRAY, array(g.UINT32, [8]))}, OTHER, "expert_count"),
    ("bitnet", {"bitnet.attn_logit_softcapping": f32(50.0)}, OTHER, "softcapping = 50.0"),
    ("bitnet", {"bitnet.attention.causal": (g.BOOL, b"\0")}, OTHER, "causal = False"),
    ("bitnet", {"bitnet.rope.dimension_count": u32(32)}, OTHER, "turned and used as a whole"),
    ("bitnet", {"bitnet.attention.value_length": u32(32)}, OTHER, "value_length is 32"),
    ("bitnet", {"bitnet.attention.head_count": u32(0)}, FormatError, "head_count is 0"),
    ("bitnet", {"bitnet.attention.head_count": u32(7)}, FormatError, "do not divide into 7 heads"),
    ("bitnet", {"bitnet.embedding_length": None}, FormatError, "embedding_length is None"),
    ("bitnet", {"bitnet.feed_forward_length": (g.ARRAY, array(g.INT32, [1, 2]))},
     FormatError, "equal for all"),
    ("bitnet", {"bitnet.attention.layer_norm_rms_epsilon": f32(float("inf"))},
     FormatError, "a finite number"),
    ("bitnet", {"bitnet.vocab_size": u32(9)}, FormatError, "has 9 tokens, but the embedding has 8"),
    ("bitnet", {"bitnet.pooling_type": u32(9)}, FormatError, "pooling_type is 9"),
    ("bitnet", {"tokenizer.ggml.tokens": (g.ARRAY, array(g.STRING, ["a"]))}, FormatError, "the 1 tok"),
    ("bitnet", {"tokenizer.ggml.scores": (g.ARRAY, array(g.FLOAT32, [1.0]))}, FormatError, "the 8 tokens"),
    ("bitnet", {"tokenizer.ggml.scores": text("x")}, FormatError, "an array of numbers"),
    ("bitnet", {"tokenizer.ggml.token_type": (g.ARRAY, array(g.INT32, [9] * 8))},
     FormatError, "types from 0"),
    ("bitnet", {"tokenizer.ggml.eos_token_id": u32(8)}, FormatError, "eos_token_id is 8"),
    ("bitnet", {"tokenizer.ggml.eos_token_id": (g.INT8, b"\xff")}, FormatError, "eos_token_id is -1"),
    ("bitnet", {"tokenizer.ggml.model": None}, FormatError, "tokenizer.ggml.model is None"),
    ("bitnet", {"tokenizer.ggml.add_bos_token": u32(1)}, FormatError, "true or false"),
    ("bitnet", {"tokenizer.ggml.precompiled_charsmap": text("x")}, FormatError, "of bytes"),
    ("bitnet", {"tokenizer.chat_template": u32(1)}, FormatError, "chat_template is 1"),
    ("bitnet", {"general.sampling.temp": text("hot")}, FormatError, "temp is 'hot'"),
]  # fmt: skip


@pytest.mark.parametrize(("architecture", "changes", "kind", "reason"), WRONG)
def test_what_is_wrong_or_unknown_is_refused(
    opened: Any, architecture: str, changes: dict[str, Change], kind: type[Exception], reason: str
) -> None:
    with pytest.raises(kind, match=reason):
        opened(architecture, changes)


def test_tensors_without_a_part_are_listed(opened: Any) -> None:
    model = opened(
        extra=(float_tensor("blk.0.attn_q.bias", 256), float_tensor("blk.0.attn_q.weight_scale", 1))
    )
    assert model.unknown_tensors == ("blk.0.attn_q.bias", "blk.0.attn_q.weight_scale")
    with pytest.raises(FormatError, match=r"holds no embedding \(token_embd"):
        opened(tensors=model_tensors(q2_0_projection)[1:])
    with pytest.raises(FormatError, match=r"holds no tensor 'layers\.9\.ffn_norm'"):
        model.float32("layers.9.ffn_norm")


# The rotated basis --------------------------------------------------------------------------------

ROTATED = {
    "prism.hadamard.version": u32(2),
    "prism.hadamard.tied_output": flag(True),
    "prism.hadamard.block_size": u32(128),
    "prism.hadamard.transform": text("normalized-sylvester-walsh-hadamard"),
    "prism.hadamard.axis": text("input-last-dimension"),
    "prism.hadamard.sign_mode": text("explicit"),
    "prism.hadamard.sign_widths": (g.ARRAY, array(g.INT32, [256, 512])),
    "prism.hadamard.sign_values": (g.ARRAY, array(g.INT32, [1, -1] * 384)),
    "prism.hadamard.weight_names": (
        g.ARRAY,
        array(g.STRING, ["blk.0.attn_q.weight", "blk.0.ffn_down.weight"]),
    ),
    "prism.hadamard.inverse_weight_names": (g.ARRAY, array(g.STRING, ["token_embd.weight"])),
}


def test_a_rotation_is_described(opened: Any) -> None:
    rotation = opened(changes=ROTATED).rotation
    assert rotation.block_size == 128
    assert rotation.weight_names == {"blk.0.attn_q.weight", "blk.0.ffn_down.weight"}
    assert rotation.inverse_weight_names == {"token_embd.weight"}
    assert np.array_equal(rotation.signs_of(512), np.tile([1, -1], 256))
    assert rotation.tied_output
    assert not rotation.deltanet_values_grouped
    assert opened(changes=ROTATED).fields["rotation"].block_size == 128, (
        "a config that does not know it refuses"
    )
    identity = ROTATED | {"prism.hadamard.sign_mode": text("identity")}
    del identity["prism.hadamard.sign_widths"], identity["prism.hadamard.sign_values"]
    assert opened(changes=identity).rotation.signs_of(256) is None
    assert opened().rotation is None
    assert "rotation" not in opened().fields


def test_a_turned_embedding_is_the_head_only_where_the_file_says_so(opened: Any) -> None:
    separate = ROTATED | {"prism.hadamard.version": u32(1), "prism.hadamard.tied_output": None}
    head = (float_tensor("output.weight", len(g.VOCABULARY), 256),)
    assert not opened(changes=separate, extra=head).rotation.tied_output
    for changes, extra in ((separate, ()), (ROTATED, head)):
        with pytest.raises(FormatError, match="output head as well"):
            opened(changes=changes, extra=extra)


@pytest.mark.parametrize(
    ("key", "change", "kind", "reason"),
    [
        ("version", u32(1), UnsupportedModelError, "version = 1, expected 2"),
        ("version", u32(3), UnsupportedModelError, "version = 3, expected 2"),
        ("tied_output", flag(False), UnsupportedModelError, "version = 2, expected 1"),
        ("tied_output", u32(1), FormatError, "true or false"),
        ("inverse_weight_names", (g.ARRAY, array(g.STRING, [])), FormatError, "output head as well"),
        ("version", None, FormatError, "version is None"),
        ("transform", text("fourier"), UnsupportedModelError, "transform = 'fourier'"),
        ("axis", text("output"), UnsupportedModelError, "axis = 'output'"),
        ("sign_mode", text("random"), UnsupportedModelError, "sign_mode = 'random'"),
        ("sign_mode", text("identity"), FormatError, "explicit"),
        ("permutation", u32(1), UnsupportedModelError, "permutation, which this release does not know"),
        ("block_size", u32(100), FormatError, "a power of two"),
        ("block_size", u32(0), FormatError, "block_size is 0"),
        ("block_size", u32(512), FormatError, "multiples of 512"),
        ("sign_widths", (g.ARRAY, array(g.INT32, [256, 256])), FormatError, "different multiples"),
        ("sign_widths", (g.ARRAY, array(g.INT32, [256])), FormatError, "256 values of -1 and"),
        ("sign_widths", (g.ARRAY, array(g.INT32, [768])), FormatError, "does not fit its 256 inputs"),
        ("sign_widths", (g.ARRAY, array(g.INT64, [2**62, 128])), FormatError, "sign_values"),
        ("sign_widths", None, FormatError, "sign_widths is None"),
        ("sign_values", (g.ARRAY, array(g.INT32, [1, 0] * 384)), FormatError, "of -1 and"),
        ("sign_values", text("x"), FormatError, "an array of numbers"),
        ("weight_names", (g.ARRAY, array(g.STRING, [])), FormatError, "names of matrices"),
        ("weight_names", (g.ARRAY, array(g.STRING, ["blk.9.attn_q.weight"])), FormatError, "of this file"),
        (
            "weight_names",
            (g.ARRAY, array(g.STRING, ["token_embd.weight"])),
            FormatError,
            "turned back as well",
        ),
        ("weight_names", None, FormatError, "an array of strings"),
        ("gdn_v_grouped", u32(1), FormatError, "true or false"),
    ],
)
def test_a_rotation_that_is_not_understood_is_refused(
    opened: Any, key: str, change: Change, kind: type[Exception], reason: str
) -> None:
    with pytest.raises(kind, match=reason):
        opened(changes=ROTATED | {f"prism.hadamard.{key}": change})
