"""The operator's routes, all of them plain GET and never refused for want of a model."""

from __future__ import annotations

from fastapi import APIRouter

from tercet.server.operations.health import router as health
from tercet.server.operations.metrics import router as metrics
from tercet.server.operations.models import router as models

__all__ = ["router"]

router = APIRouter()
for part in (health, metrics, models):
    router.routes.extend(part.routes)
