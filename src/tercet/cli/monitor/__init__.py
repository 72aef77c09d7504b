"""`tercet monitor`: what a service did, out of the history that `tercet serve` writes.

reports   summary and export
watch     a view that follows the history in the terminal
energy    joules and CO2 for a thousand tokens
profile   where a token's time goes, asked of a server that runs (`asking`)
fleet     rules for Prometheus, a dashboard for Grafana, a test of sinks
place     which file of which server that is
"""

from __future__ import annotations

import typer

from tercet.cli.monitor import energy, fleet, profile, reports, watch

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode="markdown")


@app.callback()
def monitor() -> None:
    """See what a server did: now, and in the last days."""


for command, name in (
    (reports.summary, "summary"),
    (watch.watch, "watch"),
    (reports.export, "export"),
    (profile.profile, "profile"),
    (energy.energy, "energy"),
    (fleet.rules, "rules"),
    (fleet.dashboard, "dashboard"),
    (fleet.try_alerts, "try-alerts"),
):
    app.command(name)(command)
