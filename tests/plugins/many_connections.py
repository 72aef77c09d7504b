"""A server with as many connections as it takes, the same for hundreds and for ten thousand."""

from __future__ import annotations

import contextlib
import json
import resource
import socket
import time
from collections.abc import Callable
from pathlib import Path

from served import Server

QUESTION = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
BODY = json.dumps({"prompt": "Once upon a time", "max_tokens": 3, "temperature": 0}).encode()
COMPLETION = (
    b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n" % len(BODY)
) + BODY
SPARE_FILES = 100
"""What the tests and the server have open besides."""


def most_connections(wanted: int) -> int:
    """How many of the wanted connections this system lets one process have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return wanted if hard == resource.RLIM_INFINITY else min(wanted, hard - SPARE_FILES)


def hold_connections(serve: Callable[..., Server], count: int) -> dict[str, float]:
    """Open so many connections: one more is refused in words, all are served, and all are given back."""
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({count + SPARE_FILES},) * 2)"
    server = serve("--max-connections", str(count), "--header-timeout", "300", first=limit)
    before = open_files(server), resident_bytes(server)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count + SPARE_FILES), hard))
    try:
        with contextlib.ExitStack() as stack:
            held = [stack.enter_context(connected(server)) for _ in range(count)]
            wait_for_files(server, lambda number: number >= before[0] + count)
            with connected(server) as one_more:
                one_more.sendall(QUESTION)
                refusal = one_more.recv(4096)
            assert refusal.startswith(b"HTTP/1.1 503"), refusal
            assert b"retry-after" in refusal.lower(), refusal
            begin = time.monotonic()
            held[-1].sendall(COMPLETION)
            answer = held[-1].recv(4096)
            seconds = time.monotonic() - begin
            assert answer.startswith(b"HTTP/1.1 200"), answer
            resident = resident_bytes(server)
            for connection in held[:-1]:
                connection.sendall(QUESTION)
            for connection in held[:-1]:
                assert connection.recv(4096).startswith(b"HTTP/1.1 200")
        wait_for_files(server, lambda number: number <= before[0] + 4)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    with connected(server) as again:
        again.sendall(COMPLETION)
        assert again.recv(4096).startswith(b"HTTP/1.1 200")
    return {
        "connections": count,
        "bytes_for_each": round((resident - before[1]) / count),
        "seconds_of_an_answer_beside_them": round(seconds, 3),
    }


def connected(server: Server) -> socket.socket:
    """A connection that waits for minutes at most: ten thousand answers take a while."""
    return socket.create_connection(("127.0.0.1", server.port), 300)


def open_files(server: Server) -> int:
    """How many files and connections the server has open."""
    return sum(1 for _ in Path(f"/proc/{server.pid}/fd").iterdir())


def wait_for_files(server: Server, is_right: Callable[[int], bool]) -> None:
    """Wait until the server has as many open as it should."""
    end = time.monotonic() + 300
    while not is_right(number := open_files(server)):
        assert time.monotonic() < end, f"the server has {number} files and connections open"
        time.sleep(0.1)


def resident_bytes(server: Server) -> int:
    """How much memory the server occupies."""
    pages = int(Path(f"/proc/{server.pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize()
