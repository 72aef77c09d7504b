"""Reports: written and read, shown beside published figures, and compared; agreement of two models."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import evaluation_samples as samples
from tercet.errors import FormatError, ModelNotFoundError, ParameterError
from tercet.evaluation.agreement import agreement_sums, measure_agreement
from tercet.evaluation.comparison import compare_reports, paired_difference
from tercet.evaluation.published import published_figures
from tercet.evaluation.results import Report, markdown, read_report, write_report
from tercet.evaluation.running import TaskSettings, run_tasks
from tercet.evaluation.tasks import find_tasks
from tercet.llm import LLM


@pytest.fixture(scope="module")
def llm(tiny_model_file: Path) -> Iterator[LLM]:
    with LLM(tiny_model_file, threads=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def report(llm: LLM, tmp_path_factory: pytest.TempPathFactory) -> Report:
    data = samples.write_samples(tmp_path_factory.mktemp("evaluation") / "data")
    return run_tasks(llm, find_tasks("boolq,lambada_openai,ifeval"), TaskSettings(data))


def test_a_report_comes_back(report: Report, tmp_path: Path) -> None:
    write_report(report, tmp_path / "a.json")
    again = read_report(tmp_path / "a.json")
    assert again.to_dict() == report.to_dict()
    assert again.tasks[2].documents[1].reply == report.tasks[2].documents[1].reply
    assert all(difference.difference == 0 for difference in compare_reports(report, again))


def test_what_is_no_report(tmp_path: Path, report: Report) -> None:
    with pytest.raises(ModelNotFoundError, match="there is no file"):
        read_report(tmp_path / "none.json")
    for content in ("{", "[]", "{}", '{"tercet_evaluation": 1}'):
        (tmp_path / "x.json").write_text(content)
        with pytest.raises(FormatError, match="is not a report of `tercet eval tasks`"):
            read_report(tmp_path / "x.json")
    (tmp_path / "x.json").write_text(json.dumps({**report.to_dict(), "tercet_evaluation": 2}))
    with pytest.raises(FormatError, match="is version 2, this program reads 1"):
        read_report(tmp_path / "x.json")


def test_the_page_stands_beside_published_figures(report: Report) -> None:
    page = markdown(dataclasses.replace(report, published={"boolq": 12.5}), {"boolq": "BoolQ"})
    (boolq,) = (line for line in page.split("\n") if line.startswith("| BoolQ"))
    assert [cell.strip() for cell in boolq.split("|")[4:6]] == ["12.50", "80.18"]
    assert "were longer than the context" in page
    assert published_figures("models/bitnet-b1.58-2B-4T-gguf")["gsm8k_cot"] == 58.38
    assert published_figures("llama") == {}


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(3)
    hits = 0
    for trial in range(60):
        easy = rng.random(80) < 0.5  # what both get right: the pairs are not independent
        a, b = ((easy | (rng.random(80) < chance)).astype(float) for chance in (0.2, 0.4))
        found = paired_difference([[x] for x in a], [[x] for x in b], seed=trial, resamples=1000)
        assert found[2] == pytest.approx(b.mean() - a.mean())
        hits += found[3] <= 0.1 <= found[4]
    assert hits >= 51  # of 60, 57 expected; fewer than 51 in one of 200 times


def test_documents_with_several_values_weigh_by_them() -> None:
    a, b, difference, low, high = paired_difference([[1, 1, 1], [0]], [[0, 0, 0], [0]])
    assert (a, b, difference) == (0.75, 0.0, -0.75)
    assert low == -1.0
    assert high <= 0
    nats = paired_difference([[1.0], [2.0]], [[1.0], [2.0]], np.exp)
    assert nats[0] == pytest.approx(math.exp(1.5))


def test_reports_that_do_not_fit_together(report: Report) -> None:
    boolq, lambada, _ = report.tasks
    with pytest.raises(ParameterError, match="no task in common: boolq and lambada_openai"):
        compare_reports(
            dataclasses.replace(report, tasks=(boolq,)), dataclasses.replace(report, tasks=(lambada,))
        )
    other = dataclasses.replace(boolq, shots=2)
    with pytest.raises(ParameterError, match="run with shots 0 and 2"):
        compare_reports(report, dataclasses.replace(report, tasks=(other,)))
    fewer = dataclasses.replace(boolq, documents=boolq.documents[:-1])
    with pytest.raises(ParameterError, match="over other documents: 3 and 2"):
        compare_reports(report, dataclasses.replace(report, tasks=(fewer,)))


def test_agreement_by_hand() -> None:
    p, q = np.array([[0.5, 0.25, 0.25]], np.float32), np.array([[0.25, 0.5, 0.25]], np.float32)
    found = agreement_sums(np.log(p), np.log(q) + 3, [0])
    assert found == pytest.approx([math.log(2), math.log(4), 0.25 * math.log(2), 0], rel=1e-6)


def test_a_model_agrees_with_itself(llm: LLM) -> None:
    found = measure_agreement(llm, llm, ["one two three " * 20, "", "two"], window=16)
    assert (found.kl, found.same_top, found.nats_difference) == (0.0, 1.0, 0.0)
    assert found.tokens == sum(len(llm.tokenize(text)) for text in ("one two three " * 20, "two"))
    with pytest.raises(ParameterError, match="no text to compare on"):
        measure_agreement(llm, llm, [""])
    with pytest.raises(ParameterError, match="window must be from 2"):
        measure_agreement(llm, llm, ["x"], window=llm.max_context + 1)


def test_other_vocabularies_are_refused(llm: LLM, shipped_model: Path) -> None:
    with LLM(shipped_model, threads=1) as other, pytest.raises(ParameterError, match="different tokens"):
        measure_agreement(llm, other, ["one two"])
