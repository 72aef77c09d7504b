"""pydantic-ai in a session with `tercet serve`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
from pydantic import BaseModel, ConfigDict, Field
from pydantic_ai import Agent, NativeOutput
from pydantic_ai.direct import model_request
from pydantic_ai.embeddings import Embedder
from pydantic_ai.embeddings.openai import OpenAIEmbeddingModel
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.messages import ModelRequest, ToolCallPart, ToolReturnPart
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import ToolDefinition

from embedding_models import embedding_model
from idle import assert_idle
from served import Server
from tercet import LLM

MODEL = "llama-tercet-tiny"
GREEDY = ModelSettings(temperature=0, max_tokens=40)
ROOMY = ModelSettings(temperature=0, max_tokens=200)
WEATHER = ToolDefinition(
    name="get_weather",
    description="The weather in a city",
    parameters_json_schema={
        "type": "object",
        "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
        "required": ["city"],
        "additionalProperties": False,
    },
)


class Dog(BaseModel):
    """A dog."""

    model_config = ConfigDict(extra="forbid")
    name: str = Field(max_length=12)
    age: int = Field(ge=0, le=99)


def play(server: Server, scene: Callable[[OpenAIProvider], Awaitable[None]]) -> None:
    """Run a scene with a connection of its own; the library would keep one for all event loops."""

    async def connected() -> None:
        async with openai.AsyncOpenAI(base_url=f"{server.base_url}/v1", api_key="none") as own:
            await scene(OpenAIProvider(openai_client=own))

    asyncio.run(connected())


def test_an_answer_whole_and_streamed(serving: Server) -> None:
    async def scene(provider: OpenAIProvider) -> None:
        model = OpenAIChatModel(MODEL, provider=provider)
        agent = Agent(model, instructions="You tell short stories.", model_settings=GREEDY)
        whole = await agent.run("Tell me a story about a dog.")
        assert whole.output
        assert whole.usage.output_tokens == 40
        async with agent.run_stream("Tell me a story about a dog.") as run:
            pieces = [piece async for piece in run.stream_text(delta=True, debounce_by=None)]
        assert "".join(pieces) == whole.output
        assert (await agent.run("Go on.", message_history=whole.all_messages())).output

    play(serving, scene)


@pytest.mark.parametrize("output", [Dog, NativeOutput(Dog)], ids=["by a tool", "by a schema"])
@pytest.mark.parametrize("kind", [OpenAIChatModel, OpenAIResponsesModel])
def test_answers_as_objects(serving: Server, kind: type[Model], output: Any) -> None:
    async def scene(provider: OpenAIProvider) -> None:
        agent = Agent(kind(MODEL, provider=provider), output_type=output, model_settings=ROOMY)
        assert isinstance((await agent.run("A dog, please.")).output, Dog)

    play(serving, scene)


def test_a_tool_is_called_and_its_result_given_back(serving: Server) -> None:
    async def scene(provider: OpenAIProvider) -> None:
        model = OpenAIChatModel(MODEL, provider=provider)
        tools = ModelRequestParameters(function_tools=[WEATHER])
        question = ModelRequest.user_text_prompt("What is the weather?")
        must = ModelSettings(**ROOMY, tool_choice="required", parallel_tool_calls=False)
        forced = await model_request(model, [question], model_settings=must, model_request_parameters=tools)
        [call] = [part for part in forced.parts if isinstance(part, ToolCallPart)]
        assert call.tool_name == "get_weather"
        assert call.args_as_dict()["city"] in ("Paris", "Rome")
        result = ModelRequest(parts=[ToolReturnPart("get_weather", "Sunny", tool_call_id=call.tool_call_id)])
        answer = await model_request(
            model, [question, forced, result], model_settings=GREEDY, model_request_parameters=tools
        )
        assert answer.parts

    play(serving, scene)


def test_the_responses_api(serving: Server) -> None:
    async def scene(provider: OpenAIProvider) -> None:
        agent = Agent(OpenAIResponsesModel(MODEL, provider=provider), model_settings=GREEDY)
        whole = (await agent.run("Tell me a story about a dog.")).output
        assert whole
        async with agent.run_stream("Tell me a story about a dog.") as run:
            pieces = [piece async for piece in run.stream_text(delta=True, debounce_by=None)]
        assert "".join(pieces) == whole

    play(serving, scene)


def test_errors_have_status_and_body(serving: Server) -> None:
    async def scene(provider: OpenAIProvider) -> None:
        with pytest.raises(ModelHTTPError) as long:
            await Agent(OpenAIChatModel(MODEL, provider=provider)).run("dog " * 600)
        assert long.value.status_code == 400
        assert isinstance(long.value.body, dict)
        assert long.value.body["code"] == "context_length_exceeded"
        with pytest.raises(ModelHTTPError) as missing:
            await Agent(OpenAIChatModel("gpt-4o", provider=provider)).run("Hi")
        assert missing.value.status_code == 404

    play(serving, scene)


def test_a_run_that_is_cancelled_ends_at_the_server(serving: Server) -> None:
    async def scene(provider: OpenAIProvider) -> None:
        settings = ModelSettings(max_tokens=480, extra_body={"ignore_eos": True, "n": 16})
        agent = Agent(OpenAIChatModel(MODEL, provider=provider), model_settings=settings)
        task = asyncio.ensure_future(agent.run("Tell me a story."))
        await asyncio.sleep(0.3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.to_thread(assert_idle, serving)

    play(serving, scene)


def test_embeddings(tmp_path: Path) -> None:
    folder = embedding_model(tmp_path / "tiny-embedding")
    server = Server(folder)
    vectors: list[Any] = []

    async def scene(provider: OpenAIProvider) -> None:
        [name] = [model.id async for model in provider.client.models.list()]
        result = await Embedder(OpenAIEmbeddingModel(name, provider=provider)).embed_query("Once upon a time")
        vectors.extend(result.embeddings)

    try:
        play(server, scene)
    finally:
        server.stop()
    with LLM(folder) as llm:
        expected = llm.embed("Once upon a time")
    assert np.array_equal(np.float32(vectors[0]), expected)
