"""`POST /v1/completions`."""

from __future__ import annotations

from collections.abc import Iterator

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tercet.server.bodies import Body
from tercet.server.completions.answer import CompletionAnswer
from tercet.server.completions.body import CompletionBody
from tercet.server.completions.described import Completion
from tercet.server.generation.choices import Choices
from tercet.server.generation.constraints import naming_constraints
from tercet.server.streaming.response import EventStream
from tercet.service.request import GenerationRequest

__all__ = ["router"]

router = APIRouter(tags=["OpenAI"])


@router.post("/v1/completions", response_class=JSONResponse, responses={200: {"model": Completion}})
async def create_completion(body: Body[CompletionBody], request: Request) -> Response:
    """Continue texts, whole or piece by piece."""
    service = request.app.state.service
    answer = CompletionAnswer(service.pool.get(body.model), body)
    requests = list(completion_requests(body, request.state.request_id))
    with naming_constraints(body.constraint_field):
        choices = await Choices.submit(service, requests)
    if body.stream:
        return EventStream(answer.stream(choices), headers=choices.headers)
    return JSONResponse(answer.whole(await choices.results()), headers=choices.headers)


def completion_requests(body: CompletionBody, request_id: str) -> Iterator[GenerationRequest]:
    """Give the requests of all choices, prompt by prompt.

    Raises:
        ApiError: two constraints are asked for.
        ParameterError: sampling values contradict each other.
    """
    constraint = body.constraint()
    logprobs = body.logprobs
    if logprobs is None and body.candidates > (body.n or 1):
        logprobs = 0  # to find the best of them
    for number, prompt in enumerate(body.prompts):
        for choice in range(body.candidates):
            index = number * body.candidates + choice
            yield GenerationRequest(
                id=request_id if index == 0 else f"{request_id}-{index}",
                prompt=prompt,
                params=body.sampling_params(body.max_tokens, logprobs, choice),
                constraint=constraint,
                priority=body.priority or 0,
                cache_salt=body.salt,
                stream=bool(body.stream),
                model=body.model,
            )
