"""How availabilities and measurements look to people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from tercet.cli.console import mebibytes

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from tercet.deployment.strategy import Availability, Metrics
    from tercet.deployment.trials import Measurement

ABSENT = "-"


def availability_table(found: Mapping[str, Availability]) -> Table:
    """A row for each strategy: whether it runs here, and what was found or is missing."""
    table = _table("strategy", "here", "what was found, or what is missing")
    for name, one in found.items():
        table.add_row(name, "yes" if one.available else "no", _plain(one.reason))
    return table


def measurement_table(found: Sequence[Measurement]) -> Table:
    """A row for each strategy: success, what it costs, and whether it agrees with the reference."""
    table = _table(
        "strategy", "works", "to first token", "tokens/s", "memory", "ready in", "greedy tokens that agree"
    )
    for one in found:
        if not one.success:
            here = "failed" if one.available else "no"
            table.add_row(one.strategy, here, "", "", "", "", _plain(one.reason))
            continue
        ready = (one.set_up_seconds or 0) + (one.deploy_seconds or 0)
        table.add_row(
            one.strategy,
            "yes",
            _milliseconds(one.time_to_first_token_seconds),
            ABSENT if one.tokens_per_second is None else f"{one.tokens_per_second:.1f}",
            ABSENT if one.memory_bytes is None else mebibytes(one.memory_bytes),
            f"{ready:.1f} s",
            _plain(ABSENT if one.agreement is None else str(one.agreement)),
        )
    return table


def show_steps(out: Console, found: Iterable[tuple[str, Sequence[str]]]) -> None:
    """Print what would make strategies available, to be copied."""
    for name, steps in found:
        if steps:
            out.print(f"To make {name} available:", markup=False)
        for step in steps:
            out.print(f"  {step}", markup=False, soft_wrap=True)


def metrics_line(name: str, metrics: Metrics) -> str:
    """One line of what an answer cost."""
    parts = [name, f"{metrics.generated_tokens} tokens"]
    if metrics.tokens_per_second is not None:
        parts.append(f"{metrics.tokens_per_second:.1f} tokens/s")
    if metrics.median_time_to_first_token_seconds is not None:
        parts.append(f"first after {_milliseconds(metrics.median_time_to_first_token_seconds)}")
    if metrics.memory_bytes is not None:
        parts.append(mebibytes(metrics.memory_bytes))
    return ", ".join(parts)


def _milliseconds(seconds: float | None) -> str:
    return ABSENT if seconds is None else f"{seconds * 1e3:.1f} ms"


def _plain(text: str) -> Text:
    from rich.text import Text

    return Text(text)


def _table(*columns: str) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    numbers = {"to first token", "tokens/s", "memory", "ready in"}
    for column in columns:
        table.add_column(
            column,
            justify="right" if column in numbers else "left",
            no_wrap=column == "strategy",
            overflow="fold",
        )
    return table
