"""Every architecture against transformers itself: a small random model, saved as a folder and opened by both.

Master weights here, and plain floats; other ways to store them: test_storage_forms_vs_transformers.py.
tests/plugins/agreement.py says when logits agree. Both our decoders are compared, NumPy's and C++'s.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the package torch is not installed")
transformers = pytest.importorskip("transformers", reason="the package transformers is not installed")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # torch.compile, a decorator in there, imports what torch has deprecated
    from agreement import Ours, assert_rounded_agreement, assert_unrounded_agreement
    from foreign_folders import Original
    from foreign_logits import Loaded, eager

GEMMA = {
    "num_hidden_layers": 2,
    "head_dim": 24,
    "query_pre_attn_scalar": 20,
    "sliding_window": 8,
    "layer_types": ["sliding_attention", "full_attention"],
    "rope_parameters": {
        "full_attention": {"rope_type": "default", "rope_theta": 50_000.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 1000.0},
    },
}
YARN = {"rope_type": "yarn", "rope_theta": 10_000.0, "factor": 4.0, "original_max_position_embeddings": 16}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
LINEAR = {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 2.0}

# What is tried -> the row of the table that it counts for, the class of transformers, its options.
MODELS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "BitNet b1.58 2B-4T": ("bitnet", "bitnet", {"tie_word_embeddings": True}),
    "BitNet, SiLU, untied": ("bitnet", "bitnet", {"hidden_act": "silu"}),
    "Llama3-8B-1.58": ("llama", "llama", {"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}),
    "Falcon3-1.58bit": ("llama", "llama", {"head_dim": 24, "rms_norm_eps": 1e-6}),
    "Llama, tied, one head for keys": (
        "llama",
        "llama",
        {"tie_word_embeddings": True, "num_key_value_heads": 1},
    ),
    "Llama, linear RoPE": ("llama", "llama", {"rope_parameters": LINEAR}),
    "Llama, llama3 RoPE": ("llama", "llama", {"rope_parameters": LLAMA3}),
    "Llama, yarn RoPE": ("llama", "llama", {"rope_parameters": YARN}),
    "Qwen3": ("qwen3", "qwen3", {"head_dim": 24, "tie_word_embeddings": True}),
    "Qwen3, yarn RoPE, untied": ("qwen3", "qwen3", {"head_dim": 16, "rope_parameters": YARN}),
    "Gemma3": ("gemma3", "gemma3", GEMMA),
}
Verified = Callable[[str, str, str, str], None]


@pytest.fixture(scope="module", autouse=True)
def _eager() -> Iterator[None]:
    with eager():
        yield


@pytest.mark.parametrize("name", MODELS)
def test_masters(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch, verified: Verified) -> None:
    row, family, changes = MODELS[name]
    folder = Original.random(family, **changes).save(tmp_path / "model", "online")
    ours, theirs = Ours(folder), Loaded(folder)
    assert_unrounded_agreement(ours, theirs)
    assert_rounded_agreement(ours, theirs, monkeypatch)
    assert ours.model.tensors["layers.0.attention.q"].is_master
    verified(row, "huggingface masters", "read", "logits of transformers")


@pytest.mark.parametrize("name", [name for name in MODELS if "RoPE" not in name])
def test_full_precision(tmp_path: Path, name: str, verified: Verified) -> None:
    row, family, changes = MODELS[name]
    folder = Original.random(family, **changes).save(tmp_path / "model", "floats")
    ours, theirs = Ours(folder), Loaded(folder)
    assert not ours.config.quantize_activations
    assert all(info.granularity is None for info in ours.model.tensors.values())
    assert_unrounded_agreement(ours, theirs)
    verified(row, "huggingface floats", "read", "logits of transformers")


@pytest.mark.parametrize(
    "changes",
    [
        {"num_hidden_layers": 4, "layer_types": ["sliding_attention", "full_attention"] * 2},
        {"num_hidden_layers": 3, "layer_types": None, "sliding_window_pattern": 3},
        {"num_hidden_layers": 2, "layer_types": ["sliding_attention"] * 2},
        {"num_hidden_layers": 2, "layer_types": ["full_attention"] * 2},
    ],
    ids=["every second", "every third", "none", "all"],
)
def test_which_layers_of_gemma_see_everything(tmp_path: Path, changes: dict[str, Any]) -> None:
    folder = Original.random("gemma3", **(GEMMA | changes)).save(tmp_path / "model", "floats")
    assert_unrounded_agreement(Ours(folder), Loaded(folder))


@pytest.mark.parametrize("scaling", [LINEAR, LLAMA3, YARN], ids=["linear", "llama3", "yarn"])
def test_a_scaling_of_rope_would_be_missed(tmp_path: Path, scaling: dict[str, Any]) -> None:
    """Otherwise its tests above would show nothing."""
    scaled = Original.random("llama", rope_parameters=scaling).save(tmp_path / "scaled", "floats")
    plain = Original.random("llama", rope_parameters={"rope_type": "default", "rope_theta": 10_000.0})
    theirs = Loaded(scaled).logits(np.arange(48))
    without = Ours(plain.save(tmp_path / "plain", "floats")).reference(np.arange(48))
    assert np.linalg.norm(without - theirs) > 0.05 * np.linalg.norm(theirs)
