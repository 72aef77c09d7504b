"""The engine: requests in, tokens out, one batched forward pass a step.

A step is three verbs: the scheduler *plans* (`tercet.engine.scheduler`), the runner *runs* the plan through
the decoder, the scheduler *commits* what came out. `advance` is called by whoever waits for a token, from any
thread: it advances *every* running request, so callers that generate at the same time share the weights that
a step reads. One request's failure never ends the engine: if a step fails, the requests it carried finish
with that error and the others go on.

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
from typing import Protocol

import numpy as np
import numpy.typing as npt

from tercet.engine.adapters import ChosenAdapter
from tercet.engine.kv_blocks import KvBlockPool
from tercet.engine.plan import Chunk, StepLimits, plan_embedding
from tercet.engine.reading import read_sequences
from tercet.engine.request import Request
from tercet.engine.scheduler import Scheduler
from tercet.engine.speculation import Speculation
from tercet.engine.stats import EngineStats
from tercet.engine.step_times import StepAccount, StepTimes
from tercet.sampling.logprobs import token_logprobs

Logits = npt.NDArray[np.float32]

STOCK_SECONDS = 0.005
"""How old `stats` may become while step follows step."""


class StepRunner(Protocol):
    """The arithmetic that the engine stands on; `tercet.engine.runner.Runner` is the real one."""

    def run(self, chunks: Sequence[Chunk]) -> Logits:
        """Compute the chunks of one step; logits [rows, vocab] after the last `num_drawn` tokens of each."""

    def score(
        self,
        sequences: Sequence[Sequence[int]],
        num_cached: Sequence[int],
        blocks: Sequence[Sequence[int]],
        num_scored: Sequence[int],
        adapters: Sequence[ChosenAdapter] = (),
    ) -> Logits:
        """Logits [rows, vocab] after the last `num_scored` tokens of each sequence."""

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
        self.clock = clock
        self._speculation = speculation
        events = (speculation.released, speculation.checked) if speculation is not None else ()
        self._scheduler = Scheduler(pool, limits or StepLimits(), *events)
        self._submitted: deque[Request] = deque()  # what no step has seen yet
        self._cancelled: deque[Request] = deque()
        self._lock = threading.Lock()
        self._turnstile = threading.Lock()
        self._busy_seconds = 0.0
        self._times = StepTimes()
        self._take_stock()

    @property
    def limits(self) -> StepLimits:
        """How large a step may become; may be set at any time, and holds for what begins from then on."""
        return self._scheduler.limits

    @limits.setter
    def limits(self, limits: StepLimits) -> None:
        self._scheduler.limits = limits

    # Requests ---------------------------------------------------------------------------------------

    def submit(self, request: Request) -> None:
        """Queue a request, without waiting for a step; ContextLengthError when it can never be held."""
        self._scheduler.check(request)
        request.submitted_at = self.clock()
        self._submitted.append(request)

    def cancel_soon(self, request: Request) -> None:
        """End a request at the next step; takes no lock, so finalizers and signal handlers may call it."""
        request.cancel_requested = True
        if not request.finished:
            self._cancelled.append(request)

    def cancel(self, request: Request) -> None:
        """Stop a request and free its memory; does nothing if it has finished."""
        if not request.finished:
            self.cancel_soon(request)
            with self._exclusively():
                self._receive()

    def advance(self, request: Request) -> None:
        """Move every request on by one step, unless this one has finished meanwhile."""
        with self._exclusively():
            if not request.finished:
                self._step()

    def step(self) -> bool:
        """Move every request on by one step; False when there was none."""
        with self._exclusively():
            self._receive()
            if not self._scheduler.has_work:
                return False
            self._step()
            return True

    def begin_anew(self, error: BaseException) -> None:
        """After a fault that has ended a step half-way: end all requests with this error, and be as new.

        A step that fails ends the requests that it carried, and needs no such thing. This is for what comes
        in between or cannot be caught there: nobody knows then what is still true of blocks and queues.
        """
        with self._exclusively():
            unseen = list(self._submitted)
            self._submitted.clear()
            self._cancelled.clear()
            self._scheduler.now = self.clock()
            self._scheduler.begin_anew(unseen, error)
            self._take_stock()

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

    def stats(self) -> EngineStats:
        """What has been done so far; during a step, what was known a few milliseconds before. Never waits."""
        if self._lock.acquire(blocking=False):
            try:
                self._take_stock()
            finally:
                self._lock.release()
        return self._stats

    def account(self) -> StepAccount:
        """Where the time of all steps went; waits for the end of the one that runs."""
        with self._exclusively():
            stats = self._scheduler.stats()
            decoder = getattr(self.runner, "decoder", None)
            return StepAccount(
                stats.steps,
                stats.prompt_tokens,
                stats.generated_tokens,
                dict(self._times.seconds),
                {} if decoder is None else decoder.profile(),
            )

    # Whole texts ------------------------------------------------------------------------------------

    def score(self, token_ids: Sequence[int], adapters: Sequence[ChosenAdapter] = ()) -> Logits:
        """Logits [tokens, vocab] of one sequence, computed in chunks beside whatever else is running."""
        parts: list[Logits] = []
        self.read([token_ids], [0], lambda index, position, logits: parts.append(logits), adapters=adapters)
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def read(
        self,
        sequences: Sequence[Sequence[int]],
        firsts: Sequence[int],
        seen: Callable[[int, int, Logits], None],
        salt: bytes = b"",
        adapters: Sequence[ChosenAdapter] = (),
    ) -> None:
        """Hand over the logits of sequences from a position on; see `tercet.engine.reading`.

        Other callers wait until all have been read, so give as many as fit into a few steps.
        """
        with self._exclusively():
            needed = max((self.pool.blocks_for(len(ids)) for ids in sequences), default=0)
            self._wait_for_blocks(needed)
            read_sequences(self.runner, self.pool, self.limits, sequences, firsts, seen, salt, adapters)

    def embed(self, sequences: Sequence[Sequence[int]]) -> Logits:
        """Final states [S, hidden] of the last tokens of S sequences, as many at once as fit into a step."""
        lengths = [len(ids) for ids in sequences]
        runs = plan_embedding(lengths, self.pool.num_blocks, self.pool.block_tokens, self.limits)
        parts = []
        for run in runs:
            with self._exclusively(), self._blocks([lengths[index] for index in run]) as blocks:
                texts = [sequences[index] for index in run]
                parts.append(self.runner.embed(texts, blocks, self.limits.max_step_tokens))
        return np.concatenate(parts)

    @contextlib.contextmanager
    def _blocks(self, lengths: Sequence[int]) -> Iterator[list[list[int]]]:
        """Own blocks for sequences of these lengths for a while."""
        counts = [self.pool.blocks_for(length) for length in lengths]
        self._wait_for_blocks(sum(counts))
        owned = [self.pool.allocate(count) for count in counts]
        try:
            yield owned
        finally:
            self.pool.release(itertools.chain.from_iterable(owned))

    def _wait_for_blocks(self, count: int) -> None:
        while self.pool.num_available < count and self._scheduler.running:
            self._step(admits=False)  # running requests hold the rest; they end, and no others begin

    # One step ---------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _exclusively(self) -> Iterator[None]:
        """Hold the lock. Who waits for it gets it next, even from a thread that wants it back at once."""
        with self._turnstile:
            self._lock.acquire()
        try:
            yield
        finally:
            self._lock.release()

    def _receive(self) -> None:
        """Tell the scheduler what has happened since the last step."""
        scheduler = self._scheduler
        scheduler.now = self.clock()
        while self._submitted:
            scheduler.submit(self._submitted.popleft())
        while self._cancelled:
            scheduler.cancel(self._cancelled.popleft())

    def _step(self, admits: bool = True) -> None:
        scheduler, times = self._scheduler, self._times
        times.begin()
        self._receive()
        begin = scheduler.now
        carried = list(scheduler.running)
        try:
            if self._speculation is not None:
                self._speculation.propose([one for one in carried if one.is_generating])
            chunks = scheduler.plan(admits)
            times.add("planning")
            if chunks:
                carried = [chunk.request for chunk in chunks]
                logits = self.runner.run(chunks)
        except Exception as error:
            for request in carried:
                scheduler.fail(request, error)
            chunks = ()
        times.add("running")
        scheduler.now = self.clock()
        if chunks:
            scheduler.commit(chunks, lambda request, row: self._draw(request, logits[row]))
            times.add("committing")
        self._busy_seconds += scheduler.now - begin
        if scheduler.now >= self._stock_due:
            self._take_stock()

    def _draw(self, request: Request, row: Logits) -> int:
        self._times.add("committing")
        token = self.runner.sample(row, request)
        num_top = request.params.logprobs
        if num_top is not None and token not in request.stop_ids:
            request.logprobs.append(token_logprobs(row, token, num_top))
        request.draw_seconds += self._times.add("drawing")
        return token

    def _take_stock(self) -> None:
        stats = self._scheduler.stats()
        stats.busy_seconds = self._busy_seconds
        self._stats = stats
        self._stock_due = self._scheduler.now + STOCK_SECONDS
