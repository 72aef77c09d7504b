"""`tercet monitor profile`: where a token's time goes, in a server that runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tercet.cli import options
from tercet.cli.monitor.asking import KeyFile, Url, asked

if TYPE_CHECKING:
    from rich.table import Table

PATIENCE_SECONDS = 30.0


def profile(
    seconds: Annotated[float, typer.Option("--seconds", min=0.05, max=60, help="For how long.")] = 10.0,
    url: Url = "http://127.0.0.1:8080",
    flame: Annotated[
        Path | None,
        typer.Option(
            "--flame",
            metavar="FILE",
            help="Write a flame graph, too: .svg, .folded (flamegraph.pl) or .json (speedscope).",
            show_default=False,
        ),
    ] = None,
    key_file: KeyFile = None,
    json: options.Json = False,
) -> None:
    """Show where a token's time goes in a server: layers, attention, head, sampling, scheduler, HTTP.

    The server does what its clients ask meanwhile, at full speed. Where none asks, there is nothing to see.
    """
    from tercet.cli import console
    from tercet.errors import ParameterError
    from tercet.monitoring.flame_graph import FORMATS, write_flame_graph

    if flame is not None and flame.suffix.lower() not in FORMATS:  # before the time is spent
        raise ParameterError(
            f"--flame is a name that ends in one of {', '.join(FORMATS)}, not {flame.name!r}"
        )
    with console.progress(f"Profiling {url} for {seconds:g} seconds"):
        found = asked(url, f"/profile?seconds={seconds}", key_file, seconds + PATIENCE_SECONDS)
    if flame is not None:
        title = f"tercet, {found['seconds']:.1f} s, {found['generated_tokens']:,} tokens"
        write_flame_graph(flame, found["stacks"], title)
        console.told().print(f"Wrote {flame}")
    if json:
        console.write_json(found)
        return
    console.shown().print(table(found))


def table(found: dict[str, Any]) -> Table:
    """The parts of a profile, those that took no time left out."""
    from rich.table import Table

    title = (
        f"{found['seconds']:.1f} s, {found['steps']:,} steps, "
        f"{found['prompt_tokens']:,} tokens of prompts, {found['generated_tokens']:,} generated"
    )
    made = Table(title=title, title_justify="left", box=None, min_width=len(title))
    made.add_column("")
    for heading in ("ms", "share", "µs a token"):
        made.add_column(heading, justify="right")
    for part in found["parts"]:
        each, share = part["microseconds_per_token"], part["share"]
        made.add_row(
            f"{part['name']} (beside it)" if part["name"] == "event loop" else part["name"],
            f"{1e3 * part['seconds']:.1f}",
            "-" if share is None else f"{share:.1%}",
            "-" if each is None else f"{each:.1f}",
        )
    return made
