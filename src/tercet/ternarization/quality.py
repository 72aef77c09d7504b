"""How far a ternarized model is from its source, on a text that neither the method nor a person has fitted.

Source and result read the same windows side by side, a layer at a time. At each matrix both weights are given
the inputs that the result has there; at the end both logits are compared, token by token:

    weight error     |W - Q| / |W|
    output error     |x W^T - x Q^T| / |x W^T|, with x as the result has it
    hidden error     |h' - h| / |h| behind each layer: what has piled up so far
    KL               mean of KL(source || result) over the next-token distributions, in nats
    top 1            share of positions where both prefer the same token
    perplexity       of each, over the same tokens; vocab_size is what knowing nothing gives
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tercet.evaluation.agreement import agreement_sums
from tercet.models.loading import LoadedModel
from tercet.models.tensor_names import is_ternary
from tercet.quantization.ternary_tensor import TernaryTensor
from tercet.ternarization.side_by_side import SideBySide

__all__ = ["MatrixQuality", "Quality", "measure_quality"]

Array = NDArray[np.float32]
ROWS_AT_A_TIME = 64  # float64 rows of a large vocabulary are a megabyte each


@dataclasses.dataclass(frozen=True)
class MatrixQuality:
    """One matrix."""

    name: str
    weight_error: float
    output_error: float
    share_of_zeros: float


@dataclasses.dataclass(frozen=True)
class Quality:
    """The figures; all errors are relative."""

    tokens: int
    """How many predictions were compared."""
    source_perplexity: float
    result_perplexity: float
    kl_divergence: float
    same_top_token: float
    hidden_errors: tuple[float, ...]
    """Behind each layer."""
    matrices: tuple[MatrixQuality, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON-ready values."""
        return dataclasses.asdict(self)


def measure_quality(
    source: LoadedModel,
    result: LoadedModel,
    sequences: NDArray[np.int64],
    progress: Callable[[str], None] = lambda what: None,
) -> Quality:
    """Compare a ternarized model with its source on token ids, int64 [sequences, tokens].

    Args:
        source: in full precision.
        result: of the same shape.
        sequences: the text, in windows that are read each on its own.
        progress: called after each layer, and at the end of each sequence.
    """
    length = sequences.shape[1]
    before = SideBySide(source.config, source.reference_weights, length)
    after = _Measured(source, result, length)
    x, y = before.begin(sequences), after.begin(sequences)
    hidden_errors = []
    for index in range(source.config.num_layers):
        x, y = before.layer(index, x), after.layer(index, y)
        hidden_errors.append(_relative(y - x, x))
        source.release()
        result.release()
        progress(f"layer {index}")
    x, y = before.before_head(x), after.before_head(y)
    heads = before.head(), after.head()
    sums = np.zeros(4)
    for index, ids in enumerate(sequences):
        rows = slice(index * length, (index + 1) * length)
        sums += _compared_logits(x[rows], y[rows], heads, ids)
        progress(f"text {index}")
    tokens = len(sequences) * (length - 1)
    nats, result_nats, divergence, same = sums / tokens
    return Quality(
        tokens=tokens,
        source_perplexity=float(np.exp(nats)),
        result_perplexity=float(np.exp(result_nats)),
        kl_divergence=float(divergence),
        same_top_token=float(same),
        hidden_errors=tuple(hidden_errors),
        matrices=tuple(after.matrices),
    )


class _Measured(SideBySide):
    """The result's decoder, which looks at the source's weights as it goes."""

    def __init__(self, source: LoadedModel, result: LoadedModel, length: int) -> None:
        super().__init__(result.config, result.reference_weights, length)
        self._source = source
        self.matrices: list[MatrixQuality] = []

    def _linear(self, name: str, x: Array) -> Array:
        y = super()._linear(name, x)
        weight = self._weight(name)
        if is_ternary(name) and isinstance(weight, TernaryTensor):
            original = np.asarray(self._source.reference_weights[name], np.float32)
            expected = x @ original.T
            self.matrices.append(
                MatrixQuality(
                    name,
                    _relative(weight.dequantize() - original, original),
                    _relative(y - expected, expected),
                    float(np.mean(weight.codes == 0)),
                )
            )
        return y


def _compared_logits(
    x: Array, y: Array, heads: tuple[Array, Array], ids: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return sums over one sequence: nats of the source, nats of the result, KL, same first choices."""
    sums = np.zeros(4)
    last = len(ids) - 1
    for start in range(0, last, ROWS_AT_A_TIME):
        rows = slice(start, min(start + ROWS_AT_A_TIME, last))
        targets = ids[rows.start + 1 : rows.stop + 1]
        source, result = (h[rows] @ head.T for h, head in zip((x, y), heads, strict=True))
        sums += agreement_sums(source, result, targets)
    return sums


def _relative(difference: Array, whole: Array) -> float:
    """Return the relative size, summed in float64."""
    parts = (np.sqrt(np.sum(np.square(a, dtype=np.float64))) for a in (difference, whole))
    lost, size = parts
    return float(lost / max(size, np.finfo(np.float32).tiny))
