"""`tercet monitor energy`: joules and CO2 of what a server generated."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tercet.cli import options
from tercet.cli.monitor.place import File, Hours, Port, since, written_history

NOT_MEASURED = "not measured"


def energy(
    grid_intensity: Annotated[
        float | None,
        typer.Option(
            "--grid-intensity",
            metavar="G",
            help="Grams of CO2 for a kWh where the server stands, for figures of CO2.",
            show_default=False,
        ),
    ] = None,
    hours: Hours = 24.0,
    history: File = None,
    port: Port = 8080,
    compare: Annotated[
        str | None,
        typer.Option(
            "--compare",
            metavar="MODEL",
            help="Measure this model here, too, as it is and in full precision (a minute or more).",
            show_default=False,
        ),
    ] = None,
    tokens: Annotated[int, typer.Option("--tokens", help="Of each of the two runs of --compare.")] = 128,
    json: options.Json = False,
) -> None:
    """Show energy and CO2 for a thousand tokens: joules as measured, at the intensity that you state.

    Where processors show no counters of energy, that is "not measured".
    """
    from tercet.cli import console
    from tercet.monitoring.footprint import footprint
    from tercet.monitoring.history import read_history

    place = written_history(history, port)
    spans, _ = read_history(place, since(hours))
    found = {"history": str(place), **footprint(spans, hours, grid_intensity)}
    if compare is not None:
        found["comparison"] = _compared(compare, tokens, grid_intensity)
    if json:
        console.write_json(found)
        return
    screen = console.shown()
    screen.print(_words(found, bool(spans)))
    if compare is not None:
        screen.print(_table(found["comparison"]))


def _compared(model: str, tokens: int, grid_intensity: float | None) -> list[dict[str, Any]]:
    from tercet.bench.full_precision import measure_precisions
    from tercet.cli import console
    from tercet.models.registry import resolve
    from tercet.monitoring.footprint import grams_of_co2

    with console.progress(f"Measuring {model}") as tell:
        rows = measure_precisions(resolve(model), tokens, tell=tell)
    for row in rows:
        row["co2_grams_per_1000_tokens"] = grams_of_co2(row["joules_per_1000_tokens"], grid_intensity)
    return rows


def _words(found: dict[str, Any], has_data: bool) -> str:
    """The report in lines."""
    head = f"The last {found['hours']:g} hours of {found['history']}"
    if not has_data:
        return f"{head}: nothing was recorded."
    if found["joules"] is None:
        from tercet.monitoring.energy import EnergyMeter

        with EnergyMeter() as meter:
            pass
        reason = meter.reason or "the server could not read the counters that can be read here"
        return f"{head}\nenergy: {NOT_MEASURED} ({reason})\nCO2: {NOT_MEASURED}"
    price, grams = found["joules_per_1000_tokens"], found["co2_grams_per_1000_tokens"]
    lines = [
        head,
        f"measured: {found['measured_seconds']:,.0f} of {found['recorded_seconds']:,.0f} s, "
        f"by {found['source']}; {found['generated_tokens']:,} tokens of {found['requests']:,} requests",
        f"energy: {found['joules']:,.1f} J ({found['joules'] / 3.6e6:.6f} kWh), "
        + ("no tokens" if price is None else f"{price:,.1f} J for a thousand tokens"),
    ]
    if found["grid_intensity"] is None:
        lines.append("CO2: state the grid's intensity with --grid-intensity")
    else:
        each = "" if grams is None else f", {grams:.4g} g for a thousand tokens"
        lines.append(f"CO2: {found['co2_grams']:.4g} g at {found['grid_intensity']:g} g/kWh{each}")
    return "\n".join(lines)


def _table(rows: list[dict[str, Any]]) -> Any:
    from rich.table import Table

    made = Table(box=None)
    made.add_column("measured here")
    for heading in ("ms a token", "J for 1,000 tokens", "g of CO2 for 1,000 tokens", "ternary takes"):
        made.add_column(heading, justify="right")
    first = rows[0]
    for row in rows:
        joules, grams = row["joules_per_1000_tokens"], row["co2_grams_per_1000_tokens"]
        key = "milliseconds_per_token" if joules is None else "joules_per_1000_tokens"
        part = f"{first[key] / row[key]:.1%} of its {'time' if joules is None else 'energy'}"
        made.add_row(
            row["precision"],
            f"{row['milliseconds_per_token']:.2f}",
            NOT_MEASURED if joules is None else f"{joules:,.1f}",
            "-"
            if joules is not None and grams is None
            else NOT_MEASURED
            if grams is None
            else f"{grams:.4g}",
            "" if row is first else part,
        )
    return made
