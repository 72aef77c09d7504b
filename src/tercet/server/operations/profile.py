"""`GET /profile?seconds=10`: where a token's time goes, over some seconds of what the server does anyway.

For admins, and one at a time. `tercet monitor profile` asks for it and draws the picture.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tercet.monitoring.step_profile import profile

__all__ = ["router"]

router = APIRouter(tags=["operations"])
LONGEST_SECONDS = 60


class ProfilePart(BaseModel):
    """What some of the time went to; "event loop" is beside the engines', the others add up to it."""

    model_config = ConfigDict(extra="forbid")

    name: str
    seconds: float
    share: float | None
    """Of the time of all engines, what they waited included."""
    microseconds_per_token: float | None
    """null: none was generated."""


class Profile(BaseModel):
    """Some seconds of all models together."""

    model_config = ConfigDict(extra="forbid")

    seconds: float
    steps: int
    prompt_tokens: int
    generated_tokens: int
    parts: list[ProfilePart]
    operations: dict[str, float]
    """Of the decoder, in seconds."""
    stacks: dict[str, float]
    """Seconds by frames, the outermost first, with ";" between: for a flame graph."""


@router.get("/profile", responses={200: {"model": Profile}}, summary="Where a token's time goes")
async def profile_now(
    request: Request,
    seconds: Annotated[float, Query(gt=0, le=LONGEST_SECONDS, allow_inf_nan=False)] = 10,
) -> Response:
    """The parts of the time from now on, when it is over."""
    engines = request.app.state.service.metrics.engines
    return JSONResponse(await profile(dict(engines), seconds))
