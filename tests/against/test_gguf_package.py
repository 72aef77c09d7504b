"""The Python package gguf reads what we write, writes what we read, and rounds as we do, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter, quants

from gguf_files import random_codes
from tercet.formats.gguf import GgufFile, open_gguf, write_gguf
from tercet.formats.gguf.encoding import encode_floats, encode_ternary
from tercet.formats.gguf.tensor_types import CANDIDATES, WRITABLE_FLOATS, BlockFloats, BlockTernary
from tercet.formats.gguf.values import ValueType
from tercet.models.config import ModelConfig
from tercet.models.random_weights import random_weights
from tercet.models.tensor_names import tensor_shapes
from tercet.quantization.ternary_tensor import TernaryTensor

KNOWN = [
    kind
    for candidates in CANDIDATES.values()
    for kind in candidates[:1]
    if isinstance(kind, (BlockFloats, BlockTernary))
    and kind.id in {int(number) for number in GGMLQuantizationType}
    and kind.name not in ("Q1_0",)  # the package knows its size alone
]
CONFIG = ModelConfig(
    hidden_size=256, ffn_size=512, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=64, vocab_size=48,
    max_context=64, rope_theta=1e4, rms_norm_eps=1e-5, activation="silu", attention_sub_norm=True,
    ffn_sub_norm=True, tied_embeddings=True, bos_token_id=1, eos_token_ids=(2,), pad_token_id=None,
)  # fmt: skip


def awkward(shape: tuple[int, int]) -> np.ndarray:
    """Values of all sizes, zeros, ties, and rows of one sign."""
    random = np.random.default_rng(11)
    values = random.standard_normal(shape, np.float32) * np.exp2(
        random.integers(-8, 8, (shape[0], 1))
    ).astype("f4")
    values[1] = 0
    values[2] = np.abs(values[2])
    values[3] = np.round(values[3])
    values[4, ::3] = 0
    values[5] = np.tile(np.linspace(-127, 127, 128, dtype=np.float32) / 2, shape[1] // 128)
    return values


def test_there_are_types_to_compare() -> None:
    names = {kind.name for kind in KNOWN}
    assert {"F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K"} < names
    assert {"TQ1_0", "TQ2_0"} < names


@pytest.mark.parametrize("kind", KNOWN, ids=str)
def test_sizes_are_the_same(kind: BlockFloats | BlockTernary) -> None:
    assert gguf.GGML_QUANT_SIZES[GGMLQuantizationType(kind.id)] == (kind.block_weights, kind.block_bytes)


def test_every_number_of_the_package_is_known() -> None:
    for number in set(GGMLQuantizationType) - {GGMLQuantizationType.Q8_1, GGMLQuantizationType.Q8_K}:
        # (Those two are how activations are rounded; no file has them.)
        sizes = {(kind.block_weights, kind.block_bytes) for kind in CANDIDATES[int(number)]}
        assert gguf.GGML_QUANT_SIZES[number] in sizes, number.name


@pytest.mark.parametrize("kind", KNOWN, ids=str)
def test_any_bytes_decode_to_the_same_values(kind: BlockFloats | BlockTernary) -> None:
    rows, blocks = 64, 4
    data = np.random.default_rng(kind.id).integers(0, 256, (rows, blocks * kind.block_bytes)).astype(np.uint8)
    with np.errstate(all="ignore"):
        ours = kind.float32(data.reshape(-1), rows, blocks * kind.block_weights)
        theirs = quants.dequantize(data, GGMLQuantizationType(kind.id))
    assert np.array_equal(np.isnan(ours), np.isnan(theirs))
    finite = ~np.isnan(ours)
    # -0 and 0 are told apart by their bits.
    assert np.array_equal(ours[finite].view(np.uint32), theirs.astype(np.float32)[finite].view(np.uint32))


@pytest.mark.parametrize("name", WRITABLE_FLOATS)
def test_values_round_to_the_same_bytes(name: str) -> None:
    values = awkward((16, 256))
    ours = np.concatenate([piece.reshape(-1) for piece in encode_floats(values, name)])
    theirs = quants.quantize(values, GGMLQuantizationType[name])
    assert np.array_equal(ours, np.ascontiguousarray(theirs).view(np.uint8).reshape(-1))


@pytest.mark.parametrize("name", ["TQ1_0", "TQ2_0"])
@pytest.mark.parametrize("granularity", ["tensor", "row", "group"])
def test_ternary_weights_pack_to_the_same_bytes(name: str, granularity: str) -> None:
    codes = random_codes(32, 1024)
    codes[3] = 0
    codes[4, 256:512] = 0
    shape = {"tensor": (), "row": (32,), "group": (32, 4)}[granularity]
    scales = np.random.default_rng(1).random(shape).astype(np.float32) + np.float32(0.01)
    tensor = TernaryTensor(codes, np.asarray(scales, np.float32))
    ours = np.concatenate([piece.reshape(-1) for piece in encode_ternary(tensor, name)])
    theirs = quants.quantize(tensor.dequantize(), GGMLQuantizationType[name])
    assert np.array_equal(ours, theirs.reshape(-1))


@pytest.mark.parametrize("ternary_type", ["TQ1_0", "TQ2_0", "F16"])
@pytest.mark.parametrize("embedding_type", ["F16", "Q8_0"])
def test_the_package_opens_what_we_write(
    tmp_path: Path, ternary_type: str, embedding_type: str, verified: Callable[[str, str, str, str], None]
) -> None:
    path = tmp_path / "x.gguf"
    weights = random_weights(CONFIG)
    write_gguf(path, CONFIG.to_dict(), tensor_shapes(CONFIG), weights.items(), ternary_type=ternary_type,
               embedding_type=embedding_type)  # fmt: skip
    reader = GGUFReader(path)
    ours = GgufFile(path)
    assert reader.fields["general.architecture"].contents() == "bitnet"
    assert reader.fields["bitnet.attention.head_count_kv"].contents() == 2
    assert reader.fields["bitnet.rope.freq_base"].contents() == 10_000.0
    assert [tensor.name for tensor in reader.tensors] == list(ours.tensors)
    for tensor in reader.tensors:
        found = ours.tensor(tensor.name)
        assert tuple(tensor.shape.tolist()[::-1]) == found.shape
        assert tensor.tensor_type.name == found.type.name
        assert np.array_equal(tensor.data.reshape(-1).view(np.uint8), found.data)
        values = quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        assert np.array_equal(values.reshape(found.shape), ours.float32(tensor.name))
    verified("bitnet", f"gguf {ternary_type}", "write", "values of the package gguf")
    query = weights["layers.0.attention.q"]
    assert isinstance(query, TernaryTensor)
    assert np.array_equal(np.sign(ours.float32("blk.0.attn_q.weight")), query.codes)


def test_every_metadata_type_of_the_package_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    writer = GGUFWriter(path, "bitnet")
    writer.add_uint8("u8", 200)
    writer.add_int8("i8", -5)
    writer.add_uint16("u16", 60000)
    writer.add_int16("i16", -5)
    writer.add_uint32("u32", 2**32 - 1)
    writer.add_int32("i32", -5)
    writer.add_uint64("u64", 2**63)
    writer.add_int64("i64", -5)
    writer.add_float32("f32", 0.5)
    writer.add_float64("f64", 0.1)
    writer.add_bool("bool", True)
    writer.add_string("str", "é")
    writer.add_array("ints", [1, -2])
    writer.add_array("floats", [0.5, 1.5])
    writer.add_array("strings", ["a", "é"])
    writer.add_array("bools", [True, False])
    writer.add_custom_alignment(64)
    writer.add_tensor("t", np.arange(6, dtype=np.float32).reshape(2, 3))
    writer.add_tensor("u", quants.quantize(awkward((8, 256)), GGMLQuantizationType.TQ2_0),
                      raw_dtype=GGMLQuantizationType.TQ2_0)  # fmt: skip
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    file, reader = GgufFile(path), GGUFReader(path)
    for key, value in file.metadata.items():
        found = value.value.tolist() if isinstance(value.value, np.ndarray) else value.value
        theirs = reader.fields[key].contents()
        assert (list(found) if isinstance(found, tuple) else found) == theirs
        assert int(reader.fields[key].types[0]) == value.type
    assert file.metadata["ints"].type is ValueType.ARRAY
    assert np.array_equal(file.float32("t"), np.arange(6, dtype=np.float32).reshape(2, 3))
    assert file.tensor("u").type.name == "TQ2_0"
    assert file.tensor("u").shape == (8, 256)


def test_a_model_of_the_package_is_understood(tmp_path: Path) -> None:
    """Written by llama.cpp's own writer, with its own helpers for names and keys."""
    path = tmp_path / "x.gguf"
    writer = GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_context_length(64)
    writer.add_embedding_length(256)
    writer.add_feed_forward_length(256)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(5e5)
    writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    writer.add_rope_scaling_factor(4.0)
    writer.add_rope_scaling_orig_ctx_len(16)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("llama-bpe")
    writer.add_token_list(["a", "b", "ab", "<|eot_id|>"])
    writer.add_token_types([gguf.TokenType.NORMAL] * 3 + [gguf.TokenType.CONTROL])
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(0)
    writer.add_chat_template([{"name": "default", "template": "d"}, {"name": "rag", "template": "r"}])
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 1)
    shapes = {"self_attn.q_proj": (256, 256), "self_attn.k_proj": (128, 256), "self_attn.v_proj": (128, 256)}
    shapes |= {"self_attn.o_proj": (256, 256), "mlp.gate_proj": (256, 256), "mlp.up_proj": (256, 256)}
    shapes |= {"mlp.down_proj": (256, 256)}
    layer = {f"model.layers.0.{name}.weight": shape for name, shape in shapes.items()}
    norms = {
        f"model.layers.0.{name}.weight": (256,) for name in ("input_layernorm", "post_attention_layernorm")
    }
    others = {"model.embed_tokens.weight": (4, 256), "model.norm.weight": (256,), "lm_head.weight": (4, 256)}
    for name, shape in {**others, **norms, **layer}.items():
        values = random_codes(*shape).astype(np.float32) if name in layer else np.ones(shape, np.float32)
        theirs = names.get_name(name, try_suffixes=(".weight",))
        packed = quants.quantize(values, GGMLQuantizationType.TQ1_0) if name in layer else values
        writer.add_tensor(theirs, packed, raw_dtype=GGMLQuantizationType.TQ1_0 if name in layer else None)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    model = open_gguf(path)
    assert model.unknown_tensors == ()
    assert len(model.names) == len({**others, **norms, **layer})
    assert model.fields["rope_scaling"] == {"kind": "yarn", "factor": 4.0, "original_max_context": 16}
    assert model.fields["eos_token_ids"] == (3,)
    assert model.vocabulary is not None
    assert model.vocabulary.chat_templates == {"default": "d", "rag": "r"}
    assert model.vocabulary.merges == ("a b",)
    assert model.ternary("layers.0.ffn.up").granularity == "tensor"
