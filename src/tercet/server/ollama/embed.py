"""`POST /api/embed`, and `/api/embeddings` as it was before."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import numpy.typing as npt
from fastapi import APIRouter
from starlette.requests import Request

from tercet.reference.normalization import l2_normalized
from tercet.server.bodies import AnyTypeBody
from tercet.server.errors import ApiError
from tercet.server.ollama.bodies import OllamaEmbedBody, OllamaOldEmbedBody
from tercet.server.ollama.errors import OllamaRoute, responses
from tercet.server.ollama.options import model_of
from tercet.server.ollama.shapes import OllamaEmbedded, OllamaOldEmbedded
from tercet.service.served_model import ServedModel

__all__ = ["router"]

router = APIRouter(tags=["Ollama"], route_class=OllamaRoute)


@router.post("/api/embed", response_model=None, responses=responses(OllamaEmbedded))
async def embed(body: AnyTypeBody[OllamaEmbedBody], request: Request) -> dict[str, Any]:
    """A vector of length 1 for each text."""
    began = time.perf_counter_ns()
    served = _model(request, body.model)
    texts = [body.input] if isinstance(body.input, str) else body.input
    width = served.llm.config.hidden_size
    if body.dimensions is not None and body.dimensions > width:
        raise ApiError(400, f"dimensions is at most {width} with this model", param="dimensions")
    found = await served.embed(texts)
    return {
        "model": body.model,
        "embeddings": [_unit(vector[: body.dimensions]) for vector in found.vectors],
        "total_duration": time.perf_counter_ns() - began,
        "load_duration": 0,
        "prompt_eval_count": found.prompt_tokens,
    }


@router.post("/api/embeddings", response_model=None, responses=responses(OllamaOldEmbedded))
async def old_embed(body: AnyTypeBody[OllamaOldEmbedBody], request: Request) -> dict[str, Any]:
    """The vector of one text."""
    found = await _model(request, body.model).embed([body.prompt])
    return {"embedding": found.vectors[0].tolist()}


def _model(request: Request, name: str) -> ServedModel:
    served = model_of(request.app.state.service.pool, name)
    if not served.llm.makes_embeddings:
        raise ApiError(501, f"model '{name}' does not support embeddings", code="unsupported_model")
    return served


def _unit(vector: npt.NDArray[np.float32]) -> list[float]:
    return [float(number) for number in l2_normalized(vector)]
