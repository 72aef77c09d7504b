"""Examples -> batches of tensors, for training and for evaluation.

A label is -100 where a token is not learned. Documents that were packed into one sequence do not see each
other: their positions begin anew, by which transformers tells them apart. Padding stands behind everything,
where no token that counts can see it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from tercet.data import Example

__all__ = ["ExampleDataset", "collate", "evaluation_batches"]

NOT_LEARNED = -100
"""What PyTorch's cross entropy and transformers pass over."""
EVALUATED_TOKENS = 4096
LOGITS_AT_A_TIME = 1 << 28
"""float32 logits that an evaluation holds at most, unless one sequence alone has more."""


class ExampleDataset(Dataset[tuple[int, Example]]):
    """Examples with their numbers, as a loader of PyTorch takes them."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self.examples = examples

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> tuple[int, Example]:
        return index, self.examples[index]


def collate(batch: Sequence[tuple[int, Example]]) -> dict[str, Any]:
    """Make `input_ids`, `labels` and, where documents are packed, `position_ids`: int64 [batch, longest].

    `examples` has the number of each, int64 [batch]; the trainer takes it out and tells errors by it.
    """
    longest = max(len(example) for _, example in batch)
    ids = torch.zeros(len(batch), longest, dtype=torch.int64)
    labels = torch.full((len(batch), longest), NOT_LEARNED, dtype=torch.int64)
    positions = torch.arange(longest).repeat(len(batch), 1)
    for row, (_, example) in enumerate(batch):
        length = len(example)
        ids[row, :length] = torch.from_numpy(example.ids.astype(np.int64))
        learned = torch.from_numpy(example.learned)
        labels[row, :length][learned] = ids[row, :length][learned]
        positions[row, :length] = torch.from_numpy(example.positions.astype(np.int64))
        positions[row, length:] = torch.arange(longest - length)  # the padding is a document of its own
    found = {"input_ids": ids, "labels": labels, "examples": torch.tensor([index for index, _ in batch])}
    if any(len(example.starts) > 1 for _, example in batch):
        found["position_ids"] = positions
    return found


def evaluation_batches(examples: Sequence[Example], vocab_size: int) -> Iterator[dict[str, Tensor]]:
    """Yield batches of examples of like length, as large as memory for their logits allows."""
    most = max(1, min(EVALUATED_TOKENS, LOGITS_AT_A_TIME // vocab_size))
    order = sorted(range(len(examples)), key=lambda index: (len(examples[index]), index))
    batch: list[tuple[int, Example]] = []
    for index in order:
        if batch and (len(batch) + 1) * len(examples[index]) > most:
            yield collate(batch)
            batch = []
        batch.append((index, examples[index]))
    if batch:
        yield collate(batch)
