"""Texts to vectors, by models that were made for it: `POST /v1/embeddings`."""

from __future__ import annotations

from tercet.server.embeddings.routes import router

__all__ = ["router"]
