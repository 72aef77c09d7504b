"""Files and batches belong to the key that made them: for every other there is no such thing.

What was made where no key was asked for belongs to this machine's user; when keys are on, admins see it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tercet.security.identity import LOCAL, current_caller

__all__ = ["OWNER", "is_theirs", "shown", "theirs"]

OWNER = "owner"
"""Field of what is on the disk; clients do not see it."""


def is_theirs(value: Mapping[str, Any]) -> bool:
    """Whether the current caller may see a file or a batch."""
    caller = current_caller()
    owner = value.get(OWNER, LOCAL.key_id)
    return caller.is_local or owner == caller.key_id or (owner == LOCAL.key_id and caller.is_admin)


def theirs(values: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the current caller may see, as clients see it."""
    return [shown(value) for value in values if is_theirs(value)]


def shown(value: Mapping[str, Any]) -> dict[str, Any]:
    """A file or a batch as clients see it."""
    return {name: field for name, field in value.items() if name != OWNER}
