"""IFEval: does the model do what it was told? (Zhou et al. 2023), graded as lm-eval's ifeval."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from tercet.errors import FormatError
from tercet.evaluation.tasks.instructions import Arguments, follows, follows_loosely
from tercet.evaluation.tasks.rows import Row, find_data, read_rows
from tercet.evaluation.tasks.task import Document, Figures, Generation, Question, Task

__all__ = ["IFEVAL_TASKS"]


def read_ifeval(question: Question) -> Iterator[Document]:
    """Yield the documents of IFEval."""
    for row in read_rows(find_data(question.folder, ["ifeval"])):
        yield Generation(row.text("prompt"), (), _grade(row), max_tokens=1280)


def _grade(row: Row) -> Callable[[str], Figures]:
    names = row.texts("instruction_id_list")
    arguments: Sequence[Arguments] = row.get("kwargs")
    if not isinstance(arguments, list) or len(arguments) != len(names):
        raise FormatError(f"{row.where}: kwargs is not a list of one object for each instruction")
    told = [
        (name, {key: value for key, value in one.items() if value})  # files name arguments of others, too
        for name, one in zip(names, arguments, strict=True)
    ]

    def grade(reply: str) -> Figures:
        strict = [float(follows(name, reply, one)) for name, one in told]
        loose = [float(follows_loosely(name, reply, one)) for name, one in told]
        return {
            "prompt_level_strict_acc": min(strict),
            "inst_level_strict_acc": strict,
            "prompt_level_loose_acc": min(loose),
            "inst_level_loose_acc": loose,
        }

    return grade


IFEVAL_TASKS = (Task("ifeval", "IFEval", read_ifeval, "prompt_level_strict_acc"),)
