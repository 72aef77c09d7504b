"""Strategies that fail as programs do.

Run as a program, this module does what `tercet.deployment.trial_process` does, with them beside the others.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Generator

from tercet.deployment import trial_process
from tercet.deployment.measured import MeasuredStrategy
from tercet.deployment.registry import STRATEGIES
from tercet.deployment.strategy import Availability, DeploymentSettings, GenerationRequest, Piece
from tercet.errors import UnavailableError

HANGS = 3600


class Scripted(MeasuredStrategy):
    """Answers with pieces that are given, or does what its name says."""

    name = "scripted"
    comparable = False

    def __init__(
        self, model: str | None, settings: DeploymentSettings, pieces: tuple[Piece, ...] = ()
    ) -> None:
        super().__init__()
        self.pieces = pieces
        self.pause_seconds = 0.0
        self.deployed = False
        self.ended = False

    def availability(self) -> Availability:
        return Availability(True, "a fake")

    def set_up(self) -> None:
        pass

    def deploy(self) -> None:
        self.deployed = True

    def close(self) -> None:
        self.deployed = False

    def _pieces(self, request: GenerationRequest) -> Generator[Piece, None, None]:
        if not self.deployed:
            raise UnavailableError("the fake is not deployed")
        try:
            for piece in self.pieces:
                time.sleep(self.pause_seconds)
                yield piece
        finally:
            self.ended = True


class Works(Scripted):
    name = "works"

    def _pieces(self, request: GenerationRequest) -> Generator[Piece, None, None]:
        print("a library that prints")
        os.write(1, b"{not json}\n")
        yield Piece("Hello")
        yield Piece(" world", (5, 6), 3, 2, "length")


class Absent(Scripted):
    name = "absent"

    def availability(self) -> Availability:
        return Availability(False, "it is not here", ("make it",))


class Crashes(Scripted):
    name = "crashes"

    def deploy(self) -> None:
        print("out of luck", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)


class Raises(Scripted):
    name = "raises"

    def set_up(self) -> None:
        raise ValueError("a bug")


class NeverReady(Scripted):
    name = "never_ready"

    def deploy(self) -> None:
        time.sleep(HANGS)


class HangsInAnswer(Scripted):
    name = "hangs"

    def _pieces(self, request: GenerationRequest) -> Generator[Piece, None, None]:
        yield Piece("Once")
        time.sleep(HANGS)


class TooSlow(Scripted):
    name = "too_slow"

    def _pieces(self, request: GenerationRequest) -> Generator[Piece, None, None]:
        for _ in range(100):
            time.sleep(0.05)
            yield Piece("a", (1,))


class Silent(Scripted):
    name = "silent"

    def _pieces(self, request: GenerationRequest) -> Generator[Piece, None, None]:
        yield Piece("", (), 3, 0, "stop")


FAKES = {
    fake.name: ("fake_strategies", fake.__name__)
    for fake in (Works, Absent, Crashes, Raises, NeverReady, HangsInAnswer, TooSlow, Silent)
}

if __name__ == "__main__":
    STRATEGIES.update(FAKES)
    trial_process.main()
