"""Which models there are, and the version: OpenAI's fields, and those that vLLM and llama.cpp add."""

from __future__ import annotations

import asyncio
from importlib.metadata import version
from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tercet.server.errors import ApiError
from tercet.service.served_model import ServedModel

__all__ = ["router"]

router = APIRouter(tags=["operations"])

OWNER = "tercet"
LOADING = {"new", "loading"}


class ModelShape(BaseModel):
    """What llama.cpp says about a model, in its words."""

    model_config = ConfigDict(extra="forbid")

    n_vocab: int
    n_ctx: int
    """Of this server; `n_ctx_train` is what the model was trained for."""
    n_ctx_train: int
    n_embd: int
    n_params: int
    size: int | None
    """Of its file, in bytes."""


class ModelEntry(BaseModel):
    """One model."""

    model_config = ConfigDict(extra="forbid")

    id: str
    object: Literal["model"]
    created: int
    """When its file was written, in seconds since 1970."""
    owned_by: str
    max_model_len: int
    """vLLM's word for the most tokens of prompt and answer together."""
    parent: str | None = None
    """Of an adapter, as vLLM has it: the model that it adds to."""
    meta: ModelShape


class ModelList(BaseModel):
    """All models, the default first."""

    model_config = ConfigDict(extra="forbid")

    object: Literal["list"]
    data: list[ModelEntry]


class Version(BaseModel):
    """The version of the package."""

    model_config = ConfigDict(extra="forbid")

    version: str


@router.get("/models", include_in_schema=False)
@router.get("/v1/models", responses={200: {"model": ModelList}}, summary="The models that requests may name")
async def list_models(request: Request) -> Response:
    """All models that are loaded, the default first, each before its adapters."""
    service = _loaded(request)
    entries = await asyncio.to_thread(lambda: [_entry(model) for model in service.pool.entries])
    return JSONResponse({"object": "list", "data": entries})


@router.get("/v1/models/{model:path}", responses={200: {"model": ModelEntry}}, summary="One model")
async def get_model(request: Request, model: str) -> Response:
    """The model of this name."""
    served = _loaded(request).pool.get(model)
    return JSONResponse(await asyncio.to_thread(_entry, served))


@router.get("/version", responses={200: {"model": Version}}, summary="The version of the server")
async def server_version() -> Response:
    """The version of the package."""
    return JSONResponse({"version": version("tercet")})


def _loaded(request: Request) -> Any:
    service = request.app.state.service
    if service.state in LOADING:
        raise ApiError(503, "the model is loading", code="unavailable", retry_after_seconds=2)
    return service


def _entry(model: ServedModel) -> dict[str, Any]:
    llm = model.llm
    config = llm.config
    return {
        "id": model.name,
        "object": "model",
        "created": int(llm.path.stat().st_mtime) if llm.path.exists() else 0,
        "owned_by": OWNER,
        "max_model_len": llm.max_context,
        **({} if model.adapter is None else {"parent": model.base_name}),
        "meta": {
            "n_vocab": config.vocab_size,
            "n_ctx": llm.max_context,
            "n_ctx_train": config.max_context,
            "n_embd": config.hidden_size,
            "n_params": config.num_parameters,
            "size": llm.path.stat().st_size if llm.path.is_file() else None,
        },
    }
