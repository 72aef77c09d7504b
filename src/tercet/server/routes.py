"""Every route of the server, package by package; the order is that of the description in /openapi.json."""

from __future__ import annotations

from fastapi import APIRouter

from tercet.server.batches import router as batches
from tercet.server.chat import router as chat
from tercet.server.completions import router as completions
from tercet.server.embeddings import router as embeddings
from tercet.server.llama_cpp import router as llama_cpp
from tercet.server.ollama import router as ollama
from tercet.server.operations import router as operations
from tercet.server.page import router as page
from tercet.server.responses import router as responses

__all__ = ["ROUTERS"]

ROUTERS: tuple[APIRouter, ...] = (
    chat,
    completions,
    embeddings,
    responses,
    batches,
    llama_cpp,
    ollama,
    operations,
    page,
)
