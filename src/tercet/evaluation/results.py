"""What an evaluation leaves: figures with their errors, every document's grades, and a table to read.

The JSON has all that a later comparison needs (`tercet.evaluation.comparison`): which model, which settings,
and what each document was graded, in the order of the data.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tercet.environment import atomic_write
from tercet.errors import FormatError
from tercet.evaluation.documents import read_text
from tercet.evaluation.published import BITNET_2B4T

__all__ = [
    "DocumentResult",
    "Figure",
    "Report",
    "TaskResult",
    "main_first",
    "markdown",
    "notes",
    "read_report",
    "shown",
    "write_report",
]

VERSION = 1


@dataclass(frozen=True)
class Figure:
    """A mean over `count` values and its standard error; nan where there is only one value."""

    value: float
    error: float
    count: int


@dataclass(frozen=True)
class DocumentResult:
    """One document: its place in the task, its grades, and what the model wrote if it was asked to write."""

    index: int
    group: str
    figures: dict[str, float | list[float]]
    reply: str | None
    is_cut: bool
    """Whether the beginning of what it asks did not fit into the context."""


@dataclass(frozen=True)
class TaskResult:
    """One task, run."""

    task: str
    main: str
    figures: dict[str, Figure]
    shots: int
    limit: int | None
    chat: bool
    seconds: float
    documents: tuple[DocumentResult, ...]

    @property
    def num_cut(self) -> int:
        """Documents that did not fit into the context whole."""
        return sum(one.is_cut for one in self.documents)


@dataclass(frozen=True)
class Report:
    """Tasks of one model."""

    model: str
    tercet: str
    tasks: tuple[TaskResult, ...]
    published: dict[str, float]
    """By task, in percent, of this very model; empty where nothing is published."""

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-ready values."""
        return {"tercet_evaluation": VERSION, **_finite(dataclasses.asdict(self))}


def _finite(value: Any) -> Any:
    """JSON has no nan."""
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_report(report: Report, path: Path) -> None:
    """Write the JSON of a report, whole or not at all; StorageError where it cannot be written."""
    text = json.dumps(report.to_dict(), ensure_ascii=False, indent=1) + "\n"
    with atomic_write(path) as stream:
        stream.write(text.encode())


def read_report(path: Path) -> Report:
    """Read what `write_report` wrote.

    Raises:
        ModelNotFoundError, StorageError: the file is not there, or cannot be read.
        FormatError: it is something else.
    """
    try:
        data = json.loads(read_text(path))
        if data["tercet_evaluation"] != VERSION:
            raise FormatError(f"{path} is version {data['tercet_evaluation']}, this program reads {VERSION}")
        tasks = tuple(_read_task(one) for one in data["tasks"])
        return Report(data["model"], data["tercet"], tasks, data["published"])
    except (ValueError, KeyError, TypeError) as error:
        raise FormatError(f"{path} is not a report of `tercet eval tasks`: {error!r}") from error


def _read_task(data: dict[str, Any]) -> TaskResult:
    figures = {
        name: Figure(one["value"], math.nan if one["error"] is None else one["error"], one["count"])
        for name, one in data["figures"].items()
    }
    documents = tuple(DocumentResult(**one) for one in data["documents"])
    return TaskResult(**{**data, "figures": figures, "documents": documents})


def percent(figure: Figure) -> str:
    """A share as percent, with its standard error."""
    if math.isnan(figure.error):
        return f"{100 * figure.value:.2f}"
    return f"{100 * figure.value:.2f} ± {100 * figure.error:.2f}"


def markdown(report: Report, titles: Mapping[str, str]) -> str:
    """A page with the figures beside the published ones."""
    lines = [
        f"### {report.model}",
        "",
        "| task | figure | measured | published | bitnet-b1.58-2B-4T, published | documents | shots |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for task in report.tasks:
        for name, figure in main_first(task):
            is_main = name == task.main
            lines.append(
                f"| {titles.get(task.task, task.task) if is_main else ''} | {name} | {shown(name, figure)} "
                f"| {_published(report.published, task.task) if is_main else ''} "
                f"| {_published(BITNET_2B4T, task.task) if is_main else ''} "
                f"| {len(task.documents)} | {task.shots} |"
            )
    lines += ["", *notes(report.tasks)]
    return "\n".join(lines) + "\n"


def main_first(task: TaskResult) -> list[tuple[str, Figure]]:
    """The figures of a task, the one that is usually published first."""
    return sorted(task.figures.items(), key=lambda item: item[0] != task.main)


def shown(name: str, figure: Figure) -> str:
    """A figure as a table shows it: percent, but for perplexities."""
    return f"{figure.value:.3f}" if name == "perplexity" else percent(figure)


def _published(figures: Mapping[str, float], task: str) -> str:
    return f"{figures[task]:.2f}" if task in figures else "–"


def notes(tasks: Sequence[TaskResult]) -> list[str]:
    """What a reader of the figures must know."""
    lines = ["± is one standard error, from the number of documents alone."]
    for task in tasks:
        if task.limit is not None:
            of_each = "of each subject " if any(one.group for one in task.documents) else ""
            lines.append(f"{task.task}: the first {task.limit} documents {of_each}only.")
        if task.num_cut:
            lines.append(
                f"{task.task}: {task.num_cut} of {len(task.documents)} documents were longer than the "
                "context, and lost their beginning."
            )
        if task.chat:
            lines.append(f"{task.task}: asked through the chat template.")
    return lines
