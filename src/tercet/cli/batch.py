"""`tercet batch REQUESTS -o RESULTS`: many requests from a file, resumable after a kill."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tercet.cli import console, options

if TYPE_CHECKING:
    from tercet.service.batch.inventory import Inventory
    from tercet.service.batch.lines import BatchLine, Outcome
    from tercet.service.batch.results import ResultFile
    from tercet.service.batch.run import Answer, BatchCounts
    from tercet.service.settings import ServiceSettings

SOME_FAILED = 3
MAX_PROBLEMS_TOLD = 20

app = typer.Typer(add_completion=False, rich_markup_mode="markdown")


@app.command()
def batch(
    requests: Annotated[Path, typer.Argument(help="The requests, a JSON object a line.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The file for the results.")],
    max_tokens: options.MaxTokens = None,
    temperature: options.Temperature = None,
    top_p: options.TopP = None,
    top_k: options.TopK = None,
    min_p: options.MinP = None,
    repetition_penalty: options.RepetitionPenalty = None,
    seed: options.Seed = None,
    stop: options.Stop = None,
    model: options.Model = None,
    threads: options.Threads = None,
    isa: options.Isa = None,
    level: options.Level = None,
    scenario: options.Scenario = None,
    concurrency: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Requests in flight (default: twice what the engine runs at once).",
            show_default=False,
        ),
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Run those again that failed in an earlier run.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Begin anew, whatever the output holds.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Answer the requests of a file, as many at once as the engine takes.

    A line is `{"prompt": ...}` or `{"messages": ...}`, with `id`, `metadata` and sampling if wanted (the
    options here hold where a line says nothing), or a request of OpenAI's batch API. A result is on the disk
    when it is counted; after a kill, the same command goes on where it was. Exit status 3: some requests
    failed.
    """
    import asyncio
    import time

    from tercet.sampling.params import SamplingParams
    from tercet.service.batch.inventory import Inventory
    from tercet.service.batch.results import ResultFile

    defaults = options.given(
        max_tokens=max_tokens,
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        seed=seed,
        stop=stop,
    )
    SamplingParams(**defaults)  # what is wrong with them is said once, not for every line
    with console.progress("Reading the requests"):
        inventory = Inventory(requests)
    with ResultFile(output, inventory, overwrite=overwrite, retry_failed=retry_failed) as results:
        machine = options.given(threads=threads, isa=isa, level=level, scenario=scenario)
        began = time.perf_counter()
        told = _Problems(requests)
        if results.num_succeeded + results.num_failed < inventory.total:
            counts = asyncio.run(
                _answer(inventory, results, _settings(model, machine), defaults, concurrency, told)
            )
        else:
            counts = _nothing_to_do(inventory, results)
    _tell(counts, time.perf_counter() - began, output, json)
    if counts.failed:
        raise typer.Exit(SOME_FAILED)


def _settings(model: str | None, machine: dict[str, Any]) -> ServiceSettings:
    from tercet.service.settings import ServiceSettings

    return ServiceSettings(
        models={"": model},
        llm=machine,
        max_concurrent=None,
        max_queued_requests=1 << 20,
        max_queued_tokens=1 << 40,
        timeout_seconds=None,
        warm_up=False,
        drain_seconds=1e-3,
    )


async def _answer(
    inventory: Inventory,
    results: ResultFile,
    settings: ServiceSettings,
    defaults: dict[str, Any],
    concurrency: int | None,
    problem: Callable[[int, str], None],
) -> BatchCounts:
    from tercet.service.batch.run import run_batch

    async with _open(settings, defaults, inventory.has_openai_form) as (answer, max_concurrent):
        with _progress_bar() as show:
            return await run_batch(
                inventory,
                results,
                answer,
                concurrency=concurrency or 2 * max_concurrent,
                progress=show,
                problem=problem,
            )


@asynccontextmanager
async def _open(
    settings: ServiceSettings, defaults: dict[str, Any], as_server: bool
) -> AsyncIterator[tuple[Answer, int]]:
    """Load the model; who answers, and how many at once. OpenAI's requests need the server's routes."""
    from tercet.service.batch.generation import ModelAnswer

    if not as_server:
        from tercet.service.served_model import ServedModel

        with console.progress("Loading the model"):
            ((name, path),) = settings.models.items()
            model = await ServedModel.open(name, path, settings)
        try:
            yield ModelAnswer(model.submit, defaults), model.max_concurrent
        finally:
            await model.close(0)
        return

    from tercet.environment import optional_import

    for module in ("fastapi", "structlog", "prometheus_client"):
        optional_import(module, "server")
    from tercet.server.batches.inner import AppAnswer
    from tercet.server.batches.opening import inner_app
    from tercet.server.settings import ServerSettings
    from tercet.service.service import Service

    service = Service(settings)
    with console.progress("Loading the model"):
        await service.start()
    try:
        served = service.pool.get(None)
        plain = ModelAnswer(service.submit, defaults)
        openai = AppAnswer(inner_app(service, ServerSettings()), model=served.name)

        async def answer(line: BatchLine) -> Outcome:
            return await (plain if line.url is None else openai)(line)

        yield answer, served.max_concurrent
    finally:
        await service.stop(0)


def _nothing_to_do(inventory: Inventory, results: Any) -> BatchCounts:
    from tercet.service.batch.run import BatchCounts

    done = results.num_succeeded + results.num_failed
    return BatchCounts(inventory.total, results.num_succeeded, results.num_failed, done)


class _Problems:
    """Tells which lines are no requests, the first few of them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._count = 0

    def __call__(self, number: int, message: str) -> None:
        self._count += 1
        if self._count <= MAX_PROBLEMS_TOLD:
            console.told().print(f"{self._path}:{number}: {message}", markup=False)
        elif self._count == MAX_PROBLEMS_TOLD + 1:
            console.told().print("further lines are recorded as failed and not told here")


@contextmanager
def _progress_bar() -> Iterator[Callable[[BatchCounts], None]]:
    """A bar on a terminal, nothing in a log."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    terminal = console.told()
    columns = (
        TextColumn("Requests"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=terminal, disable=not terminal.is_terminal) as progress:
        task = progress.add_task("", total=None, rate="")

        def show(counts: BatchCounts) -> None:
            seconds = progress.tasks[0].elapsed or 0.0
            rate = f"{counts.generated_tokens / seconds:.0f} tokens/s" if seconds > 1 else ""
            failed = f", {counts.failed} failed" if counts.failed else ""
            progress.update(task, total=counts.total, completed=counts.done, rate=rate + failed)

        yield show


def _tell(counts: BatchCounts, seconds: float, output: Path, json: bool) -> None:
    if json:
        console.write_json(
            {
                "total": counts.total,
                "succeeded": counts.succeeded,
                "failed": counts.failed,
                "resumed": counts.resumed,
                "generated_tokens": counts.generated_tokens,
                "seconds": seconds,
                "output": str(output),
            }
        )
        return
    line = f"{counts.succeeded} of {counts.total} requests answered, {counts.failed} failed"
    if counts.resumed:
        line += f", {counts.resumed} of them by an earlier run"
    rate = counts.generated_tokens / seconds if seconds else 0.0
    line += f" · {seconds:.1f} s, {rate:.0f} tokens/s"
    console.told().print(line, markup=False)
