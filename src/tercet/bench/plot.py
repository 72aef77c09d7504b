"""A report as a picture: lines over numbers, bars over names, and the machine below."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tercet.bench.report import Report
from tercet.bench.spread import Spread
from tercet.environment import atomic_write, optional_import
from tercet.errors import ParameterError

__all__ = ["write_plot"]


def write_plot(report: Report, path: Path) -> None:
    """Write a PNG.

    Raises:
        ParameterError: the name ends with something else.
        MissingExtraError: matplotlib is not installed.
        StorageError: the folder cannot be written to.
    """
    if path.suffix.lower() != ".png":
        raise ParameterError(f"the plot is a PNG, so its name ends with .png, not {path.suffix or 'nothing'}")
    figures = optional_import("matplotlib.figure", "bench")
    figure = figures.Figure(figsize=(8, 5), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    asked = report.axes
    for name, rows in _series(report).items():
        spreads = [_spread(row[asked.y]) for row in rows]
        middles = [spread.median for spread in spreads]
        errors = [
            [spread.median - spread.lowest for spread in spreads],
            [spread.highest - spread.median for spread in spreads],
        ]
        if all(isinstance(row[asked.x], (int, float)) for row in rows) and len(rows) > 1:
            axes.errorbar([row[asked.x] for row in rows], middles, errors, marker="o", capsize=3, label=name)
        else:
            axes.bar([str(row[asked.x]) for row in rows], middles, yerr=errors, capsize=3, label=name)
    if asked.logarithmic:
        axes.set_xscale("log", base=2)
    axes.set(xlabel=asked.x_title, ylabel=asked.y_title, ylim=(0, None))
    axes.set_title(report.title)
    axes.grid(axis="y", alpha=0.3)
    if asked.series and axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize="small")
    about = "\n".join(textwrap.wrap(report.machine.described(), 120))
    figure.supxlabel(about, fontsize="x-small", color="gray")
    with atomic_write(path) as file:
        figure.savefig(file, format="png")


def _series(report: Report) -> dict[str, list[Mapping[str, Any]]]:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in report.rows:
        if row.get(report.axes.y) is not None:
            name = ", ".join(str(row[key]) for key in report.axes.series)
            found.setdefault(name, []).append(row)
    return found


def _spread(value: float | Spread) -> Spread:
    return value if isinstance(value, Spread) else Spread.of([value])
