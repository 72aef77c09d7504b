"""Ternarization by training without a teacher: the same loop, cross-entropy alone, λ rising from 0 to 1.

    y = q_λ(x) · q_λ(W)ᵀ,   q_λ(v) = v + λ · stop_gradient(q(v) - v),   λ = min(step / warm-up steps, 1)

The recipe is Hugging Face's for Llama 3 8B ("Fine-tuning LLMs to 1.58bit", September 2024): the architecture
stays as it is, AdamW at 1e-4, λ linear over a fifth of the steps; 5,000 steps of 2 M tokens there. At
λ = 0 the model is its source, at λ = 1 what is exported; all that it knew is lost in between and
learned again, so quality follows the number of tokens.
"""

from __future__ import annotations

from tercet.distillation.settings import DistillationSettings
from tercet.training.optimizers import OptimizerSettings
from tercet.training.schedule import Schedule

__all__ = ["warm_up_settings"]


def warm_up_settings(
    steps: int,
    *,
    lambda_steps: int | None = None,
    learning_rate: float = 1e-4,
    context: int = 256,
    batch_size: int = 8,
    precision: str = "bf16",
) -> DistillationSettings:
    """The settings of such a run.

    Args:
        steps: optimizer steps.
        lambda_steps: in how many λ reaches 1; None is a fifth of them.
        learning_rate: at its peak.
        context: tokens of a sequence.
        batch_size: sequences a step.
        precision: `bf16` or `fp32`.

    Raises:
        ParameterError: a number is out of range.
    """
    return DistillationSettings(
        schedule=Schedule(
            num_steps=steps,
            warmup_steps=max(1, steps // 50),
            stage_two_start=1.0,
            stage_one_floor=0.1,
            weight_decay=0.0,
            quantization_warmup_steps=steps // 5 if lambda_steps is None else lambda_steps,
        ),
        optimizer=OptimizerSettings(kind="adamw", matrix_rate=learning_rate, rate=learning_rate),
        context=context,
        batch_size=batch_size,
        micro_batch=next(size for size in (4, 3, 2, 1) if batch_size % size == 0),
        sub_norms=False,
        cross_entropy_weight=1.0,
        logits_weight=0.0,
        attention_weight=0.0,
        precision=precision,
    )
