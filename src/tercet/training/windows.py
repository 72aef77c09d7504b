"""Token file -> training batches, as a pure function of the step.

The stream of documents is cut into windows of `length + 1` tokens (documents are packed end to end; a
window may begin in the middle of one). An epoch visits every window once in an order drawn from
(seed, epoch); each epoch also shifts the cuts, so that a document is not always cut at the same place.
Because batch n depends on nothing but (seed, n), a run that resumes at step n sees exactly what the
uninterrupted run would have seen, and processes that share a batch see together what one process sees.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from tercet.errors import TrainingError


class Windows:
    """The windows of one memory-mapped token file."""

    def __init__(self, path: Path, dtype: str, length: int, seed: int) -> None:
        self._tokens = np.memmap(path, np.dtype(dtype), mode="r")
        self.length = length
        self.seed = seed
        # One window less than fit, to leave room for the shift of the cuts.
        self.per_epoch = (len(self._tokens) - 1) // length - 1
        if self.per_epoch < 1:
            raise TrainingError(
                f"{path} holds {len(self._tokens)} tokens, too few for windows of {length}; "
                "give more text or a shorter context"
            )
        self._order: tuple[int, int, np.ndarray] = (-1, 0, np.empty(0, np.int64))

    def batch(self, step: int, size: int) -> torch.Tensor:
        """Windows of global step `step`, int64 [size, length + 1]."""
        return torch.stack([self._window(step * size + row) for row in range(size)])

    def _window(self, index: int) -> torch.Tensor:
        epoch, place = divmod(index, self.per_epoch)
        if self._order[0] != epoch:
            generator = np.random.default_rng([self.seed, epoch])
            self._order = (epoch, int(generator.integers(self.length)), generator.permutation(self.per_epoch))
        _, shift, order = self._order
        start = shift + int(order[place]) * self.length
        return torch.from_numpy(self._tokens[start : start + self.length + 1].astype(np.int64))

    def in_order(self, limit: int) -> torch.Tensor:
        """The first `limit` windows of the file in order, for evaluation, int64 [count, length + 1]."""
        starts = range(0, min(limit, self.per_epoch + 1) * self.length, self.length)
        return torch.stack(
            [torch.from_numpy(self._tokens[s : s + self.length + 1].astype(np.int64)) for s in starts]
        )
