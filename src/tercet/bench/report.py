"""What a benchmark found, in the forms that people want: a table, Markdown, JSON, and what a plot shows.

A report is rows of named values and a list of columns that says which of them a table shows and how. The
machine, the rooflines measured in the same run and remarks come with every form.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tercet.bench.machine import Machine
from tercet.bench.roofline import Roofline
from tercet.bench.session import Session
from tercet.bench.spread import Spread

__all__ = ["Axes", "Column", "Report"]

NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Column:
    """One column of the table: the key of its values, its title with the unit, and their format."""

    key: str
    title: str
    form: str = ""
    factor: float = 1

    def text(self, row: Mapping[str, Any]) -> str:
        """A value as people read it."""
        value = row.get(self.key)
        if value is None:
            return NOT_MEASURED
        if isinstance(value, Spread):
            low, high = value.lowest * self.factor, value.highest * self.factor
            return f"{value.median * self.factor:{self.form}} [{low:{self.form}} - {high:{self.form}}]"
        return f"{value * self.factor:{self.form}}" if isinstance(value, (int, float)) else str(value)


@dataclass(frozen=True)
class Axes:
    """What a plot shows: a line of y over x for each series, or bars where x are names."""

    x: str
    y: str
    x_title: str
    y_title: str
    series: tuple[str, ...] = ()
    logarithmic: bool = False


@dataclass(frozen=True)
class Report:
    """The result of a benchmark. JSON keeps all values of all rows; a single row's are at the top."""

    benchmark: str
    title: str
    machine: Machine
    rooflines: Sequence[Roofline]
    columns: Sequence[Column]
    rows: Sequence[Mapping[str, Any]]
    axes: Axes
    notes: Sequence[str] = field(default_factory=tuple)
    figures: Mapping[str, Any] = field(default_factory=dict)
    """Values that are of the whole run and of no row; `notes` tells them to people."""

    @classmethod
    def of(
        cls,
        session: Session,
        benchmark: str,
        title: str,
        columns: Sequence[Column],
        rows: Sequence[Mapping[str, Any]],
        axes: Axes,
        notes: Sequence[str] = (),
        figures: Mapping[str, Any] | None = None,
    ) -> Report:
        """Put rows together with what the session knows; a busy machine is the first thing to say."""
        warning = [session.machine.warning] if session.machine.warning else []
        rooflines = list(session.rooflines.values())
        remarks = (*warning, *notes)
        return cls(benchmark, title, session.machine, rooflines, columns, rows, axes, remarks, figures or {})

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        rows = [{key: _plain(value) for key, value in row.items()} for row in self.rows]
        return {
            **(rows[0] if len(rows) == 1 else {}),
            "benchmark": self.benchmark,
            "title": self.title,
            "rows": rows,
            **(
                {"figures": {key: _plain(value) for key, value in self.figures.items()}}
                if self.figures
                else {}
            ),
            "rooflines": [roofline.to_dict() for roofline in self.rooflines],
            "machine": self.machine.to_dict(),
            "notes": list(self.notes),
        }

    def text(self) -> str:
        """A table for the terminal; a single row stands upright."""
        shown = self._shown()
        if len(self.rows) == 1:
            width = max(len(column.title) for column in shown)
            lines = [f"{column.title:<{width}}  {column.text(self.rows[0])}" for column in shown]
        else:
            cells = [[column.title for column in shown]] + [
                [column.text(row) for column in shown] for row in self.rows
            ]
            widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
            lines = [
                "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in cells
            ]
        return "\n".join([self.title, "", *lines, "", *self._footer(), ""])

    def markdown(self) -> str:
        """A page to post."""
        shown = self._shown()
        lines = [
            f"### {self.title}",
            "",
            "| " + " | ".join(column.title for column in shown) + " |",
            "| " + " | ".join("---:" if column.form else "---" for column in shown) + " |",
            *("| " + " | ".join(column.text(row) for column in shown) + " |" for row in self.rows),
            "",
            *(f"- {line}" for line in self._footer()),
        ]
        return "\n".join(lines) + "\n"

    def _shown(self) -> list[Column]:
        return [column for column in self.columns if any(column.key in row for row in self.rows)]

    def _footer(self) -> list[str]:
        limits = [f"limits, {roofline.described()}" for roofline in self.rooflines]
        about = f"tercet {self.machine.tercet}, {self.machine.described()}"
        return [*limits, f"machine: {about}", *self.notes]


def _plain(value: Any) -> Any:
    return value.to_dict() if isinstance(value, Spread) else value
