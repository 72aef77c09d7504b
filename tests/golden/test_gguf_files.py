"""GGUF files that release 0.1 wrote: later releases read them, and write the same bytes for the same model.

`every-type.gguf` holds a tensor of each type that is written, and metadata of several kinds. Whole models are
pinned by the digest of their file, in `gguf-models.json`. All values follow from formulas in this file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tercet.formats.gguf import GgufFile, write_gguf
from tercet.formats.gguf.encoding import encode_floats, encode_ternary
from tercet.formats.gguf.tensor_types import WRITABLE_FLOATS, WRITABLE_TERNARY
from tercet.formats.gguf.values import ValueType, array_of, float32, text, uint32
from tercet.formats.gguf.writer import GgufPlan, GgufTensorPlan, create_gguf
from tercet.models.config import ModelConfig
from tercet.models.loading import load_model
from tercet.models.tensor_names import is_ternary, tensor_shapes
from tercet.quantization.ternary_tensor import TernaryTensor

FOLDER = Path(__file__).parent
FILE = FOLDER / "every-type.gguf"
DIGESTS = FOLDER / "gguf-models.json"
TERNARY = (*WRITABLE_TERNARY, "I2_S")
SCALE = np.float32(0.37109375)
"""Exact in every float type."""
METADATA = {
    "general.architecture": text("llama"),
    "general.name": text("Ünïcödé"),
    "answer": uint32(42),
    "half": float32(0.5),
    "words": array_of(ValueType.STRING, ["", "a b", "é"]),
    "numbers": array_of(ValueType.INT32, [-1, 0, 2**31 - 1]),
}
CONFIG = ModelConfig(
    architecture="llama", hidden_size=256, ffn_size=256, num_layers=1, num_heads=2, num_kv_heads=1,
    head_dim=128, vocab_size=32, max_context=64, rope_theta=1e4, rms_norm_eps=1e-5, activation="silu",
    attention_sub_norm=False, ffn_sub_norm=False, tied_embeddings=False, bos_token_id=1, eos_token_ids=(2,),
)  # fmt: skip


def codes(*shape: int) -> np.ndarray:
    """-1, 0 and 1 in no order that a packing could mistake for another; the second row is zero."""
    index = np.arange(np.prod(shape), dtype=np.int64)
    made = ((index * index * 7 + index // 3) % 11 % 3 - 1).astype(np.int8).reshape(shape)
    made[1] = 0
    return made


def values(*shape: int) -> np.ndarray:
    """Real values of several sizes, exact in float32."""
    index = np.arange(np.prod(shape), dtype=np.int64)
    return ((index * 37 % 101 - 50) / np.float32(64)).astype(np.float32).reshape(shape)


def write_every_type(path: Path) -> None:
    plan = GgufPlan(
        METADATA,
        [
            *(GgufTensorPlan(f"ternary.{kind}", kind, (2, 256)) for kind in TERNARY),
            *(GgufTensorPlan(f"floats.{kind}", kind, (2, 64)) for kind in WRITABLE_FLOATS),
        ],
    )
    with create_gguf(path, plan) as writer:
        for kind in TERNARY:
            tensor = TernaryTensor(codes(2, 256), np.asarray(SCALE))
            writer.write_tensor(f"ternary.{kind}", encode_ternary(tensor, kind))
        for kind in WRITABLE_FLOATS:
            writer.write_tensor(f"floats.{kind}", encode_floats(values(2, 64), kind))


def model_tensors() -> Iterator[tuple[str, Any]]:
    for name, shape in tensor_shapes(CONFIG).items():
        if is_ternary(name):
            yield name, TernaryTensor(codes(*shape), np.asarray(SCALE))
        else:
            yield name, values(*shape)


def write_model(path: Path, ternary_type: str, embedding_type: str) -> str:
    shapes = tensor_shapes(CONFIG)
    write_gguf(path, CONFIG.to_dict(), shapes, model_tensors(), ternary_type=ternary_type,
               embedding_type=embedding_type, name="golden")  # fmt: skip
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_same_tensors_give_the_same_file(tmp_path: Path) -> None:
    write_every_type(tmp_path / "x.gguf")
    assert (tmp_path / "x.gguf").read_bytes() == FILE.read_bytes()


def test_the_file_is_read_as_ever() -> None:
    file = GgufFile(FILE)
    assert file.metadata.text("general.name") == "Ünïcödé"
    assert file.metadata.texts("words") == ("", "a b", "é")
    assert file.metadata.integers("numbers").tolist() == [-1, 0, 2**31 - 1]
    for kind in TERNARY:
        found = file.ternary(f"ternary.{kind}")
        assert file.tensor(f"ternary.{kind}").type.name == kind
        np.testing.assert_array_equal(found.codes, codes(2, 256))
        assert found.scales == SCALE
    for kind in WRITABLE_FLOATS:
        # Half a step of each type, where the largest value of a block is 0.79.
        error = {"F32": 0, "F16": 0, "BF16": 2**-9, "Q8_0": 2**-8, "Q5_0": 2**-4}.get(kind, 2**-3)
        np.testing.assert_allclose(file.float32(f"floats.{kind}"), values(2, 64), atol=error)


@pytest.mark.parametrize("ternary_type", [*TERNARY, "F16"])
@pytest.mark.parametrize("embedding_type", ["F16", "Q8_0"])
def test_the_same_model_gives_the_same_file(tmp_path: Path, ternary_type: str, embedding_type: str) -> None:
    path = tmp_path / "x.gguf"
    digest = write_model(path, ternary_type, embedding_type)
    assert digest == json.loads(DIGESTS.read_bytes())[f"{ternary_type}, {embedding_type}"]
    model = load_model(path)
    assert (model.config.num_heads, model.config.num_kv_heads, model.config.head_dim) == (2, 1, 128)
    for name, shape in tensor_shapes(CONFIG).items():
        if is_ternary(name):
            np.testing.assert_array_equal(model.reference_weights[name].codes, codes(*shape))
