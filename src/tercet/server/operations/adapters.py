"""`POST /v1/load_lora_adapter` and `/v1/unload_lora_adapter`: vLLM's way to exchange adapters while serving.

Whoever reaches the port could otherwise name any path of this machine. So adapters come out of one folder,
that of `--lora-dir`; without it these routes refuse.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from pydantic import Field
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from tercet.errors import ModelNotFoundError
from tercet.server.bodies import Body, StrictModel
from tercet.server.errors import ApiError
from tercet.service.served_model import ServedModel

__all__ = ["router"]

router = APIRouter(tags=["operations"])

RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/plain": {"schema": {"type": "string"}}}},
    501: {
        "description": "The server was started without a folder of adapters.",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorObject"}}},
    },
}


class LoadAdapterBody(StrictModel):
    """What /v1/load_lora_adapter reads."""

    lora_name: str = Field(min_length=1, max_length=200)
    """The name by which requests choose it, as their `model`."""
    lora_path: str = Field(min_length=1, max_length=1000)
    """Its folder, within that of `--lora-dir`."""
    load_inplace: bool = False
    """Whether it may replace an adapter of that name. Requests that have begun keep the old one."""
    model: str | None = None
    """Not vLLM's: the model that it is for; missing, the first."""


class UnloadAdapterBody(StrictModel):
    """What /v1/unload_lora_adapter reads."""

    lora_name: str = Field(min_length=1, max_length=200)
    model: str | None = None


@router.post(
    "/v1/load_lora_adapter",
    response_class=PlainTextResponse,
    responses=RESPONSES,
    summary="Load an adapter",
)
async def load_lora_adapter(body: Body[LoadAdapterBody], request: Request) -> Response:
    """Offer an adapter under a name."""
    path = _path(request, body.lora_path)
    served = _model(request, body.model)
    models = [model.name for model in request.app.state.service.pool.models]
    if body.lora_name in models or (body.lora_name in served.llm.adapters and not body.load_inplace):
        raise ApiError(400, f"the name {body.lora_name!r} is taken", param="lora_name", code="invalid_value")
    await asyncio.to_thread(served.llm.adapters.load, body.lora_name, path)
    return PlainTextResponse(f"Success: LoRA adapter '{body.lora_name}' added successfully.")


@router.post(
    "/v1/unload_lora_adapter",
    response_class=PlainTextResponse,
    responses=RESPONSES,
    summary="Unload an adapter",
)
async def unload_lora_adapter(body: Body[UnloadAdapterBody], request: Request) -> Response:
    """Take an adapter's name away; requests that have begun keep it."""
    _folder(request)
    served = _model(request, body.model)
    try:
        served.llm.adapters.unload(body.lora_name)
    except ModelNotFoundError as error:
        raise ApiError(404, str(error), param="lora_name", code="model_not_found") from error
    return PlainTextResponse(f"Success: LoRA adapter '{body.lora_name}' removed successfully.")


def _model(request: Request, name: str | None) -> ServedModel:
    served: ServedModel = request.app.state.service.pool.get(name)
    return served


def _folder(request: Request) -> Path:
    folder: Path | None = request.app.state.settings.adapter_folder
    if folder is None:
        raise ApiError(
            501,
            "adapters are not exchanged here: start the server with --lora-dir FOLDER to allow it for "
            "those of one folder",
            code="unsupported",
        )
    return folder


def _path(request: Request, asked: str) -> Path:
    folder = _folder(request).resolve()
    try:
        path = (folder / asked).resolve()
        is_there = path.is_dir()
    except (OSError, ValueError, RuntimeError):  # too long, a NUL, a loop of links
        path, is_there = folder, False
    if not path.is_relative_to(folder):
        raise ApiError(
            400, "lora_path is outside the folder of adapters", param="lora_path", code="invalid_value"
        )
    if not is_there:
        raise ApiError(404, f"there is no adapter {asked[:200]!r}", param="lora_path", code="model_not_found")
    return path
