"""Errors as llama.cpp writes them: `{"error": {"code": 400, "message": "...", "type": "..."}}`.

Its clients compare the code with numbers and know a type of their own for a prompt that is too long, with the
counts beside it.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from tercet.errors import ContextLengthError, UnsupportedModelError
from tercet.server.errors import error_object
from tercet.server.foreign_errors import documented, foreign_route

__all__ = ["LlamaCppErrorObject", "LlamaCppRoute", "llama_cpp_error", "responses"]

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    501: "not_supported_error",
    503: "unavailable_error",
}


class LlamaCppErrorFields(BaseModel):
    """What went wrong."""

    model_config = ConfigDict(extra="forbid")

    code: int
    message: str
    type: str
    n_prompt_tokens: int | None = None
    n_ctx: int | None = None


class LlamaCppErrorObject(BaseModel):
    """The answer to whatever does not succeed, as llama.cpp's server gives it."""

    model_config = ConfigDict(extra="forbid")

    error: LlamaCppErrorFields


def llama_cpp_error(error: Exception) -> tuple[int, dict[str, Any]]:
    """Status and body for what went wrong; the body is what a stream ends with, too."""
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
    return status, {"error": shown}


LlamaCppRoute = foreign_route(llama_cpp_error)


def responses(answer: Any) -> dict[int | str, Any]:
    """The responses of a route that answers with `answer`."""
    return documented(LlamaCppErrorObject, answer)
