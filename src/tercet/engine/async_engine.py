"""The engine for programs with an event loop: one thread steps, and this is the only place where they meet.

    engine = AsyncEngine(llm_engine)
    await engine.start()
    async for event in engine.submit(request):
        print(event.text, end="")
    await engine.stop(drain_seconds=10)

The thread steps while there is work, and sleeps otherwise. What a step gave goes to the loops of the readers
in one call for each loop. Nobody waits for a reader: one that leaves too many events unread loses its
request, not the others their pace. And nobody waits without end: who comes when too many wait is told at
once, with an estimate of when to come back that follows from the speed that was measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import defaultdict
from dataclasses import replace

from tercet.engine.engine import Engine
from tercet.engine.request import Request
from tercet.engine.request_stream import RequestStream, TokenEvent
from tercet.engine.stats import EngineStats
from tercet.engine.step_times import StepAccount, StepTimes
from tercet.errors import DeadlineError, OverloadedError, UnavailableError

__all__ = ["AsyncEngine", "EngineStats", "RequestStream", "TokenEvent"]

IDLE_TICK_SECONDS = 1.0
"""How often a thread without work shows that it lives."""
SHORTEST_RETRY_SECONDS, LONGEST_RETRY_SECONDS = 1.0, 60.0
MEASURE_SECONDS = 0.1
"""How often the speed is measured."""
SPEED_MEMORY = 0.9
"""How much of the speed is what it was before."""
STOP_SECONDS = 5.0
"""How long the thread may take to end after its last step was asked for."""

Delivery = tuple[RequestStream, "TokenEvent | None", bool]


class AsyncEngine:
    """Steps an engine in a thread of its own, for any number of event loops.

    Args:
        engine: what computes. Others may use it too, from other threads: their steps carry these requests on.
        max_queued_requests: most requests that wait to run.
        max_queued_tokens: most tokens of prompts that wait; a prompt that is longer may wait alone.
        max_buffered_events: most events that a reader may leave unread.

    `failure` is what ended the thread against its will, None as long as nothing did; `num_restarts` is how
    often another one took its place.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        max_queued_requests: int = 256,
        max_queued_tokens: int = 131_072,
        max_buffered_events: int = 1024,
    ) -> None:
        self.engine = engine
        self.max_queued_requests = max_queued_requests
        self.max_queued_tokens = max_queued_tokens
        self.max_buffered_events = max_buffered_events
        self._streams: dict[Request, RequestStream] = {}
        self._lock = threading.Lock()  # guards _streams; never held during a step
        self._work = threading.Event()
        self._thread: threading.Thread | None = None
        self._stops = threading.Event()  # of this thread alone: one that hangs does not come back beside it
        self._admits = False
        self.failure: BaseException | None = None
        self._times = StepTimes()
        self._ticked_at = engine.clock()
        self._measure_due = 0.0
        self._totals = self._recent = (0.0, 0.0)  # tokens and seconds: of all steps, and of the latest ones
        self._num_rejected = 0
        self.num_restarts = 0

    # Life -------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start the thread, unless it runs already."""
        if self._thread is None:
            self._admits = True
            self._begin()

    async def restart(self) -> None:
        """Put a new thread in the place of one that has died; does nothing where none has.

        Every request of the dead one ends with an error, and all that was cached is forgotten.
        """
        dead, cause = self._thread, self.failure
        if dead is None or cause is None:
            return
        error = _has_stopped(cause)
        await asyncio.to_thread(dead.join, STOP_SECONDS)
        await asyncio.to_thread(self.engine.begin_anew, error)
        if self._thread is dead and self._admits:  # else somebody has stopped it meanwhile
            self.num_restarts += 1
            self._begin()

    def _begin(self) -> None:
        self._stops, self.failure = threading.Event(), None
        self._ticked_at = self.engine.clock()
        self._thread = threading.Thread(
            target=self._run, args=(self._stops,), name="tercet-engine", daemon=True
        )
        self._thread.start()

    async def stop(self, drain_seconds: float = 0.0) -> None:
        """Take no more requests, let the others finish for a while, then end them and the thread."""
        self._admits = False
        end = self.engine.clock() + drain_seconds
        while self._streams and self.is_alive and self.engine.clock() < end:
            await asyncio.sleep(0.01)
        error = UnavailableError("the engine stops; send the request again")
        for request in self._requests():
            self._end(request, error)
        self._stops.set()
        self._work.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            await asyncio.to_thread(thread.join, STOP_SECONDS)
            with self._lock:
                unended = list(self._streams.values())
            for stream in unended:  # a step hangs: whoever reads need not
                stream.loop.call_soon_threadsafe(stream.fail, error)

    @property
    def is_alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread is not None and self._thread.is_alive() and self.failure is None

    @property
    def tick_age_seconds(self) -> float:
        """How long ago the thread last showed that it lives: before a step, or every second without work."""
        return self.engine.clock() - self._ticked_at

    # Requests ---------------------------------------------------------------------------------------

    def submit(self, request: Request) -> RequestStream:
        """Queue a request, from the loop that reads it; its tokens come out of the stream. Never waits.

        Raises:
            UnavailableError: the engine has not started, is stopping or has failed.
            OverloadedError: too many requests, or tokens, wait already.
            ContextLengthError: even an idle engine could not hold the request.
        """
        if not self.is_alive or not self._admits:
            raise UnavailableError("the engine does not run, so it takes no requests")
        self._check_queue(request)
        stream = RequestStream(request)
        with self._lock:
            self._streams[request] = stream
        try:
            self.engine.submit(request)
        except BaseException:
            with self._lock:
                del self._streams[request]
            raise
        self._work.set()
        return stream

    def cancel(self, request: Request) -> None:
        """End a request at the next step, from any thread; its stream ends then, and it keeps what it has."""
        self.engine.cancel_soon(request)
        self._work.set()

    def _check_queue(self, request: Request) -> None:
        waiting = self._waiting()
        tokens = sum(one.num_pending for one in waiting)
        # Those that the next step lets run wait for nobody: a burst into an idle engine is no queue.
        num_queued = len(waiting) - max(self.engine.limits.max_sequences - self.num_running, 0)
        if num_queued >= self.max_queued_requests:
            found = f"{num_queued} requests wait, of at most {self.max_queued_requests}"
        elif waiting and tokens + request.num_pending > self.max_queued_tokens:
            found = (
                f"{tokens} tokens of prompts wait, and these {request.num_pending} would be more "
                f"than {self.max_queued_tokens}"
            )
        else:
            return
        self._num_rejected += 1
        seconds = self._retry_after(waiting)
        raise OverloadedError(f"{found}; try again in {seconds:.0f} seconds", retry_after_seconds=seconds)

    def _retry_after(self, waiting: list[Request]) -> float:
        """Seconds until about half of the queue is worked off, at the speed of late, with usual answers."""
        recent_tokens, recent_seconds = self._recent
        if not recent_tokens:
            return SHORTEST_RETRY_SECONDS
        stats = self.engine.stats()
        usual = stats.generated_tokens / stats.finished if stats.finished else recent_tokens
        tokens = sum(one.num_pending + min(one.max_new_tokens, usual) for one in waiting)
        seconds = tokens / 2 * recent_seconds / recent_tokens
        return min(max(seconds, SHORTEST_RETRY_SECONDS), LONGEST_RETRY_SECONDS)

    # What there is ----------------------------------------------------------------------------------

    @property
    def num_running(self) -> int:
        """Requests that share the steps."""
        return sum(one.is_running for one in self._requests())

    @property
    def num_waiting(self) -> int:
        """Requests that wait to run."""
        return len(self._waiting())

    def adapter_names(self, *, running: bool) -> list[str]:
        """The adapters of the requests that share the steps, or of those that wait to; each once."""
        requests = [one for one in self._requests() if one.is_running] if running else self._waiting()
        return sorted({chosen.loaded.name for one in requests for chosen in one.adapters})

    @property
    def num_queued_tokens(self) -> int:
        """Tokens that waiting requests need computed before their next one can be drawn."""
        return sum(one.num_pending for one in self._waiting())

    def stats(self) -> EngineStats:
        """What has been done so far, by everybody who uses the engine; rejected requests count as started."""
        stats = self.engine.stats()
        return replace(stats, started=stats.started + self._num_rejected, rejected=self._num_rejected)

    def account(self) -> StepAccount:
        """Where the time of all steps went, and of handing over what they gave; waits for the end of one."""
        account = self.engine.account()
        return replace(account, seconds={**account.seconds, "delivering": self._times.seconds["delivering"]})

    def _requests(self) -> list[Request]:
        with self._lock:
            return list(self._streams)

    def _waiting(self) -> list[Request]:
        return [one for one in self._requests() if not one.is_running and not one.finished]

    # The thread -------------------------------------------------------------------------------------

    def _run(self, stops: threading.Event) -> None:
        try:
            while not stops.is_set() or (self._streams and stops is self._stops):
                self._work.clear()
                self._ticked_at = self.engine.clock()
                if self.engine.step():
                    self._times.begin()
                    self._measure()
                    self._deliver()
                    self._times.add("delivering")
                elif self._streams:
                    self._deliver()  # somebody else's step ended them
                else:
                    self._work.wait(IDLE_TICK_SECONDS)
        except BaseException as error:  # a bug of the engine: whoever waits must hear of it
            self.failure = error
            self._fail_all(_has_stopped(error))

    def _fail_all(self, error: BaseException) -> None:
        """End all streams, those with what they have; a stream whose request is what broke ends without."""
        for request in self._requests():
            request.error = request.error or error
        try:
            self._deliver()
        except Exception:
            with self._lock:
                unended = list(self._streams.values())
                self._streams.clear()
            for stream in unended:
                with contextlib.suppress(RuntimeError):  # its loop has been closed
                    stream.loop.call_soon_threadsafe(stream.fail, error)

    def _measure(self) -> None:
        """Follow the speed of steps: earlier ones count less and less."""
        if self._ticked_at < self._measure_due:
            return
        self._measure_due = self._ticked_at + MEASURE_SECONDS
        stats = self.engine.stats()
        totals = stats.prompt_tokens + stats.generated_tokens, stats.busy_seconds
        recent = [
            SPEED_MEMORY * old + total - before
            for old, total, before in zip(self._recent, totals, self._totals, strict=True)
        ]
        self._totals, self._recent = totals, (recent[0], recent[1])

    def _deliver(self) -> None:
        """Hand over what is new, in one call for each loop; end the requests that nobody reads."""
        now = self.engine.clock()
        deliveries: dict[asyncio.AbstractEventLoop, list[Delivery]] = defaultdict(list)
        with self._lock:
            streams = list(self._streams.values())
        for stream in streams:
            event, ended = stream.collect(now)
            if event is not None or ended:
                deliveries[stream.loop].append((stream, event, ended))
            if ended:
                with self._lock:
                    del self._streams[stream.request]
            elif stream.num_unread >= self.max_buffered_events:
                self._end(
                    stream.request,
                    DeadlineError(
                        f"the reader left {stream.num_unread} events of this request unread, so it ended; "
                        "read faster, or ask for the whole answer at once"
                    ),
                )
        for loop, batch in deliveries.items():
            try:
                loop.call_soon_threadsafe(_hand_over, batch)
            except RuntimeError:  # the loop has been closed, and with it everybody who could read this
                for stream, _, _ in batch:
                    self.cancel(stream.request)

    def _end(self, request: Request, error: BaseException) -> None:
        request.cancel_error = error
        self.cancel(request)


def _has_stopped(cause: BaseException) -> UnavailableError:
    error = UnavailableError("the engine has stopped, which it must not; its log says why. Try again soon.")
    error.__cause__ = cause
    return error


def _hand_over(batch: list[Delivery]) -> None:
    for stream, event, ended in batch:
        stream.deliver(event, ended)
