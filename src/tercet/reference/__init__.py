"""The specification: the whole model in NumPy, short enough to read beside the paper.

Nothing here is optimized, on purpose: when the C++ core and this package disagree, the core is wrong. All
arithmetic is float32, except that products of int8 activations and ternary codes are exact integers.

    decoder          the model, from token ids to logits, or to one vector
    linear           BitLinear
    rotary           rotary positions, stretched or not
    attention        grouped-query attention, with a window or without
    normalization    RMSNorm
    feed_forward     the gated activations
    hadamard         turning activations into a rotated basis
"""

from tercet.reference.decoder import ReferenceDecoder

__all__ = ["ReferenceDecoder"]
