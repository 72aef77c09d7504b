"""`tercet eval tasks`, `lm-eval` and `--compare` in processes of their own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import evaluation_samples as samples
from program import assert_refused, tercet
from tercet.cli.comparison import compare_two
from tercet.errors import ParameterError
from tercet.evaluation.tasks import TASKS


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return samples.write_samples(tmp_path_factory.mktemp("evaluation") / "data")


def test_all_tasks_are_run_and_two_reports_compared(
    tiny_model_file: Path, data: Path, tmp_path: Path
) -> None:
    a, b = tmp_path / "a.json", tmp_path / "b.json"
    done = tercet(
        "eval", "tasks", "all", "--data", data, "--model", tiny_model_file,
        "--run-code", "--markdown", "--output", a,
    )  # fmt: skip
    assert done.status == 0, done
    tasks = {task["task"]: task for task in json.loads(a.read_text())["tasks"]}
    assert len(tasks) == len(TASKS)
    assert "| HumanEval+ | pass@1 | 0.00 | – | 38.40 | 1 | 0 |" in done.out
    report = json.loads(a.read_text())
    document = report["tasks"][0]["documents"][0]
    document["figures"]["acc"] = 1.0 - document["figures"]["acc"]
    b.write_text(json.dumps({**report, "model": "other"}))
    compared = tercet("eval", "--compare", a, b, "--json")
    assert compared.status == 0, compared
    first = compared.data["differences"][0]
    assert (first["task"], first["figure"]) == ("arc_challenge", "acc")
    assert abs(first["difference"]) == pytest.approx(0.2)
    assert first["low"] <= 0 <= first["high"]
    assert compared.data["agreement"] is None


def test_two_models_are_compared_on_a_text(tiny_model_file: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("Once upon a time there was a dog.")
    done = tercet("eval", "--compare", tiny_model_file, tiny_model_file, "--text", tmp_path / "text.txt")
    assert done.status == 0, done
    assert "KL(A || B)       0.00000 nats\nsame first token 100.00 % of" in done.out


def test_what_is_refused(tiny_model_file: Path, data: Path) -> None:
    done = tercet("eval", "tasks", "humaneval_plus", "--data", data, "--model", tiny_model_file)
    assert_refused(done, "allow it with --run-code")
    for names, message in ((("a.json", "b"), "two reports"), (("a", "b"), "--text FILE, or on --tasks")):
        with pytest.raises(ParameterError, match=message):
            compare_two(names, None, None, None, None, None, False)
    with pytest.raises(ParameterError, match="--tasks needs --data"):
        compare_two(("a", "b"), None, "piqa", None, None, None, False)
