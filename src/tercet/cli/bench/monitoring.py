"""`tercet bench monitor`."""

from __future__ import annotations

from typing import Annotated

import typer

from tercet.cli import options
from tercet.cli.bench import settings


def monitor(
    model: settings.Model = None,
    shape: settings.Shape = "2b4t",
    threads: options.Threads = None,
    packing: settings.Packing = None,
    head: settings.Head = "f16",
    streams: Annotated[int, typer.Option(help="How many answers are made at once.")] = 1,
    tokens: Annotated[int, typer.Option(help="Tokens of each answer.")] = 256,
    interval: Annotated[float, typer.Option(help="Seconds between two samples.")] = 5.0,
    runs: settings.Runs = 5,
    keep: settings.Keep = False,
    json: options.Json = False,
    markdown: settings.Markdown = False,
    plot: settings.Plot = None,
) -> None:
    """Time generation with and without being watched: metrics, history and alerts on and off in one run."""
    from tercet.bench.monitoring import bench_monitoring
    from tercet.bench.running import ModelChoice
    from tercet.environment import optional_import

    optional_import("prometheus_client", "server")
    choice = ModelChoice(shape, packing, head, threads, keep=keep, model=model)
    with settings.session(f"Watching {choice.name}", runs) as session:
        report = bench_monitoring(session, choice, streams, tokens, interval)
    settings.write(report, json, markdown, plot)
