"""The rotated basis of PrismML's models: `prism.hadamard.*` is honoured or refused, never ignored.

The weights of such a model were multiplied by the transpose of R before they were made ternary, where R turns
every block of n inputs:

    R = (1 / sqrt n) H S      H: Sylvester's Hadamard matrix, H[i, j] = (-1)^popcount(i & j)
                              S: a diagonal of signs, or the identity

So the input of each listed matrix must be turned before the product: x' = H (s * x) / sqrt n. An embedding
may be stored turned; a row z looked up in it becomes h = s * (H z) / sqrt n. Where it is the output head as
well (version 2, `tied_output`), the head's input is turned like that of a listed matrix. Nothing in the
weights shows any of this, and a model that is run without it speaks nonsense.

Source: PrismML's fork of llama.cpp, `llama_model_base::load_hparams`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from tercet.errors import FormatError, UnsupportedModelError
from tercet.formats.gguf.values import Metadata

__all__ = ["HadamardRotation", "read_rotation"]

PREFIX = "prism.hadamard."
KNOWN = (
    "version", "block_size", "transform", "axis", "sign_mode", "sign_widths", "sign_values",
    "weight_names", "inverse_weight_names", "gdn_v_grouped", "tied_output",
)  # fmt: skip
TRANSFORM = "normalized-sylvester-walsh-hadamard"
AXIS = "input-last-dimension"
EMBEDDING, HEAD = "token_embd.weight", "output.weight"
MAX_BLOCK_SIZE = 1 << 20


@dataclasses.dataclass(frozen=True, eq=False)
class HadamardRotation:
    """Which inputs are turned, and how. Names are those of the file."""

    block_size: int
    """Consecutive inputs that are turned together; a power of two that divides the width of each matrix."""
    signs: Mapping[int, npt.NDArray[np.int8]]
    """Width of the input -> its signs, int8[width] of -1 and +1; empty where S is the identity."""
    weight_names: frozenset[str]
    """Matrices whose input is turned before the product."""
    inverse_weight_names: frozenset[str]
    """Tables whose rows are turned back after they are looked up."""
    tied_output: bool
    """Whether the embedding, which is one of those tables, is the output head too."""
    deltanet_values_grouped: bool
    """Whether the value heads of Gated-DeltaNet layers are in another order; of no matter to other layers."""

    def signs_of(self, width: int) -> npt.NDArray[np.int8] | None:
        """Return the signs for inputs of this width, or None where they are all +1."""
        return self.signs[width] if self.signs else None


def read_rotation(metadata: Metadata, shapes: Mapping[str, tuple[int, ...]]) -> HadamardRotation | None:
    """Return the rotation that a file describes, or None if it has none.

    Args:
        metadata: the values of the file.
        shapes: name -> shape of every tensor of the file, which the description must agree with.

    Raises:
        FormatError: the description is incomplete, or at odds with itself or with the tensors.
        UnsupportedModelError: it asks for something that is not described here.
    """
    keys = {key.removeprefix(PREFIX) for key in metadata if key.startswith(PREFIX)}
    if not keys:
        return None
    if unknown := sorted(keys - set(KNOWN)):
        raise UnsupportedModelError(
            f"the file describes a rotation with {PREFIX}{unknown[0]}, which this release does not know. "
            "Running the model without it would give nonsense."
        )
    tied_output = metadata.flag(PREFIX + "tied_output", default=False)
    version = 2 if tied_output else 1
    for key, expected in (("version", version), ("transform", TRANSFORM), ("axis", AXIS)):
        found = metadata.integer(PREFIX + key) if key == "version" else metadata.text(PREFIX + key)
        if found != expected:
            raise UnsupportedModelError(
                f"the file describes a rotation with {PREFIX}{key} = {found!r}, expected {expected!r}. "
                "Running the model without it would give nonsense."
            )
    block_size = metadata.integer(PREFIX + "block_size", 2, MAX_BLOCK_SIZE)
    if block_size & (block_size - 1):
        raise metadata.error(PREFIX + "block_size", "a power of two")
    names = _names(metadata, "weight_names", shapes)
    inverse = _names(metadata, "inverse_weight_names", shapes) if "inverse_weight_names" in keys else set()
    if not names or names & inverse:
        raise metadata.error(PREFIX + "weight_names", "names of matrices that are not turned back as well")
    if (EMBEDDING in inverse and HEAD not in shapes) != tied_output:
        raise metadata.error(
            PREFIX + "tied_output", "true if, and only if, a turned embedding is the output head as well"
        )
    rotation = HadamardRotation(
        block_size=block_size,
        signs=_signs(metadata, block_size, keys),
        weight_names=frozenset(names),
        inverse_weight_names=frozenset(inverse),
        tied_output=tied_output,
        deltanet_values_grouped=metadata.flag(PREFIX + "gdn_v_grouped", default=False),
    )
    for name in sorted(names | inverse):
        width = shapes[name][-1] if shapes[name] else 1
        if width % block_size or (rotation.signs and width not in rotation.signs):
            raise FormatError(
                f"the rotation of {name} does not fit its {width} inputs: blocks of {block_size}, "
                f"signs for {sorted(rotation.signs) or 'any width'}"
            )
    return rotation


def _names(metadata: Metadata, key: str, shapes: Mapping[str, tuple[int, ...]]) -> set[str]:
    names = metadata.texts(PREFIX + key)
    if len(set(names)) != len(names) or not set(names) <= set(shapes):
        raise metadata.error(PREFIX + key, "names of tensors of this file, each once")
    return set(names)


def _signs(metadata: Metadata, block_size: int, keys: set[str]) -> dict[int, npt.NDArray[np.int8]]:
    mode = metadata.text(PREFIX + "sign_mode")
    if mode == "identity":
        listed = keys & {"sign_widths", "sign_values"}
        if any(metadata.numbers(PREFIX + key).size for key in listed):
            raise metadata.error(PREFIX + "sign_mode", "explicit, as the file also lists signs")
        return {}
    if mode != "explicit":
        raise UnsupportedModelError(
            f"the file describes a rotation with {PREFIX}sign_mode = {mode!r}, expected identity or "
            "explicit. Running the model without it would give nonsense."
        )
    widths = metadata.integers(PREFIX + "sign_widths").tolist()
    values = metadata.numbers(PREFIX + "sign_values")
    if (
        not widths
        or len(set(widths)) != len(widths)
        or any(width < 1 or width % block_size for width in widths)
    ):
        raise metadata.error(PREFIX + "sign_widths", f"different multiples of {block_size}")
    if sum(widths) != len(values) or not (np.abs(values) == 1).all():
        raise metadata.error(PREFIX + "sign_values", f"{sum(widths)} values of -1 and +1, as the widths say")
    ends = np.cumsum(widths)
    return {width: values[end - width : end].astype(np.int8) for width, end in zip(widths, ends, strict=True)}
