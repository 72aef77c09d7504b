"""What a task is: data, turned into documents that ask a model something and grade what it says.

A task has the name that lm-eval gives it and asks, word for word, what it asks there; so its figures stand
beside published ones, and beside those of `tercet eval lm-eval`. A document asks in one of two ways:

    Likelihoods   how likely are these continuations of these contexts? (`tercet.evaluation.scoring`)
    Generation    what do you say to this prompt?

and its `grade` turns the reply into figures: name -> one number, or several that count each for itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tercet.evaluation.scoring import TokenScores

__all__ = [
    "Document",
    "Figures",
    "Generation",
    "Likelihoods",
    "Question",
    "Task",
    "choice",
    "contexts_choice",
]

Figures = dict[str, "float | list[float]"]


@dataclass(frozen=True)
class Question:
    """What tasks are read with."""

    folder: Path
    """Where the data lie."""
    shots: int
    """Examples with their answers before each question."""


@dataclass(frozen=True)
class Likelihoods:
    """Pairs of context and continuation; `grade` is given their scores in order."""

    pairs: tuple[tuple[str, str], ...]
    grade: Callable[[Sequence[TokenScores]], Figures]
    group: str = ""
    """The part of the task that the document belongs to (a subject), each of which a limit counts for."""


@dataclass(frozen=True)
class Generation:
    """A prompt; `grade` is given the text up to the first of `until`, greedily generated."""

    prompt: str
    until: tuple[str, ...]
    grade: Callable[[str], Figures]
    max_tokens: int = 256
    chat_until: tuple[str, ...] | None = None
    """Stops where the prompt goes through a chat template; None for the same."""
    group: str = ""


Document = Likelihoods | Generation


@dataclass(frozen=True)
class Task:
    """One task.

    Args:
        name: as lm-eval names it.
        title: as people name it.
        read: its documents, in the order of the data.
        main: the figure that is usually published.
        shots: examples before each question, unless somebody asks for another number; `max_shots` at most.
        runs_code: whether grading runs programs that the model wrote.
        note: what a reader of the figures should know.
    """

    name: str
    title: str
    read: Callable[[Question], Iterator[Document]]
    main: str
    shots: int = 0
    max_shots: int = 0
    runs_code: bool = False
    note: str = ""
    exponentiated: frozenset[str] = field(default_factory=frozenset)
    """Figures that are exp of the mean, as perplexity is, and not the mean."""


def choice(
    context: str, answers: Sequence[str], gold: int, *, normalized: bool = True, group: str = ""
) -> Likelihoods:
    """Ask which of several answers is the likeliest after a context and a space.

    `acc` compares log probabilities, `acc_norm` divides them by the characters of the answers first.
    """
    pairs = tuple((context, f" {answer}") for answer in answers)
    return Likelihoods(pairs, _choice_grade([len(answer) for answer in answers], gold, normalized), group)


def _choice_grade(
    lengths: Sequence[int], gold: int, normalized: bool
) -> Callable[[Sequence[TokenScores]], Figures]:
    def grade(scores: Sequence[TokenScores]) -> Figures:
        totals = np.array([one.total for one in scores])
        figures: Figures = {"acc": float(totals.argmax() == gold)}
        if normalized:
            with np.errstate(divide="ignore", invalid="ignore"):  # an empty answer has no characters
                figures["acc_norm"] = float((totals / np.array(lengths, float)).argmax() == gold)
        return figures

    return grade


def contexts_choice(contexts: Sequence[str], continuation: str, gold: int) -> Likelihoods:
    """Ask after which of several contexts a continuation is the likeliest."""
    pairs = tuple((context, f" {continuation}") for context in contexts)
    return Likelihoods(pairs, _choice_grade([1] * len(contexts), gold, normalized=False))
