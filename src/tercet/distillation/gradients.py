"""One batch through teacher and student: the loss and its gradients, in bounded memory.

Logits of a large vocabulary are the largest tensors by far (a batch of 2,048 tokens times 49,152 is 400 MB
for each of the two models, several times over). So the networks run up to their last states; then the output
head, its loss and its gradient are done for a few hundred rows at a time; last, the gradient of the states
goes back through the layers together with that of the attention relations.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tercet.distillation.losses import output_terms, relation_divergence
from tercet.distillation.settings import DistillationSettings
from tercet.training.model import TernaryDecoder

__all__ = ["Terms", "Weights", "backward", "gradient_shares"]

ROWS = 512
PARTS = ("q_proj", "k_proj", "v_proj")


@dataclass(frozen=True)
class Weights:
    """What each term counts."""

    cross_entropy: float
    logits: float
    attention: float

    @classmethod
    def at(cls, settings: DistillationSettings, step: int) -> Weights:
        """Those of a step: in continued training cross-entropy alone."""
        if step < settings.continued_steps:
            return cls(1.0, 0.0, 0.0)
        return cls(settings.cross_entropy_weight, settings.logits_weight, settings.attention_weight)


@dataclass
class Terms:
    """The terms of the loss, each before it is weighed; see `losses`."""

    cross_entropy: float = 0.0
    logits: float = 0.0
    attention: float = 0.0

    def total(self, weights: Weights) -> float:
        """The loss."""
        return (
            weights.cross_entropy * self.cross_entropy
            + weights.logits * self.logits
            + weights.attention * self.attention
        )


def backward(
    teacher: TernaryDecoder,
    student: TernaryDecoder,
    windows: Tensor,
    settings: DistillationSettings,
    weights: Weights,
    layers: tuple[int, int],
    heads: int,
) -> Terms:
    """Add the gradients of the loss of `windows` [B, context + 1] to the student's; return the terms.

    Args:
        teacher: in full precision, without gradients.
        student: what learns.
        windows: token ids.
        settings: of the run.
        weights: what each term counts.
        layers: which layer of teacher and student the relations are taken from.
        heads: how many relation heads there are.
    """
    terms = Terms()
    parts = torch.split(windows, settings.micro_batch)
    bf16 = settings.precision == "bf16"
    for part in parts:
        share = len(part) / len(windows)
        with torch.autocast(part.device.type, torch.bfloat16, enabled=bf16):
            _backward_part(teacher, student, part, settings, weights, layers, heads, share, terms)
    return terms


def _backward_part(
    teacher: TernaryDecoder,
    student: TernaryDecoder,
    windows: Tensor,
    settings: DistillationSettings,
    weights: Weights,
    layers: tuple[int, int],
    heads: int,
    share: float,
    terms: Terms,
) -> None:
    ids, targets = windows[:, :-1], windows[:, 1:].flatten()
    needs_teacher = weights.logits > 0 or weights.attention > 0
    with torch.no_grad(), _states(teacher, layers[0]) as theirs:
        taught = teacher.states(ids).flatten(0, 1) if needs_teacher else None
    with _states(student, layers[1]) as ours:
        learned = student.states(ids)
    rows = learned.detach().flatten(0, 1)
    gradient = torch.empty_like(rows)
    scale = share / len(rows)
    for start in range(0, len(rows), ROWS):
        place = slice(start, start + ROWS)
        state = rows[place].requires_grad_()
        logits = student.lm_head(state)
        with torch.no_grad():
            wanted = teacher.lm_head(taught[place]) if taught is not None and weights.logits > 0 else None
            entropy, divergence, slope = output_terms(
                logits.detach(),
                wanted,
                targets[place],
                cross_entropy_weight=weights.cross_entropy,
                logits_weight=weights.logits,
                temperature=settings.temperature,
            )
        terms.cross_entropy += float(entropy) * scale
        terms.logits += float(divergence) * scale
        logits.backward(slope.mul_(scale).to(logits.dtype))
        if state.grad is not None:
            gradient[place] = state.grad
    roots: list[Tensor] = [learned]
    if weights.attention > 0:
        relations = torch.stack([relation_divergence(ours[p], theirs[p], heads) for p in PARTS]).mean()
        terms.attention += float(relations.detach()) * share
        roots.append(relations * (weights.attention * share))
    torch.autograd.backward(roots, [gradient.view_as(learned), *[None] * (len(roots) - 1)])


@contextmanager
def _states(network: TernaryDecoder, layer: int) -> Iterator[dict[str, Tensor]]:
    """Keep what q, k and v of one layer give while the block runs."""
    kept: dict[str, Tensor] = {}
    attention = network.model.layers[layer].self_attn

    def keep(name: str, module: nn.Module) -> torch.utils.hooks.RemovableHandle:
        def see(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> None:
            kept[name] = output

        return module.register_forward_hook(see)

    handles = [keep(name, getattr(attention, name)) for name in PARTS]
    try:
        yield kept
    finally:
        for handle in handles:
            handle.remove()


def gradient_shares(
    teacher: TernaryDecoder,
    student: TernaryDecoder,
    windows: Tensor,
    settings: DistillationSettings,
    layers: tuple[int, int],
    heads: int,
) -> dict[str, float]:
    """The norm of the gradient that each weighed term has alone, over all parameters of the student."""
    chosen = Weights.at(settings, settings.continued_steps)
    norms = {}
    for name in ("cross_entropy", "logits", "attention"):
        alone = Weights(
            **{n: getattr(chosen, n) if n == name else 0.0 for n in ("cross_entropy", "logits", "attention")}
        )
        if getattr(chosen, name) > 0:
            backward(teacher, student, windows, settings, alone, layers, heads)
        found = [p.grad.norm() for p in student.parameters() if p.grad is not None]
        norms[name] = float(torch.stack(found).norm()) if found else 0.0
        student.zero_grad(set_to_none=True)
    return norms
