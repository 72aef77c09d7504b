"""`tercet bench cost`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tercet.cli import options

if TYPE_CHECKING:
    from tercet.bench.cost import Cost, Speed

LOAD, OWN, API = "Load", "Machines", "An API to compare with"


def cost(
    measured: Annotated[Path, typer.Argument(help="Report of `tercet bench load --json`.")],
    requests_per_day: Annotated[float, typer.Option(rich_help_panel=LOAD)] = 1000,
    prompt_tokens: Annotated[float, typer.Option(help="Of a request.", rich_help_panel=LOAD)] = 400,
    answer_tokens: Annotated[float, typer.Option(help="Of a request.", rich_help_panel=LOAD)] = 200,
    busiest_hour: Annotated[
        float, typer.Option(help="Share of a day's requests in its busiest hour.", rich_help_panel=LOAD)
    ] = 0.15,
    use: Annotated[
        float,
        typer.Option(help="Share of that hour in which a machine may be at work.", rich_help_panel=LOAD),
    ] = 0.6,
    each_at_least: Annotated[
        float, typer.Option(help="Tokens a second that every reader should get.", rich_help_panel=LOAD)
    ] = 5,
    spare_machines: Annotated[int, typer.Option(help="Machines beyond the needed.", rich_help_panel=OWN)] = 0,
    machine_hour: Annotated[float, typer.Option(help="Rent of one, an hour.", rich_help_panel=OWN)] = 0,
    machine: Annotated[float, typer.Option(help="Price of one of your own.", rich_help_panel=OWN)] = 0,
    machine_months: Annotated[float, typer.Option(help="How long it serves.", rich_help_panel=OWN)] = 48,
    watts: Annotated[float, typer.Option(help="Its mean power at the socket.", rich_help_panel=OWN)] = 0,
    kilowatt_hour: Annotated[float, typer.Option(help="Price of a kilowatt hour.", rich_help_panel=OWN)] = 0,
    people_a_month: Annotated[
        float, typer.Option(help="Price of the hours that people spend on it.", rich_help_panel=OWN)
    ] = 0,
    api_million_prompt_tokens: Annotated[float, typer.Option(help="Its price.", rich_help_panel=API)] = 0,
    api_million_answer_tokens: Annotated[float, typer.Option(help="Its price.", rich_help_panel=API)] = 0,
    json: options.Json = False,
) -> None:
    """Say what a load costs a month, on machines as fast as this one was measured to be."""
    import json as format_json

    from tercet.bench.cost import Load, Prices, Speed, monthly_cost
    from tercet.cli import console
    from tercet.errors import FormatError

    try:
        report = format_json.loads(measured.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FormatError(
            f"{measured} cannot be read as a report of `tercet bench load --json`: {error}"
        ) from error
    speed = Speed.of_report(report, each_at_least)
    load = Load(requests_per_day, prompt_tokens, answer_tokens, busiest_hour, use, spare_machines)
    prices = Prices(
        machine_hour, machine, machine_months, watts, kilowatt_hour, people_a_month,
        api_million_prompt_tokens, api_million_answer_tokens,
    )  # fmt: skip
    found = monthly_cost(speed, load, prices)
    if json:
        console.write_json(
            {"speed": vars(speed), "load": vars(load), "prices": vars(prices), **found.to_dict()}
        )
    else:
        console.write_text(_table(speed, found))


def _table(speed: Speed, found: Cost) -> str:
    each = f"{speed.each_tokens_per_second:.1f} each"
    rows = [
        ("measured", f"{speed.prompt_tokens_per_second:.0f} tokens/s of prompts, "
                     f"{speed.answer_tokens_per_second:.0f} of answers, {each}"),
        ("a request", f"{found.seconds_a_request:.2f} s of a machine"),
        ("one machine", f"{found.requests_an_hour:.0f} requests an hour"),
        ("machines", f"{found.machines}"),
        ("a month", f"{found.a_month:.2f}"),
        ("1000 requests", f"{found.a_thousand_requests:.3f}"),
        ("1M answer tokens", f"{found.a_million_answer_tokens:.3f}"),
    ]  # fmt: skip
    if found.api_a_month > 0:
        least = found.break_even_requests_per_day
        rows.append(("the API, a month", f"{found.api_a_month:.2f}"))
        rows.append(
            ("cheaper from", "never within one machine" if least is None else f"{least:.0f} requests a day")
        )
    return "".join(f"{name:<17} {value}\n" for name, value in rows)
