"""Health, models, version.

/livez     the process answers; a supervisor restarts it where this fails
/readyz    it can take requests; a balancer sends them elsewhere where this fails
/health    the same, with the reason, for people and for clients of llama.cpp
"""

from __future__ import annotations

from importlib.metadata import version

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

router = APIRouter()

PROBES = ["GET", "HEAD"]


@router.api_route("/livez", methods=PROBES)
async def livez() -> Response:
    """Whether the process answers."""
    return PlainTextResponse("ok\n")


@router.get("/version")
async def server_version() -> Response:
    """The version of the package."""
    return JSONResponse({"version": version("tercet")})


@router.get("/v1/models")
async def models(request: Request) -> Response:
    """The models that requests may name."""
    names = request.app.state.service.pool.names()
    return JSONResponse({"object": "list", "data": [{"id": name, "object": "model"} for name in names]})
