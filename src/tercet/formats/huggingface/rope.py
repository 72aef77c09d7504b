"""Rotary positions in a `config.json`: the base, and how it is stretched to longer contexts.

    transformers 5   rope_parameters: {"rope_theta", "rope_type", ...}
                     Gemma 3: rope_parameters: {"full_attention": {...}, "sliding_attention": {...}}
    transformers 4   rope_theta, and rope_scaling: {"rope_type" or "type", ...}
                     Gemma 3: rope_local_base_freq for the layers with a sliding window

Source: transformers, `modeling_rope_utils.py`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tercet.errors import UnsupportedModelError
from tercet.formats.fields import Fields

__all__ = ["rope_fields", "rope_parameters"]

_REFUSED = {
    "dynamic": "its frequencies change while a text grows, so that earlier keys would have to be made again",
    "longrope": "it has a list of factors for each frequency (the Phi 3 family)",
}


def rope_fields(config: Fields, file: Path, default_theta: float) -> dict[str, Any]:
    """Return `rope_theta`, and `rope_scaling` and `rope_local_theta` where the model has them.

    Raises:
        FormatError: a field is missing or of the wrong type.
        UnsupportedModelError: the kind of scaling is one that Tercet does not run.
    """
    theta = config.number("rope_theta") if "rope_theta" in config else default_theta
    entries = [config.object(key) for key in ("rope_parameters", "rope_scaling") if key in config]
    entry = next((entry for entry in entries if _kind(entry) != "default"), entries[0] if entries else None)
    made: dict[str, Any] = {}
    if entry is not None and ("full_attention" in entry or "sliding_attention" in entry):
        if "sliding_attention" in entry:
            local = entry.object("sliding_attention")
            if _scaling(local, config, file) is not None:
                raise UnsupportedModelError(f"{file}: RoPE is scaled in the layers with a sliding window")
            if "rope_theta" in local:
                made["rope_local_theta"] = local.number("rope_theta")
        entry = entry.object("full_attention") if "full_attention" in entry else None
    if entry is not None:
        if "partial_rotary_factor" in entry and entry.number("partial_rotary_factor") != 1:
            raise UnsupportedModelError(f"{file}: Tercet does not run models that rotate a part of each head")
        if "rope_theta" in entry:
            theta = entry.number("rope_theta")
        if (scaling := _scaling(entry, config, file)) is not None:
            made["rope_scaling"] = scaling
    if "rope_local_base_freq" in config and "rope_local_theta" not in made:
        made["rope_local_theta"] = config.number("rope_local_base_freq")
    return {"rope_theta": theta} | made


def _kind(entry: Fields) -> str:
    key = next((key for key in ("rope_type", "type") if key in entry), None)
    return "default" if key is None else entry.text(key)


def _scaling(entry: Fields, config: Fields, file: Path) -> dict[str, Any] | None:
    kind = _kind(entry)
    if kind == "default":
        return None
    if kind not in ("linear", "llama3", "yarn"):
        reason = _REFUSED.get(kind, "Tercet knows linear, llama3 and yarn")
        raise UnsupportedModelError(f"{file}: RoPE is scaled by the method {kind!r}: {reason}")
    if kind == "linear":
        return {"kind": kind, "factor": entry.number("factor")}
    known = "original_max_position_embeddings"
    source = config if known in config or known not in entry else entry
    original = source.integer(known if known in source else "max_position_embeddings", 1)
    factor = (
        entry.number("factor") if "factor" in entry else config.number("max_position_embeddings") / original
    )
    scaling = {"kind": kind, "factor": factor, "original_max_context": original}
    if kind == "llama3":
        return scaling | {key: entry.number(key) for key in ("low_freq_factor", "high_freq_factor")}
    if "truncate" in entry and not entry.flag("truncate"):
        raise UnsupportedModelError(f"{file}: yarn without truncation is not among what Tercet runs")
    return scaling | {
        "beta_fast": entry.number("beta_fast") if "beta_fast" in entry else 32.0,
        "beta_slow": entry.number("beta_slow") if "beta_slow" in entry else 1.0,
        "attention_factor": _attention_factor(entry, factor),
    }


def _attention_factor(entry: Fields, factor: float) -> float:
    """What yarn multiplies cosine and sine by. Source: "YaRN", section 3.4; mscale is DeepSeek's."""
    if "attention_factor" in entry:
        return entry.number("attention_factor")

    def scale(weight: float) -> float:
        return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0

    if "mscale" in entry and "mscale_all_dim" in entry:
        return scale(entry.number("mscale")) / scale(entry.number("mscale_all_dim"))
    return scale(1.0)


def rope_parameters(theta: float, scaling: Mapping[str, Any] | None) -> dict[str, Any]:
    """Write base and scaling as transformers 5 reads them; the inverse of `rope_fields`."""
    made: dict[str, Any] = {"rope_theta": theta, "rope_type": "default"}
    if scaling is not None:
        renamed = {"kind": "rope_type", "original_max_context": "original_max_position_embeddings"}
        made |= {renamed.get(key, key): value for key, value in scaling.items() if value is not None}
    return made
