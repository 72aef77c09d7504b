"""Errors as Ollama writes them: `{"error": "model 'x' not found"}`."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tercet.errors import TercetError
from tercet.server.errors import ApiError, error_headers, error_object, from_exception

__all__ = ["OllamaRoute", "ollama_error"]


class OllamaRoute(APIRoute):
    """A route whose errors have Ollama's shape."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, with its exceptions answered here."""
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handle(request)
            except (ApiError, TercetError, HTTPException) as error:
                found = from_exception(error)
                return JSONResponse(ollama_error(error), found.status, error_headers(found))

        return answer


def ollama_error(error: Exception) -> dict[str, Any]:
    """The body of an answer, or the last line of a stream, for what went wrong."""
    return {"error": error_object(error)[1]["error"]["message"]}
