"""Every route of the server, package by package; the order is that of the description in /openapi.json."""

from __future__ import annotations

from fastapi import APIRouter

from tercet.server.operations import router as operations

__all__ = ["ROUTERS"]

ROUTERS: tuple[APIRouter, ...] = (operations,)
