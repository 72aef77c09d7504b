"""Who is calling: found out once, at the door, and known wherever it matters.

The server's `Authentication` makes a `Caller` of each request. It is at `request.state.caller`, and it is the
current caller of everything that runs for the request: the pool of models and the service ask for it
themselves, so no route can forget to. Without a server the caller is `LOCAL`, who may do everything.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal

__all__ = ["ANONYMOUS", "LOCAL", "Caller", "Role", "calling", "current_caller"]

Role = Literal["user", "admin"]
"""A user may ask models; an admin may see and change how the server runs, too."""


@dataclass(frozen=True, kw_only=True)
class Caller:
    """One API key, or whoever comes without one where that is allowed."""

    key_id: str
    """The public part of the key. Requests with the same one share turns, limits and caches."""
    role: Role = "user"
    models: frozenset[str] | None = None
    """Names that it may ask for: a model with all its adapters, or a single adapter. None: every one."""
    policy: str | None = None
    """By which rules texts are filtered ("block", "flag", "redact", "off"); None: what the server says."""
    requests_per_minute: int | None = None
    """None: what the server says, as for the two that follow."""
    tokens_per_minute: int | None = None
    max_parallel_requests: int | None = None
    """At one time."""

    @property
    def is_admin(self) -> bool:
        """Whether the routes of operators answer."""
        return self.role == "admin"

    @property
    def is_local(self) -> bool:
        """Whether it is this machine's own user, whose requests need not be kept apart from any others."""
        return self.key_id == LOCAL.key_id

    def may_use(self, *names: str) -> bool:
        """Whether one of these names of a model is in its scope."""
        return self.models is None or not self.models.isdisjoint(names)

    def salt(self, own: bytes = b"") -> bytes:
        """What goes into the keys of caches, with the caller's own part: no two callers have the same one."""
        return own if self.is_local else self.key_id.encode() + b"\0" + own


LOCAL = Caller(key_id="local", role="admin")
ANONYMOUS = Caller(key_id="anonymous")
"""Whoever comes over the network to a server that was told to ask for no key."""

_CURRENT: ContextVar[Caller] = ContextVar("tercet_caller", default=LOCAL)


def current_caller() -> Caller:
    """For whom the code that asks is running."""
    return _CURRENT.get()


@contextlib.contextmanager
def calling(caller: Caller) -> Iterator[None]:
    """Run a block, and the tasks and threads that it starts, for a caller."""
    token = _CURRENT.set(caller)
    try:
        yield
    finally:
        _CURRENT.reset(token)
