"""A GGUF file as loading takes it: the file's own parts, joined with what they mean for a model of ours.

    vocabulary in the file     -> tokenizer.json, ids that begin and end a text, chat template
    tensor rope_freqs          -> RoPE scaling by factors, since that is all it is
    prism.hadamard.*           -> the config's rotation, under our names of the matrices

A vocabulary that we cannot tokenize exactly leaves a model that takes token ids, and a remark that says why.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterable, Mapping
from typing import Any

from tercet.errors import FormatError, UnsupportedFormatError, UnsupportedModelError
from tercet.formats.gguf import GgufModel, HadamardRotation, KernelConfig, open_gguf, stored_model
from tercet.formats.gguf.tensor_names import from_gguf
from tercet.formats.gguf.tensor_types import I2SLayout
from tercet.formats.matrices import FloatMatrix
from tercet.formats.stored_model import StoredModel
from tercet.models.rotation import Rotation
from tercet.tokenization.gguf_vocab import read_gguf_vocabulary

__all__ = ["read_gguf_model"]

ROPE_FACTORS = "rope_factors"
NEUTRAL_SCALING = {"extrapolation_factor": 1.0, "log_multiplier": 0.1}
"""Numbers of YaRN that a file may give and that nobody changes: (key, the value that it has anyway)."""


def read_gguf_model(
    path: str | os.PathLike[str], layout: I2SLayout | None = None, kernels: KernelConfig | None = None
) -> StoredModel:
    """Open a GGUF file for `tercet.models.loading`.

    Args:
        path: the file.
        layout: how its I2_S tensors lie, if the caller knows; otherwise that is found out.
        kernels: for TL1 and TL2, the kernel config of the build that made the file.

    Raises:
        FormatError: it is damaged, or its parts do not fit together.
        UnsupportedFormatError, UnsupportedModelError: it is of a kind that this release does not read or run.
    """
    model = open_gguf(path, layout=layout, kernels=kernels)
    stored = stored_model(model)
    fields = dict(stored.model_fields)
    weights = dict(stored.weights)
    if fields.pop(ROPE_FACTORS, False):
        fields["rope_scaling"] = _scaling_by_factors(model, fields, weights.pop(ROPE_FACTORS).read())
    elif "rope_scaling" in fields:
        fields["rope_scaling"] = _scaling(model, fields)
    if isinstance(rotation := fields.get("rotation"), HadamardRotation):
        fields["rotation"] = _rotation(rotation)
    if pooling := fields.get("pooling"):
        if pooling != "last":
            raise UnsupportedModelError(
                f"{model.path} is an embedding model that pools {pooling!r}; "
                "this release pools the last token"
            )
        fields["normalize_embeddings"] = True
    return _with_vocabulary(dataclasses.replace(stored, model_fields=fields, weights=weights), model)


def _with_vocabulary(stored: StoredModel, model: GgufModel) -> StoredModel:
    if model.vocabulary is None:
        remark = "the file has no vocabulary: it takes token ids, but no text"
        return dataclasses.replace(stored, remarks=(*stored.remarks, remark))
    try:
        vocabulary = read_gguf_vocabulary(model.vocabulary, str(model.path))
    except UnsupportedFormatError as error:
        return dataclasses.replace(stored, remarks=(*stored.remarks, f"no tokenizer: {error}"))
    ids = {
        "bos_token_id": vocabulary.bos_token_id,
        "add_bos": vocabulary.add_bos,
        "eos_token_ids": vocabulary.eos_token_ids,
        "pad_token_id": vocabulary.pad_token_id,
    }
    return dataclasses.replace(
        stored,
        model_fields={**stored.model_fields, **ids},
        tokenizer_json=vocabulary.tokenizer_json,
        chat_template=vocabulary.chat_template,
        remarks=(*stored.remarks, *vocabulary.remarks),
    )


def _scaling_by_factors(model: GgufModel, fields: Mapping[str, Any], factors: object) -> dict[str, Any]:
    if "rope_scaling" in fields:
        raise UnsupportedModelError(
            f"{model.path} scales RoPE twice, by rope_freqs and by {fields['rope_scaling']}; "
            "no known model does"
        )
    if not isinstance(factors, FloatMatrix) or factors.data.size != fields["head_dim"] // 2:
        raise FormatError(
            f"{model.path}: rope_freqs does not have one number for each of the {fields['head_dim'] // 2} "
            "pairs of a head"
        )
    values = factors.float32().reshape(-1).tolist()
    if not all(value > 0 for value in values):
        raise FormatError(f"{model.path}: rope_freqs holds {min(values):g}, expected positive numbers")
    return {"kind": "factors", "factors": values}


def _scaling(model: GgufModel, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fill in what llama.cpp assumes where a file does not say it, and leave out what means nothing."""
    said = dict(fields["rope_scaling"])
    for key, neutral in NEUTRAL_SCALING.items():
        if (found := said.pop(key, neutral)) != neutral:
            raise UnsupportedModelError(
                f"{model.path}: this release runs YaRN with {key} {neutral}, not {found}"
            )
    kind, factor = said["kind"], said["factor"]
    if kind == "yarn":
        return {
            "kind": kind,
            "factor": factor,
            "original_max_context": said.get("original_max_context", fields["max_context"]),
            "beta_fast": said.get("beta_fast", 32.0),
            "beta_slow": said.get("beta_slow", 1.0),
            # A file's attn_factor comes on top of what the paper multiplies by.
            "attention_factor": said.get("attention_factor", 1.0) * (1 + 0.1 * math.log(factor)),
        }
    return {"kind": kind, "factor": factor} if kind == "linear" else said


def _rotation(rotation: HadamardRotation) -> Rotation:
    head = ["embedding"] if rotation.tied_output else []
    return Rotation.of_signs(
        rotation.block_size,
        [*_our_names(rotation.weight_names), *head],
        _our_names(rotation.inverse_weight_names),
        rotation.signs,
    )


def _our_names(names: Iterable[str]) -> list[str]:
    """Translate names; one that has no translation is refused with the tensor itself, by loading."""
    return sorted(from_gguf(name) or name for name in names)
