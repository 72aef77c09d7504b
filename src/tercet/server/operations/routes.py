"""The operator's routes: plain GET, never refused for want of a model, and the exchange of adapters."""

from __future__ import annotations

from fastapi import APIRouter

from tercet.server.operations.adapters import router as adapters
from tercet.server.operations.alerts import router as alerts
from tercet.server.operations.health import router as health
from tercet.server.operations.metrics import router as metrics
from tercet.server.operations.models import router as models
from tercet.server.operations.profile import router as profile
from tercet.server.operations.security import router as security

__all__ = ["router"]

router = APIRouter()
for part in (health, metrics, alerts, profile, security, models, adapters):
    router.routes.extend(part.routes)
