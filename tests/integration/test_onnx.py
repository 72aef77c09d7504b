"""Models as ONNX graphs: onnxruntime computes with them what the reference does, alone and with a cache."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers

from random_decoders import CONFIGS, EMBEDDING, GEMMA3, GROUPED, QWEN3, ROTATED, packed_model, random_tokens
from tercet.conversion.onnx import export_onnx
from tercet.errors import FormatError, MissingExtraError, ParameterError, StorageError
from tercet.formats.matrices import FloatMatrix, PackedMatrix
from tercet.models.config import ModelConfig
from tercet.models.loading import LoadedModel, TensorInfo, load_model
from tercet.models.random_weights import RandomStyle
from tercet.models.registry import resolve
from tercet.reference import ReferenceDecoder

onnx = pytest.importorskip("onnx", reason="the package onnx is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="the package onnxruntime is not installed")

from tercet.conversion.onnx.session import OnnxDecoder  # noqa: E402  (needs onnxruntime)

MATMULS = ["two_bit", "int8"]


def loaded(config: ModelConfig, matrices: Mapping[str, PackedMatrix | FloatMatrix]) -> LoadedModel:
    """A model as `load_model` would open it."""
    infos = {}
    for name, matrix in matrices.items():
        shape = (matrix.depth,) if name.endswith("norm") else (matrix.rows, matrix.depth)
        granularity = matrix.unpack().granularity if isinstance(matrix, PackedMatrix) else None
        infos[name] = TensorInfo("two_bit" if granularity else "f32", shape, 0, granularity)
    reference = {
        name: matrix.unpack()
        if isinstance(matrix, PackedMatrix)
        else matrix.float32().reshape(infos[name].shape)
        for name, matrix in matrices.items()
    }
    return LoadedModel(Path("random"), "random", config, infos, matrices, reference)


def exported(model: LoadedModel, folder: Path, matmul: str = "two_bit") -> Path:
    export_onnx(model, folder / "model", matmul=matmul, verify=False)
    onnx.checker.check_model(folder / "model" / "model.onnx")
    return folder / "model" / "model.onnx"


def onnx_logits(path: Path, tokens: np.ndarray) -> np.ndarray:
    """A prompt, single tokens, and a chunk behind them."""
    decoder = OnnxDecoder(path, threads=2)
    parts = np.split(tokens, [9, 10, 11, 12])
    return np.concatenate([decoder.forward(part) for part in parts])


def assert_close(actual: np.ndarray, expected: np.ndarray, *, rounds: bool) -> None:
    spread = expected.std()
    if not rounds:
        assert np.abs(actual - expected).max() < 1e-3 * spread
        return
    rows = np.abs(actual - expected).max(axis=-1) / spread
    # An activation at a tie may round the other way; then the tokens behind it differ, those before do not.
    assert np.quantile(rows, 0.25) < 1e-3, rows
    assert np.sqrt(np.mean((actual - expected) ** 2)) < 0.05 * spread


@pytest.mark.parametrize("rounds", [True, False], ids=["int8 activations", "float activations"])
@pytest.mark.parametrize("matmul", MATMULS)
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_every_architecture(config: ModelConfig, matmul: str, rounds: bool, tmp_path: Path) -> None:
    config = dataclasses.replace(config, quantize_activations=rounds)
    model = loaded(config, packed_model(config))
    path, tokens = exported(model, tmp_path, matmul), random_tokens(config, 24)
    reference = ReferenceDecoder(config, model.reference_weights)
    if config.pooling is None:
        assert_close(onnx_logits(path, tokens), reference.logits(tokens), rounds=rounds)
    else:
        assert_close(OnnxDecoder(path).embed(tokens)[None], reference.embed(tokens)[None], rounds=rounds)


@pytest.mark.parametrize("rounds", [True, False], ids=["int8 activations", "float activations"])
@pytest.mark.parametrize("matmul", MATMULS)
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize(
    "style",
    [
        RandomStyle(granularity="row"),
        RandomStyle(granularity="row", ternary_embeddings=True),
        RandomStyle(granularity="tensor", ternary_embeddings=True, binary=True),
        RandomStyle(granularity="group", group_size=32, ternary_embeddings=True),
        RandomStyle(granularity="group", group_size=128, ternary_embeddings=True),
    ],
    ids=["rows", "ternary embeddings", "binary", "groups of 32", "groups of 128"],
)
def test_every_granularity(style: RandomStyle, tied: bool, matmul: str, rounds: bool, tmp_path: Path) -> None:
    config = dataclasses.replace(
        QWEN3, hidden_size=128, ffn_size=256, tied_embeddings=tied, quantize_activations=rounds, num_layers=1
    )
    model = loaded(config, packed_model(config, style=style))
    tokens = random_tokens(config, 24)
    expected = ReferenceDecoder(config, model.reference_weights).logits(tokens)
    assert_close(onnx_logits(exported(model, tmp_path, matmul), tokens), expected, rounds=rounds)


@pytest.mark.parametrize("head_type", ["f16", "bf16"])
def test_floats_stay_as_they_are_stored(head_type: str, tmp_path: Path) -> None:
    config = dataclasses.replace(GROUPED, quantize_activations=False, num_layers=1)
    matrices = packed_model(config, head_type=head_type)
    query = matrices["layers.0.attention.q"].unpack().dequantize()  # one that was never converted
    matrices["layers.0.attention.q"] = FloatMatrix("f32", *query.shape, query.reshape(-1))
    model, tokens = loaded(config, matrices), random_tokens(config, 24)
    path = exported(model, tmp_path)
    expected = ReferenceDecoder(config, model.reference_weights).logits(tokens)
    assert_close(onnx_logits(path, tokens), expected, rounds=False)
    (table,) = [
        each
        for each in onnx.load(path, load_external_data=False).graph.initializer
        if each.name == "embedding"
    ]
    assert onnx.helper.tensor_dtype_to_np_dtype(table.data_type).itemsize == 2


@pytest.mark.parametrize("config", [GROUPED, GEMMA3], ids=["bitnet", "gemma3"])
def test_batches_are_padded_in_front(config: ModelConfig, tmp_path: Path) -> None:
    config = dataclasses.replace(config, quantize_activations=False)
    path = exported(loaded(config, packed_model(config)), tmp_path)
    tokens, short = random_tokens(config, 20).astype(np.int64), 13
    batch = np.stack([tokens, np.concatenate([np.zeros(20 - short, np.int64), tokens[:short]])])
    mask = np.ones_like(batch)
    mask[1, : 20 - short] = 0
    session = onnxruntime.InferenceSession(path)
    inputs = {
        "input_ids": batch,
        "attention_mask": mask,
        "position_ids": np.maximum(mask.cumsum(axis=1) - 1, 0),
    }
    for each in session.get_inputs()[3:]:
        inputs[each.name] = np.zeros((2, each.shape[1], 0, each.shape[3]), np.float32)
    logits = session.run(["logits"], inputs)[0]
    alone = OnnxDecoder(path).forward(tokens)
    np.testing.assert_allclose(logits[0], alone, atol=1e-3 * alone.std())
    np.testing.assert_allclose(logits[1, 20 - short :], alone[:short], atol=1e-3 * alone.std())


@pytest.mark.parametrize("side", ["front", "end"])
def test_embeddings_of_padded_texts(side: str, tmp_path: Path) -> None:
    config = dataclasses.replace(EMBEDDING, quantize_activations=False, normalize_embeddings=True)
    model = loaded(config, packed_model(config))
    session = onnxruntime.InferenceSession(exported(model, tmp_path))
    tokens = random_tokens(config, 20).astype(np.int64)
    ids, mask = np.zeros((2, 20), np.int64), np.ones((2, 20), np.int64)
    place = slice(7, None) if side == "front" else slice(0, 13)
    ids[0], ids[1, place], mask[1] = tokens, tokens[:13], 0
    mask[1, place] = 1
    vectors = session.run(["sentence_embedding"], {"input_ids": ids, "attention_mask": mask})[0]
    reference = ReferenceDecoder(config, model.reference_weights)
    for vector, text in zip(vectors, (tokens, tokens[:13]), strict=True):
        np.testing.assert_allclose(vector, reference.embed(text), atol=1e-4)


def greedy(path: Path, prompt: list[int], count: int) -> list[int]:
    """What a program without Tercet does."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    caches = [each for each in session.get_inputs() if each.name.startswith("past_key_values")]
    names = [each.name.replace("past_key_values", "present") for each in caches]
    past: dict[str, Any] = {
        each.name: np.zeros((1, each.shape[1], 0, each.shape[3]), np.float32) for each in caches
    }
    tokens, fresh = list(prompt), list(prompt)
    for _ in range(count):
        inputs = {
            "input_ids": np.array([fresh]),
            "attention_mask": np.ones((1, len(tokens)), np.int64),
            "position_ids": np.arange(len(tokens) - len(fresh), len(tokens))[None],
        }
        logits, *presents = session.run(["logits", *names], inputs | past)
        past = dict(zip(past, presents, strict=True))
        fresh = [int(logits[0, -1].argmax())]
        tokens += fresh
    return tokens


@pytest.mark.parametrize("matmul", MATMULS)
def test_onnxruntime_alone_continues_a_story(matmul: str, tmp_path: Path) -> None:
    model = load_model(resolve(None))
    done = export_onnx(model, tmp_path / "story", matmul=matmul)
    assert done.relative_rms_error is not None
    assert done.relative_rms_error < 0.05
    assert done.file_bytes == sum(
        (done.path / name).stat().st_size for name in ("model.onnx", "model.onnx.data")
    )
    prompt = model.tokenizer().encode("Once upon a time")
    tokens = greedy(done.path / "model.onnx", prompt, 16)
    reference = ReferenceDecoder(model.config, model.reference_weights).logits(tokens[:-1])
    assert reference[len(prompt) - 1 :].argmax(axis=-1).tolist() == tokens[len(prompt) :]
    alone = tokenizers.Tokenizer.from_file(str(done.path / "tokenizer.json"))
    assert alone.encode("Once upon a time").ids == [model.config.bos_token_id, *prompt]
    config = json.loads((done.path / "config.json").read_text())
    assert config["num_hidden_layers"] == model.config.num_layers


def test_two_bit_files_are_small_and_products_exact(tmp_path: Path) -> None:
    config = dataclasses.replace(
        GROUPED, hidden_size=1024, ffn_size=2048, head_dim=128, num_heads=8, num_layers=1
    )
    model = loaded(config, packed_model(config))
    ternary = sum(each.rows * each.depth for each in model.weights.values() if isinstance(each, PackedMatrix))
    floats = sum(
        4 * each.rows * each.depth for each in model.weights.values() if isinstance(each, FloatMatrix)
    )
    done = export_onnx(model, tmp_path / "small")
    assert (
        8 * (done.file_bytes - floats) / ternary < 2.5
    )  # and some, for scales that are all one and the graph
    assert done.relative_rms_error is not None
    assert done.relative_rms_error < 0.01


def test_what_cannot_be_done_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = loaded(ROTATED, packed_model(ROTATED))
    with pytest.raises(ParameterError, match="there is no matmul 'int4'"):
        export_onnx(model, tmp_path / "model", matmul="int4")
    wrong = dict(model.reference_weights)
    wrong["final_norm"] = wrong["final_norm"] * np.linspace(0, 2, wrong["final_norm"].size, dtype=np.float32)
    with pytest.raises(FormatError, match="computes something else"):
        export_onnx(dataclasses.replace(model, reference_weights=wrong), tmp_path / "model")
    missing = {name: each for name, each in model.weights.items() if name != "layers.1.ffn.down"}
    with pytest.raises(KeyError):
        export_onnx(dataclasses.replace(model, weights=missing), tmp_path / "model")
    assert list(tmp_path.iterdir()) == []
    export_onnx(model, tmp_path / "model", verify=False)
    with pytest.raises(StorageError, match="exists already"):
        export_onnx(model, tmp_path / "model")
    export_onnx(model, tmp_path / "model", overwrite=True, matmul="int8", verify=False)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(MissingExtraError, match=r"tercet\[onnx\]"):
        export_onnx(model, tmp_path / "other")
