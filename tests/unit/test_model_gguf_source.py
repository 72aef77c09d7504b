"""GGUF files through the door that all models come in by."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gguf_files as g
from gguf_files import Tensor, container, metadata, model_tensors, q2_0_projection
from tercet.errors import FormatError, ParameterError, UnsupportedModelError
from tercet.formats.gguf import open_gguf
from tercet.formats.matrices import FloatMatrix, PackedMatrix
from tercet.models.gguf_source import read_gguf_model
from tercet.models.loading import load_model
from tercet.models.registry import resolve
from tercet.quantization.ternary_tensor import TernaryTensor


def write(path: Path, tensors: list[Tensor] | None = None, **changes: tuple[int, bytes] | None) -> Path:
    """The small model; a key's dots are written as two underscores."""
    keys = {key.replace("__", "."): change for key, change in changes.items()}
    path.write_bytes(container(metadata("bitnet", keys), tensors or model_tensors(q2_0_projection)))
    return path


def floats(key: str, value: float) -> dict[str, Any]:
    return {key: (g.FLOAT32, g.scalar(g.FLOAT32, value))}


def test_a_model_with_its_tokenizer(tmp_path: Path) -> None:
    path = write(tmp_path / "small.gguf")
    model = load_model(resolve(str(path)))
    assert model.kind == "GGUF file of bitnet"
    assert model.config.architecture == "bitnet"
    assert model.config.quantize_activations
    assert (model.config.bos_token_id, model.config.eos_token_ids) == (1, (2,))
    assert model.chat_template == "{{ messages[0].content }}"
    assert model.tokenizer().vocab_size == model.config.vocab_size == len(g.VOCABULARY)
    original = open_gguf(path)
    for name, info in model.tensors.items():
        matrix, reference = model.weights[name], model.reference_weights[name]
        assert info.stored_name == original.stored(name).name
        if info.granularity is None:
            assert isinstance(matrix, FloatMatrix)
            assert np.array_equal(matrix.float32().reshape(info.shape), original.float32(name))
        else:
            assert isinstance(matrix, PackedMatrix)
            assert isinstance(reference, TernaryTensor)
            codes = original.ternary(name).codes
            assert np.array_equal(matrix.unpack().codes, codes)
            assert np.array_equal(reference.codes, codes)


def test_a_text_begins_with_bos_only_where_the_file_says_so(tmp_path: Path) -> None:
    add_bos = (g.BOOL, g.scalar(g.BOOL, False))
    config = load_model(write(tmp_path / "x.gguf", tokenizer__ggml__add_bos_token=add_bos)).config
    assert (config.bos_token_id, config.add_bos) == (1, False)


def test_without_a_vocabulary_there_is_a_remark(tmp_path: Path) -> None:
    unknown = load_model(write(tmp_path / "a.gguf", tokenizer__ggml__model=(g.STRING, g.string("t5"))))
    assert unknown.tokenizer_json is None
    assert any(remark.startswith("no tokenizer: ") and "t5" in remark for remark in unknown.remarks)
    none = load_model(write(tmp_path / "b.gguf", tokenizer__ggml__tokens=None))
    assert any("takes token ids, but no text" in remark for remark in none.remarks)


def test_the_layout_can_be_given(tmp_path: Path) -> None:
    codes = {name: g.random_codes(*shape) for name, shape in g.SHAPES.items()}

    def projection(name: str, shape: tuple[int, int]) -> Tensor:
        return Tensor(name, shape[::-1], 36, g.i2_s(g.random_codes(*shape), 0.5, "arm"))

    path = write(tmp_path / "arm.gguf", model_tensors(projection))
    assert any("canonical layout" in remark for remark in load_model(path).remarks)
    found = load_model(path, layout="arm").reference_weights["layers.0.ffn.up"]
    assert isinstance(found, TernaryTensor)
    assert np.array_equal(found.codes, codes["ffn_up"])
    with pytest.raises(ParameterError, match="no layout 'x86'; I2_S has canonical"):
        load_model(path, layout="x86")


def test_factors_of_rope(tmp_path: Path) -> None:
    factors = np.linspace(1, 8, 32, dtype=np.float32)
    tensor = Tensor("rope_freqs.weight", (32,), 0, factors.tobytes())
    path = write(tmp_path / "x.gguf", [*model_tensors(q2_0_projection), tensor])
    stored = read_gguf_model(path)
    assert stored.model_fields["rope_scaling"] == {"kind": "factors", "factors": factors.tolist()}
    assert "rope_factors" not in stored.weights
    assert load_model(path).config.rope_scaling is not None
    for bad in (np.ones(31, np.float32), np.zeros(32, np.float32)):
        damaged = Tensor("rope_freqs.weight", bad.shape, 0, bad.tobytes())
        with pytest.raises(FormatError, match="rope_freqs"):
            read_gguf_model(write(tmp_path / "y.gguf", [*model_tensors(q2_0_projection), damaged]))
    kind = {"bitnet.rope.scaling.type": (g.STRING, g.string("linear"))} | floats(
        "bitnet.rope.scaling.factor", 4
    )
    with pytest.raises(UnsupportedModelError, match="scales RoPE twice"):
        read_gguf_model(write(tmp_path / "z.gguf", [*model_tensors(q2_0_projection), tensor], **kind))


def test_yarn_is_taken_with_the_numbers_that_everybody_has(tmp_path: Path) -> None:
    changes = {"bitnet.rope.scaling.type": (g.STRING, g.string("yarn"))}
    changes |= floats("bitnet.rope.scaling.factor", 4) | floats("bitnet.rope.scaling.yarn_ext_factor", 1)
    scaling = load_model(write(tmp_path / "x.gguf", **changes)).config.rope_scaling
    assert scaling is not None
    assert (scaling.kind, scaling.factor, scaling.original_max_context) == ("yarn", 4.0, 64)
    assert (scaling.beta_fast, scaling.beta_slow) == (32.0, 1.0)
    assert scaling.attention_factor == pytest.approx(0.1 * np.log(4) + 1)
    with pytest.raises(UnsupportedModelError, match=r"extrapolation_factor 1\.0, not 0\.5"):
        read_gguf_model(
            write(tmp_path / "y.gguf", **changes | floats("bitnet.rope.scaling.yarn_ext_factor", 0.5))
        )


@pytest.mark.parametrize(("number", "pooling"), [(0, None), (3, "last")])
def test_pooling(tmp_path: Path, number: int, pooling: str | None) -> None:
    fields = read_gguf_model(
        write(tmp_path / "x.gguf", bitnet__pooling_type=(g.UINT32, struct.pack("<I", number)))
    ).model_fields
    assert fields.get("pooling") == pooling
    assert fields.get("normalize_embeddings", False) is (pooling is not None)
    with pytest.raises(UnsupportedModelError, match="pools 'mean'"):
        read_gguf_model(write(tmp_path / "y.gguf", bitnet__pooling_type=(g.UINT32, struct.pack("<I", 1))))


def test_a_rotation_goes_by_our_names(tmp_path: Path) -> None:
    signs = np.where(np.arange(g.HIDDEN) % 3, 1, -1)
    keys: dict[str, tuple[int, bytes]] = {
        "version": (g.UINT32, g.scalar(g.UINT32, 2)),
        "tied_output": (g.BOOL, g.scalar(g.BOOL, True)),
        "block_size": (g.UINT32, g.scalar(g.UINT32, 64)),
        "transform": (g.STRING, g.string("normalized-sylvester-walsh-hadamard")),
        "axis": (g.STRING, g.string("input-last-dimension")),
        "sign_mode": (g.STRING, g.string("explicit")),
        "sign_widths": (g.ARRAY, g.array(g.INT32, [g.HIDDEN])),
        "sign_values": (g.ARRAY, g.array(g.INT32, signs.tolist())),
        "weight_names": (g.ARRAY, g.array(g.STRING, ["blk.0.attn_q.weight", "blk.0.attn_k.weight"])),
        "inverse_weight_names": (g.ARRAY, g.array(g.STRING, ["token_embd.weight"])),
    }
    path = write(tmp_path / "x.gguf", **{f"prism.hadamard.{key}": value for key, value in keys.items()})
    found = read_gguf_model(path).model_fields["rotation"]
    assert found.block_size == 64
    # A turned embedding that is the head, too, has its input turned as a head.
    assert set(found.inputs) == {"layers.0.attention.q", "layers.0.attention.k", "embedding"}
    assert tuple(found.outputs) == ("embedding",)
    assert np.array_equal(found.signs_of(g.HIDDEN), signs)
    assert load_model(path).config.rotation == found
