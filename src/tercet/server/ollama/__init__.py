"""Ollama's routes, so that the programs of its ecosystem find a server that they know.

    bodies      requests
    options     its `options` and `format` as sampling and constraints
    messages    its messages and tools as ours, and the calls of tools in its shape
    answers     its response objects, with durations in nanoseconds
    generate    /api/generate
    chat        /api/chat
    embed       /api/embed, /api/embeddings
    models      /api/tags, /api/show, /api/ps, /api/version
    refusals    /api/pull and others that change what models there are
    errors      {"error": "..."}
    ndjson      a stream of JSON objects, one a line

A model may be named with Ollama's tag: `name:latest` is `name`.
"""

from __future__ import annotations

from fastapi import APIRouter

from tercet.server.ollama.chat import router as chat
from tercet.server.ollama.embed import router as embed
from tercet.server.ollama.generate import router as generate
from tercet.server.ollama.models import router as models
from tercet.server.ollama.refusals import router as refusals

__all__ = ["router"]

router = APIRouter()
for _part in (generate, chat, embed, models, refusals):
    router.include_router(_part)
