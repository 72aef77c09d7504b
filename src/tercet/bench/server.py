"""What HTTP costs, and what many clients gain: `tercet bench server`.

`tercet serve` runs as a process of its own and is asked by clients over TCP, as people ask it. The same
requests go to an engine in this process, in alternation, so that a machine whose speed drifts is as slow for
both; whoever is not asked sleeps. From that

    the cost of HTTP       1 - tokens a second over HTTP / tokens a second of the engine, run by run
    the gain of sharing    tokens a second of many streams / those of one stream
    the prefix cache       seconds to the first text of a prompt whose beginning was read before / of one
                           that is new
    the event loop         the slowest answer to `/livez` while the engine computed (in the warm-up), as a
                           client saw it, which is longer than any block of the loop; and how late the loop
                           woke, as it told itself

The clients share the machine with the server: their work counts as a cost of HTTP.
"""

from __future__ import annotations

import contextlib
import http.client
import threading
import time
from collections.abc import Iterator
from collections.abc import Sequence as Numbers
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from tercet.bench.http_stream import StreamedAnswer, stream_all, stream_completion
from tercet.bench.report import Axes, Column, Report
from tercet.bench.running import ModelChoice, check_context, check_counts, model_path
from tercet.bench.server_process import ServerProcess, serving
from tercet.bench.session import Session
from tercet.bench.spread import Spread
from tercet.engine.processors import available_cores
from tercet.errors import TercetError
from tercet.llm import LLM
from tercet.models.profiles import engine_settings
from tercet.sampling.params import SamplingParams

__all__ = ["SERVER_COLUMNS", "bench_server"]

SERVER_COLUMNS = (
    Column("streams", "streams", "d"),
    Column("runs", "tokens/s over HTTP, median [spread]", ".1f"),
    Column("engine_runs", "tokens/s of the engine alone", ".1f"),
    Column("http_cost", "cost of HTTP", ".1%"),
    Column("speed_up", "× one stream", ".2f"),
    Column("seconds_to_first_token", "s to the first text", ".3f"),
    Column("threads", "threads", "d"),
)
SUFFIX_TOKENS = 16
"""What follows the prefix that two prompts share."""
FIRST_TEXT_TOKENS = 2
PROBE_SECONDS = 0.01
LOOP_GOAL_SECONDS = 0.05
LAG = "tercet_event_loop_lag_seconds"

Prompts = list[list[int]]


def bench_server(
    session: Session,
    choice: ModelChoice,
    streams: Numbers[int] = (1, 8),
    prompt: int = 64,
    tokens: int = 64,
    prefix: int = 1000,
) -> Report:
    """Serve a model, and measure it as its clients see it.

    Args:
        session: how often to repeat, and whom to tell.
        choice: the model; the server decides everything but its threads by itself.
        streams: how many answers are read at once.
        prompt: tokens of each prompt.
        tokens: greedy tokens of each answer.
        prefix: tokens of the beginning that two prompts share.

    Raises:
        ParameterError: the shape is unknown, or a count is out of range.
        TercetError: the server did not start, or answered with an error.
    """
    config = choice.config
    check_counts(prompt=prompt, tokens=tokens, prefix=prefix, streams=min(streams))
    check_context(config, choice.name, prompt + tokens, f"prompt {prompt} and {tokens} tokens")
    longest = prefix + SUFFIX_TOKENS + FIRST_TEXT_TOKENS
    check_context(config, choice.name, longest, f"prefix {prefix} and what follows it")
    with contextlib.ExitStack() as stack:
        cached = max(streams) * (prompt + tokens)
        path = stack.enter_context(model_path(session, choice, cached, with_tokenizer=True))
        session.progress("starting the server")
        threads = engine_settings(available_cores(), threads=choice.threads).threads
        most = str(max(streams))
        server = stack.enter_context(
            serving(path, "--threads", str(threads), "--max-concurrent", most, "--request-timeout", "3600")
        )
        llm = stack.enter_context(LLM(path, threads=threads))
        bench = _Bench(session, server, llm, prompt, tokens)
        rows = [bench.row(count) for count in streams]
        for row in rows:
            row["speed_up"] = row["tokens_per_second"] / rows[0]["tokens_per_second"]
            row["shape"] = choice.name
        figures = {**bench.prefix_cache(prefix), **bench.event_loop()}
    return Report.of(
        session,
        "server",
        f"Serving over HTTP, {choice.title}, {prompt} + {tokens} tokens each",
        SERVER_COLUMNS,
        rows,
        Axes("streams", "runs", "streams at once", "tokens a second in all", logarithmic=True),
        _notes(figures),
        figures,
    )


class _Bench:
    """One server, and an engine beside it with the same settings."""

    def __init__(self, session: Session, server: ServerProcess, llm: LLM, prompt: int, tokens: int) -> None:
        self._session = session
        self._server = server
        self._llm = llm
        self._prompt_tokens = prompt
        self._tokens = tokens
        self._random = np.random.default_rng(0)
        self._slowest_probe = 0.0
        self._num_probes = 0

    def row(self, count: int) -> dict[str, Any]:
        """So many streams at once, over HTTP and in the engine, in turn; what is read is never the same."""
        http, engine, first = [], [], []
        for run in range(self._session.runs + 1):
            what = f"run {run} of {self._session.runs}" if run else "warm-up"
            prompts = self._prompts(count, self._prompt_tokens)
            self._session.progress(f"{count} streams: {what}, the engine alone")
            alone = self._engine_rate(prompts)
            self._session.progress(f"{count} streams: {what}, over HTTP")
            with contextlib.nullcontext() if run else self._probing():  # probes would count as a cost
                answers = stream_all(self._server.base_url, prompts, self._tokens)
            if run:
                engine.append(alone)
                http.append(self._http_rate(answers))
                first += [answer.seconds_to_first for answer in answers]
        costs = [1 - ours / alone for ours, alone in zip(http, engine, strict=True)]
        return {
            "streams": count,
            "tokens_per_second": Spread.of(http).median,
            "runs": Spread.of(http),
            "engine_runs": Spread.of(engine),
            "http_cost": Spread.of(costs),
            "seconds_to_first_token": Spread.of(first),
            "prompt_tokens": self._prompt_tokens,
            "tokens_each": self._tokens,
            "threads": self._llm.threads,
            "isa": self._llm.isa,
        }

    def prefix_cache(self, prefix: int) -> dict[str, Any]:
        """Time to the first text of prompts with a new beginning, and of others with the same."""
        new: list[float] = []
        known: list[float] = []
        found: list[int] = []
        for run in range(self._session.runs):
            self._session.progress(f"the prefix cache: run {run + 1} of {self._session.runs}")
            (beginning,) = self._prompts(1, prefix)
            for times in (new, known):
                (rest,) = self._prompts(1, SUFFIX_TOKENS)
                answer = stream_completion(self._server.base_url, [*beginning, *rest], FIRST_TEXT_TOKENS)
                times.append(answer.seconds_to_first)
            found.append(answer.cached_tokens)
        ratios = [one / other for one, other in zip(known, new, strict=True)]
        return {
            "prefix_tokens": prefix,
            "cached_tokens": min(found),
            "seconds_to_first_token_uncached": Spread.of(new),
            "seconds_to_first_token_cached": Spread.of(known),
            "cached_share": Spread.of(ratios),
        }

    def event_loop(self) -> dict[str, Any]:
        """What blocked the loop: as a client saw it, and as the loop told itself."""
        samples = self._server.metrics()
        bounds = {
            float(name.partition('le="')[2].partition('"')[0]): count
            for name, count in samples.items()
            if name.startswith(f"{LAG}_bucket")
        }
        total = samples.get(f"{LAG}_count", 0.0)
        below = [bound for bound, count in bounds.items() if count == total]
        return {
            "slowest_livez_seconds": self._slowest_probe,
            "livez_probes": self._num_probes,
            "loop_wakes": int(total),
            "loop_wakes_late": int(total - bounds.get(LOOP_GOAL_SECONDS, total)),
            "loop_lag_at_most_seconds": min(below) if total and below else None,
        }

    def _prompts(self, count: int, length: int) -> Prompts:
        return [
            self._random.integers(self._llm.config.vocab_size, size=length).tolist() for _ in range(count)
        ]

    def _engine_rate(self, prompts: Prompts) -> float:
        params = SamplingParams(temperature=0, max_tokens=self._tokens, ignore_eos=True)
        requests = [self._llm.request(prompt, params) for prompt in prompts]
        started = time.perf_counter()
        self._llm.engine.complete(requests)
        return len(prompts) * self._tokens / (time.perf_counter() - started)

    def _http_rate(self, answers: Numbers[StreamedAnswer]) -> float:
        if any(answer.num_tokens != self._tokens for answer in answers):
            raise TercetError(
                f"the server gave {[answer.num_tokens for answer in answers]} tokens, not {self._tokens} each"
            )
        seconds = max(one.last_at for one in answers) - min(one.sent_at for one in answers)
        return len(answers) * self._tokens / seconds

    @contextlib.contextmanager
    def _probing(self) -> Iterator[None]:
        """Ask `/livez` again and again, and remember the slowest answer."""
        stop = threading.Event()

        def probe() -> None:
            address = urlsplit(self._server.base_url)
            connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=60)
            with contextlib.closing(connection):
                while not stop.wait(PROBE_SECONDS):
                    began = time.perf_counter()
                    connection.request("GET", "/livez")
                    connection.getresponse().read()
                    self._slowest_probe = max(self._slowest_probe, time.perf_counter() - began)
                    self._num_probes += 1

        thread = threading.Thread(target=probe)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


def _notes(figures: dict[str, Any]) -> list[str]:
    share, new, known = (
        figures[name].median
        for name in ("cached_share", "seconds_to_first_token_uncached", "seconds_to_first_token_cached")
    )
    notes = [
        "the cost of HTTP is that of each run, over HTTP and the engine alone, one after the other; the "
        "clients run on the same machine",
        f"first text after a prefix of {figures['prefix_tokens']} tokens: {new:.3f} s, and {known:.3f} s "
        f"({share:.1%}) when {figures['cached_tokens']} of its tokens are in the cache",
        f"event loop: the slowest of {figures['livez_probes']} answers to /livez came after "
        f"{1e3 * figures['slowest_livez_seconds']:.1f} ms",
    ]
    if figures["loop_lag_at_most_seconds"] is not None:
        notes.append(
            f"of {figures['loop_wakes']} times it woke {figures['loop_wakes_late']} were more than "
            f"{1e3 * LOOP_GOAL_SECONDS:.0f} ms late, none more than "
            f"{1e3 * figures['loop_lag_at_most_seconds']:.0f} ms"
        )
    return notes
