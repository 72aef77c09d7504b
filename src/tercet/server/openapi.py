"""`/openapi.json`: the routes as a machine reads them, true enough to be tested against.

FastAPI describes paths, parameters and responses. What it cannot know is added here: the bodies that
`Body[...]` reads, and the errors that every route can answer with, because they come from what stands before
the routes. Its 422 is taken out: this server has no such answer.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict
from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tercet.server.bodies import BodyReader
from tercet.server.routes import ROUTERS

__all__ = ["describe", "router"]

REFERENCE = "#/components/schemas/{model}"
ERRORS = {
    400: "A parameter, or the request itself, is wrong; `param` names it.",
    404: "There is no such model, or nothing by this name.",
    408: "The request did not come within its time.",
    413: "The body is too large.",
    415: "The body is not JSON in UTF-8 as it is.",
    431: "The headers are too many or too long.",
    500: "The server has a fault; its log says more under `X-Request-Id`.",
    503: "No room, loading, or shutting down; `Retry-After` says when to come back.",
    504: "The answer took longer than it may.",
}
ONLY_WITH_BODY = frozenset({408, 413, 415, 504})
RETRY_AFTER = {
    "description": "Seconds, spread at random.",
    "schema": {"type": "integer", "minimum": 1},
}

router = APIRouter(include_in_schema=False)


class ErrorFields(BaseModel):
    """What went wrong. A client decides by `type` and `code`, people read `message`."""

    model_config = ConfigDict(extra="forbid")

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorObject(BaseModel):
    """The answer to whatever does not succeed, as OpenAI's servers give it."""

    model_config = ConfigDict(extra="forbid")

    error: ErrorFields


@router.get("/openapi.json")
async def openapi(request: Request) -> Response:
    """The description of the routes."""
    state = request.app.state
    if getattr(state, "description", None) is None:
        state.description = describe(request.app)
    return JSONResponse(state.description)


def describe(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI 3.1 document of an application."""
    document = get_openapi(
        title="Tercet",
        version=version("tercet"),
        description="The routes of OpenAI, llama.cpp and Ollama over ternary language models.",
        routes=app.routes,
    )
    listed = (route for part in ROUTERS for route in part.routes)
    routes = [route for route in listed if isinstance(route, APIRoute) and route.include_in_schema]
    models = {reader.model for route in routes if (reader := _reader(route))} | {ErrorObject}
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas |= _definitions(models)
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for route in routes:
        reader = _reader(route)
        for method in route.methods:
            operation = document["paths"][route.path_format][method.lower()]
            if reader is not None:
                operation["requestBody"] = _request_body(reader)
            _add_errors(operation, with_body=reader is not None)
    return document


def _reader(route: APIRoute) -> BodyReader | None:
    calls = (dependency.call for dependency in route.dependant.dependencies)
    return next((call for call in calls if isinstance(call, BodyReader)), None)


def _definitions(models: set[type[BaseModel]]) -> dict[str, Any]:
    ordered = sorted(models, key=lambda model: model.__name__)
    _, found = models_json_schema([(model, "validation") for model in ordered], ref_template=REFERENCE)
    definitions: dict[str, Any] = found["$defs"]
    return definitions


def _request_body(reader: BodyReader) -> dict[str, Any]:
    reference = {"$ref": REFERENCE.format(model=reader.model.__name__)}
    return {"required": True, "content": {"application/json": {"schema": reference}}}


def _add_errors(operation: dict[str, Any], with_body: bool) -> None:
    responses = operation["responses"]
    responses.pop("422", None)
    content = {"application/json": {"schema": {"$ref": REFERENCE.format(model="ErrorObject")}}}
    for status, words in ERRORS.items():
        if with_body or status not in ONLY_WITH_BODY:
            answer: dict[str, Any] = {"description": words, "content": content}
            if status == 503:
                answer["headers"] = {"Retry-After": RETRY_AFTER}
            responses.setdefault(str(status), answer)
