"""Programs of models: what the sandbox lets through, and how a completion is checked."""

from __future__ import annotations

import time

import pytest

import evaluation_samples as samples
from tercet.evaluation.sandbox import run_program
from tercet.evaluation.tasks.code import checking_program, program_of
from tercet.evaluation.tasks.rows import Row

FENCE = "`" * 3


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import socket; socket.socket()", "may not use socket"),
        ("open('/etc/passwd')", "may not open '/etc/passwd'"),
        ("open('../mine', 'w')", "may not open '../mine'"),
        ("import os; os.fork()", "may not use os.fork"),
        ("x = [0] * 10**10", "MemoryError"),
    ],
)
def test_what_a_program_may_not_do(source: str, message: str) -> None:
    outcome = run_program(source)
    assert not outcome.completed
    assert message in outcome.message


def test_what_a_program_may_do() -> None:
    outcome = run_program(
        "import math, re\nreach('a')\nopen('x', 'w').write('y')\nassert open('x').read() == 'y'"
    )
    assert (outcome.completed, outcome.reached) == (True, ("a",))


def test_who_leaves_early_has_not_passed() -> None:
    assert not run_program("print('END'); import os; os._exit(0)").completed


def test_time_runs_out() -> None:
    begin = time.monotonic()
    outcome = run_program("while True: pass", seconds=0.5)
    assert (outcome.completed, outcome.message) == (False, "ended after 0.5 s")
    assert time.monotonic() - begin < 20


def test_completions_are_compared_with_the_right_solution() -> None:
    row = Row("here", samples.HUMANEVAL[0])
    assert run_program(checking_program(row, "    return x + x\n")).completed
    only_base = run_program(checking_program(row, "    return 4\n"))
    assert (only_base.completed, only_base.reached) == (False, ("base",))
    assert run_program(checking_program(row, "    return 5\n")).reached == ()


def test_a_program_is_found_in_prose() -> None:
    block = "def f():\n    return 1\n"
    assert program_of(f"Sure:\n{FENCE}python\n{block}{FENCE}\nand {FENCE}x{FENCE}") == "\n" + block
    assert program_of("    return 1\n" + FENCE) == "    return 1\n"
    assert program_of("    return 1\n") == "    return 1\n"
