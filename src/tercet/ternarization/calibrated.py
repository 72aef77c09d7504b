"""Codes and scales of a matrix that keep its output, for inputs like those it gets.

What counts is not how far the ternary matrix Q is from W but how far its output is. Over inputs x that is

    E |x W^T - x Q^T|^2  =  sum over the rows d of W - Q of  d H d^T        H = E x^T x, the second moments

so an error in one column may be made good by another whose inputs go along with it. Four steps look for it:

    aim         W itself is moved first, so that on these inputs it gives what the full-precision model had
                here on its own: what was lost earlier is made good where that is possible
    feedback    column by column: round, then spread the error over the columns that are yet to come
    scales      for given codes, the best scales of a row are a small least-squares problem
    sweep       for given scales, each code in turn takes the value that is best beside all the others

The second is GPTQ, with a ternary grid whose scale is found, for each row and group, when its turn comes. The
others alternate: neither can make the error larger (the last one rounds a one-dimensional optimum). Columns
are taken in blocks of one group, so that most of the work is in matrix products.

Source: "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers", section 3.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from tercet.quantization.ternary_tensor import TernaryTensor
from tercet.quantization.weights import SMALLEST_SCALE

__all__ = ["Moments", "aimed", "calibrated"]

Array = NDArray[np.float32]

DAMPING = 0.01
"""Share of the mean diagonal that is added to H: inputs that were never seen are not free."""
AIM_DAMPING = 0.1
"""The same for the first step: it is to follow the text, and not every accident of it."""
SCALE_STEPS = 12
BLOCK = 128


@dataclasses.dataclass(frozen=True, eq=False)
class Moments:
    """H of some inputs, and the Cholesky factor that error feedback goes by."""

    matrix: Array
    """H, damped, float32 [depth, depth]."""
    factor: Array
    """Upper triangular U with U^T U = H^-1."""

    @classmethod
    def of(cls, inputs: Array) -> Moments:
        """Take the moments of inputs, float32 [tokens, depth]."""
        matrix = inputs.T @ inputs / np.float32(len(inputs))
        diagonal = np.einsum("ii->i", matrix)
        diagonal += max(DAMPING * float(diagonal.mean()), float(np.finfo(np.float32).tiny) / DAMPING)
        inverse = np.linalg.inv(matrix.astype(np.float64))
        factor = np.linalg.cholesky((inverse + inverse.T) / 2).T
        return cls(matrix, np.ascontiguousarray(factor, np.float32))


def calibrated(
    weights: Array, moments: Moments, group: int, sweeps: int, *, per_row: bool = False
) -> TernaryTensor:
    """Choose codes and scales for float32 [rows, depth] weights whose inputs have these moments.

    Args:
        weights: the matrix.
        moments: of its inputs.
        group: how many columns share a scale; it divides depth.
        sweeps: how often all codes are looked at again.
        per_row: whether the result is to say that a scale is for a row (then group is depth).
    """
    wanted = weights @ moments.matrix
    codes, scales = _feedback(weights, moments.factor, group)
    for _ in range(sweeps):
        scales = _scales(wanted, moments.matrix, codes, scales)
        codes = _sweep(wanted, moments.matrix, codes, scales)
    scales = _scales(wanted, moments.matrix, codes, scales)
    return TernaryTensor(codes.astype(np.int8), scales[:, 0] if per_row else scales)


def aimed(weights: Array, moments: Moments, inputs: Array, targets: Array) -> Array:
    """Return weights near `weights` whose outputs on `inputs` are nearer to `targets`: ridge regression.

        W + (Y - x W^T)^T x (H + damping)^-1

    Args:
        weights: float32 [rows, depth].
        moments: of the inputs.
        inputs: float32 [tokens, depth], as the ternary model has them.
        targets: float32 [tokens, rows], what the full-precision model has there.
    """
    missing = (targets - inputs @ weights.T).T @ inputs / np.float32(len(inputs))
    matrix = moments.matrix.astype(np.float64)
    diagonal = np.einsum("ii->i", matrix)
    diagonal += AIM_DAMPING * diagonal.mean()
    moved: Array = weights + np.linalg.solve(matrix, missing.T.astype(np.float64)).T.astype(np.float32)
    return moved


def _feedback(weights: Array, factor: Array, group: int) -> tuple[Array, Array]:
    """Round column by column, pushing each error onto the columns to come. GPTQ, algorithm 1."""
    rows, depth = weights.shape
    left = weights.copy()
    codes = np.empty((rows, depth), np.float32)
    scales = np.empty((rows, depth // group), np.float32)
    diagonal = np.diag(factor)
    for start in range(0, depth, group):
        stop = start + group
        scale = _first_scales(left[:, start:stop], diagonal[start:stop] ** -2)
        scales[:, start // group] = scale
        for first in range(start, stop, BLOCK):
            last = min(first + BLOCK, stop)
            block = np.ascontiguousarray(left[:, first:last].T)  # [columns, rows]: a column is contiguous
            errors = np.empty_like(block)
            for j, column in enumerate(range(first, last)):
                code = np.clip(np.rint(block[j] / scale), -1, 1)
                codes[:, column] = code
                errors[j] = (block[j] - code * scale) / diagonal[column]
                block[j + 1 :] -= factor[column, column + 1 : last, None] * errors[j]
            left[:, last:] -= errors.T @ factor[first:last, last:]
    return codes, scales


def _first_scales(weights: Array, importance: Array) -> Array:
    """Scales for rows of weights whose columns matter by `importance`: threshold s / 2 and mean, in turn."""
    magnitude = np.abs(weights)
    scale = magnitude @ importance / importance.sum()
    for _ in range(SCALE_STEPS):
        kept = (magnitude > scale[:, None] / 2) * importance
        scale = np.where(kept.any(axis=1), (magnitude * kept).sum(axis=1) / (kept.sum(axis=1) + 1e-30), scale)
    result: Array = np.maximum(scale, SMALLEST_SCALE).astype(np.float32)
    return result


def _scales(wanted: Array, moments: Array, codes: Array, scales: Array) -> Array:
    """Return the best scales for given codes: a system of as many unknowns as groups, for each row.

    `wanted` is W H, all that has to be known of W.
    """
    rows, depth = wanted.shape
    groups = scales.shape[1]
    group = depth // groups
    gram = np.empty((rows, groups, groups), np.float64)
    for index in range(groups):
        columns = slice(index * group, (index + 1) * group)
        gram[:, index] = (codes[:, columns] @ moments[columns] * codes).reshape(rows, groups, group).sum(2)
    right = (wanted * codes).reshape(rows, groups, group).sum(axis=2, dtype=np.float64)
    diagonal = np.einsum("rii->ri", gram)
    unused = diagonal <= 0  # a group of zeros: any scale will do, and none is better than the one it has
    diagonal += 1e-6 * diagonal.mean(axis=1, keepdims=True) + unused
    found = np.linalg.solve(gram, right[:, :, None])[:, :, 0]
    result: Array = np.where(unused, scales, found).astype(np.float32)
    return result


def _sweep(wanted: Array, moments: Array, codes: Array, scales: Array) -> Array:
    """Give every code in turn the value that is best for the output while all others stay."""
    depth = wanted.shape[1]
    group = depth // scales.shape[1]
    codes = codes.copy()
    slope = wanted - codes * np.repeat(scales, group, axis=1) @ moments
    diagonal = np.diag(moments)
    for start in range(0, depth, group):
        scale = scales[:, start // group]
        safe = np.where(scale == 0, np.float32(1), scale)
        for first in range(start, start + group, BLOCK):
            last = min(first + BLOCK, start + group)
            inner = np.ascontiguousarray(slope[:, first:last].T)
            old = np.ascontiguousarray(codes[:, first:last].T)
            change = np.empty_like(old)
            for j, column in enumerate(range(first, last)):
                best = np.clip(np.rint(old[j] + inner[j] / (diagonal[column] * safe)), -1, 1)
                change[j] = best - old[j]
                inner[j + 1 :] -= moments[column, column + 1 : last, None] * (change[j] * scale)
            codes[:, first:last] = (old + change).T
            slope -= (change * scale).T @ moments[first:last]
    return codes
