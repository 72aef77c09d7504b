"""Tasks that choose: what they ask, how they grade, which data they refuse."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

import evaluation_samples as samples
from tercet.errors import FormatError, ModelNotFoundError, ParameterError
from tercet.evaluation.results import DocumentResult
from tercet.evaluation.running import TaskSettings, run_task, run_tasks, summarize
from tercet.evaluation.scoring import TokenScores
from tercet.evaluation.tasks import TASKS, find_tasks
from tercet.evaluation.tasks.task import Document, Likelihoods, Question
from tercet.llm import LLM


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return samples.write_samples(tmp_path_factory.mktemp("evaluation") / "data")


def documents(task: str, folder: Path, shots: int = 0) -> list[Document]:
    return list(TASKS[task].read(Question(folder, shots)))


def scores(*totals: float) -> list[TokenScores]:
    return [TokenScores(np.array([total]), np.array([False])) for total in totals]


def pairs(document: Document) -> tuple[tuple[str, str], ...]:
    assert isinstance(document, Likelihoods)
    return document.pairs


def test_arc_asks_the_same_in_both_formats(data: Path) -> None:
    hub, queries = documents("arc_challenge", data), documents("arc_easy", data)
    assert [pairs(one) for one in hub] == [pairs(one) for one in queries]
    assert pairs(hub[0])[1] == (
        "Question: Which of these gives light to the Earth by day?\nAnswer:",
        " the Sun",
    )


def test_grades_compare_likelihoods_with_and_without_length(data: Path) -> None:
    (first, second, *_), grades = documents("arc_easy", data), {"acc": 1.0, "acc_norm": 1.0}
    assert isinstance(first, Likelihoods)
    assert first.grade(scores(-5, -4, -6, -7)) == grades
    assert first.grade(scores(-5, -6.5, -6, -7)) == {"acc": 0.0, "acc_norm": 0.0}
    assert isinstance(second, Likelihoods)  # "glass" and "water" are as long; "light" is the likeliest at -3
    assert second.grade(scores(-3, -3, -4, -4)) == grades  # of equals the first


def test_winogrande_is_the_same_end_behind_two_beginnings(data: Path, tmp_path: Path) -> None:
    samples.write_rows(tmp_path / "winogrande.jsonl", samples.WINOGRANDE_HUB)
    one, *_ = documents("winogrande", data)
    assert pairs(one) == pairs(documents("winogrande", tmp_path)[0])
    assert pairs(one)[1] == ("The cup did not fit the box because the box", " was too large.")


def test_hellaswag_loses_its_brackets(data: Path) -> None:
    context, answer = pairs(documents("hellaswag", data)[1])[0]
    assert context == "How to plant a tree: How to plant a tree. Dig a hole. It should be wide."
    assert answer == "  Burn it."  # as lm-eval leaves it
    assert pairs(documents("hellaswag", data)[0])[2][1] == " sings to a tree."


def test_mmlu_shows_examples_of_the_subject(data: Path) -> None:
    found = documents("mmlu", data, shots=2)
    assert [one.group for one in found] == ["kitchen science"] * 3 + ["simple sums"] * 3
    context, answer = pairs(found[3])[1]
    assert context.startswith(
        "The following are multiple choice questions (with answers) about simple sums.\n\n"
        "0 and 1, added:\nA. 1\nB. 0\nC. 9\nD. 1,0\nAnswer: A\n\n1 and 2, added:\n"
    )
    assert context.endswith("\nAnswer:")
    assert context.count("Answer:") == 3
    assert answer == " B"


def test_an_archive_is_read_like_the_folder(data: Path, tmp_path: Path) -> None:
    import tarfile

    with tarfile.open(tmp_path / "mmlu.tar.xz", "w:xz") as archive:
        archive.add(data / "mmlu", "mmlu")
    asked = [pairs(one) for one in documents("mmlu", tmp_path, shots=5)]
    assert asked == [pairs(one) for one in documents("mmlu", data, shots=5)]


def test_a_run_counts_every_document(tiny_model_file: Path, data: Path) -> None:
    with LLM(tiny_model_file, threads=1) as llm:
        report = run_tasks(llm, find_tasks("arc_easy,lambada_openai"), TaskSettings(data))
        arc, lambada = report.tasks
        limited = run_task(llm, TASKS["mmlu"], TaskSettings(data, limit=1, shots=1))
        totals = [[llm_total(llm, *pair) for pair in pairs(one)] for one in documents("arc_easy", data)]
    golds = [gold for _, _, gold in samples.ARC]
    expected = [float(np.argmax(one) == gold) for one, gold in zip(totals, golds, strict=True)]
    assert [one.figures["acc"] for one in arc.documents] == expected
    assert arc.figures["acc"].value == pytest.approx(np.mean(expected))
    assert arc.figures["acc"].error == pytest.approx(np.std(expected, ddof=1) / math.sqrt(5))
    nats = [one.figures["perplexity"] for one in lambada.documents]
    assert lambada.figures["perplexity"].value == pytest.approx(math.exp(np.mean(nats)))
    assert [one.group for one in limited.documents] == ["kitchen science", "simple sums"]
    assert limited.num_cut == 2  # the context of the tiny model is short


def llm_total(llm: LLM, context: str, continuation: str) -> float:
    before, ids = llm.prompt_tokens(context), llm.prompt_tokens(context + continuation)
    ids = ids[-llm.max_context - 1 :]
    logits = llm.logits(ids[:-1]).astype(np.float64)
    logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    count = len(llm.prompt_tokens(context + continuation)) - len(before)
    return float(sum(logs[len(ids) - 1 - k, ids[len(ids) - k]] for k in range(1, count + 1)))


def test_one_document_has_no_error() -> None:
    figure = summarize([DocumentResult(0, "", {"acc": 1.0}, None, False)], TASKS["boolq"])["acc"]
    assert (figure.value, figure.count) == (1.0, 1)
    assert math.isnan(figure.error)


@pytest.mark.parametrize(
    ("task", "row", "message"),
    [
        ("arc_easy", {"query": "x", "choices": ["a"], "gold": 1}, "gold is 1, and there are 1 answers"),
        ("arc_easy", {"query": "x", "gold": 1}, "line 1 has no field 'choices'; it has query, gold"),
        (
            "arc_easy",
            {"query": "x", "choices": {"text": ["a"], "label": ["A"]}, "answerKey": "B"},
            "labels A",
        ),
        ("boolq", {"passage": 3, "question": "x", "answer": True}, "passage is int, not str"),
        ("piqa", {"goal": "g", "sol1": "a", "sol2": "b", "label": "x"}, "label is 'x', not a whole number"),
        ("winogrande", {"sentence": "no gap", "answer": "1"}, "has no _ to fill"),
        ("piqa", [1], "is list, not an object"),
    ],
)
def test_wrong_rows_are_told_by_line(tmp_path: Path, task: str, row: object, message: str) -> None:
    samples.write_rows(tmp_path / f"{task}.jsonl", [row])  # type: ignore[list-item]
    with pytest.raises(FormatError, match=message):
        documents(task, tmp_path)


def test_wrong_folders(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="there is no folder"):
        documents("piqa", tmp_path / "none")
    with pytest.raises(ModelNotFoundError, match="has no file piqa"):
        documents("piqa", tmp_path)
    with pytest.raises(ModelNotFoundError, match="neither a folder mmlu"):
        documents("mmlu", tmp_path)
    for name in ("piqa_a.jsonl", "piqa_b.jsonl"):
        samples.write_rows(tmp_path / name, samples.PIQA)
    with pytest.raises(FormatError, match="several files for piqa"):
        documents("piqa", tmp_path)
    (tmp_path / "mmlu.tar.xz").write_bytes(b"no")
    with pytest.raises(FormatError, match="not a whole archive"):
        documents("mmlu", tmp_path)


def test_wrong_settings(tiny_model_file: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="no task 'arc'; there are arc_challenge"):
        find_tasks("arc")
    with pytest.raises(ParameterError, match="name at least one"):
        find_tasks(" ,")
    assert [task.name for task in find_tasks("piqa, boolq,piqa")] == ["piqa", "boolq"]
    (tmp_path / "piqa.jsonl").write_text("")
    with LLM(tiny_model_file, threads=1) as llm:
        with pytest.raises(ParameterError, match="mmlu has 5 examples to show, not 6"):
            run_task(llm, TASKS["mmlu"], TaskSettings(data, shots=6))
        with pytest.raises(ParameterError, match="limit must be at least 1"):
            run_task(llm, TASKS["piqa"], TaskSettings(data, limit=0))
        with pytest.raises(ParameterError, match="have no documents"):
            run_task(llm, TASKS["piqa"], TaskSettings(tmp_path))
