"""What the native routes answer with, for the description of the server."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

__all__ = [
    "LlamaCppAdapter",
    "LlamaCppCompletion",
    "LlamaCppEmbeddingItem",
    "LlamaCppProperties",
    "LlamaCppRenderedPrompt",
    "LlamaCppSlot",
    "LlamaCppText",
    "LlamaCppTokenList",
]


class Strict(BaseModel):
    """Nothing beside the fields."""

    model_config = ConfigDict(extra="forbid")


class LlamaCppAdapter(Strict):
    """An adapter, and the factor that it has for requests that choose none."""

    id: int
    path: str
    """The name by which requests choose it: no path of this machine."""
    scale: float


class LlamaCppTokenPiece(Strict):
    """A token and what it stands for: text, or the bytes of a part of a character."""

    id: int
    piece: str | list[int]


class LlamaCppTokenList(Strict):
    """The tokens of a text."""

    tokens: list[int | LlamaCppTokenPiece]


class LlamaCppText(Strict):
    """The text of tokens."""

    content: str


class LlamaCppRenderedPrompt(Strict):
    """The text that a conversation becomes."""

    prompt: str


class LlamaCppTimings(Strict):
    """Counts and measured times."""

    cache_n: int
    prompt_n: int
    prompt_ms: float
    prompt_per_token_ms: float
    prompt_per_second: float
    predicted_n: int
    predicted_ms: float
    predicted_per_token_ms: float
    predicted_per_second: float


class LlamaCppCompletion(BaseModel):
    """An answer; `response_fields` leaves the others out, and may name inner ones by a path."""

    index: int | None = None
    content: str | None = None
    tokens: list[int] | None = None
    id_slot: int | None = None
    stop: bool | None = None
    model: str | None = None
    tokens_predicted: int | None = None
    tokens_evaluated: int | None = None
    generation_settings: dict[str, Any] | None = None
    prompt: str | None = None
    has_new_line: bool | None = None
    truncated: bool | None = None
    stop_type: str | None = None
    stopping_word: str | None = None
    tokens_cached: int | None = None
    timings: LlamaCppTimings | None = None
    completion_probabilities: list[dict[str, Any]] | None = None


class LlamaCppEmbeddingItem(Strict):
    """The vectors of one text: a list of one."""

    index: int
    embedding: list[list[float]]


class LlamaCppDefaultSettings(Strict):
    """A slot, and the sampling of requests that name none."""

    id: int
    id_task: int
    n_ctx: int
    speculative: bool
    is_processing: bool
    params: dict[str, Any]


class LlamaCppProperties(Strict):
    """What the server is."""

    default_generation_settings: LlamaCppDefaultSettings
    total_slots: int
    model_alias: str
    model_path: str
    chat_template: str
    chat_template_caps: dict[str, bool]
    modalities: dict[str, bool]
    bos_token: str
    eos_token: str
    build_info: str
    is_sleeping: bool


class LlamaCppSlot(Strict):
    """Room for one sequence."""

    id: int
    n_ctx: int
    speculative: bool
    is_processing: bool
