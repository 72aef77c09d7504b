"""A GGUF file as loading takes it: every weight with its type, granularity and a way to read it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import gguf_files as g
from gguf_files import Tensor, container, float_tensor, metadata, model_tensors, q2_0_projection
from tercet.errors import FormatError
from tercet.formats.gguf import open_gguf, stored_model
from tercet.formats.matrices import FloatMatrix
from tercet.formats.stored_model import StoredModel
from tercet.quantization.ternary_tensor import TernaryTensor


def stored(path: Path, tensors: list[Tensor], architecture: str = "bitnet") -> StoredModel:
    path.unlink(missing_ok=True)
    path.write_bytes(container(metadata(architecture), tensors))
    return stored_model(open_gguf(path))


def test_every_weight_is_described_and_read(tmp_path: Path) -> None:
    model = stored(tmp_path / "x.gguf", model_tensors(q2_0_projection))
    assert model.kind == "GGUF file of bitnet"
    assert model.model_fields["quantize_activations"] is True
    assert model.chat_template == "{{ messages[0].content }}"
    assert model.remarks == ()
    for name, weight in model.weights.items():
        found = weight.read()
        if weight.granularity is None:
            assert isinstance(found, FloatMatrix)
            assert (weight.type, found.type) == ("F32", "f32")
            assert found.data.size == np.prod(weight.shape)
        else:
            assert isinstance(found, TernaryTensor)
            assert (weight.type, weight.granularity, weight.group_size) == ("Q2_0", "tensor", weight.shape[1])
            assert found.shape == weight.shape
        assert name.startswith(("layers.0.", "embedding", "final_norm"))
    model.release()
    assert isinstance(model.weights["layers.0.ffn.up"].read(), TernaryTensor)


@pytest.mark.parametrize("kind", ["TQ2_0", "I2_S", "IQ2_BN", "F16"])
def test_granularity_is_known_before_reading(tmp_path: Path, kind: str) -> None:
    number, pack = g.TYPES[kind]

    def projection(name: str, shape: tuple[int, int]) -> Tensor:
        return Tensor(name, shape[::-1], number, pack(g.random_codes(*shape), 0.5))

    model = stored(tmp_path / "x.gguf", model_tensors(projection))
    for weight in model.weights.values():
        found = weight.read()
        if isinstance(found, TernaryTensor):
            assert (found.granularity, found.group_size) == (weight.granularity, weight.group_size)
    assert model.weights["layers.0.attention.q"].granularity == "tensor"
    assert any("canonical layout" in remark for remark in model.remarks) is (kind == "I2_S")


def test_groups_are_known_before_reading(tmp_path: Path) -> None:
    def projection(name: str, shape: tuple[int, int]) -> Tensor:
        tensor = q2_0_projection(name, shape)
        return Tensor(name, tensor.dims, 42, g.half(0.5) + tensor.data[2:])

    weight = stored(tmp_path / "x.gguf", model_tensors(projection)).weights["layers.0.attention.q"]
    found = weight.read()
    assert isinstance(found, TernaryTensor)
    assert (weight.granularity, weight.group_size) == (found.granularity, found.group_size) == ("group", 64)


def test_real_projections_come_as_floats_in_our_order(tmp_path: Path) -> None:
    tensors = model_tensors(lambda name, shape: float_tensor(name, *shape))
    plain, llama = (stored(tmp_path / f"{name}.gguf", tensors, name) for name in ("bitnet", "llama"))
    for name in ("layers.0.attention.q", "layers.0.attention.v"):
        one, other = plain.weights[name].read(), llama.weights[name].read()
        assert isinstance(one, FloatMatrix)
        assert isinstance(other, FloatMatrix)
        assert np.array_equal(one.float32(), other.float32()) is name.endswith("v")


def test_what_has_no_place_is_there_by_its_own_name(tmp_path: Path) -> None:
    bias = float_tensor("blk.0.attn_q.bias", 256)
    model = stored(tmp_path / "x.gguf", [*model_tensors(q2_0_projection), bias])
    with pytest.raises(FormatError, match=r"blk\.0\.attn_q\.bias plays no part"):
        model.weights["blk.0.attn_q.bias"].read()


def test_infinite_floats_are_refused_when_read(tmp_path: Path) -> None:
    tensors = model_tensors(q2_0_projection)
    tensors[0].data = np.full((8, 256), np.inf, "<f4").tobytes()
    model = stored(tmp_path / "x.gguf", tensors)
    with pytest.raises(FormatError, match=r"token_embd\.weight holds infinite values"):
        model.weights["embedding"].read()
