"""What stands between two ternary products, in one pass over each token:

    x = x + added                                         into the residual stream
    x = activation(x) * up                                the gate of the feed-forward network
    x = x / sqrt(mean(x**2) + eps) * weight               RMSNorm
    codes = rint(x * (127 / g)), scale = g / 127          g = max(max |x|, 1e-5)

each of them only where it is asked for. Division and square root are correctly rounded and nothing is fused
(`EXACT`), so that codes differ from the reference's only where the sum in the norm, which is added in
another order, moves a value across the middle between two whole numbers.

A NaN or an infinity makes the scale infinite and so every product of the token, up to its logits, NaN: the
sampler refuses those. Nobody has to look at each step for it.
"""

import triton
import triton.language as tl

__all__ = ["prepare_input"]

NO_ACTIVATION = tl.constexpr(0)
RELU2 = tl.constexpr(1)
SILU = tl.constexpr(2)
GELU_TANH = tl.constexpr(3)


@triton.jit
def prepare_input(
    x, added, up, weight, floats, codes, code_scales,
    width, padded_width, x_stride, added_stride, up_stride, eps,
    BLOCK: tl.constexpr, ADD: tl.constexpr, ACTIVATION: tl.constexpr, NORM: tl.constexpr,
    KEEP: tl.constexpr, ROUND: tl.constexpr,
):  # fmt: skip
    """Prepare the input of one token (the program's number).

    Args:
        x: float32 rows of `width` elements, x_stride apart; with ADD the sum is written back.
        added: float32 rows, added_stride apart, with ADD.
        up: float32 rows, up_stride apart, with ACTIVATION.
        weight: float32 [width], with NORM.
        floats: float32 [tokens, width], the result before it is rounded, written with KEEP.
        codes: int8 [tokens, padded_width], zeros behind `width`, written with ROUND.
        code_scales: float32 [tokens], written with ROUND.
        eps: what RMSNorm adds.
    """
    token = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    inside = column < width
    value = tl.load(x + token * x_stride + column, inside, 0.0)
    if ADD:
        value += tl.load(added + token * added_stride + column, inside, 0.0)
        tl.store(x + token * x_stride + column, value, inside)
    if ACTIVATION != NO_ACTIVATION:
        value = _activated(value, ACTIVATION) * tl.load(up + token * up_stride + column, inside, 0.0)
    if NORM:
        mean = tl.div_rn(tl.sum(value * value, 0), width.to(tl.float32))
        inverse = tl.div_rn(1.0, tl.sqrt_rn(mean + eps))
        value = value * inverse * tl.load(weight + column, inside, 0.0)
    if KEEP:
        tl.store(floats + token * width + column, value, inside)
    if ROUND:
        magnitude = tl.abs(value)
        magnitude = tl.where(magnitude < float("inf"), magnitude, float("inf"))  # NaN becomes infinite
        largest = tl.maximum(tl.max(magnitude, 0), 1e-5)
        scaled = value * tl.div_rn(127.0, largest)
        # Adding and taking away 1.5 * 2**23 rounds to a whole number, halves to even.
        code = ((scaled + 12582912.0) - 12582912.0).to(tl.int8)
        tl.store(codes + token * padded_width + column, code, column < padded_width)
        tl.store(code_scales + token, tl.div_rn(largest, 127.0))


@triton.jit
def _activated(x, ACTIVATION: tl.constexpr):
    """Return the activation of a gate, by exponentials that cannot overflow."""
    if ACTIVATION == RELU2:
        positive = tl.maximum(x, 0.0)
        return positive * positive
    elif ACTIVATION == SILU:
        small = tl.exp(-tl.abs(x))
        return x * (tl.where(x >= 0, 1.0, small) / (1.0 + small))
    else:
        inner = 0.7978845608028654 * (x + 0.044715 * x * x * x)
        small = tl.exp(-2.0 * tl.abs(inner))
        tanh = (1.0 - small) / (1.0 + small)
        return 0.5 * x * (1.0 + tl.where(inner >= 0, tanh, -tanh))
