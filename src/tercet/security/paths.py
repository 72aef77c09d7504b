"""Paths from strangers: in a manifest, an index, an archive, a repository.

Such a path is relative to a folder and must stay in it, on every operating system, so that what is refused
on one is refused on all: no `..`, no drive letters, no names that Windows takes for devices.
"""

from __future__ import annotations

from pathlib import PurePosixPath

__all__ = ["is_safe_path"]

MAX_PATH = 500
FORBIDDEN = frozenset('\\:*?"<>|')
DEVICES = frozenset(
    ("con", "prn", "aux", "nul", *(f"{name}{n}" for name in ("com", "lpt") for n in range(10)))
)


def is_safe_path(path: str) -> bool:
    """Whether a path from a stranger stays inside the folder that it is relative to, on every system."""
    parts = PurePosixPath(path).parts
    return (
        0 < len(path) <= MAX_PATH
        and path == "/".join(parts)
        and path.isprintable()
        and not path.startswith("/")
        and not any(part in (".", "..") or part.endswith((".", " ")) for part in parts)
        and not any(part.partition(".")[0].lower() in DEVICES for part in parts)
        and not FORBIDDEN.intersection(path)
    )
