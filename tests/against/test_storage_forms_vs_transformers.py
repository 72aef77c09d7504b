"""Every form in which the weights of a folder are stored, against transformers on the same folder.

The architectures themselves are compared in test_architectures_vs_transformers.py.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tercet.errors import FormatError, UnsupportedModelError
from tercet.models.loading import load_model

torch = pytest.importorskip("torch", reason="the package torch is not installed")
transformers = pytest.importorskip("transformers", reason="the package transformers is not installed")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # torch.compile, a decorator in there, imports what torch has deprecated
    from safetensors.torch import load_file, save_file

    from agreement import TOKENS, Ours, assert_rounded_agreement, assert_unrounded_agreement
    from foreign_folders import Original
    from foreign_logits import Loaded, eager

FAMILIES: dict[str, dict[str, Any]] = {
    "bitnet": {"tie_word_embeddings": True},
    "llama": {},
    "qwen3": {"head_dim": 24},
    "gemma3": {"num_hidden_layers": 2, "head_dim": 24, "sliding_window": 8,
               "layer_types": ["sliding_attention", "full_attention"]},
}  # fmt: skip
FORMATS = {
    "online": "huggingface masters",
    "packed": "huggingface packed, multiplied",
    "divided": "huggingface packed, divided",
    "codes": "huggingface packed, multiplied",
    "binary": "huggingface packed, multiplied",
}
Verified = Callable[[str, str, str, str], None]


@pytest.fixture(scope="module", autouse=True)
def _eager() -> Iterator[None]:
    with eager():
        yield


@pytest.mark.parametrize("form", ["packed", "divided", "codes", "binary"])
@pytest.mark.parametrize("family", FAMILIES)
def test_stored_codes(
    tmp_path: Path, family: str, form: str, monkeypatch: pytest.MonkeyPatch, verified: Verified
) -> None:
    folder = Original.random(family, **FAMILIES[family]).save(tmp_path / "model", form)
    ours, theirs = Ours(folder), Loaded(folder)
    assert_unrounded_agreement(ours, theirs)
    assert_rounded_agreement(ours, theirs, monkeypatch)
    codes = ours.model.weights["layers.1.ffn.down"].unpack().codes
    assert (codes == 0).any() == (form != "binary")
    row = "binary" if form == "binary" else family
    verified(row, FORMATS[form], "read", "logits of transformers")


def test_binary_masters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verified: Verified) -> None:
    """BitNet 1.0, which transformers does not know: sign(W - mean W) * mean |W| (section 2.1 of its paper),
    worked out here and given to transformers as packed codes."""
    original = Original.random("llama")
    masters = {
        name: tensor + 0.05 if tensor.ndim == 2 else tensor for name, tensor in original.weights.items()
    }
    original.weights = masters
    folder = original.save(tmp_path / "model", "online")
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"]["weight_bits"] = 1
    (folder / "config.json").write_text(json.dumps(config))

    twin = Original.random("llama").save(tmp_path / "twin", "codes")
    stored = load_file(twin / "model.safetensors")
    for name in [name for name in stored if f"{name}_scale" in stored]:
        weight = masters[name]
        stored[name] = torch.where(weight > weight.mean(), 1.0, -1.0)
        stored[f"{name}_scale"] = weight.abs().mean().reshape(1)
    for name in set(stored) & {"model.embed_tokens.weight", "lm_head.weight"}:
        stored[name] = masters[name]
    save_file(stored, twin / "model.safetensors", metadata={"format": "pt"})
    ours, theirs = Ours(folder), Loaded(twin)
    assert_unrounded_agreement(ours, theirs)
    assert_rounded_agreement(ours, theirs, monkeypatch)
    verified("binary", "huggingface masters", "read", "logits of the paper's formula in transformers")


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("shards", [1, 3])
def test_types_and_shards(tmp_path: Path, dtype: str, shards: int, monkeypatch: pytest.MonkeyPatch) -> None:
    form = {"float32": "online", "float16": "packed", "bfloat16": "divided"}[dtype]
    original = Original.random("llama", tie_word_embeddings=False)
    folder = original.save(tmp_path / "model", form, dtype=getattr(torch, dtype), shards=shards)
    assert (folder / "model.safetensors.index.json").exists() == (shards > 1)
    assert_rounded_agreement(Ours(folder), Loaded(folder), monkeypatch)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_masters_of_two_bytes(tmp_path: Path, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Original.random("bitnet").save(tmp_path / "model", "online", dtype=getattr(torch, dtype))
    assert_rounded_agreement(Ours(folder), Loaded(folder), monkeypatch)


@pytest.mark.parametrize("form", ["online", "packed", "divided"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_norm_in_every_linear_layer(
    tmp_path: Path, family: str, form: str, monkeypatch: pytest.MonkeyPatch, verified: Verified
) -> None:
    original = Original.random(family, **FAMILIES[family]).with_projection_norms()
    folder = original.save(tmp_path / "model", form)
    ours, theirs = Ours(folder), Loaded(folder)
    assert ours.config.projection_norms
    assert_unrounded_agreement(ours, theirs)
    assert_rounded_agreement(ours, theirs, monkeypatch)
    verified(family, FORMATS[form], "read", "logits of transformers")


@pytest.mark.parametrize("form", ["online", "packed", "divided"])
def test_layers_that_stay_floats(tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not converted is neither ternary nor fed with rounded activations."""
    kept = ["lm_head", "layers.0.mlp.down_proj", "layers.1.self_attn.k_proj"]
    folder = Original.random("llama").save(tmp_path / "model", form, kept=kept)
    ours = Ours(folder)
    assert ours.model.tensors["layers.0.ffn.down"].granularity is None
    assert ours.model.tensors["layers.1.attention.k"].granularity is None
    assert ours.model.tensors["layers.1.ffn.down"].granularity == "tensor"
    assert_rounded_agreement(ours, Loaded(folder), monkeypatch)


def test_a_head_that_rounds_its_inputs_is_refused(tmp_path: Path) -> None:
    folder = Original.random("llama").save(tmp_path / "model", "online", kept=["k_proj"])
    with pytest.raises(UnsupportedModelError, match="lm_head"):
        load_model(folder)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_trilm(tmp_path: Path, dtype: str, verified: Verified) -> None:
    """Floats that are code * scale, the scale of a quarter of the rows."""
    folder = Original.random("llama", tie_word_embeddings=True).save(
        tmp_path / "model", "rows", dtype=getattr(torch, dtype)
    )
    ours = Ours(folder)
    assert not ours.config.quantize_activations
    info = ours.model.tensors["layers.0.ffn.up"]
    assert info.granularity == "row"
    assert not info.is_master
    assert len(np.unique(ours.model.weights["layers.0.ffn.up"].scales)) == 4
    assert_unrounded_agreement(ours, Loaded(folder))
    verified("trilm", "huggingface floats", "read", "logits of transformers")


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("tied", [True, False])
def test_ternary_bonsai(tmp_path: Path, dtype: str, tied: bool, verified: Verified) -> None:
    """Floats that are code * scale, the scale of 128 columns of a row; embedding and head too."""
    original = Original.random(
        "qwen3", hidden_size=128, intermediate_size=256, head_dim=32, tie_word_embeddings=tied
    )
    folder = original.save(tmp_path / "model", "groups", dtype=getattr(torch, dtype))
    ours = Ours(folder)
    matrices = [name for name, info in ours.model.tensors.items() if len(info.shape) == 2]
    assert ("output_head" in matrices) == (not tied)
    for name in matrices:
        info = ours.model.tensors[name]
        # A row of 128 has one group, and is then what others call a scale per row.
        assert (info.granularity, info.group_size) in (("group", 128), ("row", None))
    assert ours.model.tensors["layers.0.ffn.down"].group_size == 128
    assert_unrounded_agreement(ours, Loaded(folder))
    verified("bonsai", "huggingface floats", "read", "logits of transformers")


def test_the_wrong_sense_of_a_scale_would_show(tmp_path: Path) -> None:
    """Otherwise the two packed forms were not told apart by these tests."""
    folder = Original.random("llama").save(tmp_path / "model", "packed")
    theirs = Loaded(folder).logits(TOKENS)
    config = json.loads((folder / "config.json").read_text())
    del config["quantization_config"]["linear_class"]
    (folder / "config.json").write_text(json.dumps(config))
    wrong = Ours(folder).reference(TOKENS)
    assert np.sqrt(np.mean((wrong - theirs) ** 2)) > 0.1 * theirs.std()


@pytest.mark.parametrize(
    ("name", "tensor", "reason"),
    [
        ("model.layers.0.mlp.up_proj.weight", torch.full((24, 64), 0xFF, dtype=torch.uint8), "field 3"),
        ("model.layers.0.mlp.up_proj.weight", torch.zeros((25, 64), dtype=torch.uint8), r"\[100, 64\]"),
        ("model.layers.0.mlp.up_proj.weight", torch.zeros(24, dtype=torch.uint8), r"shape \[24\]"),
        ("model.layers.0.mlp.up_proj.weight_scale", torch.zeros(2), r"F32 \[2\]"),
        ("model.layers.0.mlp.up_proj.weight_scale", torch.zeros(1), "positive"),
        ("model.layers.0.mlp.up_proj.weight_scale", torch.full((1,), torch.nan), "positive"),
        ("model.layers.0.mlp.up_proj.weight_scale", None, "weight_scale, which is not there"),
        ("model.layers.0.mlp.up_proj.bias", torch.zeros(96), "biases"),
    ],
)
def test_packed_weights_that_mean_nothing(tmp_path: Path, name: str, tensor: Any, reason: str) -> None:
    folder = Original.random("llama").save(tmp_path / "model", "packed")
    file = folder / "model.safetensors"
    weights = load_file(file)
    save_file({key: value for key, value in (weights | {name: tensor}).items() if value is not None}, file)
    with pytest.raises((FormatError, UnsupportedModelError), match=reason):
        load_model(folder).weights["layers.0.ffn.up"]
