"""`/v1/files`: what batches read, and what they have written."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from tercet.server.batches.listing import page_of
from tercet.server.batches.ownership import is_theirs, shown, theirs
from tercet.server.batches.shapes import UPLOAD_FORM, DeletedFile, FileList, FileObject
from tercet.server.batches.upload import store_upload
from tercet.server.errors import ApiError
from tercet.service.batch.jobs import BatchJobs

__all__ = ["file_of", "jobs_of", "router"]

router = APIRouter(tags=["OpenAI"])

CONTENT: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}
}
Limit = Annotated[int, Query(ge=1, le=10_000)]
After = Annotated[str | None, Query(max_length=64)]


def jobs_of(request: Request) -> BatchJobs:
    """The batches of this server; ApiError where it keeps none."""
    jobs: BatchJobs | None = request.app.state.batches
    if jobs is None:
        message = "this server keeps no files or batches; start it with --batch-dir FOLDER"
        raise ApiError(501, message, code="unsupported")
    return jobs


@router.post(
    "/v1/files", response_model=None, responses={200: {"model": FileObject}}, openapi_extra=UPLOAD_FORM
)
async def create_file(request: Request) -> dict[str, Any]:
    """Keep a file of requests."""
    return shown(await store_upload(request, jobs_of(request).store))


@router.get("/v1/files", response_model=None, responses={200: {"model": FileList}})
async def list_files(
    request: Request,
    purpose: Annotated[str | None, Query(max_length=64)] = None,
    limit: Limit = 10_000,
    order: Literal["asc", "desc"] = "desc",
    after: After = None,
) -> dict[str, Any]:
    """The files, the latest first."""
    files = [file for file in theirs(jobs_of(request).store.files()) if purpose in (None, file["purpose"])]
    return page_of(files if order == "desc" else files[::-1], limit, after)


@router.get("/v1/files/{file_id}", response_model=None, responses={200: {"model": FileObject}})
async def get_file(file_id: str, request: Request) -> dict[str, Any]:
    """What a file is."""
    return file_of(request, file_id)


@router.get("/v1/files/{file_id}/content", response_class=Response, responses=CONTENT)
async def get_content(file_id: str, request: Request) -> Response:
    """The bytes of a file."""
    file_of(request, file_id)
    path = jobs_of(request).store.file_path(file_id)
    return FileResponse(path, media_type="application/octet-stream")


@router.delete("/v1/files/{file_id}", response_model=None, responses={200: {"model": DeletedFile}})
async def delete_file(file_id: str, request: Request) -> dict[str, Any]:
    """Forget a file; one that a running batch reads stays."""
    file_of(request, file_id)
    jobs = jobs_of(request)
    if jobs.uses(file_id):
        raise ApiError(
            409,
            "a batch that has not ended reads this file; cancel it, or wait for its end",
            code="file_in_use",
            headers={"x-should-retry": "false"},
        )
    jobs.store.delete_file(file_id)
    return {"id": file_id, "object": "file", "deleted": True}


def file_of(request: Request, file_id: str, param: str = "file_id") -> dict[str, Any]:
    """The caller's file of this name; ApiError where he has none."""
    found = jobs_of(request).store.file(file_id)
    if found is None or not is_theirs(found):
        raise ApiError(404, f"there is no file {file_id[:64]!r}", param=param, code="file_not_found")
    return shown(found)
