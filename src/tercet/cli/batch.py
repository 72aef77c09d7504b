"""`tercet batch REQUESTS -o RESULTS`: many requests from a file, resumable after a kill."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tercet.cli import console, options

if TYPE_CHECKING:
    from tercet.service.batch.inventory import Inventory
    from tercet.service.batch.parquet import ParquetResults
    from tercet.service.batch.results import ResultFile
    from tercet.service.batch.run import BatchCounts
    from tercet.service.settings import ServiceSettings

SOME_FAILED = 3
MAX_PROBLEMS_TOLD = 20

app = typer.Typer(add_completion=False, rich_markup_mode="markdown")


@app.command()
def batch(
    requests: Annotated[
        Path, typer.Argument(help="The requests: a JSON object a line, or a row of a .parquet file each.")
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="The file for the results; a name that ends in .parquet is a folder."
        ),
    ],
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
            help="Requests in flight, with Ray in each worker (default: twice what the engine runs at once, "
            "with Ray 32).",
            show_default=False,
        ),
    ] = None,
    engine: Annotated[
        Literal["native", "ray"],
        typer.Option(
            "--engine", help="Who runs the model: this process, or workers on the cluster of RAY_ADDRESS."
        ),
    ] = "native",
    workers: Annotated[
        int,
        typer.Option("--workers", min=1, help="With Ray: processes, each with the model."),
    ] = 1,
    cpus_per_worker: Annotated[
        float,
        typer.Option(
            "--cpus-per-worker",
            min=0.001,
            help="With Ray: what it sets aside for each; --threads is what an engine uses.",
        ),
    ] = 1.0,
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

    from tercet.deployment.batch_answers import batch_settings
    from tercet.sampling.params import SamplingParams
    from tercet.service.batch.inventory import Inventory

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
    with _results(output, inventory, overwrite=overwrite, retry_failed=retry_failed) as results:
        settings = batch_settings(
            model, options.given(threads=threads, isa=isa, level=level, scenario=scenario)
        )
        began = time.perf_counter()
        told = _Problems(requests)
        if results.num_succeeded + results.num_failed == inventory.total:
            counts = _nothing_to_do(inventory, results)
        elif engine == "ray":
            from tercet.deployment.ray_batch import run_on_ray

            with _progress_bar() as show:
                counts = run_on_ray(
                    inventory,
                    results,
                    settings,
                    defaults,
                    workers=workers,
                    cpus_per_worker=cpus_per_worker,
                    concurrency=concurrency or 32,
                    progress=show,
                    problem=told,
                )
        else:
            counts = asyncio.run(_answer(inventory, results, settings, defaults, concurrency, told))
    _tell(counts, time.perf_counter() - began, output, json)
    if counts.failed:
        raise typer.Exit(SOME_FAILED)


def _results(output: Path, inventory: Inventory, **how: bool) -> ResultFile | ParquetResults:
    """Open the results in the form that their name says."""
    from tercet.service.batch.inventory import is_parquet
    from tercet.service.batch.parquet import ParquetResults
    from tercet.service.batch.results import ResultFile

    return (ParquetResults if is_parquet(output) else ResultFile)(output, inventory, **how)


async def _answer(
    inventory: Inventory,
    results: ResultFile | ParquetResults,
    settings: ServiceSettings,
    defaults: dict[str, Any],
    concurrency: int | None,
    problem: Callable[[int, str], None],
) -> BatchCounts:
    from tercet.deployment.batch_answers import open_answer
    from tercet.service.batch.run import run_batch

    loading = console.progress("Loading the model")
    as_server = inventory.has_openai_form
    async with open_answer(settings, defaults, as_server, loading) as (answer, max_concurrent):
        with _progress_bar() as show:
            return await run_batch(
                inventory,
                results,
                answer,
                concurrency=concurrency or 2 * max_concurrent,
                progress=show,
                problem=problem,
            )


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
