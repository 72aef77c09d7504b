"""The page of measured figures: the committed reports of benchmarks/results, as tables.

Every row stands in a result file with the command that makes it again. What is rounded here is rounded for
reading; the files have all digits and all runs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

__all__ = ["measured"]

RESULTS = Path(__file__).resolve().parents[1] / "benchmarks" / "results"
Row = Mapping[str, Any]

# For each benchmark: title of the column, and how its cell follows from a row.
COLUMNS: dict[str, dict[str, Callable[[Row], str]]] = {
    "decode": {
        "program": lambda row: row.get("engine", "tercet"),
        "model": lambda row: f"{row['shape']}, {_stored(row)}",
        "temperature": lambda row: f"{row.get('temperature', 0):g}",
        "threads": lambda row: str(row["threads"]),
        "tokens/s": lambda row: _number(row["tokens_per_second"]),
        "share of the bandwidth": lambda row: f"{row['bandwidth_share']:.0%}",
        "bytes of the model": lambda row: f"{row['model_bytes'] / 1e6:,.0f} MB",
    },
    "prefill": {
        "program": lambda row: row["engine"],
        "format": lambda row: row["format"],
        "prompt": lambda row: f"{row['prompt_tokens']} tokens",
        "threads": lambda row: str(row["threads"]),
        "tokens/s": lambda row: _number(row["tokens_per_second"]),
    },
    "load": {
        "requests at once": lambda row: str(row["sequences"]),
        "tokens/s in all": lambda row: _number(row["tokens_per_second"]),
        "tokens/s each": lambda row: _number(row["tokens_per_second_each"]),
        "s to the first token": lambda row: f"{row['seconds_to_first_token']['median']:.2f}",
    },
    "context": {
        "context": lambda row: f"{row['context_tokens']:,} tokens",
        "tokens/s": lambda row: _number(row["tokens_per_second"]),
        "share of the bandwidth": lambda row: f"{row['bandwidth_share']:.0%}",
    },
    "scaling": {
        "shape": lambda row: row["shape"],
        "parameters": lambda row: f"{row['parameters']:,}",
        "file": lambda row: f"{row['file_bytes'] / 1e6:,.0f} MB",
        "tokens/s": lambda row: _number(row["tokens_per_second"]),
        "share of the bandwidth": lambda row: f"{row['bandwidth_share']:.0%}",
    },
    "compare-precision": {
        "program": lambda row: row["engine"],
        "precision": lambda row: row["precision"],
        "tokens/s": lambda row: _number(row.get("tokens_per_second")),
        "bytes of the model": lambda row: (
            f"{row['memory_bytes'] / 1e6:,.0f} MB" if row["memory_bytes"] else ""
        ),
        "source": lambda row: row["source"],
    },
    "server": {
        "streams": lambda row: str(row["streams"]),
        "tokens/s in all": lambda row: _number(row["tokens_per_second"]),
    },
}


def measured() -> str:
    """Return the page, the newest result file first."""
    lines = [
        "# What was measured\n",
        "The committed reports of `benchmarks/results`, each with its command. Shapes have random weights,",
        "which take as long as trained ones; compare ratios within one file, since a machine's speed drifts.",
        "`PATH` is the other program's `llama-bench`, built on the same machine; both take turns.",
        "[Beside other programs](../comparison.md) says what follows.\n",
    ]
    for path in sorted(RESULTS.glob("*.json"), reverse=True):
        file = json.loads(path.read_text(encoding="utf-8"))
        machine = next(report["machine"] for report in file["reports"] if "machine" in report)
        lines.append(f"## {file['date']}: {machine['cpu']}, {machine['cores']} cores\n")
        lines.append(f"`benchmarks/results/{path.name}`, commit `{file['commit']}`, {machine['system']}.\n")
        for report in file["reports"]:
            lines += _report(report)
    return "\n".join(lines)


def _report(report: Mapping[str, Any]) -> list[str]:
    columns = COLUMNS.get(report.get("benchmark", ""))
    if columns is None:  # benchmarks without a table of their own here: the file has them
        return []
    lines = [f"### {report['title']}\n", f"`{report['command']}`\n"]
    lines += [f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}"]
    lines += [f"| {' | '.join(cell(row) for cell in columns.values())} |" for row in report["rows"]]
    busy = [note for note in report["notes"] if note.startswith("The machine was busy")]
    return [*lines, *(["", f"*{busy[0]}*"] if busy else []), ""]


def _stored(row: Row) -> str:
    return str(row.get("format") or f"{row['packing']}, {row['head_type']} head")


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
