"""The trace that a request belongs to, as its caller names it (W3C Trace Context).

Within this block the span that `Telemetry` makes of a request is part of the caller's trace:

    with traced_by({"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}):
        generation = await service.submit(request)
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar

__all__ = ["TRACE_HEADERS", "caller_trace", "traced_by"]

TRACE_HEADERS = ("traceparent", "tracestate")

_CURRENT: ContextVar[Mapping[str, str] | None] = ContextVar("tercet_caller_trace", default=None)


@contextlib.contextmanager
def traced_by(headers: Mapping[str, str]) -> Iterator[None]:
    """Let what is submitted in this block, and in tasks that it starts, belong to the trace named here."""
    token = _CURRENT.set({name: headers[name] for name in TRACE_HEADERS if name in headers} or None)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def caller_trace() -> Mapping[str, str] | None:
    """The headers of the trace at this place; None outside of one. Nobody has checked them."""
    return _CURRENT.get()
