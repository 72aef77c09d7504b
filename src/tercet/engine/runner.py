"""Turns a plan into the arrays of one `decoder.forward` call."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tercet.engine.plan import Chunk
from tercet.engine.request import Request
from tercet.kernels.decoder import Decoder, KvCache
from tercet.kernels.sampling import sample

Logits = npt.NDArray[np.float32]


class Runner:
    """One decoder and its cache. Holds no state of its own between calls."""

    def __init__(self, decoder: Decoder, cache: KvCache) -> None:
        self.decoder = decoder
        self.cache = cache

    def run(self, chunks: Sequence[Chunk]) -> Logits:
        """Logits [S, vocab] after the last token of each of the S chunks that sample, in their order."""
        ends = itertools.accumulate(chunk.num_tokens for chunk in chunks)
        rows = [end - 1 for end, chunk in zip(ends, chunks, strict=True) if chunk.samples]
        return self._forward(
            [chunk.request.tokens(chunk.request.num_cached, chunk.num_tokens) for chunk in chunks],
            [chunk.request.num_cached for chunk in chunks],
            [chunk.request.blocks for chunk in chunks],
            rows,
        )

    def score(self, token_ids: Sequence[int], num_cached: int, blocks: Sequence[int]) -> Logits:
        """Logits [tokens, vocab] after every one of these tokens, which follow `num_cached` cached ones."""
        return self._forward([token_ids], [num_cached], [blocks], range(len(token_ids)))

    def sample(self, logits: Logits, request: Request) -> int:
        """Draw the next token of a request from its logits [vocab]."""
        params = request.params
        penalized = (params.repetition_penalty, params.presence_penalty, params.frequency_penalty) != (
            1,
            0,
            0,
        )
        return sample(
            logits,
            temperature=params.temperature,
            top_k=params.top_k,
            top_p=params.top_p,
            min_p=params.min_p,
            repetition_penalty=params.repetition_penalty,
            presence_penalty=params.presence_penalty,
            frequency_penalty=params.frequency_penalty,
            seed=params.seed or 0,
            # What was said so far matters to the penalties only; a long prompt is not copied for nothing.
            prompt_ids=np.asarray(request.prompt_ids if penalized else (), np.int32),
            generated_ids=np.asarray(request.generated_ids if penalized else (), np.int32),
            step=len(request.generated_ids),
        )

    def _forward(
        self,
        tokens: Sequence[Sequence[int]],
        num_cached: Sequence[int],
        blocks: Sequence[Sequence[int]],
        logit_rows: Sequence[int],
    ) -> Logits:
        starts = itertools.accumulate((len(ids) for ids in tokens), initial=0)
        width = max(map(len, blocks))
        tables = [[*owned, *[-1] * (width - len(owned))] for owned in blocks]
        return self.decoder.forward(
            self.cache,
            np.fromiter(itertools.chain.from_iterable(tokens), np.int32),
            np.fromiter(starts, np.int32),
            np.array(num_cached, np.int32),
            np.array(tables, np.int32),
            np.array(logit_rows, np.int32),
        )
