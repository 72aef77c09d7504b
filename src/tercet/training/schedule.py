"""Learning rate, weight decay and what is quantized as functions of the step.

The two-stage schedule of BitNet b1.58 (Ma et al., "The Era of 1-bit LLMs: training tips", and the 2B-4T
report): latent weights tolerate, and need, a high learning rate at first, because a ternary code only
changes when its latent weight crosses a threshold; later they must settle. So

    stage 1   warm-up, then a cosine from the peak towards `stage_one_floor`, with weight decay
    stage 2   from `stage_two_start` of the way: the rate drops at once to a second, lower cosine, which ends
              at `final`; weight decay is off, and the better data come here
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tercet.errors import ParameterError


@dataclass(frozen=True)
class Schedule:
    """Everything that changes with the step of a run of `num_steps`; rates are factors of the peak rate."""

    num_steps: int
    warmup_steps: int = 100
    stage_two_start: float = 0.5
    stage_one_floor: float = 0.4
    stage_two_peak: float = 0.6
    final: float = 0.02
    weight_decay: float = 0.1
    quantization_warmup_steps: int = 0
    four_bits_start: float = 0.0
    """Fraction of the run after which activations are rounded by the model's own rule, and by int8 before:
    0.95 in the papers whose models have four bits (BitNet a4.8, BitNet v2)."""

    def __post_init__(self) -> None:
        if self.num_steps < 1:
            raise ParameterError(f"a run needs at least one step, num_steps is {self.num_steps}")
        if not 0.0 < self.stage_two_start <= 1.0:
            raise ParameterError(
                f"stage_two_start is {self.stage_two_start}; it is the fraction of the run, in (0, 1], "
                "at which stage 2 begins (1 = a single stage)"
            )
        if not 0.0 <= self.four_bits_start < 1.0:
            raise ParameterError(
                f"four_bits_start is {self.four_bits_start}; it is the fraction of the run, in [0, 1), that "
                "is trained with int8 activations"
            )

    def stage(self, step: int) -> int:
        """1 or 2."""
        return 1 if step < self.stage_two_start * self.num_steps else 2

    def learning_rate_factor(self, step: int) -> float:
        """Factor of the peak learning rate at `step` (0-based)."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        border = self.stage_two_start * self.num_steps
        if step < border:
            return _cosine(
                1.0, self.stage_one_floor, (step - self.warmup_steps) / max(border - self.warmup_steps, 1)
            )
        return _cosine(self.stage_two_peak, self.final, (step - border) / max(self.num_steps - border, 1))

    def weight_decay_at(self, step: int) -> float:
        """Weight decay at `step`: on in stage 1, off in stage 2."""
        return self.weight_decay if self.stage(step) == 1 else 0.0

    def quantization_strength(self, step: int) -> float:
        """λ of the straight-through estimator at `step`, rising linearly to 1."""
        if self.quantization_warmup_steps == 0:
            return 1.0
        return min(1.0, step / self.quantization_warmup_steps)

    def activation_rule(self, step: int, rule: str) -> str:
        """How activations are rounded at `step` in a model whose rule is `rule`."""
        return "int8" if step < self.four_bits_start * self.num_steps else rule


def _cosine(start: float, end: float, progress: float) -> float:
    return end + (start - end) * 0.5 * (1.0 + math.cos(math.pi * min(progress, 1.0)))
