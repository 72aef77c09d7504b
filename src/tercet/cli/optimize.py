"""`tercet optimize SCENARIO [MODEL]`: settings for a place, with the arithmetic, on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tercet.cli import options

if TYPE_CHECKING:
    from rich.table import Table

    from tercet.bench.recommendation import Recommendation

app = typer.Typer(add_completion=False, rich_markup_mode="markdown")
GIB = 1 << 30


@app.command()
def optimize(
    scenario: Annotated[
        str,
        typer.Argument(
            help="mobile (2 threads, 512 MiB), edge (4, 1 GiB), server (8, 2 GiB) or cloud (16, 4 GiB)."
        ),
    ],
    model: Annotated[
        str | None,
        typer.Argument(
            help="Name or path of a model (default: the one that ships with the package).", show_default=False
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """Say how a model should run in a scenario.

    Prints threads, precisions, how the memory is spent and how many sequences fit at once, advice that
    follows from measuring this machine, and which models fit `mobile`. `tercet run --scenario` uses the
    settings.
    """
    from tercet.bench.recommendation import recommend
    from tercet.cli import console

    with console.progress("Measuring"):
        found = recommend(scenario, model)
    if json:
        console.write_json(found.to_dict())
        return
    out = console.shown()
    out.print(_settings(found))
    out.print()
    for number, advice in enumerate(found.advice, 1):
        out.print(f"{number}. {advice}", markup=False)
    out.print(_fits(found))


def _settings(found: Recommendation) -> Table:
    from rich.table import Table
    from rich.text import Text

    from tercet.cli.console import mebibytes

    settings, plan = found.settings, found.plan
    rates = ", ".join(
        f"{rate / 1e9:.1f} GB/s with {threads} thread{'s' if threads > 1 else ''}"
        for threads, rate in found.bandwidth.items()
    )
    limit = "" if found.cpu_limit is None else f", limited to {found.cpu_limit:g} by a control group"
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in {
        "scenario": f"{found.scenario}: {found.summary}",
        "priority": f"{found.priority}: {found.priority_summary}",
        "model": found.model,
        "threads": str(settings.threads),
        "weights": found.weight_precision,
        "output head": f"{found.head_precision}, {settings.head}",
        "keys and values": f"{settings.kv_dtype}, {plan.model.kv_per_token} bytes a token",
        "weights in memory": settings.weights_memory,
        "guessing tokens": settings.speculation,
        "context": f"{plan.context} tokens",
        "memory": f"{mebibytes(plan.budget)} for the whole process, mapped weights included",
        "batch size": f"{plan.max_sequences} = {plan.arithmetic()}",
        "a step": f"at most {settings.max_step_tokens} tokens of {plan.max_sequences} sequences",
        "this machine": f"{found.cores} cores{limit}, {found.isa}, {mebibytes(found.memory_bytes)} of "
        f"memory, huge pages: {found.huge_pages}",
        "measured": f"reads {rates}",
        "limit": _limit(found),
    }.items():
        table.add_row(name, Text(value))
    return table


def _limit(found: Recommendation) -> str:
    """What memory allows one sequence, in a sentence."""
    token = f"a token at full context reads {found.bytes_per_token / 1e6:.1f} MB"
    if found.tokens_per_second_limit is None:
        return f"not the memory: {token}, which the processor's caches may hold"
    return f"{found.tokens_per_second_limit:.1f} tokens/s for one sequence: {token}"


def _fits(found: Recommendation) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from tercet.cli.console import mebibytes

    table = Table(box=SIMPLE_HEAD, pad_edge=False, title="Which models fit mobile", title_justify="left")
    for column in ("model", "weights", "precision", "fits"):
        table.add_column(column, justify="right" if column == "weights" else "left")
    for fit in found.fits_mobile:
        told = "no" if fit.context is None else f"yes, {fit.context} tokens of context"
        table.add_row(fit.model, mebibytes(fit.weights_bytes), fit.precision, told)
    return table
