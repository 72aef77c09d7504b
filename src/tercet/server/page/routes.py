"""The routes of the page: `/` is index.html, every other file has its own route below `/page/`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import APIRouter, Request, Response

from tercet.server.page.assets import Asset, read_assets
from tercet.server.page.policy import PAGE_HEADERS

INDEX = "index.html"


def page_router() -> APIRouter:
    """A router with one route for each file of the page: GET and HEAD, 304 for who has the file already."""
    router = APIRouter(include_in_schema=False)
    for asset in read_assets().values():
        path = "/" if asset.path == INDEX else f"/page/{asset.path}"
        router.add_api_route(path, answer_with(asset), methods=["GET", "HEAD"], response_class=Response)
    return router


def answer_with(asset: Asset) -> Callable[[Request], Awaitable[Response]]:
    """The handler of one file."""
    headers = {**PAGE_HEADERS, "ETag": asset.etag}

    async def answer(request: Request) -> Response:
        if asset.is_known_to(request.headers.get("if-none-match")):
            return Response(status_code=304, headers=headers)
        return Response(asset.content, media_type=asset.content_type, headers=headers)

    return answer


router = page_router()
