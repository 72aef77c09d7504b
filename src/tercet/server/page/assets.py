"""The files of the page, read once: what is not in this table cannot be asked for.

A request never becomes a path: routes are made from the table, so `..`, links and encoded slashes lead
nowhere.

The addresses of all files but index.html carry a digest of all of them, and modules import each other by
relative addresses. So a browser keeps the files for good, asks for index.html alone, and after an upgrade
never mixes old files with new ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Asset", "read_assets"]

STATIC = Path(__file__).with_name("static")
CONTENT_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
INDEX = "index.html"
CHECKED = "no-cache"  # kept, and asked for each time whether it has changed
KEPT = "public, max-age=31536000, immutable"


@dataclass(frozen=True)
class Asset:
    """A file of the page: where it is answered, its bytes, their type, how long a browser may keep them."""

    address: str
    content: bytes
    content_type: str
    cache_control: str

    @property
    def etag(self) -> str:
        """A tag that changes with the bytes."""
        return f'"{digest(self.content)}"'

    def is_known_to(self, if_none_match: str | None) -> bool:
        """Whether the header `If-None-Match` says that the browser has these bytes (RFC 9110, 13.1.2)."""
        if if_none_match is None:
            return False
        tags = {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}
        return self.etag in tags or tags == {"*"}


def read_assets() -> list[Asset]:
    """Every file of `static/` that a browser may ask for; licences stay in the package."""
    files = {path.relative_to(STATIC).as_posix(): path for path in STATIC.rglob("*")}
    contents = {name: files[name].read_bytes() for name in sorted(files) if suffix(name) in CONTENT_TYPES}
    folder = f"/page/{digest_of_all(contents)}/"
    index = contents.pop(INDEX).replace(b'"/page/', f'"{folder}'.encode())
    first = Asset("/", index, CONTENT_TYPES[suffix(INDEX)], CHECKED)
    types = {name: CONTENT_TYPES[suffix(name)] for name in contents}
    return [first, *(Asset(folder + name, contents[name], types[name], KEPT) for name in contents)]


def suffix(name: str) -> str:
    """The end of a file's name, with its dot."""
    return Path(name).suffix


def digest(content: bytes) -> str:
    """Short, and no two files of a page share it."""
    return hashlib.sha256(content).hexdigest()[:16]


def digest_of_all(contents: Mapping[str, bytes]) -> str:
    """A digest of names and bytes."""
    return digest("".join(f"{name} {digest(content)}\n" for name, content in contents.items()).encode())
