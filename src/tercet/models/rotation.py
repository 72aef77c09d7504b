"""A model whose weights are in a rotated basis: which inputs are turned before a matrix, and how.

    x' = H (s * x) / sqrt n        before each matrix of `inputs`
    h  = s * (H z) / sqrt n        after a row z of a table of `outputs` was looked up

H is Sylvester's Hadamard matrix of n = `block_size`, applied to every n consecutive elements, and s a vector
of signs for each width. Nothing in the weights shows that they are turned, so the description travels with
them; `tercet.reference.hadamard` computes it.

In a file signs are a hexadecimal string: bit i (most significant first) is 1 where s[i] is -1.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tercet.errors import ParameterError
from tercet.models.field_checks import MAX_DIMENSION, check_keys, check_whole

__all__ = ["Rotation"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rotation:
    """One rotation; immutable, comparable, and checked when it is made. `of_signs` makes one from vectors.

    Raises:
        ParameterError: a block size is no power of two, or signs or names are not what they should be.
    """

    block_size: int
    """Elements that are turned together; a power of two that divides the width of every input."""
    inputs: tuple[str, ...]
    """Canonical names of the matrices whose input is turned; `embedding` stands for a tied output head."""
    outputs: tuple[str, ...] = ()
    """Canonical names of the tables whose rows are turned back: `embedding`, or none."""
    signs: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Width (in decimal) -> signs as a hexadecimal string; empty where no sign is changed."""

    def __post_init__(self) -> None:
        check_whole("rotation.block_size", self.block_size, 2)
        if self.block_size & (self.block_size - 1):
            raise ParameterError(f"rotation.block_size must be a power of two, not {self.block_size}")
        for field in ("inputs", "outputs"):
            names = getattr(self, field)
            if not isinstance(names, (tuple, list)) or not all(isinstance(name, str) for name in names):
                raise ParameterError(f"rotation.{field} must be a sequence of tensor names, not {names!r}")
            if len(set(names)) != len(names):
                raise ParameterError(f"rotation.{field} names a tensor twice")
            object.__setattr__(self, field, tuple(names))
        if not isinstance(self.signs, Mapping):
            raise ParameterError(f"rotation.signs must map widths to signs, not {self.signs!r}")
        object.__setattr__(self, "signs", dict(self.signs))
        for width, text in self.signs.items():
            _unpacked(width, text)

    def __hash__(self) -> int:
        return hash((self.block_size, self.inputs, self.outputs, tuple(sorted(self.signs.items()))))

    @classmethod
    def of_signs(
        cls,
        block_size: int,
        inputs: Iterable[str],
        outputs: Iterable[str] = (),
        signs: Mapping[int, NDArray[np.int8]] | None = None,
    ) -> Rotation:
        """Make a rotation whose signs are given as vectors, width -> int8[width] of -1 and +1."""
        packed = {}
        for width, vector in (signs or {}).items():
            values = np.asarray(vector)
            if values.shape != (width,) or not (np.abs(values) == 1).all():
                raise ParameterError(f"the signs for inputs of width {width} must be {width} times -1 or +1")
            packed[str(width)] = np.packbits(values < 0).tobytes().hex()
        return cls(block_size=block_size, inputs=tuple(inputs), outputs=tuple(outputs), signs=packed)

    def signs_of(self, width: int) -> NDArray[np.float32]:
        """Return the signs of inputs of this width, float32 [width] of -1 and +1."""
        if not self.signs:
            return np.ones(width, np.float32)
        return _unpacked(str(width), self.signs[str(width)])

    def check_width(self, name: str, width: int) -> None:
        """Refuse a tensor whose rows of `width` elements cannot be turned in this way."""
        if width % self.block_size:
            raise ParameterError(
                f"the rotation turns blocks of {self.block_size} elements, and {name} has {width}"
            )
        if self.signs and str(width) not in self.signs:
            raise ParameterError(f"the rotation has no signs for {name}, whose width is {width}")

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-compatible values; `from_dict` is the inverse."""
        return {
            "block_size": self.block_size,
            "inputs": list(self.inputs),
            "outputs": list(self.outputs),
            "signs": dict(self.signs),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Rotation:
        """Make a rotation of what `to_dict` returned. Raises ParameterError where it is not like that."""
        return cls(**check_keys("rotation", cls, values))


def _unpacked(width: object, text: object) -> NDArray[np.float32]:
    if not isinstance(width, str) or not width.isascii() or not width.isdigit() or len(width) > 8:
        raise ParameterError(f"rotation.signs must map widths in decimal to signs, not {width!r}")
    size = int(width)
    if str(size) != width or not 0 < size <= MAX_DIMENSION:
        raise ParameterError(f"rotation.signs has the width {width!r}, expected 1 to {MAX_DIMENSION}")
    num_bytes = -(-size // 8)
    try:
        data = bytes.fromhex(text) if isinstance(text, str) and len(text) == 2 * num_bytes else b""
    except ValueError:
        data = b""
    bits = np.unpackbits(np.frombuffer(data, np.uint8))
    if len(data) != num_bytes or bits[size:].any():
        raise ParameterError(
            f"rotation.signs of width {width} must be {size} bits in {2 * num_bytes} hex digits"
        )
    return np.where(bits[:size] == 1, np.float32(-1), np.float32(1))
