"""What a client may use: requests in a minute, requests at one time, and what one request may ask for.

    more requests in a minute than it may send     429 RATE_LIMIT_EXCEEDED, with Retry-After
    more at one time                               429 RATE_LIMIT_EXCEEDED
    the counters cannot be reached                 503, unless the settings say otherwise

This comes before the body is read. The rest (tokens, lengths, numbers) is known later, and whatever runs asks
the allowance that is current from here on. Answers say in headers what is left, as OpenAI's do:

    x-ratelimit-limit-requests, x-ratelimit-remaining-requests, x-ratelimit-reset-requests, and for tokens

A client is its key; without one it is its address, or the first 64 bits of it where it has as many addresses
as it likes. Looking (GET) is not counted: it costs next to nothing, and dashboards look every second. Nor are
the requests of batches, which run behind everybody else's; what one of them may ask for is checked as ever.
"""

from __future__ import annotations

import contextlib
import ipaddress
import math
from typing import TYPE_CHECKING

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tercet.errors import RateLimitError, TercetError
from tercet.security.identity import ANONYMOUS, Caller, current_caller
from tercet.server.errors import error_response, note_error
from tercet.service.guard import Allowance, Guard, Quota

if TYPE_CHECKING:
    from tercet.security.rate_limits import Window

__all__ = ["Limits", "client_of"]

LOOKING = ("GET", "HEAD", "OPTIONS")


class Limits:
    """See the module."""

    def __init__(self, app: ASGIApp, guard: Guard) -> None:
        self.app = app
        self.guard = guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with an allowance, or answer that there is none left."""
        if scope["type"] != "http" or scope["method"] in LOOKING:
            await self.app(scope, receive, send)
            return
        caller = current_caller()
        quota = Quota(caller.requests_per_minute, caller.tokens_per_minute, caller.max_parallel_requests)
        is_internal = bool(scope.get("tercet.internal"))
        allowance = self.guard.allowance(client_of(caller, scope), quota, counted=not is_internal)

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                _tell(MutableHeaders(scope=message), allowance)
            await send(message)

        with contextlib.ExitStack() as work:
            try:
                work.enter_context(allowance.place())
            except RateLimitError as error:
                scope["state"]["blocked"] = "parallelism"
                note_error(scope, error)
                await error_response(error)(scope, receive, told)
                return
            try:
                await allowance.admit()
            except TercetError as error:
                note_error(scope, error)
                await error_response(error)(scope, receive, told)
                return
            work.enter_context(allowance.current())
            await self.app(scope, receive, told)


def client_of(caller: Caller, scope: Scope) -> str:
    """Return the name under which a caller's requests are counted: its key, or its address without one."""
    if caller.key_id != ANONYMOUS.key_id:
        return f"key:{caller.key_id}"
    host = (scope.get("client") or ("", 0))[0]
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:  # a socket of this machine's file system
        return "address:local"
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return f"address:{address.ipv4_mapped}"
        return f"address:{ipaddress.IPv6Network((int(address) >> 64 << 64, 64))}"
    return f"address:{address}"


def _tell(headers: MutableHeaders, allowance: Allowance) -> None:
    for counted, window in allowance.windows.items():
        headers[f"x-ratelimit-limit-{counted}"] = str(window.limit)
        headers[f"x-ratelimit-remaining-{counted}"] = str(window.remaining)
        headers[f"x-ratelimit-reset-{counted}"] = _reset(window)


def _reset(window: Window) -> str:
    """Seconds as OpenAI writes them: `12s`."""
    return f"{math.ceil(window.reset_seconds)}s"
