"""What the routes of files and batches answer with, for the description of the server."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

__all__ = ["UPLOAD_FORM", "BatchList", "BatchObject", "DeletedFile", "FileList", "FileObject"]

UPLOAD_FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "purpose": {"type": "string", "enum": ["batch"]},
                    },
                    "required": ["file", "purpose"],
                }
            }
        },
    }
}


class Strict(BaseModel):
    """Nothing beside the fields."""

    model_config = ConfigDict(extra="forbid")


class FileObject(Strict):
    """A file."""

    id: str
    object: Literal["file"]
    bytes: int
    created_at: int
    filename: str
    purpose: str
    status: Literal["processed"]


class DeletedFile(Strict):
    """A file that has been deleted."""

    id: str
    object: Literal["file"]
    deleted: Literal[True]


class RequestCounts(Strict):
    """How far a batch is."""

    total: int
    completed: int
    failed: int


class LineError(Strict):
    """A line that is no request."""

    code: str
    line: int | None
    message: str
    param: str | None


class LineErrors(Strict):
    """The first lines that are no requests."""

    object: Literal["list"]
    data: list[LineError]


class BatchObject(Strict):
    """A batch; times are seconds since 1970."""

    id: str
    object: Literal["batch"]
    endpoint: str
    errors: LineErrors | None
    input_file_id: str
    completion_window: str
    status: Literal[
        "validating", "in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled"
    ]
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    in_progress_at: int | None
    expires_at: int
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: RequestCounts
    metadata: dict[str, str] | None


class FileList(Strict):
    """A page of files."""

    object: Literal["list"]
    data: list[FileObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class BatchList(Strict):
    """A page of batches."""

    object: Literal["list"]
    data: list[BatchObject]
    first_id: str | None
    last_id: str | None
    has_more: bool
