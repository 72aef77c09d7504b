"""A server as people start it: `tercet serve` as a process, on a free port, with the shipped model.

    def test_it(serving: Server) -> None: ...                        # one for the whole session
    def test_other(serve: Callable[..., Server]) -> None:
        server = serve("--max-queued", "1", "model.tercet")          # one of its own, with options

Each must stop by itself at SIGTERM with exit status 0; if one does not start or stop as it should, the test
fails and shows the server's log.
"""

from __future__ import annotations

import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

import pytest

from program import command, environment

if TYPE_CHECKING:
    import httpx

START_SECONDS = 240
STOP_SECONDS = 90


class Server:
    """A process that serves; `base_url` has no slash at its end."""

    def __init__(self, *arguments: str | Path, first: str = "", wait: bool = True, **variables: str) -> None:
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (open as long as the server runs)
        self.process = subprocess.Popen(
            command("serve", "--port", "0", *arguments, first=first),
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            env=environment(**variables),
        )
        try:
            self.base_url = self._wait_for(r"listening at (https?://\S+)")
            if wait:
                self._wait_for(r"Serving (.*) at ")
        except BaseException:
            self._end()
            raise

    @property
    def port(self) -> int:
        """The port that it listens at."""
        return int(self.base_url.rpartition(":")[2])

    @property
    def pid(self) -> int:
        """The process."""
        return self.process.pid

    @property
    def log(self) -> str:
        """What it has written so far."""
        if not self._log.closed:
            self._log.seek(0)
            self._written = self._log.read().decode(errors="replace")
        return self._written

    def client(self, **options: object) -> httpx.Client:
        """An HTTP client of this server."""
        import httpx  # takes a while, and conftest.py loads this module for every test

        return httpx.Client(base_url=self.base_url, timeout=60, **options)  # type: ignore[arg-type]

    def stop(self, status: int = 0) -> None:
        """Ask it to stop, and fail unless it does so in time and with this exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.wait(status)

    def wait(self, status: int = 0, seconds: float = STOP_SECONDS) -> None:
        """Wait for its end, and fail unless it comes in time and with this exit status."""
        try:
            found = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._end()
            pytest.fail(f"the server did not stop within {seconds} seconds; its log:\n{self.log}")
        self._end()
        if found != status:
            pytest.fail(f"the server ended with status {found}, not {status}; its log:\n{self.log}")

    def _end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        _ = self.log  # the last words, for whoever asks later
        self._log.close()

    def _wait_for(self, pattern: str) -> str:
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            ended = self.process.poll()
            if found := re.search(pattern, self.log):
                return found[1]
            if ended is not None:
                pytest.fail(f"the server ended with status {ended}; its log:\n{self.log}")
            time.sleep(0.02)
        pytest.fail(f"the server did not say {pattern!r} in {START_SECONDS} seconds; its log:\n{self.log}")


@pytest.fixture(scope="session")
def serving() -> Iterator[Server]:
    """One server with the shipped model for all tests that change nothing in it."""
    server = Server()
    yield server
    server.stop()


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Start servers with options of their own; they are stopped after the test."""
    servers: list[Server] = []

    def start(*arguments: str | Path, **options: object) -> Server:
        servers.append(Server(*arguments, **options))  # type: ignore[arg-type]
        return servers[-1]

    yield start
    for server in servers:
        if server.process.returncode is None:
            server.stop()


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Look again and again until something is so."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to that in time"
        time.sleep(0.02)
