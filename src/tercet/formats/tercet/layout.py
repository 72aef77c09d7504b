"""What is where in a `.tercet` file, version 1. All numbers are little endian.

    0     8 bytes   magic "TERCET\\r\\n" (a transfer in text mode would change it)
    8     uint32    version, 1
    12    uint32    CRC-32 of the header
    16    uint64    bytes of the header, a multiple of 64
    24    uint64    bytes of the file, a multiple of 64
    32   32 bytes   zero
    64              header: JSON in UTF-8, padded with spaces
    ...             pieces, each at the next multiple of 64 after the one before, the gaps filled with zeros

The header is one object:

    {"config": {...}, "generation": {...}, "chat_template": str | null, "metadata": {...},
     "blobs":   {name: {"offset", "bytes", "sha256"}},
     "tensors": {name: {"type", "shape": [rows, depth], "offset", "bytes", "sha256",
                        "scales": {"granularity", "offset", "bytes", "group_size"}}}}

The order of the header is the order of the pieces: blobs, then tensors, a ternary tensor's codes before its
scales. So every offset follows from the lengths before it, and a reader checks that it does: there is no room
for overlap, for gaps, or for anything that no checksum covers. The type of a tensor is a packing or planes
(with float32 scales, which its SHA-256 covers too; planes have one for each row) or a float type (without).
"""

from __future__ import annotations

import dataclasses
import json
import struct
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tercet.errors import ChecksumError, FormatError, UnsupportedFormatError
from tercet.formats.fields import Fields, malformed, parse_json
from tercet.formats.floats import FLOAT_TYPES
from tercet.quantization import packings
from tercet.quantization.planes import MAX_PLANE_DEPTH, PLANES

__all__ = [
    "ALIGNMENT",
    "MAGIC",
    "PREAMBLE_BYTES",
    "VERSION",
    "BlobEntry",
    "Header",
    "Piece",
    "Preamble",
    "ScaleEntry",
    "TensorEntry",
    "aligned",
]

MAGIC = b"TERCET\r\n"
VERSION = 1
ALIGNMENT = 64
PREAMBLE_BYTES = 64
MAX_HEADER_BYTES = 1 << 26
"""More than a header ever needs; a larger one is an attack on memory."""
MAX_DIMENSION = 2**31 - 1
GRANULARITIES = ("tensor", "row", "group")

_PREAMBLE = struct.Struct("<8sIIQQ32x")


def aligned(offset: int) -> int:
    """Round up to where the next piece may begin."""
    return -(-offset // ALIGNMENT) * ALIGNMENT


@dataclasses.dataclass(frozen=True)
class Preamble:
    """The first 64 bytes."""

    header_crc32: int
    header_bytes: int
    file_bytes: int

    def pack(self) -> bytes:
        """Return the 64 bytes."""
        return _PREAMBLE.pack(MAGIC, VERSION, self.header_crc32, self.header_bytes, self.file_bytes)

    @classmethod
    def parse(cls, data: bytes, file: Path, real_bytes: int) -> Preamble:
        """Read the first 64 bytes of a file that is `real_bytes` long."""
        if data[: len(MAGIC)] != MAGIC:
            raise FormatError(
                f"{file} is not a .tercet file: it begins with {data[:8]!r}, expected {MAGIC!r}. "
                "If it is a checkpoint of another kind, convert it first: tercet convert SOURCE MODEL.tercet"
            )
        if len(data) < PREAMBLE_BYTES:
            raise FormatError(
                f"{file} is {real_bytes} bytes long, too short for a .tercet file. It is truncated."
            )
        _, version, crc, header_bytes, file_bytes = _PREAMBLE.unpack(data)
        if version != VERSION:
            raise UnsupportedFormatError(
                f"{file} is a .tercet file of version {version}; this release reads version {VERSION}. "
                "Upgrade tercet, or convert the model again."
            )
        if file_bytes != real_bytes:
            raise FormatError(
                f"{file} should be {file_bytes} bytes long and is {real_bytes}. "
                "It is truncated or damaged; get it again."
            )
        highest = min(MAX_HEADER_BYTES, real_bytes - PREAMBLE_BYTES)
        if header_bytes % ALIGNMENT or not 0 < header_bytes <= highest:
            raise malformed(
                file, "header_bytes", header_bytes, f"a multiple of {ALIGNMENT} from 64 to {highest}"
            )
        if any(data[_PREAMBLE.size - 32 :]):
            raise malformed(file, "bytes 32 to 63", data[32:64].hex(), "zeros")
        return cls(crc, header_bytes, file_bytes)


@dataclasses.dataclass(frozen=True)
class Piece:
    """A run of bytes of the file."""

    offset: int
    num_bytes: int

    @property
    def end(self) -> int:
        """Where the piece ends; up to the next multiple of 64 zeros follow."""
        return self.offset + self.num_bytes

    @classmethod
    def parse(cls, fields: Fields) -> Piece:
        """Read `offset` and `bytes`."""
        return cls(fields.integer("offset"), fields.integer("bytes"))

    def to_json(self) -> dict[str, Any]:
        """Return what `parse` reads."""
        return {"offset": self.offset, "bytes": self.num_bytes}


@dataclasses.dataclass(frozen=True)
class BlobEntry:
    """A file within the file, for example `tokenizer.json`."""

    piece: Piece
    sha256: str

    @classmethod
    def parse(cls, fields: Fields) -> BlobEntry:
        """Read one entry of `blobs`."""
        fields.only(("offset", "bytes", "sha256"))
        return cls(Piece.parse(fields), _sha256(fields))

    def to_json(self) -> dict[str, Any]:
        """Return what `parse` reads."""
        return self.piece.to_json() | {"sha256": self.sha256}


@dataclasses.dataclass(frozen=True)
class ScaleEntry:
    """The float32 multipliers of a ternary tensor."""

    granularity: str
    piece: Piece
    group_size: int | None = None

    @classmethod
    def parse(cls, fields: Fields, rows: int, depth: int) -> ScaleEntry:
        """Read the `scales` of a tensor of this shape."""
        fields.only(("granularity", "offset", "bytes", "group_size"))
        granularity = fields.choice("granularity", GRANULARITIES)
        group_size = None
        if granularity == "group":
            group_size = fields.integer("group_size", 1, depth)
            if depth % group_size:
                raise fields.error("group_size", f"a divisor of the depth, {depth}")
        elif "group_size" in fields:
            raise fields.error("group_size", f"nothing, since the granularity is {granularity}")
        entry = cls(granularity, Piece.parse(fields), group_size)
        expected = 4 * num_scales(granularity, rows, depth, group_size)
        if entry.piece.num_bytes != expected:
            raise fields.error("bytes", f"{expected} for [{rows}, {depth}] with a scale per {granularity}")
        return entry

    def to_json(self) -> dict[str, Any]:
        """Return what `parse` reads."""
        group = {} if self.group_size is None else {"group_size": self.group_size}
        return {"granularity": self.granularity} | self.piece.to_json() | group


@dataclasses.dataclass(frozen=True)
class TensorEntry:
    """A matrix: ternary codes or planes and their scales, or floats."""

    type: str
    rows: int
    depth: int
    piece: Piece
    sha256: str
    scales: ScaleEntry | None = None

    @classmethod
    def parse(cls, fields: Fields) -> TensorEntry:
        """Read one entry of `tensors`."""
        fields.only(("type", "shape", "offset", "bytes", "sha256", "scales"))
        tensor_type = fields.text("type")
        known = (*packings.PACKINGS, *PLANES, *FLOAT_TYPES)
        if tensor_type not in known:
            raise UnsupportedFormatError(str(fields.error("type", f"one of {', '.join(known)}")))
        rows, depth = fields.integers("shape", length=2, lowest=1)
        if max(rows, depth) > MAX_DIMENSION:
            raise fields.error("shape", f"dimensions of at most {MAX_DIMENSION}")
        if tensor_type in PLANES and depth > MAX_PLANE_DEPTH:
            raise fields.error("shape", f"rows of at most {MAX_PLANE_DEPTH} in {tensor_type}")
        piece = Piece.parse(fields)
        expected = data_bytes(tensor_type, rows, depth)
        if piece.num_bytes != expected:
            raise fields.error("bytes", f"{expected} for {tensor_type} of shape [{rows}, {depth}]")
        scales = None
        if tensor_type not in FLOAT_TYPES:
            scales = ScaleEntry.parse(fields.object("scales"), rows, depth)
            if tensor_type in PLANES and scales.granularity != "row":
                raise fields.error("scales", f"one for each row, since the type is {tensor_type}")
        elif "scales" in fields:
            raise fields.error("scales", f"nothing, since the type is {tensor_type}")
        return cls(tensor_type, rows, depth, piece, _sha256(fields), scales)

    def to_json(self) -> dict[str, Any]:
        """Return what `parse` reads."""
        made = (
            {"type": self.type, "shape": [self.rows, self.depth]}
            | self.piece.to_json()
            | {"sha256": self.sha256}
        )
        return made if self.scales is None else made | {"scales": self.scales.to_json()}

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """The runs of bytes that the checksum covers, in order."""
        return (self.piece,) if self.scales is None else (self.piece, self.scales.piece)


@dataclasses.dataclass(frozen=True)
class Header:
    """Everything about a model but the bytes of its pieces."""

    config: Mapping[str, Any]
    generation: Mapping[str, Any]
    chat_template: str | None
    metadata: Mapping[str, Any]
    blobs: Mapping[str, BlobEntry]
    tensors: Mapping[str, TensorEntry]

    def pieces(self) -> Iterator[tuple[str, Piece]]:
        """Yield what the file must hold, in order, with names for messages."""
        for name, blob in self.blobs.items():
            yield f"blob {name}", blob.piece
        for name, tensor in self.tensors.items():
            yield f"tensor {name}", tensor.piece
            if tensor.scales is not None:
                yield f"scales of {name}", tensor.scales.piece

    def pack(self) -> bytes:
        """Return the JSON, padded."""
        value = {
            "config": dict(self.config),
            "generation": dict(self.generation),
            "chat_template": self.chat_template,
            "metadata": dict(self.metadata),
            "blobs": {name: blob.to_json() for name, blob in self.blobs.items()},
            "tensors": {name: tensor.to_json() for name, tensor in self.tensors.items()},
        }
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8")
        return text.ljust(aligned(len(text)))

    @classmethod
    def parse(cls, data: bytes, file: Path, preamble: Preamble) -> Header:
        """Read and check the header: its CRC, its fields, and that its pieces tile the file exactly."""
        if zlib.crc32(data) != preamble.header_crc32:
            raise ChecksumError(
                f"{file}: the header does not match its checksum. The file is damaged; get it again."
            )
        fields = Fields(parse_json(data, file, "the header"), file, "header")
        fields.only(("config", "generation", "chat_template", "metadata", "blobs", "tensors"))
        header = cls(
            config=fields.mapping("config"),
            generation=fields.mapping("generation"),
            chat_template=fields.text("chat_template") if "chat_template" in fields else None,
            metadata=fields.mapping("metadata"),
            blobs={name: BlobEntry.parse(entry) for name, entry in fields.objects("blobs").items()},
            tensors={name: TensorEntry.parse(entry) for name, entry in fields.objects("tensors").items()},
        )
        expected = PREAMBLE_BYTES + preamble.header_bytes
        for name, piece in header.pieces():
            if piece.offset != expected:
                raise malformed(
                    file, f"the offset of {name}", piece.offset, f"{expected}, where the piece before ends"
                )
            expected = aligned(piece.end)
        if expected != preamble.file_bytes:
            raise malformed(
                file, "the end of the last piece", expected, f"the end of the file, {preamble.file_bytes}"
            )
        return header


def data_bytes(tensor_type: str, rows: int, depth: int) -> int:
    """Return the bytes that the elements of a tensor take, scales apart."""
    if tensor_type in FLOAT_TYPES:
        return rows * depth * FLOAT_TYPES[tensor_type].itemsize
    if tensor_type in PLANES:
        return PLANES[tensor_type].packed_bytes(rows, depth)
    return packings.packing(tensor_type).packed_bytes(rows, depth)


def num_scales(granularity: str, rows: int, depth: int, group_size: int | None) -> int:
    """Return how many scales a ternary tensor has."""
    return {"tensor": 1, "row": rows, "group": rows * (depth // (group_size or depth))}[granularity]


def _sha256(fields: Fields) -> str:
    digest = fields.text("sha256")
    if len(digest) != 64 or any(character not in "0123456789abcdef" for character in digest):
        raise fields.error("sha256", "64 hexadecimal digits")
    return digest
