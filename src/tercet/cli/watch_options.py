"""Options of `tercet serve` for watching it over time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from tercet.monitoring.alerts.settings import AlertSettings

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
Alerts = Annotated[
    Path | None,
    typer.Option(
        "--alerts",
        metavar="FILE",
        help="A JSON file: other thresholds than the built-in ones, and where alerts go besides the log "
        "(webhook, email, command).",
        show_default=False,
        rich_help_panel=WATCHING,
    ),
]

OtlpEndpoint = Annotated[
    str | None,
    typer.Option(
        "--otlp-endpoint",
        metavar="URL",
        help="A collector of OpenTelemetry for traces and metrics, http://127.0.0.1:4318 for example "
        "(needs `pip install 'tercet[otel]'`).",
        show_default=False,
        rich_help_panel=WATCHING,
    ),
]


def alert_settings(path: Path | None) -> AlertSettings:
    """What the file says; without one, the built-in rules and the log.

    Raises:
        ParameterError: it names what there is not.
        StorageError: it, or a file that it names, cannot be read.
    """
    from tercet.monitoring.alerts.settings import AlertSettings

    return AlertSettings() if path is None else AlertSettings.read(path)
