"""`/v1/batches`: many requests from a file, answered when there is time."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import Field
from starlette.requests import Request

from tercet.server.batches.files import After, file_of, jobs_of
from tercet.server.batches.listing import page_of
from tercet.server.batches.ownership import is_theirs, shown, theirs
from tercet.server.batches.shapes import BatchList, BatchObject
from tercet.server.bodies import Body, StrictModel
from tercet.server.errors import ApiError
from tercet.server.generation.sampling import Metadata

__all__ = ["router"]

router = APIRouter(tags=["OpenAI"])


class BatchBody(StrictModel):
    """What starts a batch."""

    input_file_id: str = Field(max_length=64)
    endpoint: Literal["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses"]
    completion_window: Literal["24h"]
    metadata: Metadata | None = None


@router.post("/v1/batches", response_model=None, responses={200: {"model": BatchObject}})
async def create_batch(body: Body[BatchBody], request: Request) -> dict[str, Any]:
    """Start a batch with a file of requests."""
    jobs = jobs_of(request)
    file_of(request, body.input_file_id, "input_file_id")
    return shown(await jobs.create(body.input_file_id, body.endpoint, body.metadata))


@router.get("/v1/batches", response_model=None, responses={200: {"model": BatchList}})
async def list_batches(
    request: Request, limit: Annotated[int, Query(ge=1, le=100)] = 20, after: After = None
) -> dict[str, Any]:
    """The batches, the latest first."""
    jobs = jobs_of(request)
    page = page_of(theirs(jobs.store.batches()), limit, after)
    return {**page, "data": theirs(jobs.get(batch["id"]) or batch for batch in page["data"])}


@router.get("/v1/batches/{batch_id}", response_model=None, responses={200: {"model": BatchObject}})
async def get_batch(batch_id: str, request: Request) -> dict[str, Any]:
    """How far a batch is."""
    return _batch(request, batch_id)


@router.post("/v1/batches/{batch_id}/cancel", response_model=None, responses={200: {"model": BatchObject}})
async def cancel_batch(batch_id: str, request: Request) -> dict[str, Any]:
    """End a batch; what has been answered is kept."""
    _batch(request, batch_id)
    await jobs_of(request).cancel(batch_id)
    return _batch(request, batch_id)


def _batch(request: Request, batch_id: str) -> dict[str, Any]:
    """The caller's batch of this name; ApiError where he has none."""
    batch = jobs_of(request).get(batch_id)
    if batch is None or not is_theirs(batch):
        raise ApiError(404, f"there is no batch {batch_id[:64]!r}", param="batch_id", code="batch_not_found")
    return shown(batch)
