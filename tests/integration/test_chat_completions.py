"""`/v1/chat/completions` of a real server: whole and streamed, choices, constraints, tools, refusals."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from conversations import ASK, PATH, TIME, WEATHER, chat, refusal, streamed, text
from idle import assert_idle
from served import Server
from tercet import LLM
from tercet.models.saving import save_huggingface_folder
from tiny_models import TINY_CONFIG, random_masters, tiny_tokenizer_json


@pytest.fixture(scope="module")
def client(serving: Server) -> Iterator[httpx.Client]:
    with serving.client() as client:
        yield client


def test_the_answer_is_that_of_the_library(client: httpx.Client) -> None:
    with LLM() as llm:
        expected = llm.chat(ASK, temperature=0, max_tokens=20)
    answer = chat(client, temperature=0)
    [choice] = answer["choices"]
    assert choice["message"] == {"role": "assistant", "content": expected.text, "refusal": None}
    assert choice["finish_reason"] == expected.finish_reason
    assert answer["usage"]["prompt_tokens"] == expected.prompt_tokens
    assert answer["usage"]["completion_tokens"] == expected.generated_tokens
    assert answer["id"].startswith("chatcmpl-")
    assert re.fullmatch("fp_[0-9a-f]{10}", answer["system_fingerprint"])
    assert answer["system_fingerprint"] == chat(client, seed=1)["system_fingerprint"]


@pytest.mark.parametrize(
    "body",
    [
        {"temperature": 0, "max_completion_tokens": 60},
        {"temperature": 1.7, "seed": 9, "max_tokens": 80},
        {"temperature": 1.2, "seed": 5, "n": 4, "stop": ["dog", ". "]},
        {"temperature": 0, "logprobs": True, "top_logprobs": 3},
        {
            "temperature": 1.8,
            "seed": 2,
            "max_tokens": 80,
            "logit_bias": {str(i): -5 for i in range(300, 900)},
        },
        {"response_format": {"type": "json_object"}, "seed": 4, "max_tokens": 60},
        {"tools": [WEATHER, TIME], "seed": 3, "max_tokens": 60},
        {"tools": [WEATHER, TIME], "tool_choice": "required", "seed": 3, "max_tokens": 100, "n": 2},
    ],
)
def test_the_pieces_of_a_stream_are_the_whole_answer(client: httpx.Client, body: dict[str, Any]) -> None:
    whole = chat(client, **body)
    *chunks, last = streamed(client, **body, stream_options={"include_usage": True})
    assert last["choices"] == []
    details = {"prompt_tokens_details": last["usage"]["prompt_tokens_details"]}
    assert last["usage"] == {**whole["usage"], **details}
    assert all(chunk["usage"] is None for chunk in chunks)
    assert len({chunk["id"] for chunk in chunks}) == 1
    for choice in whole["choices"]:
        own = [chunk["choices"][0] for chunk in chunks if chunk["choices"][0]["index"] == choice["index"]]
        assert own[0]["delta"] == {"role": "assistant", "content": "", "refusal": None}
        content = "".join(piece["delta"].get("content") or "" for piece in own)
        assert content == (choice["message"]["content"] or "")
        assert [piece["finish_reason"] for piece in own[:-1]] == [None] * (len(own) - 1)
        assert own[-1]["finish_reason"] == choice["finish_reason"]
        calls: list[dict[str, Any]] = []
        for piece in own:
            for delta in piece["delta"].get("tool_calls", ()):
                if delta["index"] == len(calls):
                    calls.append({"name": delta["function"]["name"], "arguments": ""})
                calls[delta["index"]]["arguments"] += delta["function"]["arguments"]
        assert calls == [
            {name: call["function"][name] for name in ("name", "arguments")}
            for call in choice["message"].get("tool_calls", ())
        ]
        logprobs = [one for piece in own if piece["logprobs"] for one in piece["logprobs"]["content"]]
        assert logprobs == ((choice["logprobs"] or {}).get("content") or [])


def test_without_a_limit_an_answer_may_fill_the_context(client: httpx.Client) -> None:
    body = {"messages": ASK, "temperature": 0, "ignore_eos": True}
    answer = client.post(PATH, json=body).json()
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["total_tokens"] == 512
    assert chat(client, max_completion_tokens=3, max_tokens=9)["usage"]["completion_tokens"] <= 3


def test_choices_have_seeds_of_their_own_and_can_be_repeated(client: httpx.Client) -> None:
    body = {"temperature": 1.5, "seed": 21, "n": 3}
    first, again = chat(client, **body), chat(client, **body)
    texts = [choice["message"]["content"] for choice in first["choices"]]
    assert [choice["message"]["content"] for choice in again["choices"]] == texts
    assert len(set(texts)) == 3
    assert text(chat(client, temperature=1.5, seed=22)) == texts[1]
    assert text(chat(client, temperature=1.5, seed=-(2**63))) != ""
    counted = first["usage"]
    assert counted["prompt_tokens"] == chat(client)["usage"]["prompt_tokens"]  # once, for all of them
    assert counted["completion_tokens"] > 40


def test_logprobs_of_tokens_and_of_the_others_in_their_place(client: httpx.Client) -> None:
    choice = chat(client, temperature=0, logprobs=True, top_logprobs=2)["choices"][0]
    content = choice["logprobs"]["content"]
    assert bytes(byte for one in content for byte in one["bytes"]).decode() == choice["message"]["content"]
    for one in content:
        assert one["top_logprobs"][0]["token"] == one["token"]
        assert one["top_logprobs"][0]["logprob"] == one["logprob"] <= 0
        assert one["top_logprobs"][1]["logprob"] <= one["logprob"]
    plain = chat(client, temperature=0, logprobs=True)["choices"][0]["logprobs"]["content"]
    assert [one["top_logprobs"] for one in plain] == [[]] * len(content)
    assert chat(client)["choices"][0]["logprobs"] is None


def test_a_bias_forbids_and_forces_tokens(client: httpx.Client) -> None:
    with LLM() as llm:
        [dog] = llm.tokenize(" dog")
    answer = chat(client, logit_bias={str(dog): 100}, max_tokens=4)
    assert text(answer) == " dog" * 4
    assert "dog" not in text(chat(client, logit_bias={str(dog): -100}, max_tokens=60, temperature=0))
    assert refusal(client, logit_bias={"4096": 1})["param"] == "logit_bias"


def test_parts_are_lines_of_one_text(client: httpx.Client) -> None:
    parts = [{"type": "text", "text": "Tell me"}, {"type": "text", "text": "a story."}]
    split = chat(client, messages=[{"role": "user", "content": parts}], temperature=0)
    whole = chat(client, messages=[{"role": "user", "content": "Tell me\na story."}], temperature=0)
    assert text(split) == text(whole)


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "http://127.0.0.1:9/a.png"}},
        {"type": "image_url", "image_url": {"url": "file:///etc/passwd"}},
        {"type": "input_audio", "input_audio": {"data": "", "format": "wav"}},
        {"type": "file", "file": {"file_id": "f"}},
        {"type": "video_url", "video_url": {"url": "http://127.0.0.1:9/"}},
    ],
)
def test_what_is_not_text_is_refused_and_nothing_is_fetched(
    client: httpx.Client, part: dict[str, Any]
) -> None:
    content = [{"type": "text", "text": "What is this?"}, part]
    error = refusal(client, messages=[{"role": "user", "content": content}])
    assert error["param"] == "messages[0].content[1].type"
    assert error["code"] == "unsupported_value"
    assert "nothing is fetched" in error["message"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "robot", "content": "Hi"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0]"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [{"role": "tool", "content": "5"}]}, "messages[0]"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [WEATHER, WEATHER]}, "tools"),
        ({"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "f"}}}, "tool_choice"),
        ({"tools": [{"type": "web_search"}]}, "tools[0]"),
        ({"guided_regex": "a", "guided_json": {}}, "guided_regex"),
        ({"guided_regex": "("}, "guided_regex"),
        ({"structured_outputs": {"json": {"type": "array", "minItems": -1}}}, "structured_outputs.json"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"stream_options": {"include_obfuscation": 0}}, "stream_options.include_obfuscation"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"metadata": {"a": "b" * 513}}, "metadata"),
        ({"n": True}, "n"),
        ({"stream": "yes"}, "stream"),
    ],
)
def test_what_cannot_be_is_refused_by_name(client: httpx.Client, body: dict[str, Any], param: str) -> None:
    error = refusal(client, **body)
    assert error["param"] == param, error
    assert error["type"] == "invalid_request_error"


def test_a_conversation_that_does_not_fit_is_refused_with_both_counts(client: httpx.Client) -> None:
    for stream in (False, True):
        error = refusal(client, messages=[{"role": "user", "content": "dog " * 600}], stream=stream)
        assert error["code"] == "context_length_exceeded"
        assert "512" in error["message"]
        assert len(re.findall(r"\d+", error["message"])) >= 2


def test_a_client_that_leaves_frees_its_place(serving: Server) -> None:
    body = {"messages": ASK, "max_tokens": 480, "ignore_eos": True, "n": 4}
    for stream in (True, False):
        with httpx.Client(base_url=serving.base_url, timeout=0.3 if not stream else 60) as leaving:
            if stream:
                with leaving.stream("POST", PATH, json={**body, "stream": True}) as response:
                    next(response.iter_lines())
            else:
                with pytest.raises(httpx.ReadTimeout):
                    leaving.post(PATH, json={**body, "n": 64})
        assert_idle(serving)


def test_many_streams_at_once_give_what_each_gives_alone(client: httpx.Client, serving: Server) -> None:
    bodies = [{"temperature": 1.0, "seed": seed, "max_tokens": 30} for seed in range(8)]
    alone = [text(chat(client, **body)) for body in bodies]
    together: dict[int, str] = {}

    def run(index: int) -> None:
        with serving.client() as own:
            events = streamed(own, **bodies[index])
            together[index] = "".join(event["choices"][0]["delta"].get("content") or "" for event in events)

    threads = [threading.Thread(target=run, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [together[index] for index in range(8)] == alone


def test_a_model_without_a_chat_template_answers_in_plain_lines(
    serve: Callable[..., Server], tmp_path: Path
) -> None:
    save_huggingface_folder(
        tmp_path / "plain", TINY_CONFIG, random_masters(TINY_CONFIG), tokenizer_json=tiny_tokenizer_json()
    )
    conversation = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "Bye"},
    ]
    plain = "Be kind.\n\nUser: Hi\nAssistant: Hello\nUser: Bye\nAssistant:"
    options = {"temperature": 0, "max_tokens": 20, "ignore_eos": True}
    with serve(tmp_path / "plain").client() as own:
        answer = chat(own, messages=conversation, **options)
        stop = ["\nUser:", "\nAssistant:", "\nTool:"]
        same = own.post("/v1/completions", json={"prompt": plain, "stop": stop, **options}).json()
    assert text(answer) == same["choices"][0]["text"]
    assert answer["usage"]["prompt_tokens"] == same["usage"]["prompt_tokens"]
