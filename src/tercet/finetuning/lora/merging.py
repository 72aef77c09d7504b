"""What an adapter becomes when it goes into the matrices of a model.

    floats (PEFT)   masters W + scale · B A, rounded again: s' = mean |W + Δ|, C' = clip(round((W + Δ) / s'))
    codes           masters for the codes that the adapter makes, with the scale that was there: exact

A weight whose master moves by less than what it is away from the next threshold (±s/2) keeps its code: then
its share of the adapter is lost. `MatrixChange.kept` says how much of the adapter has arrived, as the part of
s'C' - sC that points the way of Δ: <s'C' - sC, Δ> / <Δ, Δ>. It is 1 where everything has, on average.

Without masters (a packed model) some are made up that round to its codes (`trainable.master_values`). They
are spread over the intervals of their codes, so that some codes change and some do not: as with rounding by
chance, part of the adapter arrives, though not at the weights that a training would have chosen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from tercet.errors import FormatError, UnsupportedModelError
from tercet.finetuning.export import as_loaded_model
from tercet.finetuning.lora.ternary_adapter import merged_codes
from tercet.finetuning.lora.ternary_files import TernaryAdapter, codes_digest
from tercet.finetuning.trainable import Trainable
from tercet.formats.huggingface.masters import master_blocks
from tercet.formats.peft import PeftAdapter
from tercet.quantization.ternary_tensor import TernaryTensor
from tercet.quantization.weights import absmean_ternary, sign_binary

__all__ = ["MatrixChange", "base_digest", "merge_float_adapter", "merge_ternary_adapter"]


@dataclass(frozen=True)
class MatrixChange:
    """What a merge did to the codes of one matrix."""

    name: str
    weights: int
    began: int
    """Codes that were 0 and are not."""
    ended: int
    """Codes that are 0 and were not."""
    turned: int
    """Codes that changed their sign."""
    scale_before: float
    scale_after: float
    wanted: float
    """Size of what the adapter adds, relative to the matrix: |Δ| / |sC|."""
    kept: float
    """How much of that has arrived: 1 is all of it, 0 is nothing."""

    @property
    def changed(self) -> int:
        """Codes that are another than they were."""
        return self.began + self.ended + self.turned


def merge_float_adapter(trainable: Trainable, adapter: PeftAdapter) -> list[MatrixChange]:
    """Add an adapter to the masters of a model; what is exported then is rounded from the sums.

    Raises:
        UnsupportedModelError: the adapter is of a matrix that is not ternary in this model.
        FormatError: it holds values that are not finite.
    """
    binary = trainable.config.weight_rule == "sign"
    rounded = sign_binary if binary else absmean_ternary
    if foreign := [name for name in adapter.pairs if name not in trainable.ternary]:
        raise UnsupportedModelError(
            f"{adapter.path} adapts {foreign[0]}, which is not ternary in {trainable.path}"
        )
    changes = []
    for name, pair in adapter.pairs.items():
        delta = np.float32(pair.scale) * (pair.expand.float32() @ pair.reduce.float32())
        if not np.isfinite(delta).all():
            raise FormatError(f"{adapter.path}: what it adds to {name} is not finite")
        values = trainable.values(name)
        before, after = rounded(values), rounded(values + delta)
        _set_master(trainable, name, values + delta)
        changes.append(_change(name, before, after, delta))
    return changes


def base_digest(trainable: Trainable) -> str:
    """Return the digest of the codes that the masters of a model round to."""
    weights = as_loaded_model(trainable).reference_weights
    tensors = (weights[name] for name in trainable.ternary)
    return codes_digest(tensor for tensor in tensors if isinstance(tensor, TernaryTensor))


def merge_ternary_adapter(trainable: Trainable, adapter: TernaryAdapter) -> list[MatrixChange]:
    """Give the model masters for the codes that the adapter makes of its codes. The scales stay.

    Raises:
        FormatError: the adapter was trained beside other codes.
    """
    if adapter.base != base_digest(trainable):
        raise FormatError(
            f"this adapter was not trained beside the codes of {trainable.path}: the codes that it moves "
            "mean something else there. Merge it into the model that it was trained with."
        )
    changes = []
    for name, (a, b) in adapter.matrices.items():
        before = absmean_ternary(trainable.values(name))
        codes, votes_a, votes_b = (torch.tensor(part) for part in (before.codes, a, b))
        made = merged_codes(codes, votes_a, votes_b, adapter.threshold).numpy()
        after = TernaryTensor(made, before.scales)
        _set_master(
            trainable, name, np.concatenate(list(master_blocks(made, np.float32(before.scales), "f32")))
        )
        changes.append(_change(name, before, after, after.dequantize() - before.dequantize()))
    return changes


def _set_master(trainable: Trainable, name: str, values: npt.NDArray[np.float32]) -> None:
    with torch.no_grad():
        trainable.parameter(name).copy_(torch.from_numpy(values))


def _change(
    name: str, before: TernaryTensor, after: TernaryTensor, delta: npt.NDArray[np.float32]
) -> MatrixChange:
    old, new = before.codes, after.codes
    size = float(np.square(delta, dtype=np.float64).sum())
    arrived = float(np.sum((after.dequantize() - before.dequantize()) * delta, dtype=np.float64))
    whole = float(np.square(before.dequantize(), dtype=np.float64).sum())
    return MatrixChange(
        name=name,
        weights=old.size,
        began=int(np.count_nonzero((old == 0) & (new != 0))),
        ended=int(np.count_nonzero((old != 0) & (new == 0))),
        turned=int(np.count_nonzero(old * new < 0)),
        scale_before=float(before.scales),
        scale_after=float(after.scales),
        wanted=(size / whole) ** 0.5 if whole else 0.0,
        kept=arrived / size if size else 1.0,
    )
