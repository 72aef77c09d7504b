"""`generation_config.json` <-> sampling settings under the names of `tercet.sampling.SamplingParams`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tercet.formats.fields import Fields

__all__ = ["from_settings", "to_settings"]

_FLOATS = ("temperature", "top_p", "min_p", "repetition_penalty")


def to_settings(generation: Mapping[str, Any], file: Path) -> tuple[dict[str, Any], tuple[int, ...]]:
    """Return the settings that the file names, and its end-of-sequence ids.

    `do_sample: false` becomes temperature 0. Whether a value is in range is for `SamplingParams` to say.

    Raises:
        FormatError: a value is of the wrong type.
    """
    fields = Fields(generation, file, "generation")
    settings: dict[str, Any] = {key: fields.number(key) for key in _FLOATS if key in fields}
    if "top_k" in fields:
        settings["top_k"] = fields.integer("top_k")
    if "max_new_tokens" in fields:
        settings["max_tokens"] = fields.integer("max_new_tokens")
    if "do_sample" in fields and not fields.flag("do_sample"):
        settings["temperature"] = 0.0
    return settings, fields.one_or_more_integers("eos_token_id")


def from_settings(
    settings: Mapping[str, Any],
    bos_token_id: int | None,
    eos_token_ids: Sequence[int],
    pad_token_id: int | None,
) -> dict[str, Any]:
    """Make a `generation_config.json` from settings; the inverse of `to_settings`."""
    generation: dict[str, Any] = {
        "bos_token_id": bos_token_id,
        "eos_token_id": list(eos_token_ids) or None,
        "pad_token_id": pad_token_id,
    }
    greedy = settings.get("temperature") == 0
    if settings:
        generation["do_sample"] = not greedy
    for key, value in settings.items():
        if key == "temperature" and greedy:
            continue
        generation["max_new_tokens" if key == "max_tokens" else key] = value
    return {key: value for key, value in generation.items() if value is not None}
