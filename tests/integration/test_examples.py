"""The programs of examples/ as their page says to start them, on the shipped model: what form they print.

What a model of 7 million parameters answers is not worth a test; that the programs run, refuse what they
should, and count honestly is.
"""

from __future__ import annotations

import csv
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PROGRAMS = ["text/best_of_several", "code/write_and_test", "maths/word_problems", "documents/sort_letters",
            "assistant/assistant"]  # fmt: skip


def run(name: str, folder: Path, *arguments: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TERCET_")}
    command = [sys.executable, "-W", "error", str(EXAMPLES / f"{name}.py"), *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, input=typed, capture_output=True, text=True, timeout=300
    )


def loaded(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(Path(name).name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_program_is_run_here_and_told_of() -> None:
    """But for those in other languages, which tests of their own compile."""
    found = {path.relative_to(EXAMPLES).with_suffix("").as_posix() for path in EXAMPLES.rglob("*.py")}
    assert found - {"batch_answers"} == set(PROGRAMS)
    guide = (EXAMPLES.parent / "docs" / "guides" / "examples.md").read_text(encoding="utf-8")
    assert not [name for name in PROGRAMS if f"examples/{name}.py" not in guide]


def test_text(tmp_path: Path) -> None:
    done = run("text/best_of_several", tmp_path, "Once upon a time", "--tries", "3", "--max-tokens", "12")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Once upon a time")
    assert re.search(r"\[best of -\d\.\d\d, -\d\.\d\d, -\d\.\d\d; seed \d+\]", done.stdout)


def test_code_is_tested_before_it_is_shown(tmp_path: Path) -> None:
    done = run("code/write_and_test", tmp_path, "--tries", "30")
    assert done.returncode == 0, done.stderr
    shown = re.findall(r"^def (\w+)\(a, b\): return (.+?)    #", done.stdout, flags=re.M)
    assert shown, done.stdout
    assert f"{len(shown)} of 3 functions pass their tests" in done.stdout
    for name, expression in shown:
        expected = {"add": 5, "smaller": 2, "left": -1}[name]
        assert eval(expression, {"__builtins__": {}}, {"a": 2, "b": 3, "min": min, "max": max}) == expected


def test_maths_counts_what_is_right(tmp_path: Path) -> None:
    done = run("maths/word_problems", tmp_path, "--tries", "3")
    assert done.returncode == 0, done.stderr
    answers = re.findall(r"alone (\d+), with a calculator (-?\d+), right (\d+)", done.stdout)
    assert len(answers) == 8
    for column, way in ((0, "alone"), (1, "with a calculator")):
        right = sum(answer[column] == answer[2] for answer in answers)
        assert f"{way}: {right} of 8 right" in done.stdout


def test_documents_become_a_table_without_holes(tmp_path: Path) -> None:
    done = run("documents/sort_letters", tmp_path, "--output", "table.csv")
    assert done.returncode == 0, done.stderr
    with (tmp_path / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["letter"] for row in rows] == ["01.txt", "02.txt", "03.txt", "04.txt"]
    assert {row["subject"] for row in rows} <= {"order", "complaint", "question", "thanks"}
    assert {row["urgent"] for row in rows} <= {"True", "False"}
    (tmp_path / "empty").mkdir()
    refused = run("documents/sort_letters", tmp_path, "empty")
    assert (refused.returncode, refused.stderr) == (1, "empty has no .txt files; give a folder that has\n")


def test_the_assistant_shows_what_it_has_read(tmp_path: Path) -> None:
    done = run("assistant/assistant", tmp_path, typed="When does the library open?\n\nxyzzy\n")
    assert done.returncode == 0, done.stderr
    shown = re.findall(r"^\[(\w+\.txt): ", done.stdout, flags=re.M)
    assert shown == ["library.txt"]  # nothing is shown where no word is shared


def test_the_assistant_forgets_the_oldest_turns_only() -> None:
    assistant = loaded("assistant/assistant")

    class Model:
        max_context = 100 + assistant.ANSWER_TOKENS

        def chat_tokens(self, messages: list[dict[str, str]]) -> list[int]:
            return [0] * sum(len(message["content"]) for message in messages)

    turns = [{"role": role, "content": "x" * 30} for role in ("user", "assistant") * 2]
    question = {"role": "user", "content": "y" * 39}
    assert assistant.fitted([*turns, question], Model()) == [*turns[2:], question]
    assert assistant.fitted([question], Model()) == [question]


@pytest.mark.parametrize(("expression", "value"), [("3 + 2", 5), ("9 - 4", 5), ("3 * 3", 9)])
def test_the_calculator(expression: str, value: int) -> None:
    assert loaded("maths/word_problems").calculate(expression) == value
