"""`GET /props` and `/slots`: what the server is and what it is doing.

A slot is room for one sequence. Nobody's prompt is shown, and no path of this machine.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.requests import Request

from tercet.sampling.params import SamplingParams
from tercet.server.errors import ApiError
from tercet.server.llama_cpp.answers import generation_settings
from tercet.server.llama_cpp.errors import LlamaCppRoute, responses
from tercet.server.llama_cpp.shapes import LlamaCppProperties, LlamaCppSlot
from tercet.service.served_model import ServedModel

__all__ = ["router"]

router = APIRouter(tags=["llama.cpp"], route_class=LlamaCppRoute)

UNLIMITED = -1
DRAWN_SEED = 0xFFFFFFFF
"""What llama.cpp shows for a seed that is drawn for each request."""


@router.get("/props", response_model=None, responses=responses(LlamaCppProperties))
async def props(request: Request, model: str | None = None) -> dict[str, Any]:
    """The model, its template, and the sampling of requests that name none."""
    served = request.app.state.service.pool.get(model)
    llm = served.llm
    return {
        "default_generation_settings": {
            "id": 0,
            "id_task": -1,
            "n_ctx": llm.max_context,
            "speculative": _speculates(served),
            "is_processing": False,
            "params": _defaults(served),
        },
        "total_slots": _num_slots(served),
        "model_alias": served.name,
        "model_path": llm.path.name,
        "chat_template": served.chat_template.source,
        "chat_template_caps": {},
        "modalities": {"vision": False, "audio": False, "video": False},
        "bos_token": _token_text(served, llm.config.bos_token_id),
        "eos_token": _token_text(served, next(iter(llm.config.eos_token_ids), None)),
        "build_info": f"tercet-{version('tercet')}",
        "is_sleeping": False,
    }


@router.get("/slots", response_model=None, responses=responses(list[LlamaCppSlot]))
async def slots(
    request: Request,
    fail_on_no_slot: Annotated[str | None, Query(max_length=20)] = None,
    model: str | None = None,
) -> list[dict[str, Any]]:
    """Which places for sequences are taken."""
    served = request.app.state.service.pool.get(model)
    total, busy = _num_slots(served), served.engine.num_running
    if fail_on_no_slot and busy >= total:
        raise ApiError(503, "no slot available", code="overloaded", retry_after_seconds=1.0)
    return [
        {
            "id": number,
            "n_ctx": served.llm.max_context,
            "speculative": _speculates(served),
            "is_processing": number < busy,
        }
        for number in range(total)
    ]


def _defaults(served: ServedModel) -> dict[str, Any]:
    params = served.llm.sampling(SamplingParams(), {})
    sampling = {name: getattr(params, name) for name in params.__dataclass_fields__}
    return {
        **generation_settings(sampling, served.llm.max_context),
        "seed": DRAWN_SEED,
        "n_predict": UNLIMITED,
        "max_tokens": UNLIMITED,
        "stream": False,
        "grammar": "",
    }


def _num_slots(served: ServedModel) -> int:
    return served.llm.engine.limits.max_sequences


def _speculates(served: ServedModel) -> bool:
    return served.llm.settings.speculation != "off"


def _token_text(served: ServedModel, token_id: int | None) -> str:
    return "" if token_id is None else served.llm.tokenizer.token_bytes(token_id).decode("utf-8", "replace")
