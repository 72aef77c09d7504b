"""`POST /api/generate`: one prompt, one answer."""

from __future__ import annotations

from collections.abc import AsyncGenerator
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
from tercet.server.ollama.bodies import OllamaGenerateBody
from tercet.server.ollama.errors import OllamaRoute, responses
from tercet.server.ollama.ndjson import LineStream, line
from tercet.server.ollama.options import check_context, check_prompt, constraint, model_of, sampling_params
from tercet.server.ollama.shapes import OllamaGenerated
from tercet.service.generation import Generation
from tercet.service.request import GenerationRequest
from tercet.service.served_model import ServedModel

__all__ = ["router"]

router = APIRouter(tags=["Ollama"], route_class=OllamaRoute)


@router.post("/api/generate", responses=responses(OllamaGenerated, lines=True))
async def generate(body: AnyTypeBody[OllamaGenerateBody], request: Request) -> Response:
    """Continue a prompt, or answer it where the model has a chat template."""
    service = request.app.state.service
    served = model_of(service.pool, body.model)
    if not body.prompt:
        return JSONResponse({**frame(body.model), "response": "", **loaded()})
    check_context(body, served)
    generation = await service.submit(_request(body, served, request.state.request_id))
    await check_prompt(body, generation)
    headers = Choices([generation]).headers
    if body.stream is not False:
        return LineStream(_stream(body, served, generation), headers)
    try:
        result = await generation.result()
    finally:
        await generation.cancel()
    answer = {**frame(body.model), "response": result.text, **final(result)}
    return JSONResponse({**answer, **_logprobs(body, served, result)}, headers=headers)


def _request(body: OllamaGenerateBody, served: ServedModel, request_id: str) -> GenerationRequest:
    return GenerationRequest(
        id=request_id,
        **_prompt(body, served),
        params=sampling_params(body),
        constraint=constraint(body),
        stream=body.stream is not False,
        model=served.name,
    )


def _prompt(body: OllamaGenerateBody, served: ServedModel) -> dict[str, Any]:
    """Text for a model that continues texts, a conversation for one that was made for them."""
    prompt, system = body.prompt or "", body.system
    if body.raw:
        return {"prompt": prompt}
    if not served.llm.has_chat_template:
        return {"prompt": f"{system}\n\n{prompt}" if system else prompt}
    messages = [{"role": "system", "content": system}] if system else []
    return {"messages": [*messages, {"role": "user", "content": prompt}]}


async def _stream(
    body: OllamaGenerateBody, served: ServedModel, generation: Generation
) -> AsyncGenerator[bytes, None]:
    try:
        async for event in generation:
            if event.text or body.logprobs:
                piece = {**frame(body.model), "response": event.text, "done": False}
                yield line({**piece, **_logprobs(body, served, event)})
        result = await generation.result()
        yield line({**frame(body.model), "response": "", **final(result)})
    finally:
        await generation.cancel()


def _logprobs(
    body: OllamaGenerateBody, served: ServedModel, source: TokenEvent | GenerationResult
) -> dict[str, Any]:
    return {"logprobs": token_logprobs(served.llm.tokenizer, source.logprobs)} if body.logprobs else {}
