"""OpenAI's files and batches, kept in the folder of `--batch-dir`.

files    /v1/files: upload, list, get, content, delete
upload   a form with a file, written to the disk while it comes
routes   /v1/batches: create, list, get, cancel
inner    a request of a batch, answered by the very routes that answer it over HTTP
opening  the store and its jobs, for a server that has such a folder
"""

from __future__ import annotations

from fastapi import APIRouter

from tercet.server.batches.files import router as files
from tercet.server.batches.routes import router as batches

__all__ = ["router"]

router = APIRouter()
for _part in (files, batches):
    router.include_router(_part)
