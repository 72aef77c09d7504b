"""A generation that is read piece by piece."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType

from tercet.engine.engine import Engine
from tercet.engine.request import Request
from tercet.engine.result import GenerationResult, result_of
from tercet.errors import ParameterError


class TextStream(Iterator[str]):
    """Iterate to get the text as it is generated; the pieces together are exactly the text of `generate`.

    `close()` (or leaving a `with` block, or dropping the stream) stops the generation. After the end, or
    after `close()`, `result` holds the whole text and the figures.
    """

    def __init__(self, engine: Engine, request: Request, model: str) -> None:
        self._engine = engine
        self._request = request
        self._model = model

    def __next__(self) -> str:
        output = self._request.output
        if output is None:
            raise StopIteration
        while True:
            # Asked before the text is taken: another thread's step may add the last piece in between.
            finished = self._request.finished
            piece = output.take()
            if piece:
                return piece
            if finished:
                self._engine.raise_error(self._request)
                raise StopIteration
            self._engine.advance(self._request)

    @property
    def result(self) -> GenerationResult:
        """What was generated and what it cost.

        Raises:
            ParameterError: the stream has not ended yet.
        """
        if not self._request.finished:
            raise ParameterError(
                "the stream has not ended: read it to its end, or close() it, then ask for the result"
            )
        return result_of(self._request, {"model": self._model})

    def stop(self) -> None:
        """Ask the generation to end at its next step; takes no lock, so a signal handler may call it."""
        self._engine.cancel_soon(self._request)

    def close(self) -> None:
        """Stop generating and free the memory; the text so far stays in `result`."""
        self._engine.cancel(self._request)

    def __enter__(self) -> TextStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        # A finalizer may run inside the engine's own lock, so it only leaves a note for the next step.
        self.stop()
