"""What Ollama does to its store of models, refused by its name: models are named when the server starts."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from tercet.server.errors import ApiError
from tercet.server.ollama.errors import OllamaRoute

__all__ = ["router"]

router = APIRouter(route_class=OllamaRoute, include_in_schema=False)

ROUTES = {
    "/api/pull": ("POST", "fetch models with `tercet pull` and start the server with them"),
    "/api/push": ("POST", "models are not published from here"),
    "/api/create": ("POST", "make models with `tercet convert` or `tercet train`"),
    "/api/copy": ("POST", "name models when the server starts"),
    "/api/delete": ("DELETE", "remove models with `tercet rm`"),
}


def _refusal(method: str, path: str, reason: str) -> Callable[[Request], Coroutine[Any, Any, Response]]:
    async def refuse(request: Request) -> Response:
        raise ApiError(501, f"{method} {path} is not supported: {reason}", code="unsupported")

    return refuse


for _path, (_method, _reason) in ROUTES.items():
    router.add_api_route(_path, _refusal(_method, _path, _reason), methods=[_method])
