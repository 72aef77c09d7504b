"""`POST /v1/chat/completions`."""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tercet.server.bodies import Body
from tercet.server.chat.answer import ChatAnswer
from tercet.server.chat.body import ChatBody
from tercet.server.chat.described import ChatCompletion
from tercet.server.chat.requests import chat_requests
from tercet.server.generation.choices import Choices
from tercet.server.generation.constraints import naming_constraints
from tercet.server.streaming.response import EventStream
from tercet.service.tool_call_parser import ToolCallParser

__all__ = ["router"]

router = APIRouter(tags=["OpenAI"])


@router.post("/v1/chat/completions", response_class=JSONResponse, responses={200: {"model": ChatCompletion}})
@router.post("/chat/completions", include_in_schema=False)
async def create_chat_completion(body: Body[ChatBody], request: Request) -> Response:
    """Answer a conversation, whole or piece by piece."""
    service = request.app.state.service
    served = service.pool.get(body.model)
    requests = list(chat_requests(body, request.state.request_id))
    first = requests[0]
    parser = None
    if first.tools and first.tool_choice != "none":
        parser = partial(ToolCallParser, first.tools, parallel=first.parallel_tool_calls)
    forced = first.tool_choice not in (None, "none", "auto")
    with naming_constraints("tools" if forced else body.constraint_field):
        choices = await Choices.submit(service, requests)
    answer = ChatAnswer(served, parser, bool(body.logprobs))
    if body.stream:
        options = body.stream_options
        include_usage = options is not None and bool(options.include_usage)
        return EventStream(answer.stream(choices, include_usage), headers=choices.headers)
    return JSONResponse(answer.whole(await choices.results()), headers=choices.headers)
