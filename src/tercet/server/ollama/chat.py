"""`POST /api/chat`: the next turn of a conversation."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tercet.engine.request_stream import TokenEvent
from tercet.engine.result import GenerationResult
from tercet.server.bodies import AnyTypeBody
from tercet.server.generation.accounts import token_logprobs
from tercet.server.generation.choices import Choices
from tercet.server.ollama.answers import final, frame, loaded
from tercet.server.ollama.bodies import OllamaChatBody
from tercet.server.ollama.errors import OllamaRoute, responses
from tercet.server.ollama.messages import Turn, conversation, tools_of
from tercet.server.ollama.ndjson import LineStream, line
from tercet.server.ollama.options import check_context, check_prompt, constraint, model_of, sampling_params
from tercet.server.ollama.shapes import OllamaChatted
from tercet.service.generation import Generation
from tercet.service.request import GenerationRequest
from tercet.service.served_model import ServedModel
from tercet.service.tool_calls import ToolCallParser

__all__ = ["router"]

router = APIRouter(tags=["Ollama"], route_class=OllamaRoute)


@router.post("/api/chat", responses=responses(OllamaChatted, lines=True))
async def chat(body: AnyTypeBody[OllamaChatBody], request: Request) -> Response:
    """Answer a conversation."""
    service = request.app.state.service
    served = model_of(service.pool, body.model)
    if not body.messages:
        message = {"role": "assistant", "content": ""}
        return JSONResponse({**frame(body.model), "message": message, **loaded()})
    check_context(body, served)
    tools = tools_of(body.tools)
    generation = await service.submit(
        GenerationRequest(
            id=request.state.request_id,
            messages=conversation(body.messages),
            tools=tools,
            params=sampling_params(body),
            constraint=constraint(body),
            stream=body.stream is not False,
            model=served.name,
        )
    )
    await check_prompt(body, generation)
    answer = _Answer(body, served, generation, Turn(ToolCallParser(tools) if tools else None))
    headers = Choices([generation]).headers
    if body.stream is not False:
        return LineStream(answer.stream(), headers)
    return JSONResponse(await answer.whole(), headers=headers)


@dataclass(frozen=True)
class _Answer:
    body: OllamaChatBody
    served: ServedModel
    generation: Generation
    turn: Turn

    async def whole(self) -> dict[str, Any]:
        """The answer in one object."""
        try:
            result = await self.generation.result()
        finally:
            await self.generation.cancel()
        content = self.turn.push(result.text, last=True)
        return self._object(content, final(result), result, self.turn.calls)

    async def stream(self) -> AsyncGenerator[bytes, None]:
        """The answer in lines: text as it comes, calls of tools when complete, figures at the end."""
        try:
            async for event in self.generation:
                content = self.turn.push(event.text)
                if content or self.body.logprobs:
                    yield line(self._object(content, {"done": False}, event))
            result = await self.generation.result()
            content = self.turn.push("", last=True)
            if content or self.turn.calls:
                yield line(self._object(content, {"done": False}, None, self.turn.calls))
            yield line(self._object("", final(result)))
        finally:
            await self.generation.cancel()

    def _object(
        self,
        content: str,
        ending: dict[str, Any],
        source: TokenEvent | GenerationResult | None = None,
        calls: list[dict[str, Any]] | None = None,
    ) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": content}
        if calls:
            message["tool_calls"] = calls
        written = {**frame(self.body.model), "message": message, **ending}
        if self.body.logprobs and source is not None:
            written["logprobs"] = token_logprobs(self.served.llm.tokenizer, source.logprobs)
        return written
