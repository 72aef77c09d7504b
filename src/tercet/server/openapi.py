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

__all__ = ["api_routes", "describe", "router"]

REFERENCE = "#/components/schemas/{model}"
ERRORS = {
    400: "A parameter, or the request itself, is wrong; `param` names it.",
    401: "Keys are on, and the request has none that is good.",
    403: "The key is not for this model or route, or the page or name that asks is a stranger's.",
    404: "There is no such model, or nothing by this name.",
    408: "The request did not come within its time.",
    413: "The body is too large.",
    415: "The body is not JSON in UTF-8 as it is.",
    429: "More requests or tokens than the client may use; `Retry-After` says when to come back.",
    431: "The headers are too many or too long.",
    500: "The server has a fault; its log says more under `X-Request-Id`.",
    503: "No room, loading, or shutting down; `Retry-After` says when to come back.",
    504: "The answer took longer than it may.",
}
EVENT = {
    "type": "object",
    "properties": {"event": {"type": "string"}, "data": {"type": "string"}},
    "required": ["data"],
}
STREAMS = ("text/event-stream", "application/x-ndjson")
ONLY_WITH_BODY = frozenset({408, 413, 415, 429, 504})
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
def openapi(request: Request) -> Response:  # not async: a thread makes it, which takes a fifth of a second
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
    routes = [route for route in api_routes(app) if route.include_in_schema]
    models = {reader.model for route in routes if (reader := _reader(route))}
    models.add(ErrorObject)
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    references, definitions = _definitions(models)
    schemas |= definitions
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for route in routes:
        reader = _reader(route)
        for method in route.methods or ():
            operation = document["paths"][route.path_format][method.lower()]
            if reader is not None:
                content = {"application/json": {"schema": references[reader.model]}}
                operation["requestBody"] = {"required": True, "content": content}
                if "stream" in reader.model.model_fields:
                    content = operation["responses"]["200"].setdefault("content", {})
                    if not any(kind in content for kind in STREAMS):
                        content["text/event-stream"] = {"schema": EVENT}
            _add_errors(operation, with_body="requestBody" in operation)
    return document


def api_routes(app: FastAPI) -> list[APIRoute]:
    """All routes of an application, those of routers within routers as well."""
    found: list[APIRoute] = []
    waiting: list[Any] = list(app.routes)
    while waiting:
        route = waiting.pop(0)
        if isinstance(route, APIRoute):
            found.append(route)
        elif (inner := getattr(route, "original_router", None)) is not None:  # FastAPI 0.16x nests them
            waiting += inner.routes
    return found


def _reader(route: APIRoute) -> BodyReader | None:
    calls = (dependency.call for dependency in route.dependant.dependencies)
    return next((call for call in calls if isinstance(call, BodyReader)), None)


def _definitions(models: set[type[BaseModel]]) -> tuple[dict[Any, Any], dict[str, Any]]:
    """A reference for each model, and what they refer to; two models may have one name."""
    ordered = sorted(models, key=lambda model: (model.__name__, model.__module__))
    references, found = models_json_schema(
        [(model, "validation") for model in ordered], ref_template=REFERENCE
    )
    return {model: dict(reference) for (model, _), reference in references.items()}, found["$defs"]


def _add_errors(operation: dict[str, Any], with_body: bool) -> None:
    responses = operation["responses"]
    responses.pop("422", None)
    schema = {"$ref": REFERENCE.format(model="ErrorObject")}
    content = {"application/json": {"schema": schema}}
    for status, words in ERRORS.items():
        if with_body or status not in ONLY_WITH_BODY:
            answer: dict[str, Any] = {"description": words, "content": content}
            if status in (429, 503):
                answer["headers"] = {"Retry-After": RETRY_AFTER}
            responses.setdefault(str(status), answer)
