"""`tercet monitor summary` and `tercet monitor export`: a stretch of history in figures, or as a file."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tercet.cli import options
from tercet.cli.monitor.place import File, Hours, Port, since, written_history

if TYPE_CHECKING:
    from rich.table import Table

FIGURES = {
    "resident_memory_bytes": "memory of the process",
    "mapped_memory_bytes": "of it, mapped files",
    "gpu_memory_bytes": "memory of GPUs",
    "process_cpu_percent": "processors, by the process",
    "machine_cpu_percent": "processors, by all",
    "generated_tokens_per_second": "tokens a second",
    "generating_tokens_per_second": "the same while generating",
    "prompt_tokens_per_second": "prompt tokens a second",
    "active_requests": "requests that run",
    "queued_requests": "requests that wait",
    "kv_cache_used": "KV cache in use",
}
TIMES = {"latency": "whole answer", "first_token": "first token", "inter_token": "between tokens"}


def summary(hours: Hours = 24.0, history: File = None, port: Port = 8080, json: options.Json = False) -> None:
    """Show averages, lowest and highest values, rates and totals of the last hours."""
    from tercet.cli import console
    from tercet.monitoring.history import read_history
    from tercet.monitoring.summary import summarize

    place = written_history(history, port)
    spans, alerts = read_history(place, since(hours))
    summed = summarize(spans, hours)
    if json:
        console.write_json({"history": str(place), **summed, "alert_events": len(alerts)})
        return
    screen = console.shown()
    if not spans:
        screen.print(f"The last {hours:g} hours of {place}: {summed['data']}.")
        return
    for part in summary_tables(summed):
        screen.print(part)
    screen.print(f"{len(alerts)} changes of alerts")


def export(
    path: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="To be written: .json, .csv or .parquet.", show_default=False),
    ],
    hours: Hours = 24.0,
    history: File = None,
    port: Port = 8080,
) -> None:
    """Write the windows of the last hours to a file, with totals, alerts, thresholds and summary.

    CSV has the windows alone. Parquet needs `pip install 'tercet[monitor]'`.
    """
    from tercet.cli import console
    from tercet.monitoring.export import export as write
    from tercet.monitoring.export import report
    from tercet.monitoring.history import read_history
    from tercet.monitoring.monitor import default_watcher

    place = written_history(history, port)
    spans, alerts = read_history(place, since(hours))
    write(path, report(spans, alerts, hours=hours, thresholds=default_watcher().thresholds()))
    console.told().print(f"Wrote {path}: {len(spans)} rows, {len(alerts)} changes of alerts")


def summary_tables(summed: dict[str, Any]) -> list[Table]:
    """The tables of a summary that has data."""
    return [_totals(summed), _figures(summed), _times(summed)]


def _totals(summed: dict[str, Any]) -> Table:
    from rich.table import Table

    totals, rates, energy = summed["totals"], summed["rates"], summed["energy"]
    begin, end = (
        time.strftime("%Y-%m-%d %H:%M", time.localtime(summed[k])) for k in ("first_time", "last_time")
    )
    table = Table(title=f"{begin} to {end}, {summed['windows']} windows", title_justify="left", box=None)
    for heading in ("requests", "answered", "failed", "cancelled", "success", "cache hits"):
        table.add_column(heading, justify="right")
    table.add_column("tokens", justify="right")
    table.add_column("J a token", justify="right")
    table.add_row(
        *(_count(totals[name]) for name in ("requests", "succeeded", "failed", "cancelled")),
        _share(rates["success_rate"]),
        _share(rates["cache_hit_rate"]),
        _count(totals["generated_tokens"]),
        "not measured" if energy["joules_per_token"] is None else f"{energy['joules_per_token']:.3f}",
    )
    return table


def _figures(summed: dict[str, Any]) -> Table:
    from rich.table import Table

    table = Table(box=None)
    table.add_column("")
    for heading in ("average", "lowest", "highest", "last"):
        table.add_column(heading, justify="right")
    for name, words in FIGURES.items():
        if figure := summed["figures"].get(name):
            table.add_row(
                words, *(shown(name, figure[key]) for key in ("average", "lowest", "highest", "last"))
            )
    return table


def _times(summed: dict[str, Any]) -> Table:
    from rich.table import Table

    table = Table(box=None)
    table.add_column("milliseconds")
    for heading in ("average", "p50", "p95", "p99"):
        table.add_column(heading, justify="right")
    for name, words in TIMES.items():
        values = [summed["times"][f"{name}_{key}_seconds"] for key in ("average", "p50", "p95", "p99")]
        table.add_row(words, *("-" if value is None else f"{1000 * value:.1f}" for value in values))
    return table


def shown(name: str, value: float | None) -> str:
    """A figure for people, "-" where there is none."""
    from tercet.cli import console

    if value is None:
        return "-"
    if name.endswith("_bytes"):
        return console.mebibytes(int(value))
    if name.endswith(("_used", "_rate")):
        return _share(value)
    return f"{value:.0f} %" if name.endswith("_percent") else f"{value:.1f}"


def _count(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"
