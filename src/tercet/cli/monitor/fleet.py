"""`tercet monitor rules`, `dashboard` and `try-alerts`: what people set up beside a server, or many."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from tercet.monitoring.alerts.events import AlertEvent

Output = Annotated[
    Path | None,
    typer.Argument(metavar="FILE", help="To be written (default: printed).", show_default=False),
]
Alerts = Annotated[
    Path | None,
    typer.Option(
        "--alerts",
        metavar="FILE",
        help="Rules as in this file of settings, which `tercet serve --alerts` takes, too.",
        show_default=False,
    ),
]


def rules(output: Output = None, alerts: Alerts = None) -> None:
    """Make the file of rules for Prometheus: what a server judges itself by, as alerts of a fleet."""
    from tercet.monitoring.alerts.prometheus import rule_file
    from tercet.monitoring.alerts.settings import AlertSettings

    settings = AlertSettings() if alerts is None else AlertSettings.read(alerts)
    _write(output, rule_file(settings.rules))


def dashboard(output: Output = None) -> None:
    """Make the dashboard for Grafana: import it there, and choose the source that reads the servers."""
    from tercet.monitoring.grafana import dashboard as made

    _write(output, json.dumps(made(), indent=2) + "\n")


def try_alerts(
    alerts: Annotated[Path, typer.Argument(metavar="FILE", help="The settings to try.", show_default=False)],
) -> None:
    """Send a beginning and an end, marked as a test, to every sink of a file of settings."""
    from tercet.cli import console
    from tercet.errors import UnavailableError
    from tercet.monitoring.alerts.delivery import DeliveryError
    from tercet.monitoring.alerts.settings import AlertSettings

    sinks = AlertSettings.read(alerts).sinks
    failed = 0
    for sink in sinks:
        try:
            for state in ("firing", "resolved"):
                sink.send(_event(state))
        except DeliveryError as error:
            failed += 1
            console.told().print(f"{sink.label}: {error}")
        else:
            console.told().print(f"{sink.label}: taken")
    if failed:
        raise UnavailableError(f"{failed} of {len(sinks)} sinks did not take a test")
    console.told().print(f"{len(sinks)} sinks, and the log")


def _event(state: str) -> AlertEvent:
    from tercet.monitoring.alerts.events import AlertEvent

    now = time.time()
    return AlertEvent(
        id=f"test-{round(1000 * now)}",
        rule="test",
        state="firing" if state == "firing" else "resolved",
        severity="critical",
        time=now,
        since=now,
        seconds=0.0,
        value=0.0,
        worst=0.0,
        threshold=0.0,
        message="This is a test of alerts; nothing is wrong.",
    )


def _write(output: Path | None, text: str) -> None:
    from tercet.cli import console
    from tercet.environment import atomic_write

    if output is None:
        console.write_text(text)
        return
    with atomic_write(output) as file:
        file.write(text.encode())
    console.told().print(f"Wrote {output}")
