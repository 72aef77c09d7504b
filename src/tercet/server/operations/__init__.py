"""The operator's routes: is it alive, is it ready, what does it count, which models and which version."""

from __future__ import annotations

from tercet.server.operations.routes import router

__all__ = ["router"]
