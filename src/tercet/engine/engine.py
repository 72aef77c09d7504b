"""The engine: requests in, tokens out, one batched forward pass a step.

`advance` is called by whoever waits for a token, from any thread: it advances *every* running request,
so callers that generate at the same time share the weights that a step reads. One request's failure never
ends the engine: if a step fails, the requests it carried finish with that error and the others go on.

Two things save work and change no token. Where the pool keeps prefixes, full blocks of keys and values are
published under the name of their tokens (`tercet.engine.prefix_index`), and a request that begins with them
does not compute them again. And a step may check guesses at the next tokens (`tercet.engine.speculation`):
after each guess the token is drawn that would have been drawn without it, and the first that differs ends
the row. What was written for wrong guesses is overwritten by the next step.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from tercet.engine.kv_blocks import KvBlockPool
from tercet.engine.plan import Chunk, StepLimits, plan_embedding, plan_step
from tercet.engine.request import FinishReason, Request
from tercet.engine.sequence_blocks import publish_blocks, release_blocks, take_blocks
from tercet.engine.speculation import Speculation
from tercet.engine.stats import EngineStats
from tercet.errors import ContextLengthError
from tercet.sampling.logprobs import token_logprobs

Logits = npt.NDArray[np.float32]


class StepRunner(Protocol):
    """The arithmetic that the engine stands on; `tercet.engine.runner.Runner` is the real one."""

    def run(self, chunks: Sequence[Chunk]) -> Logits:
        """Compute the chunks of one step; logits [rows, vocab] after the last `num_drawn` tokens of each."""

    def score(self, token_ids: Sequence[int], num_cached: int, blocks: Sequence[int]) -> Logits:
        """Logits [tokens, vocab] after every one of the tokens."""

    def embed(
        self, sequences: Sequence[Sequence[int]], blocks: Sequence[Sequence[int]], step_tokens: int
    ) -> Logits:
        """Final states [S, hidden] of the last token of each of S whole sequences."""

    def sample(self, logits: Logits, request: Request) -> int:
        """Draw the next token of a request from its logits [vocab]."""


class Engine:
    """Runs requests over one decoder and one KV cache. Thread-safe.

    Args:
        runner: the decoder and the cache.
        pool: the blocks of the cache.
        limits: how large a step may become.
        clock: seconds.
        speculation: who guesses tokens, None for nobody.
    """

    def __init__(
        self,
        runner: StepRunner,
        pool: KvBlockPool,
        limits: StepLimits | None = None,
        clock: Callable[[], float] = time.perf_counter,
        *,
        speculation: Speculation | None = None,
    ) -> None:
        self.runner = runner
        self.pool = pool
        self.limits = limits or StepLimits()
        self._speculation = speculation
        self._clock = clock
        self._inbox: deque[Request] = deque()  # submitted, and not yet seen by a step
        self._waiting: deque[Request] = deque()
        self._running: list[Request] = []
        self._lock = threading.Lock()
        self._stats = EngineStats(num_blocks=pool.num_blocks, free_blocks=pool.num_free)

    def submit(self, request: Request) -> None:
        """Queue a request, without waiting for a step; ContextLengthError when it can never be held."""
        needed = self.pool.blocks_for(request.max_cached)
        if needed > self.pool.num_blocks:
            raise ContextLengthError(
                f"the request may need {request.max_cached} tokens of context and the KV cache holds "
                f"{self.pool.num_blocks * self.pool.block_tokens}; shorten the prompt or lower max_tokens"
            )
        request.submitted_at = self._clock()
        self._inbox.append(request)

    def cancel(self, request: Request) -> None:
        """Stop a request and free its memory; does nothing if it has finished."""
        request.cancel_requested = True
        with self._lock:
            self._receive()
            self._end_cancelled()

    def advance(self, request: Request) -> None:
        """Move every request on by one step, unless this one has finished meanwhile."""
        with self._lock:
            if not request.finished:
                self._step()

    def step(self) -> bool:
        """Move every request on by one step; False when there was none."""
        with self._lock:
            if not (self._inbox or self._waiting or self._running):
                return False
            self._step()
            return True

    @property
    def clock(self) -> Callable[[], float]:
        """What tells the time of requests."""
        return self._clock

    def stats(self) -> EngineStats:
        """What has been done so far, after the latest step."""
        return replace(self._stats)

    def raise_error(self, request: Request) -> None:
        """Raise what ended the request, if it was an error."""
        if request.error is not None:
            raise request.error

    def complete(self, requests: Sequence[Request]) -> None:
        """Submit requests and move on until all have finished; raise what ended one, if it was an error."""
        for request in requests:
            self.submit(request)
        for request in requests:
            while not request.finished:
                self.advance(request)
            self.raise_error(request)

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
        while self.pool.num_available < sum(counts):
            self._step()  # running requests hold the rest; they end
        owned = [self.pool.allocate(count) for count in counts]
        try:
            yield owned
        finally:
            self.pool.release(itertools.chain.from_iterable(owned))

    def _receive(self) -> None:
        while self._inbox:
            self._waiting.append(self._inbox.popleft())
            self._stats.started += 1

    def _step(self) -> None:
        self._receive()
        self._end_cancelled()
        self._admit()
        carried = list(self._running)
        try:
            if self._speculation is not None:
                self._speculation.propose([one for one in carried if one.is_generating])
            chunks = plan_step(self._running, self.limits)
            if not chunks:
                return
            carried = [chunk.request for chunk in chunks]
            logits = self.runner.run(chunks)
        except Exception as error:
            for request in carried:
                self._fail(request, error)
            return
        self._commit(chunks, logits)

    def _end_cancelled(self) -> None:
        for request in [*self._running, *self._waiting]:
            if request.cancel_requested and request.cancel_error is not None:
                self._fail(request, request.cancel_error)
            elif request.cancel_requested:
                self._finish(request, "cancelled")

    def _admit(self) -> None:
        """Let waiting requests run, in order, while there is room in the step and in the cache."""
        room = self.limits.max_step_tokens - sum(request.num_pending for request in self._running)
        while self._waiting and room > 0 and len(self._running) < self.limits.max_sequences:
            if not take_blocks(self.pool, self._waiting[0]):
                break
            request = self._waiting.popleft()
            request.is_running = True
            self._running.append(request)
            room -= request.num_pending

    def _commit(self, chunks: Sequence[Chunk], logits: Logits) -> None:
        begin = 0
        for chunk in chunks:
            end = begin + chunk.num_drawn
            try:
                self._commit_chunk(chunk, logits[begin:end])
            except Exception as error:
                self._fail(chunk.request, error)
            begin = end

    def _commit_chunk(self, chunk: Chunk, logits: Logits) -> None:
        request = chunk.request
        proposed, request.proposed_ids = request.proposed_ids[: chunk.num_proposed], []
        request.num_cached += chunk.num_tokens - chunk.num_proposed
        publish_blocks(self.pool, request)
        num_accepted = 0
        for index, row in enumerate(logits):
            token = self.runner.sample(row, request)
            is_accepted = proposed[index : index + 1] == [token]
            self._accept(request, token, row)
            if request.finished or not is_accepted:
                break
            num_accepted += 1
            request.num_cached += 1  # the guess was in the step, so its keys and values are there
            publish_blocks(self.pool, request)
        if chunk.samples:
            request.num_draws += 1
        if proposed:
            request.num_proposed += len(proposed)
            request.num_accepted += num_accepted
            if self._speculation is not None and not request.finished:
                self._speculation.checked(request, len(proposed), num_accepted)

    def _accept(self, request: Request, token: int, row: Logits) -> None:
        if request.first_token_at is None:
            request.first_token_at = self._clock()
        if token in request.stop_ids:
            request.stop_id = token
            self._finish(request, "stop")
            return
        params, constraint = request.params, request.constraint
        if constraint is not None:
            constraint.accept(token)
        if params.logprobs is not None:
            request.logprobs.append(token_logprobs(row, token, params.logprobs))
        request.generated_ids.append(token)  # last: a reader in another thread takes as many of the others
        may_stop = len(request.generated_ids) > params.min_tokens
        has_ended = request.output is not None and request.output.push(token, may_stop)
        if has_ended or (constraint is not None and constraint.is_finished):
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
        request.is_running = False
        release_blocks(self.pool, request)
        if self._speculation is not None:
            self._speculation.forget(request)
        if request in self._running:
            self._running.remove(request)
        elif request in self._waiting:
            self._waiting.remove(request)
