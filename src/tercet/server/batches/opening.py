"""The store and the jobs of a server that has a folder for batches."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, cast

from fastapi import FastAPI

from tercet.server.batches.inner import AppAnswer, PatientService
from tercet.service.batch.jobs import BatchJobs
from tercet.service.batch.store import BatchStore

if TYPE_CHECKING:
    from tercet.server.auditing import Auditing
    from tercet.server.settings import ServerSettings
    from tercet.service.service import Service

__all__ = ["inner_app", "open_jobs"]


def inner_app(service: Service, settings: ServerSettings, auditing: Auditing | None = None) -> FastAPI:
    """The application for requests of batches: the same routes over a patient service."""
    from tercet.server.app import create_app  # which has these routes, too

    return create_app(
        cast("Service", PatientService(service)), dataclasses.replace(settings, batch_folder=None), auditing
    )


def open_jobs(service: Service, settings: ServerSettings, auditing: Auditing) -> BatchJobs | None:
    """Open the folder of the settings; None where there is none.

    Raises:
        StorageError: the folder cannot be made, is damaged, or another server uses it.
    """
    if settings.batch_folder is None:
        return None
    app = inner_app(service, settings, auditing)
    return BatchJobs(
        BatchStore(settings.batch_folder),
        lambda endpoint, owner: AppAnswer(app, endpoint, owner=owner),
        lambda: 2 * service.pool.get(None).max_concurrent,
    )
