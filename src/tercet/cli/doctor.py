"""`tercet doctor`: what this machine can do, and whether the installation does it right and safely."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tercet.cli import options

if TYPE_CHECKING:
    from rich.table import Table

    from tercet.bench.diagnosis import Diagnosis

app = typer.Typer(add_completion=False, rich_markup_mode="markdown")


@app.command()
def doctor(
    threads: options.Threads = None,
    isa: options.Isa = None,
    json: options.Json = False,
    security: Annotated[
        bool,
        typer.Option(
            "--security", help="Instead, say what is weak about the settings that `tercet serve` would have."
        ),
    ] = False,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            help="With --security: the file of settings, as for `tercet serve`; TERCET_SERVE_... count, too.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Check this machine and this installation.

    Shows the processor, the chosen instruction set and why, the kernel of each operation with its self-test
    and the measured limits, and tries the shipped model.

    Exits with 1 if something does not work as it should, or a setting is weak.
    """
    if security:
        from tercet.cli.security_report import report

        report(config, json)
        return
    if config is not None:
        raise typer.BadParameter("the file of settings is looked at with --security", param_hint="--config")
    from tercet.bench.diagnosis import diagnose
    from tercet.cli import console

    with console.progress("Testing kernels and measuring"):
        diagnosis = diagnose(threads, isa)
    if json:
        console.write_json(diagnosis.to_dict())
    else:
        _show(diagnosis)
    if diagnosis.problems:
        raise typer.Exit(1)


def _show(diagnosis: Diagnosis) -> None:
    from tercet.cli import console

    out = console.shown()
    for section in (_overview(diagnosis), _kernels(diagnosis), _limits(diagnosis)):
        out.print(section)
    for problem in diagnosis.problems:
        out.print(f"problem: {problem}", style="red", markup=False)
    if not diagnosis.problems:
        out.print("Everything works.", style="green")


def _overview(diagnosis: Diagnosis) -> Table:
    from rich.table import Table
    from rich.text import Text

    from tercet.cli.console import mebibytes

    machine = diagnosis.machine
    lacking = [isa for isa in diagnosis.known_isas if isa not in diagnosis.available_isas]
    isas = ", ".join(diagnosis.available_isas)
    if lacking:
        isas += f"; not on this machine: {', '.join(lacking)}"
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in {
        "tercet": f"{machine.tercet}, Python {machine.python}, {machine.system}",
        "processor": f"{machine.cpu}, {machine.cores} cores, {mebibytes(machine.memory_bytes)} of memory",
        "features": " ".join(diagnosis.features),
        "instruction sets": isas,
        "chosen": f"{diagnosis.chosen_isa}: {diagnosis.reason}",
        "shipped model": f"{diagnosis.model.name}: {diagnosis.model.detail}",
    }.items():
        table.add_row(name, Text(value))
    return table


def _kernels(diagnosis: Diagnosis) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in ("operation", "kernel", "self-test"):
        table.add_column(column)
    for kernel in diagnosis.kernels:
        verdict = "passed" if kernel.passed else "FAILED"
        style = "green" if kernel.passed else "red"
        told = f"{verdict}: {kernel.detail}" if kernel.detail else verdict
        table.add_row(kernel.operation, kernel.provided_by, Text(told, style))
    return table


def _limits(diagnosis: Diagnosis) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    readers = list(diagnosis.limits[0].read_bandwidth)
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("measured with")
    for reader in readers:
        table.add_column(f"read, {reader}", justify="right")
    table.add_column("int8 dot products", justify="right")
    for limits in diagnosis.limits:
        threads = "1 thread" if limits.threads == 1 else f"{limits.threads} threads"
        rates = [f"{limits.read_bandwidth[reader] / 1e9:.1f} GB/s" for reader in readers]
        table.add_row(threads, *rates, f"{limits.int8_multiply_adds / 1e9:.0f} GMAC/s")
    return table
