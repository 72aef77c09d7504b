"""Errors in the shapes of other servers, for the routes that we have from them.

What stands before the routes (limits, loading, draining) always answers as OpenAI does: the description of
such a route names both shapes.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tercet.errors import TercetError
from tercet.server.errors import ApiError, error_headers, from_exception, note_error

__all__ = ["documented", "foreign_route"]

STATUSES = {
    400: "A parameter, or the request itself, is wrong.",
    404: "There is no such model.",
    415: "The body is not JSON in UTF-8 as it is.",
    429: "More requests or tokens than the client may use.",
    500: "The server has a fault.",
    503: "No room, loading, or shutting down.",
    504: "The answer took longer than it may.",
}
REFERENCE = "#/components/schemas/{name}"


def foreign_route(write: Callable[[Exception], tuple[int, dict[str, Any]]]) -> type[APIRoute]:
    """Return a class of routes whose errors `write` turns into status and body."""

    class ForeignRoute(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def answer(request: Request) -> Response:
                try:
                    return await handle(request)
                except RequestValidationError as error:  # of the query; bodies are checked elsewhere
                    first = error.errors()[0]
                    return _response(
                        ApiError(400, f"{first['loc'][-1]}: {first['msg']}", code="invalid_value")
                    )
                except (ApiError, TercetError, HTTPException) as error:
                    note_error(request.scope, error)
                    return _response(error)

            return answer

    def _response(error: Exception) -> Response:
        status, body = write(error)
        return JSONResponse(body, status, error_headers(from_exception(error)))

    return ForeignRoute


def documented(errors: type[BaseModel], answer: Any, other_form: str | None = None) -> dict[int | str, Any]:
    """Return the responses of a route for its description.

    Args:
        errors: the model of its error objects.
        answer: the model of its answers.
        other_form: the media type in which it also answers, as text.
    """
    names = (errors.__name__, "ErrorObject")
    either = {"anyOf": [{"$ref": REFERENCE.format(name=name)} for name in names]}
    content = {"application/json": {"schema": either}}
    found: dict[int | str, Any] = {
        status: {"description": words, "content": content} for status, words in STATUSES.items()
    }
    found[501] = {"description": "The server, or this model, does not do that.", "model": errors}
    found[200] = {"model": answer}
    if other_form is not None:
        found[200]["content"] = {other_form: {"schema": {"type": "string"}}}
    return found
