"""Ollama's routes, as the programs of its ecosystem use them, against a server that runs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import ollama
import pytest

from embedding_models import embedding_model
from served import Server
from tercet import LLM

PROMPT = "Once upon a time"
HELLO = [{"role": "user", "content": "Hello"}]


@pytest.fixture(scope="module")
def client(serving: Server) -> Iterator[httpx.Client]:
    with serving.client() as client:
        yield client


@pytest.fixture(scope="module")
def llm() -> LLM:
    return LLM()


def ask(client: httpx.Client, path: str, **body: Any) -> dict[str, Any]:
    answer = client.post(path, json={"model": "llama-tercet-tiny", "stream": False, **body})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def stream(client: httpx.Client, path: str, **body: Any) -> list[dict[str, Any]]:
    with client.stream("POST", path, json={"model": "llama-tercet-tiny", **body}) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/x-ndjson"
        return [json.loads(line) for line in answer.iter_lines()]


def refused(client: httpx.Client, path: str, status: int = 400, **body: Any) -> str:
    answer = client.post(path, json={"model": "llama-tercet-tiny", **body})
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error"}
    message: str = answer.json()["error"]
    return message


# Models ----------------------------------------------------------------------------------------


def test_the_models_and_what_they_are(client: httpx.Client, llm: LLM) -> None:
    (model,) = client.get("/api/tags").json()["models"]
    assert model["name"] == "llama-tercet-tiny:latest"
    assert model["size"] == llm.path.stat().st_size
    assert re.fullmatch(r"[0-9a-f]{64}", model["digest"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", model["modified_at"])
    assert model["details"]["quantization_level"] == "two_bit"
    (running,) = client.get("/api/ps").json()["models"]
    assert running["context_length"] == llm.max_context
    assert running.items() >= model.items()
    shown = ask(client, "/api/show", model=model["name"])
    name = shown["model_info"]["general.architecture"]
    assert shown["model_info"][f"{name}.context_length"] == llm.max_context
    assert "completion" in shown["capabilities"]
    assert "messages" in shown["template"]
    assert shown == ask(client, "/api/show", model=None, name="llama-tercet-tiny")
    version = client.get("/api/version").json()["version"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", version)


def test_models_that_are_not_there(client: httpx.Client) -> None:
    for path, rest in (
        ("/api/show", {}),
        ("/api/generate", {"prompt": "x"}),
        ("/api/chat", {"messages": HELLO}),
    ):
        assert refused(client, path, 404, **{"model": "nope", **rest}) == "model 'nope' not found"
    assert "model" in refused(client, "/api/show", 400, model=None)


# Generate --------------------------------------------------------------------------------------


def test_a_raw_prompt_is_continued(client: httpx.Client, llm: LLM) -> None:
    options = {"num_predict": 12, "temperature": 0}
    answer = ask(client, "/api/generate", prompt=PROMPT, raw=True, options=options)
    expected = llm.generate(PROMPT, max_tokens=12, temperature=0)
    assert answer["response"] == expected.text
    assert (answer["done"], answer["done_reason"]) == (True, "length")
    assert answer["prompt_eval_count"] == expected.prompt_tokens
    assert answer["eval_count"] == 12


def test_a_prompt_is_a_turn_where_the_model_has_a_template(client: httpx.Client, llm: LLM) -> None:
    options = {"num_predict": 8, "temperature": 0}
    answer = ask(client, "/api/generate", prompt="Hello", system="Be kind.", options=options)
    messages = [{"role": "system", "content": "Be kind."}, *HELLO]
    assert answer["response"] == llm.chat(messages, max_tokens=8, temperature=0).text


def test_lines_are_the_same_text(client: httpx.Client) -> None:
    options = {"num_predict": 20, "seed": 5}
    whole = ask(client, "/api/generate", prompt=PROMPT, options=options)
    *pieces, last = stream(client, "/api/generate", prompt=PROMPT, options=options)
    assert "".join(piece["response"] for piece in pieces) == whole["response"]
    assert not any(piece["done"] for piece in pieces)
    assert (last["response"], last["done"]) == ("", True)
    for end in (whole, last):
        assert 0 < end["eval_duration"] < end["total_duration"] < 60 * 10**9
        assert 0 < end["prompt_eval_duration"] < end["total_duration"]


def test_no_prompt_says_that_the_model_is_there(client: httpx.Client) -> None:
    for path in ("/api/generate", "/api/chat"):
        answer = ask(client, path, keep_alive="5m")
        assert (answer["done"], answer["done_reason"]) == (True, "load")
    assert client.post("/api/generate", json={"model": "llama-tercet-tiny", "keep_alive": -1}).json()["done"]


def test_options(client: httpx.Client, llm: LLM) -> None:
    options: dict[str, Any] = {
        "num_predict": 10, "temperature": 0.9, "top_k": 30, "top_p": 0.8, "min_p": 0.01,
        "repeat_penalty": 1.2, "presence_penalty": 0.5, "frequency_penalty": 0.25,
        "seed": 11, "stop": ["zzz"], "num_ctx": 256, "num_gpu": 0, "num_thread": 2, "repeat_last_n": 64,
    }  # fmt: skip
    answer = ask(client, "/api/generate", prompt=PROMPT, raw=True, options=options)
    expected = llm.generate(
        PROMPT, max_tokens=10, temperature=0.9, top_k=30, top_p=0.8, min_p=0.01, repetition_penalty=1.2,
        presence_penalty=0.5, frequency_penalty=0.25, seed=11, stop="zzz",
    )  # fmt: skip
    assert answer["response"] == expected.text
    off = {**options, "repeat_last_n": 0}
    answer = ask(client, "/api/generate", prompt=PROMPT, raw=True, options=off)
    expected = llm.generate(
        PROMPT, max_tokens=10, temperature=0.9, top_k=30, top_p=0.8, min_p=0.01, seed=11, stop="zzz"
    )
    assert answer["response"] == expected.text


def test_log_probabilities(client: httpx.Client) -> None:
    options = {"num_predict": 4, "temperature": 0}
    body = {"prompt": PROMPT, "options": options, "logprobs": True, "top_logprobs": 2}
    whole = ask(client, "/api/generate", **body)["logprobs"]
    lines = stream(client, "/api/generate", **body)
    assert [one for line in lines for one in line.get("logprobs", [])] == whole
    assert len(whole) == 4
    assert all(len(one["top_logprobs"]) == 2 for one in whole)


# Chat ------------------------------------------------------------------------------------------


def test_a_conversation(client: httpx.Client, llm: LLM) -> None:
    options = {"num_predict": 12, "temperature": 0}
    answer = ask(client, "/api/chat", messages=HELLO, options=options)
    expected = llm.chat(HELLO, max_tokens=12, temperature=0)
    assert answer["message"] == {"role": "assistant", "content": expected.text}
    assert answer["model"] == "llama-tercet-tiny"
    *pieces, last = stream(
        client, "/api/chat", messages=HELLO, options=options, model="llama-tercet-tiny:latest"
    )
    assert "".join(piece["message"]["content"] for piece in pieces) == expected.text
    assert last["message"] == {"role": "assistant", "content": ""}
    assert last["done"] is True
    assert last["model"] == "llama-tercet-tiny:latest"


def test_json_by_word_and_by_schema(client: httpx.Client) -> None:
    schema = {"enum": ["yes", "no"]}
    answer = ask(client, "/api/chat", messages=HELLO, format=schema, options={"num_predict": 20})
    assert json.loads(answer["message"]["content"]) in schema["enum"]
    options = {"num_predict": 200, "seed": 1}
    answer = ask(client, "/api/generate", prompt="An object:", format="json", options=options)
    assert answer["response"].startswith("{")


def test_a_tool_is_called_and_its_answer_read(client: httpx.Client) -> None:
    """The shipped model calls nothing of its own will; the shapes must hold either way."""
    tool = {
        "type": "function",
        "function": {
            "name": "now",
            "description": "The time.",
            "parameters": {"type": "object", "properties": {}},
        },
    }
    answer = ask(client, "/api/chat", messages=HELLO, tools=[tool], options={"num_predict": 16, "seed": 1})
    assert answer["message"]["role"] == "assistant"
    messages = [
        *HELLO,
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"function": {"name": "now", "arguments": {"a": 1}}}],
        },
        {"role": "tool", "content": "noon", "tool_name": "now"},
    ]
    answer = ask(client, "/api/chat", messages=messages, tools=[tool], options={"num_predict": 4})
    assert answer["done"] is True
    assert stream(client, "/api/chat", messages=HELLO, tools=[tool], options={"num_predict": 8})[-1]["done"]


# Refusals --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "body"),
    [
        ("options.num_ctx", {"options": {"num_ctx": 1_000_000}}),
        ("options.num_ctx", {"options": {"num_ctx": 3}}),
        ("options.mirostat", {"options": {"mirostat": 1}}),
        ("options.tfs_z", {"options": {"tfs_z": 0.5}}),
        ("options.temperature", {"options": {"temperature": "hot"}}),
        ("options.seed", {"options": {"seed": True}}),
        ("think", {"think": True}),
        ("template", {"template": "{{ .Prompt }}!"}),
        ("context", {"context": [1, 2]}),
        ("suffix", {"suffix": "end"}),
        ("images", {"images": ["aGk="]}),
        ("format", {"format": "xml"}),
        ("top_logprobs", {"top_logprobs": 50}),
    ],
)
def test_what_is_not_there_is_refused_by_name(client: httpx.Client, field: str, body: dict[str, Any]) -> None:
    assert field in refused(client, "/api/generate", prompt=PROMPT, **body)


def test_values_that_ask_for_nothing_are_accepted(client: httpx.Client) -> None:
    off = {"mirostat": 0, "tfs_z": 1.0, "typical_p": 1, "num_predict": 1}
    body = {"think": False, "template": "", "context": [], "suffix": "", "images": [], "format": ""}
    assert ask(client, "/api/generate", prompt=PROMPT, options=off, **body)["done"]


def test_images_in_a_message_are_refused(client: httpx.Client) -> None:
    message = {"role": "user", "content": "What is this?", "images": ["aGk="]}
    assert "images" in refused(client, "/api/chat", messages=[message])


def test_the_store_of_models_is_not_changed(client: httpx.Client) -> None:
    for path in ("/api/pull", "/api/push", "/api/create", "/api/copy"):
        assert path in refused(client, path, 501)
    answer = client.request("DELETE", "/api/delete", json={"model": "x"})
    assert answer.status_code == 501
    assert "tercet rm" in answer.json()["error"]


def test_bodies_of_any_content_type(client: httpx.Client) -> None:
    """The documentation of Ollama posts with `curl -d`."""
    headers = {"content-type": "application/x-www-form-urlencoded"}
    body = json.dumps({"model": "llama-tercet-tiny", "prompt": "x", "options": {"num_predict": 1}})
    assert client.post("/api/generate", content=body, headers=headers).status_code == 200


# The client ------------------------------------------------------------------------------------


def test_ollamas_own_client(serving: Server) -> None:
    with ollama.Client(host=serving.base_url) as client:
        assert client.list().models[0].model == "llama-tercet-tiny:latest"
        assert client.ps().models[0].context_length == 512
        assert "completion" in (client.show("llama-tercet-tiny").capabilities or [])
        options = {"num_predict": 8, "temperature": 0}
        answer = client.generate("llama-tercet-tiny", "Hello", options=options)
        pieces = client.chat("llama-tercet-tiny", HELLO, stream=True, options=options)
        assert "".join(piece.message.content or "" for piece in pieces) == answer.response

        def now(zone: str) -> str:
            """The time.

            Args:
                zone: where
            """
            return zone

        called = client.chat("llama-tercet-tiny", HELLO, tools=[now], options=options)
        assert called.message.role == "assistant"
        told = client.chat(
            "llama-tercet-tiny", HELLO, format={"enum": ["yes", "no"]}, options={"num_predict": 20}
        )
        assert told.message.content in ('"yes"', '"no"')
        with pytest.raises(ollama.ResponseError, match="model 'nope' not found") as caught:
            client.chat("nope", HELLO)
        assert caught.value.status_code == 404
        with pytest.raises(ollama.ResponseError, match="context of 512 tokens"):
            list(client.chat("llama-tercet-tiny", HELLO * 2000, stream=True))


# Embeddings ------------------------------------------------------------------------------------


def test_embeddings(
    client: httpx.Client, serve: Callable[..., Server], tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert "does not support embeddings" in refused(client, "/api/embed", 501, input="x")
    path: Path = embedding_model(tmp_path_factory.mktemp("embedding") / "model")
    server = serve(path, "--alias", "vectors")
    expected = LLM(path).embed(["a dog", "a cat"])
    with server.client() as other:
        found = ask(other, "/api/embed", model="vectors", input=["a dog", "a cat"])
        assert np.allclose(found["embeddings"], expected / np.linalg.norm(expected, axis=1, keepdims=True))
        assert found["prompt_eval_count"] > 0
        assert found["total_duration"] > 0
        one = ask(other, "/api/embed", model="vectors", input="a dog", dimensions=4)["embeddings"]
        assert np.shape(one) == (1, 4)
        old = ask(other, "/api/embeddings", model="vectors", prompt="a dog")
        assert np.allclose(old["embedding"], expected[0])
        native = other.post("/embedding", json={"content": "a dog"}).json()
        assert np.allclose(native[0]["embedding"], found["embeddings"][0])
        largest = other.post("/embeddings", json={"input": ["a dog"], "embd_normalize": 0}).json()
        assert np.isclose(np.abs(largest[0]["embedding"]).max(), 32_760)
        assert ask(other, "/api/show", model="vectors")["capabilities"] == ["embedding"]
        assert "embeddings" in refused(other, "/api/generate", 400, model="vectors", prompt="x")
