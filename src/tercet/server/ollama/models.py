"""`/api/tags`, `/api/show`, `/api/ps`, `/api/version`: which models there are and what they are."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request

from tercet.sampling.params import SamplingParams
from tercet.server.bodies import AnyTypeBody
from tercet.server.errors import ApiError
from tercet.server.ollama.answers import timestamp
from tercet.server.ollama.bodies import OllamaNameBody
from tercet.server.ollama.errors import OllamaRoute, responses
from tercet.server.ollama.options import DEFAULT_TAG, model_of
from tercet.server.ollama.shapes import OllamaModels, OllamaShown, OllamaVersion
from tercet.service.served_model import ServedModel

__all__ = ["router"]

router = APIRouter(tags=["Ollama"], route_class=OllamaRoute)

API_VERSION = "0.12.0"
"""The Ollama whose API this follows: clients compare it with what they need."""
YEAR_SECONDS = 365 * 86_400


@router.get("/api/version", response_model=None, responses=responses(OllamaVersion))
async def api_version() -> dict[str, str]:
    """The version of the API, and ours."""
    return {"version": API_VERSION, "tercet": version("tercet")}


@router.get("/api/tags", response_model=None, responses=responses(OllamaModels))
async def tags(request: Request) -> dict[str, Any]:
    """The models."""
    models = request.app.state.service.pool.entries
    return {"models": [await asyncio.to_thread(_entry, served) for served in models]}


@router.get("/api/ps", response_model=None, responses=responses(OllamaModels))
async def running(request: Request) -> dict[str, Any]:
    """The models that are loaded: all of them, for as long as the server runs."""
    models = [model for model in request.app.state.service.pool.entries if model.adapter is None]
    expires = timestamp(time.time() + YEAR_SECONDS)
    return {
        "models": [
            {
                **await asyncio.to_thread(_entry, served),
                "expires_at": expires,
                "size_vram": 0,
                "context_length": served.llm.max_context,
            }
            for served in models
        ]
    }


@router.post("/api/show", response_model=None, responses=responses(OllamaShown))
async def show(body: AnyTypeBody[OllamaNameBody], request: Request) -> dict[str, Any]:
    """One model: its template, sampling, shape and what it can do."""
    name = body.model or body.name
    if not name:
        raise ApiError(400, "model is required", param="model", code="invalid_value")
    served = model_of(request.app.state.service.pool, name)
    template = "{{ .Prompt }}" if served.llm.makes_embeddings else served.chat_template.source
    return {
        "modelfile": f"FROM {served.llm.path.name}\n",
        "parameters": _parameters(served),
        "template": template,
        "details": _details(served),
        "model_info": _model_info(served),
        "capabilities": ["embedding"] if served.llm.makes_embeddings else ["completion", "tools"],
        "modified_at": timestamp(served.llm.path.stat().st_mtime),
    }


def _entry(served: ServedModel) -> dict[str, Any]:
    name = served.name if ":" in served.name else served.name + DEFAULT_TAG
    files = _files(served.llm.path)
    modified = max(file.stat().st_mtime for file in files)
    return {
        "name": name,
        "model": name,
        "modified_at": timestamp(modified),
        "size": sum(file.stat().st_size for file in files),
        "digest": _digest(tuple(files), modified),
        "details": _details(served),
    }


def _details(served: ServedModel) -> dict[str, Any]:
    family = served.llm.config.architecture
    return {
        "parent_model": "" if served.adapter is None else served.base_name,
        "format": served.llm.path.suffix.removeprefix(".") or "safetensors",
        "family": family,
        "families": [family],
        "parameter_size": _rounded(served.llm.config.num_parameters),
        "quantization_level": served.quantization,
    }


def _model_info(served: ServedModel) -> dict[str, Any]:
    config = served.llm.config
    name = config.architecture
    return {
        "general.architecture": name,
        "general.basename": served.llm.name,
        "general.parameter_count": config.num_parameters,
        f"{name}.context_length": served.llm.max_context,
        f"{name}.embedding_length": config.hidden_size,
        f"{name}.block_count": config.num_layers,
        f"{name}.attention.head_count": config.num_heads,
        f"{name}.attention.head_count_kv": config.num_kv_heads,
        f"{name}.vocab_size": config.vocab_size,
    }


def _parameters(served: ServedModel) -> str:
    """The sampling of requests that name none, a line each."""
    params = served.llm.sampling(SamplingParams(), {})
    names = {"temperature": "temperature", "top_p": "top_p", "top_k": "top_k", "min_p": "min_p"}
    names["repeat_penalty"] = "repetition_penalty"
    return "\n".join(f"{shown:<30} {getattr(params, ours)}" for shown, ours in names.items())


def _files(path: Path) -> list[Path]:
    return sorted(one for one in path.iterdir() if one.is_file()) if path.is_dir() else [path]


@functools.lru_cache(maxsize=16)
def _digest(files: tuple[Path, ...], modified: float) -> str:
    """SHA-256 of the files of a model, read once for each state of them."""
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            while part := file.read(1 << 20):
                digest.update(part)
    return digest.hexdigest()


def _rounded(count: int) -> str:
    for size, letter in ((10**9, "B"), (10**6, "M"), (10**3, "K")):
        if count >= size:
            return f"{count / size:.1f}{letter}"
    return str(count)
