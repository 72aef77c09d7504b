"""A page of a list, as OpenAI's clients turn them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tercet.server.errors import ApiError

__all__ = ["page_of"]


def page_of(objects: Sequence[dict[str, Any]], limit: int, after: str | None) -> dict[str, Any]:
    """Return the objects behind the one with the id `after`, at most `limit`.

    Raises:
        ApiError: no object has that id.
    """
    begin = 0
    if after is not None:
        ids = [one["id"] for one in objects]
        if after not in ids:
            raise ApiError(
                400, f"after: nothing here has the id {after!r}", param="after", code="invalid_value"
            )
        begin = ids.index(after) + 1
    page = list(objects[begin : begin + limit])
    return {
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
        "has_more": len(objects) > begin + len(page),
    }
