"""From the metadata of a GGUF file to the fields of `tercet.models.config.ModelConfig`.

`model_fields` returns a plain dict. The fields that every model has are always in it. Those that most
models have not are there only where the file has them, so that a reader who does not know one finds an
unknown key, and cannot pass over it:

    qk_norm               true: a norm of each head's queries and keys             (Qwen3, Gemma3)
    projection_norms      true: a norm before every projection                     (BitNet embedding models)
    post_norms            true: norms after attention and feed-forward             (Gemma3)
    embedding_scale       embeddings are multiplied by this                        (Gemma3)
    rope_factors          true: a tensor divides each frequency of RoPE            (Llama 3.1)
    rope_scaling          {"kind", "factor", "original_max_context", and others that the file gives}
    sliding_window        how far most layers look back; sliding_pattern: every so many layers one sees all;
                          rope_local_theta: the base of RoPE in the others                          (Gemma3)
    pooling               "mean", "cls", "last" or "rank": an embedding model
    rotation              a `HadamardRotation`: the inputs of some matrices are turned  (Bonsai 2)

What would change the arithmetic and is not described here is refused by name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tercet.errors import FormatError, UnsupportedFormatError, UnsupportedModelError
from tercet.formats.gguf.file import StoredGgufTensor
from tercet.formats.gguf.values import Metadata
from tercet.formats.gguf.vocabulary import GgufVocabulary

__all__ = ["ARCHITECTURES", "generation_settings", "gguf_architecture", "model_fields"]

ARCHITECTURES: Mapping[str, tuple[str, str]] = {
    "bitnet": ("bitnet", "silu"),
    "bitnet-b1.58": ("bitnet", "relu2"),
    "bitnet-25": ("bitnet", "relu2"),
    "llama": ("llama", "silu"),
    "qwen3": ("qwen3", "silu"),
    "gemma3": ("gemma3", "gelu_tanh"),
}
"""What a file calls the architecture -> what we call it, and its activation, which files do not give."""

_HYBRID = (
    "most of its layers are Gated-DeltaNet, a linear attention with a state, which the decoder does not have"
)
_EXPERTS = "it is a mixture of experts, and the decoder runs dense models"
_REFUSED = {
    "qwen35": _HYBRID,
    "qwen35moe": _HYBRID,
    "qwen3next": _HYBRID,
    "qwen3moe": _EXPERTS,
    "mamba": "its layers are state-space models, which the decoder does not have",
    "mamba2": "its layers are state-space models, which the decoder does not have",
}

# Options of other models of these architectures: (key, value that means nothing).
_NEUTRAL: tuple[tuple[str, float | bool], ...] = (
    ("expert_count", 0),
    ("leading_dense_block_count", 0),
    ("logit_scale", 1.0),
    ("residual_scale", 1.0),
    ("embedding_scale", 1.0),
    ("attn_logit_softcapping", 0.0),
    ("final_logit_softcapping", 0.0),
    ("attention.scale", 0.0),
    ("attention.clamp_kqv", 0.0),
    ("attention.max_alibi_bias", 0.0),
    ("attention.causal", True),
    ("use_parallel_residual", False),
)
_POOLING = ("none", "mean", "cls", "last", "rank")
_SAMPLING = {
    "temp": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "penalty_repeat": "repetition_penalty",
}
_SCALING_NUMBERS = {
    "attn_factor": "attention_factor",
    "yarn_attn_factor": "attention_factor",
    "yarn_beta_fast": "beta_fast",
    "yarn_beta_slow": "beta_slow",
    "yarn_ext_factor": "extrapolation_factor",
    "yarn_log_multiplier": "log_multiplier",
}
LARGEST = 2**31 - 1
EMBEDDING = "token_embd.weight"


def gguf_architecture(metadata: Metadata, path: Path) -> str:
    """Return the architecture by the file's own name for it.

    Raises:
        UnsupportedModelError: it is one that this release does not run; the message says why.
        UnsupportedFormatError: the file is one of several parts, or holds something other than a model.
        FormatError: the file does not say.
    """
    kind = metadata.text("general.type") if "general.type" in metadata else "model"
    if kind != "model":
        raise UnsupportedFormatError(f"{path} holds no model but a GGUF {kind!r}")
    if "split.count" in metadata and metadata.integer("split.count") > 1:
        raise UnsupportedFormatError(
            f"{path} is one of {metadata.integer('split.count')} parts of a model. "
            "Join them with llama-gguf-split --merge first."
        )
    if "general.architecture" not in metadata:
        raise FormatError(
            f"{path} is a GGUF file that does not say what it holds: general.architecture is missing. "
            "It is damaged, or was not written as a model."
        )
    architecture = metadata.text("general.architecture")
    if architecture in ARCHITECTURES:
        return architecture
    reason = _REFUSED.get(architecture, f"this release runs {', '.join(ARCHITECTURES)}")
    raise UnsupportedModelError(f"{path}: the architecture {architecture!r} is not supported: {reason}")


def model_fields(
    metadata: Metadata,
    tensors: Mapping[str, StoredGgufTensor],
    vocabulary: GgufVocabulary | None,
    path: Path,
) -> dict[str, Any]:
    """Return what the file says of its model; the module's docstring lists the fields that may be missing.

    `quantize_activations` and `rotation` are added by `tercet.formats.gguf.model`.

    Raises:
        FormatError: a field is missing or impossible, or the file's parts do not fit together.
        UnsupportedModelError: the architecture, or an option of it, is one that this release does not run.
    """
    architecture = gguf_architecture(metadata, path)
    family, activation = ARCHITECTURES[architecture]
    keys = _Keys(metadata, architecture)
    _refuse_options(keys, path)
    hidden_size = keys.count("embedding_length")
    num_heads = keys.uniform("attention.head_count")
    head_dim = _head_dim(keys, hidden_size, num_heads, path)
    fields: dict[str, Any] = {
        "architecture": family,
        "hidden_size": hidden_size,
        "ffn_size": keys.uniform("feed_forward_length"),
        "num_layers": keys.count("block_count"),
        "num_heads": num_heads,
        "num_kv_heads": keys.uniform("attention.head_count_kv", default=num_heads),
        "head_dim": head_dim,
        "vocab_size": _vocab_size(keys, tensors, vocabulary, path),
        "max_context": keys.count("context_length"),
        "rope_theta": keys.number("rope.freq_base", default=10_000.0),
        "rms_norm_eps": keys.number("attention.layer_norm_rms_epsilon"),
        "activation": activation,
        "attention_sub_norm": "blk.0.attn_sub_norm.weight" in tensors,
        "ffn_sub_norm": "blk.0.ffn_sub_norm.weight" in tensors,
        "tied_embeddings": "output.weight" not in tensors,
    }
    return fields | _token_ids(vocabulary) | _options(keys, tensors, family, hidden_size)


def generation_settings(metadata: Metadata) -> dict[str, Any]:
    """Return the sampling settings that a file recommends, under the names of `SamplingParams`.

    Raises:
        FormatError: one of them is not a number.
    """
    settings: dict[str, Any] = {}
    for theirs, ours in _SAMPLING.items():
        key = f"general.sampling.{theirs}"
        if key in metadata:
            settings[ours] = metadata.integer(key) if theirs == "top_k" else metadata.number(key)
    return settings


class _Keys:
    """The metadata below the name of the architecture."""

    def __init__(self, metadata: Metadata, architecture: str) -> None:
        self.metadata = metadata
        self.prefix = f"{architecture}."

    def __contains__(self, key: str) -> bool:
        return self.prefix + key in self.metadata

    def count(self, key: str) -> int:
        return self.metadata.integer(self.prefix + key, 1, LARGEST)

    def uniform(self, key: str, default: int | None = None) -> int:
        """A count that a file may also give for each layer, if it is the same for all."""
        if default is not None and key not in self:
            return default
        return self.metadata.uniform_integer(self.prefix + key, 1, LARGEST)

    def number(self, key: str, default: float | None = None) -> float:
        return default if default is not None and key not in self else self.metadata.number(self.prefix + key)

    def text(self, key: str) -> str:
        return self.metadata.text(self.prefix + key)


def _refuse_options(keys: _Keys, path: Path) -> None:
    for key, neutral in _NEUTRAL:
        if key not in keys:
            continue
        value = keys.metadata[keys.prefix + key].value
        if not isinstance(value, (int, float)) or value != neutral:
            raise UnsupportedModelError(
                f"{path}: this release does not run models with {keys.prefix}{key} = {repr(value)[:40]}"
            )


def _head_dim(keys: _Keys, hidden_size: int, num_heads: int, path: Path) -> int:
    if "attention.key_length" not in keys and hidden_size % num_heads:
        raise FormatError(
            f"{path}: {hidden_size} channels do not divide into {num_heads} heads, and the file does not "
            "say how wide a head is"
        )
    head_dim = keys.uniform("attention.key_length", default=max(1, hidden_size // num_heads))
    for key in ("attention.value_length", "rope.dimension_count"):
        if keys.uniform(key, default=head_dim) != head_dim:
            raise UnsupportedModelError(
                f"{path}: this release runs models whose heads are turned and used as a whole; here "
                f"{keys.prefix}{key} is {keys.uniform(key)} and a head has {head_dim} channels"
            )
    return head_dim


def _vocab_size(
    keys: _Keys, tensors: Mapping[str, StoredGgufTensor], vocabulary: GgufVocabulary | None, path: Path
) -> int:
    """The rows of the embedding, with which everything else must agree."""
    if EMBEDDING not in tensors:
        raise FormatError(f"{path} holds no embedding ({EMBEDDING}), so it is no complete model")
    rows = tensors[EMBEDDING].rows
    claims = {"the vocabulary": len(vocabulary.tokens)} if vocabulary is not None else {}
    if "vocab_size" in keys:
        claims[f"{keys.prefix}vocab_size"] = keys.count("vocab_size")
    for source, claim in claims.items():
        if claim != rows:
            raise FormatError(
                f"{path}: {source} has {claim} tokens, but the embedding has {rows} rows. "
                "They do not belong together."
            )
    return rows


def _token_ids(vocabulary: GgufVocabulary | None) -> dict[str, Any]:
    special = vocabulary.special_ids if vocabulary is not None else {}
    return {
        "bos_token_id": special.get("bos"),
        "eos_token_ids": vocabulary.end_ids if vocabulary is not None else (),
        "pad_token_id": special.get("padding"),
    }


def _options(
    keys: _Keys, tensors: Mapping[str, StoredGgufTensor], family: str, hidden_size: int
) -> dict[str, Any]:
    """The fields that most models do not have."""
    present = {
        "qk_norm": "blk.0.attn_q_norm.weight",
        "projection_norms": "blk.0.attn_q_norm_in.weight",
        "post_norms": "blk.0.post_attention_norm.weight",
        "rope_factors": "rope_freqs.weight",
    }
    options: dict[str, Any] = {field: True for field, name in present.items() if name in tensors}
    if family == "gemma3":
        options["embedding_scale"] = math.sqrt(hidden_size)
    if scaling := _rope_scaling(keys):
        options["rope_scaling"] = scaling
    options |= _sliding_window(keys)
    if "pooling_type" in keys:
        pooling = _POOLING[keys.metadata.integer(keys.prefix + "pooling_type", 0, len(_POOLING) - 1)]
        if pooling != "none":
            options["pooling"] = pooling
    return options


def _rope_scaling(keys: _Keys) -> dict[str, Any]:
    kind = keys.text("rope.scaling.type") if "rope.scaling.type" in keys else "linear"
    key = "rope.scaling.factor" if "rope.scaling.factor" in keys else "rope.scale_linear"
    factor = keys.number(key, default=1.0) or 1.0
    scaling: dict[str, Any] = {"kind": kind, "factor": factor}
    if "rope.scaling.original_context_length" in keys:
        scaling["original_max_context"] = keys.count("rope.scaling.original_context_length")
    for theirs, ours in _SCALING_NUMBERS.items():
        if f"rope.scaling.{theirs}" in keys:
            scaling[ours] = keys.number(f"rope.scaling.{theirs}")
    # "linear" by 1 is how converters say that there is none.
    return {} if kind == "none" or (kind == "linear" and factor == 1.0) else scaling


def _sliding_window(keys: _Keys) -> dict[str, Any]:
    """Gemma3: every sixth layer sees everything, the others so many tokens, with a RoPE base of their own."""
    window, pattern = "attention.sliding_window", "attention.sliding_window_pattern"
    if window not in keys or keys.metadata.integer(keys.prefix + window) == 0:
        return {}
    return {
        "sliding_window": keys.count(window),
        "sliding_pattern": keys.count(pattern) if pattern in keys else 6,
        "rope_local_theta": keys.number("rope.freq_base_swa", default=10_000.0),
    }
