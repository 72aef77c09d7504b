"""Whatever is asked for, the pieces of a stream are the text of the whole answer, byte for byte."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openai_streams import stream_events
from served import Server

STOPS = ["a", " the", "\n", ".", "og", "\u00e9", " was a l", "\ufffd", "\U0001f642"]
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30) | st.sampled_from(
    ["Once upon a time", "\u00e9t\u00e9 \u6771\u4eac \U0001f642\U0001f44d\U0001f3fd", "Tell me a story. " * 5]
)
BODIES = st.fixed_dictionaries(
    {"max_tokens": st.integers(1, 40), "seed": st.integers(0, 2**32)},
    optional={
        "temperature": st.sampled_from([0, 0.7, 1.5, 2]),
        "top_p": st.sampled_from([0.1, 0.9, 1]),
        "top_k": st.integers(-1, 50),
        "min_p": st.floats(0, 1),
        "stop": st.sampled_from(STOPS) | st.lists(st.sampled_from(STOPS), max_size=4, unique=True),
        "n": st.integers(1, 3),
        "frequency_penalty": st.floats(-2, 2),
        "presence_penalty": st.floats(-2, 2),
        "repetition_penalty": st.floats(0.5, 2),
        "ignore_eos": st.booleans(),
        "min_tokens": st.integers(0, 1),
        "logit_bias": st.dictionaries(st.integers(0, 4095).map(str), st.floats(-100, 100), max_size=5),
        "guided_regex": st.sampled_from(["[a-z ]{3,30}", "(\u00e9|\U0001f642|x)+", "[^a]*"]),
    },
)


@pytest.fixture(scope="module")
def client(serving: Server) -> Iterator[httpx.Client]:
    with serving.client() as client:
        yield client


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=BODIES, text=TEXT, as_chat=st.booleans())
def test_pieces_are_the_whole(client: httpx.Client, body: dict[str, Any], text: str, as_chat: bool) -> None:
    path = "/v1/chat/completions" if as_chat else "/v1/completions"
    asked = {"messages": [{"role": "user", "content": text}]} if as_chat else {"prompt": text}
    response = client.post(path, json={**asked, **body})
    assert response.status_code == 200, response.text
    choices = response.json()["choices"]
    pieces = [""] * len(choices)
    reasons = [""] * len(choices)
    for event in stream_events(client, path, {**asked, **body}):
        [choice] = event["choices"]
        added = choice["delta"].get("content", "") if as_chat else choice["text"]
        pieces[choice["index"]] += added
        reasons[choice["index"]] += choice["finish_reason"] or ""
    assert pieces == [choice["message"]["content"] if as_chat else choice["text"] for choice in choices]
    assert reasons == [choice["finish_reason"] for choice in choices]
    stops = [body["stop"]] if isinstance(body.get("stop"), str) else body.get("stop", [])
    assert not [stop for stop in stops for piece in pieces if stop in piece]
