"""Errors as llama.cpp writes them: `{"error": {"code": 400, "message": "...", "type": "..."}}`.

Its clients compare the code with numbers and know a type of their own for a prompt that is too long, with the
counts beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tercet.errors import ContextLengthError, TercetError, UnsupportedModelError
from tercet.server.errors import ApiError, error_headers, error_object, from_exception

__all__ = ["LlamaCppRoute", "llama_cpp_error"]

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    501: "not_supported_error",
    503: "unavailable_error",
}


class LlamaCppRoute(APIRoute):
    """A route whose errors have llama.cpp's shape."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, with its exceptions answered here."""
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handle(request)
            except RequestValidationError as error:  # of the query; bodies are checked elsewhere
                return _response(ApiError(400, str(error.errors()[0]["msg"])))
            except (ApiError, TercetError, HTTPException) as error:
                return _response(error)

        return answer


def llama_cpp_error(error: Exception) -> dict[str, Any]:
    """The body of an answer, or the last event of a stream, for what went wrong."""
    status, body = error_object(error)
    if isinstance(error, UnsupportedModelError):
        status = 501
    shown = {
        "code": status,
        "message": body["error"]["message"],
        "type": _TYPES.get(status, "server_error" if status >= 500 else _TYPES[400]),
    }
    if isinstance(error, ContextLengthError):
        shown["type"] = "exceed_context_size_error"
        shown["n_prompt_tokens"] = error.prompt_tokens
        shown["n_ctx"] = error.max_context
    return {"error": shown}


def _response(error: Exception) -> Response:
    body = llama_cpp_error(error)
    return JSONResponse(body, body["error"]["code"], error_headers(from_exception(error)))
