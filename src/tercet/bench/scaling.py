"""How speed follows the size of the model and the number of threads.

Shapes that memory or disk cannot take are listed with the arithmetic that says so: a row without figures is
a finding too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence as Numbers
from typing import Any

from tercet.bench.decode import WARM_UP_TOKENS, decode_row
from tercet.bench.report import Axes, Column, Report
from tercet.bench.running import ModelChoice, check_context, check_counts, open_model
from tercet.bench.session import Session
from tercet.engine.memory import peak_resident_bytes
from tercet.engine.processors import available_cores
from tercet.errors import ParameterError
from tercet.models.shapes import shape

__all__ = ["SCALING_COLUMNS", "bench_scaling", "thread_counts"]

SHAPES = ("125m", "700m", "2b4t", "3b", "llama3-8b", "100b")
SCALING_COLUMNS = (
    Column("shape", "shape"),
    Column("parameters", "G parameters", ".2f", 1e-9),
    Column("file_bytes", "file, MB", ".0f", 1e-6),
    Column("threads", "threads", "d"),
    Column("runs", "tokens/s, median [spread]", ".2f"),
    Column("speed_up", "against one thread", ".2f"),
    Column("bandwidth_share", "share of the bandwidth", ".0%"),
    Column("joules_per_token", "J a token", ".3f"),
)


def bench_scaling(
    session: Session,
    choice: ModelChoice,
    shapes: Numbers[str] = SHAPES,
    threads: Numbers[int] = (),
    context: int = 64,
    tokens: int = 16,
) -> Report:
    """Time decoding with each of these shapes and numbers of threads, by default 1, 2, 4, ... to all.

    Raises:
        ParameterError: a shape is unknown, or a count is out of range.
    """
    check_counts(context=context, tokens=tokens)
    counts = list(threads) or thread_counts(available_cores())
    rows: list[dict[str, Any]] = []
    notes: list[str] = []
    total = context + tokens + WARM_UP_TOKENS
    for name in shapes:
        check_context(shape(name), name, total, f"context {context} and {tokens + WARM_UP_TOKENS} tokens")
    for name in shapes:
        try:
            rows += _rows(session, dataclasses.replace(choice, shape=name), counts, context, tokens)
        except ParameterError as refusal:
            notes.append(f"Not measured: {refusal}.")
    return Report.of(
        session,
        "scaling",
        "Decoding by size of the model and threads, random weights",
        SCALING_COLUMNS,
        rows,
        Axes("threads", "runs", "threads", "tokens a second", ("shape",)),
        notes,
    )


def thread_counts(most: int) -> list[int]:
    """1, 2, 4, ... and all."""
    return sorted({1 << power for power in range(most.bit_length()) if 1 << power <= most} | {most})


def _rows(
    session: Session, choice: ModelChoice, counts: Numbers[int], context: int, tokens: int
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    with open_model(session, choice, context + tokens + WARM_UP_TOKENS) as model:
        for count in counts:
            model.use_threads(count)
            row = decode_row(session, model, context, tokens)
            alone = next((one for one in rows if one["threads"] == 1), row if count == 1 else None)
            row["file_bytes"] = model.file_bytes
            row["peak_resident_bytes"] = peak_resident_bytes()
            row["speed_up"] = alone and row["tokens_per_second"] / alone["tokens_per_second"]
            rows.append(row)
    return rows
