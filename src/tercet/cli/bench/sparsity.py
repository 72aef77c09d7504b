"""`tercet bench sparsity`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tercet.cli import options
from tercet.cli.bench import settings


def sparsity(
    text: Annotated[Path, typer.Argument(help="Text to read: plain, or JSON lines with a field `text`.")],
    model: options.Model = None,
    tokens: Annotated[int, typer.Option(help="Tokens to read.", min=2)] = 8192,
    json: options.Json = False,
    markdown: settings.Markdown = False,
    plot: settings.Plot = None,
) -> None:
    """Count the gates that are exactly zero on a text, and what skipping their weights could save."""
    from tercet.bench.sparsity import bench_sparsity
    from tercet.evaluation.documents import read_documents
    from tercet.models.loading import load_model
    from tercet.models.registry import DEFAULT_MODEL, resolve

    with settings.session("Counting zeros", 1) as session:
        loaded = load_model(resolve(model))
        name = model or DEFAULT_MODEL
        report = bench_sparsity(session, loaded, name, read_documents(text), tokens)
    settings.write(report, json, markdown, plot)
