"""Health that means it: what these say has been looked at, not assumed.

    /livez            the process and its engine thread move; where not, a supervisor should restart it
    /readyz           it takes requests now; where not (loading, draining), a balancer should wait
    /health           the same as /readyz, in the words that clients of llama.cpp read
    /health/details   everything for operators, with a short real generation unless `probe=false`

A server whose engine thread is dead or stuck is neither alive nor ready, however well it still answers HTTP.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tercet.server.errors import ApiError

__all__ = ["router"]

router = APIRouter(tags=["operations"])

SOON_SECONDS = 2.0


class Fine(BaseModel):
    """Nothing is wrong."""

    model_config = ConfigDict(extra="forbid")

    status: Literal["ok"]


class Details(BaseModel):
    """What an operator asks first; figures of requests are in `metrics`."""

    model_config = ConfigDict(extra="forbid")

    status: Literal["healthy", "busy", "loading", "draining", "unhealthy"]
    problem: str | None
    model_loaded: bool
    tokenizer_loaded: bool
    cache_enabled: bool
    max_concurrent_requests: int | None
    response_time_ms: float | None
    """Of the short generation; null where none was asked for, or none could be made."""
    quantization: str | None
    models: list[dict[str, Any]]
    metrics: dict[str, Any]
    event_loop_longest_ms: float | None
    """The longest that the event loop has computed without a pause."""


@router.head("/livez", include_in_schema=False)
@router.get("/livez", responses={200: {"model": Fine}}, summary="Is the process alive?")
async def livez(request: Request) -> Response:
    """Fails when a restart would help: the engine thread is dead or stuck."""
    service = request.app.state.service
    problem = service.health.problem() if service.state == "ready" else None
    return _answer(problem)


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz", responses={200: {"model": Fine}}, summary="Does it take requests?")
async def readyz(request: Request) -> Response:
    """Fails while a model is loading, while the server drains, and when the engine is out of order."""
    return _answer(request.app.state.service.health.problem())


@router.head("/health", include_in_schema=False)
@router.head("/v1/health", include_in_schema=False)
@router.get("/v1/health", include_in_schema=False)
@router.get("/health", responses={200: {"model": Fine}}, summary="Is it healthy?")
async def health(request: Request) -> Response:
    """The same as /readyz."""
    return _answer(request.app.state.service.health.problem())


@router.get(
    "/health/details", responses={200: {"model": Details}}, summary="Everything that operators ask for"
)
async def details(request: Request, probe: Annotated[Literal["true", "false"], Query()] = "true") -> Response:
    """Also answers 200 while something is wrong: `status` says what."""
    report = await request.app.state.service.health.report(probe=probe == "true")
    lag = request.app.state.loop_lag
    return JSONResponse(report | {"event_loop_longest_ms": lag and 1000 * lag.longest_own_seconds})


def _answer(problem: str | None) -> Response:
    if problem is not None:
        raise ApiError(503, problem, code="unavailable", retry_after_seconds=SOON_SECONDS)
    return JSONResponse({"status": "ok"})
