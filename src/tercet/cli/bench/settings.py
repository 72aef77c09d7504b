"""Options that the benchmarks share, and the forms in which their reports come."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from tercet.bench.report import Report
    from tercet.bench.session import Session

MODEL = "Model (random weights unless one is named)"
OUTPUT = "Report"

Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        help="Measure this model, by name or path; --shape, --packing and --head are then its own.",
        show_default=False,
        rich_help_panel=MODEL,
    ),
]
Shape = Annotated[
    str, typer.Option("--shape", help="Shape of the model, see the reference page.", rich_help_panel=MODEL)
]
Packing = Annotated[
    str | None,
    typer.Option(
        "--packing",
        help="How projections are stored: two_bit, five_per_byte, a float type (default: the fastest).",
        show_default=False,
        rich_help_panel=MODEL,
    ),
]
Head = Annotated[
    str,
    typer.Option(
        "--head",
        help="Type of embedding and output head: f16, bf16, f32, int8_planes or int6_planes.",
        rich_help_panel=MODEL,
    ),
]
KvCache = Annotated[
    str, typer.Option("--kv-cache", help="Type of keys and values: f32, f16 or int8.", rich_help_panel=MODEL)
]
WeightsMemory = Annotated[
    str,
    typer.Option(
        "--weights-memory",
        help="Where weights lie: mapped, huge (copied to huge pages), or auto.",
        rich_help_panel=MODEL,
    ),
]
HeadMode = Annotated[
    str,
    typer.Option(
        "--head-mode", help="Logits from a head in planes: full or two_stage.", rich_help_panel=MODEL
    ),
]
Keep = Annotated[
    bool,
    typer.Option(
        "--keep", help="Keep the file with random weights in the cache folder.", rich_help_panel=MODEL
    ),
]
Runs = Annotated[int, typer.Option("--runs", help="Timed runs after a warm-up; the median is reported.")]
Markdown = Annotated[
    bool, typer.Option("--markdown", help="Print the report as Markdown, to post it.", rich_help_panel=OUTPUT)
]
Plot = Annotated[
    Path | None,
    typer.Option("--plot", help="Draw the report into this PNG.", show_default=False, rich_help_panel=OUTPUT),
]


@contextlib.contextmanager
def session(what: str, runs: int) -> Iterator[Session]:
    """A session that tells on the terminal how far it has come."""
    from tercet.bench.session import Session
    from tercet.cli import console

    with console.progress(what) as show:
        yield Session(runs=runs, progress=show)


def write(report: Report, json: bool, markdown: bool, plot: Path | None) -> None:
    """Write a report in the form that was asked for."""
    from tercet.cli import console

    if plot is not None:
        from tercet.bench.plot import write_plot

        write_plot(report, plot)
    if json:
        console.write_json(report.to_dict())
    else:
        console.write_text(report.markdown() if markdown else report.text())


def numbers(text: str, option: str) -> list[int]:
    """Whole numbers with commas between them; ParameterError for anything else."""
    from tercet.errors import ParameterError

    try:
        found = [int(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or min(found) < 1:
        raise ParameterError(f"{option} takes whole numbers above 0 with commas between them, not {text!r}")
    return found


def decimals(text: str, option: str) -> list[float]:
    """Numbers from 0 with commas between them; ParameterError for anything else."""
    from tercet.errors import ParameterError

    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or not all(0 <= one < float("inf") for one in found):
        raise ParameterError(f"{option} takes numbers from 0 with commas between them, not {text!r}")
    return found


def names(text: str | None) -> list[str]:
    """Names with commas between them."""
    return [part.strip() for part in text.split(",") if part.strip()] if text else []
