"""The GPU kernels, written in Triton and nothing else: what each computes, and over which bytes.

    ternary      ternary matrices times activations: products of many tokens, and of one
    rows         float (or int8) matrices times activations: the output head
    inputs       what stands before a ternary product: add, gate, normalize, round
    attention    rotate, store and attend over the paged cache

Triton compiles them for the GPU at hand when they are first used. With TRITON_INTERPRET=1 in the environment
before the import they run in NumPy on the processor instead: the same source, slowly. That is how the tests
check every kernel on machines without a GPU; others compile them for several generations of GPUs, which needs
none either.

Multiplications and additions are never fused here (`EXACT`): a product is then rounded where the reference
rounds it.
"""

from __future__ import annotations

import os

__all__ = ["EXACT", "INTERPRETED"]

INTERPRETED = os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "on", "y", "yes")
"""Whether kernels run in NumPy; decided when Triton is imported, so it cannot change later."""

EXACT = {"enable_fp_fusion": False}
"""Options for launches whose roundings must be those of the reference."""
