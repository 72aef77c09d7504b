"""`tercet bench gpu`."""

from __future__ import annotations

from typing import Annotated

import typer

from tercet.cli import options
from tercet.cli.bench import settings


def gpu_products(
    model: Annotated[
        str | None,
        typer.Option(
            "--model", "-m", help="Time answers of this model too, by name or path.", show_default=False
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="The GPU: cuda, or cuda:1 and so on.")] = "cuda",
    tokens: Annotated[str, typer.Option(help="Numbers of tokens that share a product.")] = "1,16,128,512",
    runs: settings.Runs = 5,
    json: options.Json = False,
    markdown: settings.Markdown = False,
    plot: settings.Plot = None,
) -> None:
    """Time ternary products on a GPU beside bfloat16 in PyTorch and beside published figures."""
    from tercet.bench.gpu import bench_gpu

    counts = settings.numbers(tokens, "--tokens")
    with settings.session("Products on a GPU", runs) as session:
        report = bench_gpu(session, device, counts, model=model)
    settings.write(report, json, markdown, plot)
