"""`tercet bench scaling` and `compare-precision`."""

from __future__ import annotations

from typing import Annotated

import typer

from tercet.cli import options
from tercet.cli.bench import settings
from tercet.cli.bench.speed import Compare


def scaling(
    shapes: Annotated[
        str, typer.Option("--shapes", help="Shapes of models; what does not fit is told.")
    ] = "125m,700m,2b4t,3b,llama3-8b,100b",
    threads: Annotated[
        str | None,
        typer.Option("--threads", help="Numbers of threads (default: 1, 2, 4, ... all).", show_default=False),
    ] = None,
    isa: options.Isa = None,
    packing: settings.Packing = None,
    head: settings.Head = "f16",
    head_mode: settings.HeadMode = "full",
    weights_memory: settings.WeightsMemory = "auto",
    context: Annotated[int, typer.Option(help="Tokens before the first that is timed.")] = 64,
    tokens: Annotated[int, typer.Option(help="Tokens in each timed run.")] = 16,
    runs: settings.Runs = 5,
    keep: settings.Keep = False,
    json: options.Json = False,
    markdown: settings.Markdown = False,
    plot: settings.Plot = None,
) -> None:
    """Time generation with models from small to large, and from one thread to all."""
    from tercet.bench.running import ModelChoice
    from tercet.bench.scaling import bench_scaling

    choice = ModelChoice(
        packing=packing, head=head, isa=isa, weights_memory=weights_memory, head_mode=head_mode, keep=keep
    )
    counts = settings.numbers(threads, "--threads") if threads else []
    with settings.session("Scaling", runs) as session:
        report = bench_scaling(session, choice, settings.names(shapes), counts, context, tokens)
    settings.write(report, json, markdown, plot)


def compare_precision(
    shape: settings.Shape = "2b4t",
    threads: options.Threads = None,
    isa: options.Isa = None,
    packing: settings.Packing = None,
    head: settings.Head = "f16",
    head_mode: settings.HeadMode = "full",
    weights_memory: settings.WeightsMemory = "auto",
    dense: Annotated[str, typer.Option(help="Float types to compare with.")] = "bf16",
    transformers: Annotated[
        bool, typer.Option("--transformers/--no-transformers", help="Measure transformers, if installed.")
    ] = True,
    compare: Compare = None,
    tokens: Annotated[int, typer.Option(help="Tokens in each timed run.")] = 16,
    runs: settings.Runs = 5,
    keep: settings.Keep = False,
    json: options.Json = False,
    markdown: settings.Markdown = False,
    plot: settings.Plot = None,
) -> None:
    """Time the same shape with ternary weights and with floats: memory, time and energy of a token."""
    from tercet.bench.peers import Peer
    from tercet.bench.precision import bench_precision
    from tercet.bench.running import ModelChoice

    choice = ModelChoice(
        shape, packing, head, threads, isa, weights_memory=weights_memory, head_mode=head_mode, keep=keep
    )
    peers = [Peer.parse(one) for one in compare or []]
    with settings.session("Precisions", runs) as session:
        report = bench_precision(session, choice, settings.names(dense), peers, transformers, tokens)
    settings.write(report, json, markdown, plot)
