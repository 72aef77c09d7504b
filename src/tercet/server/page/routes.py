"""The routes of the page: `/` is index.html, every other file has a route of its own below `/page/`.

`/dashboard.json` is the one that the scripts poll, `/dashboard/day.json` the one that they ask now and then;
what else they need they get from the public routes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from tercet.server.page.assets import Asset, read_assets
from tercet.server.page.dashboard import dashboard_figures
from tercet.server.page.day import Day
from tercet.server.page.policy import PAGE_HEADERS


def page_router() -> APIRouter:
    """A router with one route for each file of the page: GET and HEAD, 304 for who has the file already."""
    router = APIRouter(include_in_schema=False)
    router.add_api_route("/dashboard.json", answer_figures, methods=["GET"], response_class=Response)
    router.add_api_route("/dashboard/day.json", answer_day, methods=["GET"], response_class=Response)
    for asset in read_assets():
        answer = answer_with(asset)
        router.add_api_route(asset.address, answer, methods=["GET", "HEAD"], response_class=Response)
    return router


def answer_with(asset: Asset) -> Callable[[Request], Awaitable[Response]]:
    """The handler of one file."""
    headers = {**PAGE_HEADERS, "ETag": asset.etag, "Cache-Control": asset.cache_control}

    async def answer(request: Request) -> Response:
        if asset.is_known_to(request.headers.get("if-none-match")):
            return Response(status_code=304, headers=headers)
        return Response(asset.content, media_type=asset.content_type, headers=headers)

    return answer


async def answer_figures(request: Request) -> Response:
    """The figures of this moment, which nobody keeps."""
    figures = dashboard_figures(request.app.state.service)
    return JSONResponse(figures, headers={"Cache-Control": "no-store"})


async def answer_day(request: Request) -> Response:
    """The last 24 hours; of a server that records none, nothing."""
    state = request.app.state
    if state.monitor is None:
        return JSONResponse(None, headers={"Cache-Control": "no-store"})
    if getattr(state, "day", None) is None:
        state.day = Day()
    told = await asyncio.to_thread(state.day.told, state.monitor, state.auditing.slow_requests, time.time())
    return JSONResponse(told, headers={"Cache-Control": "no-store"})


router = page_router()
