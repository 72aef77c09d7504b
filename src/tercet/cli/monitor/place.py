"""Which history is meant: a file, or that of the server at a port."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Annotated

import typer

from tercet.environment import state_directory
from tercet.errors import ParameterError

__all__ = ["File", "Hours", "Port", "history_file", "since", "written_history"]

NONE = "none"

File = Annotated[
    Path | None,
    typer.Option(
        "--history",
        metavar="FILE",
        help="The file that the server was given (default: the one for its port).",
        show_default=False,
    ),
]
Port = Annotated[
    int, typer.Option("--port", "-p", min=1, max=65535, help="Of the server, where no file is named.")
]
Hours = Annotated[float, typer.Option("--hours", help="How far to look back.")]


def written_history(asked: Path | None, port: int) -> Path:
    """The file that the commands here read."""
    return asked if asked is not None else state_directory() / f"history-{port}.sqlite"


def history_file(asked: str | None, port: int) -> Path | None:
    """Where a server writes: as asked, or a file for its port; None for nowhere, as with port 0."""
    if asked == NONE or (asked is None and not port):
        return None
    return written_history(None if asked is None else Path(asked), port)


def since(hours: float) -> float:
    """The moment so many hours ago.

    Raises:
        ParameterError: that is no number above 0.
    """
    if not (math.isfinite(hours) and hours > 0):
        raise ParameterError(f"--hours is a number above 0, not {hours}")
    return time.time() - hours * 3600
