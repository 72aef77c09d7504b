"""Errors as OpenAI writes them, so that every client's own error classes fit.

    {"error": {"message": "...", "type": "invalid_request_error",
               "param": "temperature", "code": "invalid_value"}}

`code` is a string or null, never the status: OpenAI's words in lower case, and those of `SecurityError` in
capitals. A handler raises an error of `tercet.errors`, or `ApiError` where it knows more. Messages are
bounded, whatever a client sent, because they quote it.

The SDKs retry 408, 409, 429 and everything from 500 on unless `x-should-retry: false` tells them not to,
which is told where the same request would fail again. What passes by itself (no room, loading, draining) has
`Retry-After`, spread at random so that those who were refused together do not come back together.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Scope

from tercet import errors
from tercet.security.events import Reason
from tercet.server.request_account import count_refusal

__all__ = [
    "REASON_OF_STATUS",
    "ApiError",
    "answer_error",
    "error_object",
    "error_response",
    "from_exception",
    "note_error",
]

MAX_MESSAGE_CHARACTERS = 1000
RETRIED_BY_CLIENTS = frozenset({408, 409, 429})

TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}

REASON_OF_STATUS: Mapping[int, Reason] = {
    400: "invalid_input",
    401: "unauthenticated",
    403: "forbidden",
    404: "not_found",
    405: "not_found",
    408: "too_slow",
    409: "invalid_input",
    413: "too_large",
    415: "invalid_input",
    422: "invalid_input",
    429: "rate_limit",
    431: "too_large",
    501: "invalid_input",
    503: "unavailable",
}
"""Why a request with this status was refused, in the words of `tercet.security.events`."""
_REASON_OF_CODE: Mapping[str, Reason] = {
    "CONTENT_FILTERED": "content_filtered",
    "RESPONSE_FILTERED": "response_filtered",
}


class ApiError(Exception):
    """An answer other than success, as the client is to see it.

    Args:
        status: the HTTP status.
        message: one or two sentences for people.
        type: OpenAI's class of errors; None takes the usual one of the status.
        param: the field of the request that it is about, as a path: `messages[0].content`.
        code: a word for programs.
        headers: further headers of the answer.
        retry_after_seconds: when it is worth coming back; None: it is not.
    """

    def __init__(
        self,
        status: int,
        message: str,
        type: str | None = None,
        param: str | None = None,
        code: str | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.type = type or TYPES.get(
            status, "server_error" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else TYPES[400]
        )
        self.param = param
        self.code = code
        self.headers = dict(headers or {})
        self.retry_after_seconds = retry_after_seconds


def from_exception(error: BaseException) -> ApiError:
    """What the client is told of an exception; one outside the tree of `tercet.errors` keeps its words."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, HTTPException):
        return _of_the_framework(error)
    message = str(error)
    if isinstance(error, errors.SecurityError):
        return _of_the_guard(error)
    if isinstance(error, errors.ContextLengthError):
        return ApiError(400, message, param=_parameter(error), code="context_length_exceeded")
    if isinstance(error, errors.ParameterError):
        return ApiError(400, message, param=_parameter(error), code="invalid_value")
    if isinstance(error, errors.ModelNotFoundError):
        return ApiError(404, message, TYPES[400], "model", "model_not_found")
    if isinstance(error, errors.ForbiddenError):
        return ApiError(403, message, param="model", code="model_not_allowed")
    if isinstance(error, errors.UnsupportedModelError):
        return ApiError(400, message, param="model", code="unsupported_model")
    if isinstance(error, errors.OverloadedError):
        return ApiError(503, message, code="overloaded", retry_after_seconds=error.retry_after_seconds)
    if isinstance(error, errors.UnavailableError):
        return ApiError(503, message, code="unavailable", retry_after_seconds=2.0)
    if isinstance(error, errors.DeadlineError):
        return ApiError(504, message, type="timeout_error", code="deadline_exceeded")
    if isinstance(error, MemoryError):  # of the machine: what runs beside it may be what took it
        words = "there is not enough memory for this request now; ask for less, or try again in a moment"
        return ApiError(503, words, code="out_of_memory", retry_after_seconds=2.0)
    if isinstance(error, errors.TercetError):
        return ApiError(500, message, code="server_error")
    return ApiError(500, "the server has a fault; its log says more under this request's id", code="fault")


def error_object(exception: BaseException) -> tuple[int, dict[str, Any]]:
    """Status and body of the answer; the body is what an SSE event says, too."""
    error = from_exception(exception)
    message = error.message
    if len(message) > MAX_MESSAGE_CHARACTERS:
        message = message[: MAX_MESSAGE_CHARACTERS - 1] + "…"
    message = message.encode("utf-8", "replace").decode()  # a lone surrogate cannot be sent
    fields = {"message": message, "type": error.type, "param": error.param, "code": error.code}
    return error.status, {"error": fields}


def error_headers(error: ApiError) -> dict[str, str]:
    """Headers that tell clients and balancers whether to come back."""
    headers = dict(error.headers)
    if error.retry_after_seconds is not None:
        seconds = max(error.retry_after_seconds, 1.0) * random.uniform(1.0, 1.5)
        headers["Retry-After"] = str(min(math.ceil(seconds), 60))
    elif error.status >= HTTPStatus.BAD_REQUEST and error.status not in RETRIED_BY_CLIENTS:
        headers["x-should-retry"] = "false"
    return headers


def error_response(error: BaseException) -> Response:
    """The whole answer to a request that ended with this exception."""
    status, body = error_object(error)
    return JSONResponse(body, status, error_headers(from_exception(error)))


def note_error(scope: Scope, exception: BaseException) -> None:
    """Leave a note with the request how it ended, for the audit: its status may already say 200."""
    count_refusal(scope, exception)
    error = from_exception(exception)
    state = scope.setdefault("state", {})
    reason = _REASON_OF_CODE.get(error.code or "", REASON_OF_STATUS.get(error.status))
    if reason is None:
        state["failed"] = error.code or "error"
    else:
        state.setdefault("blocked", reason)
        state.setdefault("blocked_detail", error.code)


async def answer_error(request: Request, error: Exception) -> Response:
    """The handler of exceptions that a route means to raise."""
    note_error(request.scope, error)
    return error_response(error)


def _of_the_framework(error: HTTPException) -> ApiError:
    codes = {404: "unknown_url", 405: "method_not_allowed"}
    return ApiError(
        error.status_code,
        str(error.detail),
        TYPES[400] if error.status_code in codes else None,
        code=codes.get(error.status_code),
        headers=error.headers,
    )


def _of_the_guard(error: errors.SecurityError) -> ApiError:
    """The codes in capitals, which `tercet.security` has wherever it is used."""
    if isinstance(error, errors.RateLimitError):
        return ApiError(429, str(error), code=error.code, retry_after_seconds=error.retry_after)
    status = 500 if isinstance(error, errors.GenerationError) else 400
    return ApiError(status, str(error), param=getattr(error, "param", None), code=error.code)


def _parameter(error: errors.TercetError) -> str | None:
    """The field that a message of ours begins with."""
    from tercet.sampling.params import SamplingParams

    first = str(error).partition(" ")[0]
    return first if first in SamplingParams.__dataclass_fields__ else None
