"""HumanEval+: functions to complete, run beside a right solution (EvalPlus, Liu et al. 2023).

The prompt and its stops are those of lm-eval's humaneval_plus. A reply passes the base tests, those of
HumanEval (Chen et al. 2021), and then must return what the data set's own solution returns for every input
that EvalPlus added, to its tolerance.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

from tercet.evaluation.sandbox import run_program
from tercet.evaluation.tasks.rows import Row, find_data, read_rows
from tercet.evaluation.tasks.task import Document, Figures, Generation, Question, Task

__all__ = ["CODE_TASKS", "checking_program"]

STOPS = ("\nclass", "\ndef", "\n#", "\nif", "\nprint")
SECONDS = 30.0

_CHECK = """
import copy, json, math

SOLUTION, REFERENCE, TEST, ENTRY, INPUTS, TOLERANCE = json.loads({data!r})

def same(found, expected, tolerance):
    if found == expected:
        return True
    if not tolerance and isinstance(expected, float):
        tolerance = 1e-6
    if isinstance(expected, (list, tuple)):
        if not tolerance and expected and all(isinstance(one, float) for one in expected):
            tolerance = 1e-6
        return bool(tolerance) and type(found) is type(expected) and len(found) == len(expected) and all(
            same(a, b, tolerance) for a, b in zip(found, expected))
    if not tolerance or not isinstance(found, (int, float)) or not isinstance(expected, (int, float)):
        return False
    return math.isclose(found, expected, rel_tol=1e-7, abs_tol=tolerance)

solution, reference = {{"__name__": "solution"}}, {{"__name__": "reference"}}
exec(SOLUTION, solution)
tests = dict(solution)
exec(TEST, tests)
tests["check"](solution[ENTRY])
reach("base")
exec(REFERENCE, reference)
for inputs in INPUTS:
    found = solution[ENTRY](*copy.deepcopy(inputs))
    if ENTRY == "find_zero":  # any root is right
        assert abs(reference["poly"](*copy.deepcopy(inputs), found)) <= TOLERANCE, inputs
    else:
        assert same(found, reference[ENTRY](*copy.deepcopy(inputs)), TOLERANCE), inputs
"""


def read_human_eval(question: Question) -> Iterator[Document]:
    """Yield the documents of HumanEval+."""
    for row in read_rows(find_data(question.folder, ("humanevalplus", "humaneval_plus"))):
        # Behind a chat template the answer is prose around a program, which has such lines inside.
        yield Generation(row.text("prompt"), STOPS, _grade(row), max_tokens=1024, chat_until=())


def _grade(row: Row) -> Callable[[str], Figures]:
    def grade(reply: str) -> Figures:
        outcome = run_program(checking_program(row, reply), SECONDS)
        return {"pass@1": float(outcome.completed), "base_pass@1": float("base" in outcome.reached)}

    return grade


def checking_program(row: Row, reply: str) -> str:
    """Return a program that completes if a reply is right."""
    prompt = row.text("prompt")
    inputs = [*row.get("base_input"), *row.get("plus_input")]
    reference = prompt + row.text("canonical_solution")
    name, tolerance = row.text("entry_point"), row.get("atol")
    data = [prompt + program_of(reply), reference, row.text("test"), name, inputs, tolerance]
    return _CHECK.format(data=json.dumps(data))


def program_of(reply: str) -> str:
    """Return the program in a reply: its first block between fences, or all of it where there are none."""
    before, fence, behind = reply.partition("```")
    if not fence:
        return reply
    if not behind.strip():  # the reply is code that ends at a fence
        return before
    _, _, block = behind.partition("\n")
    return "\n" + block.partition("```")[0]


CODE_TASKS = (Task("humaneval_plus", "HumanEval+", read_human_eval, "pass@1", runs_code=True),)
