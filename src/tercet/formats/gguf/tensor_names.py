"""What llama.cpp calls the tensors of a model, and what we call them.

    token_embd                embedding            blk.{i}.attn_norm       layers.{i}.attention_norm
    output                    output_head          blk.{i}.ffn_norm        layers.{i}.ffn_norm
    output_norm               final_norm           blk.{i}.attn_q          layers.{i}.attention.q
    rope_freqs                rope_factors         blk.{i}.ffn_gate        layers.{i}.ffn.gate

and so on; all end in `.weight`. Some models have more norms:

    attn_q_norm, attn_k_norm                 of each head's queries and keys (Qwen3, Gemma3)
    attn_sub_norm, ffn_sub_norm              before the output and the down projection (BitNet b1.58)
    attn_q_norm_in .. ffn_down_norm_in       before every projection (BitNet embedding models)
    post_attention_norm, post_ffw_norm       after attention and feed-forward (Gemma3)
"""

from __future__ import annotations

import re

__all__ = ["PROJECTIONS", "from_gguf", "to_gguf"]

PROJECTIONS = {
    "attn_q": "attention.q",
    "attn_k": "attention.k",
    "attn_v": "attention.v",
    "attn_output": "attention.o",
    "ffn_gate": "ffn.gate",
    "ffn_up": "ffn.up",
    "ffn_down": "ffn.down",
}
"""The matrices of a layer, which are ternary in a ternary model."""

_LAYER_NAMES = {
    "attn_norm": "attention_norm",
    "attn_q_norm": "attention.q_norm",
    "attn_k_norm": "attention.k_norm",
    "attn_sub_norm": "attention.sub_norm",
    "post_attention_norm": "attention_post_norm",
    "ffn_norm": "ffn_norm",
    "ffn_sub_norm": "ffn.sub_norm",
    "post_ffw_norm": "ffn_post_norm",
    **PROJECTIONS,
    **{f"{theirs}_norm_in": f"{ours}.input_norm" for theirs, ours in PROJECTIONS.items()},
}
_MODEL_NAMES = {
    "token_embd": "embedding",
    "output_norm": "final_norm",
    "output": "output_head",
    "rope_freqs": "rope_factors",
}
_LAYER_NAMES_BACK = {ours: theirs for theirs, ours in _LAYER_NAMES.items()}
_MODEL_NAMES_BACK = {ours: theirs for theirs, ours in _MODEL_NAMES.items()}


def from_gguf(name: str) -> str | None:
    """Translate a name of llama.cpp into the canonical one, or return None if it is not known."""
    if match := re.fullmatch(r"blk\.(0|[1-9]\d{0,5})\.(\w+)\.weight", name):
        part = _LAYER_NAMES.get(match[2])
        return part and f"layers.{match[1]}.{part}"
    return _MODEL_NAMES.get(name.removesuffix(".weight")) if name.endswith(".weight") else None


def to_gguf(name: str) -> str | None:
    """Translate a canonical name into that of llama.cpp, or return None if it has none."""
    if match := re.fullmatch(r"layers\.(\d+)\.(.+)", name):
        part = _LAYER_NAMES_BACK.get(match[2])
        return part and f"blk.{match[1]}.{part}.weight"
    part = _MODEL_NAMES_BACK.get(name)
    return part and f"{part}.weight"
