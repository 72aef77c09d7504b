"""lm-eval's own tasks over data at hand: its prompts and metrics, our files, no network.

Each task is a file that includes the task's definition inside the installed lm-eval and only says where the
data are: rows in the form of the Hugging Face Hub, written as JSON lines beside it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import lm_eval

from tercet.errors import ParameterError
from tercet.evaluation.tasks.choices import mmlu_rows, winogrande_rows
from tercet.evaluation.tasks.rows import Row, find_data, read_rows

__all__ = ["HARNESS_TASKS", "write_tasks"]

Rows = Iterable[dict[str, Any]]


def _plain(*stems: str) -> Any:
    return lambda folder: (row.values for row in read_rows(find_data(folder, stems)))


def _arc(stem: str) -> Any:
    def rows(folder: Path) -> Iterator[dict[str, Any]]:
        for row in read_rows(find_data(folder, [stem])):
            if isinstance(row.get("choices"), dict):
                yield {name: row.get(name) for name in ("question", "choices", "answerKey")}
                continue
            answers = row.texts("choices")
            labels = list("ABCDEFGH"[: len(answers)])
            yield {
                "question": row.text("question", "query").removeprefix("Question: "),
                "choices": {"text": answers, "label": labels},
                "answerKey": labels[row.index(len(answers), "gold", "label")],
            }

    return rows


def _boolq(folder: Path) -> Rows:
    for row in read_rows(find_data(folder, ["boolq"])):
        yield {
            "passage": row.text("passage"),
            "question": row.text("question"),
            "label": row.index(2, "label", "answer"),
        }


def _hellaswag(folder: Path) -> Rows:
    for row in read_rows(find_data(folder, ["hellaswag"])):
        yield {**row.values, "label": str(row.get("label"))}


HARNESS_TASKS: dict[str, tuple[str, Any]] = {
    "arc_challenge": ("arc/arc_challenge.yaml", _arc("arc_challenge")),
    "arc_easy": ("arc/arc_easy.yaml", _arc("arc_easy")),
    "boolq": ("super_glue/boolq/default.yaml", _boolq),
    "hellaswag": ("hellaswag/hellaswag.yaml", _hellaswag),
    "piqa": ("piqa/piqa.yaml", _plain("piqa")),
    "winogrande": ("winogrande/default.yaml", winogrande_rows),
    "lambada_openai": ("lambada/lambada_openai.yaml", _plain("lambada")),
    "gsm8k_cot": ("gsm8k/gsm8k-cot.yaml", _plain("gsm8k")),
    "hendrycks_math500": ("hendrycks_math/hendrycks_math500.yaml", _plain("math500", "math-500")),
    "minerva_math500": ("minerva_math/minerva_math500.yaml", _plain("math500", "math-500")),
    "ifeval": ("ifeval/ifeval.yaml", _plain("ifeval")),
    "mmlu": ("mmlu/default/mmlu_{}.yaml", None),
}
"""Definition inside lm-eval, and where its rows come from. minerva_math500 and ifeval need what
`pip install 'lm-eval[math,ifeval]'` brings. humaneval is not here: it fetches its grader when it starts."""


def write_tasks(names: Iterable[str], data: Path, folder: Path) -> list[str]:
    """Write the definitions of tasks, and their data, into a folder.

    Returns:
        the names that lm-eval knows them by: MMLU is one for each subject.

    Raises:
        ParameterError: a task is not among those that are known.
        ModelNotFoundError, FormatError: the data are not there, or not in a form that is read.
    """
    written = []
    for name in names:
        if name not in HARNESS_TASKS:
            raise ParameterError(
                f"lm-eval's {name!r} is not set up here; there are {', '.join(HARNESS_TASKS)}"
            )
        definition, rows = HARNESS_TASKS[name]
        if name == "mmlu":
            for subject, splits in mmlu_rows(data).items():
                subject_name = f"mmlu_{subject.replace(' ', '_')}"
                files = {
                    split: _write_rows(folder / f"{subject_name}_{split}.jsonl", map(_mmlu, found))
                    for split, found in splits.items()
                }
                own = Path(definition.format(subject.replace(" ", "_")))
                written.append(_write_task(folder, subject_name, own, files, subject))
        else:
            file = _write_rows(folder / f"{name}.jsonl", rows(data))
            written.append(_write_task(folder, name, Path(definition), {"test": file}))
    return written


def _mmlu(row: Row) -> dict[str, Any]:
    choices = [row.values.get(f"choice{index}") or "" for index in range(4)]
    return {"question": row.text("question"), "choices": choices, "answer": row.index(4, "answer")}


def _write_rows(path: Path, rows: Rows) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def _write_task(
    folder: Path, name: str, definition: Path, files: Mapping[str, str], subject: str | None = None
) -> str:
    own = Path(lm_eval.__file__).parent / "tasks" / definition
    if not own.exists() and subject is not None:  # a subject of one's own
        own = own.with_name("_default_template_yaml")
    settings: dict[str, Any] = {
        "include": str(own),
        "task": name,
        "dataset_path": "json",
        "dataset_name": None,
        "dataset_kwargs": {"data_files": dict(files), "cache_dir": str(folder / "cache")},
        "training_split": None,
        "validation_split": None,
        "test_split": "test",
    }
    if subject is not None:
        head = "The following are multiple choice questions (with answers) about"
        settings["description"] = f"{head} {subject}.\n\n"
    (folder / f"{name}.yaml").write_text(json.dumps(settings))  # JSON is YAML
    return name
