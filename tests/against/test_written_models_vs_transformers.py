"""What we write: transformers loads our folders, and our files compute what it does of their source.

A small random model of each architecture is converted into every format that can hold it. Codes and scales
stay exactly what they were; logits agree as tests/plugins/agreement.py says.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tercet.conversion import convert
from tercet.errors import ParameterError
from tercet.quantization.ternary_tensor import TernaryTensor

torch = pytest.importorskip("torch", reason="the package torch is not installed")
transformers = pytest.importorskip("transformers", reason="the package transformers is not installed")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # torch.compile, a decorator in there, imports what torch has deprecated
    from agreement import Ours, assert_settled_agreement, assert_unrounded_agreement
    from foreign_folders import Original
    from foreign_gguf import SIZES
    from foreign_logits import Loaded, eager

WIDTHS = SIZES | {"intermediate_size": 256}
FAMILIES: dict[str, dict[str, Any]] = {
    "bitnet": {"tie_word_embeddings": True},
    "llama": {"head_dim": 128},
    "qwen3": {"head_dim": 128, "tie_word_embeddings": True},
    "gemma3": {"head_dim": 32, "sliding_window": 8, "layer_types": ["sliding_attention"]},
}
TARGETS = {
    "native": "native",
    "huggingface": "huggingface masters",
    "huggingface-packed": "huggingface packed, multiplied",
    "gguf-tq1_0": "gguf TQ1_0",
    "gguf-tq2_0": "gguf TQ2_0",
    "gguf-i2_s": "gguf I2_S",
    "gguf-q2_0": "gguf Q2_0",
    "gguf-f16": "gguf F16",
}
NOT_WRITTEN = {("gemma3", target) for target in TARGETS if target.startswith("gguf")}
Verified = Callable[[str, str, str, str], None]


@pytest.fixture(scope="module", autouse=True)
def _eager() -> Iterator[None]:
    with eager():
        yield


def rounded_tables(original: Original) -> Original:
    """Embedding and head that float16 holds, as GGUF files have them."""
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        if name in original.weights:
            original.weights[name] = original.weights[name].half().float()
    return original


def assert_same_matrices(ours: Ours, source: Ours, scale_error: float = 0.0) -> None:
    for name, weight in source.model.reference_weights.items():
        if isinstance(weight, TernaryTensor):
            found = ours.model.reference_weights[name]
            # A type may have smaller groups than the source, and plain floats have none.
            values = found.dequantize() if isinstance(found, TernaryTensor) else found
            np.testing.assert_array_equal(np.sign(values), weight.codes)
            np.testing.assert_allclose(values, weight.dequantize(), rtol=scale_error, atol=0)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_scale_for_each_matrix(
    tmp_path: Path, family: str, target: str, monkeypatch: pytest.MonkeyPatch, verified: Verified
) -> None:
    original = rounded_tables(Original.random(family, **(WIDTHS | FAMILIES[family])))
    source = original.save(tmp_path / "source", "divided")
    path = tmp_path / ("model.gguf" if target.startswith("gguf") else "model")
    embedding_type = "f16" if target.startswith("gguf") else "f32"
    if (family, target) in NOT_WRITTEN:
        with pytest.raises(ParameterError):
            convert(source, path, None, embedding_type, to=target, verify=False)
        return
    convert(source, path, None, embedding_type, to=target, verify=False)
    ours = Ours(path)
    theirs = Loaded(path if target.startswith("huggingface") else source)
    # Masters are floats whose mean magnitude is the scale, as nearly as float32 has it.
    assert_same_matrices(ours, Ours(source), 1e-6 if target == "huggingface" else 0.0)
    assert_unrounded_agreement(ours, theirs)
    assert_settled_agreement(ours, theirs, monkeypatch)
    verified(family, TARGETS[target], "write", "codes, scales, logits of transformers")
    if target == "native":
        verified(family, "native", "read", "codes, scales, logits of transformers")


@pytest.mark.parametrize("target", ["native", "huggingface", "gguf-q2_0", "gguf-f16"])
def test_a_scale_for_each_group(tmp_path: Path, target: str, verified: Verified) -> None:
    original = Original.random("qwen3", **(WIDTHS | {"head_dim": 32, "tie_word_embeddings": True}))
    source = original.save(tmp_path / "source", "groups")
    path = tmp_path / ("model.gguf" if target.startswith("gguf") else "model")
    convert(source, path, None, "f16" if target.startswith("gguf") else "f32", to=target, verify=False)
    ours = Ours(path)
    assert_same_matrices(ours, Ours(source))
    assert_unrounded_agreement(ours, Loaded(path if target == "huggingface" else source))
    form = "huggingface floats" if target == "huggingface" else TARGETS[target]
    verified("bonsai", form, "write", "codes, scales, logits of transformers")
    if target == "native":
        verified("bonsai", "native", "read", "codes, scales, logits of transformers")


@pytest.mark.parametrize("target", ["native", "huggingface"])
def test_a_scale_for_some_rows(tmp_path: Path, target: str, verified: Verified) -> None:
    source = Original.random("llama", **WIDTHS).save(tmp_path / "source", "rows")
    convert(source, tmp_path / "model", None, "f32", to=target, verify=False)
    ours = Ours(tmp_path / "model")
    assert_same_matrices(ours, Ours(source))
    assert_unrounded_agreement(ours, Loaded(tmp_path / "model" if target == "huggingface" else source))
    form = "huggingface floats" if target == "huggingface" else target
    verified("trilm", form, "write", "codes, scales, logits of transformers")
    if target == "native":
        verified("trilm", "native", "read", "codes, scales, logits of transformers")
