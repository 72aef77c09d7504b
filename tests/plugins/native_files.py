"""Native files of small random models of every family, and damage whose checksums are mended."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from damage import Random, damaged_json
from random_decoders import packed_model
from tercet.formats.matrices import FloatMatrix, PackedMatrix, PlaneMatrix
from tercet.formats.tercet import FilePlan, TensorPlan, create_file
from tercet.models.config import ModelConfig
from tercet.models.random_weights import RandomStyle
from tercet.quantization.planes import planes

__all__ = ["damaged_blob", "damaged_header", "write_model"]

TABLES = ("embedding", "output_head")


def write_model(
    path: Path,
    config: ModelConfig,
    packing: str = "two_bit",
    head_type: str = "f32",
    style: RandomStyle | None = None,
    tokenizer_json: bytes | None = None,
    **more: Any,
) -> Path:
    """A file with random weights; `head_type` is how embedding and output head are stored."""
    is_plane = head_type.endswith("_planes")
    matrices: dict[str, PackedMatrix | PlaneMatrix | FloatMatrix] = {
        name: in_planes(matrix, head_type)
        if is_plane and name in TABLES and isinstance(matrix, FloatMatrix)
        else matrix
        for name, matrix in packed_model(config, packing, "f32" if is_plane else head_type, 0, style).items()
    }
    plans = [plan(name, matrix) for name, matrix in matrices.items()]
    blobs = {} if tokenizer_json is None else {"tokenizer.json": tokenizer_json}
    with create_file(path, FilePlan(config.to_dict(), plans, blobs, **more)) as writer:
        for name, matrix in matrices.items():
            writer.write_tensor(
                name, [matrix.data], None if isinstance(matrix, FloatMatrix) else matrix.scales
            )
    return path


def in_planes(matrix: FloatMatrix, kind: str) -> PlaneMatrix:
    codes, scales = planes(kind).quantize(matrix.float32())
    return PlaneMatrix(kind, matrix.rows, matrix.depth, planes(kind).pack(codes), scales)


def plan(name: str, matrix: PackedMatrix | PlaneMatrix | FloatMatrix) -> TensorPlan:
    if isinstance(matrix, FloatMatrix):
        return TensorPlan(name, matrix.type, matrix.rows, matrix.depth)
    if isinstance(matrix, PlaneMatrix):
        return TensorPlan(name, matrix.type, matrix.rows, matrix.depth, "row")
    per_row, rest = divmod(matrix.scales.size, matrix.rows)
    if matrix.scales.size == 1:
        return TensorPlan(name, matrix.packing, matrix.rows, matrix.depth, "tensor")
    if per_row == 1 and not rest:
        return TensorPlan(name, matrix.packing, matrix.rows, matrix.depth, "row")
    return TensorPlan(name, matrix.packing, matrix.rows, matrix.depth, "group", matrix.depth // per_row)


# Damage ---------------------------------------------------------------------------------------------


def header_of(whole: bytes) -> dict[str, Any]:
    length = int.from_bytes(whole[16:24], "little")
    header: dict[str, Any] = json.loads(whole[64 : 64 + length])
    return header


def with_header(whole: bytes, header: bytes) -> bytes:
    """The file with another header, and lengths and checksum of it that are right. Pieces do not move, so
    that the header must not become longer than it can."""
    length = int.from_bytes(whole[16:24], "little")
    padded = header.ljust(length)
    padded = padded.ljust(-(-len(padded) // 64) * 64)
    numbers = (
        (zlib.crc32(padded), 4),
        (len(padded), 8),
        (len(whole) - length + len(padded), 8),
    )
    front = whole[:12] + b"".join(number.to_bytes(size, "little") for number, size in numbers)
    return front + bytes(32) + padded + whole[64 + length :]


def damaged_header(whole: bytes, random: Random, part: str | None = None) -> bytes:
    """Damage the header, or one object of it, as somebody would who mends the checksum and the lengths."""
    header = header_of(whole)
    if part is None:
        return with_header(whole, damaged_json(json.dumps(header, separators=(",", ":")).encode(), random))
    text = json.dumps(header[part], separators=(",", ":")).encode()
    edited = damaged_json(text, random)
    outer = json.dumps({**header, part: "HERE"}, separators=(",", ":"), ensure_ascii=False).encode()
    return with_header(whole, outer.replace(b'"HERE"', edited))


def damaged_blob(whole: bytes, data: bytes) -> bytes:
    """The file with another tokenizer.json, no longer than its own."""
    header = header_of(whole)
    entry: Mapping[str, Any] = header["blobs"]["tokenizer.json"]
    padded = data.ljust(entry["bytes"])
    if len(padded) > entry["bytes"]:
        raise ValueError("the blob is longer than its place")
    header["blobs"]["tokenizer.json"] = {**entry, "sha256": hashlib.sha256(padded).hexdigest()}
    mended = with_header(whole, json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode())
    if len(mended) != len(whole):
        raise ValueError("the header has become longer")
    return mended[: entry["offset"]] + padded + mended[entry["offset"] + len(padded) :]
