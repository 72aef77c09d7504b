"""langchain-openai in a session with `tercet serve`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Literal

import httpx
import numpy as np
import openai
import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from embedding_models import embedding_model
from idle import assert_idle
from served import Server
from tercet import LLM

MODEL = "llama-tercet-tiny"
ASK = [SystemMessage("You tell short stories."), HumanMessage("Tell me a story about a dog.")]


class Dog(BaseModel):
    """A dog."""

    model_config = ConfigDict(extra="forbid")
    name: str = Field(max_length=12)
    age: int = Field(ge=0, le=99)


@tool
def get_weather(city: Literal["Paris", "Rome"]) -> str:
    """The weather in a city."""
    return f"Sunny in {city}"


@pytest.fixture
def model(serving: Server) -> ChatOpenAI:
    return chat_model(serving, temperature=0, max_completion_tokens=40)


def chat_model(server: Server, **options: object) -> ChatOpenAI:
    return ChatOpenAI(
        model=MODEL, base_url=f"{server.base_url}/v1", api_key=SecretStr("none"), max_retries=0, **options
    )


def test_an_answer_whole_streamed_and_in_a_batch(model: ChatOpenAI) -> None:
    whole = model.invoke(ASK)
    assert whole.content
    assert whole.response_metadata["model_name"] == MODEL
    assert whole.usage_metadata is not None
    pieces = list(model.stream(ASK, stream_usage=True))
    assert "".join(str(piece.content) for piece in pieces) == whole.content
    streamed_usage = [piece.usage_metadata for piece in pieces if piece.usage_metadata]
    assert streamed_usage[-1]["output_tokens"] == whole.usage_metadata["output_tokens"]
    assert [answer.content for answer in model.batch([ASK, ASK, ASK])] == [whole.content] * 3


def test_a_tool_is_called_and_its_result_given_back(model: ChatOpenAI) -> None:
    forced = model.bind_tools([get_weather], tool_choice="any", strict=True, parallel_tool_calls=False)
    asked = forced.invoke(ASK, max_completion_tokens=200, extra_body={"min_p": 0.2})
    assert isinstance(asked, AIMessage)
    [call] = asked.tool_calls
    assert call["name"] == "get_weather"
    assert call["args"]["city"] in ("Paris", "Rome")
    result = get_weather.invoke(call)
    assert isinstance(result, ToolMessage)
    answer = model.bind_tools([get_weather], tool_choice="none").invoke([*ASK, asked, result])
    assert answer.content
    assert not answer.tool_calls
    gathered = None
    for piece in forced.stream(ASK, max_completion_tokens=200):
        gathered = piece if gathered is None else gathered + piece
    assert gathered is not None
    assert [one["args"] for one in gathered.tool_calls] == [call["args"]]


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_answers_as_objects(serving: Server, method: str) -> None:
    model = chat_model(serving, temperature=0, max_completion_tokens=200)
    assert isinstance(model.with_structured_output(Dog, method=method).invoke(ASK), Dog)


def test_the_responses_api(serving: Server) -> None:
    model = chat_model(serving, temperature=0, max_completion_tokens=40, use_responses_api=True)
    whole = model.invoke(ASK)
    assert whole.text
    assert "".join(piece.text for piece in model.stream(ASK)) == whole.text
    options = {"tool_choice": "get_weather", "strict": True, "parallel_tool_calls": False}
    called = model.bind_tools([get_weather], **options).invoke(ASK, max_output_tokens=200)
    assert [call["name"] for call in called.tool_calls] == ["get_weather"]


def test_log_probabilities(model: ChatOpenAI) -> None:
    content = model.bind(logprobs=True, top_logprobs=2).invoke(ASK).response_metadata["logprobs"]["content"]
    assert len(content) == 40
    assert all(len(one["top_logprobs"]) == 2 for one in content)


def test_errors_are_those_of_the_official_client(serving: Server, model: ChatOpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as long:
        model.invoke("dog " * 600)
    assert long.value.code == "context_length_exceeded"
    missing = ChatOpenAI(model="gpt-4o", base_url=f"{serving.base_url}/v1", api_key=SecretStr("none"))
    with pytest.raises(openai.NotFoundError):
        missing.invoke("Hi")


def test_a_stream_that_is_left_and_a_task_that_is_cancelled(serving: Server) -> None:
    model = chat_model(serving, max_completion_tokens=480, extra_body={"ignore_eos": True})
    stream = model.stream(ASK)
    next(stream)
    stream.close()
    assert_idle(serving)

    async def scene() -> None:
        async with httpx.AsyncClient() as own:
            model = chat_model(serving, extra_body={"ignore_eos": True}, http_async_client=own)
            assert len(await model.abatch([ASK, ASK], max_completion_tokens=9)) == 2
            task = asyncio.ensure_future(model.ainvoke(ASK, n=16))
            await asyncio.sleep(0.3)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(scene())
    assert_idle(serving)


def test_embeddings(tmp_path: Path) -> None:
    folder = embedding_model(tmp_path / "tiny-embedding")
    server = Server(folder)
    try:
        with server.client() as client:
            [name] = [entry["id"] for entry in client.get("/v1/models").json()["data"]]
        # Without its own tokenizer of OpenAI's models, which it would download.
        embeddings = OpenAIEmbeddings(
            model=name,
            base_url=f"{server.base_url}/v1",
            api_key=SecretStr("none"),
            check_embedding_ctx_length=False,
        )
        vectors = embeddings.embed_documents(["Once upon a time", "The little dog"])
        query = embeddings.embed_query("Once upon a time")
    finally:
        server.stop()
    with LLM(folder) as llm:
        expected = llm.embed(["Once upon a time", "The little dog"])
    assert np.array_equal(np.array(vectors, np.float32), expected)
    assert np.array_equal(np.array(query, np.float32), expected[0])
