"""`POST /embedding` and `/embeddings`: vectors in llama.cpp's shape."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from fastapi import APIRouter
from starlette.requests import Request

from tercet.errors import UnsupportedModelError
from tercet.llm import LLM
from tercet.server.bodies import AnyTypeBody
from tercet.server.errors import ApiError
from tercet.server.llama_cpp.bodies import LlamaCppEmbeddingBody, LlamaCppPromptObject
from tercet.server.llama_cpp.errors import LlamaCppRoute, responses
from tercet.server.llama_cpp.prompts import parses_special, prompts, token_ids
from tercet.server.llama_cpp.shapes import LlamaCppEmbeddingItem

__all__ = ["normalized", "router"]

router = APIRouter(tags=["llama.cpp"], route_class=LlamaCppRoute)


@router.post("/embedding", response_model=None, responses=responses(list[LlamaCppEmbeddingItem]))
@router.post("/embeddings", include_in_schema=False, response_model=None)
async def embed(body: AnyTypeBody[LlamaCppEmbeddingBody], request: Request) -> list[dict[str, Any]]:
    """A vector for each text."""
    served = request.app.state.service.pool.get(body.model)
    if not served.llm.makes_embeddings:
        raise UnsupportedModelError(
            f"the model {served.name} predicts tokens and was not made for embeddings"
        )
    given = body.content if body.input is None else body.input
    if given is None:
        raise ApiError(
            400, "content: there is neither content nor input", param="content", code="invalid_value"
        )
    texts = [_text(served.llm, one, parses_special(request)) for one in prompts(given)]
    if body.embd_normalize == -1 and served.llm.config.normalize_embeddings:
        raise ApiError(
            400,
            "embd_normalize: this model's vectors have length 1, so there are none without normalization",
            param="embd_normalize",
            code="invalid_value",
        )
    found = (await served.embed(texts)).vectors
    norm = 2 if body.embd_normalize is None else body.embd_normalize
    return [
        {"index": index, "embedding": [normalized(vector, norm).tolist()]}
        for index, vector in enumerate(found)
    ]


def normalized(vector: npt.NDArray[np.float32], norm: int) -> npt.NDArray[np.float32]:
    """Divide by a norm: -1 none, 0 the largest component (of 32,760, as llama.cpp has it), p the p-norm."""
    if norm < 0:
        return vector
    values = np.abs(vector.astype(np.float64))
    size = values.max() / 32_760.0 if norm == 0 else (values**norm).sum() ** (1.0 / norm)
    return (vector / size if size > 0 else vector).astype(np.float32)


def _text(llm: LLM, given: Any, parse_special: bool) -> str | list[int]:
    if isinstance(given, str):
        return given
    if isinstance(given, LlamaCppPromptObject):
        return given.prompt_string
    return token_ids(llm, given, parse_special)
