"""Steps that draw one token for each sequence, recorded once and replayed.

Such a step is some three hundred small launches, and the processor takes longer to issue them than the GPU to
compute them. A CUDA graph issues all with one call. It replays fixed addresses and grids, so there is one for
each number of sequences, over buffers of indices that every step overwrites; what a step reads of the
cache follows from the indices alone. A recording belongs to the cache over which it was made.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from tercet.gpu.batch import Batch, StepIndices

if TYPE_CHECKING:
    from tercet.gpu.attention import KvCache
    from tercet.gpu.model import Model

__all__ = ["StepGraphs"]

MOST_RECORDINGS = 16
"""Each holds its buffers; the one that was used longest ago makes room."""


@dataclass(frozen=True, eq=False)
class _Recording:
    graph: torch.cuda.CUDAGraph
    batch: Batch
    logits: torch.Tensor


class StepGraphs:
    """Recordings of a model's steps."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._cache: weakref.ref[KvCache] | None = None
        self._recordings: dict[tuple[int, ...], _Recording] = {}

    def logits(self, step: StepIndices, cache: KvCache) -> torch.Tensor:
        """Compute a step in which every sequence has one token; logits float32 [rows, vocab].

        They are overwritten by the next step of the same size.
        """
        if self._cache is None or self._cache() is not cache:
            self._cache, self._recordings = weakref.ref(cache), {}
        step = _widened(step, -(-self._model.config.max_context // cache.block_tokens))
        shape = (len(step.token_ids), len(step.rows))
        recording = self._recordings.pop(shape, None)
        if recording is None:
            while len(self._recordings) >= MOST_RECORDINGS:
                del self._recordings[next(iter(self._recordings))]
            recording = self._record(step, cache)
        self._recordings[shape] = recording
        recording.batch.overwrite(step)
        recording.graph.replay()
        return recording.logits

    def _record(self, step: StepIndices, cache: KvCache) -> _Recording:
        batch = step.upload(self._model.device)
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # compiles kernels and makes workspaces before anything is recorded
            self._model.logits(batch, cache)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            logits = self._model.logits(batch, cache)
        return _Recording(graph, batch, logits)


def _widened(step: StepIndices, width: int) -> StepIndices:
    """Give block tables the width of the longest context, so that all steps of a size have one shape."""
    tables = np.full((len(step.tables), max(width, step.tables.shape[1])), -1, np.int64)
    tables[:, : step.tables.shape[1]] = step.tables
    return StepIndices(step.token_ids, step.positions, step.slots, tables, step.tiles, step.rows, step.starts)
