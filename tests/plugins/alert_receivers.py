"""What alerts are sent to in tests: an HTTP server and a mail server that do as they are told."""

from __future__ import annotations

import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Receiver:
    """The requests so far, and how the next ones are answered: a status, or a word."""

    answers: list[int | str] = field(default_factory=list)
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    url: str = ""
    done: threading.Event = field(default_factory=threading.Event)


@contextmanager
def receiver(*answers: int | str) -> Iterator[Receiver]:
    """A server for webhooks. "drip" answers a byte now and then for ever, "hang up" not at all."""
    state = Receiver(list(answers))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            state.requests.append((self.path, dict(self.headers), body))
            answer = state.answers.pop(0) if state.answers else 204
            if answer == "hang up":
                self.connection.shutdown(socket.SHUT_RDWR)
            elif answer == "drip":
                while not state.done.wait(0.02):
                    try:
                        self.wfile.write(b"H")
                    except OSError:
                        return
            else:
                self.send_response(int(answer))
                self.send_header("Location", "/elsewhere")
                self.send_header("Retry-After", "0")
                self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_port}/hook?of=tests"
    try:
        yield state
    finally:
        state.done.set()
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass
class MailServer:
    """The messages so far: (from, to, text)."""

    port: int = 0
    refuse_with: str = ""
    messages: list[tuple[str, list[str], str]] = field(default_factory=list)


@contextmanager
def mail_server(refuse_with: str = "") -> Iterator[MailServer]:
    """A mail server without TLS; `refuse_with` is its answer to whatever is sent, as "451 later"."""
    state = MailServer(refuse_with=refuse_with)

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"220 tests\r\n")
            sender, to = "", []
            for line in self.rfile:
                word, _, rest = line.decode().strip().partition(" ")
                if word.upper() == "MAIL":
                    sender = rest
                elif word.upper() == "RCPT":
                    to.append(rest)
                elif word.upper() == "DATA":
                    self.wfile.write(b"354 go on\r\n")
                    text = ""
                    while (part := self.rfile.readline()) != b".\r\n":
                        text += part.decode()
                    if not state.refuse_with:
                        state.messages.append((sender, to, text))
                    self.wfile.write((state.refuse_with or "250 taken").encode() + b"\r\n")
                    continue
                self.wfile.write(b"250 fine\r\n")

    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    state.port = server.server_address[1]
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def eventually(holds: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait until it holds; `holds` is called."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it never did"
        time.sleep(0.01)
