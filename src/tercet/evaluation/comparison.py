"""Is B better than A? Differences of two evaluations over the same documents, and how sure they are.

Both models answered the same questions, so what varies is the difference on each question. Documents are
drawn again and again, with replacement, always both models' grades of a document together (the paired
bootstrap, Efron 1979; Koehn 2004 for evaluations); 95 of 100 differences lie in the interval. An interval
with zero inside says that these documents cannot tell the models apart.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tercet.errors import ParameterError
from tercet.evaluation.results import DocumentResult, Report, TaskResult
from tercet.evaluation.tasks import TASKS

__all__ = ["Difference", "compare_reports", "paired_difference"]

Values = npt.NDArray[np.float64]

RESAMPLES = 10_000
LEVEL = 0.95
RESAMPLED_AT_A_TIME = 256


@dataclass(frozen=True)
class Difference:
    """One figure of two evaluations, and B minus A."""

    task: str
    figure: str
    a: float
    b: float
    difference: float
    low: float
    high: float
    """The 95 % interval of the difference."""
    documents: int

    @property
    def is_clear(self) -> bool:
        """Whether zero lies outside of the interval."""
        return not self.low <= 0 <= self.high

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON-ready values."""
        return dataclasses.asdict(self)


def paired_difference(
    a: Sequence[Sequence[float]],
    b: Sequence[Sequence[float]],
    statistic: Callable[[Values], Values] = lambda mean: mean,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> tuple[float, float, float, float, float]:
    """Compare the mean of two lists of documents, each with one value or several.

    Args:
        a: the values of each document.
        b: the same of the other model; as many documents, each with as many values.
        statistic: what is made of a mean, for example its exponential.
        seed: of the drawing.
        resamples: how often documents are drawn.

    Returns:
        the figure of a, of b, their difference, and the ends of its interval.
    """
    counts = np.array([len(one) for one in a], float)
    sums = np.array([[sum(one) for one in side] for side in (a, b)])
    figures = statistic(sums.sum(axis=1) / counts.sum())
    rng = np.random.default_rng(seed)
    drawn: list[Values] = []
    for begin in range(0, resamples, RESAMPLED_AT_A_TIME):
        size = min(RESAMPLED_AT_A_TIME, resamples - begin)
        chosen = rng.integers(0, len(counts), (size, len(counts)))
        means = statistic(sums[:, chosen].sum(axis=2) / counts[chosen].sum(axis=1))
        drawn.append(means[1] - means[0])
    low, high = np.quantile(np.concatenate(drawn), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(figures[0]), float(figures[1]), float(figures[1] - figures[0]), float(low), float(high)


def compare_reports(a: Report, b: Report) -> list[Difference]:
    """Compare every figure of the tasks that both reports have.

    Raises:
        ParameterError: they have no task in common, or a task was run with other settings or documents.
    """
    others = {task.task: task for task in b.tasks}
    shared = [(task, others[task.task]) for task in a.tasks if task.task in others]
    if not shared:
        raise ParameterError(
            f"the reports have no task in common: {', '.join(task.task for task in a.tasks) or 'none'} "
            f"and {', '.join(others) or 'none'}"
        )
    differences = []
    for one, other in shared:
        _check(one, other)
        for figure in one.figures:
            statistic = np.exp if _is_exponentiated(one.task, figure) else lambda mean: mean
            found = paired_difference(_values(one, figure), _values(other, figure), statistic)
            differences.append(Difference(one.task, figure, *found, documents=len(one.documents)))
    return differences


def _is_exponentiated(task: str, figure: str) -> bool:
    return task in TASKS and figure in TASKS[task].exponentiated


def _values(result: TaskResult, figure: str) -> list[list[float]]:
    grades = [one.figures[figure] for one in result.documents]
    return [grade if isinstance(grade, list) else [grade] for grade in grades]


def _check(one: TaskResult, other: TaskResult) -> None:
    for name in ("shots", "limit", "chat"):
        a, b = getattr(one, name), getattr(other, name)
        if a != b:
            raise ParameterError(f"{one.task} was run with {name} {a} and {b}; run both in the same way")
    if [_key(document) for document in one.documents] != [_key(document) for document in other.documents]:
        raise ParameterError(
            f"{one.task} was run over other documents: {len(one.documents)} and {len(other.documents)}, "
            "or of other groups"
        )


def _key(document: DocumentResult) -> tuple[int, str, tuple[str, ...]]:
    return document.index, document.group, tuple(document.figures)
