"""Errors as Ollama writes them: `{"error": "model 'x' not found"}`."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from tercet.server.errors import error_object
from tercet.server.foreign_errors import documented, foreign_route

__all__ = ["OllamaErrorObject", "OllamaRoute", "ollama_error", "responses"]


class OllamaErrorObject(BaseModel):
    """The answer to whatever does not succeed, as Ollama gives it."""

    model_config = ConfigDict(extra="forbid")

    error: str


def ollama_error(error: Exception) -> tuple[int, dict[str, Any]]:
    """Status and body for what went wrong; the body is the last line of a stream, too."""
    status, body = error_object(error)
    return status, {"error": body["error"]["message"]}


OllamaRoute = foreign_route(ollama_error)


def responses(answer: Any, *, lines: bool = False) -> dict[int | str, Any]:
    """The responses of a route that answers with `answer`, or with lines of such objects."""
    return documented(OllamaErrorObject, answer, "application/x-ndjson" if lines else None)
