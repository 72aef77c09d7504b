"""Reading `config.json`: what it says of the decoder, as the fields of `tercet.models.config.ModelConfig`.

What Tercet does not run is refused by name: an option that is read past would give a model that answers, and
answers wrongly. Options at the value that changes nothing are accepted.

Source: transformers 5.23, the configuration classes of the models in `families`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tercet.errors import UnsupportedModelError
from tercet.formats.fields import Fields
from tercet.formats.huggingface.config_writer import config_to_huggingface
from tercet.formats.huggingface.families import Family, find_family
from tercet.formats.huggingface.quantization import ONLINE, Quantization, parse_quantization
from tercet.formats.huggingface.rope import rope_fields

__all__ = ["config_to_huggingface", "family_of", "quantization_of", "to_model_fields"]

_ACTIVATIONS = {
    "silu": "silu",
    "swish": "silu",
    "relu2": "relu2",
    "gelu_pytorch_tanh": "gelu_tanh",
}
_BIASES = ("attention_bias", "mlp_bias")
_CAPS = ("final_logit_softcapping", "attn_logit_softcapping")
GEMMA_SLIDING_PATTERN = 6
"""Every how many layers one of Gemma 3 sees everything, where the file does not say."""


def family_of(config: Mapping[str, Any], file: Path) -> Family:
    """Return the family of a parsed `config.json`. Raises UnsupportedModelError, saying why."""
    return find_family(Fields(config, file, "config"), file)


def quantization_of(config: Mapping[str, Any], file: Path) -> Quantization:
    """Say how the linear layers are stored. Raises UnsupportedModelError where Tercet does not read them."""
    if family_of(config, file).name != "1bitllm":
        return parse_quantization(config, file)
    fields = Fields(config, file, "config")
    if "input_bits" in fields and fields.integer("input_bits") != 8:
        raise UnsupportedModelError(
            f"{file}: activations of {fields.integer('input_bits')} bits; Tercet rounds them to 8"
        )
    # 1bitLLM's own code takes `weight_bits: 1` and rounds to three values whatever it says.
    return ONLINE


def to_model_fields(config: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """Translate the parsed `config.json` into what `ModelConfig.from_dict` takes.

    Options that only some families have are named where they differ from doing nothing.

    Raises:
        FormatError: a field is missing or of the wrong type.
        UnsupportedModelError: the architecture, or an option of it, is one that Tercet does not run.
    """
    fields = Fields(config, file, "config")
    family = find_family(fields, file)
    _refuse_biases_and_caps(fields, file)
    quantization = quantization_of(config, file)
    has_sub_norms = family.architecture == "bitnet"
    made = {
        "architecture": family.architecture,
        "hidden_size": fields.integer("hidden_size", 1),
        "ffn_size": fields.integer("intermediate_size", 1),
        "num_layers": fields.integer("num_hidden_layers", 1),
        **_heads(fields, family),
        "vocab_size": fields.integer("vocab_size", 1),
        "max_context": fields.integer("max_position_embeddings", 1),
        **rope_fields(fields, file, family.default_rope_theta),
        "rms_norm_eps": fields.number("rms_norm_eps"),
        "activation": _activation(fields, file),
        "attention_sub_norm": has_sub_norms,
        "ffn_sub_norm": has_sub_norms,
        "tied_embeddings": _tied(fields, family),
        "quantize_activations": quantization.is_ternary,
        "bos_token_id": fields.integer("bos_token_id") if "bos_token_id" in fields else None,
        "eos_token_ids": fields.one_or_more_integers("eos_token_id"),
        "pad_token_id": fields.integer("pad_token_id") if "pad_token_id" in fields else None,
    }
    made |= quantization.rules
    if quantization.norm_eps is not None:
        made["projection_norms"] = True
        if quantization.norm_eps != made["rms_norm_eps"]:
            made["projection_norm_eps"] = quantization.norm_eps
    if family.name in ("qwen3", "gemma3"):
        made["qk_norm"] = True
    if family.name == "gemma3":
        made |= _gemma(fields, file, made["hidden_size"], made["num_layers"])
    else:
        made.pop("rope_local_theta", None)
        _refuse_windows(fields, file)
    return made


def _heads(fields: Fields, family: Family) -> dict[str, int]:
    hidden_size, num_heads = fields.integer("hidden_size", 1), fields.integer("num_attention_heads", 1)
    if "head_dim" in fields:
        head_dim = fields.integer("head_dim", 1)
    elif family.head_dim is not None:
        head_dim = family.head_dim
    elif hidden_size % num_heads:
        raise fields.error(
            "hidden_size", f"a multiple of num_attention_heads, {num_heads}, as there is no head_dim"
        )
    else:
        head_dim = hidden_size // num_heads
    kv = fields.integer("num_key_value_heads", 1) if "num_key_value_heads" in fields else num_heads
    return {"num_heads": num_heads, "num_kv_heads": kv, "head_dim": head_dim}


def _tied(fields: Fields, family: Family) -> bool:
    if not family.has_head:
        return True  # no head is stored; where logits are asked for, the embedding serves
    key = "tie_word_embeddings"
    return fields.flag(key) if key in fields else family.tied_by_default


def _activation(fields: Fields, file: Path) -> str:
    # Gemma has both keys, and runs the second.
    key = "hidden_activation" if "hidden_activation" in fields else "hidden_act"
    name = fields.text(key)
    if name not in _ACTIVATIONS:
        raise UnsupportedModelError(
            f"{file}: {key} is {name!r}; Tercet runs models with {', '.join(_ACTIVATIONS)}"
        )
    return _ACTIVATIONS[name]


def _gemma(fields: Fields, file: Path, hidden_size: int, num_layers: int) -> dict[str, Any]:
    if "use_bidirectional_attention" in fields and fields.flag("use_bidirectional_attention"):
        raise UnsupportedModelError(
            f"{file}: attention sees both ways (an encoder); in a decoder, which Tercet runs, no token sees "
            "a later one"
        )
    made: dict[str, Any] = {"post_norms": True, "embedding_scale": float(hidden_size) ** 0.5}
    scalar = fields.number("query_pre_attn_scalar") if "query_pre_attn_scalar" in fields else 256.0
    if scalar <= 0:
        raise fields.error("query_pre_attn_scalar", "a positive number")
    made["attention_scale"] = scalar**-0.5
    pattern = _sliding_pattern(fields, file, num_layers)
    if pattern is None or "sliding_window" not in fields:
        return made
    window = {"sliding_window": fields.integer("sliding_window", 1), "sliding_pattern": pattern}
    known = {} if _has_local_theta(fields) else {"rope_local_theta": 10_000.0}
    return made | window | known


def _has_local_theta(fields: Fields) -> bool:
    return "rope_local_base_freq" in fields or (
        "rope_parameters" in fields and "sliding_attention" in fields.object("rope_parameters")
    )


def _sliding_pattern(fields: Fields, file: Path, num_layers: int) -> int | None:
    """Return every how many layers one sees everything, or None if all do."""
    given = next(
        (key for key in ("sliding_window_pattern", "_sliding_window_pattern") if key in fields), None
    )
    pattern = fields.integer(given, 1) if given else GEMMA_SLIDING_PATTERN
    if "layer_types" not in fields:
        return pattern
    kinds = fields.texts("layer_types")
    if not set(kinds) <= {"full_attention", "sliding_attention"} or len(kinds) != num_layers:
        raise fields.error("layer_types", f"full_attention or sliding_attention, {num_layers} times")
    if "sliding_attention" not in kinds:
        return None
    candidates: Sequence[int] = (pattern, *range(2, num_layers + 2))
    fits = next((candidate for candidate in candidates if _kinds(candidate, num_layers) == kinds), None)
    if fits is not None:
        return fits
    raise UnsupportedModelError(
        f"{file}: layers with a sliding window and without follow each other in an order that Tercet "
        "does not run: every n-th layer sees everything"
    )


def _kinds(pattern: int, num_layers: int) -> Sequence[str]:
    return tuple(
        "sliding_attention" if (layer + 1) % pattern else "full_attention" for layer in range(num_layers)
    )


def _refuse_windows(fields: Fields, file: Path) -> None:
    """Qwen 3 can have a window and has not: `use_sliding_window` is false in every published config."""
    asked = "use_sliding_window" in fields and fields.flag("use_sliding_window")
    if "layer_types" in fields:
        asked = "sliding_attention" in fields.texts("layer_types")
    if asked:
        raise UnsupportedModelError(f"{file}: Tercet does not run this family with a sliding window")


def _refuse_biases_and_caps(fields: Fields, file: Path) -> None:
    for key in _BIASES:
        if key in fields and fields.flag(key):
            raise UnsupportedModelError(f"{file}: {key} is true, and Tercet does not run models with biases")
    for key in _CAPS:
        if key in fields:
            raise UnsupportedModelError(f"{file}: {key} is set, and Tercet does not cap logits")
