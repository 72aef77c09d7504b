"""The files of the page, read once: what is not in this table cannot be asked for.

A request never becomes a path: routes are made from the table, so `..`, links and encoded slashes lead
nowhere.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

STATIC = Path(__file__).with_name("static")

CONTENT_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True)
class Asset:
    """A file of the page: its path below `static/`, its bytes, its type, a tag that changes with them."""

    path: str
    content: bytes
    content_type: str
    etag: str

    def is_known_to(self, if_none_match: str | None) -> bool:
        """Whether the header `If-None-Match` says that the browser has these bytes (RFC 9110, 13.1.2)."""
        if if_none_match is None:
            return False
        tags = {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}
        return self.etag in tags or tags == {"*"}


def read_assets() -> dict[str, Asset]:
    """Every file of `static/` that a browser may ask for, by its path; licences stay in the package."""
    files = sorted(path for path in STATIC.rglob("*") if path.is_file())
    found = (read_asset(file, file.relative_to(STATIC).as_posix()) for file in files)
    return {asset.path: asset for asset in found if asset is not None}


def read_asset(file: Path, path: str) -> Asset | None:
    """One file, or None if its type is not one of a page."""
    content_type = CONTENT_TYPES.get(file.suffix)
    if content_type is None:
        return None
    content = file.read_bytes()
    return Asset(path, content, content_type, f'"{hashlib.sha256(content).hexdigest()[:32]}"')
