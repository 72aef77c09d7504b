"""Which names the server answers to, and which web pages may use it.

A page of a stranger runs in the browser of somebody who can reach this server. Two doors are closed to it:

- **Its own name for us** (DNS rebinding): a name of the stranger's is made to lead to this machine, and the
  browser takes us for the stranger's server. So `Host` must be an address, `localhost`, a name without a dot,
  which nobody owns in the public DNS, or one of `allowed_hosts`. Where every request needs a key, which the
  page does not have, any name will do as long as none was listed.
- **Its own origin** (cross-site requests): a request of a page of another server is refused, whatever it asks
  for, unless `cors_origins` names that server. For those that are named, the headers of CORS are sent.

Programs that are no browser send no `Origin` and notice nothing.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tercet.errors import ParameterError
from tercet.server.errors import ApiError, error_response

__all__ = ["Origin", "checked_origin", "host_name"]

PREFLIGHT_SECONDS = 600
METHODS = "GET, HEAD, POST, DELETE, OPTIONS"
EXPOSED = "X-Request-Id, Retry-After, x-ratelimit-limit-requests, x-ratelimit-remaining-requests, \
x-ratelimit-reset-requests, x-ratelimit-limit-tokens, x-ratelimit-remaining-tokens, x-ratelimit-reset-tokens"
PORTS = {"http": "80", "https": "443"}
HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?")


class Origin:
    """See the module.

    Args:
        app: what lies behind.
        allowed_hosts: names that are good besides those that always are; `.example.com` has those below it.
        origins: pages of these servers may come; `*` is all.
        any_host: whether other names are good, too, where none is listed.
    """

    def __init__(
        self, app: ASGIApp, allowed_hosts: Sequence[str], origins: Sequence[str], any_host: bool
    ) -> None:
        self.app = app
        self._hosts = frozenset(name.lower() for name in allowed_hosts)
        self._origins = frozenset(origins)
        self._any_host = any_host and not allowed_hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, answer a preflight, or refuse."""
        if scope["type"] == "lifespan" or scope.get("tercet.internal"):
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        hosts, origins = headers.getlist("host"), headers.getlist("origin")
        if len(hosts) > 1 or not all(map(self._is_good_host, hosts)):
            words = "the server does not answer to this name; if it is its own, start it with --allowed-host"
            await _refuse(scope, receive, send, ApiError(403, words, code="unknown_host"))
            return
        if not origins or _is_same(origins, hosts):
            await self.app(scope, receive, send)
            return
        origin = origins[0]
        if len(origins) > 1 or not ({"*", origin} & self._origins):
            words = "pages of this origin may not use the server; --cors-origin ORIGIN allows one"
            await _refuse(scope, receive, send, ApiError(403, words, code="forbidden_origin"))
            return
        if (
            scope["type"] == "http"
            and scope["method"] == "OPTIONS"
            and "access-control-request-method" in headers
        ):
            await Response(status_code=204, headers=self._preflight(origin, headers))(scope, receive, send)
            return

        async def allowing(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer = MutableHeaders(scope=message)
                answer["Access-Control-Allow-Origin"] = origin
                answer["Access-Control-Expose-Headers"] = EXPOSED
                answer.add_vary_header("Origin")
            await send(message)

        await self.app(scope, receive, allowing)

    def _is_good_host(self, host: str) -> bool:
        name = host_name(host)
        if name is None:
            return False
        if self._any_host or "." not in name or name in self._hosts or _is_address(name):
            return True
        return name.endswith(".localhost") or any(
            name.endswith(one) for one in self._hosts if one.startswith(".")
        )

    def _preflight(self, origin: str, headers: Headers) -> dict[str, str]:
        """What a browser asks before it lets the page ask; a key is a header like any other here."""
        wanted = headers.get("access-control-request-headers", "")
        words = re.fullmatch(r"[A-Za-z0-9, _-]{0,1000}", wanted)
        return {
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Allow-Methods": METHODS,
            "Access-Control-Allow-Headers": wanted if words else "",
            "Access-Control-Max-Age": str(PREFLIGHT_SECONDS),
            "Vary": "Origin",
        }


def host_name(host: str) -> str | None:
    """The name in a `Host` header, in lower case and without port or last dot; None where it is malformed."""
    if not host:
        return ""
    found = HOST.fullmatch(host)
    return None if found is None else found["name"].lower().removesuffix(".")


def checked_origin(text: str) -> str:
    """Return an origin as browsers write it.

    Raises:
        ParameterError: it is neither that nor `*`.
    """
    if text == "*":
        return text
    parts = urlsplit(text)
    if not parts.scheme or not parts.netloc or parts.path.strip("/") or parts.query or parts.fragment:
        raise ParameterError(f"an origin is a scheme and a host, as in https://example.com, not {text!r}")
    return f"{parts.scheme.lower()}://{parts.netloc.lower()}"


def _is_same(origins: Sequence[str], hosts: Sequence[str]) -> bool:
    """Whether a page that this server has sent asks: whoever ends TLS before us changes the scheme alone."""
    if len(origins) > 1 or not hosts:
        return False
    scheme, _, netloc = origins[0].lower().partition("://")
    default = ":" + PORTS.get(scheme, "")
    return bool(netloc) and netloc.removesuffix(default) == hosts[0].lower().removesuffix(default)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]").partition("%")[0])
    except ValueError:
        return False
    return True


async def _refuse(scope: Scope, receive: Receive, send: Send, error: ApiError) -> None:
    state = scope.setdefault("state", {})
    state["blocked"], state["blocked_detail"] = "foreign_host", error.code
    if scope["type"] == "http":
        await error_response(error)(scope, receive, send)
    else:
        await send({"type": "websocket.close", "code": 1008})
