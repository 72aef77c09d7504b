"""Strategies without processes: what is counted, who is compared how, and what is chosen."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from fake_strategies import Scripted
from random_decoders import EMBEDDING, QWEN3, ROTATED, packed_model
from tercet.deployment import STRATEGIES, DeploymentSettings, GenerationRequest, Piece, Strategy, create
from tercet.deployment.agreement import Agreement, Reference
from tercet.deployment.converted import check_generates, check_memory, converted
from tercet.deployment.recommendation import USE_CASES, recommend
from tercet.deployment.selection import GOALS, select
from tercet.deployment.strategy import Generation
from tercet.deployment.transformers import folder_form
from tercet.deployment.trials import Measurement, TimeLimits
from tercet.errors import (
    ContextLengthError,
    DeadlineError,
    MemoryLimitError,
    ParameterError,
    UnavailableError,
    UnsupportedModelError,
)
from tercet.formats.matrices import PackedMatrix
from tercet.models.config import ModelConfig
from tercet.models.loading import LoadedModel, TensorInfo, load_model
from tercet.models.registry import resolve
from tercet.models.tensor_names import tensor_shapes

PROMPT = GenerationRequest("Once upon a time", 16)
MIB = 1 << 20


def scripted(*pieces: Piece) -> Scripted:
    strategy = Scripted(None, DeploymentSettings(), pieces)
    strategy.deploy()
    return strategy


# What every strategy has in common


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_keeps_the_protocol(name: str) -> None:
    strategy = create(name)
    assert isinstance(strategy, Strategy)
    assert strategy.name == name
    assert strategy.metrics().requests == 0
    assert strategy.metrics().success_rate is None
    with pytest.raises(UnavailableError):
        strategy.generate(PROMPT)
    strategy.close()
    strategy.close()


def test_no_such_strategy() -> None:
    with pytest.raises(ParameterError, match=r"'telepathy'; there are native, onnxruntime, transformers"):
        create("telepathy")


@pytest.mark.parametrize(
    "bad",
    [{"max_tokens": 0}, {"temperature": -1.0}, {"temperature": float("nan")}, {"timeout_seconds": 0.0}],
)
def test_a_request_out_of_range(bad: dict[str, float]) -> None:
    with pytest.raises(ParameterError, match=next(iter(bad))):
        dataclasses.replace(PROMPT, **bad)  # type: ignore[arg-type]


def test_settings_out_of_range() -> None:
    with pytest.raises(ParameterError, match="threads must be at least 1, not 0"):
        DeploymentSettings(threads=0)


def test_pieces_become_an_answer() -> None:
    strategy = scripted(Piece("One", (1,)), Piece(" two", (2, 3)), Piece("", (), 7, 3, "stop"))
    done = strategy.generate(PROMPT)
    assert (done.text, done.token_ids, done.finish_reason) == ("One two", (1, 2, 3), "stop")
    assert (done.prompt_tokens, done.generated_tokens) == (7, 3)
    assert done.time_to_first_token_seconds is not None
    assert 0 < done.time_to_first_token_seconds <= done.seconds
    assert list(strategy.stream(PROMPT)) == ["One", " two"]
    metrics = strategy.metrics()
    assert (metrics.requests, metrics.successful, metrics.generated_tokens) == (2, 2, 6)
    assert metrics.to_dict()["success_rate"] == 1
    assert metrics.memory_bytes is not None


def test_what_nobody_counted_is_not_known() -> None:
    done = scripted(Piece("One two")).generate(PROMPT)
    assert done.token_ids is done.generated_tokens is done.tokens_per_second is None
    assert done.time_to_first_token_seconds is None  # in one piece: nobody saw the first token alone


def test_an_answer_that_takes_too_long() -> None:
    strategy = scripted(*[Piece("a", (1,))] * 100)
    strategy.pause_seconds = 0.02
    with pytest.raises(DeadlineError, match=r"within 0\.05 seconds"):
        strategy.generate(dataclasses.replace(PROMPT, timeout_seconds=0.05))
    assert strategy.ended
    assert strategy.metrics().success_rate == 0


def test_a_stream_that_is_dropped_ends() -> None:
    strategy = scripted(*[Piece("a", (1,))] * 100)
    stream = strategy.stream(PROMPT)
    assert next(stream) == "a"
    stream.close()  # type: ignore[attr-defined]
    assert strategy.ended
    assert strategy.metrics().successful == 0


def test_a_test_reports_and_does_not_raise() -> None:
    assert scripted(Piece("Yes", (1,), 1, 1, "length")).test().success
    empty = scripted(Piece("", (), 1, 0, "stop")).test()
    assert (empty.success, empty.reason) == (False, "it answered with nothing")
    with_model = create("native", "no-such-model")
    assert not with_model.availability().available
    trial = with_model.test()
    assert not trial.success
    assert "no-such-model" in trial.reason


# The strategies that run here


@pytest.fixture(scope="module", params=["native", "onnxruntime"])
def deployed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Strategy]:
    folder = str(tmp_path_factory.getbasetemp() / "deployment")
    strategy = create(request.param, None, DeploymentSettings(threads=1, folder=folder))
    strategy.deploy()
    yield strategy
    strategy.close()


def test_the_greedy_answer(deployed: Strategy) -> None:
    first, again = deployed.generate(PROMPT), deployed.generate(PROMPT)
    assert first.text == again.text == "".join(deployed.stream(PROMPT))
    assert first.generated_tokens == len(first.token_ids or ()) == 16
    assert Reference().agreement(PROMPT, first).complete


def test_a_seed_makes_sampling_repeatable(deployed: Strategy) -> None:
    drawn = dataclasses.replace(PROMPT, temperature=1.5, seed=3)
    texts = {deployed.generate(dataclasses.replace(drawn, seed=seed)).text for seed in (3, 3, 4, 5)}
    assert len(texts) == 3


def test_a_message_goes_through_the_template(deployed: Strategy) -> None:
    message = dataclasses.replace(PROMPT, chat=True)
    answer = deployed.generate(message)
    assert (answer.prompt_tokens or 0) > (deployed.generate(PROMPT).prompt_tokens or 0)
    assert Reference().agreement(message, answer).complete


def test_a_prompt_longer_than_the_context(deployed: Strategy) -> None:
    with pytest.raises(ContextLengthError):
        deployed.generate(GenerationRequest("word " * 600, 1))
    rest = deployed.generate(GenerationRequest("a " * 500, 100))
    assert rest.finish_reason in ("length", "stop")
    assert (rest.prompt_tokens or 0) + (rest.generated_tokens or 0) <= 512


def test_a_model_that_makes_embeddings(tmp_path: Path) -> None:
    matrices = packed_model(EMBEDDING)
    model = LoadedModel(tmp_path, "random", EMBEDDING, {}, matrices, {})
    with pytest.raises(UnsupportedModelError, match="makes embeddings"):
        check_generates(model)


def stored(config: ModelConfig) -> LoadedModel:
    """A model as `load_model` would open it."""
    matrices = packed_model(config)
    infos = {
        name: TensorInfo("two_bit" if isinstance(matrix, PackedMatrix) else "f32", shape, 0, granularity)
        for (name, matrix), shape in zip(matrices.items(), tensor_shapes(config).values(), strict=True)
        for granularity in ["tensor" if isinstance(matrix, PackedMatrix) else None]
    }
    return LoadedModel(Path("random"), "random", config, infos, matrices, {})


def test_what_transformers_loads() -> None:
    config = dataclasses.replace(QWEN3, ffn_size=160)
    assert folder_form(stored(config)) == "huggingface-packed"
    assert folder_form(stored(dataclasses.replace(config, quantize_activations=False))) == "huggingface"
    with pytest.raises((UnsupportedModelError, ParameterError)):
        folder_form(stored(ROTATED))


def test_a_model_larger_than_the_memory() -> None:
    model = load_model(resolve(None))
    check_memory(model, 4, 4)
    with pytest.raises(MemoryLimitError, match="this machine has 1 MiB"):
        check_memory(model, 4, 4, memory_bytes=MIB)


def test_a_program_may_be_allowed_more_time() -> None:
    limits = TimeLimits().with_settings(DeploymentSettings(start_seconds=600, install=True))
    assert limits.deploy > 600
    assert limits.set_up == TimeLimits().install
    assert TimeLimits().with_settings(DeploymentSettings()) == TimeLimits()


def test_a_form_is_made_once_for_each_state_of_the_model(tmp_path: Path) -> None:
    source, made = tmp_path / "model.tercet", []
    source.write_bytes(b"one")
    settings = DeploymentSettings(folder=str(tmp_path / "forms"))

    def make(target: Path) -> None:
        made.append(target)
        target.mkdir()

    first = converted(source, "onnx", settings, make)
    assert converted(source, "onnx", settings, make) == first
    os.utime(source, ns=(1, 1))
    second = converted(source, "onnx", settings, make)
    assert made == [first, second]
    assert first != second


# Agreement with the reference


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference()


@pytest.fixture(scope="module")
def greedy() -> Generation:
    native = create("native")
    native.deploy()
    answer = native.generate(PROMPT)
    native.close()
    return answer


def test_the_first_difference_and_its_margin(reference: Reference, greedy: Generation) -> None:
    ids = list(greedy.token_ids or ())
    changed = dataclasses.replace(greedy, token_ids=(*ids[:5], 300, *ids[6:]))
    found = reference.agreement(PROMPT, changed)
    assert (found.agreed, found.compared, found.complete) == (5, 16, False)
    assert found.margin is not None
    assert found.margin > 1
    assert f"5 of 16, then {found.found!r} for {found.expected!r}" in str(found)


def test_the_engine_is_the_reference_of_a_large_model(
    greedy: Generation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tercet.deployment.agreement.MOST_PARAMETERS", 0)
    found = Reference().agreement(PROMPT, greedy)
    assert (found.reference, found.complete) == ("engine", True)


def test_an_answer_that_ends_where_the_model_goes_on(reference: Reference, greedy: Generation) -> None:
    found = reference.agreement(PROMPT, dataclasses.replace(greedy, finish_reason="stop"))
    assert (found.agreed, found.compared, found.found) == (16, 17, "<|end_of_text|>")


def test_a_prompt_read_as_other_tokens(reference: Reference, greedy: Generation) -> None:
    found = reference.agreement(PROMPT, dataclasses.replace(greedy, prompt_tokens=4))
    assert not found.complete
    assert str(found) == "it reads the prompt as other tokens"


@pytest.mark.parametrize(
    ("text", "agreed", "compared"),
    [
        (", there was a little girl named Mary. She was a curious and adventurous", 16, 16),
        ("  , there was a little girl named Mary. She was a curious and adventurous\n", 16, 16),
        (", there was a little boy", 5, 16),
        ("Nonsense", 0, 16),
        ("", 0, 16),
    ],
)
def test_a_text_alone(
    reference: Reference, greedy: Generation, text: str, agreed: int, compared: int
) -> None:
    told = dataclasses.replace(greedy, text=text, token_ids=None, prompt_tokens=99)
    found = reference.agreement(PROMPT, told)
    assert found.of_text
    if text:
        assert (found.agreed, found.compared) == (agreed, compared)
        assert found.complete == (agreed == compared)


# Choosing


def measured(name: str, first: float | None, rate: float, mib: int, **more: object) -> Measurement:
    generation = 32 / rate
    values = {
        "time_to_first_token_seconds": first,
        "generation_seconds": generation,
        "tokens_per_second": rate,
    }
    found = Measurement(name, True, True, "", memory_bytes=mib * MIB, **values)  # type: ignore[arg-type]
    return dataclasses.replace(found, **more)  # type: ignore[arg-type]


ROWS = [
    measured("native", 0.002, 900, 60),
    measured("onnxruntime", 0.03, 100, 50),
    measured("transformers", 0.3, 20, 700),
    measured("whole", None, 1000, 80),
    Measurement("absent", False, False, "no such program"),
]


@pytest.mark.parametrize(
    ("goal", "ranking"),
    [
        ("latency", ["native", "onnxruntime", "whole", "transformers"]),  # in one piece: 32 ms for all of it
        ("throughput", ["whole", "native", "onnxruntime", "transformers"]),
        ("memory", ["onnxruntime", "native", "whole", "transformers"]),
    ],
)
def test_the_best_for_a_goal(goal: str, ranking: list[str]) -> None:
    chosen = select(ROWS, goal)
    assert [name for name, _ in chosen.ranking] == ranking
    assert chosen.chosen == ranking[0]
    assert chosen.excluded == {"absent": "no such program"}
    assert chosen.explanation().startswith(f"{ranking[0]} with {GOALS[goal].summary}: ")


def test_who_says_something_else_is_not_chosen() -> None:
    tie = Agreement(16, 3, "NumPy", expected="a", found="b", margin=0.01)
    wrong = dataclasses.replace(tie, margin=3.0)
    rows = [dataclasses.replace(ROWS[0], agreement=wrong), dataclasses.replace(ROWS[1], agreement=tie)]
    chosen = select(rows, "latency")
    assert chosen.chosen == "onnxruntime"
    assert "margin of 3" in chosen.excluded["native"]


def test_nobody_can_be_chosen() -> None:
    with pytest.raises(UnavailableError, match=r"absent: no such program"):
        select(ROWS[-1:], "memory")
    with pytest.raises(ParameterError, match="there are latency, throughput, memory"):
        select(ROWS, "beauty")


@pytest.mark.parametrize("use_case", USE_CASES)
def test_advice_speaks_of_every_strategy(use_case: str) -> None:
    advice = recommend(ROWS, use_case)
    text = " ".join(advice.reasons)
    assert all(row.strategy in text for row in ROWS)
    expected = {"research": "transformers", "development": "native", "mobile": "native"}
    assert advice.chosen == expected.get(use_case, "whole")
    assert advice.next_step.startswith("tercet ")


def test_the_memory_of_a_use_is_a_limit() -> None:
    rows = [measured("native", 0.002, 900, 600), ROWS[1]]
    advice = recommend(rows, "mobile")
    assert advice.chosen == "onnxruntime"
    assert "not native: it takes 600 MiB, more than the 512 MiB of mobile" in advice.reasons
    assert recommend(rows, "edge").chosen == "native"
    with pytest.raises(ParameterError, match="production, development, mobile, research, edge, cloud"):
        recommend(rows, "space")


def test_research_without_pytorch() -> None:
    advice = recommend(ROWS[:2], "research")
    assert advice.chosen == "native"
    assert advice.next_step == "tercet eval"
