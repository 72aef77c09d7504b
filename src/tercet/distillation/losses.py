"""The terms of the loss, and by what each is divided.

All are in nats, and all are means, so that none depends on batch, length, vocabulary or number of heads:

    cross-entropy   CE  = mean over predicted tokens of -ln p_student(next token)
    logits          KL  = τ² · mean over predicted tokens of
                    KL(softmax(z_teacher / τ) || softmax(z_student / τ)),
                    each a sum over the vocabulary
    attention       AR  = mean over {Q, K, V}, over sequences, relation heads and positions i of
                    KL(R_teacher[i] || R_student[i]),  R[i] = softmax over positions j of (x_i · x_j) / √d

    loss = w_ce · CE + w_kl · KL + w_ar · AR

x are the outputs of q_proj, k_proj or v_proj of one layer, before positions are turned, cut into as many
relation heads of equal width d as the model with fewer key heads has. Positions see later ones, too: a
relation describes states, it does not predict. τ² keeps the gradient of KL of one size for every τ.

What BitDistill publishes (τ = 5; λ = 10, γ = 1e5 for classification, λ = 1, γ = 1e3 for summarization)
belongs to sums that its text does not settle; an independent reproduction found the gradient of its attention
term 221 times that of cross-entropy with the published γ. Here the run measures the ratio on its first batch
and writes it into its log (`gradients.gradient_shares`), so that a weight means something.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["attention_relations", "output_terms", "relation_divergence"]


def output_terms(
    student: Tensor,
    teacher: Tensor | None,
    targets: Tensor,
    *,
    cross_entropy_weight: float,
    logits_weight: float,
    temperature: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Cross-entropy and KL of some rows of logits, summed over rows, and the gradient of their weighed sum.

    The gradients are known (softmax minus what was wanted), so they are written down and not derived: with a
    vocabulary of 49,152 every pass over a tensor of logits counts.

    Args:
        student: logits [rows, vocab].
        teacher: its logits for the same rows; None leaves KL at 0.
        targets: the next tokens, int64 [rows].
        cross_entropy_weight: what cross-entropy counts.
        logits_weight: what KL counts.
        temperature: τ, of KL.

    Returns:
        Sum of cross-entropy, sum of KL with its τ², and d(weighed sum) / d(student), float32 [rows, vocab].
    """
    log_student = functional.log_softmax(student.float(), dim=-1)
    rows = torch.arange(len(targets), device=targets.device)
    cross_entropy = -log_student[rows, targets].sum()
    divergence = torch.zeros_like(cross_entropy)
    if teacher is None or logits_weight == 0:
        gradient = log_student.exp_().mul_(cross_entropy_weight)
    else:
        log_teacher = functional.log_softmax(teacher.float() / temperature, dim=-1)
        wanted = log_teacher.exp()
        warm = (
            log_student if temperature == 1 else functional.log_softmax(student.float() / temperature, dim=-1)
        )
        divergence = temperature**2 * (wanted * log_teacher.sub_(warm)).sum()
        if temperature == 1:
            gradient = log_student.exp_().mul_(cross_entropy_weight + logits_weight)
        else:
            gradient = log_student.exp_().mul_(cross_entropy_weight)
            gradient.add_(warm.exp_(), alpha=logits_weight * temperature)
        gradient.sub_(wanted, alpha=logits_weight * temperature)
    gradient[rows, targets] -= cross_entropy_weight
    return cross_entropy, divergence, gradient


def attention_relations(states: Tensor, heads: int) -> Tensor:
    """Log relations [B, heads, T, T] of states [B, T, width]; `heads` divides the width."""
    batch, length, width = states.shape
    parts = states.float().view(batch, length, heads, width // heads).transpose(1, 2)
    scores = parts @ parts.transpose(-1, -2) * (width // heads) ** -0.5
    return functional.log_softmax(scores, dim=-1)


def relation_divergence(student: Tensor, teacher: Tensor, heads: int) -> Tensor:
    """Mean KL of the relations of one kind of state, [B, T, width of each], over B, heads and T."""
    log_student = attention_relations(student, heads)
    with torch.no_grad():
        log_teacher = attention_relations(teacher, heads)
    divergence = functional.kl_div(log_student, log_teacher, reduction="sum", log_target=True)
    return divergence / log_student.shape[:3].numel()
