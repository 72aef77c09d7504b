"""Opening models: the parts fit together, or the misfit is named."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tercet.errors import FormatError, TercetError, UnsupportedFormatError
from tercet.formats.matrices import FloatMatrix, PackedMatrix
from tercet.formats.tercet import FilePlan, TensorPlan, create_file
from tercet.models.config import ModelConfig
from tercet.models.loading import load_model
from tercet.models.saving import save_huggingface_folder
from tercet.models.tensor_names import is_ternary, tensor_shapes
from tercet.quantization.ternary_tensor import TernaryTensor
from tercet.quantization.weights import absmean_ternary
from tiny_models import CHAT_TEMPLATE, GENERATION, TINY_CONFIG, random_masters, tiny_tokenizer_json

MASTERS = dict(random_masters(TINY_CONFIG))


@pytest.mark.parametrize("kind", ["tiny_model_folder", "tiny_model_file"])
def test_a_model_is_opened_whatever_it_is_stored_as(kind: str, request: pytest.FixtureRequest) -> None:
    path = request.getfixturevalue(kind)
    model = load_model(path)
    assert model.path == path
    assert model.config == TINY_CONFIG
    assert json.loads(model.tokenizer_json or b"") == json.loads(tiny_tokenizer_json(begins=True))
    assert model.chat_template == CHAT_TEMPLATE
    assert model.generation_config == GENERATION
    assert model.tokenizer().vocab_size == TINY_CONFIG.vocab_size
    shapes = tensor_shapes(TINY_CONFIG)
    assert list(model.weights) == list(model.reference_weights) == list(model.tensors) == list(shapes)
    assert len(model.weights) == len(shapes)
    for name, shape in shapes.items():
        info, matrix, reference = model.tensors[name], model.weights[name], model.reference_weights[name]
        assert info.shape == shape
        assert (matrix.rows, matrix.depth) == (shape if len(shape) == 2 else (1, *shape))
        assert matrix.data.ndim == 1
        if is_ternary(name):
            expected = absmean_ternary(MASTERS[name])
            assert isinstance(reference, TernaryTensor)
            assert np.array_equal(reference.codes, expected.codes)
            assert reference.scales == expected.scales
            assert isinstance(matrix, PackedMatrix)
            assert matrix.packing == "two_bit"
            assert np.array_equal(matrix.unpack().codes, expected.codes)
            assert matrix.scales.shape == (1,)
            assert info.granularity == "tensor"
            assert info.is_master == (kind == "tiny_model_folder")
        else:
            assert isinstance(matrix, FloatMatrix)
            assert isinstance(reference, np.ndarray)
            assert reference.shape == shape
            assert np.array_equal(matrix.float32().reshape(shape), reference)
            np.testing.assert_allclose(reference, MASTERS[name], rtol=1e-3)
            assert len(shape) == 2 or matrix.type == "f32"
            assert info.granularity is None
    with pytest.raises(KeyError):
        model.weights["nothing"]


def test_full_precision_folders_stay_full_precision(tmp_path: Path) -> None:
    config = dataclasses.replace(TINY_CONFIG, quantize_activations=False)
    save_huggingface_folder(tmp_path / "twin", config, iter(MASTERS.items()), float_type="bf16")
    model = load_model(tmp_path / "twin")
    assert model.config == config
    matrix = model.weights["layers.0.ffn.up"]
    assert isinstance(matrix, FloatMatrix)
    assert matrix.type == "bf16"
    np.testing.assert_allclose(matrix.float32(), MASTERS["layers.0.ffn.up"], rtol=1e-2)
    assert model.tokenizer_json is None
    with pytest.raises(FormatError, match="holds no tokenizer"):
        model.tokenizer()


def test_masters_can_be_packed_otherwise(tiny_model_folder: Path) -> None:
    matrix = load_model(tiny_model_folder, packing="five_per_byte").weights["layers.1.attention.k"]
    assert isinstance(matrix, PackedMatrix)
    assert matrix.packing == "five_per_byte"
    assert np.array_equal(matrix.unpack().codes, absmean_ternary(MASTERS["layers.1.attention.k"]).codes)


def native(path: Path, plans: Mapping[str, TensorPlan], **changes: Any) -> Path:
    """A native file whose tensors are all ones or zeros."""
    config = TINY_CONFIG.to_dict() | changes.pop("config", {})
    with create_file(path, FilePlan(config, list(plans.values()), **changes)) as writer:
        for plan in plans.values():
            scales = np.ones(plan.num_scales, np.float32) if plan.granularity else None
            writer.write_tensor(plan.name, [np.zeros(plan.data_bytes, np.uint8)], scales)
    return path


def plans(config: ModelConfig = TINY_CONFIG) -> dict[str, TensorPlan]:
    made = {}
    for name, shape in tensor_shapes(config).items():
        rows, depth = shape if len(shape) == 2 else (1, shape[0])
        if is_ternary(name):
            made[name] = TensorPlan(name, "five_per_byte", rows, depth, "row")
        else:
            made[name] = TensorPlan(name, "f32" if len(shape) == 1 else "bf16", rows, depth)
    return made


def test_rows_and_floats_in_a_native_file(tmp_path: Path) -> None:
    made = plans() | {"layers.0.ffn.up": TensorPlan("layers.0.ffn.up", "f16", 50, 36)}
    model = load_model(native(tmp_path / "model.tercet", made))
    info = model.tensors["layers.0.ffn.down"]
    assert (info.type, info.granularity, info.num_bytes) == ("five_per_byte", "row", 640 + 4 * 36)
    assert isinstance(model.weights["layers.0.ffn.up"], FloatMatrix)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda p: p.pop("final_norm"), "lacks tensors: final_norm"),
        (lambda p: p.update(x=TensorPlan("x", "f32", 1, 1)), "holds unknown tensors: x"),
        (
            lambda p: p.update(output_head=TensorPlan("output_head", "f16", 500, 36)),
            "unknown tensors: output_head",
        ),
        (
            lambda p: p.update(final_norm=TensorPlan("final_norm", "f32", 36, 1)),
            r"\[36, 1\], expected \[1, 36\]",
        ),
        (
            lambda p: p.update(final_norm=TensorPlan("final_norm", "f16", 1, 36)),
            "stored as f16, expected f32",
        ),
        (lambda p: p.update(embedding=TensorPlan("embedding", "f16", 499, 36)), r"\[499, 36\]"),
    ],
)
def test_tensors_must_be_those_of_the_config(
    tmp_path: Path, change: Callable[[dict[str, TensorPlan]], Any], reason: str
) -> None:
    made = plans()
    change(made)
    with pytest.raises(FormatError, match=reason):
        load_model(native(tmp_path / "model.tercet", made))


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"num_layers": 10**9}, "num_layers"),
        ({"num_layers": 1}, "unknown tensors: layers.1"),
        ({"hidden_size": -1}, "hidden_size"),
        ({"speed": "fast"}, "unknown keys: speed"),
        ({"architecture": "transformer"}, "architecture"),
        ({"vocab_size": "500"}, "vocab_size"),
        ({"eos_token_ids": [500]}, "eos_token_ids"),
        ({"eos_token_ids": 1}, "eos_token_ids"),
        ({"rms_norm_eps": 0}, "rms_norm_eps"),
    ],
)
def test_a_native_file_with_a_strange_config(tmp_path: Path, config: dict[str, Any], reason: str) -> None:
    with pytest.raises(FormatError, match=reason) as caught:
        load_model(native(tmp_path / "model.tercet", plans(), config=config))
    assert str(tmp_path) in str(caught.value)


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    small = dataclasses.replace(TINY_CONFIG, vocab_size=400)
    path = native(
        tmp_path / "m.tercet",
        plans(small),
        config=small.to_dict(),
        blobs={"tokenizer.json": tiny_tokenizer_json()},
    )
    with pytest.raises(FormatError, match="500 tokens, expected at most the 400"):
        load_model(path).tokenizer()


def folder(tmp_path: Path, masters: Mapping[str, np.ndarray], **config: Any) -> Path:
    save_huggingface_folder(tmp_path / "hf", TINY_CONFIG, iter(masters.items()))
    file = tmp_path / "hf" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_bytes()) | config))
    return tmp_path / "hf"


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"num_hidden_layers": 3}, "lacks tensors: layers.2.attention_norm, .* and 8 more"),
        ({"num_hidden_layers": 1}, "holds unknown tensors: model.layers.1"),
        ({"tie_word_embeddings": False}, "lacks tensors: output_head"),
        ({"vocab_size": 501}, r"model.embed_tokens.weight has the shape \[500, 36\], expected \[501, 36\]"),
        ({"num_key_value_heads": 4}, "num_kv_heads"),
    ],
)
def test_a_folder_whose_parts_disagree(tmp_path: Path, config: dict[str, Any], reason: str) -> None:
    with pytest.raises(FormatError, match=reason):
        load_model(folder(tmp_path, MASTERS, **config))


@pytest.mark.parametrize("name", ["embedding", "final_norm", "layers.0.ffn.gate"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_no_numbers(tmp_path: Path, name: str, value: float) -> None:
    damaged = MASTERS[name].copy()
    damaged.flat[-1] = value
    model = load_model(folder(tmp_path, MASTERS | {name: damaged}))
    with pytest.raises(FormatError, match=r"model\.safetensors: tensor .*weight"):
        model.weights[name]
    with pytest.raises(FormatError, match=r"model\.safetensors: tensor .*weight"):
        model.reference_weights[name]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"tjgg\x03\0\0\0", "older than GGUF"),
        (b"PK\x03\x04 and so on", "zip archive .*pickles run code"),
        (b"\x80\x04\x95", "pickle"),
        (b"\x40\0\0\0\0\0\0\0{}", "single safetensors file"),
        (b"hello", "begins with b'hello'"),
        (b"", "empty"),
        (b"TERCET\n", "begins with"),
    ],
)
def test_files_of_other_kinds_are_told_apart(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=reason) as caught:
        load_model(path)
    assert isinstance(caught.value, UnsupportedFormatError) == bool(content)
    assert str(path) in str(caught.value)


def test_what_is_not_there(tmp_path: Path) -> None:
    for path in (tmp_path / "absent", tmp_path / "absent" / "deeper", tmp_path):
        with pytest.raises(TercetError, match=str(path)):
            load_model(path)


def test_a_safetensors_file_stands_for_its_folder(tiny_model_folder: Path, tmp_path: Path) -> None:
    model = load_model(tiny_model_folder / "model.safetensors")
    assert model.path == tiny_model_folder
    assert model.config == TINY_CONFIG
    other = folder(tmp_path, MASTERS) / "adapter.safetensors"
    other.write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    with pytest.raises(UnsupportedFormatError, match=r"not among the weights .* model\.safetensors"):
        load_model(other)
