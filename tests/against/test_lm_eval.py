"""lm-eval's own tasks, run by lm-eval over our engine without a network: the figures of the native runner."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import evaluation_samples as samples

pytest.importorskip("lm_eval")

from tercet.errors import ParameterError
from tercet.evaluation.harness.local_tasks import write_tasks
from tercet.evaluation.harness.model import HarnessModel
from tercet.evaluation.harness.running import run_harness
from tercet.evaluation.running import TaskSettings, run_task
from tercet.evaluation.scoring import score
from tercet.evaluation.tasks import TASKS
from tercet.evaluation.tasks.task import Generation, Likelihoods, Question
from tercet.llm import LLM

CHOICES = ("arc_challenge", "arc_easy", "boolq", "hellaswag", "piqa", "winogrande", "lambada_openai")
FIGURES = {
    "strict_match": "exact_match,strict-match",
    "flexible_extract": "exact_match,flexible-extract",
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return samples.write_samples(tmp_path_factory.mktemp("evaluation") / "data")


@pytest.fixture(scope="module")
def llm(tiny_model_file: Path) -> Any:
    with LLM(tiny_model_file, threads=1) as opened:
        yield opened


# Python says so when it first compiles one of lm-eval's files.
@pytest.mark.filterwarnings("ignore:invalid escape sequence:DeprecationWarning")
def test_figures_are_those_of_the_native_runner(
    llm: LLM, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any) -> None:
        raise AssertionError("lm-eval asked for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    tasks = (*CHOICES, "gsm8k_cot", "hendrycks_math500", "mmlu")
    harness = run_harness(llm, tasks, data)
    shots = {"mmlu": 0}
    native = {name: run_task(llm, TASKS[name], TaskSettings(data, shots=shots.get(name))) for name in tasks}
    for name in tasks[:-1]:
        for figure, value in native[name].figures.items():
            theirs = harness["results"][name][FIGURES.get(figure, f"{figure},none")]
            assert theirs == pytest.approx(value.value, rel=1e-12), (name, figure)
    for subject in ("kitchen science", "simple sums"):
        ours = [one.figures["acc"] for one in native["mmlu"].documents if one.group == subject]
        theirs = harness["results"][f"mmlu_{subject.replace(' ', '_')}"]["acc,none"]
        assert theirs == pytest.approx(np.mean(ours))


def test_examples_before_a_question_are_the_same(llm: LLM, data: Path) -> None:
    asked = run_harness(llm, ["mmlu"], data, shots=5)["samples"]["mmlu_simple_sums"][0]["arguments"]
    document = list(TASKS["mmlu"].read(Question(data, 5)))[3]
    assert isinstance(document, Likelihoods)
    assert [tuple(one) for one in asked] == list(document.pairs)


REPLIES = [
    " The answer is 7.", "The answer is $7.", "#### 7", "It is 7, or 8.", "-7", "The answer is 7,000.00.",
    "seven", "12. The answer is .", " 1,2 . The answer is 7 apples",
]  # fmt: skip


def test_replies_are_graded_the_same(llm: LLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = ["#### 7,000.00", "#### 7"] * len(REPLIES)
    rows = [{"question": f"{n}?", "answer": answer} for n, answer in enumerate(answers)]
    samples.write_rows(tmp_path / "gsm8k.jsonl", rows)
    replies = [reply for reply in REPLIES for _ in range(2)]
    monkeypatch.setattr(HarnessModel, "generate_until", lambda self, requests, **other: replies)
    theirs = run_harness(llm, ["gsm8k_cot"], tmp_path)["samples"]["gsm8k_cot"]
    documents = list(TASKS["gsm8k_cot"].read(Question(tmp_path, 8)))
    for number, (document, reply) in enumerate(zip(documents, replies, strict=True)):
        assert isinstance(document, Generation)
        found = {one["filter"]: one["exact_match"] for one in theirs if one["doc_id"] == number}
        strict, flexible = document.grade(reply).values()
        assert (found["strict-match"], found["flexible-extract"]) == (strict, flexible), reply


class Request:
    def __init__(self, *args: Any) -> None:
        self.args = args


def test_a_whole_text_is_scored_in_windows_that_do_not_overlap(llm: LLM) -> None:
    text = "one two three " * 40
    ids = llm.tokenize(text)
    assert len(ids) > llm.max_context
    (found,) = HarnessModel(llm).loglikelihood_rolling([Request(text)])
    bos, size = llm.config.first_token_id, llm.max_context
    assert bos is not None
    windows = [[bos, *ids[:size]]]
    for begin in range(size, len(ids), size):
        end = min(begin + size, len(ids))
        windows.append(ids[max(end - size - 1, 0) : end])
    expected = 0.0
    for number, scores in enumerate(score(llm, windows)):
        new = (
            len(scores.log_probabilities)
            if number < len(windows) - 1
            else len(ids) - size * (len(windows) - 1)
        )
        expected += float(scores.log_probabilities[-new:].sum())
    assert found == pytest.approx(expected, rel=1e-9)


def test_answers_end_at_a_stop_and_come_in_order(llm: LLM) -> None:
    model = HarnessModel(llm)
    plain = [llm.generate(prompt, temperature=0, max_tokens=8).text for prompt in ("one", "two")]
    settings = {"until": [], "do_sample": False, "max_gen_toks": 8}
    assert model.generate_until([Request("one", settings), Request("two", dict(settings))]) == plain
    stop = plain[0][2:4]
    (cut,) = model.generate_until([Request("one", {"until": stop, "max_gen_toks": 8, "temperature": 0.0})])
    assert cut == plain[0].split(stop)[0]
    with pytest.raises(ParameterError, match="a task asks for num_beams"):
        model.generate_until([Request("one", {"until": [], "num_beams": 4})])


def test_conversations_keep_their_control_tokens(llm: LLM) -> None:
    model, history = HarnessModel(llm), [{"role": "user", "content": "one two"}]
    text = model.apply_chat_template(history)
    ids = llm.chat_tokens(history)
    context, continuation = model._encode_pair(text, " three")
    assert (context, continuation) == (ids, llm.tokenize(" three"))
    answer = llm.chat(history, temperature=0, max_tokens=6, repetition_penalty=1.0).text
    assert model.generate_until([Request(text, {"until": [], "max_gen_toks": 6})]) == [answer]


def test_unknown_tasks_are_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="'squad' is not set up here; there are arc_challenge"):
        write_tasks(["squad"], data, tmp_path)
