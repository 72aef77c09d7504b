"""`config.json` of a `BitNetForCausalLM` <-> the fields of `tercet.models.config.ModelConfig`.

A folder without a `quantization_config` holds a full-precision model and is taken as it is. With one, this
release reads the master form: float weights that become ternary as they are loaded (`autobitlinear`,
`online`).

Source: transformers, `models/bitnet/configuration_bitnet.py` and `integrations/bitnet.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from tercet.errors import ParameterError, UnsupportedModelError
from tercet.formats.fields import Fields
from tercet.formats.huggingface.generation import from_settings

__all__ = ["config_to_huggingface", "from_model_fields", "has_ternary_masters", "to_model_fields"]

MODEL_TYPE = "bitnet"
ARCHITECTURE = "BitNetForCausalLM"
DEFAULT_ROPE_THETA = 500_000.0
"""What transformers assumes for this model type when the file does not say."""

_DTYPE_NAMES = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}
_MASTER_QUANTIZATION = {
    "quant_method": "bitnet",
    "linear_class": "autobitlinear",
    "quantization_mode": "online",
}


def to_model_fields(config: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """Translate the parsed `config.json` into what `ModelConfig.from_dict` takes.

    Raises:
        FormatError: a field is missing or of the wrong type.
        UnsupportedModelError: the architecture, or an option of it, is one that this release does not run.
    """
    fields = Fields(config, file, "config")
    _refuse_other_models(fields, file)
    hidden_size = fields.integer("hidden_size", 1)
    num_heads = fields.integer("num_attention_heads", 1)
    if "head_dim" not in fields and hidden_size % num_heads:
        raise fields.error(
            "hidden_size", f"a multiple of num_attention_heads, {num_heads}, as there is no head_dim"
        )
    return {
        "architecture": "bitnet",
        "hidden_size": hidden_size,
        "ffn_size": fields.integer("intermediate_size", 1),
        "num_layers": fields.integer("num_hidden_layers", 1),
        "num_heads": num_heads,
        "num_kv_heads": fields.integer("num_key_value_heads", 1)
        if "num_key_value_heads" in fields
        else num_heads,
        "head_dim": fields.integer("head_dim", 1) if "head_dim" in fields else hidden_size // num_heads,
        "vocab_size": fields.integer("vocab_size", 1),
        "max_context": fields.integer("max_position_embeddings", 1),
        "rope_theta": _rope_theta(fields, file),
        "rms_norm_eps": fields.number("rms_norm_eps"),
        "activation": fields.text("hidden_act"),
        "attention_sub_norm": True,
        "ffn_sub_norm": True,
        "tied_embeddings": fields.flag("tie_word_embeddings") if "tie_word_embeddings" in fields else False,
        "quantize_activations": has_ternary_masters(config, file),
        "bos_token_id": fields.integer("bos_token_id") if "bos_token_id" in fields else None,
        "eos_token_ids": fields.one_or_more_integers("eos_token_id"),
        "pad_token_id": fields.integer("pad_token_id") if "pad_token_id" in fields else None,
    }


class _Config(Protocol):
    """A `tercet.models.config.ModelConfig`, which this layer must not import."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON-compatible values."""


def config_to_huggingface(config: _Config, dtype: str = "bfloat16") -> dict[str, dict[str, Any]]:
    """Return the content of `config.json` and `generation_config.json` for master weights of type `dtype`.

    Raises:
        ParameterError: a `BitNetForCausalLM` cannot be like this, or there is no such type.
    """
    float_types = {name: float_type for float_type, name in _DTYPE_NAMES.items()}
    if dtype not in float_types:
        raise ParameterError(f"weights are saved as one of {', '.join(float_types)}, not {dtype!r}")
    fields = config.to_dict()
    ends = (fields["bos_token_id"], fields["eos_token_ids"], fields["pad_token_id"])
    return {
        "config.json": from_model_fields(fields, float_types[dtype]),
        "generation_config.json": from_settings({}, *ends),
    }


def has_ternary_masters(config: Mapping[str, Any], file: Path) -> bool:
    """Say whether the linear layers are masters that become ternary, or floats that stay as they are.

    Raises:
        UnsupportedModelError: they are stored in a way that this release does not read.
    """
    fields = Fields(config, file, "config")
    if "quantization_config" not in fields:
        return False
    quantization = fields.object("quantization_config")
    method = quantization.text("quant_method")
    linear_class = quantization.text("linear_class") if "linear_class" in quantization else "bitlinear"
    mode = quantization.text("quantization_mode") if "quantization_mode" in quantization else "offline"
    if (method, linear_class, mode) != tuple(_MASTER_QUANTIZATION.values()):
        raise UnsupportedModelError(
            f"{file}: the weights are stored as {method}, {linear_class}, {mode}. This release reads master "
            "weights (bitnet, autobitlinear, online) and models without quantization_config: "
            "look for the bf16 variant of the model."
        )
    if "use_rms_norm" in quantization and quantization.flag("use_rms_norm"):
        raise UnsupportedModelError(
            f"{file}: this release does not run models with a norm in every linear layer"
        )
    if "modules_to_not_convert" in quantization:
        kept = config["quantization_config"]["modules_to_not_convert"]
        if kept not in ([], ["lm_head"]):
            raise UnsupportedModelError(
                f"{file}: this release does not run models that keep some layers ({kept}) as floats"
            )
    return True


def from_model_fields(model: Mapping[str, Any], float_type: str) -> dict[str, Any]:
    """Make a `config.json` from what `ModelConfig.to_dict` returns.

    A model that rounds its activations has ternary weights, and the folder will say so; any other is saved as
    a full-precision model. `float_type` (`f32`, `f16`, `bf16`) is how the weights beside it are stored.

    Raises:
        ParameterError: a `BitNetForCausalLM` cannot be like this.
    """
    if not (model["attention_sub_norm"] and model["ffn_sub_norm"]):
        raise ParameterError(
            "a BitNetForCausalLM has both sub-norms; this model has not, so it cannot be saved as one"
        )
    if model["num_heads"] * model["head_dim"] != model["hidden_size"]:
        raise ParameterError("a BitNetForCausalLM has heads as wide as the model; this model has not")
    eos = list(model["eos_token_ids"])
    config = {
        "architectures": [ARCHITECTURE],
        "model_type": MODEL_TYPE,
        "hidden_size": model["hidden_size"],
        "intermediate_size": model["ffn_size"],
        "num_hidden_layers": model["num_layers"],
        "num_attention_heads": model["num_heads"],
        "num_key_value_heads": model["num_kv_heads"],
        "head_dim": model["head_dim"],
        "vocab_size": model["vocab_size"],
        "max_position_embeddings": model["max_context"],
        # Once for transformers 4 and once for transformers 5.
        "rope_theta": model["rope_theta"],
        "rope_parameters": {"rope_theta": model["rope_theta"], "rope_type": "default"},
        "rms_norm_eps": model["rms_norm_eps"],
        "hidden_act": model["activation"],
        "attention_bias": False,
        "tie_word_embeddings": model["tied_embeddings"],
        "bos_token_id": model["bos_token_id"],
        "eos_token_id": eos[0] if len(eos) == 1 else eos or None,
        "pad_token_id": model["pad_token_id"],
        "dtype": _DTYPE_NAMES[float_type],
    }
    if model["quantize_activations"]:
        config["quantization_config"] = dict(_MASTER_QUANTIZATION)
    return config


def _refuse_other_models(fields: Fields, file: Path) -> None:
    model_type = fields.text("model_type")
    if model_type != MODEL_TYPE:
        raise UnsupportedModelError(
            f"{file}: the model is of type {model_type!r}; this release reads {MODEL_TYPE!r} ({ARCHITECTURE})"
        )
    if "attention_bias" in fields and fields.flag("attention_bias"):
        raise UnsupportedModelError(f"{file}: this release does not run models with biases in attention")


def _rope_theta(fields: Fields, file: Path) -> float:
    """transformers 5 writes `rope_parameters`, 4 wrote `rope_theta` and `rope_scaling`."""
    for key in ("rope_parameters", "rope_scaling"):
        if key in fields:
            rope = fields.object(key)
            kind = (
                rope.text("rope_type")
                if "rope_type" in rope
                else rope.text("type")
                if "type" in rope
                else "default"
            )
            if kind != "default":
                raise UnsupportedModelError(
                    f"{file}: this release does not run models with RoPE scaling of type {kind!r}"
                )
            if "partial_rotary_factor" in rope and rope.number("partial_rotary_factor") != 1:
                raise UnsupportedModelError(
                    f"{file}: this release does not run models that rotate a part of each head"
                )
            if "rope_theta" in rope:
                return rope.number("rope_theta")
    return fields.number("rope_theta") if "rope_theta" in fields else DEFAULT_ROPE_THETA
