"""GSM8K and MATH-500: problems whose answers are worked out in text, then found in it.

Prompts, examples and rules are those of lm-eval 0.4: gsm8k_cot (eight worked examples; the training set of
its other GSM8K task is not needed), minerva_math500 (four worked examples) and hendrycks_math500 (none).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from functools import cache
from importlib import resources
from typing import Any

from tercet.errors import FormatError
from tercet.evaluation.tasks.latex_answers import (
    boxed_answer,
    hendrycks_equal,
    minerva_answer,
    minerva_equal,
    normalized_minerva,
)
from tercet.evaluation.tasks.rows import Row, find_data, read_rows
from tercet.evaluation.tasks.task import Document, Figures, Generation, Question, Task

__all__ = ["MATHEMATICS_TASKS"]

STRICT = re.compile(r"The answer is (\-?[0-9\.\,]+).")
ANY_NUMBER = re.compile(r"(-?[$0-9.,]{2,})|(-?[0-9]+)")
IGNORED = (",", "\\$", "(?s).*#### ", "\\.$")
MATH_FILES = ("math500", "math-500", "math_500")


@cache
def examples() -> dict[str, Any]:
    """The worked examples, by task."""
    text = resources.files(__package__).joinpath("data/examples.json").read_text("utf-8")
    return dict(json.loads(text))


def read_gsm8k(question: Question) -> Iterator[Document]:
    """Yield the documents of GSM8K (Cobbe et al. 2021) behind worked examples (Wei et al. 2022)."""
    shown = examples()["gsm8k_cot"][: question.shots]
    head = "".join(f"Q: {one['question']}\nA: {one['target']}\n\n" for one in shown)
    for row in read_rows(find_data(question.folder, ["gsm8k"])):
        gold = row.text("answer").split("####")[-1].strip()
        prompt = f"{head}Q: {row.text('question')}\nA:"
        yield Generation(prompt, ("Q:", "</s>", "<|im_end|>"), _gsm8k_grade(gold))


def _gsm8k_grade(gold: str) -> Callable[[str], Figures]:
    def grade(reply: str) -> Figures:
        strict = STRICT.findall(reply)
        numbers = [first or second for first, second in ANY_NUMBER.findall(reply)]
        return {
            "strict_match": float(bool(strict) and _bare(strict[0].strip()) == _bare(gold)),
            "flexible_extract": float(bool(numbers) and _bare(numbers[-1].strip()) == _bare(gold)),
        }

    return grade


def _bare(number: str) -> str:
    for pattern in IGNORED:
        number = re.sub(pattern, "", number)
    return number.lower()


def read_minerva(question: Question) -> Iterator[Document]:
    """Yield the documents of MATH-500 (Lightman et al. 2023) behind the examples of Minerva."""
    shown = examples()["minerva_math"][: question.shots]
    head = "".join(f"{_minerva_text(one['problem'])} {one['solution']}\n\n" for one in shown)

    def document(row: Row) -> Generation:
        gold = normalized_minerva(_gold(row))
        return Generation(
            head + _minerva_text(row.text("problem")),
            ("Problem:",),
            lambda reply: {"exact_match": float(minerva_equal(minerva_answer(reply), gold))},
        )

    for row in read_rows(find_data(question.folder, MATH_FILES)):
        yield document(row)


def _minerva_text(problem: str) -> str:
    return f"Problem:\n{problem}\n\nSolution:"


def read_hendrycks(question: Question) -> Iterator[Document]:
    """Yield the documents of MATH-500 without examples: the answer stands between dollar signs."""

    def document(row: Row) -> Generation:
        def grade(reply: str) -> Figures:
            first, last = reply.find("$"), reply.rfind("$")
            answer = reply if first == last else reply[first + 1 : last]
            return {"exact_match": float(hendrycks_equal(answer, gold))}

        gold = _gold(row)
        return Generation(f"Problem: {row.text('problem')}\nAnswer:", ("Problem:",), grade)

    for row in read_rows(find_data(question.folder, MATH_FILES)):
        yield document(row)


def _gold(row: Row) -> str:
    gold = boxed_answer(row.text("solution"))
    if gold is None:
        raise FormatError(f"{row.where}: the solution has no \\boxed answer")
    return gold


MATHEMATICS_TASKS = (
    Task("gsm8k_cot", "GSM8K", read_gsm8k, "strict_match", shots=8, max_shots=8),
    Task("minerva_math500", "MATH-500", read_minerva, "exact_match", shots=4, max_shots=4),
    Task("hendrycks_math500", "MATH-500, no examples", read_hendrycks, "exact_match"),
)
