"""What Prometheus reads. The names, and what each counts, are in `tercet.monitoring.catalogue`."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from tercet.monitoring.exposition import render  # now: on demand it keeps the loop for 20 ms

__all__ = ["router"]

router = APIRouter(tags=["operations"])


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    summary="Counters, gauges and histograms for Prometheus",
)
async def metrics(request: Request) -> Response:
    """The text format of Prometheus, version 0.0.4."""
    text, content_type = render(request.app.state.service.metrics)
    return Response(text, headers={"Content-Type": content_type})
