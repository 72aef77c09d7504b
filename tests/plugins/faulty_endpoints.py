"""Endpoints that answer badly: a server of this machine that says exactly what a test wants, byte by byte.

    with Endpoints(lambda request: json_answer({"data": []})) as server:
        ...
    server.requests                    # what was asked: method, path, headers, body

An answer is bytes, or several with pauses between them: numbers are seconds to wait. The connection is closed
after the last.
"""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

Answer = bytes | Iterable["bytes | float"]


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Endpoints:
    """Listens on a free port until the block ends; `url` has no slash at its end."""

    def __init__(self, answer: Callable[[Request], Answer], tls: ssl.SSLContext | None = None) -> None:
        self._answer = answer
        self._tls = tls
        self._ended = threading.Event()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.requests: list[Request] = []
        self.port = self._listening.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Endpoints:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._listening.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connected, _ = self._listening.accept()
                threading.Thread(target=self._serve, args=(connected,), daemon=True).start()

    def _serve(self, connected: socket.socket) -> None:
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            stack.enter_context(connected)
            if self._tls is not None:
                connected = stack.enter_context(self._tls.wrap_socket(connected, server_side=True))
            request = _read(connected)
            self.requests.append(request)
            answer = self._answer(request)
            for part in [answer] if isinstance(answer, bytes) else answer:
                if isinstance(part, bytes):
                    connected.sendall(part)
                elif self._ended.wait(part):
                    return


def _read(connected: socket.socket) -> Request:
    data = b""
    while b"\r\n\r\n" not in data:
        data += connected.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    while len(body) < int(headers.get("content-length", "0")):
        body += connected.recv(65536)
    method, path, _ = first.split(" ")
    return Request(method, path, headers, body)


def answer(body: bytes, status: int = 200, kind: str = "application/json", **headers: str) -> bytes:
    """A whole answer; underlines in names of headers are hyphens."""
    fields = {"Content-Type": kind, "Content-Length": str(len(body)), **headers}
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status} Because\r\n{lines}\r\n".encode() + body


def json_answer(content: Any, status: int = 200, **headers: str) -> bytes:
    """An answer of JSON."""
    return answer(json.dumps(content).encode(), status, **headers)


def events(*contents: Any, done: bool = True) -> bytes:
    """An event stream of JSON objects, or of texts as they are, that ends with the connection."""
    lines = [content if isinstance(content, str) else json.dumps(content) for content in contents]
    text = "".join(f"data: {line}\n\n" for line in [*lines, *(["[DONE]"] if done else [])])
    return b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + text.encode()
