"""The Hadamard transform of blocks: the definition, and the same bits on every instruction set."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.errors import ParameterError
from tercet.kernels.floats import hadamard
from tercet.kernels.isa import available_isas

Floats = npt.NDArray[np.float32]


def sylvester(size: int) -> npt.NDArray[np.int64]:
    """H[i, j] = (-1)^popcount(i & j)."""
    indices = np.arange(size)
    ones = [[(int(i) & int(j)).bit_count() for j in indices] for i in indices]
    return 1 - 2 * (np.array(ones) % 2)


def passes(values: Floats, block_size: int) -> Floats:
    """The stated order: pairs 1, 2, 4, ... apart, then the factor, in float32."""
    x = values.reshape(-1, block_size).copy()
    distance = 1
    while distance < block_size:
        pairs = x.reshape(len(x), -1, 2, distance)
        x = np.stack([pairs[:, :, 0] + pairs[:, :, 1], pairs[:, :, 0] - pairs[:, :, 1]], axis=2)
        x = x.reshape(-1, block_size)
        distance *= 2
    return (x * np.float32(1 / np.sqrt(block_size))).reshape(values.shape)


@pytest.mark.parametrize("isa", available_isas())
@given(
    log_block=st.integers(0, 11), blocks=st.integers(1, 3), rows=st.integers(1, 3), seed=st.integers(0, 2**32)
)
def test_every_isa_does_the_same_passes(isa: str, log_block: int, blocks: int, rows: int, seed: int) -> None:
    block_size = 1 << log_block
    random = np.random.default_rng(seed)
    values = random.standard_normal((rows, blocks * block_size), np.float32)
    np.testing.assert_array_equal(hadamard(values, block_size, isa), passes(values, block_size))


@pytest.mark.parametrize("block_size", [1, 2, 8, 16, 64, 512])
def test_it_is_the_matrix_and_its_own_inverse(block_size: int) -> None:
    values = np.random.default_rng(1).standard_normal((4, 2 * block_size)).astype(np.float32)
    turned = hadamard(values, block_size)
    exact = values.astype(np.float64).reshape(-1, block_size) @ sylvester(block_size) / np.sqrt(block_size)
    np.testing.assert_allclose(turned, exact.reshape(values.shape), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(hadamard(turned, block_size), values, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("block_size", [0, 3, 12, 64])
def test_blocks_that_do_not_fit_are_refused(block_size: int) -> None:
    with pytest.raises(ParameterError, match="block_size should be a power of two that divides 32"):
        hadamard(np.zeros((2, 32), np.float32), block_size)
