"""A batch on a Ray cluster: workers with a model each, to which Ray Data deals the requests.

    counts = run_on_ray(inventory, results, settings, {}, workers=4)

Requests are read and results written here, by the program that was started, in the same files as without
Ray: so a batch can be gone on with, on the cluster or without, and only the model must be on all machines.
A worker that is lost is replaced, and its requests run again; the first answer that comes is kept.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import json
import logging
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping
from typing import Any, TypeVar

from tercet.cluster.connection import connected, ray_module
from tercet.deployment.batch_answers import open_answer
from tercet.environment import optional_import
from tercet.errors import ParameterError, UnavailableError
from tercet.models.registry import resolve
from tercet.service.batch.inventory import Inventory
from tercet.service.batch.lines import RawLine, parse_line
from tercet.service.batch.results import Results
from tercet.service.batch.run import Answer, Answered, BatchCounts, checked_line, outcome_of
from tercet.service.settings import ServiceSettings

__all__ = ["run_on_ray"]

T = TypeVar("T")
CALLS = 2
"""Blocks that a worker has at one time, so that it is never without work at the end of one."""
WINDOW_REQUESTS = 20_000
WINDOW_BYTES = 64 << 20
"""What is in Ray's memory at one time; between two such windows the workers load the model again."""


def run_on_ray(
    inventory: Inventory,
    results: Results,
    settings: ServiceSettings,
    defaults: Mapping[str, Any],
    *,
    workers: int,
    cpus_per_worker: float = 1.0,
    concurrency: int = 32,
    progress: Callable[[BatchCounts], None] = lambda counts: None,
    problem: Callable[[int, str], None] = lambda number, message: None,
) -> BatchCounts:
    """Answer the requests of `inventory` that are not done, and append their records to `results`.

    Args:
        inventory: the input.
        results: the output, which has told `inventory` what is done.
        settings: of `batch_settings`.
        defaults: sampling of requests that say nothing of it.
        workers: processes, each with the model.
        cpus_per_worker: processors that Ray sets aside for each.
        concurrency: requests that a worker has at one time.
        progress: called with the counts when records have been appended.
        problem: called with the number of a line that is no request, and why.

    Raises:
        UnavailableError: there is no cluster, it is too small, or the workers failed.
        MissingExtraError: Ray is not installed.
        ModelNotFoundError: there is no such model here.
        StorageError: the output cannot be written.
    """
    if workers < 1 or concurrency < 1:
        raise ParameterError(f"workers and concurrency are at least 1, not {workers} and {concurrency}")
    ((name, model),) = settings.models.items()
    settings = dataclasses.replace(settings, models={name: str(resolve(model).resolve())})
    resumed = results.num_succeeded + results.num_failed
    counts = BatchCounts(inventory.total, results.num_succeeded, results.num_failed, resumed)
    run = _Run(inventory, results, counts, progress, problem)
    progress(counts)
    with connected(num_cpus=max(workers * cpus_per_worker, 1)) as ray:
        cpus = ray.cluster_resources().get("CPU", 0)
        if cpus < workers * cpus_per_worker:
            raise UnavailableError(
                f"{workers} workers of {cpus_per_worker:g} processors were asked for, and the Ray cluster "
                f"has {cpus:g}; ask for fewer, or add machines"
            )
        data = ray_module("ray.data")
        data.DataContext.get_current().enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)  # the program tells how far it has come
        pool = data.ActorPoolStrategy(
            size=workers, max_concurrent_calls_per_actor=CALLS, enable_true_multi_threading=True
        )
        rows = max(concurrency // CALLS, 1)
        while blocks := run.window(rows):
            answered = data.from_arrow(blocks).map_batches(
                _Worker,
                fn_constructor_args=(settings, dict(defaults), inventory.has_openai_form),
                batch_size=None,
                batch_format="pyarrow",
                compute=pool,
                num_cpus=cpus_per_worker,
            )
            run.keep(iter(answered.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)))
    return counts


class _Run:
    """The side of the program: what goes to the workers, and what comes back."""

    def __init__(
        self,
        inventory: Inventory,
        results: Results,
        counts: BatchCounts,
        progress: Callable[[BatchCounts], None],
        problem: Callable[[int, str], None],
    ) -> None:
        self._arrow: Any = optional_import("pyarrow", "ray")
        self._inventory = inventory
        self._results = results
        self._counts = counts
        self._progress = progress
        self._lines = self._requests(problem)

    def window(self, rows: int) -> list[Any]:
        """The next blocks of so many requests each; none at the end of the input."""
        blocks: list[Any] = []
        count = size = 0
        while count < WINDOW_REQUESTS and size < WINDOW_BYTES:
            some = list(itertools.islice(self._lines, rows))
            if not some:
                break
            columns = {name: [getattr(raw, name) for raw in some] for name in ("number", "digest", "data")}
            schema = [("number", "int64"), ("digest", "uint64"), ("data", "binary")]
            blocks.append(self._arrow.table(columns, self._arrow.schema(schema)))
            count, size = count + len(some), size + blocks[-1].nbytes
        return blocks

    def keep(self, answered: Iterator[Any]) -> None:
        """Append the records of blocks as they come."""
        while (block := self._next(answered)) is not None:
            done = []
            for row in block.to_pylist():
                if not self._inventory.is_done(row["number"]):
                    self._inventory.mark_done(row["number"], row["digest"])
                    done.append(Answered(json.loads(row["record"]), row["succeeded"], row["tokens"]))
            self._append(done)

    def _next(self, answered: Iterator[Any]) -> Any:
        try:
            return next(answered, None)
        except Exception as error:  # Ray raises those of the workers in bare ones of its own
            last = str(error).strip().splitlines()[-1]
            raise UnavailableError(f"the workers on Ray failed: {last}. What is done is kept") from error

    def _append(self, done: list[Answered]) -> None:
        self._results.append([one.record for one in done])
        for one in done:
            self._counts.add(one)
        self._progress(dataclasses.replace(self._counts))

    def _requests(self, problem: Callable[[int, str], None]) -> Iterator[RawLine]:
        """The lines that are requests; of the others the record is written here."""
        for raw in self._inventory.remaining():
            line, outcome = checked_line(self._inventory, raw, problem)
            if outcome is None:
                yield raw
            else:
                self._append([Answered.of(line, outcome)])


class _Worker:
    """The side of a worker: a model, and an event loop for it in a thread."""

    def __init__(self, settings: ServiceSettings, defaults: Mapping[str, Any], as_server: bool) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self._opened = open_answer(settings, defaults, as_server)
        self._answer, _ = self._wait(self._opened.__aenter__())

    def __call__(self, block: Any) -> Any:
        """Answer a block; Ray calls this from several threads."""
        rows = [RawLine(**row) for row in block.to_pylist()]
        answered = self._wait(_all(self._answer, rows))
        arrow = optional_import("pyarrow", "ray")
        return arrow.table(
            {
                "number": [raw.number for raw in rows],
                "digest": arrow.array([raw.digest for raw in rows], arrow.uint64()),
                "record": [json.dumps(one.record, ensure_ascii=False) for one in answered],
                "succeeded": [one.succeeded for one in answered],
                "tokens": [one.generated_tokens for one in answered],
            }
        )

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


async def _all(answer: Answer, rows: list[RawLine]) -> list[Answered]:
    async def one(raw: RawLine) -> Answered:
        line = parse_line(raw)
        return Answered.of(line, await outcome_of(answer, line))

    return await asyncio.gather(*map(one, rows))
