"""The ways of storing a model that `tercet convert --to` knows.

native                the .tercet file
huggingface           a folder of masters (or of plain floats) that transformers loads and trains
huggingface-packed    a folder of packed codes that transformers loads
gguf                  a file for llama.cpp and its relatives
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tercet.conversion.outputs.huggingface import HuggingFaceOutput
from tercet.conversion.outputs.native import NativeOutput
from tercet.conversion.outputs.output import Change, Exactness, Output, Sink
from tercet.errors import ParameterError
from tercet.models.loading import LoadedModel

__all__ = ["FORMATS", "Change", "Exactness", "Output", "Sink", "plan_output"]

FORMATS = ("native", "huggingface", "huggingface-packed")


def plan_output(
    source: LoadedModel,
    to: str,
    packing: str | None,
    embedding_type: str | None,
    metadata: Mapping[str, Any],
) -> Output:
    """Plan how a model will be stored.

    Args:
        source: the model.
        to: one of `FORMATS`.
        packing: how ternary matrices are stored; None for what is usual. `two_bit` or
            `five_per_byte`.
        embedding_type: how other matrices are stored; None for what is usual: `f16`, `bf16` or `f32`.
        metadata: kept in the file, where it can be.

    Raises:
        ParameterError: there is no such format, packing or type, or the model cannot be stored like this.
    """
    if to == "native":
        return NativeOutput(source, packing or "two_bit", embedding_type or "f16", metadata)
    if to in ("huggingface", "huggingface-packed"):
        if packing is not None:
            raise ParameterError(f"a folder has no packing to choose, so {packing!r} means nothing")
        return HuggingFaceOutput(source, to == "huggingface-packed", embedding_type or "bf16")
    raise ParameterError(f"there is no format {to!r}; the formats are {', '.join(FORMATS)}")
