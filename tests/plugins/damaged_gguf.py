"""Damage to GGUF files that keeps their grammar: other values, types, counts, dimensions and offsets.

The lengths around them are right. (Flipped bits mostly make a length too large, and no reader gets further.)

    told(file)       the front of a sound file as plain values
    written(told)    a file that says what the values say, be it nonsense
"""

from __future__ import annotations

import contextlib
import functools
import json
import struct

import gguf_files as g
from damage import Random, damaged_bytes, damaged_json

__all__ = ["damaged_gguf"]

TRIES = 20
NONSENSE = (ValueError, TypeError, LookupError, AttributeError, struct.error, OverflowError, RecursionError)


def damaged_gguf(whole: bytes, random: Random) -> bytes:
    """Damage a file by bits or by meaning."""
    if random.random() < 0.4:
        return damaged_bytes(whole, random)
    front, data_start = told(whole)
    for _ in range(TRIES):  # not all that JSON can say has a form in bytes
        with contextlib.suppress(*NONSENSE):
            return written(json.loads(damaged_json(front, random))) + whole[data_start:]
    return damaged_bytes(whole, random)


@functools.lru_cache(maxsize=8)
def told(whole: bytes) -> tuple[bytes, int]:
    """Return the front as JSON, and where the data begins."""
    position = 8

    def take(form: str) -> int | float:
        nonlocal position
        (value,) = struct.unpack_from("<" + form, whole, position)
        position += struct.calcsize("<" + form)
        return value

    def take_text() -> str:
        nonlocal position
        length = int(take("Q"))
        position += length
        return whole[position - length : position].decode()

    def take_value(kind: int) -> object:
        if kind == g.STRING:
            return take_text()
        if kind == g.ARRAY:
            element, length = int(take("I")), int(take("Q"))
            return [element, length, [take_value(element) for _ in range(length)]]
        return take(g.FORMATS[kind])

    num_tensors, num_values = int(take("Q")), int(take("Q"))
    values, tensors = [], []
    for _ in range(num_values):
        key, kind = take_text(), int(take("I"))
        values.append([key, kind, take_value(kind)])
    for _ in range(num_tensors):
        name, num_dims = take_text(), int(take("I"))
        dims = [take("Q") for _ in range(num_dims)]
        tensors.append([name, num_dims, dims, take("I"), take("Q")])
    front = {"version": 3, "counts": [num_tensors, num_values], "values": values, "tensors": tensors}
    return json.dumps(front).encode(), position + -position % 32


def written(front: dict) -> bytes:
    """Return the front of a file, padded to where its data begins. Raises what nonsense makes it raise."""
    made = b"GGUF" + struct.pack("<IQQ", front["version"], *front["counts"])
    for key, kind, value in front["values"]:
        made += g.string(key) + struct.pack("<I", kind)
        if kind == g.ARRAY:
            element, length, items = value
            made += struct.pack("<IQ", element, length) + b"".join(g.scalar(element, item) for item in items)
        else:
            made += g.scalar(kind, value)
    for name, num_dims, dims, type_id, offset in front["tensors"]:
        made += g.string(name) + struct.pack(f"<I{len(dims)}Q", num_dims, *dims)
        made += struct.pack("<IQ", type_id, offset)
    return made + bytes(-len(made) % 32)
