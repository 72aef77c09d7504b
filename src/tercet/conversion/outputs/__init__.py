"""The ways of storing a model that `tercet convert --to` knows.

    native                the .tercet file
    huggingface           a folder of masters (or of plain floats) that transformers loads and trains
    huggingface-packed    a folder of packed codes that transformers loads
    gguf                  a file for llama.cpp and its relatives; `gguf-tq2_0` and others name the type, too

`format_of` turns what people write into one of these: other names, capitals, a type behind `gguf-`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tercet.conversion.outputs.gguf import GgufOutput
from tercet.conversion.outputs.huggingface import HuggingFaceOutput
from tercet.conversion.outputs.native import NativeOutput
from tercet.conversion.outputs.output import Change, Exactness, Output, Sink
from tercet.errors import ParameterError
from tercet.formats.gguf.model_writer import FILE_TYPES
from tercet.models.loading import LoadedModel

__all__ = ["FORMATS", "Change", "Exactness", "Output", "Sink", "format_of", "plan_output"]

FORMATS = (
    "native",
    "huggingface",
    "huggingface-packed",
    "gguf",
    *(f"gguf-{kind.lower()}" for kind in FILE_TYPES),
)
OTHER_NAMES = {
    "tercet": "native",
    "hf": "huggingface",
    "transformers": "huggingface",
    "safetensors": "huggingface",
    "hf-packed": "huggingface-packed",
}
OF_SUFFIX = {".tercet": "native", ".gguf": "gguf"}


def format_of(to: str | None, destination: Path) -> str:
    """Return the format that is meant: by its name, or, without one, by how the destination ends.

    Raises:
        ParameterError: there is no such format.
    """
    if to is None:
        return OF_SUFFIX.get(destination.suffix.lower(), "native")
    name = to.lower()
    if name == "onnx":
        raise ParameterError(
            "ONNX graphs are made by tercet.conversion.onnx.export_onnx and by `tercet convert --to onnx`"
        )
    name = OTHER_NAMES.get(name, name)
    if name not in FORMATS:
        raise ParameterError(f"there is no format {to!r}; the formats are {', '.join(FORMATS)}")
    return name


def plan_output(
    source: LoadedModel,
    to: str,
    packing: str | None,
    embedding_type: str | None,
    metadata: Mapping[str, Any],
    head: str | None = None,
) -> Output:
    """Plan how a model will be stored.

    Args:
        source: the model.
        to: one of `FORMATS`.
        packing: how ternary matrices are stored; None for what is usual. native: `two_bit` or
            `five_per_byte`; gguf: a type of that format, for example `tq2_0` or `i2_s`.
        embedding_type: how other matrices are stored; None for what is usual: `f16`, `bf16` or `f32`, and
            in GGUF also a quantized type such as `q8_0`.
        metadata: kept in the file, where it can be.
        head: in a native file, how the output head is stored: `int8`, `6bit`, `f16`, `bf16` or `f32`;
            None for `embedding_type`.

    Raises:
        ParameterError: there is no such format, packing or type, or the model cannot be stored like this.
    """
    if to == "native":
        return NativeOutput(source, packing or "two_bit", embedding_type, metadata, head)
    if head is not None:
        raise ParameterError(f"a head of its own, {head!r}, is for native files only")
    if to in ("huggingface", "huggingface-packed"):
        if packing is not None:
            raise ParameterError(f"a folder has no packing to choose, so {packing!r} means nothing")
        return HuggingFaceOutput(source, to == "huggingface-packed", embedding_type or "bf16")
    _, _, kind = to.partition("-")
    if kind and packing is not None and packing.lower() != kind:
        raise ParameterError(f"the format {to} names its type, so that {packing!r} cannot be chosen as well")
    name = metadata.get("name")
    return GgufOutput(source, kind or packing, embedding_type or "f16", None if name is None else str(name))
