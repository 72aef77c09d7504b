"""Logit bias, a minimum of tokens, log probabilities and constraints, as the engine runs them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tercet import LLM
from tercet.engine.engine import Engine
from tercet.engine.kv_blocks import KvBlockPool
from tercet.engine.plan import Chunk, StepLimits
from tercet.engine.request import Request
from tercet.engine.runner import Runner
from tercet.engine.text_output import TextOutput
from tercet.errors import ParameterError
from tercet.sampling.constraints import ConstraintSpec, compile_constraint
from tercet.sampling.logprobs import token_logprobs
from tercet.sampling.params import SamplingParams

PROMPT = "Once upon a time"
JSON = ConstraintSpec("json_schema", {"type": "array", "items": {"enum": ["cat", "dog"]}, "maxItems": 4})


@pytest.fixture(scope="module")
def llm(shipped_model: Path) -> Iterator[LLM]:
    with LLM(shipped_model, threads=1) as llm:
        yield llm


def request_of(
    llm: LLM, spec: ConstraintSpec | None = None, prompt: str = PROMPT, **sampling: Any
) -> Request:
    params = SamplingParams(**{"temperature": 0, "max_tokens": 12, "seed": 1} | sampling)
    request = llm.request(llm.prompt_tokens(prompt), params)
    if spec is not None:
        request.constraint = compile_constraint(spec, llm.tokenizer)
    return request


def finished(llm: LLM, *requests: Request) -> list[tuple[list[int], str | None]]:
    llm.engine.complete(requests)
    return [(request.generated_ids, request.finish_reason) for request in requests]


@pytest.mark.parametrize("temperature", [0.0, 1.3])
def test_log_probabilities_are_those_of_the_model(llm: LLM, temperature: float) -> None:
    sampling: dict[str, Any] = {
        "temperature": temperature,
        "logit_bias": {500: 3.0},
        "repetition_penalty": 1.2,
    }
    request, plain = request_of(llm, logprobs=4, **sampling), request_of(llm, **sampling)
    finished(llm, request, plain)
    assert request.generated_ids == plain.generated_ids
    assert plain.logprobs == []
    assert len(request.logprobs) == len(request.generated_ids)
    logits = llm.logits([*request.prompt_ids, *request.generated_ids])
    for index, (token, found) in enumerate(zip(request.generated_ids, request.logprobs, strict=True)):
        assert found == token_logprobs(logits[len(request.prompt_ids) - 1 + index], token, 4)
        assert found.top[0][1] == max(logprob for _, logprob in found.top)
        assert found.logprob <= found.top[0][1]


def test_the_token_that_ends_an_answer_has_no_log_probability(llm: LLM) -> None:
    (eos, *_) = llm.config.eos_token_ids
    request = request_of(llm, logprobs=0, logit_bias={eos: 100})
    assert finished(llm, request) == [([], "stop")]
    assert request.logprobs == []
    assert request.stop_id == eos


def test_an_answer_has_its_minimum_of_tokens(llm: LLM) -> None:
    bias = dict.fromkeys(llm.config.eos_token_ids, 100.0)
    ((ids, reason),) = finished(llm, request_of(llm, logit_bias=bias, min_tokens=5))
    assert (len(ids), reason) == (5, "stop")
    free = request_of(llm, max_tokens=12)
    finished(llm, free)
    assert free.output is not None
    bounded = request_of(llm, max_tokens=12, min_tokens=6, stop=[" ", "e", "a"])
    finished(llm, bounded)
    assert bounded.output is not None
    assert len(bounded.generated_ids) > 6
    assert free.output.text.startswith(bounded.output.text)
    assert bounded.output.stop_string in (" ", "e", "a")


def test_bias_chooses_and_forbids(llm: LLM) -> None:
    assert finished(llm, request_of(llm, logit_bias={700: 100}, max_tokens=3)) == [([700] * 3, "length")]
    (first, _), *_ = finished(llm, request_of(llm))
    (second, _), *_ = finished(llm, request_of(llm, logit_bias=dict.fromkeys(first, -100)))
    assert not set(first) & set(second)
    with pytest.raises(ParameterError, match="logit_bias names the token 5000"):
        request_of(llm, logit_bias={5000: 1})


def test_a_finished_constraint_ends_its_answer_even_early(llm: LLM) -> None:
    spec = ConstraintSpec("regex", "ab")
    request = request_of(llm, spec, min_tokens=9)
    finished(llm, request)
    assert request.finish_reason == "stop"
    assert request.output is not None
    assert request.output.text == "ab"
    open_end = request_of(llm, ConstraintSpec("regex", "b*"), min_tokens=9)
    finished(llm, open_end)
    assert len(open_end.generated_ids) >= 9
    cut = request_of(llm, ConstraintSpec("regex", "[a-z ]{200}"), max_tokens=4)
    assert finished(llm, cut)[0][1] == "length"
    forever = request_of(llm, ConstraintSpec("regex", "c*"), ignore_eos=True, logit_bias={1: 100, 2: 100})
    assert finished(llm, forever)[0][1] == "length"


def test_company_guesses_and_their_mistakes_change_nothing(llm: LLM, shipped_model: Path) -> None:
    def many(model: LLM) -> list[Request]:
        return [
            request_of(
                model, JSON, f"{PROMPT} {'cat dog ' * index}", temperature=heat, seed=index, logprobs=1
            )
            for index, heat in enumerate([0.0, 0.8, 1.5, 2.0])
        ]

    alone = [finished(llm, request)[0] for request in many(llm)]
    together = many(llm)
    assert finished(llm, *together) == alone
    with LLM(shipped_model, threads=1, speculation="prompt_lookup") as guessing:
        guessed = many(guessing)
        assert finished(guessing, *guessed) == alone
    for one, other in zip(together, guessed, strict=True):
        assert [found.token_id for found in other.logprobs] == other.generated_ids
        assert one.logprobs == other.logprobs


def test_what_a_constraint_has_read_survives_preemption(llm: LLM) -> None:
    """Keys and values are computed again; the state of a constraint is not, and must not be."""

    def many() -> list[Request]:
        words = ConstraintSpec("regex", r"([A-Z][a-z]{2,9}( [a-z]{1,9}){1,9}[.!?] )*")
        prompts = ["The little dog ran home. " * count for count in (4, 9, 6, 12)]
        return [request_of(llm, words, one, temperature=1, max_tokens=60, logprobs=0) for one in prompts]

    alone = many()
    for request in alone:
        finished(llm, request)
    engine = Engine(llm.engine.runner, KvBlockPool(10, 16), StepLimits(48, 4))
    cramped = many()
    engine.complete(cramped)
    assert engine.stats().preemptions > 0
    for one, other in zip(alone, cramped, strict=True):
        assert (one.generated_ids, one.finish_reason) == (other.generated_ids, other.finish_reason)
        assert one.logprobs == other.logprobs


def test_a_constraint_that_fails_ends_its_own_answer_only(llm: LLM) -> None:
    class Failing:
        is_complete = is_finished = False

        def mask(self) -> np.ndarray:
            raise ParameterError("the constraint is too complex")

        def accept(self, token_id: int) -> None: ...

    failing, fine = request_of(llm), request_of(llm)
    failing.constraint = Failing()
    llm.engine.submit(failing)
    llm.engine.submit(fine)
    while not (failing.finished and fine.finished):
        llm.engine.step()
    assert isinstance(failing.error, ParameterError)
    assert fine.finish_reason is not None
    assert llm.engine.pool.num_available == llm.engine.pool.num_blocks


def test_rough_logits_are_no_basis_for_any_of_this() -> None:
    """A head in two stages gives exact logits only where it is asked to."""

    class Decoder:
        full: list[int]

        def forward(self, *args: Any, full_rows: list[int], **kwargs: Any) -> np.ndarray:
            self.full = full_rows
            return np.zeros((0, 1), np.float32)

    decoder = Decoder()
    mask = compile_constraint
    settings: list[dict[str, Any]] = [
        {}, {"logit_bias": {1: 1}}, {"logprobs": 0}, {"min_tokens": 1}, {"presence_penalty": 1}, {"top_k": 3},
    ]  # fmt: skip
    requests = [Request([1], SamplingParams(**one), 5, output=TextOutput(None)) for one in settings]  # type: ignore[arg-type]
    constrained = Request([1], SamplingParams(), 5, constraint=mask)  # type: ignore[arg-type]
    past_minimum = Request([1], SamplingParams(min_tokens=1), 5, generated_ids=[3], num_cached=1)
    Runner(decoder, None).run([Chunk(one, 1, samples=True) for one in (*requests, constrained, past_minimum)])  # type: ignore[arg-type]
    assert decoder.full == [1, 2, 3, 4, 6]
