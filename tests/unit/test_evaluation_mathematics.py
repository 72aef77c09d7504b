"""Answers to problems: found in text, and compared by the published rules."""

from __future__ import annotations

from pathlib import Path

import pytest

import evaluation_samples as samples
from tercet.errors import FormatError
from tercet.evaluation.tasks import TASKS
from tercet.evaluation.tasks.latex_answers import (
    boxed_answer,
    hendrycks_equal,
    minerva_answer,
    minerva_equal,
    normalized_minerva,
)
from tercet.evaluation.tasks.task import Generation, Question


def documents(task: str, folder: Path, shots: int) -> list[Generation]:
    found = list(TASKS[task].read(Question(folder, shots)))
    assert all(isinstance(one, Generation) for one in found)
    return found  # type: ignore[return-value]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return samples.write_samples(tmp_path_factory.mktemp("evaluation") / "data")


def test_gsm8k_reads_the_stated_answer_and_the_last_number(data: Path) -> None:
    first, second = documents("gsm8k_cot", data, shots=1)
    assert first.prompt.count("\nA:") == 2
    assert first.prompt.endswith("\n\nQ: Ann has 3 apples and buys 4 more. How many has she?\nA:")
    assert first.grade(" 3 + 4 = 7. The answer is 7.") == {"strict_match": 1.0, "flexible_extract": 1.0}
    assert first.grade("The answer is 8. No, 7") == {"strict_match": 0.0, "flexible_extract": 1.0}
    assert first.grade("seven") == {"strict_match": 0.0, "flexible_extract": 0.0}
    assert second.grade("The answer is 2,400.") == {"strict_match": 1.0, "flexible_extract": 1.0}
    assert second.grade("It is $2400.") == {"strict_match": 0.0, "flexible_extract": 1.0}


def test_math_reads_the_final_answer_or_what_stands_between_dollars(data: Path) -> None:
    _, half = documents("minerva_math500", data, shots=4)
    assert half.prompt.count("Problem:\n") == 5
    said = " Final Answer: The final answer is ${}$. I hope it is correct."
    for answer, share in (("\\frac14", 1.0), ("0.25", 1.0), ("1/4", 1.0), ("4", 0.0)):
        assert half.grade(said.format(answer)) == {"exact_match": share}
    assert half.grade("one fourth") == {"exact_match": 0.0}
    _, plain = documents("hendrycks_math500", data, shots=0)
    assert plain.grade("It is $1/4$.") == plain.grade("\\frac{1}{4}") == {"exact_match": 1.0}
    assert plain.grade("It is $0.25$.") == {"exact_match": 0.0}


def test_a_solution_without_an_answer_is_refused(tmp_path: Path) -> None:
    samples.write_rows(tmp_path / "math500.jsonl", [{"problem": "x", "solution": "y"}])
    with pytest.raises(FormatError, match=r"line 1: the solution has no \\boxed answer"):
        documents("minerva_math500", tmp_path, shots=0)


@pytest.mark.parametrize(
    ("solution", "answer"),
    [
        ("\\boxed{1} and \\boxed{\\frac{1}{2}}.", "\\frac{1}{2}"),
        ("$\\boxed 7$ it is", "7"),
        ("\\fbox{x}", "x"),
        ("\\boxed{1", None),
        ("nothing", None),
    ],
)
def test_boxes(solution: str, answer: str | None) -> None:
    assert boxed_answer(solution) == answer


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("\\dfrac12", "\\frac{1}{2}", True),
        ("0.5", "1/2", True),
        (".5", "0.5", True),
        ("x=3", "3", True),
        ("\\sqrt3", "\\sqrt{3}", True),
        ("12\\text{ cm}", "12", True),
        ("x/y", "x / y", False),  # the rules give up, and compare as it stands
        ("\\frac", "\\frac", True),
        ("1", "2", False),
    ],
)
def test_hendrycks(one: str, other: str, same: bool) -> None:
    assert hendrycks_equal(one, other) is same


def test_minerva_normalizes() -> None:
    assert normalized_minerva("x = 1,000 dollars") == "1000"
    assert normalized_minerva("\\left(0,1\\right)") == "\\left(0,1\\right)"
    assert normalized_minerva("\\text{Tom}") == "Tom"
    assert minerva_answer("no") == "[invalidanswer]"
    assert minerva_equal("-\\frac{1}{2}", "-0.5")
    assert not minerva_equal("\\frac{1}{0}", "0")
    assert not minerva_equal("x+1", "1+x")  # lm-eval asks SymPy
