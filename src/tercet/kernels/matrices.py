"""Matrices as the core takes them: what each kind has, and how it is handed over without a copy.

Nothing here derives from the classes of `tercet.formats.matrices`, which have these fields.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from tercet import _core
from tercet.errors import ParameterError, UnsupportedModelError

__all__ = ["FloatMatrix", "PlaneMatrix", "TernaryMatrix", "borrowed"]


class TernaryMatrix(Protocol):
    """A packed ternary matrix, for example `tercet.formats.matrices.PackedMatrix`."""

    @property
    def packing(self) -> str:
        """`two_bit` or `five_per_byte`."""

    @property
    def rows(self) -> int:
        """Outputs."""

    @property
    def depth(self) -> int:
        """Inputs."""

    @property
    def data(self) -> npt.NDArray[np.uint8]:
        """The packed codes, one-dimensional."""

    @property
    def scales(self) -> npt.NDArray[np.float32]:
        """Multipliers, one-dimensional: one, one per row, or one per row and group of columns."""


class FloatMatrix(Protocol):
    """A float matrix, for example `tercet.formats.matrices.FloatMatrix`."""

    @property
    def type(self) -> str:
        """`f32`, `f16` or `bf16`."""

    @property
    def rows(self) -> int:
        """Vectors; a norm has one."""

    @property
    def depth(self) -> int:
        """Width of a vector."""

    @property
    def data(self) -> npt.NDArray[Any]:
        """The elements as stored (bfloat16 as uint16), one-dimensional, row-major."""


class PlaneMatrix(Protocol):
    """An embedding or output head in planes, for example `tercet.formats.matrices.PlaneMatrix`."""

    @property
    def type(self) -> str:
        """`int8_planes` or `int6_planes`."""

    @property
    def rows(self) -> int:
        """Tokens."""

    @property
    def depth(self) -> int:
        """Width of a row."""

    @property
    def data(self) -> npt.NDArray[np.uint8]:
        """The high plane of all rows, then the low plane, one-dimensional."""

    @property
    def scales(self) -> npt.NDArray[np.float32]:
        """Multipliers, one for each row."""


def borrowed(
    name: str, matrix: TernaryMatrix | PlaneMatrix | FloatMatrix
) -> _core.TernaryMatrix | _core.PlaneMatrix | _core.FloatMatrix:
    """Hand a matrix to the core, which keeps its arrays alive.

    Raises:
        ParameterError: its size is not that of its shape, or its scales are too many or too few.
        UnsupportedModelError: it has a scale for groups that are not a multiple of 16 columns.
    """
    packing = getattr(matrix, "packing", None)
    if packing is None and getattr(matrix, "scales", None) is not None:
        return _core.PlaneMatrix(matrix.data, matrix.type, matrix.rows, matrix.depth, matrix.scales)  # type: ignore[union-attr]
    if packing is None:
        return _core.FloatMatrix(matrix.data, matrix.type, matrix.rows, matrix.depth)  # type: ignore[union-attr]
    scales = matrix.scales  # type: ignore[union-attr]
    group_size = 0
    if scales.size not in (1, matrix.rows):
        groups = scales.size // matrix.rows
        group_size = matrix.depth // groups if groups else 0
        if not group_size or scales.size != matrix.rows * groups or matrix.depth != groups * group_size:
            raise ParameterError(
                f"{name} has {scales.size} scales, expected 1, one for each of its {matrix.rows} rows, or "
                f"one for each row and group of its {matrix.depth} columns"
            )
        if group_size % 16:
            raise UnsupportedModelError(
                f"{name} has a scale for every {group_size} columns; the decoder computes groups of a "
                "multiple of 16 columns. Requantize it with such groups, or one scale per tensor or row."
            )
    return _core.TernaryMatrix(matrix.data, packing, matrix.rows, matrix.depth, scales, group_size)
