"""A new engine thread in the place of one that has died.

A step that fails ends the requests that it carried, and the engine goes on by itself. What ends the thread is
worse: a bug between the steps, or an error that may not be caught. Then whoever waited hears of it at once
(503, to be sent again), everything that was cached is forgotten, and a new thread goes on where the file and
the settings are, with nothing of what the dead one left behind.

Whoever dies again and again is not helped by another thread. The pauses between attempts double, and after
the fifth death within a minute nothing is attempted any more: /livez goes on to fail, so that whoever
supervises the process starts it anew. A step that *hangs* cannot be ended from inside of the process, so it
is left to /livez from the beginning.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from tercet.engine.async_engine import AsyncEngine
from tercet.service.observation import fault_fields

if TYPE_CHECKING:
    from collections.abc import Callable

    from tercet.service.pool import ModelPool
    from tercet.service.served_model import ServedModel

__all__ = ["Supervisor"]

LOOK_SECONDS = 0.1
MOST_DEATHS, WITHIN_SECONDS = 5, 60.0
FIRST_PAUSE_SECONDS = 0.5
"""Before the second attempt; there is none before the first."""

_LOG = logging.getLogger("tercet.models")


class Supervisor:
    """Looks after the engines of a pool. Used from one event loop.

    Args:
        pool: the models.
        clock: seconds, whatever the time of day is set to.
    """

    def __init__(self, pool: ModelPool, clock: Callable[[], float] = time.monotonic) -> None:
        self._pool = pool
        self._clock = clock
        self._deaths: WeakKeyDictionary[AsyncEngine, _Deaths] = WeakKeyDictionary()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look."""
        if self._task is None:
            self._task = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        """Look no more."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def prospect(self, engine: AsyncEngine) -> str:
        """What will become of an engine that has died, for people."""
        deaths = self._deaths.get(engine)
        if deaths is not None and deaths.are_too_many:
            return f"it died {MOST_DEATHS} times within {WITHIN_SECONDS:g} seconds, so restart the process"
        return "it is being restarted"

    async def look(self) -> None:
        """Restart what has died and whose turn it is."""
        for model in self._pool.models:
            engine = model.engine
            if engine.failure is None:
                continue
            deaths = self._deaths.setdefault(engine, _Deaths())
            if deaths.told is not engine.failure:
                deaths.add(engine.failure, self._clock())
                _tell(model, self.prospect(engine))
            if not deaths.are_too_many and self._clock() >= deaths.due_at:
                await engine.restart()
                _LOG.warning("engine restarted", extra={"model": model.name, "times": engine.num_restarts})

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self.look()
            except Exception as error:  # this model is left as it is; the others still have somebody
                _LOG.error("engine not restarted", extra=fault_fields(error))


class _Deaths:
    """When an engine has died, and when it is to live again."""

    def __init__(self) -> None:
        self.told: BaseException | None = None
        self.due_at = 0.0
        self.are_too_many = False
        self._times: deque[float] = deque(maxlen=MOST_DEATHS)

    def add(self, failure: BaseException, now: float) -> None:
        while self._times and now - self._times[0] >= WITHIN_SECONDS:
            self._times.popleft()
        self._times.append(now)
        self.told = failure
        self.are_too_many = len(self._times) == MOST_DEATHS
        before = len(self._times) - 1
        self.due_at = now + (FIRST_PAUSE_SECONDS * 2 ** (before - 1) if before else 0.0)


def _tell(model: ServedModel, prospect: str) -> None:
    place = {} if model.engine.failure is None else fault_fields(model.engine.failure)
    _LOG.error("engine died", extra={"model": model.name, "prospect": prospect, **place})
