"""Where the tensors of a GGUF file lie, and what their type numbers mean in it.

The data of the tensors follow one another in the order of the header, each starting at the next multiple of
the alignment. So a tensor's offset is the sum of the sizes before it, and a file in which some number means
another type than assumed gives itself away: of all meanings, those are kept that lead to the offsets in the
file. In very small tensors two meanings can differ by less than the alignment. Then the bytes tell that one
takes for data and the other for padding: padding is zero, and data are not.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path

from tercet.errors import FormatError, UnsupportedFormatError
from tercet.formats.fields import malformed
from tercet.formats.gguf.header import Header, TensorEntry, aligned
from tercet.formats.gguf.tensor_types import CANDIDATES, TensorType
from tercet.formats.mapped_file import MappedFile

__all__ = ["PlacedTensor", "place"]


@dataclasses.dataclass(frozen=True)
class PlacedTensor:
    """A tensor whose type is known and whose bytes are inside the file."""

    name: str
    type: TensorType
    shape: tuple[int, ...]
    offset: int
    """From the start of the file."""
    num_bytes: int


def place(header: Header, file: MappedFile) -> list[PlacedTensor]:
    """Give every tensor of a header its type and its place.

    Raises:
        FormatError: an offset is not the one that the tensors before it lead to, or the file ends too soon.
        UnsupportedFormatError: a type number is unknown, or two meanings of one fit the file equally well.
    """
    for entry in header.tensors:
        if entry.type_id not in CANDIDATES:
            raise UnsupportedFormatError(
                f"{file.path}: tensor {entry.name} is of type {entry.type_id}, which this release does "
                "not know"
            )
    fitting: list[list[PlacedTensor]] = []
    reason: FormatError | None = None
    for meaning in _meanings(header):
        try:
            fitting.append(_placed(header, meaning, file.path, file.num_bytes))
        except FormatError as error:
            reason = reason or error
    if reason is not None and not fitting:
        raise reason
    if len(fitting) > 1:
        # Behind the last tensor there is no offset, but the end of the file.
        fitting = [placed for placed in fitting if _ends_with_file(placed, header, file)] or fitting
        fitting = [placed for placed in fitting if _padding_is_zero(placed, header, file)] or fitting
        shortest = min(_num_bytes(placed) for placed in fitting)
        fitting = [placed for placed in fitting if _num_bytes(placed) == shortest]
    if len(fitting) > 1:
        raise UnsupportedFormatError(
            f"{file.path}: cannot tell whether type {_difference(fitting)}. Both fit its offsets."
        )
    return fitting[0]


def _meanings(header: Header) -> Iterator[Mapping[int, TensorType]]:
    numbers = sorted({entry.type_id for entry in header.tensors})
    for types in itertools.product(*(CANDIDATES[number] for number in numbers)):
        yield dict(zip(numbers, types, strict=True))


def _placed(
    header: Header, meaning: Mapping[int, TensorType], path: Path, file_bytes: int
) -> list[PlacedTensor]:
    tensors, expected = [], 0
    for entry in header.tensors:
        tensor_type = meaning[entry.type_id]
        num_bytes = tensor_type.num_bytes(*_matrix_shape(entry))
        if num_bytes is None:
            raise FormatError(
                f"{path}: tensor {entry.name} of shape {list(entry.shape)} does not fit its type "
                f"{tensor_type}, whose blocks have {tensor_type.block_weights} weights"
            )
        if entry.offset != expected:
            raise malformed(
                path,
                f"the offset of tensor {entry.name}",
                entry.offset,
                f"{expected}, which is where the tensors before it end",
            )
        start = header.data_start + entry.offset
        if start + num_bytes > file_bytes:
            raise FormatError(
                f"{path}: tensor {entry.name} takes bytes {start} to {start + num_bytes}, but the file ends "
                f"at {file_bytes}. It is truncated or damaged; get it again."
            )
        tensors.append(PlacedTensor(entry.name, tensor_type, entry.shape, start, num_bytes))
        expected = aligned(entry.offset + num_bytes, header.alignment)
    return tensors


def _matrix_shape(entry: TensorEntry) -> tuple[int, int]:
    rows = 1
    for dimension in entry.shape[:-1]:
        rows *= dimension
    return rows, entry.shape[-1] if entry.shape else 1


def _ends_with_file(placed: list[PlacedTensor], header: Header, file: MappedFile) -> bool:
    """Say whether the file ends with its last tensor, padded or not."""
    end = placed[-1].offset + placed[-1].num_bytes
    return file.num_bytes in (end, header.data_start + aligned(end - header.data_start, header.alignment))


def _padding_is_zero(placed: list[PlacedTensor], header: Header, file: MappedFile) -> bool:
    for tensor in placed:
        end = tensor.offset + tensor.num_bytes
        padded = header.data_start + aligned(end - header.data_start, header.alignment)
        if file.view(end, min(padded, file.num_bytes) - end, "padding").any():
            return False
    return True


def _num_bytes(placed: list[PlacedTensor]) -> int:
    return sum(tensor.num_bytes for tensor in placed)


def _difference(fitting: list[list[PlacedTensor]]) -> str:
    """Describe the first difference between two ways to understand a file."""
    first, second = fitting[:2]
    for one, other in zip(first, second, strict=True):
        if one.type != other.type:
            return f"{one.type.id} of tensor {one.name} is {one.type} or {other.type}"
    return "numbers"
