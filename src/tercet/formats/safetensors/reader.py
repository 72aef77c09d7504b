"""Reading safetensors that strangers wrote: one file, or a folder with an index of shards."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tercet.errors import FormatError, ModelNotFoundError, UnsupportedFormatError
from tercet.formats.fields import Fields, malformed, parse_json
from tercet.formats.floats import FLOAT_TYPES, to_float32
from tercet.formats.mapped_file import MappedFile, is_file_name, read_bytes

__all__ = ["SafetensorsFile", "SafetensorsFolder", "StoredTensor"]

MAX_HEADER_BYTES = 100_000_000
"""The limit of the format itself."""
SINGLE_NAME = "model.safetensors"
INDEX_NAME = "model.safetensors.index.json"
PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt")

_FLOAT_DTYPES = {"F32": "f32", "F16": "f16", "BF16": "bf16"}
_ITEM_BYTES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 8),
}


@dataclasses.dataclass(frozen=True, eq=False)
class StoredTensor:
    """A tensor as it lies in a file; `data` is a read-only view of its bytes."""

    name: str
    dtype: str
    """As safetensors spells it: F32, F16, BF16, U8, ..."""
    shape: tuple[int, ...]
    data: npt.NDArray[np.uint8]
    file: Path

    @property
    def float_type(self) -> str | None:
        """The name of the type in `tercet.formats.floats`, or None if the tensor does not hold such
        floats."""
        return _FLOAT_DTYPES.get(self.dtype)

    def elements(self) -> npt.NDArray[Any]:
        """Return the elements as stored (bfloat16 as uint16), one-dimensional, without copying them.

        Raises:
            UnsupportedFormatError: they are not float32, float16 or bfloat16.
        """
        if self.float_type is None:
            raise UnsupportedFormatError(
                f"{self.file}: tensor {self.name} is of type {self.dtype}, "
                f"expected one of {', '.join(_FLOAT_DTYPES)}"
            )
        return self.data.view(FLOAT_TYPES[self.float_type])

    def float32(self, rows: slice | None = None) -> npt.NDArray[np.float32]:
        """Return the tensor, or some of its rows (its first axis), widened to float32."""
        elements = self.elements().reshape(self.shape)
        return to_float32(elements if rows is None else elements[rows], self.float_type or "f32")


class SafetensorsFile:
    """One mapped file.

    Raises:
        FormatError: it is truncated or malformed, or its tensors overlap, leave gaps or leave the file.
        ModelNotFoundError, StorageError: it is not there, or cannot be read.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._file = MappedFile(path)
        self.path = self._file.path
        length = self._file.view(0, 8, "the length of the header").tobytes()
        header_bytes = int.from_bytes(length, "little")
        if not 2 <= header_bytes <= min(MAX_HEADER_BYTES, self._file.num_bytes - 8):
            raise malformed(
                self.path,
                "the length of the header",
                header_bytes,
                f"2 to {min(MAX_HEADER_BYTES, self._file.num_bytes - 8)}. "
                "The file is truncated, or not of the safetensors format",
            )
        header = self._file.view(8, header_bytes, "the header").tobytes()
        if header[:1] != b"{":
            raise malformed(self.path, "the first byte of the header", header[:1], "b'{'")
        fields = Fields(parse_json(header, self.path, "the header"), self.path, "header")
        self.metadata = self._parse_metadata(fields) if "__metadata__" in fields else {}
        self.tensors: Mapping[str, StoredTensor] = self._parse_tensors(fields, 8 + header_bytes)

    def release(self) -> None:
        """Give back the memory that reading has filled; what is read later is mapped again."""
        self._file.release()

    def _parse_metadata(self, fields: Fields) -> dict[str, str]:
        metadata = fields.mapping("__metadata__")
        if not all(isinstance(value, str) for value in metadata.values()):
            raise fields.error("__metadata__", "an object of strings")
        return metadata

    def _parse_tensors(self, fields: Fields, data_start: int) -> dict[str, StoredTensor]:
        places: list[tuple[int, int, str, str, tuple[int, ...]]] = []
        for name in fields:
            if name == "__metadata__":
                continue
            entry = fields.object(name)
            entry.only(("dtype", "shape", "data_offsets"))
            dtype = entry.choice("dtype", tuple(_ITEM_BYTES))
            shape = entry.integers("shape")
            begin, end = entry.integers("data_offsets", length=2)
            if len(shape) > 16 or end - begin != math.prod(shape) * _ITEM_BYTES[dtype]:
                raise entry.error(
                    "data_offsets", f"the {_ITEM_BYTES[dtype]} bytes times {list(shape)} of the tensor"
                )
            places.append((begin, end, name, dtype, shape))
        places.sort()
        expected = 0
        for begin, end, name, _, _ in places:
            if begin != expected:
                raise malformed(
                    self.path, f"the offset of tensor {name}", begin, f"{expected}, where the last one ends"
                )
            expected = end
        if data_start + expected != self._file.num_bytes:
            raise FormatError(
                f"{self.path}: its tensors end at byte {data_start + expected} and the file at "
                f"{self._file.num_bytes}. It is truncated or damaged; get it again."
            )
        return {
            name: StoredTensor(
                name,
                dtype,
                shape,
                self._file.view(data_start + begin, end - begin, f"tensor {name}"),
                self.path,
            )
            for begin, end, name, dtype, shape in places
        }


class SafetensorsFolder:
    """The tensors of a model folder: of `model.safetensors`, or of the shards that its index lists.

    Raises:
        FormatError: a file is malformed, or the index names a file elsewhere or a tensor that is not there.
        ModelNotFoundError: the folder holds neither, or lacks a shard.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.path = Path(folder)
        self.tensors: dict[str, StoredTensor] = {}
        if (self.path / SINGLE_NAME).exists():
            self.files = [SafetensorsFile(self.path / SINGLE_NAME)]
            self.tensors.update(self.files[0].tensors)
        elif (self.path / INDEX_NAME).exists():
            self.files = self._open_shards()
        else:
            raise ModelNotFoundError(
                f"{self.path} holds neither {SINGLE_NAME} nor {INDEX_NAME}. {self._advice()}"
            )

    def release(self) -> None:
        """Give back the memory that reading has filled; what is read later is mapped again."""
        for file in self.files:
            file.release()

    def _advice(self) -> str:
        pickles = sorted(path.name for path in self.path.glob("*") if path.suffix in PICKLE_SUFFIXES)
        if pickles:
            return (
                f"Its weights are pickled ({pickles[0]}), and unpickling runs code that the file brings, so "
                "they are not read. Look for a safetensors revision of the model, or save it as one where "
                "you trust it: model.save_pretrained(folder)"
            )
        return "Weights are read from safetensors files only; get those too."

    def _open_shards(self) -> list[SafetensorsFile]:
        index = self.path / INDEX_NAME
        weight_map = Fields(parse_json(read_bytes(index), index, "the index"), index, "index").object(
            "weight_map"
        )
        files: dict[str, SafetensorsFile] = {}
        for name in weight_map:
            shard = weight_map.text(name)
            if not is_file_name(shard) or not shard.endswith(".safetensors"):
                raise weight_map.error(name, "the name of a .safetensors file in the same folder")
            if shard not in files:
                files[shard] = SafetensorsFile(self.path / shard)
            if name not in files[shard].tensors:
                raise malformed(index, f"weight_map.{name}", shard, "a file that holds this tensor")
            self.tensors[name] = files[shard].tensors[name]
        return list(files.values())
