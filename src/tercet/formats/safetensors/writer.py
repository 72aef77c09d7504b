"""Writing one safetensors file without holding its tensors in memory."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tercet.environment import atomic_write
from tercet.errors import ParameterError
from tercet.formats.floats import FLOAT_TYPES, from_float32

__all__ = ["write_safetensors"]

_DTYPES = {"f32": "F32", "f16": "F16", "bf16": "BF16"}


def write_safetensors(
    path: str | os.PathLike[str],
    shapes: Mapping[str, Sequence[int]],
    tensors: Iterable[tuple[str, npt.NDArray[np.float32]]],
    float_type: str,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write float tensors in one type; the file appears at `path` complete or not at all.

    Args:
        path: the file.
        shapes: name -> shape of every tensor, in the order in which `tensors` brings them.
        tensors: names and float32 values, taken one at a time.
        float_type: `f32`, `f16` or `bf16`; values are rounded to it.
        metadata: strings for `__metadata__`; Hugging Face expects {"format": "pt"}.

    Raises:
        ParameterError: a tensor is missing, out of order or of another shape.
        StorageError: the disk is full, or the folder cannot be written to.
    """
    if float_type not in FLOAT_TYPES:
        raise ParameterError(f"there is no float type {float_type!r}; the types are {', '.join(FLOAT_TYPES)}")
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name, shape in shapes.items():
        begin, end = end, end + math.prod(shape) * FLOAT_TYPES[float_type].itemsize
        header[name] = {"dtype": _DTYPES[float_type], "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    text += b" " * (-(8 + len(text)) % 64)  # the data then begin on a cache line
    waiting = list(reversed(list(shapes.items())))
    with atomic_write(path) as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for name, values in tensors:
            expected = waiting.pop() if waiting else ("no further tensor", ())
            if (name, values.shape) != (expected[0], tuple(expected[1])):
                raise ParameterError(
                    f"{name} {list(values.shape)} came where {expected[0]} {list(expected[1])} was due"
                )
            file.write(np.ascontiguousarray(from_float32(values, float_type)).data)
        if waiting:
            raise ParameterError(f"{len(waiting)} tensors were not written, {waiting[-1][0]} first")
