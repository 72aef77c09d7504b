"""Models in the way that their authors publish them, where transformers has no class that reads them.

1bitLLM's BitnetForCausalLM and Microsoft's embedding models come with code of their own, which is not run
here; transformers computes the same formulas under other names, so each folder has a twin that it can read.
What the twin and the folder differ in is in this file to be seen.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the package torch is not installed")
transformers = pytest.importorskip("transformers", reason="the package transformers is not installed")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # torch.compile, a decorator in there, imports what torch has deprecated
    from agreement import (
        Ours,
        assert_rounded_agreement,
        assert_same_embedding,
        assert_unrounded_agreement,
    )
    from foreign_folders import NORM_EPS, Original, renamed
    from foreign_logits import Loaded, eager

Verified = Callable[[str, str, str, str], None]


@pytest.fixture(scope="module", autouse=True)
def _eager() -> Iterator[None]:
    with eager():
        yield


ONEBIT_NAMES = {"attn_sub_norm": "inner_attn_ln", "ffn_sub_norm": "ffn_layernorm"}


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_1bitllm(tmp_path: Path, dtype: str, monkeypatch: pytest.MonkeyPatch, verified: Verified) -> None:
    """The same arithmetic under other names, no quantization_config; `weight_bits: 1` means ternary."""
    original = Original.random("bitnet", hidden_act="silu", tie_word_embeddings=True, num_key_value_heads=4)
    twin = original.save(tmp_path / "twin", "online", dtype=getattr(torch, dtype))
    config = {
        "architectures": ["BitnetForCausalLM"],
        "model_type": "llama",
        "input_bits": 8,
        "weight_bits": 1,
        "quantization_config": None,
    }
    folder = renamed(twin, tmp_path / "model", ONEBIT_NAMES, config)
    ours, theirs = Ours(folder), Loaded(twin)
    assert ours.model.kind == "folder of BitnetForCausalLM, masters"
    assert_unrounded_agreement(ours, theirs)
    assert_rounded_agreement(ours, theirs, monkeypatch)
    verified("1bitllm", "huggingface masters", "read", "logits of transformers")


EMBEDDING_NAMES = {"model.": "", ".rms_norm.": ".norm."}
EMBEDDING_MODELS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "embedding-qwen3": ("qwen3", "Qwen3Model", {"head_dim": 24}),
    "embedding-gemma3": (
        "gemma3",
        "Gemma3TextModel",
        {
            "num_hidden_layers": 2,
            "head_dim": 24,
            "sliding_window": 8,
            "layer_types": ["sliding_attention", "full_attention"],
        },
    ),
}


@pytest.mark.parametrize("row", EMBEDDING_MODELS)
def test_bitnet_embedding(
    tmp_path: Path, row: str, monkeypatch: pytest.MonkeyPatch, verified: Verified
) -> None:
    """A backbone without head, a norm per projection under another name, and nothing in the config of it."""
    family, class_name, changes = EMBEDDING_MODELS[row]
    changes = changes | {"tie_word_embeddings": True, "rms_norm_eps": NORM_EPS}
    twin = Original.random(family, **changes).with_projection_norms().save(tmp_path / "twin", "online")
    config = {"architectures": [class_name], "quantization_config": None}
    folder = renamed(twin, tmp_path / "model", EMBEDDING_NAMES, config)
    ours, theirs = Ours(folder), Loaded(twin)
    assert ours.config.projection_norms
    assert (ours.config.pooling, ours.config.normalize_embeddings) == ("last", True)
    assert_unrounded_agreement(ours, theirs)
    assert_rounded_agreement(ours, theirs, monkeypatch)
    assert_same_embedding(ours, theirs)
    verified(row, "huggingface masters", "read", "logits and vectors of transformers")
