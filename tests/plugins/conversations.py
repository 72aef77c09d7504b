"""Chat completions for tests: what is asked, and answers that the types of `openai` have checked."""

from __future__ import annotations

from typing import Any

import httpx
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from openai_streams import stream_events

PATH = "/v1/chat/completions"
ASK = [{"role": "user", "content": "Tell me a story about a dog."}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Paris", "Rome"]}, "days": {"enum": [1, 2]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
TIME = {
    "type": "function",
    "function": {"name": "get_time", "parameters": {"type": "object", "properties": {}}},
}


def chat(client: httpx.Client, **body: Any) -> dict[str, Any]:
    response = client.post(PATH, json={"messages": ASK, "max_tokens": 20, **body})
    assert response.status_code == 200, response.text
    ChatCompletion.model_validate(response.json(), strict=True)
    return response.json()


def streamed(client: httpx.Client, **body: Any) -> list[dict[str, Any]]:
    events = stream_events(client, PATH, {"messages": ASK, "max_tokens": 20, **body})
    for event in events:
        ChatCompletionChunk.model_validate(event, strict=True)
    return events


def refusal(client: httpx.Client, **body: Any) -> dict[str, Any]:
    response = client.post(PATH, json={"messages": ASK, "max_tokens": 1, **body})
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


def text(answer: dict[str, Any]) -> str:
    return answer["choices"][0]["message"]["content"]
