"""Answers of `/v1/chat/completions` in a form that was asked for: patterns, schemas, calls of tools."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from conversations import TIME, WEATHER, chat, text
from served import Server

SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 12}, "age": {"type": "integer", "maximum": 99}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def client(serving: Server) -> Iterator[httpx.Client]:
    with serving.client() as client:
        yield client


@pytest.mark.parametrize(
    ("asked", "pattern"),
    [
        ({"guided_regex": "[0-9]{4}-[0-9]{2}"}, "[0-9]{4}-[0-9]{2}"),
        ({"structured_outputs": {"regex": "(cat|dog)s?"}}, "(cat|dog)s?"),
        ({"guided_choice": ["yes", 'no "never"']}, 'yes|no "never"'),
        ({"structured_outputs": {"choice": ["été", "winter"]}}, "été|winter"),
        ({"guided_grammar": 'start: "a" b b\nb: "b" "!"?'}, "ab!?b!?"),
        ({"grammar": 'root ::= "x" [0-9]'}, "x[0-9]"),
        ({"structured_outputs": {"grammar": 'start: /[a-c]+/ "!"'}, "max_tokens": 60}, "[a-c]+!?"),
    ],
)
def test_text_follows_a_pattern(client: httpx.Client, asked: dict[str, Any], pattern: str) -> None:
    assert re.fullmatch(pattern, text(chat(client, seed=1, **asked)))


@pytest.mark.parametrize(
    "asked",
    [
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "p", "schema": SCHEMA, "strict": True},
            }
        },
        {"guided_json": SCHEMA},
        {"guided_json": json.dumps(SCHEMA)},
        {"json_schema": SCHEMA},
        {"structured_outputs": {"json": SCHEMA}},
    ],
)
def test_json_follows_a_schema(client: httpx.Client, asked: dict[str, Any]) -> None:
    choice = chat(client, seed=1, max_tokens=100, **asked)["choices"][0]
    assert choice["finish_reason"] == "stop"
    value = json.loads(choice["message"]["content"])
    assert set(value) == {"name", "age"}
    assert value["age"] <= 99


def test_json_objects_of_any_form(client: httpx.Client) -> None:
    for asked in (
        {"response_format": {"type": "json_object"}},
        {"structured_outputs": {"json_object": True}},
    ):
        for seed in range(3):
            choice = chat(client, seed=seed, max_tokens=300, **asked)["choices"][0]
            if choice["finish_reason"] == "stop":
                assert isinstance(json.loads(choice["message"]["content"]), dict)
            else:
                assert choice["message"]["content"].lstrip().startswith("{")


def test_a_tool_that_must_be_called_is_called_with_arguments_of_its_schema(client: httpx.Client) -> None:
    named = {"type": "function", "function": {"name": "get_weather"}}
    for choice in ("required", named):
        body = {"tools": [WEATHER], "tool_choice": choice, "parallel_tool_calls": False, "max_tokens": 200}
        answer = chat(client, seed=1, **body)["choices"][0]
        assert answer["finish_reason"] == "tool_calls"
        assert answer["message"]["content"] is None
        for call in answer["message"]["tool_calls"]:
            assert call["type"] == "function"
            assert call["id"]
            assert call["function"]["name"] == "get_weather"
            assert json.loads(call["function"]["arguments"])["city"] in ("Paris", "Rome")


def test_one_call_where_calls_are_not_to_be_parallel(client: httpx.Client) -> None:
    for seed in range(4):
        body = {"tools": [WEATHER, TIME], "tool_choice": "required", "parallel_tool_calls": False}
        message = chat(client, **body, seed=seed, max_tokens=100)["choices"][0]["message"]
        assert len(message["tool_calls"]) == 1


def test_allowed_tools_leave_the_others_out(client: httpx.Client) -> None:
    allowed = {
        "type": "allowed_tools",
        "allowed_tools": {
            "mode": "required",
            "tools": [{"type": "function", "function": {"name": "get_time"}}],
        },
    }
    for seed in range(3):
        answer = chat(client, tools=[WEATHER, TIME], tool_choice=allowed, seed=seed, max_tokens=100)
        calls = answer["choices"][0]["message"]["tool_calls"]
        assert {call["function"]["name"] for call in calls} == {"get_time"}


def test_results_of_tools_come_back_in_the_conversation(client: httpx.Client) -> None:
    call = {
        "id": "call_1",
        "type": "function",
        "function": {"name": "get_weather", "arguments": '{"city": "Rome"}'},
    }
    messages = [
        {"role": "developer", "content": "Be short."},
        {
            "role": "user",
            "content": [{"type": "text", "text": "Weather"}, {"type": "text", "text": "in Rome?"}],
        },
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {
            "role": "tool",
            "tool_call_id": "call_1",
            "content": [{"type": "text", "text": "Sunny, 25 degrees"}],
        },
    ]
    assert text(chat(client, messages=messages, tools=[WEATHER], tool_choice="none"))
