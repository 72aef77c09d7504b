"""How long a ternary product takes on a GPU, beside PyTorch's product of the same shape in bfloat16.

Weights are taken in turn from several copies, more than the GPU's cache holds, as a model's layers are. Every
run replays a recording of many products and is timed by the GPU's own clock, so that what the processor
needs to issue them does not count: it does not in a step that generates either (`tercet.gpu.graphs`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from tercet.errors import ParameterError
from tercet.gpu.device import CUDA
from tercet.gpu.products import ternary_product
from tercet.gpu.weights import TernaryWeights

__all__ = ["ProductTimes", "time_products"]

BEYOND_CACHE = 256 << 20
"""Bytes of all copies together; the largest caches of GPUs hold half of that."""
MOST_COPIES = 64
PRODUCTS = 100
"""In a run."""


@dataclass(frozen=True)
class ProductTimes:
    """Seconds of one product in each run, and the bytes of weights that it reads."""

    ternary: list[float]
    bf16: list[float]
    ternary_bytes: int
    bf16_bytes: int


def time_products(
    rows: int, depth: int, num_tokens: int, device: torch.device, runs: int = 5, products: int = PRODUCTS
) -> ProductTimes:
    """Time products of a random matrix [rows, depth] with random activations of some tokens.

    Raises:
        ParameterError: the ternary product is not the right one; then its speed means nothing.
    """
    generator = np.random.default_rng(0)
    codes = generator.integers(-127, 128, (num_tokens, -(-depth // 16) * 16), dtype=np.int8)
    codes[:, depth:] = 0
    x = torch.from_numpy(codes).to(device)
    scales = torch.full((num_tokens,), 1 / 127, device=device)
    copies = max(1, min(MOST_COPIES, BEYOND_CACHE // (rows * depth // 4)))
    ternary = [_random_weights(rows, depth, generator, device) for _ in range(copies)]
    dense = [
        one.floats_of(torch.arange(rows, device=device)).bfloat16() for one in ternary[: copies // 8 + 1]
    ]
    _check(ternary[0], x, scales)
    inputs = (x[:, :depth].float() / 127).bfloat16()
    with torch.inference_mode():
        return ProductTimes(
            ternary=_timed(lambda i: ternary_product(ternary[i % copies], x, scales), device, runs, products),
            bf16=_timed(lambda i: inputs @ dense[i % len(dense)].T, device, runs, products),
            ternary_bytes=ternary[0].words.nbytes + ternary[0].scales.nbytes,
            bf16_bytes=dense[0].nbytes,
        )


def _random_weights(
    rows: int, depth: int, generator: np.random.Generator, device: torch.device
) -> TernaryWeights:
    tiles = (-(-rows // 16), -(-depth // 16), 16)
    fields = generator.integers(0, 3, (*tiles, 16), dtype=np.uint32)
    words = (fields << np.arange(0, 32, 2, dtype=np.uint32)).sum(axis=-1, dtype=np.uint32).view(np.int32)
    scales = torch.full((tiles[0] * 16, 1), 0.02, device=device)
    return TernaryWeights(torch.from_numpy(words).to(device), scales, (rows,), depth)


def _check(weights: TernaryWeights, codes: torch.Tensor, scales: torch.Tensor) -> None:
    """Compare the kernel that will be timed with PyTorch's product in float64, where the sums are exact."""
    exact = weights.floats_of(torch.arange(weights.rows[0], device=codes.device)).sign().double()
    sums = codes[:, : weights.depth].double() @ exact.T
    expected = sums.float() * (scales[:, None] * weights.scales[: weights.rows[0], 0])
    (found,) = weights.split(ternary_product(weights, codes, scales))
    if not torch.equal(found, expected):
        wrong = int((found != expected).sum())
        raise ParameterError(
            f"a ternary product of {list(expected.shape)} elements has {wrong} wrong ones on {codes.device}; "
            "please report this, with the GPU and the versions of PyTorch and Triton"
        )


def _timed(product: Callable[[int], object], device: torch.device, runs: int, products: int) -> list[float]:
    """Seconds of one product in each of some runs, after a warm-up that also compiles."""

    def issue() -> None:
        for index in range(products):
            product(index)

    if device.type != CUDA:
        return [_clocked(issue) / products for _ in range(runs + 1)][1:]
    with torch.cuda.device(device):
        product(0)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            issue()
        return [_between_events(graph.replay) / products for _ in range(runs + 1)][1:]


def _between_events(work: Callable[[], None]) -> float:
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    begin.record()
    work()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end)) / 1000


def _clocked(work: Callable[[], None]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin
