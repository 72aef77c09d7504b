"""Weights in the memory of the GPU: ternary matrices byte for byte as a native file has them.

Matrices that multiply the same input (query, key and value; gate and up) are stacked, so that one launch
computes them. Each begins at a row tile of its own, and every row gets a scale: a few bytes more, and no
kernel has to know how far a scale reaches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeGuard, cast

import numpy as np
import numpy.typing as npt
import torch

from tercet.errors import ParameterError, UnsupportedModelError
from tercet.kernels.matrices import FloatMatrix, PlaneMatrix, TernaryMatrix
from tercet.quantization.packings import packing, two_bit
from tercet.quantization.planes import planes

__all__ = ["RowWeights", "TernaryWeights", "is_packed", "upload", "upload_rows", "upload_ternary"]

TILE = two_bit.ROW_MULTIPLE
GROUP_MULTIPLE = 2 * two_bit.DEPTH_MULTIPLE
"""Columns: what the int8 tensor cores sum at a time."""


@dataclass(frozen=True, eq=False)
class TernaryWeights:
    """Stacked ternary matrices of one depth."""

    words: torch.Tensor
    """int32 [row tiles, depth tiles, 16]; `tercet.gpu.kernels.ternary` says what is in a word."""
    scales: torch.Tensor
    """float32 [16 row tiles, groups]."""
    rows: tuple[int, ...]
    """Of each matrix; each is followed by rows of zeros up to a multiple of 16."""
    depth: int

    @property
    def starts(self) -> list[int]:
        """Where in the product the rows of each matrix begin."""
        return [sum(map(_padded, self.rows[:index])) for index in range(len(self.rows))]

    @property
    def padded_rows(self) -> int:
        """Columns of the product."""
        return self.words.shape[0] * TILE

    @property
    def padded_depth(self) -> int:
        """Columns of the activations, zeros behind `depth`."""
        return self.words.shape[1] * two_bit.DEPTH_MULTIPLE

    @property
    def groups(self) -> int:
        """Scales of a row."""
        return self.scales.shape[1]

    def split(self, product: torch.Tensor) -> list[torch.Tensor]:
        """The columns of each matrix in a product [tokens, padded_rows]."""
        return [product[:, start : start + rows] for start, rows in zip(self.starts, self.rows, strict=True)]

    def floats_of(self, rows: torch.Tensor) -> torch.Tensor:
        """Some rows of a single matrix, float32 [rows, depth]: look-ups in a ternary embedding."""
        words = self.words[rows // TILE, :, rows % TILE]  # [rows, depth tiles]
        column = torch.arange(TILE, device=words.device)
        shift = 8 * (column % 4) + 2 * (column // 4)
        codes = ((words[:, :, None] >> shift) & 3) - 1
        scales = self.scales[rows].repeat_interleave(self.depth // self.groups, dim=1)
        return codes.reshape(len(rows), -1)[:, : self.depth].float() * scales


@dataclass(frozen=True, eq=False)
class RowWeights:
    """A matrix of floats, or of int8 codes with a scale for each row."""

    rows: torch.Tensor
    """float32, float16, bfloat16 or int8 [rows, depth]."""
    scales: torch.Tensor | None
    """float32 [rows], with int8 alone."""

    def floats_of(self, rows: torch.Tensor) -> torch.Tensor:
        """Some of the rows, float32 [rows, depth]."""
        found = self.rows[rows].float()
        return found if self.scales is None else found * self.scales[rows][:, None]


def upload(
    name: str, matrix: TernaryMatrix | PlaneMatrix | FloatMatrix, device: torch.device
) -> TernaryWeights | RowWeights:
    """Copy a matrix of any kind to the GPU; raises what `upload_ternary` does."""
    if is_packed(matrix):
        return upload_ternary([name], [matrix], device)
    return upload_rows(cast("FloatMatrix | PlaneMatrix", matrix), device)


def is_packed(matrix: TernaryMatrix | PlaneMatrix | FloatMatrix) -> TypeGuard[TernaryMatrix]:
    """Say whether a matrix is ternary."""
    return hasattr(matrix, "packing")


def upload_ternary(
    names: Sequence[str], matrices: Sequence[TernaryMatrix], device: torch.device
) -> TernaryWeights:
    """Copy ternary matrices of the same depth to the GPU as one.

    Raises:
        ParameterError: their scales are too many or too few, or of groups of different sizes.
        UnsupportedModelError: a scale is for a group of columns that tensor cores cannot sum alone.
    """
    scales = [_row_scales(name, matrix) for name, matrix in zip(names, matrices, strict=True)]
    if len({one.shape[1] for one in scales}) > 1:
        raise ParameterError(f"{', '.join(names)} have scales for groups of different sizes")
    words = np.concatenate([_words(matrix) for matrix in matrices])
    return TernaryWeights(
        words=torch.from_numpy(words).to(device),
        scales=torch.from_numpy(np.concatenate(scales)).to(device),
        rows=tuple(matrix.rows for matrix in matrices),
        depth=matrices[0].depth,
    )


def upload_rows(matrix: FloatMatrix | PlaneMatrix, device: torch.device) -> RowWeights:
    """Copy a matrix of floats or planes to the GPU, as it is stored; planes become int8."""
    shape = (matrix.rows, matrix.depth)
    scales = getattr(matrix, "scales", None)
    if scales is not None:
        codes = planes(matrix.type).unpack(np.asarray(matrix.data), *shape)
        return RowWeights(torch.from_numpy(codes).to(device), torch.from_numpy(np.array(scales)).to(device))
    data = np.array(matrix.data).reshape(shape)
    if matrix.type == "bf16":
        return RowWeights(torch.from_numpy(data.view(np.int16)).view(torch.bfloat16).to(device), None)
    return RowWeights(torch.from_numpy(data).to(device), None)


def _words(matrix: TernaryMatrix) -> npt.NDArray[np.int32]:
    """The bytes of `two_bit`, copied; another packing is packed anew."""
    data = np.asarray(matrix.data)
    if matrix.packing != "two_bit":
        data = two_bit.pack(packing(matrix.packing).unpack(data, matrix.rows, matrix.depth))
    tiles = -(-matrix.depth // two_bit.DEPTH_MULTIPLE)
    return np.array(data).view(np.int32).reshape(-1, tiles, TILE)


def _row_scales(name: str, matrix: TernaryMatrix) -> npt.NDArray[np.float32]:
    """A scale for each row and group, zeros for the rows that fill the last tile."""
    rows, found = matrix.rows, np.asarray(matrix.scales, np.float32)
    if found.size == 1:
        found = np.repeat(found, rows)
    groups = found.size // rows
    if not groups or found.size != rows * groups or matrix.depth % groups:
        raise ParameterError(
            f"{name} has {found.size} scales, expected 1, one for each of its {rows} rows, or one for each "
            f"row and group of its {matrix.depth} columns"
        )
    if groups > 1 and matrix.depth // groups % GROUP_MULTIPLE:
        raise UnsupportedModelError(
            f"{name} has a scale for every {matrix.depth // groups} columns; on a GPU groups are multiples "
            f"of {GROUP_MULTIPLE} columns. Run the model on the CPU."
        )
    scales = np.zeros((_padded(rows), groups), np.float32)
    scales[:rows] = found.reshape(rows, groups)
    return scales


def _padded(rows: int) -> int:
    return -(-rows // TILE) * TILE
