"""The shapes that the literature and this project have names for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tercet.errors import ParameterError
from tercet.models.config import ModelConfig

__all__ = ["SHAPES", "shape"]

_BITNET_2B4T: dict[str, Any] = {
    "rope_theta": 500_000.0,
    "rms_norm_eps": 1e-5,
    "activation": "relu2",
    "attention_sub_norm": True,
    "ffn_sub_norm": True,
    "tied_embeddings": True,
}
_BITNET_B158 = _BITNET_2B4T | {"rope_theta": 10_000.0, "activation": "silu"}
_HOME = _BITNET_2B4T | {"rope_theta": 10_000.0}
_LLAMA = _BITNET_2B4T | {
    "architecture": "llama", "activation": "silu", "attention_sub_norm": False, "ffn_sub_norm": False,
    "tied_embeddings": False,
}  # fmt: skip
_BONSAI = _LLAMA | {
    "architecture": "qwen3", "qk_norm": True, "quantize_activations": False, "rope_theta": 1_000_000.0,
    "rms_norm_eps": 1e-6, "head_dim": 128, "num_kv_heads": 8, "vocab_size": 151_936, "max_context": 40_960,
    "bos_token_id": None, "eos_token_ids": (151_645,), "pad_token_id": 151_643,
}  # fmt: skip
_LLAMA_TOKENS: dict[str, Any] = {"bos_token_id": 1, "eos_token_ids": (2,)}
_LLAMA3_TOKENS: dict[str, Any] = {"bos_token_id": 128_000, "eos_token_ids": (128_001, 128_009)}

SHAPES: Mapping[str, ModelConfig] = {
    # For models trained at home, in the style of 2B-4T.
    "tiny": ModelConfig(
        hidden_size=384, ffn_size=1024, num_layers=6, num_heads=6, num_kv_heads=2, head_dim=64,
        vocab_size=4096, max_context=1024, **_LLAMA_TOKENS, **_HOME,
    ),
    "125m": ModelConfig(
        hidden_size=768, ffn_size=2560, num_layers=12, num_heads=12, num_kv_heads=12, head_dim=64,
        vocab_size=32_000, max_context=2048, **_LLAMA_TOKENS, **_HOME,
    ),
    "400m": ModelConfig(
        hidden_size=1024, ffn_size=4096, num_layers=24, num_heads=16, num_kv_heads=16, head_dim=64,
        vocab_size=32_000, max_context=2048, **_LLAMA_TOKENS, **_HOME,
    ),
    # The community's reproduction of BitNet b1.58 (1bitLLM/bitnet_b1_58-large, -xl, -3B on Hugging Face).
    "700m": ModelConfig(
        hidden_size=1536, ffn_size=4096, num_layers=24, num_heads=16, num_kv_heads=16, head_dim=96,
        vocab_size=32_002, max_context=2048, pad_token_id=32_000, **_LLAMA_TOKENS, **_BITNET_B158,
    ),
    "1.3b": ModelConfig(
        hidden_size=2048, ffn_size=5460, num_layers=24, num_heads=32, num_kv_heads=32, head_dim=64,
        vocab_size=32_002, max_context=2048, pad_token_id=32_000, **_LLAMA_TOKENS, **_BITNET_B158,
    ),
    "3b": ModelConfig(
        hidden_size=3200, ffn_size=8640, num_layers=26, num_heads=32, num_kv_heads=32, head_dim=100,
        vocab_size=32_002, max_context=2048, pad_token_id=32_000, **_LLAMA_TOKENS, **_BITNET_B158,
    ),
    # BitNet v2, appendix B; heads, of which we found no number, are 128 wide as in its peers.
    "7b": ModelConfig(
        hidden_size=4096, ffn_size=16_384, num_layers=24, num_heads=32, num_kv_heads=32, head_dim=128,
        vocab_size=32_000, max_context=2048, **_LLAMA_TOKENS, **_BITNET_B158,
    ),
    # microsoft/bitnet-b1.58-2B-4T.
    "2b4t": ModelConfig(
        hidden_size=2560, ffn_size=6912, num_layers=30, num_heads=20, num_kv_heads=5, head_dim=128,
        vocab_size=128_256, max_context=4096, **_LLAMA3_TOKENS, **_BITNET_2B4T,
    ),
    # HF1BitLLM/Llama3-8B-1.58-100B-tokens.
    "llama3-8b": ModelConfig(
        hidden_size=4096, ffn_size=14_336, num_layers=32, num_heads=32, num_kv_heads=8, head_dim=128,
        vocab_size=128_256, max_context=8192, **_LLAMA3_TOKENS, **_LLAMA,
    ),
    # prism-ml/Ternary-Bonsai, which are Qwen 3 with a scale for each 128 weights.
    "bonsai-1.7b": ModelConfig(
        hidden_size=2048, ffn_size=6144, num_layers=28, num_heads=16, **_BONSAI | {"tied_embeddings": True},
    ),
    "bonsai-4b": ModelConfig(
        hidden_size=2560, ffn_size=9728, num_layers=36, num_heads=32, **_BONSAI | {"tied_embeddings": True},
    ),
    "bonsai-8b": ModelConfig(hidden_size=4096, ffn_size=12_288, num_layers=36, num_heads=32, **_BONSAI),
    # No such model has been trained: the largest shape that bitnet.cpp measures its speed with.
    "100b": ModelConfig(
        hidden_size=8192, ffn_size=45_568, num_layers=72, num_heads=64, num_kv_heads=64, head_dim=128,
        vocab_size=32_000, max_context=2048, **_LLAMA_TOKENS, **_HOME,
    ),
}  # fmt: skip


def shape(name: str) -> ModelConfig:
    """Return the config of a named shape, for example `2b4t`.

    Raises:
        ParameterError: no shape has this name; the message lists those that exist.
    """
    if name not in SHAPES:
        raise ParameterError(f"there is no shape {name!r}; the shapes are {', '.join(SHAPES)}")
    return SHAPES[name]
