"""`POST /v1/embeddings`.

The states of a generative model are no measure of meaning, and their mean still looks like an embedding. So
models that were not made for embeddings are refused instead of giving vectors that compare badly.
"""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import numpy as np
import numpy.typing as npt
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tercet.errors import UnsupportedModelError
from tercet.reference.normalization import l2_normalized
from tercet.server.bodies import Body
from tercet.server.embeddings.body import EmbeddingBody
from tercet.server.embeddings.described import EmbeddingList
from tercet.server.generation.inputs import as_list
from tercet.server.generation.refusals import contradiction
from tercet.service.served_model import Embeddings, ServedModel

__all__ = ["router"]

router = APIRouter(tags=["OpenAI"])


@router.post("/v1/embeddings", response_class=JSONResponse, responses={200: {"model": EmbeddingList}})
async def create_embeddings(body: Body[EmbeddingBody], request: Request) -> Response:
    """Return a vector for each text."""
    served: ServedModel = request.app.state.service.pool.get(body.model)
    if not served.llm.makes_embeddings:
        raise UnsupportedModelError(
            f"the model {served.name} predicts tokens and was not made for embeddings: its states are no "
            "measure of meaning; start the server with a model that has a pooling, and name that one"
        )
    width = served.llm.config.hidden_size
    if body.dimensions is not None and body.dimensions > width:
        raise contradiction("dimensions", f"is at most {width} with this model, not {body.dimensions}")
    texts = as_list(body.input)
    if "" in texts:
        where = "input" if body.input == "" else f"input[{texts.index('')}]"
        raise contradiction(where, "is empty, and nothing has no vector")
    embeddings = await served.embed(texts)
    return await asyncio.to_thread(_answer, served, body, embeddings)


def _answer(served: ServedModel, body: EmbeddingBody, embeddings: Embeddings) -> Response:
    vectors = _shortened(embeddings.vectors, body.dimensions, served.llm.config.normalize_embeddings)
    encode = _base64 if body.encoding_format == "base64" else _numbers
    return JSONResponse(
        {
            "object": "list",
            "model": served.name,
            "data": [
                {"object": "embedding", "index": index, "embedding": encode(vector)}
                for index, vector in enumerate(vectors)
            ],
            "usage": {"prompt_tokens": embeddings.prompt_tokens, "total_tokens": embeddings.prompt_tokens},
        }
    )


def _shortened(
    vectors: npt.NDArray[np.float32], dimensions: int | None, normalized: bool
) -> npt.NDArray[np.float32]:
    """The first numbers of each vector [texts, hidden], where Matryoshka models put what matters most."""
    if dimensions is None or dimensions == vectors.shape[1]:
        return vectors
    vectors = vectors[:, :dimensions]
    if not normalized:
        return vectors
    return np.stack([l2_normalized(vector) for vector in vectors])


def _numbers(vector: npt.NDArray[np.float32]) -> Any:
    # The shortest decimals that give the same float32 again.
    return [float(str(number)) for number in vector]


def _base64(vector: npt.NDArray[np.float32]) -> Any:
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()
