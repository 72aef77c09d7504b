"""What a trainer is given: token ids, and which of them the model learns to predict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from tercet.data.report import PreparationReport

__all__ = ["Example", "PreparedData"]


@dataclass(frozen=True, eq=False)
class Example:
    """A sequence of tokens with its loss mask.

    `learned[i]` says whether token i counts as a target: the loss is the mean of -log p(ids[i] | ids[:i])
    over the learned tokens. The first token of a document is never one, as nothing precedes it.
    """

    ids: np.ndarray
    """int32 [n]"""
    learned: np.ndarray
    """bool [n]"""
    starts: tuple[int, ...] = (0,)
    """Where documents begin; more than one where several were packed into this sequence."""
    places: tuple[str, ...] = field(default=("",), repr=False)
    """Where each document comes from: file and row."""

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def positions(self) -> np.ndarray:
        """The position of each token in its own document, int32 [n]."""
        lengths = np.diff([*self.starts, len(self.ids)])
        return np.arange(len(self.ids), dtype=np.int32) - np.repeat(
            np.asarray(self.starts, np.int32), lengths
        )

    @property
    def num_learned(self) -> int:
        """How many tokens are learned."""
        return int(self.learned.sum())


@dataclass(frozen=True)
class PreparedData:
    """Everything that a training run reads, and an account of what became of the rows."""

    train: Sequence[Example]
    """Packed where that was asked for."""
    valid: Sequence[Example]
    """Never packed: each document alone, as the model meets it when it is used."""
    report: PreparationReport
