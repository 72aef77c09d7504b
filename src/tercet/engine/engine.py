"""The engine: requests in, tokens out, one batched forward pass a step.

`advance` is called by whoever waits for a token, from any thread: it advances *every* running request,
so callers that generate at the same time share the weights that a step reads. One request's failure never
ends the engine: if a step fails, the requests it carried finish with that error and the others go on.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from tercet.engine.kv_blocks import KvBlockPool
from tercet.engine.plan import Chunk, Plan, StepLimits, plan_embedding, plan_step
from tercet.engine.request import FinishReason, Request
from tercet.errors import ContextLengthError

Logits = npt.NDArray[np.float32]


class StepRunner(Protocol):
    """The arithmetic that the engine stands on; `tercet.engine.runner.Runner` is the real one."""

    def run(self, chunks: Sequence[Chunk]) -> Logits:
        """Compute the chunks of one step; logits [S, vocab] after each of the S that sample."""

    def score(self, token_ids: Sequence[int], num_cached: int, blocks: Sequence[int]) -> Logits:
        """Logits [tokens, vocab] after every one of the tokens."""

    def embed(
        self, sequences: Sequence[Sequence[int]], blocks: Sequence[Sequence[int]], step_tokens: int
    ) -> Logits:
        """Final states [S, hidden] of the last token of each of S whole sequences."""

    def sample(self, logits: Logits, request: Request) -> int:
        """Draw the next token of a request from its logits [vocab]."""


class Engine:
    """Runs requests over one decoder and one KV cache. Thread-safe."""

    def __init__(
        self,
        runner: StepRunner,
        pool: KvBlockPool,
        limits: StepLimits | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.runner = runner
        self.pool = pool
        self.limits = limits or StepLimits()
        self._clock = clock
        self._waiting: deque[Request] = deque()
        self._running: list[Request] = []
        self._lock = threading.Lock()

    def submit(self, request: Request) -> None:
        """Queue a request; ContextLengthError when even an idle engine could not hold it."""
        needed = self.pool.blocks_for(request.max_cached)
        if needed > self.pool.num_blocks:
            raise ContextLengthError(
                f"the request may need {request.max_cached} tokens of context and the KV cache holds "
                f"{self.pool.num_blocks * self.pool.block_tokens}; shorten the prompt or lower max_tokens"
            )
        with self._lock:
            request.submitted_at = self._clock()
            self._waiting.append(request)

    def cancel(self, request: Request) -> None:
        """Stop a request and free its memory; does nothing if it has finished."""
        request.cancel_requested = True
        with self._lock:
            self._end_cancelled()

    def advance(self, request: Request) -> None:
        """Move every request on by one step, unless this one has finished meanwhile."""
        with self._lock:
            if not request.finished:
                self._step()

    def raise_error(self, request: Request) -> None:
        """Raise what ended the request, if it was an error."""
        if request.error is not None:
            raise request.error

    def score(self, token_ids: Sequence[int]) -> Logits:
        """Logits [tokens, vocab] of one sequence, computed in chunks beside whatever else is running."""
        with self._lock, self._blocks([len(token_ids)]) as blocks:
            size = self.limits.max_step_tokens
            parts = [
                self.runner.score(token_ids[begin : begin + size], begin, blocks[0])
                for begin in range(0, len(token_ids), size)
            ]
            return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def embed(self, sequences: Sequence[Sequence[int]]) -> Logits:
        """Final states [S, hidden] of the last tokens of S sequences, as many at once as fit into a step."""
        lengths = [len(ids) for ids in sequences]
        runs = plan_embedding(lengths, self.pool.num_blocks, self.pool.block_tokens, self.limits)
        parts = []
        for run in runs:
            with self._lock, self._blocks([lengths[index] for index in run]) as blocks:
                texts = [sequences[index] for index in run]
                parts.append(self.runner.embed(texts, blocks, self.limits.max_step_tokens))
        return np.concatenate(parts)

    @contextlib.contextmanager
    def _blocks(self, lengths: Sequence[int]) -> Iterator[list[list[int]]]:
        """Own blocks for sequences of these lengths for a while."""
        counts = [self.pool.blocks_for(length) for length in lengths]
        while self.pool.num_free < sum(counts):
            self._step()  # running requests hold the rest; they end
        owned = [self.pool.allocate(count) for count in counts]
        try:
            yield owned
        finally:
            self.pool.release(itertools.chain.from_iterable(owned))

    def _step(self) -> None:
        self._end_cancelled()
        plan = self._plan()
        if not plan.chunks:
            return
        try:
            logits = self.runner.run(plan.chunks)
        except Exception as error:
            for chunk in plan.chunks:
                self._fail(chunk.request, error)
            return
        self._commit(plan.chunks, logits)

    def _end_cancelled(self) -> None:
        for request in [*self._running, *self._waiting]:
            if request.cancel_requested:
                self._finish(request, "cancelled")

    def _plan(self) -> Plan:
        plan = plan_step(
            self._waiting, self._running, self.pool.num_free, self.pool.block_tokens, self.limits
        )
        for request in plan.admitted:
            request.blocks = self.pool.allocate(self.pool.blocks_for(request.max_cached))
            self._waiting.popleft()
            self._running.append(request)
        return plan

    def _commit(self, chunks: Sequence[Chunk], logits: Logits) -> None:
        rows = iter(logits)
        for chunk in chunks:
            request = chunk.request
            request.num_cached += chunk.num_tokens
            if not chunk.samples:
                continue
            try:
                self._accept(request, self.runner.sample(next(rows), request))
            except Exception as error:
                self._fail(request, error)

    def _accept(self, request: Request, token: int) -> None:
        if request.first_token_at is None:
            request.first_token_at = self._clock()
        if token in request.stop_ids:
            request.stop_id = token
            self._finish(request, "stop")
            return
        request.generated_ids.append(token)
        if request.output is not None and request.output.push(token):
            self._finish(request, "stop")
        elif len(request.generated_ids) == request.max_new_tokens:
            self._finish(request, "length")

    def _finish(self, request: Request, reason: FinishReason) -> None:
        if request.output is not None:
            request.output.finish()
            if request.output.stop_string is not None and reason == "length":
                reason = "stop"  # the very last bytes completed a stop string
        self._retire(request)
        request.finish_reason = reason  # last: whoever waits in another thread looks at this

    def _fail(self, request: Request, error: Exception) -> None:
        self._retire(request)
        request.error = error

    def _retire(self, request: Request) -> None:
        request.finished_at = self._clock()
        blocks, request.blocks = request.blocks, []
        self.pool.release(blocks)
        if request in self._running:
            self._running.remove(request)
        elif request in self._waiting:
            self._waiting.remove(request)
