"""A stretch of history as a file for other programs: JSON, CSV or Parquet, told by the name of the file.

JSON has everything. CSV and Parquet have a row for each window, minute or hour, with every figure of
`Snapshot.figures`; the rest of what JSON has stands in Parquet's metadata, under "tercet". A file is complete
or not there at all.
"""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from tercet.environment import atomic_write, optional_import
from tercet.errors import ParameterError
from tercet.monitoring.snapshots import COUNTS, DISTRIBUTIONS, RATES, TIMES, Snapshot
from tercet.monitoring.spans import Span
from tercet.monitoring.summary import summarize

__all__ = ["FORMATS", "export", "report"]

FORMATS = (".json", ".csv", ".parquet")
_COLUMNS = [one.name for one in fields(Snapshot) if one.name not in DISTRIBUTIONS] + [*RATES, *TIMES]
_WHOLE = {*COUNTS, "windows"}


def report(
    spans: Sequence[Span],
    alerts: Sequence[Mapping[str, Any]],
    *,
    hours: float,
    thresholds: Mapping[str, Any] | None = None,
    active: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Everything as one object: when, which period, snapshots, totals, alerts, thresholds, summary."""
    now = time.time()
    summary = summarize(spans, hours)
    return {
        "timestamp": now,
        "period": {
            "hours": hours,
            "from": summary["first_time"],
            "to": summary["last_time"],
            "recorded_seconds": summary["recorded_seconds"],
        },
        "snapshots": [{"windows": one.windows, **one.snapshot.figures()} for one in spans],
        "request_totals": summary["totals"],
        "alerts": {"active": list(active), "events": list(alerts)},
        "thresholds": dict(thresholds or {}),
        "summary": summary,
    }


def export(path: str | Path, content: Mapping[str, Any]) -> None:
    """Write a `report`.

    Raises:
        ParameterError: the name ends in none of `FORMATS`.
        StorageError: the file cannot be written.
        MissingExtraError: Parquet needs pyarrow.
    """
    path = Path(path)
    kind = path.suffix.lower()
    if kind not in FORMATS:
        raise ParameterError(
            f"an export is named after its format, and {path.name!r} ends in none of {', '.join(FORMATS)}"
        )
    made = {".json": _json, ".csv": _csv, ".parquet": _parquet}[kind](content)
    with atomic_write(path) as file:
        file.write(made)


def _json(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()


def _csv(content: Mapping[str, Any]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, ["windows", *_COLUMNS])
    writer.writeheader()
    writer.writerows(content["snapshots"])  # None is an empty cell
    return text.getvalue().encode()


def _parquet(content: Mapping[str, Any]) -> bytes:
    arrow = optional_import("pyarrow", "monitor")
    parquet = optional_import("pyarrow.parquet", "monitor")
    rest = {name: value for name, value in content.items() if name != "snapshots"}
    schema = arrow.schema(
        [(name, arrow.int64() if name in _WHOLE else arrow.float64()) for name in ("windows", *_COLUMNS)],
        metadata={"tercet": json.dumps(rest)},
    )
    buffer = io.BytesIO()
    parquet.write_table(arrow.Table.from_pylist(content["snapshots"], schema=schema), buffer)
    return buffer.getvalue()
