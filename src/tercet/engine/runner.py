"""Turns a plan, or whole texts, into the arrays of one call of the decoder."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from tercet.engine.adapters import ChosenAdapter
from tercet.engine.devices import StepCache, StepDecoder
from tercet.engine.plan import Chunk
from tercet.engine.request import Request
from tercet.errors import GenerationError, ParameterError, UnavailableError
from tercet.formats.mapped_file import MappedFile
from tercet.kernels.adapter import AdapterUse
from tercet.kernels.sampling import sample
from tercet.sampling.params import SamplingParams
from tercet.sampling.token_constraint import adjusted_logits

Logits = npt.NDArray[np.float32]


class Runner:
    """One decoder and its cache. Holds no state of its own between calls.

    Args:
        decoder: what computes.
        cache: where keys and values are.
        files: what the weights are read from, where that is guarded. What was computed from a file that has
            become shorter is UnavailableError.
    """

    def __init__(self, decoder: StepDecoder, cache: StepCache, files: Sequence[MappedFile] = ()) -> None:
        self.decoder = decoder
        self.cache = cache
        self._files = files

    def run(self, chunks: Sequence[Chunk]) -> Logits:
        """Logits [rows, vocab] after the last `num_drawn` tokens of each of the chunks, in their order."""
        ends = itertools.accumulate(chunk.num_tokens for chunk in chunks)
        rows = [
            row for end, chunk in zip(ends, chunks, strict=True) for row in range(end - chunk.num_drawn, end)
        ]
        wanted = [chunk.request for chunk in chunks for _ in range(chunk.num_drawn)]
        full_rows = [row for row, request in enumerate(wanted) if _needs_all_logits(request)]
        greedy_rows = [row for row, request in enumerate(wanted) if request.params.temperature == 0]
        return self._compute(
            partial(self.decoder.forward, full_rows=full_rows, greedy_rows=greedy_rows),
            [chunk.request.tokens(chunk.request.num_cached, chunk.num_tokens) for chunk in chunks],
            [chunk.request.num_cached for chunk in chunks],
            [chunk.request.blocks for chunk in chunks],
            rows,
            [chunk.request.adapters for chunk in chunks],
        )

    def score(
        self,
        sequences: Sequence[Sequence[int]],
        num_cached: Sequence[int],
        blocks: Sequence[Sequence[int]],
        num_scored: Sequence[int],
        adapters: Sequence[ChosenAdapter] = (),
    ) -> Logits:
        """Logits [rows, vocab] after the last `num_scored` tokens of each sequence, behind cached ones."""
        ends = itertools.accumulate(len(ids) for ids in sequences)
        rows = [row for end, count in zip(ends, num_scored, strict=True) for row in range(end - count, end)]
        compute = partial(self.decoder.forward, full_rows=range(len(rows)))
        return self._compute(compute, sequences, num_cached, blocks, rows, [adapters] * len(sequences))

    def embed(
        self, sequences: Sequence[Sequence[int]], blocks: Sequence[Sequence[int]], step_tokens: int
    ) -> Logits:
        """Final states [S, hidden] of the last token of each of S whole sequences, in one step.

        A single sequence may be longer than `step_tokens`: it takes several.
        """
        tokens, num_cached = list(sequences), [0] * len(sequences)
        while len(tokens) == 1 and len(tokens[0]) > step_tokens:
            self._compute(self.decoder.hidden_states, [tokens[0][:step_tokens]], num_cached, blocks, [])
            tokens, num_cached = [tokens[0][step_tokens:]], [num_cached[0] + step_tokens]
        ends = itertools.accumulate(len(ids) for ids in tokens)
        return self._compute(
            self.decoder.hidden_states, tokens, num_cached, blocks, [end - 1 for end in ends]
        )

    def sample(self, logits: Logits, request: Request) -> int:
        """Draw the next token of a request from its logits [vocab].

        Raises:
            GenerationError: they are no numbers to choose by, which is not the caller's fault.
        """
        params, num_generated = request.params, len(request.generated_ids)
        penalized = _is_penalized(params)
        adjusted = adjusted_logits(logits, params, num_generated, request.stop_ids, request.constraint)
        try:
            return self._draw(adjusted, request, num_generated, penalized)
        except ParameterError as error:
            if np.isfinite(np.max(adjusted)):
                raise
            raise GenerationError(f"the answer failed: {error}") from error

    def _draw(self, logits: Logits, request: Request, num_generated: int, penalized: bool) -> int:
        params = request.params
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
            step=num_generated,
        )

    def _compute(
        self,
        compute: Callable[..., Logits],
        tokens: Sequence[Sequence[int]],
        num_cached: Sequence[int],
        blocks: Sequence[Sequence[int]],
        rows: Sequence[int],
        adapters: Sequence[Sequence[ChosenAdapter]] = (),
    ) -> Logits:
        uses = [
            AdapterUse(index, chosen.loaded.adapter, chosen.weight)
            for index, own in enumerate(adapters)
            for chosen in own
        ]
        starts = itertools.accumulate((len(ids) for ids in tokens), initial=0)
        width = max(map(len, blocks))
        tables = [[*owned, *[-1] * (width - len(owned))] for owned in blocks]
        logits = compute(
            self.cache,
            np.fromiter(itertools.chain.from_iterable(tokens), np.int32),
            np.fromiter(starts, np.int32),
            np.array(num_cached, np.int32),
            np.array(tables, np.int32),
            np.array(rows, np.int32),
            adapters=uses,
        )
        if any(file.is_damaged for file in self._files):
            raise UnavailableError(
                "the file of the model has become shorter while it is in use; put it back and restart"
            )
        return logits


def _is_penalized(params: SamplingParams) -> bool:
    """Say whether what was said so far changes the logits."""
    return (params.repetition_penalty, params.presence_penalty, params.frequency_penalty) != (1, 0, 0)


def _needs_all_logits(request: Request) -> bool:
    """Say whether any token may become the likeliest, or is reported: then no logit may be rough."""
    params = request.params
    return (
        _is_penalized(params)
        or bool(params.logit_bias)
        or params.logprobs is not None
        or request.constraint is not None
        or len(request.generated_ids) < params.min_tokens
    )
