"""The loop of a batch: as many requests in flight as the engine takes, results on the disk as they end.

`concurrency` workers take lines from one reader and ask the `answer` of the caller. What they get goes to a
writer, which synchronizes all that has come since its last time at once: a disk that needs 10 ms for it costs
10 ms for a hundred short answers, too. Nothing is held that is not in flight, whatever the size of the file.

When it is cancelled, requests in flight are given up, and what was answered is written first.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from tercet.errors import ParameterError, TercetError
from tercet.service.batch.inventory import Inventory
from tercet.service.batch.lines import BatchLine, Outcome, RawLine, fallback_line, parse_line
from tercet.service.batch.results import Results

__all__ = [
    "Answer",
    "Answered",
    "BatchCounts",
    "StopBatch",
    "TryAgain",
    "checked_line",
    "outcome_of",
    "run_batch",
]

Answer: TypeAlias = Callable[[BatchLine], Awaitable[Outcome]]
"""Answers one request. A TercetError is recorded as its failure, and so is any other exception."""

_MAX_UNWRITTEN = 256  # answers that wait for the disk


class TryAgain(Exception):  # noqa: N818
    """What an `Answer` raises when there is no room now; the request is asked again after some seconds."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class StopBatch(Exception):  # noqa: N818
    """What an `Answer` raises when nothing can be answered any more: the batch ends with this error.

    The requests that have no record yet run when it is resumed.
    """

    def __init__(self, error: TercetError) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass
class BatchCounts:
    """How far a batch has come."""

    total: int
    succeeded: int = 0
    failed: int = 0
    resumed: int = 0
    """Of both, those that an earlier run had left done."""
    generated_tokens: int = 0
    """Of this run, as far as the answers tell."""

    @property
    def done(self) -> int:
        """Requests with a record."""
        return self.succeeded + self.failed

    def add(self, one: Answered) -> None:
        """Count a request whose record is kept."""
        self.succeeded += one.succeeded
        self.failed += not one.succeeded
        self.generated_tokens += one.generated_tokens


async def run_batch(
    inventory: Inventory,
    results: Results,
    answer: Answer,
    *,
    concurrency: int,
    progress: Callable[[BatchCounts], None] = lambda counts: None,
    problem: Callable[[int, str], None] = lambda number, message: None,
) -> BatchCounts:
    """Answer the requests of `inventory` that are not done, and append their records to `results`.

    Args:
        inventory: the input.
        results: the output, which has told `inventory` what is done.
        answer: who answers.
        concurrency: most requests in flight.
        progress: called with the counts when records have reached the disk.
        problem: called with the number of a line that is no request, and why.

    Raises:
        StorageError: the output cannot be written.
        ParameterError: the input has changed meanwhile.
        TercetError: nothing can be answered any more (`StopBatch`).
    """
    resumed = results.num_succeeded + results.num_failed
    counts = BatchCounts(inventory.total, results.num_succeeded, results.num_failed, resumed)
    run = _Run(inventory, results, answer, counts, progress, problem)
    progress(counts)
    await run.to_its_end(concurrency)
    return counts


def checked_line(
    inventory: Inventory, raw: RawLine, problem: Callable[[int, str], None]
) -> tuple[BatchLine, Outcome | None]:
    """Return the request of a line; and how it ended, where it is none, which `problem` is told."""
    try:
        line = parse_line(raw)
        inventory.check_id(line)
        return line, None
    except ParameterError as error:
        problem(raw.number, str(error))
        return fallback_line(raw), Outcome(400, error=_failure(error))


async def outcome_of(answer: Answer, line: BatchLine) -> Outcome:
    """Have a request answered, however long there is no room for it; what fails is its outcome.

    Raises:
        TercetError: nothing can be answered any more (`StopBatch`).
    """
    while True:
        try:
            return await answer(line)
        except TryAgain as later:
            await asyncio.sleep(later.seconds)
        except StopBatch as stopped:
            raise stopped.error from stopped
        except TercetError as error:
            return Outcome(400, error=_failure(error))
        except Exception as error:
            return Outcome(500, error=_failure(error))


class _Run:
    def __init__(
        self,
        inventory: Inventory,
        results: Results,
        answer: Answer,
        counts: BatchCounts,
        progress: Callable[[BatchCounts], None],
        problem: Callable[[int, str], None],
    ) -> None:
        self._inventory = inventory
        self._results = results
        self._answer = answer
        self._counts = counts
        self._progress = progress
        self._problem = problem
        self._lines = inventory.remaining()
        self._reading = asyncio.Lock()
        self._answered: asyncio.Queue[Answered | None] = asyncio.Queue(_MAX_UNWRITTEN)

    async def to_its_end(self, concurrency: int) -> None:
        writer = asyncio.create_task(self._write())
        workers = [asyncio.create_task(self._work()) for _ in range(concurrency)]
        try:
            # The first that fails ends all: the writer, where the disk is full, or whoever reads the input.
            working = {writer, *workers}
            while working - {writer}:
                done, working = await asyncio.wait(working, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
            no_more = asyncio.create_task(self._answered.put(None))
            await asyncio.wait({writer, no_more}, return_when=asyncio.FIRST_COMPLETED)
            no_more.cancel()
            await asyncio.shield(writer)

    async def _work(self) -> None:
        while True:
            async with self._reading:  # one reader for all workers, in a thread: lines may be long
                line, outcome = await asyncio.to_thread(self._next)
            if line is None:
                return
            await self._answered.put(Answered.of(line, outcome or await outcome_of(self._answer, line)))

    def _next(self) -> tuple[BatchLine | None, Outcome | None]:
        raw = next(self._lines, None)
        return (None, None) if raw is None else checked_line(self._inventory, raw, self._problem)

    async def _write(self) -> None:
        is_open = True
        while is_open:
            waiting = [await self._answered.get()]
            while not self._answered.empty():
                waiting.append(self._answered.get_nowait())
            is_open = None not in waiting
            answered = [one for one in waiting if one is not None]
            if not answered:
                continue
            await asyncio.to_thread(self._results.append, [one.record for one in answered])
            for one in answered:
                self._counts.add(one)
            self._progress(dataclasses.replace(self._counts))


def _failure(error: Exception) -> dict[str, Any]:
    kind = type(error).__name__
    message = str(error) if isinstance(error, TercetError) else f"{kind}: {error}; this is a bug in Tercet"
    return {"code": None, "type": kind, "message": message}


@dataclass(frozen=True)
class Answered:
    """What waits for the disk; the request itself is held no longer."""

    record: dict[str, Any]
    succeeded: bool
    generated_tokens: int

    @classmethod
    def of(cls, line: BatchLine, outcome: Outcome) -> Answered:
        """Return what is left of an answered request."""
        usage = outcome.body.get("usage")
        tokens = usage.get("completion_tokens") if isinstance(usage, dict) else 0
        return cls(line.record(outcome), outcome.succeeded, tokens if isinstance(tokens, int) else 0)
