"""`tercet monitor watch`: the history in the terminal, as it is written."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tercet.cli.monitor.place import File, Port, written_history
from tercet.cli.monitor.reports import FIGURES, shown

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import RenderableType

    from tercet.monitoring.spans import Span

BARS = "▁▂▃▄▅▆▇█"
WINDOWS = 48
MINUTES = 60.0


def watch(
    history: File = None,
    port: Port = 8080,
    every: Annotated[
        float, typer.Option("--every", min=0.1, help="Seconds between two looks at the history.")
    ] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Show it once and end.")] = False,
) -> None:
    """Follow a server in the terminal: its last windows as small charts, and what is wrong. Ctrl-C ends it.

    What it shows is as new as the last window: start the server with --sample-every 5 to see more.
    """
    from rich.live import Live

    from tercet.cli import console

    place = written_history(history, port)
    screen = console.shown()
    if once:
        screen.print(_view(place))
        return
    with (
        contextlib.suppress(KeyboardInterrupt),
        Live(_view(place), console=screen, auto_refresh=False) as live,
    ):
        while True:
            time.sleep(every)
            live.update(_view(place), refresh=True)


def _view(place: Path) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    from tercet.errors import TercetError
    from tercet.monitoring.history import read_history

    now = time.time()
    try:
        spans, alerts = read_history(place, now - MINUTES * 60)
    except TercetError as error:  # not there yet, or just being put aside
        return Text(str(error))
    if not spans:
        return Text(f"{place}: nothing was recorded in the last hour")
    age = now - spans[-1].snapshot.time
    heading = Text(f"{place}, last window {age:.0f} s ago", style="bold")
    return Group(heading, _figures(spans[-WINDOWS:]), *_alert_lines(alerts))


def _figures(spans: list[Span]) -> RenderableType:
    from rich.table import Table

    table = Table(box=None)
    for heading in ("", "now", "lowest", "highest", "so far"):
        table.add_column(heading, justify="left" if heading in ("", "so far") else "right")
    rows = {**FIGURES, "error_rate": "failures", "cache_hit_rate": "cache hits"}
    rows |= {
        "latency_p95_seconds": "p95 of answers, ms",
        "first_token_p95_seconds": "p95 of first tokens, ms",
    }
    for name, words in rows.items():
        values = [getattr(one.snapshot, name) for one in spans]
        found = [value for value in values if value is not None]
        if not found:
            continue
        cells = (values[-1], min(found), max(found))
        table.add_row(words, *(_cell(name, value) for value in cells), chart(values))
    return table


def _cell(name: str, value: float | None) -> str:
    return f"{1000 * value:.1f}" if name.endswith("_seconds") and value is not None else shown(name, value)


def chart(values: list[float | None]) -> str:
    """A row of bars from 0 to the highest; a gap where nothing was measured."""
    highest = max((value for value in values if value is not None), default=0.0)
    top = len(BARS) - 1
    return "".join(
        " " if value is None else BARS[round(top * value / highest) if highest > 0 else 0] for value in values
    )


def _alert_lines(alerts: list[dict[str, Any]]) -> list[RenderableType]:
    """The latest change of each alert that has not ended."""
    from rich.text import Text

    latest = {one.get("rule", one.get("name")): one for one in alerts}
    active = [one for one in latest.values() if one.get("state") != "resolved"]
    return [Text(f"{one.get('severity', '')}: {one.get('message', '')}", style="red") for one in active] or [
        Text("no alerts")
    ]
