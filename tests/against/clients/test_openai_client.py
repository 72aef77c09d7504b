"""The official `openai` client in a session with `tercet serve`; it checks every answer against its types."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterator

import openai
import pytest
from pydantic import BaseModel, Field

from idle import assert_idle
from served import Server

MODEL = "llama-tercet-tiny"
ASK = [{"role": "user", "content": "Tell me a story about a dog."}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
        "strict": True,
    },
}


class Dog(BaseModel):
    name: str = Field(max_length=12)
    age: int = Field(ge=0, le=99)


@pytest.fixture(scope="module")
def client(serving: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=f"{serving.base_url}/v1", api_key="none", max_retries=0, _strict_response_validation=True
    ) as client:
        yield client


def test_it_lists_the_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).id == MODEL


def test_a_conversation_whole_and_streamed(client: openai.OpenAI) -> None:
    options = {"model": MODEL, "messages": ASK, "temperature": 0, "stop": "."}
    whole = client.chat.completions.create(**options)
    text = whole.choices[0].message.content
    assert text
    chunks = list(
        client.chat.completions.create(**options, stream=True, stream_options={"include_usage": True})
    )
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == text
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    with client.chat.completions.stream(**options) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_completion()
    assert {"chunk", "content.delta", "content.done"} <= set(kinds)
    assert final.choices[0].message.content == text


def test_answers_as_objects(client: openai.OpenAI) -> None:
    answer = client.chat.completions.parse(
        model=MODEL, messages=ASK, response_format=Dog, max_tokens=200, seed=1, temperature=0.2
    )
    assert isinstance(answer.choices[0].message.parsed, Dog)
    response = client.responses.parse(
        model=MODEL, input="A dog, please.", text_format=Dog, max_output_tokens=200, temperature=0.2
    )
    assert isinstance(response.output_parsed, Dog)


def test_a_tool_is_called_and_its_result_given_back(client: openai.OpenAI) -> None:
    first = client.chat.completions.create(
        model=MODEL, messages=ASK, tools=[WEATHER], tool_choice="required", parallel_tool_calls=False, seed=1
    )
    assert first.choices[0].finish_reason == "tool_calls"
    message = first.choices[0].message
    [call] = message.tool_calls
    assert json.loads(call.function.arguments)["city"] in ("Paris", "Rome")
    result = {"role": "tool", "tool_call_id": call.id, "content": "Sunny"}
    second = client.chat.completions.create(
        model=MODEL, messages=[*ASK, message, result], tools=[WEATHER], tool_choice="none", max_tokens=20
    )
    assert second.choices[0].message.content
    with client.chat.completions.stream(
        model=MODEL, messages=ASK, tools=[WEATHER], tool_choice="required", parallel_tool_calls=False
    ) as stream:
        done = [event for event in stream if event.type == "tool_calls.function.arguments.done"]
    assert done
    assert all(json.loads(event.arguments)["city"] in ("Paris", "Rome") for event in done)


def test_completions_and_what_is_particular_to_them(client: openai.OpenAI) -> None:
    answer = client.completions.create(
        model=MODEL, prompt=["Once", "The dog"], n=2, best_of=3, seed=1, max_tokens=5, logprobs=2, echo=False
    )
    assert len(answer.choices) == 4
    assert len(answer.choices[0].logprobs.tokens) == 5
    extra = client.completions.create(
        model=MODEL, prompt="Year: ", max_tokens=10, extra_body={"guided_regex": "[0-9]{4}", "top_k": 5}
    )
    assert re.fullmatch("[0-9]{4}", extra.choices[0].text)


def test_responses_whole_and_as_events(client: openai.OpenAI) -> None:
    whole = client.responses.create(
        model=MODEL, input="Tell me a story.", temperature=0, max_output_tokens=30
    )
    with client.responses.stream(
        model=MODEL, input="Tell me a story.", temperature=0, max_output_tokens=30
    ) as stream:
        text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        final = stream.get_final_response()
    assert text == final.output_text == whole.output_text != ""
    assert final.usage.output_tokens == whole.usage.output_tokens


def test_errors_are_of_the_classes_of_the_client(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="gpt-4o", messages=ASK)
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as long:
        client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "dog " * 600}])
    assert long.value.code == "context_length_exceeded"
    part = {"type": "image_url", "image_url": {"url": "http://127.0.0.1:9/dog.png"}}
    with pytest.raises(openai.BadRequestError) as image:
        client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": [part]}])
    assert image.value.param == "messages[0].content[0].type"
    with pytest.raises(openai.BadRequestError, match="not made for embeddings"):
        client.embeddings.create(model=MODEL, input="dog")
    with pytest.raises(openai.BadRequestError) as stored:
        client.responses.create(model=MODEL, input="Hi", store=True)
    assert stored.value.param == "store"


def test_a_stream_that_is_left_costs_nothing_more(client: openai.OpenAI, serving: Server) -> None:
    options = {"model": MODEL, "messages": ASK, "max_tokens": 480, "extra_body": {"ignore_eos": True}}
    with client.chat.completions.create(**options, stream=True) as stream:
        for _, _ in zip(stream, range(3), strict=False):
            pass
    assert_idle(serving)

    async def cancelled() -> None:
        async with openai.AsyncOpenAI(base_url=f"{serving.base_url}/v1", api_key="none") as own:
            task = asyncio.ensure_future(own.chat.completions.create(**options, n=32))
            await asyncio.sleep(0.2)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(cancelled())
    assert_idle(serving)


def test_it_waits_and_tries_again_where_the_server_is_full(serve: Callable[..., Server]) -> None:
    slow = "from tercet.engine.mock import Faults, inject; inject(Faults(delay_seconds=0.02))"
    server = serve("--max-concurrent", "1", "--max-queued", "1", first=slow)

    async def session() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{server.base_url}/v1", api_key="none", max_retries=8) as own:
            answers = await asyncio.gather(
                *(
                    own.chat.completions.create(model=MODEL, messages=ASK, max_tokens=40, seed=seed)
                    for seed in range(4)
                )
            )
            return [answer.choices[0].message.content for answer in answers]

    assert all(asyncio.run(session()))
    with server.client() as raw:
        metrics = raw.get("/metrics").text
    refused = re.findall(r"^vllm:admission_rejections_total\{.*\} (\S+)", metrics, re.M)
    assert sum(map(float, refused)) >= 1
