"""One run of lm-eval over data at hand. Nothing is fetched: definitions are lm-eval's own, data are files."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lm_eval
from lm_eval.tasks import TaskManager

from tercet.evaluation.harness.local_tasks import write_tasks
from tercet.evaluation.harness.model import HarnessModel
from tercet.llm import LLM

__all__ = ["run_harness"]


def run_harness(
    llm: LLM,
    tasks: Sequence[str],
    data: Path,
    *,
    limit: int | None = None,
    shots: int | None = None,
    chat: bool = False,
) -> dict[str, Any]:
    """Run lm-eval's tasks over the data of a folder.

    Args:
        llm: the model.
        tasks: names out of `local_tasks.HARNESS_TASKS`.
        data: where the files lie.
        limit: only the first documents of each task, of each subject of MMLU.
        shots: examples before each question; None for what the task says.
        chat: whether prompts go through the chat template.

    Returns:
        what `lm_eval.simple_evaluate` returns: "results" has the figures, "samples" every document.
    """
    with tempfile.TemporaryDirectory() as name:
        written = write_tasks(tasks, data, Path(name))
        return dict(
            lm_eval.simple_evaluate(
                model=HarnessModel(llm),
                tasks=written,
                num_fewshot=shots,
                limit=limit,
                apply_chat_template=chat,
                bootstrap_iters=0,
                task_manager=TaskManager(include_path=name, include_defaults=False),
            )
        )
