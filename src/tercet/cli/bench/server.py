"""`tercet bench server`."""

from __future__ import annotations

from typing import Annotated

import typer

from tercet.cli import options
from tercet.cli.bench import settings


def server(
    model: settings.Model = None,
    shape: settings.Shape = "2b4t",
    threads: options.Threads = None,
    packing: settings.Packing = None,
    head: settings.Head = "f16",
    streams: Annotated[str, typer.Option(help="How many answers are read at once.")] = "1,8",
    prompt: Annotated[int, typer.Option(help="Tokens of each prompt.")] = 64,
    tokens: Annotated[int, typer.Option(help="Tokens of each answer.")] = 64,
    prefix: Annotated[int, typer.Option(help="Tokens of a beginning that two prompts share.")] = 1000,
    runs: settings.Runs = 5,
    keep: settings.Keep = False,
    json: options.Json = False,
    markdown: settings.Markdown = False,
    plot: settings.Plot = None,
) -> None:
    """Time a server over HTTP beside its engine alone: streams at once, cached prompts, the event loop."""
    from tercet.bench.running import ModelChoice
    from tercet.bench.server import bench_server
    from tercet.environment import optional_import

    optional_import("fastapi", "server")
    choice = ModelChoice(shape, packing, head, threads, keep=keep, model=model)
    counts = settings.numbers(streams, "--streams")
    with settings.session(f"Serving {choice.name}", runs) as session:
        report = bench_server(session, choice, counts, prompt, tokens, prefix)
    settings.write(report, json, markdown, plot)
