"""`GET /security/status`: who came, what was refused and why, and the settings in force; for admins.

The same numbers are in `/metrics`. `audit` has the last line of the audit log: whoever writes `seq` and
`hash` down elsewhere can later prove that nothing was cut off (`tercet audit verify --head SEQ:HASH`).
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

__all__ = ["router"]

router = APIRouter(tags=["operations"])


class AuditStatus(BaseModel):
    """Where the audit log stands."""

    model_config = ConfigDict(extra="forbid")

    seq: int
    hash: str
    keyed: bool
    """Whether only the holder of the key can write a line that verifies."""
    errors: int
    """Events that could not be written."""


class SecurityStatus(BaseModel):
    """Counts since the start of the server; no client is named."""

    model_config = ConfigDict(extra="forbid")

    since_seconds: float
    unique_clients: int
    unique_clients_is_a_lower_bound: bool
    requests_processed: int
    requests_failed: int
    requests_cancelled: int
    requests_blocked: int
    blocked_by_reason: dict[str, int]
    blocked_last_hour: int
    content_flagged: dict[str, int]
    """How often filters found something and let it pass, by category."""
    content_redacted: dict[str, int]
    admin_actions: int
    configuration: dict[str, Any]
    """The security settings in force; null is no limit."""
    audit: AuditStatus | None
    """null: there is no audit log."""


@router.get(
    "/security/status",
    responses={200: {"model": SecurityStatus}},
    summary="Who came, what was refused, and the settings in force",
)
async def security_status(request: Request) -> Response:
    """Counts, settings and the head of the audit log."""
    return JSONResponse(request.app.state.auditing.status())
