"""What the tensors of each family are called in a Hugging Face folder, and what we call them.

The families share most names. They differ in the norms: `post_attention_layernorm` stands before the
feed-forward network everywhere but in Gemma 3, where it stands behind attention; the sub-norms have one pair
of names in `BitNetForCausalLM` and another in 1bitLLM's `BitnetForCausalLM`. A norm per projection is
`q_proj.rms_norm` in transformers and `q_proj.norm` in Microsoft's embedding models. Models saved without an
output head lack the prefix `model.`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["NORM_SUFFIXES", "TensorNames"]

NORM_SUFFIXES = (".rms_norm", ".norm")
"""What a norm inside a linear layer is called, after the name of the layer."""

_MODEL = {"embedding": "embed_tokens", "final_norm": "norm"}
_PROJECTIONS = {
    "attention.q": "self_attn.q_proj",
    "attention.k": "self_attn.k_proj",
    "attention.v": "self_attn.v_proj",
    "attention.o": "self_attn.o_proj",
    "ffn.gate": "mlp.gate_proj",
    "ffn.up": "mlp.up_proj",
    "ffn.down": "mlp.down_proj",
}
_COMMON = {
    "attention_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attention.q_norm": "self_attn.q_norm",
    "attention.k_norm": "self_attn.k_norm",
    **_PROJECTIONS,
}
_FAMILIES = {
    "bitnet": _COMMON | {"attention.sub_norm": "self_attn.attn_sub_norm", "ffn.sub_norm": "mlp.ffn_sub_norm"},
    "1bitllm": _COMMON
    | {"attention.sub_norm": "self_attn.inner_attn_ln", "ffn.sub_norm": "mlp.ffn_layernorm"},
    "llama": _COMMON,
    "qwen3": _COMMON,
    "gemma3": _COMMON
    | {
        "attention_post_norm": "post_attention_layernorm",
        "ffn_norm": "pre_feedforward_layernorm",
        "ffn_post_norm": "post_feedforward_layernorm",
    },
}


class TensorNames:
    """Translates between canonical names and those of one family.

    Args:
        family: `bitnet`, `1bitllm`, `llama`, `qwen3` or `gemma3`.
        prefix: `model.`, or nothing for a model that was saved without its output head.
        norm_suffix: which of `NORM_SUFFIXES` the norms inside linear layers have.
    """

    def __init__(self, family: str, prefix: str = "model.", norm_suffix: str = ".rms_norm") -> None:
        norms = {f"{ours}.input_norm": f"{theirs}{norm_suffix}" for ours, theirs in _PROJECTIONS.items()}
        self._prefix = prefix
        self._layer = _FAMILIES[family] | norms
        self._layer_back = {theirs: ours for ours, theirs in self._layer.items()}

    @classmethod
    def of_folder(cls, family: str, stored: Iterable[str]) -> TensorNames:
        """Choose prefix and suffix by the names that a folder has."""
        names = list(stored)
        prefix = "model." if any(name.startswith("model.") for name in names) else ""
        suffix = next((end for end in NORM_SUFFIXES if any(f"proj{end}." in name for name in names)), "")
        return cls(family, prefix, suffix or NORM_SUFFIXES[0])

    def module(self, name: str) -> str:
        """Return the name of the module that holds the tensor with this canonical name."""
        if name == "output_head":
            return "lm_head"
        if match := re.fullmatch(r"layers\.(\d+)\.(.+)", name):
            return f"{self._prefix}layers.{match[1]}.{self._layer[match[2]]}"
        return self._prefix + _MODEL[name]

    def tensor(self, name: str) -> str:
        """Return what the folder calls the tensor with this canonical name."""
        return self.module(name) + ".weight"

    def canonical(self, stored: str) -> str | None:
        """Return the canonical name of a tensor of the folder, or None if it has none."""
        module = stored.removesuffix(".weight")
        if module == stored:
            return None
        if module == "lm_head":
            return "output_head"
        if not module.startswith(self._prefix):
            return None
        module = module.removeprefix(self._prefix)
        if match := re.fullmatch(r"layers\.(0|[1-9]\d{0,8})\.(.+)", module):
            part = self._layer_back.get(match[2])
            return part and f"layers.{match[1]}.{part}"
        return next((ours for ours, theirs in _MODEL.items() if theirs == module), None)
