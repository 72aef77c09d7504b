"""Writing `config.json`: which class of transformers a model is, and how its linear layers are stored.

    online    float masters that become ternary when they are used: what training goes on from
    packed    uint8 codes and a multiplier for each matrix: small, for running
    floats    weights used as they are; a model whose activations are not rounded has no other form

What a class cannot express is refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from tercet.errors import ParameterError
from tercet.formats.huggingface.families import Family, family_named
from tercet.formats.huggingface.generation import from_settings
from tercet.formats.huggingface.quantization import OFFLINE_CONFIG, ONLINE_CONFIG, OWN_CLASS, RULES
from tercet.formats.huggingface.rope import rope_parameters

__all__ = ["STORAGES", "config_to_huggingface", "family_of_model", "from_model_fields"]

STORAGES = ("online", "packed", "floats")
_DTYPE_NAMES = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}
_ACTIVATIONS = {"silu": "silu", "relu2": "relu2", "gelu_tanh": "gelu_pytorch_tanh"}


class _Config(Protocol):
    """A `tercet.models.config.ModelConfig`, which this layer must not import."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON-compatible values."""


def config_to_huggingface(
    config: _Config, dtype: str = "bfloat16", storage: str | None = None
) -> dict[str, dict[str, Any]]:
    """Return the content of `config.json` and `generation_config.json` for master weights of type `dtype`.

    `storage` is one of `STORAGES`; by default `online`, or `floats` where activations are not rounded.

    Raises:
        ParameterError: no class of transformers is like this, or there is no such type.
    """
    float_types = {name: float_type for float_type, name in _DTYPE_NAMES.items()}
    if dtype not in float_types:
        raise ParameterError(f"weights are saved as one of {', '.join(float_types)}, not {dtype!r}")
    fields = config.to_dict()
    ends = (fields["bos_token_id"], fields["eos_token_ids"], fields["pad_token_id"])
    storage = storage or ("online" if fields["quantize_activations"] else "floats")
    return {
        "config.json": from_model_fields(fields, float_types[dtype], storage),
        "generation_config.json": from_settings({}, *ends),
    }


def family_of_model(model: Mapping[str, Any]) -> Family:
    """Return the class of transformers that a model is. `model` is what `ModelConfig.to_dict` returns.

    Raises:
        ParameterError: none is like it; the message says what stands in the way.
    """
    sub_norms = (model["attention_sub_norm"], model["ffn_sub_norm"])
    qk_norm, post_norms = model.get("qk_norm", False), model.get("post_norms", False)
    has_head = not model.get("pooling")
    if any(sub_norms):
        if not all(sub_norms) or qk_norm or post_norms or not has_head:
            raise ParameterError(
                "a BitNetForCausalLM has both sub-norms, and no other norms; this model has not"
            )
        if model["num_heads"] * model["head_dim"] != model["hidden_size"]:
            raise ParameterError("a BitNetForCausalLM has heads as wide as the model; this model has not")
        return family_named("BitNetForCausalLM")
    if post_norms:
        if not qk_norm:
            raise ParameterError("a Gemma3ForCausalLM normalizes queries and keys; this model does not")
        return family_named("Gemma3ForCausalLM" if has_head else "Gemma3TextModel")
    if qk_norm:
        return family_named("Qwen3ForCausalLM" if has_head else "Qwen3Model")
    if not has_head:
        raise ParameterError("transformers has no embedding model of this architecture that Tercet writes")
    return family_named("LlamaForCausalLM")


def from_model_fields(model: Mapping[str, Any], float_type: str, storage: str) -> dict[str, Any]:
    """Make a `config.json` from what `ModelConfig.to_dict` returns.

    `float_type` (`f32`, `f16`, `bf16`) is how float weights are stored, `storage` one of `STORAGES`.

    Raises:
        ParameterError: no class of transformers is like this, or this storage says something else.
    """
    family = family_of_model(model)
    eos = list(model["eos_token_ids"])
    config = {
        "architectures": [family.class_name],
        "model_type": family.model_type,
        "hidden_size": model["hidden_size"],
        "intermediate_size": model["ffn_size"],
        "num_hidden_layers": model["num_layers"],
        "num_attention_heads": model["num_heads"],
        "num_key_value_heads": model["num_kv_heads"],
        "head_dim": model["head_dim"],
        "vocab_size": model["vocab_size"],
        "max_position_embeddings": model["max_context"],
        "rms_norm_eps": model["rms_norm_eps"],
        "attention_bias": False,
        "tie_word_embeddings": model["tied_embeddings"],
        "bos_token_id": model["bos_token_id"],
        "eos_token_id": eos[0] if len(eos) == 1 else eos or None,
        "pad_token_id": model["pad_token_id"],
        "dtype": _DTYPE_NAMES[float_type],
        **(_gemma(model) if family.name == "gemma3" else _others(model, family)),
    }
    quantization = _quantization(model, storage)
    return config | ({"quantization_config": quantization} if quantization else {})


def _others(model: Mapping[str, Any], family: Family) -> dict[str, Any]:
    for key, neutral in (("embedding_scale", 1.0), ("attention_scale", None), ("sliding_window", None)):
        if model.get(key, neutral) != neutral:
            raise ParameterError(f"a {family.class_name} has no {key}; this model has {model[key]}")
    scaling = model.get("rope_scaling")
    own = {"llama": {"mlp_bias": False}, "qwen3": {"use_sliding_window": False}}.get(family.name, {})
    # Once for transformers 4 and once for transformers 5.
    twice = rope_parameters(model["rope_theta"], scaling)
    version4 = {key: value for key, value in twice.items() if key != "rope_theta"} if scaling else None
    return {
        "hidden_act": _ACTIVATIONS[model["activation"]],
        "rope_theta": model["rope_theta"],
        **({"rope_scaling": version4} if version4 else {}),
        "rope_parameters": twice,
        **own,
    }


def _gemma(model: Mapping[str, Any]) -> dict[str, Any]:
    if abs(model.get("embedding_scale", 1.0) - model["hidden_size"] ** 0.5) > 1e-3:
        raise ParameterError("a Gemma3ForCausalLM scales its embedding by the root of hidden_size")
    scale = model.get("attention_scale") or model["head_dim"] ** -0.5
    scalar = round(scale**-2)
    if abs(scalar**-0.5 - scale) > 1e-6 * scale:
        raise ParameterError(f"a Gemma3ForCausalLM scales scores by n ** -0.5, and {scale} is not like that")
    window, pattern = model.get("sliding_window"), model.get("sliding_pattern")
    slides = [bool(window and pattern and (layer + 1) % pattern) for layer in range(model["num_layers"])]
    theta = model["rope_theta"]
    return {
        "hidden_activation": _ACTIVATIONS[model["activation"]],
        "query_pre_attn_scalar": scalar,
        "sliding_window": window or model["max_context"],
        "layer_types": ["sliding_attention" if slide else "full_attention" for slide in slides],
        "rope_parameters": {
            "full_attention": rope_parameters(theta, model.get("rope_scaling")),
            "sliding_attention": rope_parameters(model.get("rope_local_theta") or theta, None),
        },
    }


def _quantization(model: Mapping[str, Any], storage: str) -> dict[str, Any] | None:
    has_norms = model.get("projection_norms", False)
    if storage == "floats":
        if model["quantize_activations"] or has_norms:
            raise ParameterError(
                "the model rounds its activations, which a folder of plain floats does not say"
            )
        if model.get("rotation"):
            raise ParameterError("the weights are in a rotated basis, which no class of transformers knows")
        return None
    rules = {key: model[key] for key in RULES if model.get(key)}
    if not model["quantize_activations"] and storage == "online":
        rules["activation_rule"] = "none"
    elif not model["quantize_activations"]:
        raise ParameterError(
            "the model's activations are not rounded, and those of every BitLinear of transformers are: "
            "write a folder of floats (huggingface)"
        )
    quantization = dict(ONLINE_CONFIG if storage == "online" else OFFLINE_CONFIG)
    if storage == "packed" and rules.get("weight_rule"):
        del rules["weight_rule"]  # the codes are there
    if rules:
        quantization |= {"linear_class": OWN_CLASS, **rules}
    if has_norms:
        eps = model.get("projection_norm_eps") or model["rms_norm_eps"]
        quantization |= {"use_rms_norm": True, "rms_norm_eps": eps}
    return quantization
