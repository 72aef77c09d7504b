"""`tercet serve` as a process of its own, on a free port, while a block of Python runs."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tercet.errors import TercetError

__all__ = ["ServerProcess", "serving"]

START_SECONDS = 300
STOP_SECONDS = 60
_SAMPLE = re.compile(r"(\w[\w:]*)(\{[^}]*\})? (\S+)")


@dataclass(frozen=True)
class ServerProcess:
    """A server that runs."""

    base_url: str
    pid: int

    def metrics(self) -> dict[str, float]:
        """Every sample of `/metrics`, by its name and labels as they stand there."""
        with urllib.request.urlopen(f"{self.base_url}/metrics", timeout=30) as response:
            lines = response.read().decode().splitlines()
        found = (_SAMPLE.fullmatch(line) for line in lines if not line.startswith("#"))
        return {match[1] + (match[2] or ""): float(match[3]) for match in found if match}


@contextlib.contextmanager
def serving(path: Path, *arguments: str) -> Iterator[ServerProcess]:
    """Serve the model at a path until the block ends; `arguments` are further ones of `tercet serve`.

    Raises:
        TercetError: the server did not start; the message is the last that it said.
    """
    command = [sys.executable, "-m", "tercet", "serve", str(path), "--port", "0", *arguments]
    with tempfile.TemporaryDirectory(prefix="tercet-") as folder:
        said = Path(folder) / "server.log"
        with said.open("wb") as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            yield ServerProcess(_wait_for_address(process, said), process.pid)
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_for_address(process: subprocess.Popen[bytes], said: Path) -> str:
    end, text = time.monotonic() + START_SECONDS, ""
    while time.monotonic() < end:
        ended = process.poll() is not None
        text = said.read_text(errors="replace")
        if match := re.search(r"^Serving .* at (http://\S+)$", text, re.MULTILINE):
            return match[1]
        if ended:
            break
        time.sleep(0.05)
    raise TercetError(f"the server did not start: {(text.splitlines() or ['it said nothing'])[-1]}")
