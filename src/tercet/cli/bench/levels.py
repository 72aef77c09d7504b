"""`tercet bench levels`."""

from __future__ import annotations

from typing import Annotated

import typer

from tercet.cli import options
from tercet.cli.bench import settings


def levels(
    model: Annotated[
        str | None,
        typer.Argument(
            help="Name or path of a model (default: the one that ships with the package).", show_default=False
        ),
    ] = None,
    shape: Annotated[
        str | None,
        typer.Option(
            help="Measure a model of this shape with random weights instead.",
            show_default=False,
            rich_help_panel=settings.MODEL,
        ),
    ] = None,
    level: Annotated[
        list[str] | None,
        typer.Option(
            "--level",
            help="Measure this level and baseline; may be given several times (default: all).",
            show_default=False,
        ),
    ] = None,
    threads: options.Threads = None,
    tokens: Annotated[int, typer.Option(help="Tokens of each answer.")] = 48,
    requests: Annotated[int, typer.Option(help="Answers in each run.")] = 8,
    together: Annotated[int, typer.Option(help="Requests at once where requests a minute are counted.")] = 4,
    runs: settings.Runs = 3,
    json: options.Json = False,
    markdown: settings.Markdown = False,
    plot: settings.Plot = None,
) -> None:
    """Set the optimization levels side by side: speed, memory, latency, throughput, energy."""
    import tempfile
    from pathlib import Path

    from tercet.bench.levels import bench_levels
    from tercet.bench.model_store import fast_packing, write_random_model
    from tercet.errors import ParameterError
    from tercet.models.profiles import LEVELS
    from tercet.models.registry import DEFAULT_MODEL, resolve
    from tercet.models.shapes import shape as config_of

    if model is not None and shape is not None:
        raise ParameterError(f"give a model or a shape, not both: {model} and --shape {shape}")
    with (
        tempfile.TemporaryDirectory(prefix="tercet-") as folder,
        settings.session("Comparing levels", runs) as session,
    ):
        if shape is None:
            path, name = resolve(model), model or DEFAULT_MODEL
        else:
            session.progress("drawing random weights")
            path, name = Path(folder) / f"{shape}.tercet", f"shape {shape}, random weights"
            write_random_model(path, config_of(shape), fast_packing(), "int8_planes")
        chosen = tuple(level or LEVELS)
        report = bench_levels(session, path, name, threads, chosen, tokens, requests, together)
    settings.write(report, json, markdown, plot)
