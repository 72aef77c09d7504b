"""What llama.cpp's server has and this one has not, refused by its name instead of "not found"."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from tercet.server.errors import ApiError
from tercet.server.llama_cpp.errors import LlamaCppErrorObject, LlamaCppRoute

__all__ = ["router"]

router = APIRouter(route_class=LlamaCppRoute, tags=["llama.cpp"])

REASONS = {
    "/infill": "the models here are not trained to fill in the middle",
    "/rerank": "there are no reranking models here",
    "/reranking": "there are no reranking models here",
    "/v1/rerank": "there are no reranking models here",
    "/v1/reranking": "there are no reranking models here",
    "/props": "properties are set when the server starts",
    "/slots/{id_slot}": "slots are neither saved nor restored; prompts that begin alike share anyway",
    "/audio/transcriptions": "the model does not hear",
}
DESCRIBED = {"/props"}
"""Routes whose GET is supported, so that the description must account for their POST."""


def _refusal(path: str, reason: str) -> Callable[[Request], Coroutine[Any, Any, Response]]:
    async def refuse(request: Request) -> Response:
        raise ApiError(501, f"POST {path} is not supported: {reason}", code="unsupported")

    return refuse


for _path, _reason in REASONS.items():
    router.add_api_route(
        _path,
        _refusal(_path, _reason),
        methods=["POST"],
        include_in_schema=_path in DESCRIBED,
        responses={501: {"model": LlamaCppErrorObject, "description": "Not done here."}},
        summary="Not supported",
        description=f"Refused: {_reason}.",
    )
