"""Running tasks: documents to the model in batches, what it says to the graders, grades to figures."""

from __future__ import annotations

import itertools
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np

from tercet.errors import ParameterError, UnsupportedModelError
from tercet.evaluation.published import published_figures
from tercet.evaluation.results import DocumentResult, Figure, Report, TaskResult
from tercet.evaluation.scoring import TokenScores, score_continuations
from tercet.evaluation.tasks.prompting import encode, encode_pair, fit_pair, fit_prompt
from tercet.evaluation.tasks.task import Document, Figures, Generation, Likelihoods, Question, Task
from tercet.llm import LLM

__all__ = ["TaskSettings", "run_task", "run_tasks", "summarize"]

DOCUMENTS_AT_A_TIME = 32


@dataclass(frozen=True)
class TaskSettings:
    """How tasks are run.

    Args:
        folder: where the data lie.
        limit: only so many documents of a task, or of each of its groups; None for all.
        shots: examples before each question; None for what the task is published with.
        chat: whether prompts are said by a user, in the model's chat template.
        runs_code: whether programs that the model writes may be run on this machine.
    """

    folder: Path
    limit: int | None = None
    shots: int | None = None
    chat: bool = False
    runs_code: bool = False


def run_task(
    llm: LLM,
    task: Task,
    settings: TaskSettings,
    progress: Callable[[int, float], None] = lambda n, so_far: None,
) -> TaskResult:
    """Run one task.

    Args:
        llm: the model.
        task: what to ask.
        settings: see there.
        progress: called with the documents so far and the mean of the main figure.

    Raises:
        ModelNotFoundError, FormatError: the data are not there, or not in one of the shapes that are read.
        ParameterError: the task cannot be run with these settings, or there is no document.
        UnsupportedModelError: chat is asked for, and the model has no chat template.
    """
    shots = _checked(llm, task, settings)
    started = time.perf_counter()
    documents = _limited(task.read(Question(settings.folder, shots)), settings.limit)
    results: list[DocumentResult] = []
    while batch := list(itertools.islice(documents, DOCUMENTS_AT_A_TIME)):
        for document, (figures, reply, is_cut) in zip(batch, _ask(llm, batch, settings.chat), strict=True):
            results.append(DocumentResult(len(results), document.group, figures, reply, is_cut))
        progress(len(results), summarize(results, task)[task.main].value)
    if not results:
        raise ParameterError(f"the data of {task.name} have no documents")
    return TaskResult(
        task=task.name,
        main=task.main,
        figures=summarize(results, task),
        shots=shots,
        limit=settings.limit,
        chat=settings.chat,
        seconds=time.perf_counter() - started,
        documents=tuple(results),
    )


def run_tasks(
    llm: LLM,
    tasks: Sequence[Task],
    settings: TaskSettings,
    progress: Callable[[str, int, float], None] = lambda task, n, so_far: None,
) -> Report:
    """Run tasks one after the other; raises what `run_task` raises, before anything is asked if it can."""
    for task in tasks:
        _checked(llm, task, settings)
    found = [run_task(llm, one, settings, partial(progress, one.name)) for one in tasks]
    return Report(llm.name, version("tercet"), tuple(found), published_figures(llm.name))


def summarize(results: Sequence[DocumentResult], task: Task) -> dict[str, Figure]:
    """Mean and standard error of each figure over the documents."""
    figures = {}
    for name in results[0].figures:
        values = np.array([value for one in results for value in _values(one.figures[name])])
        mean = float(values.mean())
        error = float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan
        if name in task.exponentiated:
            mean, error = math.exp(mean), math.exp(mean) * error  # to first order
        figures[name] = Figure(mean, error, len(values))
    return figures


def _values(figure: float | list[float]) -> list[float]:
    return figure if isinstance(figure, list) else [figure]


def _checked(llm: LLM, task: Task, settings: TaskSettings) -> int:
    if task.runs_code and not settings.runs_code:
        raise ParameterError(
            f"{task.name} runs programs that the model writes, on this machine; allow it with --run-code"
        )
    if settings.limit is not None and settings.limit < 1:
        raise ParameterError(f"limit must be at least 1, not {settings.limit}")
    if settings.chat and not llm.has_chat_template:
        raise UnsupportedModelError(f"{llm.path} has no chat template, so tasks cannot be asked as chat")
    shots = task.shots if settings.shots is None else settings.shots
    if not 0 <= shots <= task.max_shots:
        raise ParameterError(f"{task.name} has {task.max_shots} examples to show, not {shots}")
    return shots


def _limited(documents: Iterable[Document], limit: int | None) -> Iterator[Document]:
    seen: Counter[str] = Counter()
    for document in documents:
        seen[document.group] += 1
        if limit is None or seen[document.group] <= limit:
            yield document


def _ask(llm: LLM, batch: Sequence[Document], chat: bool) -> Iterator[tuple[Figures, str | None, bool]]:
    """Yield figures, the text of a generation, and whether something was cut off, for each document."""
    pairs, is_cut = [], []
    for document in batch:
        for context, continuation in document.pairs if isinstance(document, Likelihoods) else ():
            before, behind, cut = fit_pair(llm, *_pair_ids(llm, context, continuation, chat))
            pairs.append((before, behind))
            is_cut.append(cut)
    scores = zip(score_continuations(llm, pairs), is_cut, strict=True)
    replies = _generate(llm, [one for one in batch if isinstance(one, Generation)], chat)
    for document in batch:
        if isinstance(document, Likelihoods):
            found: list[tuple[TokenScores, bool]] = list(itertools.islice(scores, len(document.pairs)))
            yield document.grade([one for one, _ in found]), None, any(cut for _, cut in found)
        else:
            reply, cut = next(replies)
            yield document.grade(reply), reply, cut


def _pair_ids(llm: LLM, context: str, continuation: str, chat: bool) -> tuple[list[int], list[int]]:
    if not chat:
        return encode_pair(llm, context, continuation)
    return llm.chat_tokens([{"role": "user", "content": context}]), llm.tokenize(
        continuation.removeprefix(" ")
    )


def _generate(llm: LLM, documents: Sequence[Generation], chat: bool) -> Iterator[tuple[str, bool]]:
    prompts, is_cut, rooms, stops = [], [], [], []
    for document in documents:
        ids = (
            llm.chat_tokens([{"role": "user", "content": document.prompt}])
            if chat
            else encode(llm, document.prompt)
        )
        kept, room, cut = fit_prompt(llm, ids, document.max_tokens)
        prompts.append(kept)
        rooms.append(room)
        stops.append(document.until if not chat or document.chat_until is None else document.chat_until)
        is_cut.append(cut)
    replies: dict[int, str] = {}
    kinds = sorted(set(zip(stops, rooms, strict=True)))
    for until, room in kinds:  # one, unless tasks are mixed
        chosen = [i for i in range(len(documents)) if (stops[i], rooms[i]) == (until, room)]
        answers = llm.generate(
            [prompts[i] for i in chosen], temperature=0, repetition_penalty=1.0, max_tokens=room, stop=until
        )
        replies.update(zip(chosen, (answer.text for answer in answers), strict=True))
    return ((replies[i], is_cut[i]) for i in range(len(documents)))
