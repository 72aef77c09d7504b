"""llama.cpp's native routes, as its scripts use them, against a server that runs."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from served import Server
from tercet import LLM

PROMPT = "Once upon a time"


@pytest.fixture(scope="module")
def client(serving: Server) -> Iterator[httpx.Client]:
    with serving.client() as client:
        yield client


@pytest.fixture(scope="module")
def llm() -> LLM:
    return LLM()


def complete(client: httpx.Client, **body: Any) -> Any:
    answer = client.post("/completion", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def stream(client: httpx.Client, **body: Any) -> list[dict[str, Any]]:
    with client.stream("POST", "/completion", json={**body, "stream": True}) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in answer.iter_lines() if line]
    assert all(line.startswith("data: ") for line in lines)
    return [json.loads(line.removeprefix("data: ")) for line in lines]


def refused(client: httpx.Client, path: str, body: Any, status: int = 400) -> dict[str, Any]:
    answer = client.post(path, json=body)
    assert answer.status_code == status, answer.text
    error: dict[str, Any] = answer.json()["error"]
    assert error["code"] == status  # a number, as its clients expect
    return error


# Tokens ----------------------------------------------------------------------------------------


def test_text_becomes_tokens_and_text_again(client: httpx.Client, llm: LLM) -> None:
    text = "The little dog é 🤗"
    found = client.post("/tokenize", json={"content": text}).json()["tokens"]
    assert found == llm.tokenize(text)
    assert client.post("/detokenize", json={"tokens": found}).json() == {"content": text}


def test_tokens_with_their_pieces(client: httpx.Client, llm: LLM) -> None:
    text = "a dog á 🤗"
    pieces = client.post("/tokenize", json={"content": text, "with_pieces": True}).json()["tokens"]
    assert [piece["id"] for piece in pieces] == llm.tokenize(text)
    data = b"".join(
        piece["piece"].encode() if isinstance(piece["piece"], str) else bytes(piece["piece"])
        for piece in pieces
    )
    assert data.decode() == text
    assert any(isinstance(piece["piece"], list) for piece in pieces)  # half of a character is bytes


def test_control_tokens_in_a_text(client: httpx.Client, llm: LLM) -> None:
    text = "<|user|>Hi"
    special = client.post("/tokenize", json={"content": text}).json()["tokens"]
    plain = client.post("/tokenize", json={"content": text, "parse_special": False}).json()["tokens"]
    assert len(special) < len(plain)
    assert plain == llm.tokenize(text)
    with_begin = client.post("/tokenize", json={"content": text, "add_special": True}).json()["tokens"]
    assert with_begin == [llm.config.bos_token_id, *special]
    mixed = client.post("/tokenize", json={"content": [5, "Hi", 6]}).json()["tokens"]
    assert mixed == [5, *llm.tokenize("Hi"), 6]


def test_a_conversation_as_text_and_as_a_prompt(client: httpx.Client, llm: LLM) -> None:
    messages = [{"role": "user", "content": "Hello"}]
    prompt = client.post("/apply-template", json={"messages": messages}).json()["prompt"]
    assert "Hello" in prompt
    answer = complete(client, prompt=prompt, n_predict=8, temperature=0)
    expected = llm.chat(messages, max_tokens=8, temperature=0)
    assert answer["content"] == expected.text
    assert answer["tokens_evaluated"] == expected.prompt_tokens  # the begin token is not there twice


# Completion ------------------------------------------------------------------------------------


def test_a_prompt_is_continued(client: httpx.Client, llm: LLM) -> None:
    answer = complete(client, prompt=PROMPT, n_predict=12, temperature=0, return_tokens=True)
    expected = llm.generate(PROMPT, max_tokens=12, temperature=0)
    assert answer["content"] == expected.text
    assert answer["tokens"] == expected.token_ids
    assert (answer["stop"], answer["stop_type"], answer["truncated"]) == (True, "limit", False)
    assert answer["tokens_predicted"] == 12
    assert answer["tokens_evaluated"] == expected.prompt_tokens
    assert answer["generation_settings"]["n_predict"] == 12
    assert answer["model"] == llm.name
    timings = answer["timings"]
    assert timings["predicted_n"] == 12
    assert timings["prompt_n"] + timings["cache_n"] == expected.prompt_tokens
    assert timings["predicted_ms"] > 0
    assert math.isclose(timings["predicted_per_second"], 1e3 * 11 / timings["predicted_ms"])
    assert complete(client, prompt=PROMPT, n_predict=12, temperature=0)["tokens"] == []


def test_a_stream_is_the_same_text(client: httpx.Client) -> None:
    body = {"prompt": PROMPT, "n_predict": 20, "seed": 5}
    whole = complete(client, **body, return_tokens=True)
    *pieces, last = stream(client, **body)
    assert "".join(piece["content"] for piece in pieces) == whole["content"]
    assert [token for piece in pieces for token in piece["tokens"]] == whole["tokens"]
    assert not any(piece["stop"] for piece in pieces)
    assert last["stop"] is True
    assert last["content"] == ""
    assert last["tokens_predicted"] == 20
    assert last["timings"]["predicted_n"] == 20


def test_the_shapes_of_a_prompt(client: httpx.Client, llm: LLM) -> None:
    ids = [llm.config.bos_token_id, *llm.tokenize(PROMPT)]
    same = [PROMPT, ids, [PROMPT], {"prompt_string": PROMPT}, [ids[0], PROMPT]]
    several = complete(client, prompt=same, n_predict=6, temperature=0)
    assert [answer["index"] for answer in several] == [0, 1, 2, 3, 4]
    assert len({answer["content"] for answer in several}) == 1
    for prompt in (PROMPT, ids, {"prompt_string": PROMPT}, [ids[0], PROMPT]):
        assert complete(client, prompt=prompt, n_predict=6, temperature=0)["content"] == several[0]["content"]
    two = complete(client, prompt=PROMPT, n_predict=6, n_cmpl=2, seed=1, temperature=1)
    assert two[0]["content"] != two[1]["content"]


def test_stop_strings_and_what_they_say(client: httpx.Client) -> None:
    whole = complete(client, prompt=PROMPT, n_predict=12, temperature=0)["content"]
    word = whole.split()[2]
    stopped = complete(client, prompt=PROMPT, n_predict=12, temperature=0, stop=[word])
    assert (stopped["stop_type"], stopped["stopping_word"]) == ("word", word)
    assert stopped["content"] == whole[: whole.index(word)]


def test_nothing_to_predict_reads_the_prompt(client: httpx.Client) -> None:
    answer = complete(client, prompt=PROMPT, n_predict=0)
    assert (answer["content"], answer["tokens_predicted"]) == ("", 0)
    assert answer["tokens_evaluated"] == 5
    assert stream(client, prompt=PROMPT, n_predict=0)[-1]["stop"] is True


def test_seeds_and_greedy(client: httpx.Client) -> None:
    texts = {complete(client, prompt=PROMPT, n_predict=10, seed=4)["content"] for _ in range(3)}
    assert len(texts) == 1
    greedy = {complete(client, prompt=PROMPT, n_predict=10, temperature=t)["content"] for t in (0, -1)}
    assert len(greedy) == 1
    drawn = {complete(client, prompt=PROMPT, n_predict=10, temperature=1.5)["content"] for _ in range(5)}
    assert len(drawn) > 1
    off = complete(client, prompt=PROMPT, n_predict=10, temperature=1.5, top_k=1)["content"]
    assert off in greedy


def test_probabilities_of_tokens(client: httpx.Client) -> None:
    body = {"prompt": PROMPT, "n_predict": 5, "temperature": 0, "n_probs": 3}
    whole = complete(client, **body)["completion_probabilities"]
    streamed = [p for piece in stream(client, **body)[:-1] for p in piece["completion_probabilities"]]
    assert whole == streamed
    assert len(whole) == 5
    for one in whole:
        assert len(one["top_logprobs"]) == 3
        assert one["logprob"] <= 0
        assert one["top_logprobs"][0]["id"] == one["id"]  # the greedy one
        assert bytes(one["bytes"]).decode("utf-8", "replace") == one["token"]


def test_an_answer_by_a_schema_or_a_grammar(client: httpx.Client) -> None:
    schema = {"enum": ["yes", "no"]}
    assert (
        json.loads(complete(client, prompt="x", json_schema=schema, n_predict=20)["content"])
        in schema["enum"]
    )
    grammar = 'root ::= "red" | "green"'
    answer = complete(client, prompt="x", grammar=grammar, n_predict=20)
    assert answer["content"] in ("red", "green")
    assert answer["generation_settings"]["grammar"] == grammar


def test_biases_by_id_and_by_text(client: httpx.Client, llm: LLM) -> None:
    plain = complete(client, prompt=PROMPT, n_predict=1, temperature=0, return_tokens=True)
    token = plain["tokens"][0]
    for bias in ([[token, False]], [[plain["content"], False]], {str(token): -100}):
        biased = complete(
            client, prompt=PROMPT, n_predict=1, temperature=0, return_tokens=True, logit_bias=bias
        )
        assert biased["tokens"][0] != token


def test_chosen_fields(client: httpx.Client) -> None:
    fields = ["content", "generation_settings/n_predict", "absent"]
    answer = complete(client, prompt=PROMPT, n_predict=3, response_fields=fields)
    assert set(answer) == {"content", "generation_settings/n_predict"}


def test_a_cache_that_is_not_used(client: httpx.Client) -> None:
    prompt = "word " * 60
    complete(client, prompt=prompt, n_predict=1)
    again = complete(client, prompt=prompt, n_predict=1)
    assert again["tokens_cached"] == again["timings"]["cache_n"] > 0
    assert complete(client, prompt=prompt, n_predict=1, cache_prompt=False)["tokens_cached"] == 0


# Refusals --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("mirostat", 2),
        ("typical_p", 0.5),
        ("dry_multiplier", 0.8),
        ("xtc_probability", 0.5),
        ("dynatemp_range", 1.0),
        ("top_n_sigma", 1.0),
        ("post_sampling_probs", True),
        ("n_indent", 2),
        ("n_discard", -5),
        ("lora", [{"id": 0, "scale": 1}]),
        ("dry_multiplier", "much"),
        ("n_probs", 1000),
        ("temperature", "hot"),
        ("n_predict", -7),
        ("logit_bias", [[1, "a"]]),
        ("logit_bias", [[1, 2, 3]]),
        ("logit_bias", [[999999, 1]]),
        ("grammar", "root ::= ("),
    ],
)
def test_what_is_not_there_is_refused_by_name(client: httpx.Client, field: str, value: Any) -> None:
    error = refused(client, "/completion", {"prompt": PROMPT, "n_predict": 1, field: value})
    assert field in error["message"]
    assert error["type"] == "invalid_request_error"


def test_values_that_ask_for_nothing_are_accepted(client: httpx.Client) -> None:
    off = {
        "mirostat": 0, "typical_p": 1.0, "dry_multiplier": 0, "xtc_probability": 0.0, "dynatemp_range": 0,
        "top_n_sigma": -1, "lora": [], "id_slot": -1, "n_keep": 0, "samplers": ["top_k", "temperature"],
        "repeat_last_n": 64, "min_keep": 0, "t_max_predict_ms": 0, "cache_prompt": True,
    }  # fmt: skip
    assert complete(client, prompt=PROMPT, n_predict=2, **off)["tokens_predicted"] == 2


def test_a_prompt_that_is_too_long(client: httpx.Client, llm: LLM) -> None:
    error = refused(client, "/completion", {"prompt": "dog " * 3000})
    assert error["type"] == "exceed_context_size_error"
    assert error["n_ctx"] == llm.max_context
    assert error["n_prompt_tokens"] > 3000


@pytest.mark.parametrize(
    "prompt",
    [[], [[]], {"prompt_string": 3}, {"a": 1}, [[1, True]], [-1], [999_999], 3, None, ["a", ["b", []]]],
)
def test_prompts_that_are_none(client: httpx.Client, prompt: Any) -> None:
    refused(client, "/completion", {"prompt": prompt, "n_predict": 1})


def test_images_are_refused(client: httpx.Client) -> None:
    prompt = {"prompt_string": "a <__media__>", "multimodal_data": ["aGk="]}
    assert "multimodal_data" in refused(client, "/completion", {"prompt": prompt})["message"]


def test_routes_that_are_not_there_say_so(client: httpx.Client) -> None:
    for path in ("/infill", "/rerank", "/v1/rerank", "/slots/0?action=save", "/props"):
        error = refused(client, path, {}, 501)
        assert error["type"] == "not_supported_error"
        assert path.partition("?")[0].rpartition("/")[0] in error["message"]
    assert "embeddings" in refused(client, "/embedding", {"content": "x"}, 501)["message"]


# State -----------------------------------------------------------------------------------------


def test_properties(client: httpx.Client, llm: LLM) -> None:
    props = client.get("/props").json()
    assert props["default_generation_settings"]["n_ctx"] == llm.max_context
    assert props["default_generation_settings"]["params"]["temperature"] == 0.7
    assert props["total_slots"] == len(client.get("/slots").json())
    assert "/" not in props["model_path"]
    assert props["bos_token"] == "<|begin_of_text|>"
    assert "messages" in props["chat_template"]
    assert client.get("/lora-adapters").json() == []


def test_slots_are_taken_while_something_runs(serve: Callable[..., Server], slow_model: Path) -> None:
    server = serve("--max-concurrent", "2", slow_model)
    with server.client() as client, server.client() as other:
        assert [slot["is_processing"] for slot in client.get("/slots").json()] == [False, False]
        body = {"prompt": PROMPT, "n_predict": 100_000, "stream": True}
        with client.stream("POST", "/completion", json=body) as first:
            first_lines = first.iter_lines()  # dropped, it would close the connection
            next(first_lines)
            assert sum(slot["is_processing"] for slot in other.get("/slots").json()) == 1
            with server.client() as third, third.stream("POST", "/completion", json=body) as second:
                second_lines = second.iter_lines()
                next(second_lines)
                assert other.get("/slots?fail_on_no_slot=1").status_code == 503
        # Both readers have left.
        for _ in range(500):
            if not any(slot["is_processing"] for slot in other.get("/slots").json()):
                break
        else:
            pytest.fail("a slot stays taken")


# Aliases ---------------------------------------------------------------------------------------


def test_openai_routes_without_their_prefix(client: httpx.Client) -> None:
    chat = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 3}
    assert client.post("/chat/completions", json=chat).json()["object"] == "chat.completion"
    assert client.get("/models").json()["object"] == "list"
    assert client.get("/v1/health").json()["status"] == "ok"
    assert client.post("/responses", json={"input": "Hi", "max_output_tokens": 16}).status_code == 200


def test_bodies_of_any_content_type(client: httpx.Client) -> None:
    """`curl -d` says that it sends a form."""
    headers = {"content-type": "application/x-www-form-urlencoded"}
    answer = client.post("/completion", content=b'{"prompt": "x", "n_predict": 1}', headers=headers)
    assert answer.status_code == 200
