"""Which architectures Tercet runs, by the class that `config.json` names, and why it refuses others.

    BitNetForCausalLM                       2B-4T: sub-norms, squared ReLU or SiLU
    BitnetForCausalLM                       1bitLLM: the same with other names, always masters
    LlamaForCausalLM                        Llama3-8B-1.58, Falcon3-1.58bit, Falcon-E, TriLM
    Qwen3ForCausalLM, Qwen3Model            Ternary-Bonsai; BitNet-embedding 0.6B
    Gemma3ForCausalLM, Gemma3TextModel      BitNet-embedding 270M

A class is all that is asked: code that a folder brings along (`auto_map`) is never run.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from tercet.errors import UnsupportedModelError
from tercet.formats.fields import Fields

__all__ = ["Family", "family_named", "find_family"]


@dataclasses.dataclass(frozen=True)
class Family:
    """What all models of one class have in common; `name` chooses the names of its tensors."""

    name: str
    """`bitnet`, `1bitllm`, `llama`, `qwen3` or `gemma3`."""
    class_name: str
    model_type: str
    architecture: str
    """The `architecture` of a ModelConfig."""
    default_rope_theta: float = 10_000.0
    """What transformers assumes where the file does not say."""
    tied_by_default: bool = False
    head_dim: int | None = None
    """The default width of a head; None means hidden_size / num_attention_heads."""
    has_head: bool = True
    """Whether the class predicts tokens; one without an output head makes embeddings."""


_BITNET = Family("bitnet", "BitNetForCausalLM", "bitnet", "bitnet", default_rope_theta=500_000.0)
_LLAMA = Family("llama", "LlamaForCausalLM", "llama", "llama")
_QWEN3 = Family("qwen3", "Qwen3ForCausalLM", "qwen3", "qwen3", head_dim=128)
_GEMMA3 = Family(
    "gemma3",
    "Gemma3ForCausalLM",
    "gemma3_text",
    "gemma3",
    default_rope_theta=1e6,
    tied_by_default=True,
    head_dim=256,
)
_FAMILIES = {
    family.class_name: family
    for family in (
        _BITNET,
        Family("1bitllm", "BitnetForCausalLM", "llama", "bitnet"),
        _LLAMA,
        _QWEN3,
        dataclasses.replace(_QWEN3, class_name="Qwen3Model", has_head=False),
        _GEMMA3,
        dataclasses.replace(_GEMMA3, class_name="Gemma3TextModel", has_head=False),
    )
}
_BY_MODEL_TYPE = {family.model_type: family for family in (_BITNET, _LLAMA, _QWEN3, _GEMMA3)}

_HYBRID = (
    "a hybrid with Gated DeltaNet: three of four layers keep a recurrent state instead of keys and values, "
    "and Tercet's decoder has attention only"
)
_EXPERTS = "a mixture of experts: a router chooses among feed-forward networks, and Tercet's decoder has one"
_VISION = "a model that sees pictures; Tercet runs models of text"
_RECURRENT = "a recurrent (state space) model, and Tercet's decoder has attention only"
_KNOWN_REASONS = (
    (r"qwen-?3[._]?(5|6|8|next)|qwen35|gateddelta|delta_?net|kimi_?linear", _HYBRID),
    (r"moe|mixtral|gpt_?oss|deepseek_?v[234]|dbrx|arctic", _EXPERTS),
    (r"conditionalgeneration|vision|vl(for|model|_|$)|llava|mllama|paligemma|pixtral", _VISION),
    (r"mamba|rwkv|jamba|falcon_?h1|zamba|recurrent_?gemma|bitmamba", _RECURRENT),
    (r"^t5|mt5|bart|whisper|encoderdecoder", "a model with an encoder and a decoder; Tercet runs decoders"),
    (
        r"bert|maskedlm",
        "an encoder that sees both ways; Tercet runs decoders, where no token sees a later one",
    ),
)


def family_named(class_name: str) -> Family:
    """Return the family of a class of transformers that Tercet runs."""
    return _FAMILIES[class_name]


def find_family(config: Fields, file: Path) -> Family:
    """Return the family of a `config.json`.

    Raises:
        FormatError: neither architectures nor model_type is there, or of the right type.
        UnsupportedModelError: Tercet does not run such models; the message says which and why.
    """
    classes = config.texts("architectures") if "architectures" in config else ()
    model_type = config.text("model_type") if "model_type" in config or not classes else ""
    asked = " / ".join(part for part in (", ".join(classes), model_type) if part)
    if reason := _structural_reason(config):
        raise UnsupportedModelError(f"{file}: {asked} is {reason}.")
    for class_name in classes:
        if class_name in _FAMILIES:
            return _FAMILIES[class_name]
    if not classes and model_type in _BY_MODEL_TYPE:
        return _BY_MODEL_TYPE[model_type]
    for pattern, reason in _KNOWN_REASONS:
        if any(re.search(pattern, name.lower()) for name in (*classes, model_type)):
            raise UnsupportedModelError(f"{file}: {asked} is {reason}.")
    raise UnsupportedModelError(
        f"{file}: {asked} is not among the architectures that Tercet runs: {', '.join(_FAMILIES)}."
    )


def _structural_reason(config: Fields) -> str | None:
    """What a config says of itself counts more than its name."""
    if "layer_types" in config and "linear_attention" in config.texts("layer_types"):
        return _HYBRID
    expert_counts = (key for key in ("num_experts", "num_local_experts", "n_routed_experts") if key in config)
    if any(config.integer(key) > 0 for key in expert_counts):
        return _EXPERTS
    if "vision_config" in config:
        return _VISION
    return None
