"""Heads in planes: the bits of the specification on every instruction set, and what two stages keep."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from tercet import _core
from tercet.kernels.decoder import BEST, DRAWING, EXACT
from tercet.kernels.isa import available_isas
from tercet.quantization.planes import PLANES, planes, product

Floats = npt.NDArray[np.float32]
EACH = pytest.mark.parametrize("kind", [*PLANES])


def head(kind: str, rows: int, depth: int, seed: int = 0) -> tuple[_core.PlaneMatrix, np.ndarray, Floats]:
    random = np.random.default_rng(seed)
    weights = random.standard_normal((rows, depth), np.float32)
    weights *= np.exp(0.25 * random.standard_normal((rows, 1))).astype(np.float32)
    codes, scales = planes(kind).quantize(weights)
    return _core.PlaneMatrix(planes(kind).pack(codes), kind, rows, depth, scales), codes, scales


@EACH
@pytest.mark.parametrize(("rows", "depth", "vectors"), [(1, 1, 1), (37, 100, 1), (130, 257, 3), (70, 300, 5)])
def test_every_isa_and_thread_count_gives_the_bits_of_numpy(
    kind: str, rows: int, depth: int, vectors: int
) -> None:
    matrix, codes, scales = head(kind, rows, depth)
    inputs = np.random.default_rng(1).standard_normal((vectors, depth), np.float32)
    inputs[-1] *= 1e-20
    expected = product(codes, scales, inputs)
    two_stage = _core.HeadTeam(1, "reference").multiply(inputs, matrix, DRAWING)
    greedy = _core.HeadTeam(1, "reference").multiply(inputs, matrix, BEST)
    for isa in available_isas():
        for threads in (1, 3):
            team = _core.HeadTeam(threads, isa)
            assert np.array_equal(team.multiply(inputs, matrix), expected)
            assert np.array_equal(team.multiply(inputs, matrix, DRAWING), two_stage)
            assert np.array_equal(team.multiply(inputs, matrix, BEST), greedy)
            rows_read = team.look_up(matrix, np.array([rows - 1, 0], np.int32))
            assert np.array_equal(rows_read, codes[[-1, 0]].astype(np.float32) * scales[[-1, 0], None])


@EACH
def test_two_stages_find_the_same_token_and_nearly_the_same_distribution(kind: str) -> None:
    """Logits spread like those of a trained model; docs/lab_log.md has the long form."""
    matrix, codes, _ = head(kind, 8000, 256)
    random = np.random.default_rng(3)
    wanted = codes[random.integers(0, 8000, 200)].astype(np.float32)
    strength = random.uniform(0, 0.5, (200, 1))
    inputs = random.standard_normal((200, 256)) + strength * wanted / wanted.std(axis=1, keepdims=True)
    inputs = np.asarray(inputs * random.uniform(1.5, 3.5, (200, 1)) / 16, np.float32)
    team = _core.HeadTeam(2)
    full, fast = team.multiply(inputs, matrix), team.multiply(inputs, matrix, DRAWING)
    greedy = team.multiply(inputs, matrix, BEST)
    assert np.array_equal(full.argmax(axis=1), fast.argmax(axis=1))
    p, q = (_log_softmax(logits) for logits in (full, fast))
    divergence = (np.exp(p) * (p - q)).sum(axis=1)
    assert divergence.max() < 1e-4
    assert (full != fast).any()
    rows = np.arange(200), full.argmax(axis=1)
    assert np.array_equal(full.argmax(axis=1), greedy.argmax(axis=1))
    assert np.array_equal(full[rows], greedy[rows])
    assert (greedy == full).mean() < (fast == full).mean()


@pytest.mark.parametrize("use", [EXACT, DRAWING, BEST])
def test_inputs_of_zeros_and_of_what_is_no_number(use: int) -> None:
    matrix, _, _ = head("int8_planes", 20, 64)
    inputs = np.zeros((2, 64), np.float32)
    inputs[1, 3] = np.inf
    logits = _core.HeadTeam(1).multiply(inputs, matrix, use)
    assert not logits[0].any()
    assert np.isnan(logits[1]).all()


def _log_softmax(logits: Floats) -> npt.NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))
