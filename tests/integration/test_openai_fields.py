"""Every field that OpenAI's own types know is used, or is refused by its name; none is overlooked.

The tables below have a line for each of them: a value that is accepted, and one that is refused where there
is such a one. A field that a new version of the `openai` package adds makes the test fail until it is here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from openai.types.chat.completion_create_params import CompletionCreateParamsBase as ChatParams
from openai.types.completion_create_params import CompletionCreateParamsBase as CompletionParams
from openai.types.embedding_create_params import EmbeddingCreateParams
from openai.types.responses.response_create_params import ResponseCreateParamsBase as ResponseParams

from served import Server

ASK = [{"role": "user", "content": "Hi"}]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
FLAT_TOOL = {
    "type": "function",
    "name": "f",
    "parameters": {"type": "object", "properties": {}},
    "strict": True,
}
NO = object()
"""No value but null is accepted, or none is refused."""

# name: (accepted, refused)
SHARED: dict[str, tuple[Any, Any]] = {
    "metadata": ({"a": "b"}, {"a": 1}),
    "model": (None, 5),
    "moderation": (NO, {"model": "omni-moderation-latest"}),
    "parallel_tool_calls": (False, 1),
    "prompt_cache_key": ("key", 5),
    "prompt_cache_options": ({"mode": "implicit", "ttl": "30m"}, 5),
    "prompt_cache_retention": ("in_memory", "24h"),
    "safety_identifier": ("someone", 5),
    "service_tier": ("auto", "flex"),
    "store": (False, True),
    "stream": (False, "true"),
    "stream_options": ({"include_obfuscation": False}, {"include_obfuscation": True}),
    "temperature": (2, 2.01),
    "tool_choice": ("auto", "always"),
    "top_p": (0, 1.01),
    "user": ("someone", 5),
}
CHAT = SHARED | {
    "audio": (NO, {"voice": "alloy", "format": "mp3"}),
    "frequency_penalty": (-2, 2.5),
    "function_call": (NO, "none"),
    "functions": (NO, [{"name": "f"}]),
    "logit_bias": ({"5": -100}, {"5": -101}),
    "logprobs": (True, 1),
    "max_completion_tokens": (1, 0),
    "max_tokens": (1, 1.5),
    "messages": (ASK, []),
    "modalities": (["text"], ["text", "audio"]),
    "n": (2, 0),
    "prediction": ({"type": "content", "content": "Hello"}, "Hello"),
    "presence_penalty": (2, -2.5),
    "reasoning_effort": ("none", "high"),
    "response_format": ({"type": "text"}, {"type": "yaml"}),
    "seed": (-1, 2**63),
    "stop": (["a", "b", "c", "d"], [5]),
    "tools": ([TOOL], [{"type": "custom", "custom": {"name": "c"}}]),
    "top_logprobs": (NO, 5),
    "verbosity": ("medium", "high"),
    "web_search_options": (NO, {}),
}
COMPLETION = {
    name: CHAT[name]
    for name in (
        "model", "frequency_penalty", "logit_bias", "max_tokens", "n", "presence_penalty", "seed", "stop",
        "stream", "stream_options", "temperature", "top_p", "user",
    )
} | {
    "best_of": (2, 21),
    "echo": (True, "yes"),
    "logprobs": (5, True),
    "prompt": ("Once", None),
    "suffix": (NO, "end"),
}  # fmt: skip
RESPONSE = SHARED | {
    "access_programs": (NO, {"cyber": "standard"}),
    "background": (False, True),
    "background_options": (NO, {"completion_window": "2h"}),
    "context_management": (NO, [{"type": "compaction"}]),
    "conversation": (NO, "conv_1"),
    "image": (NO, {"context_compression": "auto"}),
    "include": (["reasoning.encrypted_content", "message.output_text.logprobs"], "all"),
    "input": ("Hi", [{"type": "item_reference", "id": "msg_1"}]),
    "instructions": ("Be kind.", ["Be kind."]),
    "max_output_tokens": (1, 0),
    "max_tool_calls": (1, 0),
    "previous_response_id": (NO, "resp_1"),
    "prompt": (NO, {"id": "pmpt_1"}),
    "reasoning": ({"effort": "none", "summary": "auto"}, {"effort": "low"}),
    "text": ({"format": {"type": "text"}, "verbosity": "medium"}, {"verbosity": "low"}),
    "tools": ([FLAT_TOOL], [{"type": "web_search"}]),
    "top_logprobs": (3, 21),
    "truncation": ("disabled", "auto"),
}
EMBEDDING = {
    "input": (NO, []),
    "model": (NO, 5),
    "encoding_format": (NO, "int8"),
    "dimensions": (NO, 0),
    "user": (NO, 5),
}
ROUTES = {
    "/v1/chat/completions": (ChatParams, CHAT, {"messages": ASK, "max_tokens": 1}),
    "/v1/completions": (CompletionParams, COMPLETION, {"prompt": "Once", "max_tokens": 1}),
    "/v1/responses": (ResponseParams, RESPONSE, {"input": "Hi", "max_output_tokens": 1}),
    "/v1/embeddings": (EmbeddingCreateParams, EMBEDDING, {"input": "Hi"}),
}
CASES = [(path, name, *values) for path, (_, table, _) in ROUTES.items() for name, values in table.items()]


@pytest.fixture(scope="module")
def client(serving: Server) -> Iterator[httpx.Client]:
    with serving.client() as client:
        yield client


@pytest.mark.parametrize("path", ROUTES)
def test_the_tables_have_every_field(path: str) -> None:
    types, table, _ = ROUTES[path]
    known = set(types.__annotations__) | {"stream"} - ({"stream"} if path == "/v1/embeddings" else set())
    assert set(table) == known
    assert path != "/v1/chat/completions" or len(table) == 37


@pytest.mark.parametrize(("path", "name", "accepted", "refused"), CASES)
def test_a_field_is_accepted_or_refused_by_its_name(
    client: httpx.Client, path: str, name: str, accepted: Any, refused: Any
) -> None:
    body = ROUTES[path][2]
    if accepted is not NO:
        response = client.post(path, json={**body, name: accepted})
        assert response.status_code == 200, response.text
    response = client.post(path, json={**body, name: refused})
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["param"].startswith(name)
    assert error["message"]
    assert isinstance(error["code"], str)
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("path", "name"),
    [case[:2] for case in CASES if case[1] not in ("messages", "prompt", "input", "max_tokens")],
)
def test_null_asks_for_nothing(client: httpx.Client, path: str, name: str) -> None:
    body = ROUTES[path][2]
    response = client.post(path, json={**body, name: None})
    if path == "/v1/embeddings":
        assert response.json()["error"]["code"] == "unsupported_model"
    else:
        assert response.status_code == 200, response.text


def test_fields_that_nobody_knows_are_accepted_and_change_nothing(client: httpx.Client) -> None:
    for path, (_, _, body) in ROUTES.items():
        status = client.post(path, json=body).status_code
        assert client.post(path, json={**body, "from_the_future": {"a": [1]}}).status_code == status
