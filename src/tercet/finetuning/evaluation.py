"""The loss of examples twice: as a network in training computes it, and as the engine does with a file.

Both are the mean of -ln p over all learned tokens of all examples, each example read on its own. That they
agree is what an export promises.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from tercet.data import Example
from tercet.evaluation.scoring import score
from tercet.finetuning.batches import NOT_LEARNED, evaluation_batches
from tercet.llm import LLM

__all__ = ["evaluation_loss", "network_loss", "opened"]


def opened(model: Path, adapter: Path | None = None) -> LLM:
    """Open a model; where there is an adapter, all that is asked of it is answered with that."""
    if adapter is None:
        return LLM(model)
    llm = LLM(model, adapters={"adapter": adapter})
    llm.adapters.set_defaults({"adapter": 1.0})
    return llm


def evaluation_loss(llm: LLM, examples: Sequence[Example]) -> float:
    """Return the loss of a stored model, as the engine computes it.

    Raises:
        ParameterError, ContextLengthError: the examples are another tokenizer's, or too long for this model.
    """
    total, tokens = 0.0, 0
    scores = score(llm, ([int(token) for token in example.ids] for example in examples))
    for example, scored in zip(examples, scores, strict=True):
        total -= float(scored.log_probabilities[example.learned[1:]].sum())
        tokens += example.num_learned
    return total / max(tokens, 1)


def network_loss(network: Any, examples: Sequence[Example], vocab_size: int) -> tuple[float, int]:
    """Return the loss of a network, and of how many tokens it is the mean.

    The network is in evaluation mode for that long; products are in the precision of its weights.
    """
    was_training = network.training
    network.eval()
    total, tokens = 0.0, 0
    device = next(network.parameters()).device
    try:
        with torch.no_grad():
            for batch in evaluation_batches(examples, vocab_size):
                labels = batch["labels"][:, 1:].to(device)
                logits = network(input_ids=batch["input_ids"].to(device)).logits[:, :-1].float()
                losses = functional.cross_entropy(
                    logits.flatten(0, 1), labels.flatten(), ignore_index=NOT_LEARNED, reduction="none"
                )
                total += float(losses.double().sum())
                tokens += int((labels != NOT_LEARNED).sum())
    finally:
        network.train(was_training)
    return total / max(tokens, 1), tokens
