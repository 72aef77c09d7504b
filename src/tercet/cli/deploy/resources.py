"""`tercet deploy resources [MODEL]`: what a server of the model needs of a container platform."""

from __future__ import annotations

from typing import Annotated

import typer

from tercet.cli import options

PLACE = "What it is to hold"


def resources(
    model: Annotated[
        str | None,
        typer.Argument(
            help="Name or path of a model (default: the one that ships with the package).", show_default=False
        ),
    ] = None,
    context: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Most tokens of prompt and answer together (default: what the model was trained for).",
            show_default=False,
            rich_help_panel=PLACE,
        ),
    ] = None,
    concurrent: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Requests that run at once, each with a whole context (default: as many as share a step).",
            show_default=False,
            rich_help_panel=PLACE,
        ),
    ] = None,
    threads: options.Threads = None,
    level: options.Level = None,
    values: Annotated[
        bool, typer.Option("--values", help="Print values for the Helm chart in deploy/helm, in YAML.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Compute memory and processors of one server from the model, with the arithmetic.

    The settings that go with them are printed, too: without those the server would take more requests than
    the memory is for.
    """
    from tercet.cli import console
    from tercet.deployment.resources import resources_of

    found = resources_of(model, context=context, concurrent=concurrent, threads=threads, level=level)
    if json:
        console.write_json(found.to_dict())
        return
    if values:
        console.write_text(found.helm_values())
        return
    from rich.table import Table
    from rich.text import Text

    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in {
        "model": found.model,
        "processors": f"{found.threads}, one for each thread",
        "memory": f"{console.mebibytes(found.memory)}, request and limit",
        "of which": found.arithmetic(),
        "a context": f"{found.context} tokens in {console.mebibytes(found.context_bytes)}, {found.kv_dtype}",
        "settings": " ".join(f"--{key.replace('_', '-')} {one}" for key, one in found.settings().items()),
    }.items():
        table.add_row(name, Text(value))
    console.shown().print(table)
