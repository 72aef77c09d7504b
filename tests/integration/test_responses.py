"""`/v1/responses` of a real server: whole responses, and events that build the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from openai_streams import read_events
from served import Server

PATH = "/v1/responses"
EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather in a city",
    "parameters": {
        "type": "object",
        "properties": {"city": {"enum": ["Paris", "Rome"]}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "strict": True,
}
SCHEMA = {
    "type": "object",
    "properties": {"age": {"type": "integer", "maximum": 99}},
    "required": ["age"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def client(serving: Server) -> Iterator[httpx.Client]:
    with serving.client() as client:
        yield client


def respond(client: httpx.Client, **body: Any) -> dict[str, Any]:
    response = client.post(PATH, json={"input": "Tell me a story.", "max_output_tokens": 20, **body})
    assert response.status_code == 200, response.text
    Response.model_validate(response.json(), strict=True)
    return response.json()


def streamed(client: httpx.Client, **body: Any) -> list[dict[str, Any]]:
    body = {"input": "Tell me a story.", "max_output_tokens": 20, **body, "stream": True}
    response = client.post(PATH, json=body)
    events = read_events(response)
    names = [line.removeprefix("event: ") for line in response.text.split("\n") if line.startswith("event: ")]
    assert names == [event["type"] for event in events]
    for event in events:
        EVENT.validate_python(event, strict=True)
    return events


def said(response: dict[str, Any]) -> str:
    return "".join(
        part["text"] for item in response["output"] if item["type"] == "message" for part in item["content"]
    )


def rebuilt(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The output as a client builds it from the events, checking that each is about what there is."""
    items: list[dict[str, Any]] = []
    for event in events:
        kind = event["type"].removeprefix("response.")
        if kind == "output_item.added":
            assert event["output_index"] == len(items)
            assert event["item"]["status"] == "in_progress"
            items.append(event["item"])
            continue
        if "output_index" not in event:
            continue
        assert event["output_index"] == len(items) - 1
        item = items[-1]
        assert event.get("item_id", item["id"]) == item["id"]
        if kind == "content_part.added":
            assert event["content_index"] == len(item["content"]) == 0
            item["content"].append(event["part"])
        elif kind == "output_text.delta":
            item["content"][0]["text"] += event["delta"]
            item["content"][0]["logprobs"] += event["logprobs"]
        elif kind == "output_text.done":
            assert event["text"] == item["content"][0]["text"]
        elif kind == "content_part.done":
            assert event["part"] == item["content"][0]
        elif kind == "function_call_arguments.delta":
            item["arguments"] += event["delta"]
        elif kind == "function_call_arguments.done":
            assert event["arguments"] == item["arguments"]
        elif kind == "output_item.done":
            item["status"] = event["item"]["status"]
            assert event["item"] == item
    return items


def without_ids(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in item.items() if name not in ("id", "call_id")} for item in items]


def test_a_whole_response(client: httpx.Client) -> None:
    response = respond(client, temperature=0, instructions="Be short.", metadata={"a": "b"})
    assert response["status"] == "incomplete"
    assert response["incomplete_details"] == {"reason": "max_output_tokens"}
    assert response["store"] is False
    assert response["temperature"] == 0
    assert response["metadata"] == {"a": "b"}
    assert response["usage"]["output_tokens"] == 20
    messages = [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "Tell me a story."},
    ]
    chat = client.post(
        "/v1/chat/completions", json={"messages": messages, "temperature": 0, "max_tokens": 20}
    ).json()
    assert said(response) == chat["choices"][0]["message"]["content"]
    assert response["usage"]["input_tokens"] == chat["usage"]["prompt_tokens"]


@pytest.mark.parametrize(
    "body",
    [
        {"temperature": 0},
        {"temperature": 0, "include": ["message.output_text.logprobs"], "top_logprobs": 2},
        {"seed": 3, "text": {"format": {"type": "json_schema", "name": "a", "schema": SCHEMA}}},
        {"seed": 3, "tools": [WEATHER], "tool_choice": "required", "max_output_tokens": 100},
        {"seed": 3, "tools": [WEATHER], "tool_choice": {"type": "function", "name": "get_weather"}},
        {"seed": 3, "tools": [WEATHER]},
    ],
)
def test_the_events_build_the_whole_response(client: httpx.Client, body: dict[str, Any]) -> None:
    whole = respond(client, **body)
    events = streamed(client, **body)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert [event["type"] for event in events[:2]] == ["response.created", "response.in_progress"]
    assert events[0]["response"]["status"] == "in_progress"
    assert events[0]["response"]["output"] == []
    assert events[-1]["type"] == f"response.{whole['status']}"
    final = events[-1]["response"]
    assert rebuilt(events) == final["output"]
    assert without_ids(final["output"]) == without_ids(whole["output"])
    assert all(event["response"]["id"] == final["id"] for event in events if "response" in event)
    changing = ("id", "created_at", "completed_at", "output", "usage")
    for name in set(whole) - set(changing):
        assert final[name] == whole[name], name
    assert final["usage"]["total_tokens"] == whole["usage"]["total_tokens"]


def test_text_in_the_format_that_was_asked_for(client: httpx.Client) -> None:
    format_ = {"type": "json_schema", "name": "person", "schema": SCHEMA, "strict": True}
    response = respond(client, text={"format": format_}, seed=1, max_output_tokens=60)
    assert response["status"] == "completed"
    assert response["incomplete_details"] is None
    assert set(json.loads(said(response))) == {"age"}
    assert response["text"]["format"] == format_
    some = respond(client, text={"format": {"type": "json_object"}}, seed=1)
    assert said(some).lstrip().startswith("{")


def test_calls_and_their_results(client: httpx.Client) -> None:
    body = {"tools": [WEATHER], "tool_choice": "required", "parallel_tool_calls": False}
    response = respond(client, **body, seed=1, max_output_tokens=200)
    assert response["status"] == "completed"
    call = response["output"][0]
    assert call["type"] == "function_call"
    assert json.loads(call["arguments"])["city"] in ("Paris", "Rome")
    follow_up = [
        {"role": "user", "content": [{"type": "input_text", "text": "Weather?"}]},
        *response["output"],
        *(
            {"type": "function_call_output", "call_id": item["call_id"], "output": "Sunny"}
            for item in response["output"]
        ),
    ]
    assert said(respond(client, input=follow_up, tools=[WEATHER], tool_choice="none"))


def test_an_earlier_output_is_an_input(client: httpx.Client) -> None:
    first = respond(client, seed=1, max_output_tokens=8)
    history = [
        {"role": "user", "content": "Tell me a story."},
        *first["output"],
        {"role": "user", "content": "Go on."},
    ]
    by_items = respond(client, input=history, temperature=0)
    messages = [
        {"role": "user", "content": "Tell me a story."},
        {"role": "assistant", "content": said(first)},
        {"role": "user", "content": "Go on."},
    ]
    assert said(by_items) == said(respond(client, input=messages, temperature=0))


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"store": True}, "store"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": {"id": "conv_1"}}, "conversation"),
        ({"background": True}, "background"),
        ({"reasoning": {"effort": "high"}}, "reasoning.effort"),
        ({"text": {"format": {"type": "json_schema", "name": "a"}}}, "text.format"),
        ({"tools": [{"type": "web_search"}]}, "tools[0]"),
        ({"tools": [WEATHER], "tool_choice": {"type": "function", "name": "other"}}, "tool_choice"),
        ({"input": [{"type": "item_reference", "id": "a"}]}, "input[0].type"),
        ({"input": [{"type": "function_call", "name": "a"}]}, "input[0]"),
        (
            {
                "input": [
                    {"role": "user", "content": [{"type": "input_image", "image_url": "http://127.0.0.1:9"}]}
                ]
            },
            "input[0].content[0].type",
        ),
    ],
)
def test_what_cannot_be_is_refused_by_name(client: httpx.Client, body: dict[str, Any], param: str) -> None:
    response = client.post(PATH, json={"input": "Hi", "max_output_tokens": 1, **body})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param, response.text
