"""`GET` and `POST /lora-adapters`: which adapters the model has, and their factors.

A factor holds for requests that choose no adapter, neither by `model` nor by `lora`. It is 0 until somebody
sets it: loading an adapter changes no answer (llama.cpp's `--lora-init-without-apply`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request

from tercet.llm import LLM
from tercet.server.bodies import AnyTypeBody
from tercet.server.errors import ApiError
from tercet.server.llama_cpp.bodies import LlamaCppAdapterScale, LlamaCppAdapterScales
from tercet.server.llama_cpp.errors import LlamaCppRoute, responses
from tercet.server.llama_cpp.shapes import LlamaCppAdapter

__all__ = ["adapter_weights", "router"]

router = APIRouter(tags=["llama.cpp"], route_class=LlamaCppRoute)


@router.get("/lora-adapters", response_model=None, responses=responses(list[LlamaCppAdapter]))
async def lora_adapters(request: Request, model: str | None = None) -> list[dict[str, Any]]:
    """The adapters, in the order in which they were loaded."""
    adapters = request.app.state.service.pool.get(model).llm.adapters
    weights = adapters.defaults
    loaded = [adapters.get(name) for name in adapters.names]
    return [{"id": one.number, "path": one.name, "scale": weights.get(one.name, 0.0)} for one in loaded]


@router.post("/lora-adapters", response_model=None, responses=responses(list[LlamaCppAdapter]))
async def set_lora_adapters(
    body: AnyTypeBody[LlamaCppAdapterScales], request: Request, model: str | None = None
) -> list[dict[str, Any]]:
    """Set the factors of adapters; those that are not named get 0."""
    llm = request.app.state.service.pool.get(model).llm
    llm.adapters.set_defaults(adapter_weights(body.root, llm))
    return await lora_adapters(request, model)


def adapter_weights(scales: Sequence[LlamaCppAdapterScale], llm: LLM) -> dict[str, float]:
    """Return the factors by name.

    Raises:
        ApiError: there is no adapter with an id, or an id is there twice.
    """
    names = {llm.adapters.get(name).number: name for name in llm.adapters.names}
    weights: dict[str, float] = {}
    for one in scales:
        name = names.get(one.id)
        if name is None:
            known = ", ".join(map(str, names)) or "none"
            raise ApiError(
                400,
                f"lora: there is no adapter {one.id}; there are {known}",
                param="lora",
                code="invalid_value",
            )
        if name in weights:
            raise ApiError(
                400, f"lora: the adapter {one.id} is there twice", param="lora", code="invalid_value"
            )
        weights[name] = one.scale
    return weights
