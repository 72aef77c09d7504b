"""The body of `POST /v1/embeddings`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tercet.server.bodies import StrictModel
from tercet.server.generation.inputs import Texts

__all__ = ["EmbeddingBody"]


class EmbeddingBody(StrictModel):
    """Texts, and the form of their vectors."""

    input: Texts
    model: str | None = Field(None, max_length=512)
    """None is the server's first model."""
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = Field(None, ge=1)
    """How many of the first numbers are given, scaled to length 1 again where the model's vectors are."""
    user: Annotated[str, Field(max_length=512)] | None = None
    """Accepted, and used for nothing."""
