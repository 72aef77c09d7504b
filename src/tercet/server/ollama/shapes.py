"""What Ollama's routes answer with, for the description of the server."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

__all__ = [
    "OllamaChatted",
    "OllamaEmbedded",
    "OllamaGenerated",
    "OllamaModels",
    "OllamaOldEmbedded",
    "OllamaShown",
    "OllamaVersion",
]


class Strict(BaseModel):
    """Nothing beside the fields."""

    model_config = ConfigDict(extra="forbid")


class OllamaAnswer(Strict):
    """How a generation ended and what it took, in nanoseconds."""

    model: str
    created_at: str
    done: bool
    done_reason: str
    total_duration: int | None = None
    load_duration: int | None = None
    prompt_eval_count: int | None = None
    prompt_eval_duration: int | None = None
    eval_count: int | None = None
    eval_duration: int | None = None
    logprobs: list[dict[str, Any]] | None = None


class OllamaGenerated(OllamaAnswer):
    """The continuation of a prompt."""

    response: str


class OllamaAnswerMessage(Strict):
    """The next turn."""

    role: str
    content: str
    tool_calls: list[dict[str, Any]] | None = None


class OllamaChatted(OllamaAnswer):
    """The next turn of a conversation."""

    message: OllamaAnswerMessage


class OllamaEmbedded(Strict):
    """A vector for each text."""

    model: str
    embeddings: list[list[float]]
    total_duration: int
    load_duration: int
    prompt_eval_count: int


class OllamaOldEmbedded(Strict):
    """The vector of a text."""

    embedding: list[float]


class OllamaDetails(Strict):
    """The kind of a model."""

    parent_model: str
    format: str
    family: str
    families: list[str]
    parameter_size: str
    quantization_level: str


class OllamaModel(Strict):
    """One model; the last three fields only where it is shown as running."""

    name: str
    model: str
    modified_at: str
    size: int
    digest: str
    details: OllamaDetails
    expires_at: str | None = None
    size_vram: int | None = None
    context_length: int | None = None


class OllamaModels(Strict):
    """The models."""

    models: list[OllamaModel]


class OllamaShown(Strict):
    """One model at length."""

    modelfile: str
    parameters: str
    template: str
    details: OllamaDetails
    model_info: dict[str, Any]
    capabilities: list[str]
    modified_at: str


class OllamaVersion(Strict):
    """The version of the API, and ours."""

    version: str
    tercet: str
