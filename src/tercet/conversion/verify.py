"""Whether two stored models compute the same.

Ternary matrices are compared code by code and scale by scale, and every float with its original. Then both
models go through the NumPy reference on a fixed prompt, with activations unquantized, since the logits are
then a smooth function of the weights; with int8 activations, one rounding that falls the other way would hide
a small error.

A large vocabulary is cut to some thousand tokens for this, those of the prompt among them: embedding and
output head are then as large as a matrix of a layer, and one at a time is all that is in memory. (Their other
rows have been compared already.)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import numpy.typing as npt

from tercet.conversion.outputs.output import LOGIT_ERRORS, Exactness
from tercet.formats.floats import to_float32
from tercet.formats.matrices import FloatMatrix, PackedMatrix, PlaneMatrix
from tercet.models.config import ModelConfig
from tercet.models.loading import LoadedModel, ReferenceWeight
from tercet.quantization.ternary_tensor import TernaryTensor
from tercet.reference import ReferenceDecoder

__all__ = ["Verification", "compare_models"]

PROMPT_TOKENS = 16
COMPARED_TOKENS = 4096
"""Tokens of a large vocabulary whose logits are compared."""
CHUNK_ELEMENTS = 1 << 20
FEW_CODES = 8
"""Codes of a small matrix that may change where a share of them may."""
_VOCABULARY = ("embedding", "output_head")


@dataclasses.dataclass(frozen=True)
class Verification:
    """The difference between a model and what was made of it."""

    different_matrices: tuple[str, ...]
    """Names of the ternary matrices whose codes or scales differ by more than they may."""
    changed_codes: int
    """How many codes differ, in all matrices together."""
    scale_error: float
    """The largest relative difference of two scales."""
    num_tokens: int
    max_abs_error: float
    relative_rms_error: float
    """Root mean square of the differences over that of the logits."""
    same_top_token: float
    """Share of positions where both prefer the same token."""
    tolerance: float
    """The largest relative RMS that is allowed."""

    @property
    def passed(self) -> bool:
        """Whether the matrices are as equal as they must be and the logits within the tolerance."""
        return not self.different_matrices and self.relative_rms_error <= self.tolerance  # False for NaN

    def __str__(self) -> str:
        return (
            f"{self._matrices()}; logits of {self.num_tokens} tokens differ by "
            f"{self.relative_rms_error:.2e} (relative RMS, "
            f"{self.tolerance:.0e} allowed), {self.max_abs_error:.2e} at most; "
            f"{self.same_top_token:.0%} of the preferred tokens agree"
        )

    def _matrices(self) -> str:
        if self.different_matrices:
            count = len(self.different_matrices)
            return f"{count} matrices differ ({self.different_matrices[0]} first)"
        if self.changed_codes:
            return f"{self.changed_codes} codes differ, as rounding masters may do"
        if self.scale_error:
            return f"codes are equal, scales to one part in {1 / self.scale_error:.0f}"
        return "ternary matrices are equal"


@dataclasses.dataclass
class _Differences:
    """What has been found so far."""

    matrices: dict[str, None] = dataclasses.field(default_factory=dict)
    changed_codes: int = 0
    scale_error: float = 0.0


def compare_models(
    source: LoadedModel,
    result: LoadedModel,
    exactness: Exactness | None = None,
    progress: Callable[[str], None] | None = None,
) -> Verification:
    """Compare two models of the same shape on a fixed prompt.

    Args:
        source: the model.
        result: what was made of it.
        exactness: what must be equal, and how closely; by default everything but the rounding of floats to
            the coarsest float type in which `result` stores a matrix.
        progress: called with the name of each tensor that was compared.
    """
    if exactness is None:
        types = [LOGIT_ERRORS[info.type] for info in result.tensors.values() if info.type in LOGIT_ERRORS]
        exactness = Exactness(logit_error=max(types, default=LOGIT_ERRORS["f32"]))
    found = _Differences()
    for name in source.tensors:
        _compare_tensor(name, source, result, exactness, found)
        source.release()
        result.release()
        if progress is not None:
            progress(name)
    num_tokens = min(PROMPT_TOKENS, source.config.max_context)
    # Every id is a step of the golden ratio away from the last: well spread, whatever the vocabulary.
    prompt = (np.arange(1, num_tokens + 1) * 0.6180339887 % 1 * source.config.vocab_size).astype(np.int64)
    kept = _compared_tokens(source.config, prompt)
    expected, actual = (_logits(model, kept, np.searchsorted(kept, prompt)) for model in (source, result))
    error = (actual - expected).astype(np.float64)
    return Verification(
        different_matrices=tuple(found.matrices),
        changed_codes=found.changed_codes,
        scale_error=found.scale_error,
        num_tokens=num_tokens,
        max_abs_error=float(np.abs(error).max()),
        relative_rms_error=float(np.sqrt(np.mean(error**2) / np.mean(expected.astype(np.float64) ** 2))),
        same_top_token=float(np.mean(expected.argmax(axis=-1) == actual.argmax(axis=-1))),
        tolerance=exactness.logit_error,
    )


def _compare_tensor(
    name: str, source: LoadedModel, result: LoadedModel, exactness: Exactness, found: _Differences
) -> None:
    expected, actual = (model.plain_weights[name] for model in (source, result))
    if isinstance(expected, FloatMatrix) and isinstance(actual, FloatMatrix):
        # A float that is off by a tenth of the largest is no rounding, whatever the type.
        if any(bad for bad in _float_differences(expected, actual, limit=0.1)):
            found.matrices[name] = None
        return
    if isinstance(expected, FloatMatrix) or isinstance(actual, FloatMatrix):
        if not _equal_values(expected, actual, exactness.scale_error):
            found.matrices[name] = None
        return
    before, after = expected.unpack(), actual.unpack()
    changed = int(np.count_nonzero(before.codes != after.codes))
    error = _scale_error(before, after)
    found.changed_codes += changed
    found.scale_error = max(found.scale_error, error)
    allowed = max(exactness.changed_codes * before.codes.size, FEW_CODES * (exactness.changed_codes > 0))
    if changed > allowed or not error <= exactness.scale_error:
        found.matrices[name] = None


def _scale_error(before: TernaryTensor, after: TernaryTensor) -> float:
    """Return the largest relative difference of scales that belong to codes other than zero."""
    groups = max(before.shape[1] // before.group_size, after.shape[1] // after.group_size)
    if groups % (before.shape[1] // before.group_size) or groups % (after.shape[1] // after.group_size):
        return np.inf
    spread = []
    for tensor in (before, after):
        scales = tensor.scales.reshape((1, 1) if tensor.scales.ndim == 0 else (tensor.shape[0], -1))
        scales = np.repeat(scales, groups // scales.shape[1], axis=1)
        spread.append(np.broadcast_to(scales, (tensor.shape[0], groups)).astype(np.float64))
    used = np.any(before.codes.reshape(before.shape[0], groups, -1), axis=-1)
    differences = np.abs(spread[1] - spread[0])[used]
    largest = np.maximum(np.abs(spread[0][used]), np.finfo(np.float32).tiny)
    return float((differences / largest).max(initial=0.0))


def _equal_values(
    expected: PackedMatrix | FloatMatrix, actual: PackedMatrix | FloatMatrix, tolerance: float
) -> bool:
    """Compare real values, a few rows at a time, where one of the two is not stored as codes."""
    if isinstance(expected, FloatMatrix):
        expected, actual = actual, expected
    if isinstance(expected, FloatMatrix) or isinstance(actual, PackedMatrix):
        return False
    tensor, floats = expected.unpack(), actual
    rows, depth = tensor.shape
    step = max(1, CHUNK_ELEMENTS // depth)
    for start in range(0, rows, step):
        part = slice(start, start + step)
        scales = tensor.scales[part] if tensor.scales.ndim else tensor.scales
        values = TernaryTensor(tensor.codes[part], scales).dequantize()
        stored = floats.data[start * depth : (start + len(values)) * depth]
        others = to_float32(stored, floats.type).reshape(values.shape)
        if not (np.abs(values - others) <= tolerance * np.abs(values)).all():
            return False
    return True


def _float_differences(expected: FloatMatrix, actual: FloatMatrix, limit: float) -> Iterator[bool]:
    for start in range(0, expected.data.size, CHUNK_ELEMENTS):
        part = slice(start, start + CHUNK_ELEMENTS)
        before = to_float32(expected.data[part], expected.type)
        after = to_float32(actual.data[part], actual.type)
        largest = max(float(np.abs(before).max()), float(np.finfo(np.float32).tiny))
        yield not float(np.abs(after - before).max()) <= limit * largest


def _compared_tokens(config: ModelConfig, prompt: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the ids, ascending, whose embeddings and logits are looked at."""
    if config.vocab_size <= 2 * COMPARED_TOKENS:
        return np.arange(config.vocab_size)
    spread = np.linspace(0, config.vocab_size - 1, COMPARED_TOKENS).astype(np.int64)
    return np.union1d(spread, prompt)


def _logits(
    model: LoadedModel, kept: npt.NDArray[np.int64], prompt: npt.NDArray[np.int64]
) -> npt.NDArray[np.float32]:
    config = dataclasses.replace(
        model.config, vocab_size=len(kept), bos_token_id=None, eos_token_ids=(), pad_token_id=None
    )
    weights = _CutWeights(model, kept)
    return ReferenceDecoder(config, weights, quantize_activations=False).logits(prompt)


class _CutWeights(Mapping[str, ReferenceWeight]):
    """A model's tensors with the rows of some tokens only, nothing kept and nothing left mapped."""

    def __init__(self, model: LoadedModel, kept: npt.NDArray[np.int64]) -> None:
        self._model = model
        self._kept = kept

    def __getitem__(self, name: str) -> ReferenceWeight:
        cut = name in _VOCABULARY and len(self._kept) < self._model.config.vocab_size
        made = self._cut(name) if cut else self._model.reference_weights[name]
        if not isinstance(made, TernaryTensor):
            made = np.array(made, np.float32)
        self._model.release()
        return made

    def __iter__(self) -> Iterator[str]:
        return iter(self._model.tensors)

    def __len__(self) -> int:
        return len(self._model.tensors)

    def _cut(self, name: str) -> ReferenceWeight:
        matrix = self._model.weights[name]
        if isinstance(matrix, PlaneMatrix):
            return matrix.float32(self._kept)
        if isinstance(matrix, FloatMatrix):
            return to_float32(matrix.data.reshape(matrix.rows, matrix.depth)[self._kept], matrix.type)
        whole = matrix.unpack()
        return TernaryTensor(
            whole.codes[self._kept], whole.scales[self._kept] if whole.scales.ndim else whole.scales
        )
