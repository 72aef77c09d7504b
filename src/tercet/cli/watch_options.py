"""Options of `tercet serve` for watching it over time."""

from __future__ import annotations

from typing import Annotated

import typer

WATCHING = "Watching"

History = Annotated[
    str | None,
    typer.Option(
        "--history",
        metavar="FILE|none",
        help="Where the history for `tercet monitor` is kept (default: a file for each port in the folder of "
        "state; none with port 0).",
        show_default=False,
        rich_help_panel=WATCHING,
    ),
]
SampleEvery = Annotated[
    float,
    typer.Option(
        "--sample-every",
        min=0.05,
        help="Seconds of a window of the history; alerts are judged at the end of each.",
        rich_help_panel=WATCHING,
    ),
]
