"""`GET /alerts`: what is wrong now, what ended in the last six hours, and what is judged by; for admins.

The end of a window is when this changes (`--sample-every`). What is older stands in the history:
`tercet monitor export`.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

__all__ = ["router"]

router = APIRouter(tags=["operations"])


class Alerts(BaseModel):
    """Events are those of `AlertEvent`."""

    model_config = ConfigDict(extra="forbid")

    active: list[dict[str, Any]]
    """What fires, the critical ones first, with the values of the last window."""
    recent: list[dict[str, Any]]
    """What ended within the last six hours, the latest first."""
    rules: dict[str, dict[str, Any]] | None
    """By name: figure, threshold, times and severity; null: nothing is judged here."""


@router.get("/alerts", responses={200: {"model": Alerts}}, summary="What is wrong now, and what was")
async def alerts(request: Request) -> Response:
    """Alerts of the built-in rules, or of those that --alerts names."""
    monitor = request.app.state.monitor
    if monitor is None:
        return JSONResponse({"active": [], "recent": [], "rules": None})
    return JSONResponse(
        {
            "active": [one.to_dict() for one in monitor.alerts.active_alerts()],
            "recent": [one.to_dict() for one in monitor.alerts.recent_alerts()],
            "rules": dict(monitor.alerts.thresholds()),
        }
    )
