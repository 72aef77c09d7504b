"""`/v1/completions` of a real server: whole, streamed, lists, echo, best_of, log probabilities, refusals."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from openai.types import Completion

from openai_streams import stream_events
from served import Server
from tercet import LLM

GREEDY = {"temperature": 0, "max_tokens": 12}


@pytest.fixture(scope="module")
def client(serving: Server) -> Iterator[httpx.Client]:
    with serving.client() as client:
        yield client


def complete(client: httpx.Client, **body: Any) -> dict[str, Any]:
    response = client.post("/v1/completions", json=body)
    assert response.status_code == 200, response.text
    Completion.model_validate(response.json(), strict=True)
    return response.json()


def refusal(client: httpx.Client, **body: Any) -> dict[str, Any]:
    response = client.post("/v1/completions", json=body)
    assert response.status_code == 400, response.text
    return response.json()["error"]


def test_the_text_is_that_of_the_library(client: httpx.Client) -> None:
    with LLM() as llm:
        expected = llm.generate("Once upon a time", temperature=0, max_tokens=12)
    answer = complete(client, prompt="Once upon a time", **GREEDY)
    [choice] = answer["choices"]
    assert choice == {"text": expected.text, "index": 0, "logprobs": None, "finish_reason": "length"}
    assert answer["object"] == "text_completion"
    assert answer["usage"]["prompt_tokens"] == expected.prompt_tokens
    assert answer["usage"]["completion_tokens"] == expected.generated_tokens == 12
    assert answer["usage"]["total_tokens"] == expected.prompt_tokens + 12


def test_the_default_is_16_tokens_as_the_specification_says(client: httpx.Client) -> None:
    assert complete(client, prompt="Once", ignore_eos=True)["usage"]["completion_tokens"] == 16


@pytest.mark.parametrize(
    "body",
    [
        {"temperature": 0, "max_tokens": 40},
        {"temperature": 1.3, "seed": 7, "max_tokens": 40},
        {"temperature": 0, "max_tokens": 40, "stop": ["dog", " was a"]},
        {"temperature": 2.0, "top_p": 1, "seed": 3, "max_tokens": 60, "echo": True},
        {"temperature": 1.5, "seed": 5, "max_tokens": 30, "n": 3, "logprobs": 2},
        {"temperature": 1.0, "seed": 5, "max_tokens": 9, "prompt": ["Once", "The dog"], "n": 2, "echo": True},
    ],
)
def test_the_pieces_of_a_stream_are_the_whole_text(client: httpx.Client, body: dict[str, Any]) -> None:
    body = {"prompt": "Once upon a time, \u00e9t\u00e9", **body}
    whole = complete(client, **body)
    options = {"stream_options": {"include_usage": True}}
    *chunks, usage = stream_events(client, "/v1/completions", {**body, **options})
    assert usage["choices"] == []
    expected = {**whole["usage"], "prompt_tokens_details": usage["usage"]["prompt_tokens_details"]}
    assert usage["usage"] == expected
    for choice in whole["choices"]:
        own = [chunk["choices"][0] for chunk in chunks if chunk["choices"][0]["index"] == choice["index"]]
        assert "".join(piece["text"] for piece in own) == choice["text"]
        assert [piece["finish_reason"] for piece in own if piece["finish_reason"]] == [
            choice["finish_reason"]
        ]
        if "logprobs" in body:
            parts = [piece["logprobs"] for piece in own if piece["logprobs"]]
            for name, values in choice["logprobs"].items():
                assert [value for part in parts for value in part[name]] == values


def test_several_prompts_are_answered_in_their_order(client: httpx.Client) -> None:
    prompts = ["The dog", "A cat", "My house"]
    together = complete(client, prompt=prompts, n=2, temperature=1, seed=11, max_tokens=6)
    assert [choice["index"] for choice in together["choices"]] == list(range(6))
    for number, prompt in enumerate(prompts):
        for choice in range(2):
            alone = complete(client, prompt=prompt, temperature=1, seed=11 + choice, max_tokens=6)
            assert together["choices"][2 * number + choice]["text"] == alone["choices"][0]["text"]


def test_token_ids_are_taken_as_they_are(client: httpx.Client) -> None:
    with LLM() as llm:
        ids = llm.prompt_tokens("Once upon a time")
    text = complete(client, prompt="Once upon a time", **GREEDY)["choices"][0]["text"]
    assert complete(client, prompt=ids, **GREEDY)["choices"][0]["text"] == text
    both = complete(client, prompt=[ids, ids], **GREEDY)
    assert [choice["text"] for choice in both["choices"]] == [text, text]
    echoed = complete(client, prompt=ids[1:], echo=True, max_tokens=1)["choices"][0]["text"]
    assert echoed.startswith("Once upon a time")


def test_logprobs_in_their_old_shape(client: httpx.Client) -> None:
    answer = complete(client, prompt="Once upon a time", logprobs=3, **GREEDY)["choices"][0]
    lists = answer["logprobs"]
    assert {len(values) for values in lists.values()} == {12}
    assert "".join(lists["tokens"]) == answer["text"]
    for text, offset in zip(lists["tokens"], lists["text_offset"], strict=True):
        assert answer["text"][offset:].startswith(text)
    for token, logprob, top in zip(
        lists["tokens"], lists["token_logprobs"], lists["top_logprobs"], strict=True
    ):
        assert len(top) == 3
        assert max(top, key=top.__getitem__) == token  # greedy
        assert top[token] == logprob
        assert sum(map(math.exp, top.values())) <= 1 + 1e-6


def test_best_of_gives_the_likeliest(client: httpx.Client) -> None:
    body = {"prompt": "The dog", "temperature": 1.5, "seed": 1, "max_tokens": 8}
    all_of_them = complete(client, n=4, logprobs=0, **body)

    def mean(choice: dict[str, Any]) -> float:
        values = choice["logprobs"]["token_logprobs"]
        return sum(values) / len(values)

    best = max(all_of_them["choices"], key=mean)
    answer = complete(client, best_of=4, **body)
    assert [choice["text"] for choice in answer["choices"]] == [best["text"]]
    assert answer["usage"]["completion_tokens"] == all_of_them["usage"]["completion_tokens"]


def test_a_repeated_prompt_is_found_in_the_cache(client: httpx.Client) -> None:
    prompt = "The quick brown fox jumps over the lazy dog and runs into the deep green forest. " * 3
    complete(client, prompt=prompt, max_tokens=1)
    usage = complete(client, prompt=prompt, max_tokens=2)["usage"]
    assert 0 < usage["prompt_tokens_details"]["cached_tokens"] < usage["prompt_tokens"]
    salted = complete(client, prompt=prompt, max_tokens=3, cache_salt="mine")["usage"]
    assert salted["prompt_tokens_details"]["cached_tokens"] == 0


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"suffix": "the end"}, "suffix"),
        ({"prompt": []}, "prompt"),
        ({"prompt": ["a", 1]}, "prompt[1]"),
        ({"prompt": [1, "a"]}, "prompt[1]"),
        ({"prompt": [[1], []]}, "prompt[1]"),
        ({"prompt": {"text": "a"}}, "prompt"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"n": 129}, "n"),
        ({"temperature": "1"}, "temperature"),
        ({"temperature": 2.1}, "temperature"),
        ({"top_p": -0.1}, "top_p"),
        ({"logprobs": 21}, "logprobs"),
        ({"logit_bias": {"cat": 1}}, "logit_bias.cat"),
        ({"logit_bias": {"5": 101}}, "logit_bias.5"),
        ({"stop": [""]}, "stop[0]"),
        ({"stop": ["a"] * 17}, "stop"),
        ({"stream_options": {"include_obfuscation": True}}, "stream_options.include_obfuscation"),
    ],
)
def test_what_cannot_be_is_refused_by_name(client: httpx.Client, body: dict[str, Any], param: str) -> None:
    error = refusal(client, **{"prompt": "Once", "max_tokens": 1, **body})
    assert error["param"] == param
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"n": 3, "best_of": 2}, "best_of is at least n, which is 3"),
        ({"best_of": 2, "stream": True}, "best_of needs whole answers"),
        ({"echo": True, "logprobs": 1}, "echo gives the prompt without logprobs"),
        ({"prompt": ["a"] * 512, "n": 2}, "more than 512 answers"),
    ],
)
def test_what_does_not_go_together_is_refused(client: httpx.Client, body: dict[str, Any], words: str) -> None:
    assert words in refusal(client, **{"prompt": "Once", "max_tokens": 1, **body})["message"]


def test_a_prompt_that_does_not_fit_is_refused_with_both_counts(client: httpx.Client) -> None:
    error = refusal(client, prompt="dog " * 600, max_tokens=1)
    assert error["code"] == "context_length_exceeded"
    assert "512" in error["message"]
    assert refusal(client, prompt=[4096], max_tokens=1)["code"] == "invalid_value"


def test_a_model_that_is_not_there_is_404(client: httpx.Client) -> None:
    response = client.post("/v1/completions", json={"model": "gpt-5", "prompt": "Once"})
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "model_not_found"
    assert response.json()["error"]["param"] == "model"
