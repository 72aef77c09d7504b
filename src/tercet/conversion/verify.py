"""Whether two stored models compute the same.

Ternary matrices must be the same, code by code and scale by scale. For everything else the logits speak: both
models go through the NumPy reference on a fixed prompt, with activations unquantized, since the logits are
then a smooth function of the weights; with int8 activations, one rounding that falls the other way would hide
a small error.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from tercet.models.loading import LoadedModel
from tercet.quantization.ternary_tensor import TernaryTensor
from tercet.reference import ReferenceDecoder

__all__ = ["Verification", "compare_models"]

PROMPT_TOKENS = 16
TOLERANCES = {"f32": 1e-5, "f16": 5e-3, "bf16": 4e-2}
"""How much rounding the embedding to a type may change the logits (relative), with a margin of about ten."""


@dataclasses.dataclass(frozen=True)
class Verification:
    """The difference between two sets of logits on the same prompt."""

    different_matrices: tuple[str, ...]
    """Names of the ternary matrices whose codes or scales differ."""
    num_tokens: int
    max_abs_error: float
    relative_rms_error: float
    """Root mean square of the differences over that of the logits."""
    same_top_token: float
    """Share of positions where both prefer the same token."""
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether the ternary matrices are equal and the logits within the tolerance."""
        return not self.different_matrices and self.relative_rms_error <= self.tolerance  # False for NaN

    def __str__(self) -> str:
        matrices = "ternary matrices are equal"
        if self.different_matrices:
            matrices = (
                f"{len(self.different_matrices)} ternary matrices differ ({self.different_matrices[0]} first)"
            )
        return (
            f"{matrices}; logits of {self.num_tokens} tokens differ by "
            f"{self.relative_rms_error:.2e} (relative RMS, "
            f"{self.tolerance:.0e} allowed), {self.max_abs_error:.2e} at most; "
            f"{self.same_top_token:.0%} of the preferred tokens agree"
        )


def compare_models(source: LoadedModel, result: LoadedModel) -> Verification:
    """Compare the logits of two models of the same shape on a fixed prompt.

    The tolerance is that of the coarsest float type in which `result` stores a matrix.
    """
    num_tokens = min(PROMPT_TOKENS, source.config.max_context)
    # Every id is a step of the golden ratio away from the last: well spread, whatever the vocabulary.
    prompt = (np.arange(1, num_tokens + 1) * 0.6180339887 % 1 * source.config.vocab_size).astype(np.int64)
    expected, found = (
        ReferenceDecoder(model.config, model.reference_weights, quantize_activations=False).logits(prompt)
        for model in (source, result)
    )
    error = (found - expected).astype(np.float64)
    return Verification(
        different_matrices=tuple(_different_matrices(source, result)),
        num_tokens=num_tokens,
        max_abs_error=float(np.abs(error).max()),
        relative_rms_error=float(np.sqrt(np.mean(error**2) / np.mean(expected.astype(np.float64) ** 2))),
        same_top_token=float(np.mean(expected.argmax(axis=-1) == found.argmax(axis=-1))),
        tolerance=max(TOLERANCES[info.type] for info in result.tensors.values() if info.type in TOLERANCES),
    )


def _different_matrices(source: LoadedModel, result: LoadedModel) -> Iterator[str]:
    for name in source.tensors:
        expected, found = source.reference_weights[name], result.reference_weights[name]
        if isinstance(expected, TernaryTensor) != isinstance(found, TernaryTensor):
            yield name
        elif isinstance(expected, TernaryTensor) and isinstance(found, TernaryTensor):
            same_scales = np.array_equal(expected.scales, found.scales)
            if not (same_scales and np.array_equal(expected.codes, found.codes)):
                yield name
