"""Half of a strategy: timing, counting and testing are written once, over a stream of pieces.

An implementer gives `name`, `availability`, `set_up`, `deploy`, `close` and `_pieces`, and
`_memory_bytes` where the computation is in another process.
"""

from __future__ import annotations

import abc
import contextlib
import statistics
import time
from collections.abc import Generator, Iterator, Sequence
from typing import TypeVar

from tercet.deployment.strategy import (
    TEST_PROMPT,
    TEST_SECONDS,
    TEST_TOKENS,
    Availability,
    Generation,
    GenerationRequest,
    Metrics,
    Piece,
    Trial,
)
from tercet.engine.memory import resident_bytes
from tercet.errors import DeadlineError, TercetError

__all__ = ["MeasuredStrategy"]

T = TypeVar("T")


class MeasuredStrategy(abc.ABC):
    """A strategy that counts what it does. The deadline of a request is looked at between two pieces."""

    name: str
    comparable = True

    def __init__(self) -> None:
        self._requests = self._successful = self._tokens = 0
        self._counted_seconds = self._seconds = 0.0
        self._first: list[float] = []

    @abc.abstractmethod
    def availability(self) -> Availability:
        """See `Strategy`."""

    @abc.abstractmethod
    def set_up(self) -> None:
        """See `Strategy`."""

    @abc.abstractmethod
    def deploy(self) -> None:
        """See `Strategy`; does nothing where it is deployed already."""

    @abc.abstractmethod
    def close(self) -> None:
        """See `Strategy`."""

    @abc.abstractmethod
    def _pieces(self, request: GenerationRequest) -> Generator[Piece, None, None]:
        """Give the answer as it comes, stop when closed; UnavailableError where nothing is deployed."""

    def _memory_bytes(self) -> int | None:
        """Resident memory of what computes; by default that of this process."""
        return resident_bytes()

    def generate(self, request: GenerationRequest) -> Generation:
        """See `Strategy`."""
        started = time.perf_counter()
        pieces, arrivals = [], []
        self._requests += 1
        for piece in self._in_time(request, started):
            pieces.append(piece)
            arrivals.append(time.perf_counter() - started)
        done = _joined(self.name, pieces, arrivals, time.perf_counter() - started)
        self._count(done)
        return done

    def stream(self, request: GenerationRequest) -> Iterator[str]:
        """See `Strategy`. An answer that is not read to its end counts as a request without success."""
        started = time.perf_counter()
        pieces, arrivals = [], []
        self._requests += 1
        for piece in self._in_time(request, started):
            pieces.append(piece)
            arrivals.append(time.perf_counter() - started)
            if piece.text:
                yield piece.text
        self._count(_joined(self.name, pieces, arrivals, time.perf_counter() - started))

    def test(self, request: GenerationRequest | None = None) -> Trial:
        """See `Strategy`."""
        asked = request or GenerationRequest(TEST_PROMPT, TEST_TOKENS, timeout_seconds=TEST_SECONDS)
        try:
            self.deploy()
            done = self.generate(asked)
        except TercetError as error:
            return Trial(self.name, False, str(error))
        if not done.text and not done.token_ids:
            return Trial(self.name, False, "it answered with nothing", done)
        return Trial(self.name, True, "", done, self._memory_bytes())

    def metrics(self) -> Metrics:
        """See `Strategy`."""
        return Metrics(
            requests=self._requests,
            successful=self._successful,
            generated_tokens=self._tokens,
            counted_seconds=self._counted_seconds,
            average_seconds=self._seconds / self._successful if self._successful else None,
            median_time_to_first_token_seconds=statistics.median(self._first) if self._first else None,
            memory_bytes=self._memory_bytes(),
        )

    def _in_time(self, request: GenerationRequest, started: float) -> Iterator[Piece]:
        with contextlib.closing(self._pieces(request)) as pieces:
            for piece in pieces:
                yield piece
                if piece.finish_reason is None and time.perf_counter() - started > request.timeout_seconds:
                    raise DeadlineError(
                        f"{self.name} did not end its answer within {request.timeout_seconds:g} seconds. "
                        "Ask for fewer tokens, or allow more time."
                    )

    def _count(self, done: Generation) -> None:
        self._successful += 1
        self._seconds += done.seconds
        if done.generated_tokens is not None:
            self._tokens += done.generated_tokens
            self._counted_seconds += done.seconds
        if done.time_to_first_token_seconds is not None:
            self._first.append(done.time_to_first_token_seconds)


def _joined(name: str, pieces: list[Piece], arrivals: list[float], seconds: float) -> Generation:
    known = [piece.token_ids for piece in pieces if piece.token_ids is not None]
    token_ids = tuple(token for ids in known for token in ids) if known else None
    counted = _last([piece.generated_tokens for piece in pieces])
    if counted is None and token_ids is not None:
        counted = len(token_ids)
    return Generation(
        strategy=name,
        text="".join(piece.text for piece in pieces),
        seconds=seconds,
        time_to_first_token_seconds=arrivals[0] if len(pieces) > 1 else None,
        token_ids=token_ids,
        prompt_tokens=_last([piece.prompt_tokens for piece in pieces]),
        generated_tokens=counted,
        finish_reason=_last([piece.finish_reason for piece in pieces]),
    )


def _last(values: Sequence[T | None]) -> T | None:
    return next((value for value in reversed(values) if value is not None), None)
