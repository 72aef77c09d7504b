"""What all ways of storing a model have in common: planning, writing and checking are written once."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from tercet.errors import FormatError
from tercet.formats.floats import from_float32, has_only_finite, to_float32
from tercet.formats.matrices import FloatMatrix, PackedMatrix, PlaneMatrix

__all__ = ["Change", "Exactness", "Matrix", "Output", "Sink", "float_chunks"]

Matrix = PackedMatrix | PlaneMatrix | FloatMatrix

CHUNK_ELEMENTS = 1 << 20
"""Float elements converted at a time."""


@dataclasses.dataclass(frozen=True)
class Change:
    """What becomes of one tensor."""

    name: str
    """Our name for it."""
    type: str
    """How it will be stored."""
    num_bytes: int
    granularity: str | None = None
    """How far a scale will reach, where it will be ternary."""


@dataclasses.dataclass(frozen=True)
class Exactness:
    """What a way of storing keeps, and so what a comparison with the source must find."""

    scale_error: float = 0.0
    """How much a scale may change, relatively."""
    logit_error: float = 1e-5
    """How much the logits may change (relative RMS), with a margin of about ten."""
    changed_codes: float = 0.0
    """Which share of the codes of a matrix may change: where masters are rounded, those at a threshold."""


LOGIT_ERRORS = {"f32": 1e-5, "f16": 5e-3, "bf16": 4e-2, "int8_planes": 0.1, "int6_planes": 0.4}
"""How much rounding everything that is no code to a type may change the logits, by the type's name."""
ROUNDING = {"f32": 2.0**-24, "f16": 2.0**-11, "bf16": 2.0**-8}
"""How much rounding to a type may change a number in its normal range, relatively."""


class Sink(abc.ABC):
    """Takes tensors in the order of `Output.changes` into a file."""

    @abc.abstractmethod
    def write(self, name: str, matrix: Matrix) -> str:
        """Write a tensor; returns what `skip` must be told of it."""

    @abc.abstractmethod
    def skip(self, name: str, digest: str) -> None:
        """Pass over a tensor that the file holds already."""

    @abc.abstractmethod
    def finish(self) -> None:
        """Complete the file."""


class Output(abc.ABC):
    """One way of storing one model, planned."""

    format: str
    """As `tercet convert --to` calls it."""
    inner_file: str | None = None
    """For a folder, the file in it that tensors are written into."""
    file_bytes: int
    """How long the result will be."""
    changes: Sequence[Change]
    exactness: Exactness

    @abc.abstractmethod
    def fingerprint(self) -> str:
        """Return a digest of everything about the result but its tensors."""

    def prepare(self, path: Path) -> None:  # noqa: B027  (most formats have nothing to write here)
        """Write what stands beside the tensors."""

    @abc.abstractmethod
    def sink(self, file: BinaryIO) -> Sink:
        """Begin to write tensors into a file that is open at its beginning."""

    def reading_options(self) -> dict[str, Any]:
        """Return what `load_model` must be told that the result cannot say itself."""
        return {}

    def notes(self) -> Iterator[tuple[str, str]]:
        """Yield further lines of the plan: a word, and what there is to say."""
        yield from ()


def float_chunks(name: str, matrix: FloatMatrix, float_type: str) -> Iterator[npt.NDArray[np.generic]]:
    """Yield the elements in a float type, a few at a time.

    Raises:
        FormatError: a value is too large for it.
    """
    for start in range(0, matrix.data.size, CHUNK_ELEMENTS):
        stored = matrix.data[start : start + CHUNK_ELEMENTS]
        if matrix.type != float_type:
            stored = from_float32(to_float32(stored, matrix.type), float_type)
            if not has_only_finite(stored, float_type):
                raise FormatError(
                    f"tensor {name} holds values too large for {float_type}. "
                    "Convert with embedding type bf16 or f32."
                )
        yield stored
