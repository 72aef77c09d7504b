"""`POST /v1/responses`."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tercet.server.bodies import Body
from tercet.server.generation.choices import Choices
from tercet.server.generation.constraints import naming_constraints
from tercet.server.responses.answer import ResponseAnswer
from tercet.server.responses.body import ResponseBody
from tercet.server.responses.described import ResponseObject
from tercet.server.responses.requests import response_request
from tercet.server.streaming.response import EventStream

__all__ = ["router"]

router = APIRouter(tags=["OpenAI"])


@router.post("/v1/responses", response_class=JSONResponse, responses={200: {"model": ResponseObject}})
@router.post("/responses", include_in_schema=False)
async def create_response(body: Body[ResponseBody], request: Request) -> Response:
    """Answer an input, whole or as events."""
    service = request.app.state.service
    served = service.pool.get(body.model)
    asked = response_request(body, request.state.request_id)
    answer = ResponseAnswer(served, body, asked)
    forced = asked.tool_choice not in (None, "none", "auto")
    with naming_constraints("tools" if forced else "text.format"):
        choices = await Choices.submit(service, [asked])
    if body.stream:
        return EventStream(answer.stream(choices), headers=choices.headers, failed=answer.failed)
    [result] = await choices.results()
    return JSONResponse(answer.whole(result), headers=choices.headers)
