"""An HTTP endpoint that may answer anything, or nothing: JSON and event streams within a time and a size.

Every conversation is one connection with one end in time: each read and write gets what is left of it, so a
peer that sends a byte now and then cannot hold it open. Redirects are not followed and proxies not used: what
is sent goes to the address that was named and nowhere else. What goes wrong is one of

    UnavailableError   nobody is there, the connection broke off, or status 500 and above
    OverloadedError    status 429, or 503 with Retry-After
    DeadlineError      the time was over
    ForbiddenError     status 401 or 403
    ParameterError     any other status of 300 to 499; NoRouteError where it is 404 or 405
    FormatError        an answer that is no HTTP, no JSON, or too much
"""

from __future__ import annotations

import contextlib
import http.client
import io
import ipaddress
import json
import queue
import re
import socket
import ssl
import threading
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, urlsplit

from tercet.deployment.answer_text import said
from tercet.errors import (
    DeadlineError,
    ForbiddenError,
    FormatError,
    OverloadedError,
    ParameterError,
    TercetError,
    UnavailableError,
)

__all__ = ["Endpoint", "NoRouteError"]

MOST_BYTES = 16 << 20
"""Of one answer, headers included."""
MOST_LINE_BYTES = 1 << 20
"""Of one event of a stream."""
ERROR_BYTES = 4096
"""So much is read of an answer that tells an error."""


class NoRouteError(ParameterError):
    """The endpoint has no such route, or what the route was asked for is not there (status 404 or 405)."""


@dataclass(frozen=True)
class Endpoint:
    """Where to ask.

    Attributes:
        url: `http://` or `https://`, host, and the path that all routes begin with.
        key: sent as `Authorization: Bearer`; it is in no message.

    Raises:
        ParameterError: the address cannot be used.
    """

    url: str
    key: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        parts = self._parts
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ParameterError(f"an endpoint is an address like https://HOST/v1, not {said(self.url)!r}")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ParameterError(
                f"the endpoint at {parts.hostname} is given with a user, a query or a fragment; "
                "give the address alone, and a key in a file"
            )
        if re.search(r"[^\x21-\x7e]", self.url) or re.search(r"[^\x21-\x7e]", self.key or ""):
            raise ParameterError(
                f"the endpoint at {said(parts.hostname)}: address and key are ASCII without spaces"
            )

    @property
    def label(self) -> str:
        """Host and port, for messages."""
        return self._parts.netloc

    @property
    def on_this_machine(self) -> bool:
        """Whether the address itself says that what is sent stays on this machine."""
        host = self._parts.hostname or ""
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"

    def get(self, path: str, seconds: float) -> Any:
        """Return the JSON that a route answers with, within so many seconds. Raises as the module says."""
        with self._asked("GET", path, None, seconds) as response:
            return self._json(response.read())

    def stream(
        self, path: str, body: dict[str, Any], seconds: float
    ) -> Generator[dict[str, Any], None, None]:
        """Post JSON, and give the objects of the event stream that comes back, up to `[DONE]` or its end.

        An answer that is no event stream but one JSON object is given as it is. Raises as the module says.
        """
        with self._asked("POST", path, body, seconds) as response:
            if "text/event-stream" not in (response.getheader("Content-Type") or "").lower():
                yield self._object(response.read())
                return
            for data in self._events(response):
                if data == b"[DONE]":
                    return
                yield self._object(data)

    @property
    def _parts(self) -> SplitResult:
        try:
            parts = urlsplit(self.url)
            _ = parts.port  # it is read when it is asked for
        except ValueError as error:
            raise ParameterError(f"the address of an endpoint cannot be read: {error}") from error
        return parts

    @contextlib.contextmanager
    def _asked(
        self, method: str, path: str, body: dict[str, Any] | None, seconds: float
    ) -> Iterator[http.client.HTTPResponse]:
        parts, end = self._parts, time.monotonic() + seconds
        headers = {"Accept": "application/json, text/event-stream", "User-Agent": "tercet"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if self.key is not None:
            headers["Authorization"] = f"Bearer {self.key}"
        try:
            with contextlib.closing(_connect(parts, end)) as connected:
                connection = http.client.HTTPConnection(parts.hostname or "", parts.port)
                connection.sock = _TimedSocket(connected, end, self.label)
                encoded = None if body is None else json.dumps(body).encode()
                connection.request(method, parts.path.rstrip("/") + path, encoded, headers)
                response = connection.getresponse()
                if response.status != 200:
                    raise self._refusal(response, path)
                yield response
        except TimeoutError as error:
            raise DeadlineError(
                f"{self.label} did not end its answer within {seconds:.3g} seconds. "
                "Ask for fewer tokens, or allow more time."
            ) from error
        except ssl.SSLCertVerificationError as error:
            raise UnavailableError(
                f"nobody whom this machine trusts vouches for {self.label}: {error.verify_message}. "
                "SSL_CERT_FILE names further certificates."
            ) from error
        except (http.client.RemoteDisconnected, http.client.IncompleteRead) as error:
            raise UnavailableError(
                f"{self.label} closed the connection before its answer was whole"
            ) from error
        except http.client.HTTPException as error:
            raise FormatError(
                f"{self.label} did not answer as an HTTP server does: {said(repr(error))}"
            ) from error
        except OSError as error:
            reason = error.strerror or str(error)
            raise UnavailableError(f"{self.label} cannot be reached: {reason}. Does it run?") from error

    def _refusal(self, response: http.client.HTTPResponse, path: str) -> TercetError:
        status, words = response.status, _words(response.read(ERROR_BYTES))
        told = f"{self.label} answered {path} with status {status}" + (f": {words}" if words else "")
        again = response.getheader("Retry-After")
        if status == 429 or (status == 503 and again is not None):
            return OverloadedError(told, _seconds(again))
        if status in (401, 403):
            return ForbiddenError(f"{told}. Is the key the right one?")
        if status >= 500:
            return UnavailableError(told)
        if 300 <= status < 400:
            where = said(response.getheader("Location") or "another address")
            return ParameterError(
                f"{told}: it points to {where}. Prompts are not sent on; name that address."
            )
        if status < 300:
            return FormatError(f"{told}, where 200 is what answers a generation")
        return (NoRouteError if status in (404, 405) else ParameterError)(told)

    def _events(self, response: http.client.HTTPResponse) -> Iterator[bytes]:
        """The data of each event (WHATWG HTML, 9.2.6): lines of `data:` up to an empty one."""
        lines: list[bytes] = []
        while line := response.readline(MOST_LINE_BYTES):
            if len(line) == MOST_LINE_BYTES:
                raise FormatError(f"{self.label} sent an event of more than {MOST_LINE_BYTES} bytes")
            if line.startswith(b"data:"):
                lines.append(line[5:].strip())
            elif not line.strip() and lines:
                yield b"\n".join(lines)
                lines = []
        if lines:
            yield b"\n".join(lines)

    def _json(self, data: bytes) -> Any:
        try:
            return json.loads(data)
        except (ValueError, RecursionError) as error:
            shown = said(data[:80].decode(errors="replace")) or "nothing"
            raise FormatError(f"{self.label} answered with something that is not JSON: {shown}") from error

    def _object(self, data: bytes) -> dict[str, Any]:
        found = self._json(data)
        if not isinstance(found, dict):
            raise FormatError(f"{self.label} answered with a JSON {type(found).__name__}, not an object")
        return found


class _TimedSocket:
    """What `http.client` needs of a socket; every read and write ends when the time of all is over."""

    def __init__(self, connected: socket.socket, end: float, label: str) -> None:
        self._socket, self._end, self._label = connected, end, label

    def sendall(self, data: bytes) -> None:
        self._socket.settimeout(_left(self._end))
        self._socket.sendall(data)

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_TimedReader(self._socket, self._end, self._label))

    def close(self) -> None:
        """Whoever connected it closes it."""


class _TimedReader(io.RawIOBase):
    def __init__(self, connected: socket.socket, end: float, label: str) -> None:
        self._socket, self._end, self._label = connected, end, label
        self._num_bytes = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._socket.settimeout(_left(self._end))
        count = self._socket.recv_into(buffer)
        self._num_bytes += count
        if self._num_bytes > MOST_BYTES:
            raise FormatError(f"{self._label} sent more than {MOST_BYTES >> 20} MiB and was cut off")
        return count


def _connect(parts: SplitResult, end: float) -> socket.socket:
    """Connect to the first address that answers; the last one's error where none does."""
    secure = parts.scheme == "https"
    host, port = parts.hostname or "", parts.port or (443 if secure else 80)
    failed: OSError = OSError(f"{host} has no address")
    for family, kind, protocol, address in _addresses(host, port, end):
        connected = socket.socket(family, kind, protocol)
        try:
            connected.settimeout(_left(end))
            connected.connect(address)
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if not secure:
                return connected
            connected.settimeout(_left(end))
            return ssl.create_default_context().wrap_socket(connected, server_hostname=host)
        except OSError as error:
            connected.close()
            failed = error
    raise failed


def _addresses(host: str, port: int, end: float) -> list[tuple[int, int, int, Any]]:
    """Look a name up, in a thread: whoever is asked for it keeps no time limit of ours."""
    found: queue.SimpleQueue[list[tuple[int, int, int, Any]] | OSError] = queue.SimpleQueue()

    def look_up() -> None:
        try:
            known = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            found.put([(family, kind, protocol, address) for family, kind, protocol, _, address in known])
        except OSError as error:
            found.put(error)
        except UnicodeError as error:  # a name that cannot be one
            found.put(OSError(str(error)))

    threading.Thread(target=look_up, daemon=True).start()
    try:
        result = found.get(timeout=_left(end))
    except queue.Empty:
        raise TimeoutError("no name server answers") from None
    if isinstance(result, OSError):
        raise result
    return result


def _left(end: float) -> float:
    left = end - time.monotonic()
    if left <= 0:
        raise TimeoutError("the time is over")
    return left


def _words(data: bytes) -> str:
    """What an answer with an error says: the message of OpenAI's and most others' errors, or its text."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        text = data.decode(errors="replace")
        return "" if text.lstrip().startswith("<") else said(text)
    for name in ("error", "message", "detail"):
        if isinstance(found, dict) and name in found:
            found = found[name]
    return said(found if isinstance(found, str) else json.dumps(found))


def _seconds(retry_after: str | None) -> float:
    """Retry-After in seconds; 1 for a date, which is not worth a clock that agrees with ours."""
    number = (retry_after or "").strip()
    return float(number) if re.fullmatch(r"\d{1,6}", number) else 1.0
