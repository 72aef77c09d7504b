"""The published arithmetics, as changes to a run: `tercet train --variant v2`.

    b1.58     ternary weights, int8 activations
    binary    weights of two values around the mean, int8 activations                            BitNet
    a4.8      int4 into attention and feed-forward, int8 between, half of o's input 0           BitNet a4.8
    v2        int4 everywhere, o and down behind a Hadamard transform                           BitNet v2
    float     no rounding at all: the full-precision twin, for comparison

a4.8 and v2 are trained as their papers do: the first 95 % of the steps with int8 activations, the rest with
four bits, without a break in optimizer or schedule.

The papers transform the whole input of o and down. Here the two share one block size, the largest power of
two that divides both: in a model of width 4096 and 16384 that is all of o's input, and quarters of down's.
"""

from __future__ import annotations

import dataclasses
import math

from tercet.errors import ParameterError
from tercet.models.config import ModelConfig
from tercet.models.rotation import Rotation
from tercet.models.tensor_names import layer_name
from tercet.training.settings import TrainingSettings

INT8_SHARE = 0.95
"""Which share of a run a4.8 and v2 train with int8 activations: 95 of 100 B tokens in both papers."""
VARIANTS = ("b1.58", "binary", "a4.8", "v2", "float")


def as_variant(settings: TrainingSettings, name: str) -> TrainingSettings:
    """Return the same run with the arithmetic of this name.

    Raises:
        ParameterError: there is no such variant, or the model's widths have no power of two in common.
    """
    if name not in VARIANTS:
        raise ParameterError(f"there is no variant {name!r}; there are {', '.join(VARIANTS)}")
    model = dataclasses.replace(
        settings.model,
        weight_rule="absmean",
        activation_rule="int8",
        rotation=None,
        quantize_activations=True,
    )
    schedule = dataclasses.replace(settings.schedule, four_bits_start=0.0)
    if name == "binary":
        model = dataclasses.replace(model, weight_rule="sign")
    elif name == "a4.8":
        model = dataclasses.replace(model, activation_rule="int4_int8")
    elif name == "v2":
        model = dataclasses.replace(model, activation_rule="int4", rotation=hadamard_rotation(model))
    if name in ("a4.8", "v2"):
        schedule = dataclasses.replace(schedule, four_bits_start=INT8_SHARE)
    return dataclasses.replace(settings, model=model, schedule=schedule, ternary=name != "float")


def hadamard_rotation(model: ModelConfig) -> Rotation:
    """Return the transform of the inputs of o and down in every layer, without signs."""
    both = math.gcd(model.query_size, model.ffn_size)
    block_size = both & -both
    if block_size == 1:
        raise ParameterError(
            f"o has {model.query_size} inputs and down {model.ffn_size}; for a Hadamard transform both must "
            "be even, and better multiples of a large power of two"
        )
    names = [
        layer_name(layer, part) for layer in range(model.num_layers) for part in ("attention.o", "ffn.down")
    ]
    return Rotation(block_size=block_size, inputs=tuple(names))
