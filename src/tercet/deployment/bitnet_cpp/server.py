"""`llama-server` as a child, on a port of this machine that nobody else gets.

A port that is free now may be taken when the program opens it: then it ends, and is started with another. One
that is taken by somebody who answers in its place is noticed too: our server has a name that nobody knows,
and a key, so that prompts go to nobody else, and no other program of this machine uses it.
"""

from __future__ import annotations

import secrets
import socket
import time
from pathlib import Path
from typing import Any

from tercet.deployment.endpoint import Endpoint
from tercet.deployment.guarded_process import GuardedProcess, ending
from tercet.errors import DeadlineError, TercetError, UnavailableError

__all__ = ["LlamaServer"]

HOST = "127.0.0.1"
TRIES = 3
PAUSE_SECONDS = 0.05
QUESTION_SECONDS = 5.0
PORT_TAKEN = ("couldn't bind", "address already in use", "failed to bind")


class LlamaServer:
    """A server with one model, which answers when this returns.

    Args:
        program: `llama-server`.
        model: a GGUF file.
        context: tokens of prompt and answer together.
        threads: of the computation.
        start_seconds: how long it may take until it answers, all tries together.

    Raises:
        UnavailableError: it ends, or somebody else answers at its port.
        DeadlineError: it is not ready in time.
    """

    def __init__(self, program: Path, model: Path, context: int, threads: int, start_seconds: float) -> None:
        self._program = program
        self._name = f"tercet-{secrets.token_hex(8)}"
        key = secrets.token_hex(16)
        end = time.monotonic() + start_seconds
        for last in (False,) * (TRIES - 1) + (True,):
            port = _free_port()
            self.endpoint = Endpoint(f"http://{HOST}:{port}", key)
            command = [
                *(str(program), "-m", str(model), "--alias", self._name, "--host", HOST),
                *("--port", str(port), "-c", str(context), "-t", str(threads), "-np", "1"),
            ]
            self._process = GuardedProcess(command, variables={"LLAMA_API_KEY": key})
            try:
                if self._is_ready(end, start_seconds, may_be_taken=not last):
                    return
            except BaseException:
                self.close()
                raise
            self.close()

    @property
    def runs(self) -> bool:
        """Whether it is still there."""
        return self._process.status is None

    def ends_within(self, seconds: float) -> bool:
        """Whether it is gone: its connections break a moment before it is known to have ended."""
        return self._process.wait(seconds) is not None

    def how_it_ended(self) -> str:
        """What it said last, where it is no longer there."""
        status = self._process.wait(QUESTION_SECONDS)
        return f"{self._program} {'hangs' if status is None else ending(status)}: {self._last_words()}"

    def memory_bytes(self) -> int | None:
        """Resident memory of the server."""
        return self._process.memory_bytes()

    def close(self) -> None:
        """End it."""
        self._process.close()

    def _is_ready(self, end: float, start_seconds: float, may_be_taken: bool) -> bool:
        """Wait until it answers; False where its port is taken and another may be tried."""
        while time.monotonic() < end:
            if not self.runs:
                how = self.how_it_ended()
                said = (self._process.output.text() + self._process.errors.text()).lower()
                if may_be_taken and any(words in said for words in PORT_TAKEN):
                    return False
                raise UnavailableError(f"it did not start: {how}")
            try:
                self.endpoint.get("/health", QUESTION_SECONDS)
                models = self.endpoint.get("/v1/models", QUESTION_SECONDS)
            except TercetError:
                time.sleep(PAUSE_SECONDS)  # it is loading, or not there yet
                continue
            if self._name in _names(models):
                return True
            if not may_be_taken:
                raise UnavailableError(f"another program answers at {self.endpoint.label}")
            return False
        raise DeadlineError(
            f"{self._program} was not ready within {start_seconds:g} seconds; the last that it said: "
            f"{self._last_words()}"
        )

    def _last_words(self) -> str:
        return self._process.errors.telling_line("error", "failed", "couldn't bind")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _names(models: Any) -> list[str]:
    try:
        return [str(one["id"]) for one in models["data"]]
    except (KeyError, TypeError):
        return []
