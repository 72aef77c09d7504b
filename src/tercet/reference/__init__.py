"""The specification: the whole model in NumPy, short enough to read beside the paper.

Nothing here is optimized, on purpose: when the C++ core and this package disagree, the core is wrong. All
arithmetic is float32, except that products of int8 activations and ternary codes are exact integers.

    decoder          the model, from token ids to logits
    linear           BitLinear
    attention        rotary positions and grouped-query attention
    normalization    RMSNorm
    feed_forward     the gated activations
"""

from tercet.reference.decoder import ReferenceDecoder

__all__ = ["ReferenceDecoder"]
